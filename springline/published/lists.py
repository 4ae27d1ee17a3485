"""Lists for readers: filters of rows, and the cursor at which the next page begins.

A cursor is a text that names the last key seen, and is valid only for the list that it came from. It holds a key and
not a position or a revision, so that it stays valid when the state changes: the next page begins behind that key in the
revision that is published then.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, cast

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from springline.errors import Code, Refused, refused
from springline.projection.schema import Key, Table
from springline.published.snapshot import Where


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


def open_at(table: Table, column: str, since_ms: int) -> Where:
    """Want rows whose `column` of times holds none, or one at or after `since_ms`."""
    table.index(column)

    def among(rows: pa.Table) -> pa.ChunkedArray:
        times = _column(rows, column)
        return pc.fill_null(_compared(times, since_ms, pc.greater_equal), True)

    return Where((column,), among)


def known(table: Table, column: str) -> Where:
    """Want rows that have a value in `column`."""
    table.index(column)
    return Where((column,), lambda rows: pc.is_valid(_column(rows, column)))


def later(table: Table, column: str, version: str) -> Where:
    """Want rows whose `column` of event ids holds one at or above `version`."""
    table.index(column)
    return Where((column,), lambda rows: pc.fill_null(pc.greater_equal(_column(rows, column), version), False))


def matching(table: Table, column: str, pattern: str) -> Where:
    """Want rows whose `column` of texts holds a match of a regular expression (RE2)."""
    table.index(column)
    return Where(
        (column,), lambda rows: pc.fill_null(pc.match_substring_regex(_column(rows, column), pattern=pattern), False)
    )


def labelled(table: Table, column: str, labels: Iterable[tuple[str, str]]) -> Where:
    """Want rows whose `column` of labels holds all of `labels`: none if they give one name two values."""
    wanted = frozenset(labels)

    def holds(text: str) -> bool:
        held = orjson.loads(text)
        return all(held.get(name) == value for name, value in wanted)

    return _by_text(table, column, holds)


def above(table: Table, column: str, text: str) -> Where:
    """Want rows whose `column` of texts comes behind `text`."""
    table.index(column)

    def among(rows: pa.Table) -> pa.ChunkedArray:
        texts = _column(rows, column)
        return pc.fill_null(pc.greater(texts, pa.scalar(text, texts.type)), False)

    return Where((column,), among)


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


def unlike(table: Table, column: str, values: Collection[str], other: str, holds: Callable[[str], bool]) -> Where:
    """Return the filter of rows whose `column` has none of `values`, and whose text in `other` is one that `holds`."""
    text = _by_text(table, other, holds)

    def among(rows: pa.Table) -> pa.ChunkedArray:
        return pc.and_(pc.invert(_is_in(_column(rows, column), list(values))), text.among(rows))

    return Where((column, *text.columns), among)


def _compared(times: pa.ChunkedArray, ms: int, compare: Callable[..., pa.ChunkedArray]) -> pa.ChunkedArray:
    # A time beyond the greatest or least instant compares as that one does.
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


_MARK_BYTES = 6


def cursor_for(route: str, filters: Mapping[str, Any], last: Key | tuple[int, str]) -> str:
    """Return the cursor of the page behind `last`, a key or a time and a key, in the list of `route` and `filters`."""
    content = [_mark(route, filters), *([last] if isinstance(last, str) else map(str, last))]
    return base64.urlsafe_b64encode(orjson.dumps(content)).rstrip(b"=").decode()


def key_of_cursor(cursor: str, route: str, filters: Mapping[str, Any], columns: int) -> Key:
    """Return the key in `cursor`, which has so many `columns`.

    Raises `Refused` (INVALID_REQUEST, field `cursor`) for a text that this list did not issue.
    """
    try:
        padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
        content = orjson.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
    except ValueError:
        raise _refused(cursor, "is no cursor") from None
    if not isinstance(content, list) or len(content) != columns + 1 or not all(isinstance(one, str) for one in content):
        raise _refused(cursor, "is no cursor of this list")
    if content[0] != _mark(route, filters):
        raise _refused(cursor, "belongs to another list, or to one with other filters")
    return content[1] if columns == 1 else tuple(content[1:])


def moment_of_cursor(cursor: str, route: str, filters: Mapping[str, Any]) -> tuple[int, str]:
    """Return time and key in the `cursor` of a list whose latest rows come first; raises as `key_of_cursor`."""
    time, key = cast("tuple[str, str]", key_of_cursor(cursor, route, filters, columns=2))
    try:
        ms = int(time)
    except ValueError:
        ms = _I64
    if not -_I64 <= ms < _I64:
        raise _refused(cursor, "is no cursor of this list")
    return ms, key


def _mark(route: str, filters: Mapping[str, Any]) -> str:
    """Return a short text that identifies the list."""
    said = orjson.dumps([route, dict(filters)], option=orjson.OPT_SORT_KEYS)
    return hashlib.blake2b(said, digest_size=_MARK_BYTES).hexdigest()


def _refused(cursor: str, problem: str) -> Refused:
    return refused(
        Code.INVALID_REQUEST,
        f"the cursor {problem}",
        field="cursor",
        value=cursor[:200],
        remedy="Send `next_cursor` of the page before, with the same filters, or leave the cursor out.",
    )
