"""Whatever of a table is damaged, whatever is done then: what is right, or a refusal by name that a runbook ends."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from random import Random

import pytest

from tests.damage.damages import DAMAGES
from tests.damage.table_search import OPERATIONS, TableCases, cells, damage
from tests.damage.tables import KINDS, TABLES, Tables, kind_of

Record = Callable[[str, object], None]
CHANGES = ("cut short", "one bit changed", "one letter changed")
FLIPS = 50


def _record(record_property: Record, what: str, counts: Counter[str]) -> None:
    said = ", ".join(f"{number} {outcome}" for outcome, number in sorted(counts.items()))
    record_property("explored", f"{what}: {counts.total()} cases: {said}")
    assert counts["right"]
    assert counts["named"]


async def _sampled(rnd: Random, times: int) -> Counter[str]:
    """Try each kind of object with each damage and each operation some times, on a table and object drawn."""
    made, cases = [await make() for make in TABLES], TableCases()
    for kind in KINDS:
        having = [
            (one, path) for one in made for path in sorted(one.objects) if one.is_mine(path) and kind_of(path) == kind
        ]
        for how, name in cells():
            for _ in range(times):
                table, path = rnd.choice(having)
                one = damage(table, path, how, rnd)
                if one is not None:
                    await cases.run(table, [one], name)
    return cases.counts


async def _pairs(rnd: Random, number: int) -> Counter[str]:
    """Try pairs of damaged objects of one table, of kinds drawn first."""
    made, cases = [await make() for make in TABLES], TableCases()
    for _ in range(number):
        table = rnd.choice(made)
        mine = table.mine()
        kinds = sorted({kind_of(path) for path in mine})
        paths = {rnd.choice([path for path in mine if kind_of(path) == rnd.choice(kinds)] or mine) for _ in range(2)}
        tried = [damage(table, path, rnd.choice(DAMAGES), rnd) for path in sorted(paths)]
        await cases.run(table, [one for one in tried if one is not None], rnd.choice(list(OPERATIONS)))
    return cases.counts


async def _all(table: Tables, rnd: Random) -> Counter[str]:
    """Try every object of a table with every damage and every operation; a change at `FLIPS` places."""
    cases = TableCases()
    for path in table.mine():
        for how, name in cells():
            for _ in range(FLIPS // 5 if how in CHANGES else 1):
                one = damage(table, path, how, rnd)
                if one is not None:
                    await cases.run(table, [one], name)
    return cases.counts


async def test_any_object_of_a_table_damaged_in_any_way(record_property: Record) -> None:
    _record(record_property, "damaged objects of tables", await _sampled(Random(1), 3))


async def test_any_two_objects_of_a_table_damaged(record_property: Record) -> None:
    _record(record_property, "pairs of damaged objects of tables", await _pairs(Random(2), 250))


@pytest.mark.full
@pytest.mark.timeout(3_600)
@pytest.mark.parametrize("table", range(len(TABLES)))
@pytest.mark.parametrize("seed", range(5))
async def test_every_object_of_a_table_damaged_in_every_way(record_property: Record, table: int, seed: int) -> None:
    _record(record_property, "damaged objects of tables", await _all(await TABLES[table](), Random(seed)))


@pytest.mark.full
@pytest.mark.timeout(3_600)
@pytest.mark.parametrize("seed", range(20, 25))
async def test_many_pairs_of_a_table_damaged(record_property: Record, seed: int) -> None:
    _record(record_property, "pairs of damaged objects of tables", await _pairs(Random(seed), 1_000))
