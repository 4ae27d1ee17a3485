"""Tables of functions that `materialize` makes: a folder with the meaning of the lake, without a server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import deltalake
import polars as pl
import pyarrow as pa
import pytest

from springline.errors import Refused
from springline.sdk import Context, InvalidRequest, WriteHandle, asset, daily, materialize


def rows(folder: Path, table: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = deltalake.DeltaTable(str(folder / table)).to_pyarrow_table().to_pylist()
    return sorted(found, key=str)


def test_writes_are_there_when_the_function_has_returned(tmp_path: Path) -> None:
    seen: list[Any] = []

    @asset
    def raw(context: Context) -> None:
        table = context.table("raw", partition_by="day")
        handle = table.append({"day": ["a", "b"], "n": [1, 2]})
        seen.append((handle.operation, handle.rows, handle.version, handle.repeated, table.to_arrow().num_rows))

    @asset(deps=[raw])
    def totals(context: Context) -> None:
        found = context.table("raw").to_polars()
        seen.append(found.height)
        context.table("totals").overwrite(found.group_by("day").agg(pl.sum("n")).sort("day"))

    result = materialize([raw, totals], tables=tmp_path)
    assert seen == [("append", 2, None, False, 0), 2], "a task does not see its own writes before it has ended"
    assert rows(tmp_path, "totals") == [{"day": "a", "n": 1}, {"day": "b", "n": 2}]
    assert [(one.table, one.operation, one.rows, one.version) for one in result["raw"].writes] == [
        ("raw", "append", 2, 1)
    ]
    assert sorted(path.name for path in tmp_path.iterdir() if not path.name.startswith(".")) == ["raw", "totals"]
    materialize([raw, totals], "raw", tables=tmp_path)
    assert len(rows(tmp_path, "raw")) == 4, "the folder stays, and another run writes again"


def test_an_attempt_that_fails_has_written_nothing(tmp_path: Path) -> None:
    @asset(retries=1)
    def raw(context: Context) -> None:
        context.table("raw", schema=pa.schema({"n": pa.int32()})).append({"n": [context.attempt]})
        if context.attempt == 1:
            raise ValueError("once")

    result = materialize([raw], tables=tmp_path)
    assert result["raw"].attempts == 2
    assert rows(tmp_path, "raw") == [{"n": 2}]
    assert len(list(tmp_path.rglob("*.parquet"))) == 1


def test_every_kind_of_write_in_order(tmp_path: Path) -> None:
    @asset
    def kinds(context: Context) -> None:
        table = context.table("kinds")
        table.append(pa.table({"id": [1, 2, 3], "n": [0.5, 1.5, 2.5]}))

    @asset(deps=[kinds])
    def changes(context: Context) -> None:
        table = context.table("kinds")
        table.delete("id = 1")
        table.update({"n": "n + 1"}, where="id = 2")
        table.update(values={"n": 9.5}, where="id = 3")
        table.upsert({"id": [3, 4], "n": [3.0, 4.0]}, on="id")
        table.merge({"id": [2]}, on="target.id = source.id").when_matched_update({"n": "target.n * 2"}).execute()
        table.append({"id": [5], "n": [5.0], "extra": ["x"]}, schema_mode="merge")

    result = materialize([kinds, changes], tables=str(tmp_path))
    assert [(one["id"], one["n"], one["extra"]) for one in rows(tmp_path, "kinds")] == [
        (2, 5.0, None),
        (3, 3.0, None),
        (4, 4.0, None),
        (5, 5.0, "x"),
    ]
    assert [(one.operation, one.version, one.rows) for one in result["changes"].writes] == [
        ("delete", 2, 1),
        ("update", 3, 1),
        ("update", 4, 1),
        ("merge", 5, 2),
        ("merge", 6, 1),
        ("append", 7, 1),
    ]


def test_a_partition_is_replaced(tmp_path: Path) -> None:
    @asset(partitions=daily("2024-01-01"))
    def days(context: Context) -> None:
        day = context.partition_key
        context.table("days", partition_by=["day"]).overwrite(
            {"day": [day], "run": [context.run_id]}, where=f"day = '{day}'"
        )

    for run, day in (("r1", "2024-01-01"), ("r2", "2024-01-02"), ("r3", "2024-01-01")):
        materialize([days], partition_key=day, tables=tmp_path, run_id=run)
    assert rows(tmp_path, "days") == [{"day": "2024-01-01", "run": "r3"}, {"day": "2024-01-02", "run": "r2"}]


def test_an_immediate_write_is_done_once_for_each_task(tmp_path: Path) -> None:
    handles: list[WriteHandle] = []

    @asset(retries=1)
    def once(context: Context) -> None:
        handles.append(context.table("once").append({"n": [context.attempt]}, immediate=True, key="k"))
        if context.attempt == 1:
            raise ValueError("after it")

    result = materialize([once], tables=tmp_path)
    assert [(one.table, one.version) for one in result[once].writes] == [("once", 1)]
    assert [(one.version, one.repeated) for one in handles] == [(1, False), (1, True)]
    assert rows(tmp_path, "once") == [{"n": 1}]


def _wrong(call: Any) -> Any:
    def wrong(context: Context) -> None:
        context.table("there", schema={"n": [1]}, partition_by=()).append({"n": [1]})
        call(context)

    return asset(wrong)


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda context: context.table("nowhere").delete("n = 1"), "table 'nowhere' does not exist"),
        (lambda context: context.table("nowhere").to_arrow(), "table 'nowhere' does not exist"),
        (lambda context: context.table("there").append({"m": [1]}), "column 'm' is not one of the table's"),
        (lambda context: context.table("there").delete("m = 1"), "m"),
        (
            lambda context: context.table("there", partition_by="n").append({"n": [1]}),
            "partitioned by nothing, and not by n",
        ),
        (lambda context: context.table("there").append({"n": [1]}, key="k"), "only an immediate write takes a key"),
        (lambda context: context.table("there").append({"n": [1]}, immediate=True), "an immediate write has no key"),
        (lambda context: context.table("a/b").append({"n": [1]}), "table: 'a/b' is not a table name"),
        (lambda context: context.table("there").update(values={"n": object()}), "values.n"),
        (lambda context: context.table("there").append({"n": [1]}, schema_mode="new"), "is not a way to append"),
    ],
)
def test_what_is_wrong_is_raised_at_once(tmp_path: Path, call: Any, told: str) -> None:
    result = materialize([_wrong(call)], tables=tmp_path, raise_on_error=False)
    error = result["wrong"].error
    assert isinstance(error, Refused)
    assert told in error.refusal.message
    assert error.refusal.remedy
    assert not list(tmp_path.glob("there/**/*.parquet")), "nothing of a failed attempt stays"


def test_a_thread_that_writes_too_late_is_refused(tmp_path: Path) -> None:
    tables: list[Any] = []

    @asset
    def early(context: Context) -> None:
        tables.append(context.table("early"))
        tables[0].append({"n": [1]})

    materialize([early], tables=tmp_path)
    with pytest.raises(Refused, match="has ended"):
        tables[0].append({"n": [2]})


def test_without_tables_the_message_says_where_they_are() -> None:
    @asset
    def lost(context: Context) -> None:
        context.table("raw")

    with pytest.raises(InvalidRequest, match=r"materialize\(..., tables=FOLDER\)"):
        materialize([lost], raise_on_error=False).value("lost")
