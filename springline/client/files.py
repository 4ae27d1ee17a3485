"""Data files and the `add` actions that name them, as a pure function of rows and key.

A retry with the same rows and key makes the same bytes, the same names and the same payload, so that the key is
answered as the same request, whichever process retries.
"""

from __future__ import annotations

import datetime
import hashlib
import io
import math
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from springline.client.frames import split

STATISTICS_COLUMNS = 32
LONGEST_STATISTIC = 32
ENGINE_INFO = "Springline-Python"


@dataclass(frozen=True, slots=True)
class DataFile:
    """A Parquet file to be written: `name` relative to the table's root."""

    name: str
    data: bytes
    add: dict[str, Any]


def key_time_ms(key: str) -> int:
    """Return the Unix milliseconds in a UUIDv7: the one time that every retry of a commit agrees on."""
    return uuid.UUID(key).int >> 80


def data_files(table: pa.Table, partition_by: Sequence[str], key: str) -> list[DataFile]:
    """Return one Parquet file per partition value, with statistics for data skipping."""
    files = []
    for number, (values, rows) in enumerate(split(table, partition_by)):
        if rows.num_rows == 0:
            continue
        data = _parquet(rows)
        content = hashlib.sha256(data).hexdigest()[:12]
        name = f"part-{number:05}-{key}-{content}.snappy.parquet"
        add = {
            "path": name,
            "partitionValues": values,
            "size": len(data),
            "modificationTime": key_time_ms(key),
            "dataChange": True,
            "stats": orjson.dumps(statistics(rows)).decode(),
        }
        files.append(DataFile(name, data, add))
    return files


def append_payload(files: Sequence[DataFile], key: str, partition_by: Sequence[str]) -> bytes:
    """Return the staged payload of an append: a commitInfo that carries the key as `txnId`, then the files."""
    info = {
        "commitInfo": {
            "timestamp": key_time_ms(key),
            "operation": "WRITE",
            "operationParameters": {"mode": "Append", "partitionBy": orjson.dumps(list(partition_by)).decode()},
            "isBlindAppend": True,
            "engineInfo": ENGINE_INFO,
            "txnId": key,
        }
    }
    return b"\n".join([orjson.dumps(info), *(orjson.dumps({"add": file.add}) for file in files)]) + b"\n"


def statistics(rows: pa.Table) -> dict[str, Any]:
    """Return Delta's per-file statistics: row count, and bounds and null counts of the first 32 columns."""
    lowest: dict[str, Any] = {}
    highest: dict[str, Any] = {}
    nulls: dict[str, int] = {}
    for field in list(rows.schema)[:STATISTICS_COLUMNS]:
        if pa.types.is_nested(field.type):
            continue
        column = rows.column(field.name)
        nulls[field.name] = column.null_count
        bounds = _bounds(column, field.type)
        if bounds is not None:
            lowest[field.name], highest[field.name] = bounds
    return {"numRecords": rows.num_rows, "minValues": lowest, "maxValues": highest, "nullCount": nulls}


def _bounds(column: pa.ChunkedArray, kind: pa.DataType) -> tuple[Any, Any] | None:
    """Return the bounds of a column in Delta's JSON form, None where none can be stated exactly."""
    if pa.types.is_boolean(kind) or pa.types.is_binary(kind) or column.null_count == len(column):
        return None
    found = pc.min_max(column).as_py()
    low, high = found["min"], found["max"]
    match low:
        case float():
            # NaN has no place in an order; a file that holds one states no bounds.
            if not (math.isfinite(low) and math.isfinite(high)) or pc.any(pc.is_nan(column)).as_py():
                return None
            return low, high
        case str():
            return low[:LONGEST_STATISTIC], _at_least(high)
        case datetime.datetime():
            return _millis(low, up=False), _millis(high, up=True)
        case datetime.date():
            return low.isoformat(), high.isoformat()
        case Decimal():
            return None
        case _:
            return low, high


def _at_least(text: str) -> str:
    """Return a bound for a long string: cut, and raised so that it stays an upper bound."""
    return text if len(text) <= LONGEST_STATISTIC else text[:LONGEST_STATISTIC] + "\U0010ffff"


def _millis(moment: datetime.datetime, *, up: bool) -> str:
    """Return a timestamp bound in milliseconds, rounded away from the values it bounds."""
    rest = moment.microsecond % 1000
    if rest:
        moment += datetime.timedelta(microseconds=1000 - rest if up else -rest)
    zone = "Z" if moment.tzinfo else ""
    return moment.replace(tzinfo=None).isoformat(timespec="milliseconds") + zone


def _parquet(rows: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(rows, sink, compression="snappy", write_statistics=True, store_schema=False)
    return sink.getvalue()
