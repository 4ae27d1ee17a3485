"""The rows of one published revision: immutable, so that a reader keeps its revision while newer ones are published.

Rows stay in their files; a page decodes only its row groups, and a filter only its columns (docs/protocol.md#cost).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from operator import itemgetter
from typing import Any, cast

import pyarrow as pa
import pyarrow.compute as pc

from springline.projection.layers import FEW_ROWS, AnyLayer, Deletions, Layer, live_keys, live_rows, merged
from springline.projection.layers import keys_of as keys_in
from springline.projection.parquet import encode_table, rows_of
from springline.projection.schema import TABLES, Key, Row, Table


@dataclass(frozen=True, slots=True)
class Where:
    """A filter of rows: `among` says for each row of an Arrow table with the `columns` whether it is wanted."""

    columns: tuple[str, ...]
    among: Callable[[pa.Table], pa.ChunkedArray]


@dataclass(frozen=True, slots=True)
class Revision:
    """The published revision that an answer was read from.

    Before the first publish `manifest_id` is all zeros, `published_at` and `last_visible_event_id` None.
    `published_at` is RFC 3339.
    """

    manifest_id: str
    manifest_revision: str
    published_at: str | None
    last_visible_event_id: str | None

    def as_json(self) -> dict[str, str | None]:
        """Return the revision as every answer has it."""
        return {
            "manifest_id": self.manifest_id,
            "manifest_revision": self.manifest_revision,
            "published_at": self.published_at,
            "last_visible_event_id": self.last_visible_event_id,
        }


def keys_of(table: Table) -> Callable[[Row], Key]:
    """Return a function from row to key: `Table.key_of` without a look-up for each row."""
    return _keys_of(table.name)


@cache
def _keys_of(name: str) -> Callable[[Row], Key]:
    table = TABLES[name]
    return cast("Callable[[Row], Key]", itemgetter(*(table.index(column) for column in table.key)))


class TableRows:
    """One table's rows by key: layers of files, oldest first."""

    def __init__(self, table: Table, layers: Sequence[AnyLayer]) -> None:
        self.table = table
        self.layers = [layer for layer in layers if len(layer)]

    @classmethod
    def of(cls, table: Table, rows: Iterable[Row]) -> TableRows:
        """Return a table of the rows given; of two with the same key the later one wins."""
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

    def get_all(self, keys: Iterable[Key]) -> dict[Key, Row]:
        """Return the rows under `keys`, of those that there are; of many this costs a small part of a `get` of each."""
        left = sorted(set(keys))
        found: dict[Key, Row] = {}
        for layer in reversed(self.layers):
            places = layer.find_all(left)
            if not places:
                continue
            if isinstance(layer, Layer):
                found |= zip(places, layer.rows_at(list(places.values())), strict=True)
            left = [key for key in left if key not in places]
        return found

    def has(self, key: Key) -> bool:
        """Say whether there is a row under `key`, without decoding it."""
        for layer in reversed(self.layers):
            if layer.find(key) is not None:
                return isinstance(layer, Layer)
        return False

    def texts(self, column: str, *, after: str, before: str, most: int) -> list[tuple[str, str]]:
        """Return the first `most` keys between two texts, both excluded, each with the text of a column.

        Only of a table whose key is one column: no other column is decoded.
        """
        (key,) = self.table.key
        found: list[tuple[str, str]] = []
        start = after + "\0"
        for piece in merged(self.table, self.layers, columns=(key, column), start=start, before=before):
            part = piece.slice(0, most - len(found))
            # Texts are a dictionary in files, and Python gets each word of one apart.
            texts = [part.column(name).cast(pa.string()).to_pylist() for name in (key, column)]
            found += zip(*texts, strict=True)
            if len(found) >= most:
                break
        return found

    @property
    def keys(self) -> list[Key]:
        """The keys in ascending order, bytewise."""
        pieces = merged(self.table, self.layers, columns=self.table.key)
        return [key for piece in pieces for key in keys_in(self.table, piece)]

    @property
    def size(self) -> int:
        """Bytes in memory."""
        return sum(layer.size for layer in self.layers)

    def laid(self, layers: Sequence[AnyLayer]) -> TableRows:
        """Return the table with newer layers, oldest first, on top."""
        laid = TableRows(self.table, [*self.layers, *layers])
        if "_count" in self.__dict__ and sum(map(len, layers)) <= FEW_ROWS:
            # It costs what is new to count on from a count that is known.
            laid.__dict__["_count"] = self._count + self._more_by(layers)
        return laid

    def _more_by(self, layers: Sequence[AnyLayer]) -> int:
        """Return how many rows more there are with newer layers on top."""
        newest: dict[Key, bool] = {}
        for layer in layers:
            newest |= dict.fromkeys(layer.keys(0, len(layer)), isinstance(layer, Layer))
        known = live_keys(self.layers, sorted(newest))
        return sum(is_row - (key in known) for key, is_row in newest.items())

    def changed(self, rows: Iterable[Row], deleted: Iterable[Key]) -> TableRows:
        """Return a copy in which `rows` replace those with their keys, and then `deleted` are removed."""
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

    def latest(
        self, column: str, *, limit: int, after: tuple[int, str] | None = None, where: Where | None = None
    ) -> LatestPage:
        """Return at most `limit` rows, those with the latest times in `column` first; of one time the last key first.

        Only of a table whose key is one column and whose `column` of times has no gaps: of the rows that are not
        returned, no other column is decoded but those of `where`. `after`: only rows behind this time and key.
        """
        (key,) = self.table.key
        order = [("time", "descending"), ("key", "descending")]
        found: pa.Table | None = None
        for piece in self.scan((column, *(() if where is None else where.columns))):
            some = piece if where is None else piece.filter(where.among(piece))
            named = pa.table({"time": _plain(some.column(column)), "key": _plain(some.column(key)).cast(pa.string())})
            if after is not None:
                named = named.filter(_behind_moment(named, *after))
            named = named if found is None else pa.concat_tables([found, named])
            # One more than is wanted tells whether there is another page.
            found = named.take(pc.select_k_unstable(named, k=limit + 1, sort_keys=order))
        if found is None:
            return LatestPage([], None)
        places = list(zip(*(found.column(name).to_pylist()[:limit] for name in ("time", "key")), strict=True))
        gotten = self.get_all(name for _, name in places)
        return LatestPage([gotten[name] for _, name in places], places[-1] if len(found) > limit else None)

    def below(self, prefix: tuple[str, ...]) -> list[Row]:
        """Return all rows whose key of several columns begins with `prefix`, in order."""
        return self._first(None, None, prefix, None)

    def among(self, first: Key, last: Key) -> list[Row]:
        """Return the rows whose keys lie from `first` to `last`, both included, in order."""
        pieces = merged(self.table, self.layers, start=first, before=_behind(last))
        return [row for piece in pieces for row in rows_of(self.table, piece)]

    def scan(self, columns: Sequence[str], *, first: Key | None = None, last: Key | None = None) -> Iterator[pa.Table]:
        """Yield columns of all rows, or of those whose keys lie from `first` to `last`: a piece at a time, in order.

        The columns of the key are there too. What a file has as a dictionary of texts comes as one.
        """
        wanted = tuple(dict.fromkeys((*self.table.key, *columns)))
        before = None if last is None else _behind(last)
        yield from merged(self.table, self.layers, columns=wanted, start=first, before=before)

    def values(self, names: Sequence[str], where: Where | None = None) -> Iterator[tuple[Any, ...]]:
        """Yield some columns of all rows, or of those that `where` wants: in order, without reading the others."""
        for piece in self.scan((*names, *(() if where is None else where.columns))):
            rows = piece if where is None else piece.filter(where.among(piece))
            if len(rows):
                yield from zip(*(rows.column(name).to_pylist() for name in names), strict=True)

    def select(self, where: Where) -> list[Row]:
        """Return all rows that `where` wants, in order."""
        return self._first(None, None, (), where)

    def columns(self, names: tuple[str, ...], *, start: Key, before: Key, where: Where) -> pa.Table:
        """Return columns of the rows that `where` wants, of those from key `start` on, before `before`, in order.

        Counting many rows costs no Python value for each.
        """
        wanted = tuple(dict.fromkeys((*self.table.key, *names, *where.columns)))
        pieces = [
            piece.filter(where.among(piece))
            for piece in merged(self.table, self.layers, columns=wanted, start=start, before=before)
        ]
        plain = [pa.table({name: _plain(piece.column(name)) for name in names}) for piece in pieces if piece.num_rows]
        return pa.concat_tables(plain) if plain else pa.table({name: pa.array([], pa.null()) for name in names})

    def _first(self, most: int | None, after: Key | None, prefix: tuple[str, ...], where: Where | None) -> list[Row]:
        """Return the first rows, `most` of them, None for all."""
        start: Key | None = prefix or None
        if after is not None and (start is None or after > start):  # type: ignore[operator]
            start = after
        before = _behind(prefix) if prefix else None
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
                gotten = self.get_all(keys)
                found += [gotten[key] for key in keys if key != after and key in gotten]
            if most is not None and len(found) >= most:
                return found[:most]
        return found


def _plain(values: pa.ChunkedArray) -> pa.ChunkedArray:
    return values.cast(values.type.value_type) if pa.types.is_dictionary(values.type) else values


def _behind_moment(named: pa.Table, time: int, key: str) -> pa.ChunkedArray:
    """Say for each row whether it comes behind a time and key where the latest are first."""
    times, keys = named.column("time"), named.column("key")
    return pc.or_(pc.less(times, time), pc.and_(pc.equal(times, time), pc.less(keys, key)))


def _behind(key: Key) -> Key:
    """Return the least key above a key and all that begin with it: its last value with the least character appended."""
    return key + "\0" if isinstance(key, str) else (*key[:-1], key[-1] + "\0")


def _layer(table: Table, rows: Iterable[Row]) -> Layer:
    by_key = {table.key_of(row): row for row in rows}
    return Layer(table, encode_table(table, by_key.values()))


@dataclass(frozen=True, slots=True)
class Page:
    """Rows in order; `last` is the key that the next page begins behind, None on the last page."""

    rows: list[Row]
    last: Key | None


@dataclass(frozen=True, slots=True)
class LatestPage:
    """Rows, the latest first; `last` is the time and key that the next page begins behind, None on the last page."""

    rows: list[Row]
    last: tuple[int, str] | None


class StateSnapshot:
    """The requested tables of one revision."""

    def __init__(self, revision: Revision, tables: Mapping[str, TableRows]) -> None:
        self.revision = revision
        self._tables = dict(tables)

    def __getitem__(self, name: str) -> TableRows:
        """Return a requested table; raises `KeyError` for another."""
        return self._tables[name]


def nothing(names: Iterable[str]) -> dict[str, TableRows]:
    """Return tables without rows."""
    return {name: TableRows(TABLES[name], []) for name in names}
