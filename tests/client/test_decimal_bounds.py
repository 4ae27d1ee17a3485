"""Decimals of many digits: a file's bounds hold its values, whatever delta-rs rounds, and every reader finds them."""

from __future__ import annotations

import itertools
import json
from decimal import Context, Decimal
from pathlib import Path
from typing import Any

import deltalake
import orjson
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from springline.client import DeltaTable, Springline
from springline.client.decimal_bounds import may_be_rounded, rounded_outwards, wide_decimals
from springline.client.scratch import rewriting_properties
from tests.client.readers import duck, folder_of

_NAMES = (f"decimals-{number}" for number in itertools.count())
KIND = pa.decimal128(18, 2)
LONG = Decimal("1234567890123456.78")
SCHEMA = pa.schema([("n", pa.int64()), ("c", KIND)])
EXACT = Context(prec=76)
"""The usual one has 28 digits: it rounds values of 32 nines to one digit more."""


@st.composite
def decimals(draw: st.DrawFn) -> tuple[pa.DataType, Decimal]:
    """A decimal type and one of its values, often a great one."""
    precision = draw(st.integers(1, 38))
    scale = draw(st.integers(0, precision))
    most = 10 ** draw(st.integers(0, precision)) - 1
    return pa.decimal128(precision, scale), Decimal(draw(st.integers(-most, most))).scaleb(-scale, EXACT)


def rounded(value: Decimal, kind: pa.DataType) -> float | int:
    """Return a bound as delta-rs tells it."""
    number = float(int(value.scaleb(kind.scale, EXACT))) / 10.0**kind.scale
    return max(-(2**63), min(2**63 - 1, int(number))) if kind.scale == 0 else number


@given(decimals())
def test_bounds_hold_the_values(drawn: tuple[pa.DataType, Decimal]) -> None:
    kind, value = drawn
    bound = rounded(value, kind)
    told = {"numRecords": 1, "minValues": {"s": {"c": bound}}, "maxValues": {"s": {"c": bound}}}
    stats = rounded_outwards(orjson.dumps(told).decode(), ("s", "c"), kind)
    # Readers parse a bound digit by digit.
    parsed = json.loads(stats, parse_float=Decimal, parse_int=Decimal)
    least, greatest = (parsed[member]["s"]["c"] for member in ("minValues", "maxValues"))
    if abs(value.scaleb(kind.scale, EXACT)) < 10**15 and kind.scale <= 22:
        assert stats == orjson.dumps(told).decode()
        assert least == value
    else:
        assert parsed["tightBounds"] is False or value == 0
        assert least <= value <= greatest
        assert all(pa.scalar(one, kind).as_py() == one for one in (least, greatest))


def test_columns_that_have_bounds_to_widen() -> None:
    inner = pa.struct([("x", KIND), ("l", pa.list_(KIND))])
    schema = pa.schema([("a", pa.decimal128(15, 2)), ("b", KIND), ("s", inner), ("f", pa.float64())])
    assert [path for path, _ in wide_decimals(schema)] == [("b",), ("s", "x")]


def found_by(table: DeltaTable) -> dict[str, int]:
    """Return how many rows with the long decimal each reader finds by it."""
    folder = folder_of(table.location)
    where = f"c = CAST('{LONG}' AS DECIMAL(18, 2))"
    query = deltalake.QueryBuilder().register("t", deltalake.DeltaTable(folder))
    return {
        "client": table.to_arrow(where=f"c = '{LONG}'").num_rows,
        "client's duckdb": len(table.to_duckdb().filter(where).fetchall()),
        "delta-rs": pa.table(query.execute(f"SELECT * FROM t WHERE {where}").read_all()).num_rows,
        "duckdb": len(duck().execute(f"SELECT * FROM delta_scan('file://{folder}') WHERE {where}").fetchall()),
        "polars": pl.scan_delta(str(folder)).filter(pl.col("c") == LONG).collect().height,
    }


def test_every_reader_finds_a_long_decimal_by_its_value(lake: Springline) -> None:
    table = lake.create_table(next(_NAMES), SCHEMA)
    rows = pa.table([[1, 2], [LONG, Decimal("5.00")]], schema=SCHEMA)
    table.append(rows[:1])
    assert set(found_by(table).values()) == {1}
    dataset = deltalake.DeltaTable(table.location).to_pyarrow_dataset()
    assert dataset.to_table(filter=pc.field("c") == pa.scalar(LONG, KIND)).num_rows == 1
    table.update({"n": "n + 1"})
    assert set(found_by(table).values()) == {1}
    table.upsert(rows, "n")
    assert set(found_by(table).values()) == {1}
    assert table.delete(f"c = '{LONG}'").changed
    assert set(found_by(table).values()) == {0}


def test_the_client_finds_it_in_the_file_of_another_writer(lake: Springline) -> None:
    rows = pa.table([[1], [LONG]], schema=SCHEMA)
    table = lake.create_table(next(_NAMES), SCHEMA)
    deltalake.write_deltalake(table.location, rows, mode="append")
    found = found_by(table)
    assert (found["client"], found["client's duckdb"]) == (1, 1)
    table.upsert(pa.table([[2], [LONG]], schema=SCHEMA), "c")
    assert set(found_by(table).values()) == {1}


@pytest.mark.parametrize("scale", [0, 2])
def test_whole_numbers_of_more_than_64_bits_are_compared_exactly(scale: int, lake: Springline) -> None:
    kind = pa.decimal128(30, scale)
    numbers = [2**63 - 1, 2**63, 2**64, 12345678901234567890123, 12345678901234567890124]
    values = [sign * Decimal(number) for number in numbers for sign in (1, -1)]
    table = lake.create_table(next(_NAMES), pa.schema([("c", kind)]))
    table.append(pa.table([pa.array(values, kind)], ["c"]))
    for value in values:
        for where in (f"c = {value}", f"c = '{value}'"):
            assert table.to_arrow(where=where).column("c").to_pylist() == [value]


def test_columns_keep_their_bounds_where_these_are_exact(tmp_path: Path) -> None:
    schema = pa.schema([("n", pa.int64()), ("small", pa.decimal128(38, 10)), ("long", KIND), ("none", KIND)])
    columns: list[list[Any]] = [[1, 2], [Decimal("5"), None], [LONG, None], [None, None]]
    deltalake.write_deltalake(tmp_path, pa.table(columns, schema=schema))
    table = deltalake.DeltaTable(tmp_path)
    files = pa.table(table.get_add_actions(flatten=True))
    wide = {path[0]: may_be_rounded(files, path[0], kind) for path, kind in wide_decimals(schema)}
    assert wide == {"small": False, "long": True, "none": False}

    def without(assigned: dict[str, pa.ChunkedArray | None]) -> set[str]:
        return set(rewriting_properties(table, schema, assigned).column_properties or {})

    assert without({}) == {"long"}
    assert without({"small": None}) == {"long", "small"}
    assert without({"small": pa.chunked_array([[Decimal("7.5"), None]], pa.decimal128(38, 10))}) == {"long"}
    assert without({"none": pa.chunked_array([[LONG]], KIND)}) == {"long", "none"}
