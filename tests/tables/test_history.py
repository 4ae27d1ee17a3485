"""Rows of a table's history: from our own commits, other writers' and damaged log files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from hypothesis import given
from hypothesis import strategies as st

from springline.delta.described import HistoryRow, history_row

KEYS = [f"01946b1c-0000-7000-8000-00000000000{number}" for number in range(4)]


def lines(*actions: dict[str, Any]) -> bytes:
    return b"\n".join(orjson.dumps(action) for action in actions) + b"\n"


def add(rows: int | None, **more: Any) -> dict[str, Any]:
    stats = {} if rows is None else {"stats": orjson.dumps({"numRecords": rows}).decode()}
    return {"add": {"path": "a", "partitionValues": {}, "size": 10, "dataChange": True, **stats, **more}}


def test_a_round_names_the_keys_of_its_members() -> None:
    members = [{"key": key, "sha256": "0"} for key in KEYS[:2]]
    info = {"timestamp": 7, "operation": "WRITE", "engineInfo": "E", "springline": {"members": members}}
    row = history_row(3, lines({"commitInfo": info}, {"txn": {"appId": "spark-1", "version": 1}}, add(2), add(3)))
    assert row == HistoryRow(
        version=3, timestamp_ms=7, operation="WRITE", keys=tuple(KEYS[:2]), files_added=2, bytes_added=20,
        rows_added=5, engine="E",
    )  # fmt: skip


def test_a_single_commit_names_its_key_and_so_does_a_txn() -> None:
    info = {"commitInfo": {"txnId": KEYS[0], "inCommitTimestamp": 9, "timestamp": 7}}
    row = history_row(1, lines(info, {"txn": {"appId": KEYS[1], "version": 1}}, {"txn": {"appId": KEYS[0]}}))
    assert (row.keys, row.timestamp_ms) == ((KEYS[0], KEYS[1]), 9)


def test_a_creation_carries_the_id_of_its_table_which_is_no_key() -> None:
    info = {"commitInfo": {"operation": "CREATE TABLE", "txnId": KEYS[0]}}
    assert history_row(0, lines(info, {"metaData": {"id": KEYS[0]}})).keys == ()


def test_rows_are_counted_where_data_changed_and_every_file_tells() -> None:
    removed = {"remove": {"path": "a", "dataChange": True, "stats": '{"numRecords": 4}'}}
    hidden = {"deletionVector": {"cardinality": 3}}
    row = history_row(1, lines(add(10, **hidden), removed, add(100, dataChange=False)))
    assert (row.rows_added, row.rows_removed, row.files_added, row.files_removed) == (7, 4, 2, 1)
    assert history_row(1, lines(add(10), add(None))).rows_added is None
    assert history_row(1, lines(add(10, stats="{"), add(1))).rows_added is None
    assert history_row(1, lines({"remove": {"path": "a"}})).rows_removed is None


@pytest.mark.parametrize("log", [b"{", b"[]", b"7", b'"x"', b"\xff\xfe"])
def test_a_damaged_log_file_is_a_row_that_says_so(log: bytes) -> None:
    row = history_row(5, log)
    assert (row.version, row.readable, row.operation, row.rows_added) == (5, False, None, None)


def test_the_rows_agree_with_delta_rs(tmp_path: Path) -> None:
    place = str(tmp_path)
    write_deltalake(place, pa.table({"x": [1, 2, 3]}))
    write_deltalake(place, pa.table({"x": [4, 5]}), mode="append")
    DeltaTable(place).delete("x > 3")
    DeltaTable(place).optimize.compact()
    theirs = {one["version"]: one for one in DeltaTable(place).history()}
    logs = {int(path.stem): path.read_bytes() for path in (tmp_path / "_delta_log").glob("*.json")}
    ours = {version: history_row(version, log) for version, log in logs.items()}
    assert sorted(ours) == sorted(theirs)
    for version, row in ours.items():
        assert (row.operation, row.timestamp_ms) == (theirs[version]["operation"], theirs[version]["timestamp"])
        assert row.parameters == theirs[version].get("operationParameters")
    assert [(ours[version].rows_added, ours[version].rows_removed) for version in (0, 1)] == [(3, 0), (2, 0)]
    assert ours[2].rows_removed in (2, None)


NAMES = ["commitInfo", "add", "remove", "txn", "metaData", "springline", "members", "key", "txnId", "appId", "stats"]
NAMES += ["timestamp", "operation", "operationParameters", "deletionVector", "cardinality", "dataChange", "size", "id"]
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=4),
    max_leaves=12,
)


@given(st.integers(0, 2**63 - 1), st.lists(st.dictionaries(st.sampled_from(NAMES), json_values, max_size=2)))
def test_whatever_a_log_holds_it_has_a_row(version: int, actions: list[dict[str, Any]]) -> None:
    row = history_row(version, lines(*actions))
    assert row.version == version
    assert HistoryRow.model_validate_json(row.model_dump_json()) == row
