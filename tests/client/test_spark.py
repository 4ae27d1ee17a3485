"""What is appended comes back in Spark, in two session time zones: equal rows and filter results (`make test-full`)."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from springline.client import Springline
from tests.client.filters import FILTERED, Filter, filtered
from tests.client.frames import UTC, tables
from tests.client.readers import folder_of, rows_of
from tests.client.test_filters import written
from tests.client.test_round_trip import OPTIONS, PARTITIONS, fresh

pytestmark = [pytest.mark.full, pytest.mark.timeout(3_600)]
pytest.importorskip("pyspark", reason="PySpark is installed by `make test-full` only")

ZONES = ("UTC", "America/Los_Angeles")


def in_zones() -> Iterator[str]:
    """Set Spark's session time zone to each zone in turn, and back to the first."""
    from tests.support.spark import session

    try:
        for zone in ZONES:
            session().conf.set("spark.sql.session.timeZone", zone)
            yield zone
    finally:
        session().conf.set("spark.sql.session.timeZone", ZONES[0])


def check(location: str, rows: pa.Table) -> None:
    from tests.support.spark import spark_table

    wanted = rows_of(rows, rows.schema)
    for zone in in_zones():
        assert rows_of(spark_table(folder_of(location)), rows.schema) == wanted, zone


def check_filters(location: str, rows: pa.Table, filters: list[Filter]) -> None:
    values = rows["c"].to_pylist()
    for zone in in_zones():
        for one in filters:
            assert one.by_spark(location) in one.finds(values), (zone, one)


@OPTIONS
@given(tables())
def test_rows_of_every_type_come_back(lake: Springline, rows: pa.Table) -> None:
    table = fresh(lake, rows.schema)
    table.append(rows)
    check(table.location, rows)


@pytest.mark.parametrize("kind", PARTITIONS)
@settings(OPTIONS, max_examples=4)
@given(st.data())
def test_values_of_every_type_come_back_as_partitions(lake: Springline, kind: str, data: st.DataObject) -> None:
    rows, _ = data.draw(filtered(kind, partition=True))
    check(written(lake, rows, partition=True), rows)


@pytest.mark.parametrize("partition", [False, True], ids=["data", "partition"])
@pytest.mark.parametrize("kind", FILTERED)
@settings(OPTIONS, max_examples=3)
@given(st.data())
def test_filters_find_the_same_rows(lake: Springline, kind: str, partition: bool, data: st.DataObject) -> None:
    rows, filters = data.draw(filtered(kind, partition=partition))
    check_filters(written(lake, rows, partition=partition), rows, filters)


def test_a_timestamp_partition_is_the_same_instant_in_both_zones(lake: Springline) -> None:
    moments = [
        dt.datetime(2024, 3, 10, 10, 30, 0, 1, tzinfo=UTC),  # within the hour that Los Angeles leaves out
        dt.datetime(2024, 11, 3, 9, 30, tzinfo=UTC),  # and the one that it has twice
        dt.datetime(1, 1, 1, tzinfo=UTC),
        dt.datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
        None,
    ]
    rows = pa.table({"n": range(len(moments)), "c": pa.array(moments, pa.timestamp("us", "UTC"))})
    location = written(lake, rows, partition=True)
    check(location, rows)
    check_filters(location, rows, [Filter("timestamp", "=", moment) for moment in moments if moment is not None])
