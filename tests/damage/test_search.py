"""Whatever is damaged, whatever is done then: the right state, or a refusal by name that a runbook ends."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from random import Random

import pytest

from tests.damage.damages import DAMAGES
from tests.damage.operations import OPERATIONS
from tests.damage.search import Cases, cells, damage, draw, kind_of
from tests.damage.workspaces import WORKSPACES, Made

Record = Callable[[str, object], None]


async def _made() -> list[Made]:
    return [await make() for make in WORKSPACES]


async def search(rnd: Random, times: Mapping[bool, int]) -> Counter[str]:
    """Try each kind of object with each damage and each operation some times, on a workspace and object drawn.

    `times`: how often what is a rebuild is tried, and how often all else, which costs less.
    """
    workspaces, cases = await _made(), Cases(Counter())
    for kind, how, name in cells():
        for _ in range(times["rebuild" in name or name == "verify"]):
            drawn = draw(workspaces, kind, rnd)
            assert drawn is not None, kind
            one = damage(*drawn, how, rnd)
            if one is not None:
                await cases.run(drawn[0], [one], name)
    return cases.counts


async def search_pairs(rnd: Random, number: int) -> Counter[str]:
    """Try pairs of damaged objects, of kinds drawn first: there are few pointers and many tables."""
    workspaces, cases = await _made(), Cases(Counter())
    for _ in range(number):
        made = rnd.choice(workspaces)
        kinds = sorted({kind_of(path) for path in made.objects})
        drawn = {draw([made], rnd.choice(kinds), rnd) for _ in range(2)}
        paths = sorted(one[1] for one in drawn if one is not None)
        tried = [damage(made, path, rnd.choice(DAMAGES), rnd) for path in paths]
        await cases.run(made, [one for one in tried if one is not None], rnd.choice(list(OPERATIONS)))
    return cases.counts


def _record(record_property: Record, what: str, counts: Counter[str]) -> None:
    said = ", ".join(f"{number} {outcome}" for outcome, number in sorted(counts.items()))
    record_property("explored", f"{what}: {said}")
    assert counts["right"]
    assert counts["named"]


@pytest.mark.proof
@pytest.mark.timeout(900)
async def test_any_object_damaged_in_any_way(record_property: Record) -> None:
    _record(record_property, "damaged objects", await search(Random(1), {True: 1, False: 1}))


@pytest.mark.timeout(900)
async def test_any_two_objects_damaged(record_property: Record) -> None:
    _record(record_property, "pairs of damaged objects", await search_pairs(Random(2), 150))


FLIPS = 50


async def _flips(made: Made, rnd: Random, per_object: int) -> Counter[str]:
    """Change one bit of every object at some places, each with an operation that is drawn: mostly a cheap one."""
    cases, cheap = Cases(Counter()), ["append", "replay", "read", "restore"]
    for path in sorted(made.objects):
        for number in range(per_object):
            one = damage(made, path, "one bit changed", rnd)
            assert one is not None
            await cases.run(made, [one], rnd.choice(list(OPERATIONS) if number % 10 == 0 else cheap))
    return cases.counts


@pytest.mark.full
@pytest.mark.timeout(3_600)
@pytest.mark.parametrize("number", range(len(WORKSPACES)))
async def test_every_object_with_a_bit_changed_at_many_places(record_property: Record, number: int) -> None:
    made = await WORKSPACES[number]()
    counts = await _flips(made, Random(number), FLIPS)
    said = ", ".join(f"{count} {outcome}" for outcome, count in sorted(counts.items()))
    record_property("explored", f"bits changed, {made.name}: {counts.total()} cases: {said}")
    assert counts["right"]


@pytest.mark.full
@pytest.mark.timeout(3_600)
@pytest.mark.parametrize("seed", range(10, 20))
async def test_many_objects_damaged_in_any_way(record_property: Record, seed: int) -> None:
    _record(record_property, "damaged objects", await search(Random(seed), {True: 3, False: 6}))


@pytest.mark.full
@pytest.mark.timeout(3_600)
@pytest.mark.parametrize("seed", range(20, 30))
async def test_many_pairs_damaged(record_property: Record, seed: int) -> None:
    _record(record_property, "pairs of damaged objects", await search_pairs(Random(seed), 500))
