"""Tables read by the client: history, versions, rows in every library's form; and raw actions committed by it."""

from __future__ import annotations

import datetime
import itertools
import sys
from typing import Any

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from springline.client import DeltaTable, Springline
from springline.client.reading import reached
from springline.delta.keys import idempotency_key
from springline.errors import Code, Refused
from tests.support.rows import rows

_NAMES = (f"read-{number}" for number in itertools.count())


@pytest.fixture
def table(lake: Springline) -> DeltaTable:
    """Three versions with rows: one row more in each."""
    table = lake.create_table(next(_NAMES), rows([], "ours").schema)
    for number in range(3):
        table.append(rows([number], "ours"), key=f"load/{number}")
    return table


def test_rows_in_the_form_of_every_library(table: DeltaTable) -> None:
    wanted = [0, 1, 2]
    arrow = table.to_arrow()
    assert isinstance(arrow, pa.Table)
    assert arrow.schema.types == [pa.int64(), pa.string()]
    assert sorted(arrow["id"].to_pylist()) == wanted
    assert table.to_arrow(["id"], where="id > 1").to_pylist() == [{"id": 2}]
    assert isinstance(table.to_pandas(), pd.DataFrame)
    assert sorted(table.to_pandas()["id"]) == wanted
    frame, lazy = table.to_polars(), table.to_polars(lazy=True)
    assert isinstance(frame, pl.DataFrame)
    assert isinstance(lazy, pl.LazyFrame)
    assert lazy.filter(pl.col("id") > 0).sort("id").collect().equals(frame.filter(pl.col("id") > 0).sort("id"))
    assert table.to_duckdb().filter("id > 0").count("*").fetchall() == [(2,)]
    connection = duckdb.connect()
    relation = table.to_duckdb(connection)
    assert connection.sql("select sum(id) from relation").fetchall() == [(3,)]
    assert relation.columns == ["id", "writer"]
    assert table.to_deltalake().version() == 3
    assert repr(table) == f"DeltaTable({table.name!r})"


@pytest.mark.parametrize("wrong", [{"columns": ["idd"]}, {"where": "idd = 1"}, {"where": "1"}])
def test_what_cannot_be_read_is_named(wrong: dict[str, object], table: DeltaTable) -> None:
    with pytest.raises(Refused) as caught:
        table.to_arrow(**wrong)  # type: ignore[arg-type]
    assert caught.value.refusal.field in wrong


def test_versions_and_moments(table: DeltaTable) -> None:
    for version in range(4):
        assert table.at(version).version == version
        assert table.at(version).to_arrow().num_rows == version
    table.append(rows([9], "ours"))
    assert table.at(3).to_polars().height == 3
    now = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=1)
    assert table.at(timestamp=now).version == 4
    assert table.at(timestamp=now.isoformat()).version == 4
    assert "version=2" in repr(table.at(2))
    asked: list[tuple[int | None, Any, Code]] = [
        (5, None, Code.NOT_FOUND),
        (-1, None, Code.NOT_FOUND),
        (True, None, Code.INVALID_REQUEST),
        (1, now, Code.INVALID_REQUEST),
        (None, "yesterday", Code.INVALID_REQUEST),
        (None, "1999-01-01", Code.NOT_FOUND),
    ]
    for wanted, timestamp, code in asked:
        with pytest.raises(Refused) as caught:
            table.at(wanted, timestamp=timestamp)
        assert caught.value.refusal.code is code


def test_history_tells_versions_newest_first(table: DeltaTable) -> None:
    table.delete("id = 1", key="gone")
    found = table.history()
    assert [row.version for row in found] == [4, 3, 2, 1, 0]
    assert [row.operation for row in found][:2] == ["DELETE", "WRITE"]
    assert [row.keys for row in found][:2] == [(idempotency_key("gone"),), (idempotency_key("load/2"),)]
    assert [row.version for row in table.history(limit=2)] == [4, 3]
    for limit in (0, -1, True, 10**9):
        with pytest.raises(Refused):
            table.history(limit)


def test_a_version_whose_log_is_gone_is_not_there(table: DeltaTable) -> None:
    table.to_deltalake().create_checkpoint()
    table.append(rows([7], "ours"))
    folder = reached(table._table).place.folder
    assert folder is not None
    for version in range(3):
        (folder / "_delta_log" / f"{version:020}.json").unlink()
    assert [row.version for row in table.history()] == [4, 3]
    with pytest.raises(Refused) as caught:
        table.at(1)
    assert caught.value.refusal.code is Code.NOT_FOUND
    assert table.to_arrow().num_rows == 4


def test_a_library_that_is_not_there_is_named(table: DeltaTable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "polars", None)
    with pytest.raises(Refused, match="polars is not installed"):
        table.to_polars()


ACTION = {"txn": {"appId": "theirs", "version": 1}}


def test_raw_actions_are_committed_once(table: DeltaTable) -> None:
    first = table.commit([ACTION], read_version=3, key="raw")
    assert first.version == 4
    table.append(rows([8], "ours"))
    assert table.commit([ACTION], read_version=3, key="raw") == first
    text = '{"txn": {"version": 1, "appId": "theirs"}}\n'
    assert table.commit(text, read_version=3, key="raw") == first
    assert table.commit(text.encode(), read_version=3, key="raw") == first
    with_info: list[dict[str, Any]] = [{"commitInfo": {"operation": "LOAD"}}, ACTION]
    assert table.commit(with_info, read_version=3, key="raw") == first
    others: list[tuple[list[dict[str, Any]], int]] = [
        ([ACTION], 5),
        ([{"txn": {"appId": "theirs", "version": 2}}], 3),
    ]
    for other in others:
        with pytest.raises(Refused) as caught:
            table.commit(other[0], read_version=other[1], key="raw")
        assert caught.value.refusal.code is Code.KEY_REUSED
    with pytest.raises(Refused) as caught:
        table.commit([ACTION], read_version=3)
    assert caught.value.refusal.code is Code.STALE_READ_VERSION
    assert caught.value.refusal.latest_version == 5
    again = table.commit([{"commitInfo": {"operation": "LOAD"}}, ACTION], read_version=5)
    assert [row.operation for row in table.history(3)] == ["LOAD", "WRITE", "Manual Update"]
    assert again.version == 6


@pytest.mark.parametrize(
    "actions", [[], "", "nonsense", [{"commitInfo": {}}], [{"commitInfo": {}}, {"commitInfo": {}}], [1], 7, [{"x": {}}]]
)
def test_what_are_no_actions_is_refused(actions: object, table: DeltaTable) -> None:
    with pytest.raises(Refused) as caught:
        table.commit(actions, read_version=3)  # type: ignore[arg-type]
    assert caught.value.refusal.code is Code.INVALID_PAYLOAD
    with pytest.raises(Refused):
        table.commit([ACTION], read_version=True)
