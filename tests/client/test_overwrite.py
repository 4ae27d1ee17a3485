"""Overwrites and appends that add columns: strict commits, exactly once, computed again when the table has moved."""

from __future__ import annotations

import threading
import uuid
from typing import Any

import orjson
import pyarrow as pa
import pytest

from springline.client import Springline, writing
from springline.client.table import DeltaTable, new_key
from springline.client.writing import WritableTable
from springline.delta.messages import CommitMode
from springline.errors import Code, Refused
from tests.client.conftest import Folder
from tests.client.readers import by_pyarrow, folder_of


def fresh(lake: Springline, schema: Any, **options: Any) -> DeltaTable:
    return lake.create_table(f"t-{uuid.uuid4().hex[:12]}", schema, **options)


def numbers(table: DeltaTable) -> list[int]:
    return sorted(by_pyarrow(table.location)["n"].to_pylist())


def log_of(table: DeltaTable, version: int) -> list[dict[str, Any]]:
    path = folder_of(table.location) / "_delta_log" / f"{version:020}.json"
    return [orjson.loads(line) for line in path.read_bytes().splitlines()]


def days(*pairs: tuple[str | None, int]) -> pa.Table:
    return pa.table({"day": pa.array([day for day, _ in pairs], pa.string()), "n": [number for _, number in pairs]})


def test_all_rows_are_replaced_once(lake: Springline, folder: Folder) -> None:
    table = fresh(lake, days(("a", 0)), partition_by=["day"])
    table.append(days(("a", 1), ("b", 2), (None, 3)))
    key = "replace/1"
    assert table.overwrite(days(("c", 4)), key=key).version == 2
    table.append(days(("c", 5)))
    files = folder.data_files()
    assert table.overwrite(days(("c", 4)), key=key).version == 2
    assert folder.data_files() == files
    assert numbers(table) == [4, 5]
    with pytest.raises(Refused) as caught:
        table.append(days(("c", 4)), key=key)
    assert caught.value.refusal.code is Code.KEY_REUSED
    with pytest.raises(Refused) as caught:
        table.overwrite(days(("c", 9)), key=key)
    assert caught.value.refusal.code is Code.KEY_REUSED
    info = log_of(table, 2)[0]["commitInfo"]
    assert info["operationParameters"] == {"mode": "Overwrite", "partitionBy": '["day"]'}
    assert {name: info["operationMetrics"][name] for name in ("numFiles", "numOutputRows", "numRemovedFiles")} == {
        "numFiles": "1",
        "numOutputRows": "1",
        "numRemovedFiles": "3",
    }


def test_partitions_are_replaced_and_the_rest_stays(lake: Springline) -> None:
    table = fresh(lake, days(("a", 0)), partition_by=["day"])
    table.append(days(("2024-01-01", 1), ("2024-01-02", 2), (None, 3)))
    where = "day = '2024-01-02'"
    assert table.overwrite(days(("2024-01-02", 4)), where=where).version == 2
    assert numbers(table) == [1, 3, 4]
    assert log_of(table, 2)[0]["commitInfo"]["operationParameters"]["predicate"] == where
    assert table.overwrite([], where="day IS NULL").version == 3
    assert numbers(table) == [1, 4]
    assert table.overwrite([]).version == 4
    assert numbers(table) == []


def test_where_is_part_of_what_the_key_stands_for(lake: Springline) -> None:
    table = fresh(lake, days(("a", 0)), partition_by=["day"])
    table.overwrite(days(("a", 1)), where="day = 'a'", key="k")
    assert table.overwrite(days(("a", 1)), where="day = 'a'", key="k").version == 1
    with pytest.raises(Refused) as caught:
        table.overwrite(days(("a", 1)), where="day >= 'a'", key="k")
    assert caught.value.refusal.code is Code.KEY_REUSED


@pytest.mark.parametrize("where", ["n = 1", "nonsense", "day = ", "1; SELECT 1", "other = 'x'"])
def test_a_predicate_over_other_columns_is_refused(lake: Springline, where: str) -> None:
    table = fresh(lake, days(("a", 0)), partition_by=["day"])
    table.append(days(("a", 1)))
    with pytest.raises(Refused) as caught:
        table.overwrite(days(("a", 1)), where=where)
    assert (caught.value.refusal.field, caught.value.refusal.value) == ("where", where)
    assert numbers(table) == [1]


def test_rows_outside_of_where_are_refused_and_leave_nothing(lake: Springline, folder: Folder) -> None:
    table = fresh(lake, days(("a", 0)), partition_by=["day"])
    table.append(days(("a", 1)))
    files = folder.data_files()
    for bad in ("b", None):
        with pytest.raises(Refused) as caught:
            table.overwrite(days(("a", 2), (bad, 3)), where="day = 'a'")
        assert caught.value.refusal.field == "where"
    assert folder.data_files() == files
    plain = fresh(lake, days(("a", 0)))
    with pytest.raises(Refused) as caught:
        plain.overwrite(days(("a", 2)), where="day = 'a'")
    assert caught.value.refusal.field == "where"


def test_an_append_only_table_is_not_overwritten(lake: Springline) -> None:
    table = fresh(lake, days(("a", 0)), properties={"delta.appendOnly": "true"})
    table.append(days(("a", 1)))
    with pytest.raises(Refused) as caught:
        table.overwrite(days(("a", 2)))
    assert caught.value.refusal.code is Code.UNSUPPORTED_FEATURE


def test_an_overwrite_that_always_loses_says_so(lake: Springline, monkeypatch: pytest.MonkeyPatch) -> None:
    table = fresh(lake, days(("a", 0)))
    inner = WritableTable.commit

    def beaten(self: WritableTable, payload: bytes, key: str, mode: CommitMode, read_version: int) -> dict[str, Any]:
        if mode is CommitMode.STRICT:
            lake.table(table.name).append(days(("b", 1)))
        return inner(self, payload, key, mode, read_version)

    monkeypatch.setattr(WritableTable, "commit", beaten)
    monkeypatch.setattr("springline.client.writing.TRIES", 2)
    with pytest.raises(Refused, match="lost against other commits 2 times") as caught:
        table.overwrite(days(("a", 2)), key="k")
    refusal = caught.value.refusal
    assert (refusal.code, refusal.field, refusal.value) == (Code.STALE_READ_VERSION, "table", table.name)
    assert numbers(table) == [1, 1]
    monkeypatch.undo()
    table.overwrite(days(("a", 2)), key="k")
    assert numbers(table) == [2]


def test_rivals_never_leave_rows_of_two_overwrites(lake: Springline) -> None:
    table = fresh(lake, days(("a", 0)))
    writers, each = 4, 3
    refused: list[Code] = []

    def write(writer: int) -> None:
        for number in range(each):
            rows = pa.table({"day": [str(writer)] * 2, "n": [writer * 100 + number] * 2})
            try:
                lake.table(table.name).overwrite(rows, key=f"{writer}/{number}")
            except Refused as error:
                refused.append(error.refusal.code)

    threads = [threading.Thread(target=write, args=(writer,)) for writer in range(writers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(refused) <= {Code.STALE_READ_VERSION}
    found = numbers(table)
    assert len(found) == 2
    assert found[0] == found[1]
    assert table.status()["latest_version"] == writers * each - len(refused)


def test_new_columns_are_added_by_a_strict_commit_and_the_key_stays_the_rows(lake: Springline) -> None:
    table = fresh(lake, pa.table({"n": [1]}))
    table.append({"n": [1]}, key="first")
    wide = pa.table({"n": [2], "s": ["x"], "d": pa.array([{"x": 1}])})
    with pytest.raises(Refused) as caught:
        table.append(wide)
    assert caught.value.refusal.field == "data.s"
    assert table.append(wide, schema_mode="merge", key="wide").version == 2
    assert table.append(wide, schema_mode="merge", key="wide").version == 2
    assert table.append(wide, key="wide").version == 2
    assert table.append({"n": [1]}, key="first").version == 1
    deeper = pa.table({"n": [3], "d": pa.array([{"x": 2, "y": [1.5]}])})
    assert table.append(deeper, schema_mode="merge").version == 3
    assert table.append(wide, schema_mode="merge").version == 4
    rows = sorted(by_pyarrow(table.location).to_pylist(), key=lambda row: row["n"])
    assert rows == [
        {"n": 1, "s": None, "d": None},
        {"n": 2, "s": "x", "d": {"x": 1, "y": None}},
        {"n": 2, "s": "x", "d": {"x": 1, "y": None}},
        {"n": 3, "s": None, "d": {"x": 2, "y": [1.5]}},
    ]
    assert [next(iter(action)) for action in log_of(table, 4)] == ["commitInfo", "add"]
    metadata = next(action["metaData"] for action in log_of(table, 2) if "metaData" in action)
    original = next(action["metaData"] for action in log_of(table, 0) if "metaData" in action)
    assert {**metadata, "schemaString": ""} == {**original, "schemaString": ""}


@pytest.mark.parametrize(
    ("rows", "field"),
    [
        (pa.table({"n": [1], "N": [1]}), "data.N"),
        (pa.table({"N": [1]}), "data.N"),
        (pa.table({"n": [1], "x": pa.nulls(1)}), "data.x"),
        (pa.table({"n": [1], "x": pa.nulls(1, pa.time64("us"))}), "data.x"),
        (pa.table({"n": [1], "x": pa.nulls(1, pa.timestamp("us"))}), "data.x"),
        (pa.table({"n": ["1"], "x": [1]}), "data.n"),
    ],
)
def test_columns_that_cannot_be_added_are_refused(lake: Springline, rows: pa.Table, field: str) -> None:
    table = fresh(lake, pa.table({"n": [1]}))
    with pytest.raises(Refused) as caught:
        table.append(rows, schema_mode="merge")
    assert caught.value.refusal.field == field
    assert table.status()["latest_version"] == 0


def test_an_append_under_way_while_columns_are_added_is_committed_with_the_files_it_has(
    lake: Springline, folder: Folder
) -> None:
    table = fresh(lake, pa.table({"n": [1]}))
    table.append({"n": [0]})
    lake.table(table.name).append({"n": [1], "s": ["x"]}, schema_mode="merge")
    reader = pa.table({"n": [2]}).to_reader()
    assert table.append(reader, key="k").version == 3
    assert table.append({"n": [2]}, key="k").version == 3
    assert numbers(table) == [0, 1, 2]


def test_the_same_rows_under_a_new_key_after_the_commit_in_another_mode(
    lake: Springline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A retry that saw nothing of the first attempt, which added the columns, sends an ordinary append."""
    table = fresh(lake, pa.table({"n": [1]}))
    rows = pa.table({"n": [1], "s": ["x"]})
    key = new_key()
    assert table.append(rows, schema_mode="merge", key=key).version == 1
    monkeypatch.setattr(writing._Write, "_answered", lambda self: None)
    assert lake.table(table.name).append(rows, schema_mode="merge", key=key).version == 1
    with pytest.raises(Refused) as caught:
        lake.table(table.name).append({"n": [9]}, key=key)
    assert caught.value.refusal.code is Code.KEY_REUSED
    assert numbers(table) == [1]
