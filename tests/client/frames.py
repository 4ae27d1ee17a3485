"""Random frames of every type that Delta has, for tests by property."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

import pyarrow as pa
from hypothesis import strategies as st

UTC = dt.UTC
EXTREME = [dt.datetime(1, 1, 1), dt.datetime(9999, 12, 31, 23, 59, 59, 999_999), dt.datetime(1969, 12, 31, 23, 59, 59)]
TEXTS = ["", " ", "a/b=c%", "é:ü\n", "null", "NaN", "'\"\\", "..", "%2F", "#?&;", "\U0001f600", "x" * 60]

datetimes = st.sampled_from(EXTREME) | st.datetimes(dt.datetime(1, 1, 1), dt.datetime(9999, 12, 31))
dates = st.sampled_from([dt.date(1, 1, 1), dt.date(9999, 12, 31)]) | st.dates()
texts = st.sampled_from(TEXTS) | st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)
floats = st.sampled_from([float("nan"), float("inf"), float("-inf"), -0.0, 0.0, 5e-324, 1e300, 0.1]) | st.floats()
floats32 = st.sampled_from([float("nan"), float("inf"), -0.0, 0.0]) | st.floats(width=32)
decimals = st.decimals(Decimal("-99999999.99"), Decimal("99999999.99"), places=2)

SCALARS: dict[str, tuple[pa.DataType, st.SearchStrategy[Any]]] = {
    "boolean": (pa.bool_(), st.booleans()),
    "byte": (pa.int8(), st.integers(-128, 127)),
    "short": (pa.int16(), st.integers(-(2**15), 2**15 - 1)),
    "integer": (pa.int32(), st.integers(-(2**31), 2**31 - 1)),
    "long": (pa.int64(), st.integers(-(2**63), 2**63 - 1)),
    "float": (pa.float32(), floats32),
    "double": (pa.float64(), floats),
    "decimal": (pa.decimal128(10, 2), decimals),
    "string": (pa.string(), texts),
    "binary": (pa.binary(), st.binary(max_size=8)),
    "date": (pa.date32(), dates),
    "timestamp": (pa.timestamp("us", "UTC"), datetimes.map(lambda one: one.replace(tzinfo=UTC))),
    "timestamp_ntz": (pa.timestamp("us"), datetimes),
}


def or_null(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | values


def kinds(depth: int = 2) -> st.SearchStrategy[tuple[pa.DataType, st.SearchStrategy[Any]]]:
    """A type with a strategy for its values, nested up to `depth`."""
    scalars = st.sampled_from(sorted(SCALARS)).map(lambda name: SCALARS[name])
    if depth == 0:
        return scalars
    inner = kinds(depth - 1)
    lists = inner.map(lambda kind: (pa.list_(kind[0]), st.lists(or_null(kind[1]), max_size=3)))
    structs = st.lists(inner, min_size=1, max_size=3).map(_struct)
    maps = inner.map(
        lambda kind: (
            pa.map_(pa.string(), kind[0]),
            st.dictionaries(st.text("abc", min_size=1, max_size=3), or_null(kind[1]), max_size=3).map(
                lambda one: list(one.items())
            ),
        )
    )
    return scalars | scalars | lists | structs | maps


def _struct(kinds_: list[tuple[pa.DataType, st.SearchStrategy[Any]]]) -> tuple[pa.DataType, st.SearchStrategy[Any]]:
    named = {f"f{index}": kind for index, kind in enumerate(kinds_)}
    fields = {name: or_null(kind[1]) for name, kind in named.items()}
    return pa.struct([(name, kind[0]) for name, kind in named.items()]), st.fixed_dictionaries(fields)


@st.composite
def tables(draw: st.DrawFn, *, rows: int = 8, columns: int = 4) -> pa.Table:
    """A frame of random types and rows, with nulls; column `n` numbers the rows."""
    chosen = draw(st.lists(kinds(), min_size=1, max_size=columns))
    count = draw(st.integers(1, rows))
    arrays: dict[str, pa.Array] = {"n": pa.array(range(count), pa.int64())}
    for index, (kind, values) in enumerate(chosen):
        drawn = draw(st.lists(or_null(values), min_size=count, max_size=count))
        arrays[f"c{index}"] = pa.array(drawn, kind)
    return pa.table(arrays)
