"""Tables of the fold whose rows are replaced, not changed: with before-images, and indexes for retention.

See docs/protocol.md#cost.

While changes are tracked a table keeps, for every key written since the last accept, the row before.
A table may lie over stored rows: those that no event has touched are in files only (`springline.projection.stored`).
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, Generic, NamedTuple, Protocol, TypeVar, cast

import pyarrow as pa
from msgspec import Struct
from msgspec.structs import astuple

from springline.projection.layers import Over
from springline.projection.parquet import GROUP_ROWS, arrow_columns
from springline.projection.rows import UsedKeyRow
from springline.projection.schema import TABLES, Key, Row, Table
from springline.projection.stored import StoredAges, StoredGroups, StoredRows

R = TypeVar("R", bound=Struct)


class RowChange(NamedTuple):
    """A row that differs from what it was at the last accept; None is no row."""

    key: Key
    before: Row | None
    after: Row | None


class StoredTable(Protocol):
    """A table for code outside the fold: rows are tuples of stored values."""

    def export(self) -> Iterator[Row]:
        """Yield all rows, in any order."""

    def pieces(self) -> Iterator[pa.Table]:
        """Yield all rows as Arrow tables, in order of keys."""

    def attach(self, stored: StoredRows) -> None:
        """Lie over stored rows from now on; the table has none of its own yet."""

    def find(self, key: Key) -> Row | None:
        """Return the row with this key, or None."""

    def __len__(self) -> int: ...

    def load(self, rows: Iterable[Row]) -> None:
        """Take rows over as they are, each in the place of an older one with its key."""

    def unload(self, key: Key) -> None:
        """Forget a row, if there is one."""

    def changes(self) -> list[RowChange]:
        """Return what differs from the before-images."""


def in_pieces(table: str, rows: Iterable[Row]) -> Iterator[pa.Table]:
    """Yield rows of a table, given in any order, as Arrow tables in order of keys."""
    ordered = iter(sorted(rows, key=TABLES[table].key_of))
    while some := list(islice(ordered, GROUP_ROWS)):
        yield arrow_columns(TABLES[table], some)


class Codec(Generic[R]):
    """Turns rows of the fold to stored values and back: here, structs with a field per column."""

    def __init__(self, table: Table, kind: Callable[..., R]) -> None:
        self.table = table
        self._kind = kind
        self._key_at = tuple(table.index(name) for name in table.key)

    def stored(self, key: Key, row: R) -> Row:
        """Return the stored values of a row."""
        return astuple(row)

    def row(self, stored: Row) -> tuple[Key, R]:
        """Return key and row of stored values."""
        at = self._key_at
        key = stored[at[0]] if len(at) == 1 else tuple(stored[i] for i in at)
        return cast(Key, key), self._kind(*stored)


class UsedKeyCodec(Codec[UsedKeyRow]):
    """Leaves out columns of a table of used keys that are equal in all rows or derived: there is a row per event."""

    def __init__(self, table: Table, tenant: str, workspace: str) -> None:
        super().__init__(table, UsedKeyRow)
        self._tenant, self._workspace = tenant, workspace

    def stored(self, key: Key, row: UsedKeyRow) -> Row:
        """Return the stored values of a row."""
        event_id = row.event_id
        return (self._tenant, self._workspace, str(key), event_id, row.event_type, row.recorded_at, event_id)

    def row(self, stored: Row) -> tuple[Key, UsedKeyRow]:
        """Return key and row of stored values."""
        _, _, key, event_id, event_type, recorded_at, _ = stored
        return cast(str, key), UsedKeyRow(cast(str, event_id), cast(str, event_type), cast(int, recorded_at))


class RowsOver(dict[Any, R], Generic[R]):
    """Rows in memory over stored ones: `get`, `[]` and `in` find both.

    Iteration yields those in memory only.
    """

    __slots__ = ("_row_of", "gone", "stored")

    def __init__(self, stored: StoredRows, row_of: Callable[[Row], tuple[Key, R]]) -> None:
        super().__init__()
        self.stored = stored
        self.gone: set[Any] = set()
        """Keys of stored rows that were deleted since."""
        self._row_of = row_of

    def get(self, key: Any, default: Any = None) -> Any:
        """Return the row with a key; a stored one stays in memory from then on."""
        row = dict.get(self, key)
        if row is not None:
            return row
        return default if key in self.gone else self._taken(key, default)

    def _taken(self, key: Any, default: Any) -> Any:
        found = self.stored.rows_at(key)
        if not found:
            return default
        _, row = self._row_of(found[0])
        self[key] = row
        return row

    def __missing__(self, key: Any) -> R:
        row: R | None = self.get(key)
        if row is None:
            raise KeyError(key)
        return row

    def __contains__(self, key: object) -> bool:
        return dict.__contains__(self, key) or (key not in self.gone and cast("Key", key) in self.stored)

    def __delitem__(self, key: Any) -> None:
        if key in self.stored:
            self.gone.add(key)
        dict.pop(self, key, None)


class RowTable(Generic[R]):
    """A table of frozen rows by key. `rows` is read directly; `put` and `remove` alone write it."""

    def __init__(self, codec: Codec[R]) -> None:
        self.rows: dict[Any, R] = {}
        self._over: RowsOver[R] | None = None
        self._codec = codec
        self._before: dict[Any, R | None] | None = None

    def attach(self, stored: StoredRows) -> None:
        """Lie over stored rows from now on; the table has none of its own yet."""
        if len(self.rows):
            raise ValueError(f"{stored.table.name} has rows in memory already")
        self.rows = self._over = RowsOver(stored, self._codec.row)

    def put(self, key: Key, row: R) -> None:
        """Write a row, new or in the place of another."""
        if self._before is not None:
            self._before.setdefault(key, self.rows.get(key))
        self._set(key, row)

    def remove(self, key: Key) -> None:
        """Delete a row; raises `KeyError` if there is none."""
        row = self.rows[key]
        if self._before is not None:
            self._before.setdefault(key, row)
        self._unset(key)

    def _set(self, key: Key, row: R) -> None:
        self.rows[key] = row

    def _unset(self, key: Key) -> None:
        del self.rows[key]

    def export(self) -> Iterator[Row]:
        """Yield all rows, in any order."""
        if self._over is not None:
            return self._over.stored.rows(self._above(self._over))
        return self._in_memory()

    def pieces(self) -> Iterator[pa.Table]:
        """Yield all rows as Arrow tables, in order of keys."""
        if self._over is not None:
            return self._over.stored.pieces(self._above(self._over))
        return in_pieces(self._codec.table.name, self._in_memory())

    def _in_memory(self) -> Iterator[Row]:
        return (self._codec.stored(key, row) for key, row in self.rows.items())

    def _above(self, over: RowsOver[R]) -> Over:
        keys = sorted(over.keys())
        rows = [self._codec.stored(key, over[key]) for key in keys]
        return Over(rows, over.stored.of, [frozenset(keys), over.gone], keys)

    def find(self, key: Key) -> Row | None:
        """Return the row with this key, or None."""
        row = dict.get(self.rows, key)
        if row is not None:
            return self._codec.stored(key, row)
        if self._over is None or key in self._over.gone:
            return None
        return self._over.stored.find(key)

    def __len__(self) -> int:
        over = self._over
        if over is None:
            return len(self.rows)
        hidden = sum(key in over.stored for key in {*over.keys(), *over.gone})
        return len(over.stored) - hidden + len(over.keys())

    def load(self, rows: Iterable[Row]) -> None:
        """Take rows over as they are, each in the place of an older one with its key."""
        for stored in rows:
            key, row = self._codec.row(stored)
            self.unload(key)
            self._set(key, row)

    def unload(self, key: Key) -> None:
        """Forget a row, if there is one."""
        if key in self.rows:
            self._unset(key)

    @property
    def touched(self) -> bool:
        """Whether there are before-images."""
        return bool(self._before)

    def track(self, on: bool) -> None:
        """Drop all before-images; keep new ones from here on, or none."""
        self._before = {} if on else None

    def changes(self) -> list[RowChange]:
        """Return what differs from the before-images."""
        found = []
        for key, before in (self._before or {}).items():
            after = self.rows.get(key)
            if before is not after and before != after:
                old, new = (None if row is None else self._codec.stored(key, row) for row in (before, after))
                found.append(RowChange(key, old, new))
        return found

    def rollback(self) -> None:
        """Put the before-images back, and drop them."""
        for key, before in (self._before or {}).items():
            self.unload(key)
            if before is not None:
                self._set(key, before)
        self.track(self._before is not None)


class GroupedTable(RowTable[R]):
    """A table with an index of its keys by group, for retention: a row's fields determine its group."""

    def __init__(self, codec: Codec[R], group_of: Callable[[R], str | None], column: str) -> None:
        """As `RowTable`; `column` holds what `group_of` returns."""
        super().__init__(codec)
        self._group_of = group_of
        self._column = column
        self._groups: dict[str, dict[Key, None]] = {}
        self._stored_groups: StoredGroups | None = None

    def attach(self, stored: StoredRows) -> None:
        """Lie over stored rows from now on; the table has none of its own yet."""
        super().attach(stored)
        self._stored_groups = StoredGroups(stored, self._column)

    def in_group(self, group: str) -> tuple[Key, ...]:
        """Return the keys of all rows of a group."""
        found = dict(self._groups.get(group, {}))
        if self._stored_groups is not None:
            for key in self._stored_groups.keys(group):
                row = self.rows.get(key)
                if row is not None and self._group_of(row) == group:
                    found[key] = None
        return tuple(found)

    def _set(self, key: Key, row: R) -> None:
        if key in self.rows:
            self._unset(key)
        super()._set(key, row)
        if (group := self._group_of(row)) is not None:
            self._groups.setdefault(group, {})[key] = None

    def _unset(self, key: Key) -> None:
        if (group := self._group_of(self.rows[key])) is not None and (keys := self._groups.get(group)) is not None:
            keys.pop(key, None)  # A row that was read from a file is in no group here.
            if not keys:
                del self._groups[group]
        super()._unset(key)


class AgingTable(RowTable[R]):
    """A table whose rows expire by age, for retention: a heap of (time, key), perhaps of rows that changed since."""

    def __init__(self, codec: Codec[R], time_of: Callable[[R], int], column: str) -> None:
        """As `RowTable`; `column` holds what `time_of` returns."""
        super().__init__(codec)
        self._time_of = time_of
        self._column = column
        self._by_time: list[tuple[int, Key]] = []
        self._stored_ages: StoredAges | None = None

    def attach(self, stored: StoredRows) -> None:
        """Lie over stored rows from now on; the table has none of its own yet."""
        super().attach(stored)
        self._stored_ages = StoredAges(stored, self._column)

    def remove_before(self, limit_ms: int) -> None:
        """Delete all rows whose time lies before an instant, in epoch milliseconds."""
        by_time = self._by_time
        while by_time and by_time[0][0] < limit_ms:
            _, key = heapq.heappop(by_time)
            self._remove_if_before(key, limit_ms)
        if self._stored_ages is not None:
            for key in self._stored_ages.take_before(limit_ms):
                self._remove_if_before(key, limit_ms)

    def _remove_if_before(self, key: Key, limit_ms: int) -> None:
        row = self.rows.get(key)
        if row is not None and self._time_of(row) < limit_ms:
            self.remove(key)

    def _set(self, key: Key, row: R) -> None:
        super()._set(key, row)
        heapq.heappush(self._by_time, (self._time_of(row), key))
