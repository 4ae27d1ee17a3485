"""The identity of a write: a fingerprint of the caller's rows, in their order, computed while they stream by.

It is a function of the rows alone: of the names of the columns, of the kinds of their values and of the values,
row by row. It does not depend on the layout: batches and chunks, offsets, dictionaries and views, 32 or 64
bits, seconds or nanoseconds, bytes under a null, the order of the columns, a column that has only nulls.

Each column, and each level of a nested one, has a hash of its own over three things: the positions of its nulls, the
lengths of its lists and texts, and its values. The fingerprint is the hash over all of these, by path.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from springline.client.plain import element, entry, parts

_VERSION = b"springline rows 1\n"
_SEPARATOR = b"\0"


class Fingerprint:
    """The fingerprint of rows given batch by batch, as plain columns (`springline.client.plain`)."""

    def __init__(self) -> None:
        self._levels: dict[str, _Level] = {}
        self._rows = 0

    @property
    def rows(self) -> int:
        """Return how many rows were given."""
        return self._rows

    def add(self, names: Sequence[str], columns: Sequence[pa.Array], rows: int) -> None:
        """Add the next `rows` rows; a column that is not given counts as nulls."""
        for name, column in zip(names, columns, strict=True):
            self.level(_quoted(name), None).add(column, self, _quoted(name), self._rows)
        self._rows += rows

    def digest(self) -> str:
        """Return the fingerprint of all rows so far, 64 hex digits."""
        whole = hashlib.sha256(_VERSION)
        whole.update(b"%d\n" % self._rows)
        for path in sorted(self._levels):
            level = self._levels[path]
            if level.values:
                slots = self._rows if level.lists is None else level.lists.elements
                whole.update(path.encode("utf-8", "surrogatepass") + _SEPARATOR)
                whole.update(level.digest(slots))
        return whole.hexdigest()

    def level(self, path: str, lists: _Level | None) -> _Level:
        """Return the level at `path`; `lists`: the nearest level above whose elements it holds, None for rows."""
        found = self._levels.get(path)
        if found is None:
            found = self._levels[path] = _Level(lists)
        return found


class _Level:
    """One column, or one level of a nested one; `lists`: the level whose lists' elements it has, if any."""

    def __init__(self, lists: _Level | None) -> None:
        self.lists = lists
        self.values = 0
        self.elements = 0
        self._seen = 0
        self._nulls = hashlib.sha256()
        self._lengths = hashlib.sha256()
        self._kinds: dict[str, Any] = {}

    def add(self, array: pa.Array, whole: Fingerprint, path: str, start: int) -> None:
        """Add the values of slots from `start` on."""
        if self._seen < start:
            self._absent(start)
        self._seen = start + len(array)
        if array.null_count:
            self._update(self._nulls, np.flatnonzero(array.is_null().to_numpy(zero_copy_only=False)) + start)
        present = len(array) - array.null_count
        if present == 0:
            return
        self.values += present
        kind = array.type
        if pa.types.is_struct(kind):
            self._kind("struct")
            for child, name in zip(array.flatten(), (kind.field(i).name for i in range(kind.num_fields)), strict=True):
                inner = f"{path}.{_quoted(name)}"
                whole.level(inner, self.lists).add(child, whole, inner, start)
        elif pa.types.is_map(kind) or pa.types.is_list(kind):
            self._add_lists(array, whole, path)
        else:
            self._add_leaf(array.drop_null() if array.null_count else array)

    def digest(self, slots: int) -> bytes:
        """Return the hash of this level, which has `slots` slots in all."""
        if self._seen < slots:
            self._absent(slots)
        both = hashlib.sha256(self._nulls.digest() + self._lengths.digest())
        for name in sorted(self._kinds):
            both.update(name.encode() + _SEPARATOR + self._kinds[name].digest())
        return both.digest()

    def _absent(self, until: int) -> None:
        self._update(self._nulls, np.arange(self._seen, until))
        self._seen = until

    def _add_lists(self, array: pa.Array, whole: Fingerprint, path: str) -> None:
        is_map = pa.types.is_map(array.type)
        self._kind("map" if is_map else "list")
        offsets, values = parts(array)
        lengths = np.diff(offsets.to_numpy())
        if array.null_count:
            lengths = lengths[array.is_valid().to_numpy(zero_copy_only=False)]
        self._update(self._lengths, lengths)
        start = self.elements
        self.elements += len(values)
        if is_map:
            for index, part in enumerate(("key", "value")):
                inner = element(path) + entry("", part)
                whole.level(inner, self).add(values.field(index), whole, inner, start)
        else:
            whole.level(element(path), self).add(values, whole, element(path), start)

    def _add_leaf(self, array: pa.Array) -> None:
        """Add the values of a leaf without nulls, in the widest form of their kind."""
        types, kind = pa.types, array.type
        if types.is_string(kind) or types.is_binary(kind):
            offsets = _buffer(array, 1, np.int32, len(array) + 1)
            self._update(self._lengths, np.diff(offsets))
            data, texts = array.buffers()[2], self._kind("string" if types.is_string(kind) else "binary")
            if data is not None:
                texts.update(memoryview(data)[int(offsets[0]) : int(offsets[-1])])
        elif types.is_boolean(kind):
            self._kind("boolean").update(array.cast(pa.uint8()).to_numpy())
        elif types.is_floating(kind):
            values = _buffer(array, 1, np.float32 if types.is_float32(kind) else np.float64, len(array))
            values = values.astype(np.float64, copy=False)
            if np.isnan(values).any():  # All NaN count as one value, with any bits.
                values = np.where(np.isnan(values), np.nan, values)
            self._update(self._kind("float"), values)
        elif types.is_decimal(kind):
            self._add_decimals(array)
        elif types.is_date(kind):
            self._update(self._kind("date"), array.cast(pa.date32(), safe=False).view(pa.int32()).to_numpy())
            if types.is_date64(kind):
                within = array.view(pa.int64()).to_numpy() % 86_400_000
                if within.any():
                    self._update(self._kind("date.time"), within)
        elif types.is_timestamp(kind):
            self._add_timestamps(array)
        elif types.is_uint64(kind) and pc.max(array).as_py() >= 2**63:
            self._update(self._kind("integer.unsigned"), _buffer(array, 1, np.uint64, len(array)))
        else:
            self._update(self._kind("integer"), array.cast(pa.int64()).to_numpy())

    def _add_timestamps(self, array: pa.Array) -> None:
        kind = array.type
        name = "timestamp" if kind.tz is not None else "timestamp.local"
        per_second = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}[kind.unit]
        values = array.view(pa.int64()).to_numpy()
        seconds = values // per_second
        self._update(self._kind(name), seconds)
        self._update(self._kind(f"{name}.ns"), ((values - seconds * per_second) * (1_000_000_000 // per_second)))

    def _add_decimals(self, array: pa.Array) -> None:
        """Add decimals without trailing zeros: 1.50 is 1.5."""
        wide = array.cast(pa.decimal256(76, 38))
        self._update(self._kind("decimal"), _buffer(wide, 1, np.int64, 4 * len(array), width=4))

    def _kind(self, name: str) -> Any:
        return self._kinds.setdefault(name, hashlib.sha256())

    @staticmethod
    def _update(digest: Any, values: np.ndarray[Any, Any]) -> None:
        kind = np.dtype(np.float64 if values.dtype.kind == "f" else np.uint64 if values.dtype.kind == "u" else np.int64)
        digest.update(np.ascontiguousarray(values, dtype=kind.newbyteorder("<")))


def _buffer(array: pa.Array, index: int, dtype: Any, count: int, *, width: int = 1) -> np.ndarray[Any, Any]:
    """Return a buffer's values from the array's offset on, without copying; `width`: numbers per slot."""
    data = array.buffers()[index]
    if data is None or count == 0:
        return np.zeros(count, dtype)
    return np.frombuffer(data, dtype=dtype, count=count, offset=array.offset * width * np.dtype(dtype).itemsize)


def _quoted(name: str) -> str:
    """Return a name as an unambiguous part of a path, with any characters."""
    return repr(name)


def combined(parts_: Iterable[str]) -> str:
    """Return one fingerprint of several texts, in order: the rows' fingerprint and the rest of a request."""
    whole = hashlib.sha256()
    for part in parts_:
        data = part.encode("utf-8", "surrogatepass")
        whole.update(b"%d:" % len(data) + data)
    return whole.hexdigest()
