"""The rows of one published revision in memory: immutable, so that readers keep theirs while newer ones come."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from operator import itemgetter
from typing import cast

from springline.projection.schema import TABLES, Key, Row, Table

Where = Callable[[Row], bool]
"""Says whether a row is wanted."""


@dataclass(frozen=True, slots=True)
class Revision:
    """Which published state an answer was read from.

    Before the first publish `manifest_id` is all zeros, `published_at` and `last_visible_event_id` None.
    `published_at` is RFC 3339.
    """

    manifest_id: str
    manifest_revision: str
    published_at: str | None
    last_visible_event_id: str | None

    def as_json(self) -> dict[str, str | None]:
        """Return the revision as every answer carries it."""
        return {
            "manifest_id": self.manifest_id,
            "manifest_revision": self.manifest_revision,
            "published_at": self.published_at,
            "last_visible_event_id": self.last_visible_event_id,
        }


def keys_of(table: Table) -> Callable[[Row], Key]:
    """Return a function that returns the keys of a table's rows: `Table.key_of` without a search for each row."""
    return _keys_of(table.name)


@cache
def _keys_of(name: str) -> Callable[[Row], Key]:
    table = TABLES[name]
    return cast("Callable[[Row], Key]", itemgetter(*(table.index(column) for column in table.key)))


class TableRows:
    """One table's rows by key, with the keys in order."""

    def __init__(self, table: Table, rows: Mapping[Key, Row]) -> None:
        self.table = table
        self._rows = rows

    @classmethod
    def of(cls, table: Table, rows: Iterable[Row]) -> TableRows:
        """Return the rows given, each under its key; of two with one key the later one counts."""
        key_of = keys_of(table)
        return cls(table, {key_of(row): row for row in rows})

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self._rows)

    def __iter__(self) -> Iterator[Row]:
        """Yield the rows in no particular order."""
        return iter(self._rows.values())

    def get(self, key: Key) -> Row | None:
        """Return the row under `key`, or None."""
        return self._rows.get(key)

    @cached_property
    def keys(self) -> list[Key]:
        """The keys in ascending order, bytewise."""
        # All keys of a table are of one form, so that they can be compared.
        return sorted(self._rows)

    def changed(self, rows: Iterable[Row], deleted: Iterable[Key]) -> TableRows:
        """Return a copy in which `rows` have replaced those with their keys, and then `deleted` are gone."""
        copy, key_of = dict(self._rows), keys_of(self.table)
        for row in rows:
            copy[key_of(row)] = row
        for key in deleted:
            copy.pop(key, None)
        return TableRows(self.table, copy)

    def page(
        self, *, limit: int, after: Key | None = None, prefix: tuple[str, ...] = (), where: Where | None = None
    ) -> Page:
        """Return at most `limit` rows in the order of their keys.

        `after`: only keys above this one. `prefix`: only keys of several columns that begin with these values.
        `where`: only rows it wants.
        """
        keys = self.keys
        start, end = self._range(prefix)
        if after is not None:
            start = max(start, bisect_right(keys, after))
        found: list[Row] = []
        for position in range(start, end):
            row = self._rows[keys[position]]
            if where is None or where(row):
                if len(found) == limit:
                    return Page(found, keys_of(self.table)(found[-1]))
                found.append(row)
        return Page(found, None)

    def below(self, prefix: tuple[str, ...]) -> list[Row]:
        """Return all rows whose key of several columns begins with `prefix`, in order."""
        start, end = self._range(prefix)
        return [self._rows[key] for key in self.keys[start:end]]

    def _range(self, prefix: tuple[str, ...]) -> tuple[int, int]:
        if not prefix:
            return 0, len(self.keys)
        start = bisect_left(self.keys, prefix)
        # The least key above all that begin with the prefix: its last value, and something behind it.
        above = (*prefix[:-1], prefix[-1] + "\0")
        return start, bisect_left(self.keys, above, lo=start)


@dataclass(frozen=True, slots=True)
class Page:
    """Rows in order; `last` is the key to go on behind, None if these are the last ones."""

    rows: list[Row]
    last: Key | None


class Snapshot:
    """The tables of one revision that were asked for."""

    def __init__(self, revision: Revision, tables: Mapping[str, TableRows]) -> None:
        self.revision = revision
        self._tables = dict(tables)

    def __getitem__(self, name: str) -> TableRows:
        """Return a table that was asked for; raises `KeyError` for another."""
        return self._tables[name]


def nothing(names: Iterable[str]) -> dict[str, TableRows]:
    """Return tables without rows."""
    return {name: TableRows(TABLES[name], {}) for name in names}
