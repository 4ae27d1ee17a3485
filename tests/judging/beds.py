"""The tables that payloads are judged against: plain, partitioned by every kind, with features, with column mapping."""

from __future__ import annotations

import datetime
import json
from collections.abc import Awaitable, Callable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa

from springline.commit.tables import adopt_table
from springline.delta.messages import CommitMode
from springline.delta.table_request import AdoptTable
from springline.storage.local import LocalStore
from springline.storage.scoped import ScopedStore
from tests.judging.committing import NOW_MS, SCOPE, TABLE_ID, Bed, data_file, payload
from tests.judging.generator import DataFile, Subject, added

SPARE = ("first.parquet", "a b.parquet", "xx/y.parquet", "é.parquet", "a%b.parquet", "a+b.parquet", "p=1/part.parquet",
         "z.parquet", "a[b].parquet", "a'b.parquet", "zz.parquet")  # fmt: skip
"""Files in every table's folder: plain names, and those that some spellings of paths stand for."""
PLAIN_SPARE = ("z.parquet", "zz.parquet", "xx/y.parquet")
ROWS = 40


async def plain(folder: Path) -> tuple[Bed, Subject]:
    """A table without partitions or features: a number and a text."""
    return await _created(folder, "plain", [("id", "long"), ("s", "string")], {})


async def partitioned(folder: Path) -> tuple[Bed, Subject]:
    """A table partitioned by a column of each type."""
    values: dict[str, tuple[str | None, ...]] = {
        "p_long": ("1", "-9223372036854775808", None),
        "p_string": ("a", "é x", "x\ny", None),
        "p_date": ("2020-01-01", "9999-12-31", None),
        "p_time": ("2020-01-01T00:00:00.123456Z", "2020-01-01 10:00:00", None),
        "p_float": ("1.5", "NaN", "Infinity", "-0.0", "1e-7", None),
        "p_decimal": ("1.50", "-12345678.00", None),
        "p_bool": ("true", "false", None),
    }
    columns = [("id", "long"), ("p_long", "long"), ("p_string", "string"), ("p_date", "date")]
    columns += [("p_time", "timestamp"), ("p_float", "double"), ("p_decimal", "decimal(10,2)"), ("p_bool", "boolean")]
    return await _created(folder, "partitioned", columns, values)


async def featured(folder: Path) -> tuple[Bed, Subject]:
    """A nested table with deletion vectors, change data and domains."""
    nested = {"type": "struct", "fields": [
        {"name": "x", "type": "integer", "nullable": True, "metadata": {}},
        {"name": "y", "type": {"type": "array", "elementType": "string", "containsNull": True}, "nullable": True,
         "metadata": {}}]}  # fmt: skip
    columns: list[tuple[str, Any]] = [("id", "long"), ("n", nested), ("d", "decimal(10,2)"), ("t", "timestamp_ntz")]
    properties = {
        "delta.enableDeletionVectors": "true",
        "delta.enableChangeDataFeed": "true",
        "delta.feature.domainMetadata": "supported",
    }
    return await _created(folder, "featured", columns, {}, properties)


async def mapped(folder: Path) -> tuple[Bed, Subject]:
    """An adopted table with column mapping by name, partitioned, whose columns have other physical names."""
    bed = Bed(folder)
    fields = [
        {"name": name, "type": kind, "nullable": True, "metadata": {
            "delta.columnMapping.id": number, "delta.columnMapping.physicalName": physical}}
        for number, (name, kind, physical) in enumerate(
            [("the id", "long", "id"), ("text", "string", "col-1"), ("part", "string", "col-2")], 1)
    ]  # fmt: skip
    metadata = {
        "id": TABLE_ID,
        "format": {"provider": "parquet", "options": {}},
        "schemaString": json.dumps({"type": "struct", "fields": fields}),
        "partitionColumns": ["part"],
        "configuration": {"delta.columnMapping.mode": "name", "delta.columnMapping.maxColumnId": "3"},
        "createdTime": NOW_MS,
    }
    protocol = {"minReaderVersion": 2, "minWriterVersion": 5}
    zero = payload([{"commitInfo": {"timestamp": NOW_MS}}, {"protocol": protocol}, {"metaData": metadata}])
    bed.put("_delta_log/00000000000000000000.json", zero)
    scoped = ScopedStore(LocalStore(folder, fsync=False), SCOPE)
    await adopt_table(scoped, SCOPE, AdoptTable(name="judged", location=bed.root), TABLE_ID, NOW_MS)
    columns = {"id": _column("long"), "col-1": _column("string")}
    return bed, await _filled(bed, "mapped", protocol, metadata, columns, {"col-2": ("a", "b", None)})


BEDS: dict[str, Callable[[Path], Awaitable[tuple[Bed, Subject]]]] = {
    "plain": plain,
    "partitioned": partitioned,
    "featured": featured,
    "mapped": mapped,
}


async def _created(
    folder: Path,
    name: str,
    columns: list[tuple[str, Any]],
    values: Mapping[str, tuple[str | None, ...]],
    properties: Mapping[str, str] | None = None,
) -> tuple[Bed, Subject]:
    bed = Bed(folder)
    await bed.create(
        {
            "columns": [{"name": column, "type": kind} for column, kind in columns],
            "partition_columns": list(values),
            "properties": dict(properties or {}),
        }
    )
    log = (bed.location / "_delta_log" / f"{0:020}.json").read_bytes()
    actions = {kind: action for line in log.splitlines() for kind, action in orjson.loads(line).items()}
    stored = {column: _column(kind) for column, kind in columns if column not in values}
    return bed, await _filled(bed, name, actions["protocol"], actions["metaData"], stored, values)


async def _filled(
    bed: Bed,
    name: str,
    protocol: dict[str, Any],
    metadata: dict[str, Any],
    columns: Mapping[str, pa.Array],
    values: Mapping[str, tuple[str | None, ...]],
) -> Subject:
    _, data = data_file(columns)
    stats = {"numRecords": ROWS, "nullCount": dict.fromkeys(("id",), 0)}
    stats |= {"minValues": {"id": 0}, "maxValues": {"id": ROWS - 1}}
    first = {column: some[0] for column, some in values.items()}
    for path in SPARE:
        bed.put(path, data)
    live = DataFile("first.parquet", len(data), ROWS, first, stats)
    spare = tuple(DataFile(path, len(data), ROWS, first, stats) for path in PLAIN_SPARE)
    assert (await bed.commit(payload([{"add": added(live)}]), CommitMode.APPEND)).accepted
    return Subject(name, protocol, metadata, (live,), spare, values)


def _column(kind: Any) -> pa.Array:
    numbers = range(ROWS)
    match kind:
        case "long":
            return pa.array(numbers, pa.int64())
        case "decimal(10,2)":
            return pa.array([Decimal(number) for number in numbers], pa.decimal128(10, 2))
        case "timestamp_ntz":
            start = datetime.datetime(2020, 1, 1)
            return pa.array([start + datetime.timedelta(days=number) for number in numbers], pa.timestamp("us"))
        case dict():
            made = [{"x": number, "y": ["a", None]} for number in numbers]
            return pa.array(made, pa.struct([("x", pa.int32()), ("y", pa.list_(pa.string()))]))
    return pa.array([f"s{number}" for number in numbers])
