"""Whatever users hold is read: frames of every library, readers, queries, Python rows, generators of any of them."""

from __future__ import annotations

import datetime as dt
import uuid
import zoneinfo
from collections.abc import Callable, Iterator
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pytest

from springline.client import Springline
from springline.client.sources import SLICE_ROWS, batches, schema_of
from springline.client.table import DeltaTable
from springline.errors import Code, Refused
from tests.client.readers import by_pyarrow

ROWS = pa.table({"a": [1, 2, None], "b": ["x", None, "z"], "l": [[1], None, []], "s": [{"x": 1}, None, {"x": None}]})


def fresh(lake: Springline, schema: Any, **options: Any) -> DeltaTable:
    return lake.create_table(f"t-{uuid.uuid4().hex[:12]}", schema, **options)


def one_by_one() -> Iterator[pa.RecordBatch]:
    for index in range(ROWS.num_rows):
        yield from ROWS.slice(index, 1).to_batches()


def mixed() -> Iterator[Any]:
    yield ROWS.slice(0, 1)
    yield pl.from_arrow(ROWS.slice(1, 1))
    yield ROWS.slice(2, 1).to_pylist()[0]


SOURCES: dict[str, Callable[[], Any]] = {
    "table": lambda: ROWS,
    "chunks": lambda: pa.concat_tables([ROWS.slice(0, 1), ROWS.slice(1)]),
    "batch": lambda: ROWS.to_batches()[0],
    "reader": ROWS.to_reader,
    "dataset": lambda: ds.dataset(ROWS),
    "structs": ROWS.to_struct_array,
    "struct": lambda: ROWS.to_struct_array().chunk(0),
    "polars": lambda: pl.from_arrow(ROWS),
    "lazy": lambda: pl.from_arrow(ROWS).lazy(),  # type: ignore[union-attr]
    "pandas": lambda: ROWS.to_pandas(types_mapper=pd.ArrowDtype),
    "duckdb": lambda: duckdb.sql("SELECT * FROM ROWS"),
    "columns": ROWS.to_pydict,
    "rows": ROWS.to_pylist,
    "batches": lambda: ROWS.to_batches(max_chunksize=1),
    "generator": one_by_one,
    "generator of rows": lambda: iter(ROWS.to_pylist()),
    "generator of frames": mixed,
}


@pytest.mark.parametrize("name", SOURCES)
def test_every_kind_of_data_becomes_the_same_rows_under_the_same_key(lake: Springline, name: str) -> None:
    table = fresh(lake, ROWS)
    key = f"load/{name}"
    assert table.append(SOURCES[name](), key=key).version == 1
    read = by_pyarrow(table.location).to_pylist()
    assert sorted(read, key=lambda row: row["a"] or 9) == ROWS.to_pylist()
    for other, source in SOURCES.items():
        assert table.append(source(), key=key).version == 1, other
    assert table.explain(key)["version"] == 1


EMPTY: dict[str, Callable[[], Any]] = {
    "table": lambda: ROWS.slice(0, 0),
    "no columns": lambda: pa.table({}),
    "reader": lambda: ROWS.slice(0, 0).to_reader(),
    "polars": pl.DataFrame,
    "lazy": lambda: pl.DataFrame({"a": []}).lazy(),
    "pandas": pd.DataFrame,
    "pandas of objects": lambda: pd.DataFrame({"a": [], "b": []}),
    "dict": lambda: {"a": [], "b": []},
    "nothing": dict,
    "list": list,
    "generator": lambda: iter(()),
}


@pytest.mark.parametrize("name", EMPTY)
def test_empty_data_is_nothing_to_do(lake: Springline, name: str) -> None:
    table = fresh(lake, ROWS)
    table.append(ROWS)
    done = table.append(EMPTY[name](), key="the key stays free")
    assert (done.version, done.committed, done.rows, done.delta_log_path) == (1, False, 0, None)
    assert table.status()["latest_version"] == 1
    assert table.append(ROWS, key="the key stays free").version == 2


@pytest.mark.parametrize(
    "data", [[1, 2, 3], "text", 5, None, object(), [None], [[1]]], ids=lambda data: type(data).__name__
)
def test_other_objects_are_refused_by_type(lake: Springline, data: Any) -> None:
    with pytest.raises(Refused) as caught:
        fresh(lake, ROWS).append(data)
    assert caught.value.refusal.code is Code.INVALID_REQUEST
    assert caught.value.refusal.value == type(data).__name__


def test_pandas_frames_as_people_have_them(lake: Springline) -> None:
    frame = pd.DataFrame(
        {
            "text": ["a", None, "c"],
            "whole": pd.array([1, None, 3], "Int64"),
            "float_of_int": [1.0, float("nan"), 3.0],
            "kind": pd.Categorical(["u", "v", "u"]),
            "flag": pd.array([True, None, False], "boolean"),
            "at": pd.to_datetime(["2024-01-01", None, "9999-12-31"], format="%Y-%m-%d", utc=True).as_unit("us"),
            "obj": [None, None, None],
        },
        index=pd.Index([5, 6, 7]),
    )
    kinds = [("text", pa.string()), ("whole", pa.int32()), ("float_of_int", pa.int64()), ("kind", pa.string())]
    more = [("flag", pa.bool_()), ("at", pa.timestamp("us", "UTC")), ("obj", pa.string())]
    table = fresh(lake, pa.schema(kinds + more))
    table.append(frame)
    read = by_pyarrow(table.location).to_pylist()
    assert [row["float_of_int"] for row in read] == [1, None, 3]
    assert [row["kind"] for row in read] == ["u", "v", "u"]
    assert [row["whole"] for row in read] == [1, None, 3]
    assert read[2]["at"] == dt.datetime(9999, 12, 31, tzinfo=dt.UTC)
    with pytest.raises(Refused) as caught:
        table.append(pd.DataFrame({"text": ["a", 5]}))
    assert caught.value.refusal.field in ("data.text", "data")
    with pytest.raises(Refused):
        table.append(pd.DataFrame([[1, 2]], columns=["text", "text"]))


def test_levels_of_a_pandas_index_that_have_a_name_are_columns(lake: Springline) -> None:
    rows = pd.DataFrame({"a": [2, 1], "b": ["x", "y"], "c": [0.5, 1.5]})
    table = fresh(lake, rows)
    table.append(rows, key="k")
    for frame in (rows.set_index("a"), rows.set_index(["a", "b"]), rows.set_index("a", append=True)):
        assert table.append(frame, key="k").version == 1, frame
    assert table.append(rows.groupby("b")["a"].sum()).rows == 2
    assert by_pyarrow(table.location).to_pylist()[-2:] != by_pyarrow(table.location).to_pylist()[:2]
    for wrong in (rows.set_index("a", drop=False), rows.set_index(pd.Index([1, 2], name="i"))):
        with pytest.raises(Refused) as caught:
            table.append(wrong)
        assert caught.value.refusal.field in ("data.a", "data.i")


AWARE, NAIVE = dt.datetime(2024, 1, 1, 7, tzinfo=dt.UTC), dt.datetime(2024, 1, 1, 7)
FINE = pd.Timestamp("2024-01-01 00:00:00.000000001", tz="UTC")


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (pa.string(), "Oslo"),
        (pa.binary(), b"Oslo"),
        (pa.string(), {"a": 1, "b": 2}),
        (pa.int64(), {1, 2}),
        (pa.timestamp("us", "UTC"), [AWARE, NAIVE]),
        (pa.timestamp("us", "UTC"), (value for value in (AWARE, NAIVE))),
        (pa.timestamp("us"), [NAIVE, AWARE]),
        (pa.timestamp("us", "UTC"), np.array([AWARE, NAIVE], dtype=object)),
        (pa.timestamp("us", "UTC"), pd.Series([AWARE, NAIVE], dtype=object)),
        (pa.timestamp("us", "UTC"), [AWARE, FINE]),
        (pa.timestamp("us"), [pd.NaT, NAIVE, AWARE]),
        (pa.date32(), [NAIVE.date(), NAIVE]),
        (pa.list_(pa.date32()), [None, [NAIVE.date()], [NAIVE]]),
        (pa.struct([("x", pa.list_(pa.timestamp("us", "UTC")))]), [{"x": [AWARE]}, None, {"x": [None, NAIVE]}]),
        (pa.string(), ["\ud800"]),
        (pa.timestamp("us", "UTC"), [pd.NaT, AWARE, "x"]),
    ],
)
def test_python_values_that_arrow_would_change_are_refused(lake: Springline, kind: pa.DataType, values: Any) -> None:
    table = fresh(lake, pa.schema([("a", kind)]))
    with pytest.raises(Refused) as caught:
        table.append({"a": values})
    assert caught.value.refusal.code is Code.INVALID_REQUEST
    assert (caught.value.refusal.field or "").startswith("data.a")
    if isinstance(values, list):
        with pytest.raises(Refused):
            table.append([{"a": value} for value in values])
        with pytest.raises(Refused) as caught:
            table.append(pd.DataFrame({"a": pd.Series(values, dtype=object)}))
    assert table.status()["latest_version"] == 0


def test_python_times_of_one_kind_are_taken(lake: Springline) -> None:
    oslo = dt.datetime(2024, 1, 1, 8, tzinfo=zoneinfo.ZoneInfo("Europe/Oslo"))
    table = fresh(lake, pa.schema([("a", pa.timestamp("us", "UTC")), ("d", pa.date32())]))
    table.append({"a": [AWARE, None, oslo], "d": [None, NAIVE.date(), None]})
    table.append(pd.DataFrame({"a": pd.Series([AWARE, pd.NaT], dtype=object)}))
    assert by_pyarrow(table.location)["a"].to_pylist().count(AWARE) == 3
    updated = table.update(values={"a": oslo}, where="a IS NULL")
    assert updated.metrics["num_updated_rows"] == 2
    for values in ({"a": FINE}, {"d": NAIVE}, {"a": NAIVE}):
        with pytest.raises(Refused):
            table.update(values=values)


def test_polars_types_of_its_own(lake: Springline) -> None:
    frame = pl.DataFrame(
        {
            "c": pl.Series(["a", "b", "a"], dtype=pl.Categorical),
            "e": pl.Series(["a", None, "a"], dtype=pl.Enum(["a", "b"])),
            "u": pl.Series([1, None, 255], dtype=pl.UInt8),
            "f": pl.Series([[1, 2], None, [3, 4]], dtype=pl.Array(pl.Int16, 2)),
            "n": [None, None, None],
            "lc": pl.Series([["a"], [], None], dtype=pl.List(pl.Categorical)),
        }
    )
    schema = pa.schema(
        [
            ("c", pa.string()),
            ("e", pa.string()),
            ("u", pa.int16()),
            ("f", pa.list_(pa.int64())),
            ("n", pa.date32()),
            ("lc", pa.list_(pa.string())),
        ]
    )
    table = fresh(lake, schema)
    table.append(frame)
    assert by_pyarrow(table.location).to_pydict() == frame.to_dict(as_series=False)
    for bad, kind in {"t": pl.Time, "d": pl.Duration}.items():
        with pytest.raises(Refused) as caught:
            table.append(frame.with_columns(pl.lit(None, dtype=kind).alias(bad)))
        assert caught.value.refusal.field == f"data.{bad}"
    with pytest.raises(Refused) as caught:
        table.append(pl.DataFrame({"c": pl.Series([object()], dtype=pl.Object)}))
    assert caught.value.refusal.field == "data.c"


def test_rows_of_python_may_lack_keys_and_hold_maps(lake: Springline) -> None:
    table = fresh(lake, pa.schema([("a", pa.int64()), ("b", pa.string()), ("m", pa.map_(pa.string(), pa.int64()))]))
    table.append([{"a": 1}, {"b": "x"}, {"m": [{"key": "k", "value": 1}]}])
    assert by_pyarrow(table.location).to_pylist() == [
        {"a": 1, "b": None, "m": None},
        {"a": None, "b": "x", "m": None},
        {"a": None, "b": None, "m": [("k", 1)]},
    ]
    with pytest.raises(Refused) as caught:
        table.append({"a": [1, 2], "b": ["x"]})
    assert caught.value.refusal.field == "data.b"


def test_an_error_of_the_callers_own_generator_comes_out_as_it_is(lake: Springline) -> None:
    def broken() -> Iterator[pa.RecordBatch]:
        yield from ROWS.to_batches()
        raise LookupError("no more")

    table = fresh(lake, ROWS)
    with pytest.raises(LookupError, match="no more"):
        table.append(broken())
    assert table.status()["latest_version"] == 0


def test_batches_are_of_moderate_size_whatever_comes() -> None:
    tiny = (pa.record_batch({"a": [i]}) for i in range(40_000))
    sizes = [batch.num_rows for batch in batches(tiny)]
    assert sum(sizes) == 40_000
    assert len(sizes) <= 3
    huge = pa.table({"a": pa.repeat(1, 3_000_000)})
    assert max(batch.num_rows for batch in batches(huge)) <= SLICE_ROWS
    wide = pa.table({"a": ["x" * 1_000_000] * 200})
    assert max(batch.nbytes for batch in batches(wide)) <= 40 * 1024 * 1024


def test_the_schema_of_data_is_told_without_its_rows() -> None:
    reader = ROWS.to_reader()
    assert schema_of(reader) == ROWS.schema
    assert reader.read_all() == ROWS
    for name, source in SOURCES.items():
        if not name.startswith("generator"):
            assert schema_of(source()).names == ROWS.column_names, name
    with pytest.raises(Refused):
        schema_of(one_by_one())
