"""The pipelines in docs/examples: each is valid, and makes what it says, in this process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import deltalake
import pytest

from springline.sdk import MaterializeResult, materialize
from springline.sdk.loading import load

EXAMPLES = Path(__file__).parents[2] / "docs/examples"
OVER_HTTP = "worker.py"
"""A worker of its own: `tests/server/test_http_workers.py` runs it."""


def made(file: str, folder: Path, select: str = "*", **more: Any) -> MaterializeResult:
    assets = [one.declared for one in load(EXAMPLES / file).pipeline.assets.values()]
    return materialize(assets, select, tables=folder / "lake", **more)


def rows(folder: Path, table: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = deltalake.DeltaTable(str(folder / "lake" / table)).to_pyarrow_table().to_pylist()
    return sorted(found, key=str)


@pytest.mark.parametrize("file", sorted(one.name for one in EXAMPLES.glob("*.py") if one.name != OVER_HTTP))
def test_an_example_is_valid(file: str) -> None:
    assert load(EXAMPLES / file).pipeline.assets


def test_each_file_is_ingested_once(tmp_path: Path) -> None:
    incoming = tmp_path / "incoming"
    incoming.mkdir()
    config = {"folder": str(incoming)}
    result = made("ingestion.py", tmp_path, config=config)
    assert result["orders"].metadata == {"files": []}
    (incoming / "orders-0001.csv").write_text("order_id,amount\n1,2.5\n2,3.5\n")
    (incoming / "orders-0002.csv").write_text("order_id,amount\n3,1.0\n")
    assert made("ingestion.py", tmp_path, config=config)["orders"].metadata == {
        "files": ["orders-0001.csv", "orders-0002.csv"]
    }
    (incoming / "orders-0003.csv").write_text("order_id,amount\n4,9.0\n")
    assert made("ingestion.py", tmp_path, config=config)["orders"].metadata == {"files": ["orders-0003.csv"]}
    made("ingestion.py", tmp_path, config=config)
    assert [row["order_id"] for row in rows(tmp_path, "orders")] == [1, 2, 3, 4]
    assert rows(tmp_path, "watermarks") == [{"source": "orders", "last": "orders-0003.csv"}]


def test_a_bad_file_moves_no_watermark(tmp_path: Path) -> None:
    (tmp_path / "orders-0001.csv").write_text("order_id,amount\n1,2.5\n1,3.5\n")
    result = made("ingestion.py", tmp_path, config={"folder": str(tmp_path)}, raise_on_error=False)
    assert [one.passed for one in result["orders"].checks] == [True, False]
    assert rows(tmp_path, "watermarks") == []


def test_models_in_sql(tmp_path: Path) -> None:
    result = made("sql_models.py", tmp_path)
    assert list(result.assets) == ["orders", "stg_orders", "revenue"]
    assert rows(tmp_path, "revenue") == [
        {"city": "Lima", "amount": 4.0, "orders": 1},
        {"city": "Oslo", "amount": 16.0, "orders": 2},
    ]


def test_hours_of_trips(tmp_path: Path) -> None:
    for hour in ("06", "07", "08", "07"):
        result = made("trips.py", tmp_path, partition_key=f"2026-01-31T{hour}")
    assert [(row["key"][-2:], row["km"]) for row in rows(tmp_path, "hourly_totals")] == [
        ("06", 9.5),
        ("07", 10.5),
        ("08", 11.5),
    ]
    assert result.value("rolling") == 10.0


def test_a_dimension_keeps_what_was(tmp_path: Path) -> None:
    for day in ("2026-01-01", "2026-01-02", "2026-01-02", "2026-01-03"):
        made("dimension.py", tmp_path, partition_key=day)
    told = [
        (row["customer"], row["city"], row["since"].day, row["until"] and row["until"].day)
        for row in rows(tmp_path, "customers")
    ]
    assert told == [(1, "Oslo", 1, None), (2, "Lima", 1, 2), (2, "Quito", 2, None)]
