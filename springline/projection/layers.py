"""Rows in files, in layers: a base's file and those of the deltas since.

See docs/protocol.md#cost.

A layer is a file of rows sorted by key, or a delta's deletions. Files stay as their bytes; row groups are decoded when
a reader needs a row of them, and evicted when others were used since. Of rows with the same key the newest
layer's wins. Only our own files are read like this: the reference's deltas have other rules.
"""

from __future__ import annotations

import itertools
import threading
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby
from typing import Any, Final, TypeVar, cast

import pyarrow as pa

from springline.projection.parquet import (
    GROUP_ROWS,
    DamagedTable,
    TableReader,
    arrays_of,
    arrow_columns,
    encode_pieces,
    rows_among,
    rows_at,
    rows_of,
    stored_content,
    values_of,
)
from springline.projection.schema import Key, Row, Table

T = TypeVar("T")

MAX_GROUP_ROWS: Final = 4 * GROUP_ROWS
"""A file with larger row groups, as older versions wrote them, is cut into smaller ones before it is used."""
CACHE_BYTES: Final = 192 * 1024 * 1024
_KEY_BYTES: Final = 90
"""What a text of a key takes in memory, about."""
SOME_ROWS: Final = 64
"""Up to this many rows are decoded value by value; more, column by column."""
SINGLY: Final = 3
"""Up to this many rows that lie apart in a row group are decoded one by one; more, column by column."""
FEW_ROWS: Final = 20_000
"""Up to this many keys are looked up one by one in a large layer; more are counted by one pass over all of it."""


class GroupCache:
    """Decoded row groups of all layers of a process; beyond `max_bytes` the least recently used are evicted."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._held: OrderedDict[tuple[Any, ...], tuple[Any, int]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, name: tuple[Any, ...], decode: Callable[[], T]) -> T:
        """Return the cached value of `name`, else that of `decode`. Safe for several threads at once."""
        with self._lock:
            found = self._held.get(name)
            if found is not None:
                self._held.move_to_end(name)
                return cast("T", found[0])
        content = decode()
        parts: Any = content if isinstance(content, list) else [content]
        size = sum(part.get_total_buffer_size() for part in parts if part is not None)
        with self._lock:
            if name not in self._held:
                self._held[name] = (content, size)
                self._bytes += size
            while self._bytes > self._max_bytes and len(self._held) > 1:
                _, (_, gone) = self._held.popitem(last=False)
                self._bytes -= gone
        return content


class GroupKeys:
    """The keys of a row group, in order."""

    def __init__(self, keys: list[Key]) -> None:
        self.keys = keys

    def get_total_buffer_size(self) -> int:
        """Return the bytes that they take, about."""
        return sum(_KEY_BYTES * (1 if isinstance(key, str) else 1 + len(key)) for key in self.keys)


_CACHE: Final = GroupCache(CACHE_BYTES)
_serials = itertools.count()


class Layer:
    """A file of rows sorted by key. Errors about it name `path`."""

    def __init__(self, table: Table, data: bytes, path: str = "") -> None:
        reader = TableReader(table, data)
        if max(reader.group_rows, default=0) > MAX_GROUP_ROWS:
            reader = TableReader(
                table, encode_pieces(table, (stored_content(table, one) for one in reader.pieces(GROUP_ROWS)))
            )
        self.table = table
        self.path = path
        self._reader = reader
        self._starts: list[int] = [0, *itertools.accumulate(reader.group_rows)]
        self._first_keys: dict[int, Key] = {}
        self._serial = next(_serials)

    def __len__(self) -> int:
        """Return the number of rows."""
        return self._starts[-1]

    @property
    def size(self) -> int:
        """Bytes that are held."""
        return self._reader.size

    @property
    def buffer(self) -> pa.Buffer:
        """The bytes of the file."""
        return self._reader.buffer

    @property
    def groups(self) -> int:
        """Number of row groups."""
        return len(self._starts) - 1

    def group_at(self, place: int) -> int:
        """Return the row group that the row at `place` is in."""
        return bisect_right(self._starts, place) - 1

    def group_start(self, group: int) -> int:
        """Return the place of the first row of a row group; of the group behind the last one, the number of rows."""
        return self._starts[group]

    def group(self, group: int, columns: tuple[str, ...] | None = None) -> pa.Table:
        """Return a row group, of all columns or of some. Raises `DamagedTable`."""
        name = (self._serial, group, columns)
        return _CACHE.get(name, lambda: self._named(lambda: self._reader.read([group], columns)))

    def once(self, group: int, columns: tuple[str, ...]) -> pa.Table:
        """As `group`, without the cache, for one pass over all groups. Raises `DamagedTable`."""
        return self._named(lambda: self._reader.read([group], columns))

    def content(self, start: int, stop: int, columns: tuple[str, ...] | None = None) -> pa.Table:
        """Return the rows from place `start` to before `stop`, at least one. Raises `DamagedTable`."""
        pieces = []
        while start < stop:
            group = self.group_at(start)
            first, end = self._starts[group], min(stop, self._starts[group + 1])
            pieces.append(self.group(group, columns).slice(start - first, end - start))
            start = end
        return pieces[0] if len(pieces) == 1 else pa.concat_tables([_plain(piece) for piece in pieces])

    def stored(self, start: int, stop: int) -> pa.Table:
        """As `content`, all columns in today's schema, without the cache. Raises `DamagedTable`."""
        group = self.group_at(start)
        whole = [group] if stop <= self._starts[group + 1] else list(range(group, self.group_at(stop - 1) + 1))
        content = self._named(lambda: self._reader.read(whole, plain=True))
        return stored_content(self.table, content.slice(start - self._starts[group], stop - start))

    def rows(self, start: int, stop: int) -> list[Row]:
        """Return the rows from place `start` to before `stop`. Raises `DamagedTable`."""
        if start >= stop:
            return []
        group = self.group_at(start)
        first = self._starts[group]
        if stop - start > SOME_ROWS or stop > self._starts[group + 1]:
            return self._named(lambda: rows_of(self.table, self.content(start, stop)))
        arrays = self._arrays(group)
        return self._named(lambda: rows_among(self.table, arrays, start - first, stop - first))

    def rows_at(self, places: Sequence[int]) -> list[Row]:
        """Return the rows at some places, which ascend: a column is decoded once for each row group."""
        rows: list[Row] = []
        for group, some in groupby(places, self.group_at):
            wanted = list(some)
            if len(wanted) <= SINGLY:
                rows += [row for place in wanted for row in self.rows(place, place + 1)]
                continue
            first = self._starts[group]
            arrays = self._arrays(group)
            rows += self._named(partial(rows_at, self.table, arrays, [place - first for place in wanted]))
        return rows

    def _arrays(self, group: int) -> list[pa.Array | None]:
        return _CACHE.get(
            (self._serial, group, "arrays"),
            lambda: self._named(lambda: arrays_of(self.table, self._reader.read([group]))),
        )

    def values(self, start: int, stop: int, columns: tuple[str, ...]) -> list[tuple[Any, ...]]:
        """Return the values of some columns, as they are stored, of the rows from place `start` to before `stop`."""
        if start >= stop:
            return []
        content = self.content(start, stop, columns)
        return list(zip(*(content.column(name).to_pylist() for name in columns), strict=True))

    def keys(self, start: int, stop: int) -> list[Key]:
        """Return the keys of the rows from place `start` to before `stop`. Raises `DamagedTable`."""
        return keys_of(self.table, self.content(start, stop, self.table.key)) if start < stop else []

    def position(self, key: Key) -> int:
        """Return the place of the first row whose key is `key` or above it; the number of rows if none is."""
        group = bisect_right(range(self.groups), key, key=self._first_key) - 1
        if group < 0:
            return 0
        return self._starts[group] + bisect_left(self._group_keys(group), key)

    def find(self, key: Key) -> int | None:
        """Return the place of the row with `key`, None if there is none."""
        group = bisect_right(range(self.groups), key, key=self._first_key) - 1
        if group < 0:
            return None
        keys = self._group_keys(group)
        place = bisect_left(keys, key)
        return self._starts[group] + place if place < len(keys) and keys[place] == key else None

    def find_all(self, keys: Sequence[Key]) -> dict[Key, int]:
        """Return the places of the rows with `keys`, which ascend, of those that there are."""
        found: dict[Key, int] = {}
        at = 0
        while at < len(keys):
            group = bisect_right(range(self.groups), keys[at], key=self._first_key) - 1
            behind = self._first_key(group + 1) if group + 1 < self.groups else None
            end = len(keys) if behind is None else bisect_left(keys, behind, at)
            if group >= 0:
                _find_among(self._group_keys(group), keys[at:end], self._starts[group], found)
            at = end
        return found

    def _group_keys(self, group: int) -> list[Key]:
        """Return the keys of a row group, decoded once: a look-up compares about twelve of them."""
        name = (self._serial, group, "keys")
        return _CACHE.get(name, lambda: GroupKeys(keys_of(self.table, self.group(group, self.table.key)))).keys

    def _first_key(self, group: int) -> Key:
        key = self._first_keys.get(group)
        if key is None:
            key = self._first_keys[group] = keys_of(self.table, self.group(group, self.table.key).slice(0, 1))[0]
        return key

    def first_key(self, group: int) -> Key:
        """Return the key of the first row of a row group."""
        return self._first_key(group)

    def _named(self, work: Callable[[], T]) -> T:
        try:
            return work()
        except DamagedTable as error:
            raise DamagedTable(error.table, error.column, error.why, self.path) from error


@dataclass(frozen=True, slots=True)
class Deletions:
    """Keys of deleted rows, in order."""

    table: Table
    ordered: list[Key]

    def __len__(self) -> int:
        """Return the number of keys."""
        return len(self.ordered)

    @property
    def size(self) -> int:
        """Bytes that are held, about."""
        return 150 * len(self.ordered)

    def keys(self, start: int, stop: int) -> list[Key]:
        """Return the keys from place `start` to before `stop`."""
        return self.ordered[start:stop]

    def position(self, key: Key) -> int:
        """Return the place of the first key that is `key` or above it."""
        return bisect_left(self.ordered, key)

    def find_all(self, keys: Sequence[Key]) -> dict[Key, int]:
        """Return the places of `keys`, which ascend, of those that are among them."""
        found: dict[Key, int] = {}
        _find_among(self.ordered, keys, 0, found)
        return found

    def find(self, key: Key) -> int | None:
        """Return the place of `key`, None if it is not among them."""
        place = self.position(key)
        return place if place < len(self.ordered) and self.ordered[place] == key else None


AnyLayer = Layer | Deletions


def _find_among(ordered: list[Key], keys: Sequence[Key], start: int, found: dict[Key, int]) -> None:
    """Add to `found` the places of `keys`, which ascend, in `ordered`, whose first one has the place `start`."""
    place = 0
    for key in keys:
        place = bisect_left(ordered, key, place)
        if place == len(ordered):
            return
        if ordered[place] == key:
            found[key] = start + place


@dataclass(frozen=True, slots=True)
class Over:
    """Rows in memory over all layers: `rows` in order of keys, and the addresses of rows that they hide.

    A row of the layers is hidden if its `address` (values of the columns `of`, a text if it is one) is in one of
    `hidden`.
    """

    rows: list[Row]
    of: tuple[str, ...]
    hidden: Sequence[Container[Any]] = ()
    keys: list[Key] = field(default_factory=list)


def keys_of(table: Table, content: pa.Table) -> list[Key]:
    """Return the keys of an Arrow table's rows."""
    return addresses_of(table.key, content)


def addresses_of(columns: Sequence[str], content: pa.Table) -> list[Key]:
    """Return the values of some columns of text for each row: texts for one column, else tuples."""
    values = [
        cast("list[str]", [one for chunk in content.column(name).chunks for one in values_of(chunk)])
        for name in columns
    ]
    return cast("list[Key]", values[0] if len(values) == 1 else list(zip(*values, strict=True)))


def merged(
    table: Table,
    layers: Sequence[AnyLayer],
    *,
    columns: tuple[str, ...] | None = None,
    start: Key | None = None,
    before: Key | None = None,
    over: Over | None = None,
    stored: bool = False,
) -> Iterator[pa.Table]:
    """Merge layers, oldest first, and yield the rows in order of keys, a piece at a time.

    Args:
        table: of all layers.
        layers: the layers.
        columns: the columns to be read, those of the key among them; None for all.
        start: the least wanted key, `before`: the least key behind the wanted ones.
        over: rows over all layers.
        stored: whether all columns are wanted in today's schema, with plain texts, and without the cache.
    """
    files = [layer for layer in layers if isinstance(layer, Layer) and len(layer)]
    spine = max(files, key=len, default=None)
    at = [0 if start is None else layer.position(start) for layer in layers]
    ends = [len(layer) if before is None else layer.position(before) for layer in layers]
    above = over if over is not None and (over.rows or any(over.hidden)) else None
    above_at = 0
    while True:
        bound: Key | None = None
        if spine is not None:
            place = next(number for number, layer in enumerate(layers) if layer is spine)
            if at[place] < ends[place]:
                following = spine.group_at(at[place]) + 1
                if following < spine.groups and spine.group_start(following) < ends[place]:
                    bound = spine.first_key(following)
        stops = [
            end
            if bound is None
            else min(end, layer.position(bound))
            if layer is not spine
            else spine.group_start(following)
            for layer, end in zip(layers, ends, strict=True)
        ]
        pieces = [(layer, a, b) for layer, a, b in zip(layers, at, stops, strict=True) if a < b]
        above_stop = above_at
        if above is not None:
            above_stop = len(above.rows) if bound is None else bisect_left(above.keys, bound)
        if above is None and len(pieces) == 1 and isinstance(only := pieces[0][0], Layer):
            _, a, b = pieces[0]
            yield only.stored(a, b) if stored else only.content(a, b, columns)
        elif pieces or above_at < above_stop:
            rows = [] if above is None else above.rows[above_at:above_stop]
            content = _laid(table, pieces, rows, above, columns, stored)
            if len(content):
                yield content
        if bound is None:
            return
        at, above_at = stops, above_stop


def _laid(
    table: Table,
    pieces: Sequence[tuple[AnyLayer, int, int]],
    rows: Sequence[Row],
    above: Over | None,
    columns: tuple[str, ...] | None,
    stored: bool,
) -> pa.Table:
    """Return the rows of one range of keys."""
    contents: list[pa.Table] = []
    keys: list[Key] = []
    seen: set[Key] = set()
    if rows:
        content = arrow_columns(table, rows)
        contents.append(content if columns is None else content.select(columns))
        keys += map(table.key_of, rows)
    for layer, start, stop in reversed(pieces):
        if isinstance(layer, Deletions):
            seen.update(layer.keys(start, stop))
            continue
        content = layer.stored(start, stop) if stored else layer.content(start, stop, columns)
        its_keys = keys_of(table, content)
        wanted = [key not in seen for key in its_keys]
        if above is not None:
            addresses = its_keys if above.of == table.key else addresses_of(above.of, content)
            for hidden in above.hidden:
                wanted = [want and address not in hidden for want, address in zip(wanted, addresses, strict=True)]
        seen.update(its_keys)
        if not all(wanted):
            content = content.filter(pa.array(wanted, pa.bool_()))
            its_keys = [key for key, want in zip(its_keys, wanted, strict=True) if want]
        contents.append(content)
        keys += its_keys
    if not contents:
        return pa.table({})
    if len(contents) == 1:
        return contents[0]
    order = sorted(range(len(keys)), key=keys.__getitem__)
    whole = pa.concat_tables([_plain(content) for content in contents], promote_options="default")
    return whole.take(pa.array(order, pa.int64()))


def _plain(content: pa.Table) -> pa.Table:
    """Return an Arrow table with plain texts, because dictionaries of different files cannot be joined."""
    for place, kind in enumerate(content.schema):
        if pa.types.is_dictionary(kind.type):
            content = content.set_column(place, kind.name, content.column(place).cast(kind.type.value_type))
    return content.replace_schema_metadata(None)


def live_keys(layers: Sequence[AnyLayer], keys: Sequence[Key]) -> set[Key]:
    """Return those of `keys`, which ascend, that have a row after merging layers, oldest first."""
    live: set[Key] = set()
    for layer in reversed(layers):
        places = layer.find_all(keys)
        if places:
            live.update(places if isinstance(layer, Layer) else ())
            keys = [key for key in keys if key not in places]
        if not keys:
            break
    return live


def live_rows(table: Table, layers: Sequence[AnyLayer]) -> int:
    """Return the number of rows after merging layers, oldest first."""
    layers = [layer for layer in layers if len(layer)]
    files = [layer for layer in layers if isinstance(layer, Layer)]
    if not files:
        return 0
    spine = max(files, key=len)
    if len(layers) == 1:
        return len(spine)
    if sum(map(len, layers)) - len(spine) > FEW_ROWS:
        return sum(map(len, merged(table, layers, columns=table.key)))
    place = next(number for number, layer in enumerate(layers) if layer is spine)
    newest: dict[Key, tuple[int, bool]] = {}
    for number, layer in enumerate(layers):
        if layer is not spine:
            newest |= dict.fromkeys(layer.keys(0, len(layer)), (number, isinstance(layer, Layer)))
    count = len(spine)
    ordered = sorted(newest)
    places = spine.find_all(ordered)
    for key in ordered:
        number, is_row = newest[key]
        if key not in places:
            count += is_row
        elif number > place:
            count -= not is_row
    return count
