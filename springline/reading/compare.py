"""What differs between two states in golden form: by table, key and column."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from springline.projection.schema import TABLES

GoldenRows = Mapping[str, Sequence[Mapping[str, Any]]]
"""Rows in golden form by table; a table that is left out is empty."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One difference. `column` is None where only one side has the row, whose values are then in `a` or in `b`."""

    table: str
    key: tuple[str, ...]
    column: str | None
    a: Any
    b: Any

    def as_json(self) -> dict[str, Any]:
        """Return the difference as it is printed: a side that has nothing there is left out."""
        shown: dict[str, Any] = {"table": self.table, "key": dict(zip(TABLES[self.table].key, self.key, strict=True))}
        if self.column is not None:
            shown["column"] = self.column
        else:
            shown["only_in"] = "a" if self.b is None else "b"
        return shown | {side: value for side, value in (("a", self.a), ("b", self.b)) if value is not None}


def differences(a: GoldenRows, b: GoldenRows) -> Iterator[Difference]:
    """Yield what differs, in the order of the tables and of their keys.

    A repeated key counts as a row that the other side does not have.
    """
    for name, table in TABLES.items():
        left, left_again = _by_key(table.key, a.get(name, ()))
        right, right_again = _by_key(table.key, b.get(name, ()))
        for key in sorted(left.keys() | right.keys()):
            one, other = left.get(key), right.get(key)
            if one is None or other is None:
                yield Difference(name, key, None, one, other)
            else:
                for column in sorted(one.keys() | other.keys()):
                    if one.get(column) != other.get(column):
                        yield Difference(name, key, column, one.get(column), other.get(column))
        yield from (Difference(name, key, None, row, None) for key, row in left_again)
        yield from (Difference(name, key, None, None, row) for key, row in right_again)


_Row = Mapping[str, Any]


def _by_key(
    columns: tuple[str, ...], rows: Sequence[_Row]
) -> tuple[dict[tuple[str, ...], _Row], list[tuple[tuple[str, ...], _Row]]]:
    found: dict[tuple[str, ...], _Row] = {}
    again: list[tuple[tuple[str, ...], _Row]] = []
    for row in rows:
        key = tuple(str(row.get(column, "")) for column in columns)
        if key in found:
            again.append((key, row))
        else:
            found[key] = row
    return found, again
