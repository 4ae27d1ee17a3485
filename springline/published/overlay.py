"""Laying a delta over older rows (docs/protocol.md#overlay).

Our deltas hold every changed row whole and all deletions, so a delta's row always replaces the older one. In the
reference's deltas a late event leaves rows with a lower stamp, and the reference then keeps the older row; so we read
what it publishes by its own rules, or we would get another state.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from springline.projection.schema import (
    BACKFILLS,
    REFERENCE_TABLES,
    RUN_KEY_CONFLICTS,
    RUN_KEY_INDEX,
    TABLES,
    TASK_RANKS,
    TASKS,
    Key,
    Row,
    Table,
)
from springline.published.deltas import conflict_text

Rows = dict[str, dict[Key, Row]]
"""Rows of a state: by table, then by key."""

_Seniority = Callable[[Row], tuple[Any, ...]]
"""The sort value by which two rows of one key are compared: a delta's row replaces the older one unless it is lower."""


def _by(table: Table, *columns: str) -> _Seniority:
    places = [table.index(column) for column in columns]
    return lambda row: tuple(row[place] for place in places)


_TASK_STAMP: Final = TASKS.index("row_version")
_TASK_STATE: Final = TASKS.index("state")


def _task(row: Row) -> tuple[Any, ...]:
    return (row[_TASK_STAMP], TASK_RANKS[str(row[_TASK_STATE])])


_SENIORITY: Final[dict[str, _Seniority]] = {
    **{name: _by(table, "row_version") for name, table in REFERENCE_TABLES.items() if table is not RUN_KEY_CONFLICTS},
    TASKS.name: _task,
    BACKFILLS.name: _by(BACKFILLS, "state_version", "row_version"),
}


def _wins(table: str, older: Row, newer: Row) -> bool:
    """Say whether the reference lets a delta's row replace an older one."""
    if table == RUN_KEY_CONFLICTS.name:
        return False
    seniority = _SENIORITY[table]
    if table == RUN_KEY_INDEX.name:
        return seniority(newer) > seniority(older)
    return seniority(newer) >= seniority(older)


def base_rows(tables: Mapping[str, Iterable[Row]]) -> Rows:
    """Return rows by table and key, for all tables; of rows with the same key the last one wins."""
    return {name: {table.key_of(row): row for row in tables.get(name, ())} for name, table in TABLES.items()}


def lay_over(rows: Rows, changed: Mapping[str, Iterable[Row]], deleted: Mapping[str, Iterable[Key]]) -> None:
    """Apply one of our deltas to `rows`: its rows replace, then its deletions remove."""
    for name, its_rows in changed.items():
        stored, key_of = rows[name], TABLES[name].key_of
        for row in its_rows:
            stored[key_of(row)] = row
    for name, keys in deleted.items():
        for key in keys:
            rows[name].pop(key, None)


def lay_over_reference(rows: Rows, changed: Mapping[str, Iterable[Row]], deleted: Mapping[str, Iterable[Key]]) -> None:
    """Apply one of the reference's deltas to `rows` by its rules: per key a winner, then the deletions."""
    for name, its_rows in changed.items():
        table = TABLES[name]
        stored = rows[name]
        for key, row in {table.key_of(row): row for row in its_rows}.items():
            older = stored.get(key)
            if older is None or _wins(name, older, row):
                stored[key] = row
    for name, keys in deleted.items():
        if name == RUN_KEY_CONFLICTS.name:
            _delete_conflicts(rows[name], keys)
            continue
        for key in keys:
            rows[name].pop(key, None)


def _delete_conflicts(stored: dict[Key, Row], keys: Iterable[Key]) -> None:
    """Delete by the joined text, because the file has nothing else of these keys."""
    texts = {conflict_text(key) for key in keys}
    for key in [key for key in stored if conflict_text(key) in texts]:
        del stored[key]
