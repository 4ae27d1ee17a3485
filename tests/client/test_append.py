"""Appends by the client: rows of every library come back as they were, once for each key."""

from __future__ import annotations

import uuid
from typing import Any

import pyarrow as pa
from deltalake import DeltaTable as Reader

from springline.client import Springline
from springline.client.table import DeltaTable, new_key
from tests.client.conftest import Folder


def fresh(lake: Springline, schema: Any, **options: Any) -> DeltaTable:
    return lake.create_table(f"t-{uuid.uuid4().hex[:12]}", schema, **options)


def read(table: DeltaTable) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pa.table(Reader(table.location).to_pyarrow_table()).to_pylist()
    return rows


def test_rows_are_appended_once_for_each_key(lake: Springline, folder: Folder) -> None:
    rows = pa.table({"a": [1, 2], "b": ["x", None]})
    table = fresh(lake, rows)
    key = new_key()
    first = table.append(rows, key=key)
    assert (first.version, first.rows, first.key, first.committed) == (1, 2, key, True)
    before = folder.data_files()
    assert table.append(rows, key=key).version == 1
    assert folder.data_files() == before
    assert table.append(rows).version == 2
    assert sorted(row["a"] for row in read(table)) == [1, 1, 2, 2]
