"""Hand-made commits that once went wrong, each standing for its kind: refused, or accepted and read by others."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from springline.delta.messages import CommitMode
from tests.judging.committing import COPY, ROWS, Bed, Lines, data_file, payload
from tests.support.judges import counts

CASES = json.loads((Path(__file__).parent / "cases" / "payloads.json").read_text())
DEEP = "[" * 100_000 + "]" * 100_000
"""What `$DEEP` stands for in a case."""


async def bed_of(table: dict[str, Any], folder: Path) -> Bed:
    """Create a case's table, with two rows in it and a second data file to add."""
    bed = Bed(folder)
    await bed.create({"partition_columns": table["partition_by"], "properties": table["properties"]})
    columns = {"id": pa.array([1, 2], pa.int64()), "s": pa.array(["a", "b"])}
    stored = {name: column for name, column in columns.items() if name not in table["partition_by"]}
    _, data = data_file(stored)
    bed.put("first.parquet", data)
    bed.put(COPY, data)
    add = {
        "path": "first.parquet",
        "partitionValues": {name: "1" for name in table["partition_by"]},
        "size": len(data),
        "modificationTime": 1_700_000_000_000,
        "dataChange": True,
    }
    assert (await bed.commit(payload([{"add": add}]), CommitMode.APPEND)).accepted
    return bed


def lines_of(case: dict[str, Any], size: int) -> Lines:
    lines = []
    for given in case["lines"]:
        line = given if isinstance(given, str) else json.loads(json.dumps(given).replace("$DEEP", DEEP))
        if isinstance(line, dict) and isinstance(line.get("add"), dict) and line["add"].get("size") == 1000:
            line["add"]["size"] = size
        lines.append(line)
    return lines


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
async def test_a_case(case: dict[str, Any], tmp_path: Path) -> None:
    bed = await bed_of(case["table"], tmp_path / "store")
    size = (bed.location / COPY).stat().st_size
    before = bed.objects()
    started = time.perf_counter()
    trial = await bed.commit(payload(lines_of(case, size)), CommitMode(case["mode"]))
    took = time.perf_counter() - started
    if case["expect"] == "accepted":
        assert trial.accepted, trial.refusal
        expected = ROWS + ROWS * sum("add" in line for line in case["lines"])
        assert counts(bed.location) == {"delta-rs": expected, "duckdb": expected}
        return
    refusal = trial.refusal
    assert refusal is not None, "was accepted"
    assert refusal.code in ("INVALID_PAYLOAD", "UNSUPPORTED_FEATURE"), refusal
    assert refusal.field, refusal
    assert refusal.field.startswith("payload line "), refusal
    assert refusal.remedy, refusal
    assert len(refusal.model_dump_json()) < 2_000, "a refusal shows a value, not a payload"
    assert {name: data for name, data in bed.objects().items() if name not in before or before[name] != data} == {
        name: data for name, data in bed.objects().items() if "/staging/" in name and name not in before
    }
    assert took < 20.0
    # Somebody else's commit goes on.
    name = next(iter(case["table"]["partition_by"]), None)
    good = {
        "path": COPY,
        "partitionValues": {} if name is None else {name: "7"},
        "size": size,
        "modificationTime": 1_700_000_000_000,
        "dataChange": True,
    }
    assert (await bed.commit(payload([{"add": good}]), CommitMode.APPEND)).accepted
    assert counts(bed.location) == {"delta-rs": 2 * ROWS, "duckdb": 2 * ROWS}
