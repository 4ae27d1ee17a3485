"""What a reader may ask of rows: values of columns, spans of time, labels."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from springline.projection.schema import Table
from springline.reading.snapshot import Where


def equals(table: Table, column: str, values: Collection[str | bool]) -> Where:
    """Want rows whose `column` holds one of `values`."""
    table.index(column)
    wanted = list(values)
    return Where((column,), lambda rows: _is_in(_column(rows, column), wanted))


def between(table: Table, column: str, since_ms: int | None, until_ms: int | None) -> Where:
    """Want rows whose `column` of times lies at or after `since_ms` and before `until_ms`; never rows without one."""
    table.index(column)

    def among(rows: pa.Table) -> pa.ChunkedArray:
        times = _column(rows, column)
        wanted = pc.is_valid(times)
        if since_ms is not None:
            wanted = pc.and_(wanted, _compared(times, since_ms, pc.greater_equal))
        if until_ms is not None:
            wanted = pc.and_(wanted, _compared(times, until_ms, pc.less))
        return pc.fill_null(wanted, False)

    return Where((column,), among)


def labelled(table: Table, column: str, labels: Mapping[str, str]) -> Where:
    """Want rows whose `column` of labels holds all of `labels`."""
    wanted = dict(labels)

    def holds(text: str) -> bool:
        held = orjson.loads(text)
        return all(held.get(name) == value for name, value in wanted.items())

    return _by_text(table, column, holds)


def status_of(table: Table, column: str, statuses: Collection[str]) -> Where:
    """Want rows whose `column` of statuses, JSON with the field `status`, holds one of `statuses`."""
    wanted = frozenset(statuses)
    return _by_text(table, column, lambda text: orjson.loads(text).get("status") in wanted)


def all_of(wheres: Sequence[Where]) -> Where | None:
    """Want rows that all of `wheres` want; None if there are none, so that every row is wanted."""
    if len(wheres) <= 1:
        return wheres[0] if wheres else None
    columns = tuple(dict.fromkeys(column for where in wheres for column in where.columns))

    def among(rows: pa.Table) -> pa.ChunkedArray:
        wanted = wheres[0].among(rows)
        for where in wheres[1:]:
            wanted = pc.and_(wanted, where.among(rows))
        return wanted

    return Where(columns, among)


_I64 = 1 << 63


def _compared(times: pa.ChunkedArray, ms: int, compare: Callable[..., pa.ChunkedArray]) -> pa.ChunkedArray:
    # What lies beyond all times that there are compares as the last of them does.
    return compare(times, pa.scalar(min(max(ms, -_I64), _I64 - 1), pa.int64()))


def _by_text(table: Table, column: str, holds: Callable[[str], bool]) -> Where:
    """Want rows for whose text `holds` is true; each text is looked at once."""
    table.index(column)

    def among(rows: pa.Table) -> pa.ChunkedArray:
        texts = _column(rows, column)
        return _is_in(texts, [text for text in texts.unique().to_pylist() if text is not None and holds(text)])

    return Where((column,), among)


def _column(rows: pa.Table, column: str) -> pa.ChunkedArray:
    values = rows.column(column)
    return values.cast(values.type.value_type) if pa.types.is_dictionary(values.type) else values


def _is_in(values: pa.ChunkedArray, wanted: Sequence[str | bool]) -> pa.ChunkedArray:
    return pc.fill_null(pc.is_in(values, value_set=pa.array(wanted, values.type)), False)
