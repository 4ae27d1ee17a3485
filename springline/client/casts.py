"""The caller's rows in the table's types: a value is kept or refused, never changed silently.

These do not count as a change: another width that holds the value, another unit or zone of the same instant, the
nearest `float` or `double` of a float, or of a decimal that casts back to itself, another form of NaN.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable

import pyarrow as pa
import pyarrow.compute as pc

from springline.client.plain import bad_column, check_names, element, entry, parts, plain_type, struct_of
from springline.errors import Refused

Cast = Callable[[pa.Array], pa.Array]

_EPOCH = datetime.date(1970, 1, 1)
_FIRST_DAY = (datetime.date(1, 1, 1) - _EPOCH).days
_LAST_DAY = (datetime.date(9999, 12, 31) - _EPOCH).days
_DAY_US = 86_400_000_000
_FIRST_US = _FIRST_DAY * _DAY_US
_LAST_US = (_LAST_DAY + 1) * _DAY_US - 1
_SHOWN = 100


class Conversion:
    """Converts batches of one schema to the table's schema. Made once, used for every batch.

    `target`: the table's Arrow schema. Raises `Refused`, naming column and types, for columns that the table does not
    have or that cannot be its type; a missing column becomes nulls if it may.
    """

    def __init__(self, source: pa.Schema, target: pa.Schema) -> None:
        check_names(source)
        unknown = [name for name in source.names if name not in target.names]
        if unknown:
            raise _unknown(unknown[0], target.names, "table")
        self._target = target
        self._columns: list[tuple[int | None, Cast | None]] = []
        for field in target:
            index = source.get_field_index(field.name)
            if index < 0:
                self._columns.append((None, None))
                continue
            self._columns.append((index, _cast(plain_type(source.field(index).type, field.name), field, field.name)))

    def apply(self, columns: list[pa.Array], rows: int) -> list[pa.Array]:
        """Return the table's columns, in its order; raises `Refused` for the first value that would change."""
        done = []
        for field, (index, cast) in zip(self._target, self._columns, strict=True):
            if cast is None or index is None:
                if not field.nullable and rows:
                    raise bad_column(field.name, "is missing and may not be null", None, "Add the column.")
                done.append(pa.nulls(rows, field.type))
            else:
                done.append(cast(columns[index]))
        return done


def _cast(source: pa.DataType, field: pa.Field, path: str) -> Cast:
    """Return the cast of plain `source` to the type of `field`, with a check for nulls if the field allows none."""
    inner = _cast_type(source, field.type, path)
    if field.nullable:
        return inner

    def checked(array: pa.Array) -> pa.Array:
        if array.null_count:
            index = pc.index(array.is_null(), True).as_py()
            told = f"holds {array.null_count} nulls and may hold none, the first of them as value {index}"
            raise bad_column(path, told, None, "Fill or drop them.")
        return inner(array)

    return checked


def _cast_type(source: pa.DataType, target: pa.DataType, path: str) -> Cast:
    types = pa.types
    if types.is_null(source):
        return lambda array: pa.nulls(len(array), target)
    if types.is_struct(target) and types.is_struct(source):
        return _struct(source, target, path)
    if types.is_map(target):
        if types.is_map(source):
            return _map(source.key_type, source.item_type, target, path)
        if types.is_list(source) and _is_entry(source.value_type):
            pair = source.value_type
            return _map(pair.field("key").type, pair.field("value").type, target, path)
    elif types.is_list(target) and types.is_list(source):
        inner = _cast(source.value_type, target.value_field, element(path))
        return lambda array: _list(array, target, inner)
    elif not types.is_nested(target) and not types.is_nested(source):
        leaf = _leaf(source, target, path)
        if leaf is not None:
            return leaf
    raise bad_column(path, f"is of type {source}, and the table's is {target}", str(source), f"Cast it to {target}.")


def _is_entry(kind: pa.DataType) -> bool:
    """Say whether a list's elements are a map's entries, the form that libraries without maps use."""
    return bool(pa.types.is_struct(kind)) and {kind.field(i).name for i in range(kind.num_fields)} == {"key", "value"}


def _struct(source: pa.DataType, target: pa.DataType, path: str) -> Cast:
    wanted = list(target)
    names = [source.field(index).name for index in range(source.num_fields)]
    for name in names:
        if name not in {field.name for field in wanted}:
            raise _unknown(f"{path}.{name}", [field.name for field in wanted], f"struct {path!r}")
    if not names:
        raise bad_column(path, "is a struct without fields", str(source), "Give it the fields it has in the table.")
    casts = [
        _cast(source.field(one.name).type, one, f"{path}.{one.name}") if one.name in names else None for one in wanted
    ]

    def cast(array: pa.Array) -> pa.Array:
        given = dict(zip(names, array.flatten(), strict=True))
        present = array.is_valid() if array.null_count else None
        children = []
        for field, one in zip(wanted, casts, strict=True):
            inner = f"{path}.{field.name}"
            if one is None:
                if not field.nullable and len(array) > array.null_count:
                    raise bad_column(inner, "is missing and may not be null", None, "Add the field.")
                children.append(pa.nulls(len(array), field.type))
            elif present is None or field.nullable:
                children.append(one(given[field.name]))
            else:
                # Only values under a present struct count; those under a null struct are never read.
                one(given[field.name].filter(present))
                loose = _cast(source.field(field.name).type, field.with_nullable(True), inner)
                children.append(loose(given[field.name]))
        return struct_of(children, wanted, array)

    return cast


def _list(array: pa.Array, target: pa.DataType, inner: Cast) -> pa.Array:
    offsets, values = parts(array)
    mask = array.is_null() if array.null_count else None
    return pa.ListArray.from_arrays(offsets, inner(values), type=target, mask=mask)


def _map(key: pa.DataType, value: pa.DataType, target: pa.DataType, path: str) -> Cast:
    key_cast = _cast(key, target.key_field, entry(path, "key"))
    value_cast = _cast(value, target.item_field, entry(path, "value"))

    def cast(array: pa.Array) -> pa.Array:
        offsets, entries = parts(array)
        if entries.null_count:
            raise bad_column(element(path), "holds a null where a map's entry has to be", None, "Drop it.")
        names = [entries.type.field(index).name for index in range(2)]
        first, second = entries.flatten()
        keys, values = (first, second) if names[0] == "key" else (second, first)
        mask = array.is_null() if array.null_count else None
        _check_keys(offsets, keys, path)
        return pa.MapArray.from_arrays(offsets, key_cast(keys), value_cast(values), type=target, mask=mask)

    return cast


def _check_keys(offsets: pa.Array, keys: pa.Array, path: str) -> None:
    """Refuse a map that has a key twice: readers take the first, or the last, or fail."""
    maps = pc.list_parent_indices(pa.ListArray.from_arrays(offsets, keys)).cast(pa.int64())
    if pa.types.is_nested(keys.type):
        coded = pa.array([repr(key) for key in keys.to_pylist()], pa.string()).dictionary_encode()
    else:
        coded = keys.dictionary_encode()
    pairs = pc.add(pc.multiply(maps, len(coded.dictionary)), coded.indices.cast(pa.int64()))
    if pc.count_distinct(pairs).as_py() == len(pairs):
        return
    seen: set[int] = set()
    for index, pair in enumerate(pairs.to_pylist()):
        if pair in seen:
            value = shown(keys, index)
            raise bad_column(entry(path, "key"), f"has {value} twice in one map", value, "Keep one entry for each key.")
        seen.add(pair)


def _leaf(source: pa.DataType, target: pa.DataType, path: str) -> Cast | None:
    """Return the cast between two plain types that are not nested, None if no cast keeps the values."""
    types = pa.types
    if types.is_timestamp(target):
        if types.is_timestamp(source) and (source.tz is None) == (target.tz is None):
            return lambda array: _in_years(_cast_safe(array, target, path), _FIRST_US, _LAST_US, array, path)
        if types.is_timestamp(source):
            has, needs = ("no", "one") if source.tz is None else ("a", "none")
            raise bad_column(
                path,
                f"has {has} time zone, and the table's column is {'an instant' if target.tz else 'without one'}",
                str(source),
                f"Give it {needs} (replace_time_zone in polars, tz_localize in pandas)."
                if target.tz
                else "Take the time zone away once the times are those of the place you mean.",
            )
        return None
    if types.is_date32(target):
        if types.is_date(source) or (types.is_timestamp(source) and source.tz is None):
            return lambda array: _in_years(_exact(array, target, path), _FIRST_DAY, _LAST_DAY, array, path)
        return None
    if source.equals(target):
        return one_nan if types.is_floating(target) else lambda array: array
    if types.is_integer(target):
        if types.is_integer(source) or types.is_floating(source) or types.is_decimal(source):
            return lambda array: _cast_safe(array, target, path)
    elif types.is_floating(target):
        if types.is_integer(source):
            return lambda array: _cast_safe(array, target, path)
        if types.is_floating(source):
            return lambda array: _float(array, target, path)
        if types.is_decimal(source):
            return lambda array: _exact(array, target, path)
    elif types.is_decimal(target):
        if types.is_integer(source) or types.is_decimal(source):
            return lambda array: _decimal(array, target, path)
        if types.is_floating(source):
            return lambda array: _exact(array, target, path)
    return None


def _cast_safe(array: pa.Array, target: pa.DataType, path: str) -> pa.Array:
    """Cast by the library's safe cast, which refuses changes; name the first value that would change."""
    try:
        return array.cast(target)
    except pa.ArrowInvalid:
        low, high = 0, len(array)
        while high - low > 1:
            middle = (low + high) // 2
            try:
                array.slice(low, middle - low).cast(target)
            except pa.ArrowInvalid:
                high = middle
            else:
                low = middle
        raise _changed(array, low, target, path) from None


def _exact(array: pa.Array, target: pa.DataType, path: str) -> pa.Array:
    """Cast, and refuse the first value that does not cast back to itself."""
    done = _cast_safe(array, target, path)
    try:
        back = done.cast(array.type, safe=False)
    except pa.ArrowInvalid:
        back = done.cast(pa.decimal256(76, array.type.scale), safe=False)
        array = array.cast(pa.decimal256(76, array.type.scale))
    same = pc.fill_null(pc.equal(back, array), True)
    index = pc.index(same, False).as_py()
    if index >= 0:
        raise _changed(array, index, target, path)
    return done


def _decimal(array: pa.Array, target: pa.DataType, path: str) -> pa.Array:
    """Cast integers and decimals through a decimal wide enough for both; the step down refuses to lose digits."""
    try:
        wide = array.cast(pa.decimal256(76, target.scale))
    except pa.ArrowInvalid:
        wide = array
    if wide is not array:
        try:
            return wide.cast(target)
        except pa.ArrowInvalid:
            pass
    for index in range(len(array)):
        one = array.slice(index, 1)
        try:
            one.cast(pa.decimal256(76, target.scale)).cast(target)
        except pa.ArrowInvalid:
            raise _changed(array, index, target, path) from None
    raise _changed(array, 0, target, path)


def _float(array: pa.Array, target: pa.DataType, path: str) -> pa.Array:
    """Round to the target's precision; refuse finite values that become infinite, and others that become zero."""
    done = array.cast(target, safe=False)
    lost = pc.or_(
        pc.and_(pc.is_finite(array), pc.invert(pc.is_finite(done))),
        pc.and_(pc.not_equal(array, 0.0), pc.equal(done, 0.0)),
    )
    index = pc.index(pc.fill_null(lost, False), True).as_py()
    if index >= 0:
        raise _changed(array, index, target, path)
    return one_nan(done)


def one_nan(array: pa.Array) -> pa.Array:
    """Return floating-point numbers with all NaN in the form of Python's.

    0.0 / 0.0 has another, with a sign, which some engines take for less than any number, and for no NaN's equal.
    """
    found = pc.is_nan(array)
    return pc.if_else(found, pa.scalar(float("nan"), array.type), array) if pc.any(found).as_py() else array


def _in_years(done: pa.Array, first: int, last: int, array: pa.Array, path: str) -> pa.Array:
    """Refuse values outside the years 1 to 9999, which Delta readers need not support."""
    numbers = done.view(pa.int32() if pa.types.is_date32(done.type) else pa.int64())
    bounds = pc.min_max(numbers).as_py()
    if bounds["min"] is not None and (bounds["min"] < first or bounds["max"] > last):
        outside = pc.or_(pc.less(numbers, first), pc.greater(numbers, last))
        index = pc.index(pc.fill_null(outside, False), True).as_py()
        raise bad_column(
            path,
            f"holds a time outside the years 1 to 9999, the range of Delta's dates and timestamps, in row {index}",
            shown(array, index),
            "Use null or the nearest year for what has no date.",
        )
    return done


def _changed(array: pa.Array, index: int, target: pa.DataType, path: str) -> Refused:
    value = shown(array, index)
    return bad_column(
        path, f"holds {value}, which {target} cannot hold unchanged", value, f"Round or cast it to {target} first."
    )


def shown(array: pa.Array, index: int) -> str:
    """Return a value as text for a message, even if Python has no object for it."""
    one = array.slice(index, 1)
    try:
        text = str(one[0].as_py())
    except (ValueError, OverflowError, OSError):
        numbers = one.view(pa.int32() if one.type.bit_width == 32 else pa.int64())
        text = f"{numbers[0].as_py()} ({one.type})"
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _unknown(path: str, names: list[str], where: str) -> Refused:
    listed = ", ".join(names[:50]) + (", ..." if len(names) > 50 else "")
    return bad_column(path, f"is not one of the {where}'s", path, f"It has {listed}. Drop or rename the column.")
