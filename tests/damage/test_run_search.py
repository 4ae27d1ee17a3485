"""Whatever runs, evaluators and pipelines have stored is damaged: what is right, or a refusal by name with an end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from random import Random

import pytest

from springline.deployed import pools, reading
from springline.runs import attempt_logs
from springline.work import seals
from tests.damage.damages import DAMAGES
from tests.damage.operations import Wrong
from tests.damage.run_objects import make
from tests.damage.run_search import RunCases, cells, damage

Record = Callable[[str, object], None]
CHANGES = ("cut short", "one bit changed", "one letter changed")


def _record(record_property: Record, what: str, counts: Counter[str]) -> None:
    said = ", ".join(f"{number} {outcome}" for outcome, number in sorted(counts.items()))
    record_property("explored", f"{what}: {counts.total()} cases: {said}")
    assert counts["right"]
    assert counts["named"]
    assert counts["without a copy"]


async def _sampled(rnd: Random, times: int) -> Counter[str]:
    """Try each kind of object with each damage some times, on an object and a use of it that are drawn."""
    cases = RunCases(await make())
    await cases.learn()
    for kind, how in cells():
        uses = list(cases.uses(kind))
        assert uses, f"nobody asks for a {kind}"
        for path, name in rnd.sample(uses, min(times, len(uses))):
            one = damage(cases.made, path, how, rnd)
            if one is not None:
                await cases.run(one, name)
    return cases.counts


async def _all(rnd: Random, flips: int) -> Counter[str]:
    """Try every object with every damage and every use of it; a change at some places."""
    cases = RunCases(await make())
    await cases.learn()
    for kind, how in cells():
        for path, name in cases.uses(kind):
            for _ in range(flips if how in CHANGES else 1):
                one = damage(cases.made, path, how, rnd)
                if one is not None:
                    await cases.run(one, name)
    return cases.counts


async def test_any_object_of_runs_damaged_in_any_way(record_property: Record) -> None:
    _record(record_property, "damaged objects of runs", await _sampled(Random(1), 2))


@pytest.mark.full
@pytest.mark.timeout(3_600)
@pytest.mark.parametrize("seed", range(5))
async def test_every_object_of_runs_damaged_in_every_way(record_property: Record, seed: int) -> None:
    _record(record_property, "damaged objects of runs", await _all(Random(seed), 5))


Mutant = Callable[[pytest.MonkeyPatch], None]


def _older_ones_count(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(reading, "_replaced_note", lambda _: None)


def _lost_sizes_are_none(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(pools, "pool_settings_note", lambda: "manifests/nowhere.json")


def _logs_are_not_checked(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(attempt_logs, "verify", lambda *_: False)


def _seals_are_not_checked(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(seals, "verify", lambda *_: True)


@pytest.mark.full
@pytest.mark.parametrize(
    ("mutant", "kind"),
    [
        (_older_ones_count, "index"),
        (_lost_sizes_are_none, "sizes of pools"),
        (_logs_are_not_checked, "log chunk"),
        (_seals_are_not_checked, "seal"),
    ],
)
async def test_a_check_that_is_left_out_is_missed(mutant: Mutant, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    cases, rnd = RunCases(await make()), Random(7)
    mutant(monkeypatch)
    await cases.learn()
    with pytest.raises(Wrong):
        for _ in range(20):
            for path, name in cases.uses(kind):
                for how in DAMAGES:
                    one = damage(cases.made, path, how, rnd)
                    if one is not None:
                        await cases.run(one, name)
