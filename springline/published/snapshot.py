"""The rows of one published revision: immutable, so that readers keep theirs while newer ones come.

Rows stay in their files; pages are read from those row groups that they lie in, and filters from the columns that they
ask for (docs/protocol.md#cost).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from operator import itemgetter
from typing import cast

import pyarrow as pa

from springline.projection.layers import AnyLayer, Deletions, Layer, live_rows, merged
from springline.projection.layers import keys_of as keys_in
from springline.projection.parquet import encode_table, rows_of
from springline.projection.schema import TABLES, Key, Row, Table


@dataclass(frozen=True, slots=True)
class Where:
    """Which rows are wanted: `among` says it for each row of an Arrow table that has the `columns`."""

    columns: tuple[str, ...]
    among: Callable[[pa.Table], pa.ChunkedArray]


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
    """One table's rows by key: files, oldest first, laid over each other."""

    def __init__(self, table: Table, layers: Sequence[AnyLayer]) -> None:
        self.table = table
        self.layers = [layer for layer in layers if len(layer)]

    @classmethod
    def of(cls, table: Table, rows: Iterable[Row]) -> TableRows:
        """Return the rows given, each under its key; of two with one key the later one counts."""
        return cls(table, [_layer(table, rows)])

    def __len__(self) -> int:
        """Return the number of rows."""
        return self._count

    @cached_property
    def _count(self) -> int:
        return live_rows(self.table, self.layers)

    def __iter__(self) -> Iterator[Row]:
        """Yield the rows in the order of their keys."""
        for piece in merged(self.table, self.layers):
            yield from rows_of(self.table, piece)

    def get(self, key: Key) -> Row | None:
        """Return the row under `key`, or None."""
        for layer in reversed(self.layers):
            place = layer.find(key)
            if place is not None:
                return layer.rows(place, place + 1)[0] if isinstance(layer, Layer) else None
        return None

    @property
    def keys(self) -> list[Key]:
        """The keys in ascending order, bytewise."""
        pieces = merged(self.table, self.layers, columns=self.table.key)
        return [key for piece in pieces for key in keys_in(self.table, piece)]

    @property
    def size(self) -> int:
        """Bytes that are held."""
        return sum(layer.size for layer in self.layers)

    def laid(self, layers: Sequence[AnyLayer]) -> TableRows:
        """Return the rows with newer layers, oldest first, over them."""
        return TableRows(self.table, [*self.layers, *layers])

    def changed(self, rows: Iterable[Row], deleted: Iterable[Key]) -> TableRows:
        """Return a copy in which `rows` have replaced those with their keys, and then `deleted` are gone."""
        return self.laid([_layer(self.table, rows), Deletions(self.table, sorted(set(deleted)))])

    def page(
        self, *, limit: int, after: Key | None = None, prefix: tuple[str, ...] = (), where: Where | None = None
    ) -> Page:
        """Return at most `limit` rows in the order of their keys.

        `after`: only keys above this one. `prefix`: only keys of several columns that begin with these values.
        `where`: only rows it wants.
        """
        found = self._first(limit + 1, after, prefix, where)
        if len(found) > limit:
            return Page(found[:limit], keys_of(self.table)(found[limit - 1]))
        return Page(found, None)

    def below(self, prefix: tuple[str, ...]) -> list[Row]:
        """Return all rows whose key of several columns begins with `prefix`, in order."""
        return self._first(None, None, prefix, None)

    def select(self, where: Where) -> list[Row]:
        """Return all rows that `where` wants, in order."""
        return self._first(None, None, (), where)

    def _first(self, most: int | None, after: Key | None, prefix: tuple[str, ...], where: Where | None) -> list[Row]:
        """Return the first rows, `most` of them, None for all."""
        start: Key | None = prefix or None
        if after is not None and (start is None or after > start):  # type: ignore[operator]
            start = after
        # The least key above all that begin with the prefix: its last value, and something behind it.
        before = (*prefix[:-1], prefix[-1] + "\0") if prefix else None
        if start is not None and before is not None and start >= before:  # type: ignore[operator]
            return []
        columns = None if where is None else tuple(dict.fromkeys((*self.table.key, *where.columns)))
        found: list[Row] = []
        for piece in merged(self.table, self.layers, columns=columns, start=start, before=before):
            left = len(piece) if most is None else most - len(found) + 1
            if where is None:
                rows = rows_of(self.table, piece.slice(0, left))
                found += rows if after is None else [row for row in rows if self.table.key_of(row) != after]
            else:
                keys = keys_in(self.table, piece.filter(where.among(piece)).slice(0, left))
                gotten = (self.get(key) for key in keys if key != after)
                found += [row for row in gotten if row is not None]
            if most is not None and len(found) >= most:
                return found[:most]
        return found


def _layer(table: Table, rows: Iterable[Row]) -> Layer:
    by_key = {table.key_of(row): row for row in rows}
    return Layer(table, encode_table(table, by_key.values()))


@dataclass(frozen=True, slots=True)
class Page:
    """Rows in order; `last` is the key to go on behind, None if these are the last ones."""

    rows: list[Row]
    last: Key | None


class StateSnapshot:
    """The tables of one revision that were asked for."""

    def __init__(self, revision: Revision, tables: Mapping[str, TableRows]) -> None:
        self.revision = revision
        self._tables = dict(tables)

    def __getitem__(self, name: str) -> TableRows:
        """Return a table that was asked for; raises `KeyError` for another."""
        return self._tables[name]


def nothing(names: Iterable[str]) -> dict[str, TableRows]:
    """Return tables without rows."""
    return {name: TableRows(TABLES[name], []) for name in names}
