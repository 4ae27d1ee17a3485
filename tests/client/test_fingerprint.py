"""The fingerprint is a function of the rows: of no library's way of laying them out, and of nothing less than them."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from springline.client.fingerprint import Fingerprint
from springline.client.plain import plain_batch
from springline.client.sources import batches
from tests.client.frames import tables


def fingerprint(data: Any) -> str:
    digest = Fingerprint()
    for batch in batches(data):
        digest.add(batch.schema.names, plain_batch(batch), batch.num_rows)
    return digest.digest()


def of_batches(table: pa.Table, sizes: list[int]) -> str:
    """The fingerprint when exactly these batches are given."""
    digest = Fingerprint()
    start = 0
    for size in [*sizes, table.num_rows]:
        for batch in table.slice(start, size).combine_chunks().to_batches():
            digest.add(batch.schema.names, plain_batch(batch), batch.num_rows)
        start += size
    return digest.digest()


def padded(table: pa.Table) -> pa.Table:
    """The same rows as slices of arrays that hold others before and behind them."""
    return pa.concat_tables([table, table, table]).combine_chunks().slice(table.num_rows, table.num_rows)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(tables(), st.lists(st.integers(0, 4), max_size=4))
def test_batches_offsets_and_column_order_are_no_part_of_it(table: pa.Table, sizes: list[int]) -> None:
    whole = fingerprint(table)
    assert of_batches(table, sizes) == whole
    assert fingerprint(padded(table)) == whole
    assert fingerprint(table.select(table.column_names[::-1])) == whole
    assert fingerprint(pl.from_arrow(table).to_arrow()) == whole or _beyond_polars(table)


def _beyond_polars(table: pa.Table) -> bool:
    """Polars has no maps and no decimals in maps: it makes lists of structs of them, which are other rows."""
    return any("map<" in str(kind) for kind in table.schema.types)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(tables(), st.data())
def test_other_rows_have_another(table: pa.Table, data: st.DataObject) -> None:
    whole = fingerprint(table)
    if table.num_rows > 1:
        assert fingerprint(table.slice(1)) != whole
        assert fingerprint(table.take(list(range(table.num_rows))[::-1])) != whole
    column = data.draw(st.sampled_from(table.column_names))
    index = table.column_names.index(column)
    if table.column(column).null_count < table.num_rows:
        nulls = pa.nulls(table.num_rows, table.column(column).type)
        assert fingerprint(table.set_column(index, column, nulls)) != whole
        assert fingerprint(table.drop_columns([column])) != whole
        assert (
            fingerprint(table.rename_columns([f"{name}!" if name == column else name for name in table.column_names]))
            != whole
        )
        other = (
            table.set_column(index, column, pc.if_else(pc.equal(table["n"], 0), None, table[column]))
            if column != "n"
            else None
        )
        if other is not None and table[column][0].is_valid:
            assert fingerprint(other) != whole


SAME = {
    "large": [pa.array(["a", None, ""]), pa.array(["a", None, ""], pa.large_string())],
    "view": [pa.array(["a", None, "b" * 20]), pa.array(["a", None, "b" * 20], pa.string_view())],
    "dictionary": [pa.array(["a", None, "a"]), pa.array(["a", None, "a"]).dictionary_encode()],
    "unused dictionary": [pa.array(["a"]), pa.DictionaryArray.from_arrays(pa.array([1]), pa.array(["x", "a"]))],
    "null in dictionary": [pa.array(["a", None]), pa.DictionaryArray.from_arrays([0, 1], pa.array(["a", None]))],
    "run ends": [pa.array([7, 7, None]), pa.RunEndEncodedArray.from_arrays([2, 3], [7, None])],
    "integers": [pa.array([1, None]), pa.array([1, None], pa.uint8()), pa.array([1, None], pa.int16())],
    "floats": [pa.array([0.5, None]), pa.array([0.5, None], pa.float32())],
    "units": [pa.array([1, None], pa.timestamp("s")), pa.array([10**9, None], pa.timestamp("ns"))],
    "zones": [pa.array([1], pa.timestamp("us", "UTC")), pa.array([1], pa.timestamp("us", "Europe/Oslo"))],
    "dates": [pa.array([dt.date(2024, 1, 1)]), pa.array([dt.date(2024, 1, 1)], pa.date64())],
    "scales": [pa.array([Decimal("1.5")], pa.decimal128(3, 1)), pa.array([Decimal("1.5")], pa.decimal128(38, 9))],
    "small decimals": [pa.array([Decimal("1.5")], pa.decimal128(3, 1)), pa.array([Decimal("1.5")], pa.decimal32(3, 1))],
    "lists": [
        pa.array([[1], None]),
        pa.array([[1], None], pa.large_list(pa.int32())),
        pa.array([[1], None], pa.list_(pa.int64(), 1)),
    ],
    "nan": [pa.array([float("nan")]), pa.array([-float("nan")])],
    "under a null": [
        pa.array([None, 1]),
        pa.Array.from_buffers(
            pa.int64(), 2, [pa.py_buffer(b"\x02"), pa.py_buffer(b"\x09" + b"\0" * 7 + b"\x01" + b"\0" * 7)]
        ),
    ],
    "nested dictionary": [
        pa.array([["a", "a"]]),
        pa.ListArray.from_arrays([0, 2], pa.array(["a", "a"]).dictionary_encode()),
    ],
}


@pytest.mark.parametrize("name", SAME)
def test_forms_of_one_value_are_the_same(name: str) -> None:
    assert len({fingerprint(pa.table({"c": one})) for one in SAME[name]}) == 1


DIFFERENT = [
    pa.array([None, None], pa.int64()),
    pa.array([1, 2]),
    pa.array([2, 1]),
    pa.array([1.0, 2.0]),
    pa.array(["1", "2"]),
    pa.array(["12", ""]),
    pa.array(["", "12"]),
    pa.array([b"1", b"2"]),
    pa.array([True, False]),
    pa.array([1, 2], pa.timestamp("us")),
    pa.array([1, 2], pa.timestamp("us", "UTC")),
    pa.array([1, 2], pa.date32()),
    pa.array([Decimal(1), Decimal(2)]),
    pa.array([[1], [2]]),
    pa.array([[1, 2], []]),
    pa.array([[], [1, 2]]),
    pa.array([None, [1, 2]]),
    pa.array([[None], [1, 2]]),
    pa.array([{"x": 1}, {"x": 2}]),
    pa.array([{"x": None}, {"x": 2}]),
    pa.array([None, {"x": 2}]),
    pa.array([[("k", 1)], [("k", 2)]], pa.map_(pa.string(), pa.int64())),
    pa.array([0.0, -0.0]),
    pa.array([-0.0, 0.0]),
    pa.array([1, None]),
    pa.array([None, 1]),
    pa.array([2**64 - 1, 0], pa.uint64()),
    pa.array([-1, 0]),
]


def test_values_that_differ_have_fingerprints_that_differ() -> None:
    assert len({fingerprint(pa.table({"c": one})) for one in DIFFERENT}) == len(DIFFERENT)


def test_names_cannot_be_taken_for_paths() -> None:
    nested = pa.table({"a": pa.array([{"b": 1}])})
    flat = pa.table({"a.b": [1], "a": pa.array([{}], pa.struct([]))})
    odd = pa.table({"a[]b": [[1]], "a": [[2]]})
    assert len({fingerprint(nested), fingerprint(flat), fingerprint(odd)}) == 3


def test_it_is_what_it_always_was() -> None:
    """A key stands for its rows for ever: this value must never change."""
    rows = pa.table({"a": [1, None], "b": ["x", "y"], "c": [[1.5], None], "d": [{"e": Decimal("1.5")}, None]})
    assert fingerprint(rows) == "b41557e448e90e271d1a8caf5d4e70b8967a549176354676283386343cd28723"
