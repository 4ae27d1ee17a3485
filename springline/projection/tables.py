"""Tables of the fold whose rows are replaced, not changed: with before-images, and what retention needs (design 4.4).

While changes are tracked a table keeps, for every key written since the last accept, the row that was there before.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Generic, NamedTuple, Protocol, TypeVar, cast

from msgspec import Struct
from msgspec.structs import astuple

from springline.projection.rows import UsedKeyRow
from springline.projection.schema import IDEMPOTENCY_KEYS, Key, Row, Table

R = TypeVar("R", bound=Struct)


class Change(NamedTuple):
    """A row that differs from what it was at the last accept; None is no row."""

    key: Key
    before: Row | None
    after: Row | None


class StoredTable(Protocol):
    """A table as the world outside the fold sees it: rows are tuples of stored values."""

    def export(self) -> Iterator[Row]:
        """Yield all rows, in any order."""

    def find(self, key: Key) -> Row | None:
        """Return the row with this key, or None."""

    def __len__(self) -> int: ...

    def load(self, rows: Iterable[Row]) -> None:
        """Take rows over as they are, each in the place of an older one with its key."""

    def unload(self, key: Key) -> None:
        """Forget a row, if there is one."""

    def changes(self) -> list[Change]:
        """Return what differs from the before-images."""


class Codec(Generic[R]):
    """Turns rows of the fold to stored values and back: here, structs with a field per column."""

    def __init__(self, table: Table, kind: Callable[..., R]) -> None:
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
    """Leaves out what is the same in every row of `idempotency_keys`, or follows from it: there is one per event."""

    def __init__(self, tenant: str, workspace: str) -> None:
        super().__init__(IDEMPOTENCY_KEYS, UsedKeyRow)
        self._tenant, self._workspace = tenant, workspace

    def stored(self, key: Key, row: UsedKeyRow) -> Row:
        """Return the stored values of a row."""
        event_id = row.event_id
        return (self._tenant, self._workspace, str(key), event_id, row.event_type, row.recorded_at, event_id)

    def row(self, stored: Row) -> tuple[Key, UsedKeyRow]:
        """Return key and row of stored values."""
        _, _, key, event_id, event_type, recorded_at, _ = stored
        return cast(str, key), UsedKeyRow(cast(str, event_id), cast(str, event_type), cast(int, recorded_at))


class RowTable(Generic[R]):
    """A table of frozen rows by key. `rows` is read directly; `put` and `remove` alone write it."""

    def __init__(self, codec: Codec[R]) -> None:
        self.rows: dict[Any, R] = {}
        self._codec = codec
        self._before: dict[Any, R | None] | None = None

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
        return (self._codec.stored(key, row) for key, row in self.rows.items())

    def find(self, key: Key) -> Row | None:
        """Return the row with this key, or None."""
        row = self.rows.get(key)
        return None if row is None else self._codec.stored(key, row)

    def __len__(self) -> int:
        return len(self.rows)

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

    def changes(self) -> list[Change]:
        """Return what differs from the before-images."""
        found = []
        for key, before in (self._before or {}).items():
            after = self.rows.get(key)
            if before is not after and before != after:
                old, new = (None if row is None else self._codec.stored(key, row) for row in (before, after))
                found.append(Change(key, old, new))
        return found

    def rollback(self) -> None:
        """Put the before-images back, and drop them."""
        for key, before in (self._before or {}).items():
            self.unload(key)
            if before is not None:
                self._set(key, before)
        self.track(self._before is not None)


class GroupedTable(RowTable[R]):
    """A table that also knows its keys by what their rows name, for retention: a row's group is fixed by its fields."""

    def __init__(self, codec: Codec[R], group_of: Callable[[R], str | None]) -> None:
        super().__init__(codec)
        self._group_of = group_of
        self._groups: dict[str, dict[Key, None]] = {}

    def in_group(self, group: str) -> tuple[Key, ...]:
        """Return the keys of all rows of a group."""
        return tuple(self._groups.get(group, ()))

    def _set(self, key: Key, row: R) -> None:
        if key in self.rows:
            self._unset(key)
        super()._set(key, row)
        if (group := self._group_of(row)) is not None:
            self._groups.setdefault(group, {})[key] = None

    def _unset(self, key: Key) -> None:
        if (group := self._group_of(self.rows[key])) is not None:
            keys = self._groups[group]
            del keys[key]
            if not keys:
                del self._groups[group]
        super()._unset(key)


class AgingTable(RowTable[R]):
    """A table whose rows end at an age, for retention: a heap of (time, key) that may name rows changed since."""

    def __init__(self, codec: Codec[R], time_of: Callable[[R], int]) -> None:
        super().__init__(codec)
        self._time_of = time_of
        self._by_time: list[tuple[int, Key]] = []

    def remove_before(self, limit_ms: int) -> None:
        """Delete all rows whose time lies before an instant, in epoch milliseconds."""
        by_time = self._by_time
        while by_time and by_time[0][0] < limit_ms:
            _, key = heapq.heappop(by_time)
            row = self.rows.get(key)
            if row is not None and self._time_of(row) < limit_ms:
                self.remove(key)

    def _set(self, key: Key, row: R) -> None:
        super()._set(key, row)
        heapq.heappush(self._by_time, (self._time_of(row), key))
