"""Rows for tests: a table of numbered rows, Parquet files that hold some of them, and what a Delta reader sees."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import uuid_utils
from deltalake import DeltaTable

from springline import paths
from springline.commit.tables import create_table
from springline.delta.registry import TableEntry
from springline.delta.table_request import CreateTable
from springline.storage.port import IfAbsent, ObjectStore
from springline.storage.scoped import ScopedStore

SCOPE = paths.Scope("acme", "prod")
TABLE_ID = "01946b1c-0000-7000-8000-0000000000aa"
CREATED_MS = 1_736_899_200_000
COLUMNS = [{"name": "id", "type": "long"}, {"name": "writer", "type": "string"}]


async def create_rows_table(
    store: ObjectStore, name: str = "rows", table_id: str = TABLE_ID, properties: Mapping[str, str] | None = None
) -> TableEntry:
    """Create a table of numbered rows in the workspace `SCOPE` of `store`."""
    spec = CreateTable.model_validate({"name": name, "columns": COLUMNS, "properties": dict(properties or {})})
    return await create_table(ScopedStore(store, SCOPE), SCOPE, spec, table_id, CREATED_MS)


def rows(ids: Sequence[int], writer: str) -> pa.Table:
    """Return rows with these ids."""
    return pa.table({"id": pa.array(list(ids), pa.int64()), "writer": pa.array([writer] * len(ids), pa.string())})


async def payload_of(store: ObjectStore, root: str, ids: Sequence[int], writer: str = "ours") -> bytes:
    """Write a data file with rows of these ids below `root`; return the payload that adds it."""
    buffer = io.BytesIO()
    pq.write_table(rows(ids, writer), buffer)
    data = buffer.getvalue()
    name = f"part-{uuid_utils.uuid7()}.parquet"
    await ScopedStore(store, SCOPE).put(paths.delta_data_file(root, name), data, IfAbsent())
    return adding(name, size=len(data))


def adding(name: str, *, size: int = 1) -> bytes:
    """Return a payload that adds one data file by name."""
    add = {"path": name, "partitionValues": {}, "size": size, "modificationTime": CREATED_MS, "dataChange": True}
    return orjson.dumps({"add": add}) + b"\n"


def read_rows(folder: Path, root: str) -> Counter[tuple[int, str]]:
    """Read the table below a local store's folder with another Delta reader; count its rows by id and writer."""
    table = DeltaTable(folder / SCOPE.full(paths.workspace_path(root))).to_pyarrow_table()
    return Counter(zip(table["id"].to_pylist(), table["writer"].to_pylist(), strict=True))
