"""Lists of Python values as Arrow arrays; values that Arrow would change, or split into rows, are refused."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping, Set
from itertools import chain
from typing import Any

import pyarrow as pa

from springline.client.plain import bad_column, element, is_list

_REMEDY = "Give the column values of one type, or pass an Arrow array of the type you mean."
_FAILURES = (ValueError, TypeError, OverflowError, pa.ArrowNotImplementedError)
"""Arrow's errors for values that it cannot convert; those of its own that are not named derive from these."""


def array_of(name: str, values: Any) -> Any:
    """Return the values of the column `name` as an Arrow array; an Arrow array is returned as it is.

    Raises `Refused` for a single text, mapping or set, whose parts are not rows, for values that Arrow cannot convert,
    and for those that it would change (`check_times`).
    """
    if isinstance(values, (pa.Array, pa.ChunkedArray)):
        return values
    if isinstance(values, (str, bytes, bytearray, memoryview, Mapping, Set)):
        raise bad_column(
            name,
            f"is a {type(values).__name__}, not a list of values",
            repr(values)[:100],
            "Give a list with one value for each row; a single row is [{...}], a list of one dict.",
        )
    untyped = not hasattr(values, "dtype") or holds_objects(values)
    if untyped and not hasattr(values, "__len__"):
        values = list(values) if isinstance(values, Iterable) else values
    try:
        array = pa.array(values)
    except _FAILURES as error:
        raise bad_column(name, f"cannot be read: {error}", None, _REMEDY) from error
    if untyped:
        check_times(name, values, array.type)
    return array


def holds_objects(values: Any) -> bool:
    """Say whether an array or column of numpy or pandas holds Python objects, whose type Arrow has to guess."""
    return str(getattr(values, "dtype", "")) == "object"


def check_times(path: str, values: Iterable[Any], kind: pa.DataType) -> None:
    """Raise `Refused` for a time among Python values that `kind`, the type guessed for them, would change.

    Arrow takes times without a zone for UTC if one beside them has a zone, cuts nanoseconds off, and takes the time
    of day off a datetime if the first value is a date.
    """
    types = pa.types
    if types.is_timestamp(kind):
        for value in values:
            if not _is_time(value):
                continue
            if (value.tzinfo is None) != (kind.tz is None):
                raise bad_column(
                    path,
                    "holds times with and without a time zone",
                    str(value),
                    "Give all of them one, such as datetime(..., tzinfo=timezone.utc), or none.",
                )
            if kind.unit != "ns" and getattr(value, "nanosecond", 0):
                raise bad_column(
                    path,
                    f"holds {value}, which is finer than the microseconds that Delta tables have",
                    str(value),
                    "Round it first, such as value.round('us').",
                )
    elif types.is_date(kind):
        for value in values:
            if _is_time(value):
                raise bad_column(
                    path,
                    f"holds {value}, a time, among dates",
                    str(value),
                    "Give dates only, such as value.date(), or times only.",
                )
    elif is_list(kind) and _has_times(kind):
        check_times(element(path), chain.from_iterable(value for value in values if value is not None), kind.value_type)
    elif types.is_struct(kind) and _has_times(kind):
        rows = [value for value in values if isinstance(value, Mapping)]
        for field in kind:
            check_times(f"{path}.{field.name}", (row.get(field.name) for row in rows), field.type)


def _is_time(value: Any) -> bool:
    # NaT is an instance of datetime, and not equal to itself.
    return isinstance(value, datetime.datetime) and value == value  # noqa: PLR0124


def _has_times(kind: pa.DataType) -> bool:
    if pa.types.is_nested(kind):
        return any(_has_times(kind.field(index).type) for index in range(kind.num_fields))
    return bool(pa.types.is_timestamp(kind) or pa.types.is_date(kind))
