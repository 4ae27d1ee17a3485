"""The change data feed of a table that the client has changed is read by delta-rs."""

from __future__ import annotations

import datetime as dt
import uuid
from collections import Counter
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import orjson
import pyarrow as pa
import pytest
from deltalake import DeltaTable as Library
from deltalake import write_deltalake

from springline.client import DeltaTable, Springline
from tests.client.readers import folder_of

ROWS = pa.table({"id": pa.array(range(6), pa.int64()), "p": ["a", "b", None] * 2})
ONE = ROWS.slice(0, 1)
DONE: dict[str, tuple[Callable[[DeltaTable], Any], dict[str, int]]] = {
    "delete of partitions": (lambda table: table.delete("p = 'a' or p is null"), {"insert": 6, "delete": 4}),
    "delete of rows": (lambda table: table.delete("id = 2"), {"insert": 6, "delete": 1}),
    "overwrite": (lambda table: table.overwrite(ONE), {"insert": 7, "delete": 6}),
    "overwrite of a partition": (lambda table: table.overwrite(ONE, where="p = 'a'"), {"insert": 7, "delete": 2}),
    "optimize": (lambda table: (table.append(ROWS), table.optimize()), {"insert": 12}),
}


def changes(table: DeltaTable) -> Counter[str]:
    feed = Library(table.location).load_cdf(starting_version=0).read_all()
    return Counter(pa.table(feed).column("_change_type").to_pylist())


@pytest.mark.parametrize(
    ("name", "partition_by"), [*((name, ["p"]) for name in DONE), ("delete of rows", []), ("overwrite", [])]
)
def test_the_feed_tells_what_was_changed(partition_by: list[str], name: str, lake: Springline) -> None:
    properties = {"delta.enableChangeDataFeed": "true"}
    table = lake.create_table(f"t-{uuid.uuid4().hex[:12]}", ROWS, partition_by=partition_by, properties=properties)
    table.append(ROWS)
    do, wanted = DONE[name]
    do(table)
    assert changes(table) == wanted


# Of values whose folders are escaped, delta-rs does not find the files for a feed, its own neither.
VALUES = {
    "numbers": pa.array([1, -2, None]),
    "reals": pa.array([0.5, -0.0, float("nan")]),
    "decimals": pa.array([Decimal("1.50"), Decimal("2.00"), None]),
    "days": pa.array([dt.date(2026, 1, 31), None, dt.date(1, 1, 1)]),
    "truths": pa.array([True, False, None]),
}


@pytest.mark.parametrize("kind", VALUES)
def test_the_feed_tells_rows_of_partitions_of_every_kind(kind: str, lake: Springline) -> None:
    rows = pa.table({"id": [0, 1, 2], "p": VALUES[kind]})
    properties = {"delta.enableChangeDataFeed": "true"}
    table = lake.create_table(f"t-{uuid.uuid4().hex[:12]}", rows, partition_by=["p"], properties=properties)
    table.append(rows)
    table.overwrite(rows)
    feed = pa.table(Library(table.location).load_cdf(starting_version=0).read_all())
    told = [(row["id"], repr(row["p"]), row["_change_type"]) for row in feed.to_pylist()]
    for row in rows.to_pylist():
        there = Counter(change for number, value, change in told if (number, value) == (row["id"], repr(row["p"])))
        assert there == {"insert": 2, "delete": 1}


@pytest.mark.parametrize("text", ["b c", "a/ü%20"])
def test_a_file_that_is_removed_has_the_values_that_it_was_added_with(text: str, lake: Springline) -> None:
    moment = pa.array([dt.datetime(2026, 1, 31, 5, tzinfo=dt.UTC)], pa.timestamp("us", "UTC"))
    rows = pa.table({"id": [0], "p": [text], "t": moment})
    table = lake.create_table(f"t-{uuid.uuid4().hex[:12]}", rows, partition_by=["p", "t"])
    table.append(rows)
    table.overwrite(rows)
    table.delete("p is not null")
    log = folder_of(table.location) / "_delta_log"
    lines = [orjson.loads(line) for file in sorted(log.glob("*.json")) for line in file.read_bytes().splitlines()]
    added = [line["add"] for line in lines if "add" in line]
    removed = [line["remove"] for line in lines if "remove" in line]
    assert [one["path"] for one in removed] == [one["path"] for one in added]
    assert [one["partitionValues"] for one in removed] == [one["partitionValues"] for one in added]


def test_a_file_of_another_writer_whose_value_is_read_differently_is_replaced_all_the_same(lake: Springline) -> None:
    rows = pa.table({"id": [0, 1], "p": ["a", "__HIVE_DEFAULT_PARTITION__"]})
    table = lake.create_table(f"t-{uuid.uuid4().hex[:12]}", rows, partition_by=["p"])
    write_deltalake(table.location, rows, mode="append")
    assert table.overwrite(ONE).version == 2
    assert table.to_arrow().num_rows == 1


def test_an_empty_table_with_partitions_is_overwritten(lake: Springline) -> None:
    table = lake.create_table(f"t-{uuid.uuid4().hex[:12]}", ROWS, partition_by=["p"])
    assert table.delete("p = 'a'").changed is False
    assert table.optimize().changed is False
    assert table.overwrite(ROWS).version == 1
    assert table.to_arrow().num_rows == 6
