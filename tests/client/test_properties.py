"""Table properties that say how files are written take effect in the files, or are refused by name."""

from __future__ import annotations

import uuid
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import write_deltalake

from springline.client import Springline
from springline.client.table import DeltaTable
from springline.errors import Code, Refused
from tests.client.conftest import Folder
from tests.client.readers import folder_of
from tests.support.local_api import ACME

ROWS = pa.table({"a": [1, 2], "b": [3, 4], "c": ["x", "y"]})


def fresh(lake: Springline, properties: dict[str, str], rows: pa.Table = ROWS) -> DeltaTable:
    return lake.create_table(f"t-{uuid.uuid4().hex[:12]}", rows, properties=properties)


def adds(table: DeltaTable) -> list[dict[str, Any]]:
    version = table.status()["latest_version"]
    lines = (folder_of(table.location) / "_delta_log" / f"{version:020}.json").read_bytes().splitlines()
    return [orjson.loads(line)["add"] for line in lines if b'"add"' in line]


@pytest.mark.parametrize(
    ("codec", "found"),
    [
        ("zstd", "ZSTD"),
        ("GZIP", "GZIP"),
        ("none", "UNCOMPRESSED"),
        ("lz4", "LZ4"),
        ("brotli", "BROTLI"),
        ("snappy", "SNAPPY"),
    ],
)
def test_the_codec(lake: Springline, codec: str, found: str) -> None:
    table = fresh(lake, {"delta.parquet.compression.codec": codec})
    table.append(ROWS)
    (add,) = adds(table)
    column = pq.ParquetFile(folder_of(table.location) / add["path"]).metadata.row_group(0).column(0)
    assert column.compression.startswith(found)


@pytest.mark.parametrize(
    ("properties", "columns"),
    [
        ({}, {"a", "b", "c"}),
        ({"delta.dataSkippingNumIndexedCols": "1"}, {"a"}),
        ({"delta.dataSkippingNumIndexedCols": "0"}, set()),
        ({"delta.dataSkippingNumIndexedCols": "-1"}, {"a", "b", "c"}),
        ({"delta.dataSkippingStatsColumns": "b,c"}, {"b", "c"}),
    ],
)
def test_the_columns_with_statistics(lake: Springline, properties: dict[str, str], columns: set[str]) -> None:
    table = fresh(lake, properties)
    table.append(ROWS)
    (add,) = adds(table)
    stats = orjson.loads(add["stats"])
    assert set(stats.get("minValues", {})) == columns
    assert stats["numRecords"] == 2


def test_the_size_of_files(lake: Springline) -> None:
    rows = pa.table({"a": pa.array(range(400_000), pa.int64()), "t": [str(i * 7919) for i in range(400_000)]})
    whole = fresh(lake, {}, rows)
    whole.append(rows)
    assert len(adds(whole)) == 1
    table = fresh(lake, {"delta.targetFileSize": "1mb"}, rows)
    table.append(rows)
    assert len(adds(table)) > 2
    assert max(add["size"] for add in adds(table)) < 2 * 1024 * 1024


REFUSED = {
    "delta.parquet.compression.codec": "lzo",
    "delta.targetFileSize": "huge",
    "delta.dataSkippingNumIndexedCols": "-2",
    "delta.dataSkippingStatsColumns": "a,,b",
    "delta.checkpointInterval": "0",
    "delta.randomizeFilePrefixes": "true",
    "delta.randomPrefixLength": "4",
    "delta.autoOptimize.optimizeWrite": "true",
    "delta.checkpoint.writeStatsAsStruct": "true",
    "delta.enableExpiredLogCleanup": "true",
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_honoured_is_refused_by_name_when_it_is_set(lake: Springline, name: str) -> None:
    with pytest.raises(Refused) as caught:
        fresh(lake, {name: REFUSED[name]})
    assert name in caught.value.refusal.message


def test_an_adopted_table_that_asks_writers_for_more_is_refused_by_name(lake: Springline, folder: Folder) -> None:
    name = f"adopted-{uuid.uuid4().hex[:12]}"
    location = folder.root / ACME.prefix / name
    write_deltalake(location, ROWS, configuration={"delta.randomizeFilePrefixes": "true"})
    table = lake.adopt_table(name, name)
    with pytest.raises(Refused) as caught:
        table.append(ROWS)
    assert caught.value.refusal.code is Code.UNSUPPORTED_FEATURE
    assert caught.value.refusal.field == "delta.randomizeFilePrefixes"
