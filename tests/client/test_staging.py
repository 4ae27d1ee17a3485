"""Staged writes: committed from the object alone, any number of times, or refused if that is not what was sealed."""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import Callable, Coroutine, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar

import orjson
import pyarrow as pa
import pytest

from springline.client import staging
from springline.client.engine import Place
from springline.client.folder import FolderLake
from springline.client.loop import Stores
from springline.client.scratch import Files
from springline.client.staging import StagedDamaged, StagedWrite, TaskOfWrites, commit_staged, discard, staged_of
from springline.client.task_tables import TaskTables, commit_writes
from springline.client.writing import PreparedWrite
from springline.errors import Code, Refused
from springline.paths import ObjectPath, Scope, delta_data_file
from springline.storage.memory import MemoryStore
from springline.storage.port import ObjectStore

R = TypeVar("R")
TASK = TaskOfWrites("run_1", "t")
SCHEMA = pa.schema(
    {
        "id": pa.int64(),
        "text": pa.string(),
        "real": pa.float64(),
        "day": pa.date32(),
        "at": pa.timestamp("us", tz="UTC"),
        "price": pa.decimal128(10, 2),
        "flag": pa.bool_(),
        "list": pa.list_(pa.int64()),
    }
)


@pytest.fixture
def lake(tmp_path: Path) -> Iterator[FolderLake]:
    made = FolderLake(tmp_path)
    yield made
    made.close()


def staged(lake: FolderLake, ask: Callable[[Any], object], scope: str = "run_1") -> list[StagedWrite]:
    tables = TaskTables(lambda: lake, TaskOfWrites(scope, "t"))
    ask(tables.table("t", schema=SCHEMA))
    tables.close()
    return staged_of([one.plain | {"of a newer build": 1} for one in tables.staged])


VALUES: dict[str, Any] = {
    "text": "it's",
    "real": 0.1,
    "day": datetime.date(2024, 1, 31),
    "at": datetime.datetime(2024, 1, 31, 12, 30, tzinfo=datetime.timezone(datetime.timedelta(hours=5))),
    "price": Decimal("12.50"),
    "flag": True,
}


def test_values_of_an_update_are_what_they_were(lake: FolderLake) -> None:
    lake.create_table("t", SCHEMA).append({"id": [1]})
    writes = staged(lake, lambda table: table.update(values={**VALUES, "id": 2}, where="id = 1"))
    (done,) = commit_writes(lake, writes)
    (row,) = lake.table("t").to_arrow().to_pylist()
    assert {name: row[name] for name in VALUES} == VALUES | {"at": VALUES["at"].astimezone(datetime.UTC)}
    assert (done.version, done.rows, row["id"]) == (2, 1, 2)
    assert [one.version for one in commit_writes(lake, writes)] == [2], "again, it is the same version"


def test_a_write_is_committed_once_however_the_table_has_changed(lake: FolderLake) -> None:
    writes = staged(lake, lambda table: (table.append({"id": [1]}), table.delete("id = 7")))
    first = list(commit_writes(lake, writes))
    table = lake.table("t")
    table.append({"id": [2], "more": ["x"]}, schema_mode="merge")
    table.overwrite({"id": [3], "more": ["y"]})
    assert [one.version for one in commit_writes(lake, writes)] == [one.version for one in first]
    assert table.to_arrow()["id"].to_pylist() == [3]


def test_a_commit_tells_which_task_has_written_it(lake: FolderLake) -> None:
    lake.create_table("t", SCHEMA).append({"id": [1]})
    asked = (
        lambda table: table.append({"id": [2]}),
        lambda table: table.append({"id": [3], "more": [1]}, schema_mode="merge"),
        lambda table: table.update({"id": "id + 1"}),
        lambda table: table.upsert({"id": [7]}, on="id"),
        lambda table: table.delete("id = 7"),
        lambda table: table.overwrite({"id": [8]}),
    )
    for version, ask in enumerate(asked, 2):
        (done,) = commit_writes(lake, staged(lake, ask, f"run_{version}"))
        assert done.version == version
        log = lake.folder / "t" / "_delta_log" / f"{version:020}.json"
        (info,) = [one["commitInfo"] for one in map(orjson.loads, log.read_bytes().splitlines()) if "commitInfo" in one]
        assert info["springline"]["task"] == {"run": f"run_{version}", "task": "t"}
    assert lake.table("t").to_arrow()["id"].to_pylist() == [8]


def test_files_that_no_longer_fit_are_refused(lake: FolderLake) -> None:
    writes = staged(lake, lambda table: table.append({"id": [1]}))
    other = SCHEMA.set(SCHEMA.get_field_index("text"), pa.field("text", pa.int32()))
    # Nobody does this to a table; it stands for every change that the files do not survive.
    for file in (lake.folder / "t" / "_delta_log").iterdir():
        file.unlink()
    lake.create_table("t", other)
    with pytest.raises(Refused) as raised:
        list(commit_writes(lake, writes))
    assert raised.value.refusal.code is Code.METADATA_CHANGED


@pytest.mark.parametrize("how", ["missing", "changed", "another operation", "unknown"])
def test_what_is_not_what_was_sealed_is_never_committed(lake: FolderLake, how: str) -> None:
    (write,) = staged(lake, lambda table: table.delete("id = 1"))
    object_ = lake.folder / write.staged
    before = lake.table("t").at().version
    if how == "missing":
        object_.unlink()
    elif how == "changed":
        object_.write_bytes(object_.read_bytes().replace(b"id = 1", b"id > 1"))
    else:
        told = "append" if how == "another operation" else "vacuum"
        write = StagedWrite(**{**write.plain, "operation": told})
    with pytest.raises(StagedDamaged):
        commit_staged(lake.table("t").writable, write)
    assert lake.table("t").at().version == before


class StoreOfBucket(Stores):
    """The store of a bucket, in memory."""

    def __init__(self) -> None:
        super().__init__()
        self.store = MemoryStore()

    def run(self, place: Place, work: Callable[[ObjectStore], Coroutine[Any, Any, R]]) -> R:
        return asyncio.run(work(self.store))


def test_files_in_a_bucket_are_discarded_one_by_one() -> None:
    place = Place("gs://b/tables/acme/dev/t", "gs://b", Scope("acme", "dev"), "/tables/acme/dev/t")
    stores = StoreOfBucket()
    names = [f"{delta_data_file(place.root, f'k/a/{one}.parquet')}" for one in range(3)]
    for name in names:
        stores.store.seed(ObjectPath(name), b"x")
    adds = [{"path": f"k/a/{one}.parquet", "size": 1} for one in (0, 1, 7)]
    discard(stores, place, PreparedWrite(Files(adds), "f", SCHEMA, ()))
    assert list(stores.store.objects) == names[2:]


def test_a_staged_object_that_is_there_already_is_the_same(lake: FolderLake) -> None:
    (one,) = staged(lake, lambda table: table.delete("id = 1"))
    (other,) = staged(lake, lambda table: table.delete("id = 1"))
    assert one == other
    object_ = lake.folder / one.staged
    object_.write_bytes(b"something else")
    with pytest.raises(StagedDamaged, match="something else than its name says"):
        staged(lake, lambda table: table.delete("id = 1"))
    assert staging.write_key(TASK, one.table, 1) == one.key
