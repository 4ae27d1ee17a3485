"""What is appended is what every reader reads: rows of every type, as data and as partition values, and filters."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from springline.client import Springline
from springline.client.table import DeltaTable
from springline.errors import Refused
from tests.client.frames import SCALARS, UTC, or_null, tables
from tests.client.readers import READERS, duck, folder_of, rows_of

OPTIONS = settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large],
)


def fresh(lake: Springline, schema: Any, **options: Any) -> DeltaTable:
    return lake.create_table(f"t-{uuid.uuid4().hex[:12]}", schema, **options)


def check(table: DeltaTable, rows: pa.Table, readers: tuple[str, ...] = tuple(READERS)) -> None:
    wanted = rows_of(rows, rows.schema)
    for name in readers:
        assert rows_of(READERS[name](table.location), rows.schema) == wanted, name


@OPTIONS
@given(tables())
def test_rows_of_every_type_come_back_in_every_reader(lake: Springline, rows: pa.Table) -> None:
    table = fresh(lake, rows.schema)
    assert table.append(rows).rows == rows.num_rows
    check(table, rows)


PARTITIONS = sorted(set(SCALARS) - {"binary"})


@pytest.mark.parametrize("kind", PARTITIONS)
@settings(OPTIONS, max_examples=4)
@given(st.data())
def test_values_of_every_type_come_back_as_partitions(lake: Springline, kind: str, data: st.DataObject) -> None:
    arrow, values = SCALARS[kind]
    if kind == "string":
        values = values.filter(bool)
    if kind == "decimal":
        values = values.map(abs)
    drawn = data.draw(st.lists(or_null(values), min_size=1, max_size=6))
    rows = pa.table({"n": pa.array(range(len(drawn)), pa.int64()), "p": pa.array(drawn, arrow)})
    table = fresh(lake, rows.schema, partition_by=["p"])
    table.append(rows)
    check(table, rows)


@pytest.mark.parametrize("value", ["", "__HIVE_DEFAULT_PARTITION__", "x" * 300, "é" * 60])
def test_a_partition_value_that_some_reader_would_take_for_another_is_refused(lake: Springline, value: str) -> None:
    rows = pa.table({"n": [0, 1], "p": ["good", value]})
    table = fresh(lake, rows.schema, partition_by=["p"])
    with pytest.raises(Refused) as caught:
        table.append(rows)
    assert caught.value.refusal.field == "data.p"
    assert table.status()["latest_version"] == 0


def test_rows_with_nan_null_and_both_zeros_are_all_there(lake: Springline) -> None:
    rows = pa.table({"n": [0, 1, 2, 3, 4], "f": [0.0, -0.0, 1.0, float("nan"), None]})
    table = fresh(lake, rows.schema, partition_by=["f"])
    table.append(rows)
    check(table, rows)


MOMENT = dt.datetime(2024, 3, 10, 10, 30, 0, 1, tzinfo=UTC)
FILTERS: list[tuple[str, pa.DataType, list[Any], str, set[int]]] = [
    (
        "timestamp",
        pa.timestamp("us", "UTC"),
        [MOMENT, dt.datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC), None],
        "c = TIMESTAMPTZ '2024-03-10 10:30:00.000001+00'",
        {0},
    ),
    (
        "timestamp after",
        pa.timestamp("us", "UTC"),
        [MOMENT, dt.datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC), None],
        "c > TIMESTAMPTZ '2024-03-10 10:30:00.000001+00'",
        {1},
    ),
    ("date", pa.date32(), [dt.date(1, 1, 1), dt.date(9999, 12, 31), None], "c < DATE '2000-01-01'", {0}),
    ("text", pa.string(), ["a/b=c", "é", None], "c = 'é'", {1}),
    ("long text", pa.string(), ["x" * 200 + "a", "x" * 200 + "b", None], f"c > '{'x' * 200}a'", {1}),
    ("double", pa.float64(), [1.5, -2.5, None], "c > 0", {0}),
    ("infinite", pa.float64(), [float("inf"), 1.0, None], "c > 1e300", {0}),
    ("long", pa.int64(), [2**63 - 1, -(2**63), None], "c = 9223372036854775807", {0}),
    ("boolean", pa.bool_(), [True, False, None], "c = true", {0}),
    ("null", pa.int64(), [1, None, None], "c IS NULL", {1, 2}),
]


@pytest.mark.parametrize("partitioned", [False, True], ids=["data", "partition"])
@pytest.mark.parametrize("case", FILTERS, ids=lambda case: case[0])
def test_filters_find_the_same_rows_in_every_reader(lake: Springline, case: Any, partitioned: bool) -> None:
    name, kind, values, where, wanted = case
    if partitioned and name == "long text":
        values, where = ["xa", "xb", None], "c > 'xa'"
    rows = pa.table({"n": range(len(values)), "c": pa.array(values, kind)})
    table = fresh(lake, rows.schema, partition_by=["c"] if partitioned else [])
    for index in range(rows.num_rows):
        table.append(rows.slice(index, 1))
    found = duck().execute(f"SELECT n FROM delta_scan('file://{folder_of(table.location)}') WHERE {where}").fetchall()
    assert {row[0] for row in found} == wanted
    import deltalake

    engine = deltalake.QueryBuilder().register("t", deltalake.DeltaTable(table.location))
    where = where.replace(
        "TIMESTAMPTZ '2024-03-10 10:30:00.000001+00'", "to_timestamp_micros('2024-03-10T10:30:00.000001Z')"
    )
    assert set(pa.table(engine.execute(f"SELECT n FROM t WHERE {where}").read_all())["n"].to_pylist()) == wanted
