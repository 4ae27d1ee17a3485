"""A table of the fold whose rows stay in files until an event touches them (docs/protocol.md#cost).

Memory has only the positions of rows: a hash of each row's address (its key, or its run, for the tables
whose rows are grouped by run) and its place. The hashes alone show that no file has an address.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from springline.projection.layers import AnyLayer, Layer, Over, addresses_of, live_rows, merged
from springline.projection.parquet import rows_of
from springline.projection.schema import (
    CATALOG_RUN_INDEX,
    DEP_SATISFACTION,
    RUNS,
    TASKS,
    Key,
    Row,
    Table,
)

V = TypeVar("V", bound=tuple[Any, ...])

_LAYER_BITS: Final = 40
"""A place is the number of a layer, followed in so many bits by the place of a row in it."""
_PLACE_MASK: Final = (1 << _LAYER_BITS) - 1
_BY_RUN: Final = frozenset({RUNS.name, TASKS.name, CATALOG_RUN_INDEX.name, DEP_SATISFACTION.name})

Progress = Callable[[int], None]
"""Called with the number of rows indexed since the last call."""


def address_columns(table: Table) -> tuple[str, ...]:
    """Return the columns of a table's addresses: the run if rows are grouped by run, else the key."""
    return ("run_id",) if table.name in _BY_RUN else table.key


class StoredRows:
    """The merged rows of layers, oldest first, found by their addresses."""

    def __init__(self, table: Table, layers: Sequence[AnyLayer], progress: Progress | None = None) -> None:
        self.table = table
        self.of = address_columns(table)
        self.read = 0
        """How many rows were returned one by one."""
        self._layers = [layer for layer in layers if len(layer)]
        self._in_key = tuple(table.key.index(name) for name in self.of)
        self._whole_key = self.of == table.key
        hashes, places = array("q"), array("q")
        for number, layer in enumerate(self._layers):
            for place, address in self._addresses(layer, progress):
                hashes.append(hash(address))
                places.append(number << _LAYER_BITS | place)
        self._hashes, self._places = _in_order(hashes, places)
        self._live: int | None = None

    def __len__(self) -> int:
        """Return how many rows there are."""
        if self._live is None:
            self._live = live_rows(self.table, self._layers)
        return self._live

    def __contains__(self, address: Key) -> bool:
        """Say whether there are rows with an address."""
        return bool(self.rows_at(address, count=False))

    def find(self, key: Key) -> Row | None:
        """Return the row with a key, or None. Raises `DamagedTable`."""
        for row in self.rows_at(key if self._whole_key else self._address_of(key), count=False):
            if self.table.key_of(row) == key:
                return row
        return None

    def rows_at(self, address: Key, *, count: bool = True) -> list[Row]:
        """Return the rows with an address, in order of keys. Raises `DamagedTable`."""
        found = self._at(address, lambda layer, start, stop: layer.rows(start, stop), self.table.key_of)
        if count:
            self.read += len(found)
        return found

    def values_at(self, address: Key, columns: tuple[str, ...]) -> list[tuple[Any, ...]]:
        """Return the stored values of the key's columns and of `columns`, for the rows with an address."""
        wanted, key = (*self.table.key, *columns), len(self.table.key)
        return self._at(
            address,
            lambda layer, start, stop: layer.values(start, stop, wanted),
            lambda values: values[0] if key == 1 else values[:key],
        )

    def _at(self, address: Key, read: Callable[[Layer, int, int], list[V]], key_of: Callable[[V], Key]) -> list[V]:
        wanted = hash(address)
        hashes = self._hashes
        at = bisect_left(hashes, wanted)
        end = len(hashes)
        if at == end or hashes[at] != wanted:
            return []
        found: dict[Key, V] = {}
        while at < end and hashes[at] == wanted:
            number, place = self._places[at] >> _LAYER_BITS, self._places[at] & _PLACE_MASK
            layer = self._layers[number]
            stop = self._end_of(layer, place, address)
            if isinstance(layer, Layer):
                found |= {key_of(row): row for row in read(layer, place, stop)}
            else:
                for key in layer.keys(place, stop):
                    found.pop(key, None)
            at += 1
        return [found[key] for key in sorted(found)] if len(found) > 1 else list(found.values())

    def rows(self, over: Over | None = None) -> Iterator[Row]:
        """Yield all rows in order of keys, with those of `over` in the places of rows that they hide."""
        for piece in self.pieces(over):
            yield from rows_of(self.table, piece)

    def pieces(self, over: Over | None = None) -> Iterator[pa.Table]:
        """As `rows`, as Arrow tables."""
        return merged(self.table, self._layers, over=over, stored=True)

    def column_values(self, columns: tuple[str, ...]) -> Iterator[tuple[int, pa.Table]]:
        """Yield some columns of all files, also of rows that newer layers hide, with the place of the first row."""
        for number, layer in enumerate(self._layers):
            if isinstance(layer, Layer):
                for group in range(layer.groups):
                    yield number << _LAYER_BITS | layer.group_start(group), layer.once(group, columns)

    def key_at(self, place: int) -> Key:
        """Return the key of the row at a place from `column_values`."""
        at = place & _PLACE_MASK
        return self._layers[place >> _LAYER_BITS].keys(at, at + 1)[0]

    def _address_of(self, key: Key) -> Key:
        if len(self._in_key) == 1:
            return key[self._in_key[0]] if isinstance(key, tuple) else key
        assert isinstance(key, tuple)
        return tuple(key[place] for place in self._in_key)

    def _addresses(self, layer: AnyLayer, progress: Progress | None) -> Iterator[tuple[int, Key]]:
        """Yield every address of a layer with the place of the first row that has it."""
        if not isinstance(layer, Layer):
            for place, key in enumerate(layer.keys(0, len(layer))):
                yield place, self._address_of(key)
            return
        last: Key | None = None
        for group in range(layer.groups):
            start, content = layer.group_start(group), layer.once(group, self.of)
            for place, address in enumerate(addresses_of(self.of, content), start):
                if address != last:
                    yield place, address
                    last = address
            if progress is not None:
                progress(len(content))

    def _end_of(self, layer: AnyLayer, place: int, address: Key) -> int:
        """Return the place behind the last row from `place` on that has an address; `place` if it has another."""
        end = place
        if not isinstance(layer, Layer):
            while end < len(layer) and self._address_of(layer.keys(end, end + 1)[0]) == address:
                end += 1
            return min(end, place + 1)
        while end < len(layer):
            group = layer.group_at(end)
            first, behind = layer.group_start(group), layer.group_start(group + 1)
            content, step = layer.group(group, self.of), 1 if self._whole_key else 16
            while end < behind:
                some = addresses_of(self.of, content.slice(end - first, step))
                same = next((number for number, one in enumerate(some) if one != address), len(some))
                end += same
                if same < len(some) or self._whole_key:
                    return end
                step *= 4
        return end


def _in_order(hashes: array[int], places: array[int]) -> tuple[Sequence[int], Sequence[int]]:
    """Return hashes in ascending order, with their places; equal ones stay in the order they came in."""
    if not hashes:
        return (), ()
    plain = pa.Array.from_buffers(pa.int64(), len(hashes), [None, pa.py_buffer(hashes)])
    order = pc.array_sort_indices(plain)
    others = pa.Array.from_buffers(pa.int64(), len(places), [None, pa.py_buffer(places)])
    return _numbers(plain.take(order)), _numbers(others.take(order))


def _numbers(numbers: pa.Int64Array) -> memoryview[int]:
    return memoryview(numbers.buffers()[1]).cast("B").cast("q")[: len(numbers)]


class StoredAges:
    """Yields the rows of a stored table with times before an instant, oldest first, each once."""

    def __init__(self, stored: StoredRows, column: str) -> None:
        times, places = array("q"), array("q")
        for place, content in stored.column_values((column,)):
            values = content.column(column).to_pylist()
            times.extend(values)
            places.extend(range(place, place + len(values)))
        self._stored = stored
        self._times, self._places = _in_order(times, places)
        self._at = 0

    def take_before(self, limit_ms: int) -> Iterator[Key]:
        """Yield the keys of rows whose stored time lies before an instant, in epoch milliseconds."""
        while self._at < len(self._times) and self._times[self._at] < limit_ms:
            place = self._places[self._at]
            self._at += 1
            yield self._stored.key_at(place)


class StoredGroups:
    """The keys of a stored table's rows by the value of one more column; built on first use."""

    def __init__(self, stored: StoredRows, column: str) -> None:
        self._stored = stored
        self._column = column
        self._index: tuple[Sequence[int], Sequence[int]] | None = None

    def keys(self, group: str) -> list[Key]:
        """Return the keys of all rows that have or had this value; the caller checks the rows themselves."""
        if self._index is None:
            hashes, places = array("q"), array("q")
            for place, content in self._stored.column_values((self._column,)):
                for at, value in enumerate(content.column(self._column).to_pylist(), place):
                    if value is not None:
                        hashes.append(hash(value))
                        places.append(at)
            self._index = _in_order(hashes, places)
        known, places_of = self._index
        wanted, found = hash(group), []
        at = bisect_left(known, wanted)
        while at < len(known) and known[at] == wanted:
            found.append(self._stored.key_at(places_of[at]))
            at += 1
        return found
