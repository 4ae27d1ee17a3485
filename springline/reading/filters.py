"""What a reader may ask of rows: values of columns, spans of time, labels."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import orjson

from springline.projection.schema import Row, Table
from springline.reading.snapshot import Where


def equals(table: Table, column: str, values: Collection[str | bool]) -> Where:
    """Want rows whose `column` holds one of `values`."""
    position, wanted = table.index(column), frozenset(values)
    return lambda row: row[position] in wanted


def between(table: Table, column: str, since_ms: int | None, until_ms: int | None) -> Where:
    """Want rows whose `column` of times lies at or after `since_ms` and before `until_ms`; never rows without one."""
    position = table.index(column)
    low = -(1 << 63) if since_ms is None else since_ms
    high = 1 << 63 if until_ms is None else until_ms

    def wanted(row: Row) -> bool:
        value = row[position]
        return isinstance(value, int) and low <= value < high

    return wanted


def labelled(table: Table, column: str, labels: Mapping[str, str]) -> Where:
    """Want rows whose `column` of labels holds all of `labels`."""
    position, wanted_labels = table.index(column), dict(labels)

    def wanted(row: Row) -> bool:
        text = row[position]
        if not isinstance(text, str):
            return False
        held = orjson.loads(text)
        return all(held.get(name) == value for name, value in wanted_labels.items())

    return wanted


def all_of(wheres: Sequence[Where]) -> Where | None:
    """Want rows that all of `wheres` want; None if there are none, so that every row is wanted."""
    if len(wheres) <= 1:
        return wheres[0] if wheres else None
    return lambda row: all(where(row) for where in wheres)


def status_of(table: Table, column: str, statuses: Collection[str]) -> Where:
    """Want rows whose `column` of statuses, JSON with the field `status`, holds one of `statuses`."""
    position, wanted_statuses = table.index(column), frozenset(statuses)

    def wanted(row: Row) -> bool:
        text = row[position]
        return isinstance(text, str) and orjson.loads(text).get("status") in wanted_statuses

    return wanted
