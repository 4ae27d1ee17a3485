"""Whatever of a write set is damaged: one attempt's rows count, all of them, or a refusal names it and has an end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from tests.damage.write_search import WRITES, WriteCases, cases, make

Record = Callable[[str, object], None]


async def _search(folder: Path, rnd: Random, share: float) -> Counter[str]:
    """Try a share of all damages of each object of a task, however many of its writes are committed."""
    (folder / "scratch").mkdir()
    found = WriteCases(folder / "scratch")
    for done in range(WRITES + 1):
        made = await make(folder / f"done-{done}", done)
        for one in cases(made, rnd):
            if rnd.random() < share:
                await found.run(made, one)
    return found.counts


def _record(record_property: Record, counts: Counter[str]) -> None:
    said = ", ".join(f"{number} {outcome}" for outcome, number in sorted(counts.items()))
    record_property("explored", f"damaged write sets: {counts.total()} cases: {said}")
    assert counts["named"]


async def test_any_object_of_a_write_set_damaged(record_property: Record, tmp_path: Path) -> None:
    _record(record_property, await _search(tmp_path, Random(1), 0.4))


@pytest.mark.full
@pytest.mark.timeout(3_600)
@pytest.mark.parametrize("seed", range(3))
async def test_every_object_of_a_write_set_damaged(record_property: Record, tmp_path: Path, seed: int) -> None:
    _record(record_property, await _search(tmp_path, Random(seed), 1))
