"""Rows for tests, with what a test does not name filled in."""

from __future__ import annotations

from springline.projection.enums import ALLOWED
from springline.projection.schema import TABLES, Kind, Row, Value

_FILLERS: dict[Kind, Value] = {Kind.STR: "-", Kind.U32: 0, Kind.I64: 0, Kind.BOOL: False, Kind.MS: 0, Kind.JSON: "[]"}


def row(table: str, **values: Value) -> Row:
    """Return a row of a table: the values given, None where a column may be, and something plain elsewhere.

    A boolean that may be missing is read as False where it is null.
    """
    columns = TABLES[table].columns
    unknown = values.keys() - {column.name for column in columns}
    assert not unknown, unknown
    return tuple(
        values.get(
            column.name,
            None if column.nullable and column.kind is not Kind.BOOL else _filler(table, column.name, column.kind),
        )
        for column in columns
    )


def _filler(table: str, column: str, kind: Kind) -> Value:
    allowed = ALLOWED.get((table, column))
    return _FILLERS[kind] if allowed is None else min(allowed)
