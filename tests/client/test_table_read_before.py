"""Writes by a client that read the table some time ago, while others have changed it since."""

from __future__ import annotations

import uuid
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable as Library
from deltalake import write_deltalake

from springline.client import DeltaTable, Springline
from springline.errors import Code, Refused
from tests.client.readers import folder_of

ROWS = pa.table({"n": [1], "p": ["a"]})


def known(lake: Springline, **options: Any) -> DeltaTable:
    """Return a table that this client has written to, so that it has read its columns."""
    table = lake.create_table(f"t-{uuid.uuid4().hex[:12]}", ROWS, **options)
    table.append(ROWS)
    return table


def numbers(table: DeltaTable) -> list[Any]:
    return sorted(row["n"] for row in table.to_arrow().to_pylist())


@pytest.mark.parametrize("given", ["frame", "reader"])
def test_rows_with_a_column_that_another_has_added_are_appended(given: str, lake: Springline) -> None:
    table = known(lake)
    rows = pa.table({"n": [2], "p": ["a"], "q": [0.5]})
    lake.table(table.name).append(rows, schema_mode="merge")
    assert table.append(rows if given == "frame" else rows.to_reader()).version == 3
    assert table.to_arrow(columns=["q"]).column("q").to_pylist().count(0.5) == 2


def test_rows_for_columns_that_another_has_replaced_are_told_so_and_the_next_are_appended(lake: Springline) -> None:
    table = known(lake)
    texts = pa.table({"n": ["x"], "p": ["a"]})
    write_deltalake(table.location, texts, mode="overwrite", schema_mode="overwrite")
    with pytest.raises(Refused) as caught:
        table.append(ROWS)
    assert caught.value.refusal.code is Code.METADATA_CHANGED
    assert table.append(texts).rows == 1
    assert numbers(table) == ["x", "x"]


def test_rows_for_other_partitions_than_the_table_s_are_told_so_and_the_next_are_appended(lake: Springline) -> None:
    table = known(lake)
    write_deltalake(table.location, ROWS, mode="overwrite", schema_mode="overwrite", partition_by=["p"])
    with pytest.raises(Refused) as caught:
        table.append(ROWS)
    assert caught.value.refusal.code is Code.METADATA_CHANGED
    table.append(ROWS)
    assert numbers(table) == [1, 1]


def test_a_value_that_fits_the_column_by_now_is_appended_by_the_next_call(lake: Springline) -> None:
    schema = pa.schema([pa.field("n", pa.int64(), nullable=False)])
    table = lake.create_table(f"t-{uuid.uuid4().hex[:12]}", schema)
    table.append({"n": [1]})
    nullable = pa.table({"n": pa.array([None], pa.int64())})
    write_deltalake(table.location, nullable, mode="overwrite", schema_mode="overwrite")
    with pytest.raises(Refused):
        table.append(nullable)
    table.append(nullable)
    assert table.to_arrow().num_rows == 2


@pytest.mark.parametrize("where", [None, "p = 'a'"])
def test_rows_of_a_version_whose_log_is_gone_are_replaced_in_the_newest(where: str | None, lake: Springline) -> None:
    table = known(lake, partition_by=["p"], properties={"delta.logRetentionDuration": "interval 0 days"})
    lake.table(table.name).append(pa.table({"n": [2, 3], "p": ["a", "b"]}))
    library = Library(table.location)
    library.create_checkpoint()
    library.cleanup_metadata()
    assert table.overwrite(pa.table({"n": [9], "p": ["a"]}), where=where).version == 3
    assert numbers(table) == ([3, 9] if where else [9])


def test_a_table_that_cannot_be_read_is_told_as_damaged_and_not_as_changed(lake: Springline) -> None:
    table = known(lake, partition_by=["p"])
    write_deltalake(table.location, ROWS, mode="append")
    log = folder_of(table.location) / "_delta_log" / f"{2:020}.json"
    log.write_text(log.read_text().replace('"partitionValues":{"p":', '"partitionValues":{"nope":'))
    for where in (None, "p = 'a'"):
        with pytest.raises(Refused) as caught:
            table.overwrite(ROWS, where=where)
        assert (caught.value.refusal.code, caught.value.refusal.value) == (Code.STORED_DAMAGED, table.name)
    assert table.status()["latest_version"] == 2


def test_rows_whose_file_is_gone_are_told_as_damaged_and_not_as_a_bad_condition(lake: Springline) -> None:
    table = known(lake)
    for file in folder_of(table.location).rglob("*.parquet"):
        file.unlink()
    with pytest.raises(Refused) as caught:
        table.to_arrow()
    assert (caught.value.refusal.code, caught.value.refusal.value) == (Code.STORED_DAMAGED, table.name)
