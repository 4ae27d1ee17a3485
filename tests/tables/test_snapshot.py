"""Finding the latest version, protocol and metadata, by probing and never by listing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable
from hypothesis import given, settings
from hypothesis import strategies as st

from springline import paths
from springline.commit.snapshot import Snapshot, load_snapshot, probe_latest, read_last_checkpoint
from springline.delta.checkpoints import CheckpointHint, parse_last_checkpoint
from springline.errors import Code, InvariantViolated
from springline.storage.faults import FaultyStore
from springline.storage.memory import MemoryStore
from springline.storage.operations import Kind
from tests.support.tables import SCOPE, deltalake_table, load, refusal_of, scoped

ROOT = "lake/rides"
PLAIN = {"minReaderVersion": 1, "minWriterVersion": 2}


def seed(store: MemoryStore, version: int, *actions: dict[str, Any]) -> None:
    data = b"\n".join(orjson.dumps(action) for action in actions or ({"commitInfo": {}},))
    store.seed(SCOPE.full(paths.delta_log(ROOT, version)), data)


def a_table(versions: int) -> MemoryStore:
    store = MemoryStore()
    seed(store, 0, {"protocol": PLAIN}, {"metaData": {"id": "v0"}})
    for version in range(1, versions):
        seed(store, version)
    return store


@settings(deadline=None)
@given(latest=st.integers(0, 400), start=st.integers(-1, 400))
async def test_the_latest_version_is_found_from_any_that_exists(latest: int, start: int) -> None:
    start = min(start, latest)
    assert await probe_latest(scoped(a_table(latest + 1)), ROOT, start) == latest


async def test_a_gap_ends_the_probing() -> None:
    store = a_table(30)
    store.remove(SCOPE.full(paths.delta_log(ROOT, 17)))
    assert await probe_latest(scoped(store), ROOT, -1) == 16


async def test_when_nothing_is_new_one_step_is_enough_and_many_versions_take_few() -> None:
    memory = a_table(1000)
    for start, steps in ((999, 1), (998, 2), (979, 3), (0, 19)):
        store = FaultyStore(memory, latency=0.001)
        assert await probe_latest(scoped(store), ROOT, start) == 999
        assert store.steps["main"] == steps
        assert store.count(Kind.LIST) == 0


async def test_a_start_that_is_gone_proves_nothing() -> None:
    store = a_table(5)
    store.remove(SCOPE.full(paths.delta_log(ROOT, 2)))
    with pytest.raises(InvariantViolated, match="is gone"):
        await probe_latest(scoped(store), ROOT, 2)


async def test_the_newest_protocol_and_metadata_win_and_need_not_come_together() -> None:
    store = a_table(80)
    seed(store, 40, {"metaData": {"id": "v40"}}, {"add": {"path": "protocol"}})
    newer = {"minReaderVersion": 1, "minWriterVersion": 4}
    seed(store, 60, {"protocol": newer})
    assert await load_snapshot(scoped(store), ROOT) == Snapshot(79, newer, {"id": "v40"})
    assert await load_snapshot(scoped(store), ROOT, at_least=79) == Snapshot(79, newer, {"id": "v40"})


async def test_a_known_snapshot_is_brought_up_to_date_by_what_is_new_alone() -> None:
    memory = a_table(50)
    known = await load_snapshot(scoped(memory), ROOT)
    seed(memory, 50, {"metaData": {"id": "v50"}})
    store = FaultyStore(memory)
    assert await load_snapshot(scoped(store), ROOT, known=known) == Snapshot(50, PLAIN, {"id": "v50"})
    assert store.count(Kind.GET) == 1


async def test_no_table_and_a_table_nobody_described() -> None:
    assert await load_snapshot(scoped(MemoryStore()), ROOT) == Snapshot(-1, None, None)
    store = MemoryStore()
    seed(store, 0)
    assert await load_snapshot(scoped(store), ROOT) == Snapshot(0, None, None)


@pytest.mark.parametrize("versions", [3, 4, 5, 11])
async def test_a_deltalake_table_reads_as_deltalake_reads_it(versions: int, tmp_path: Path) -> None:
    configuration = {"delta.checkpointInterval": "4"}
    table = DeltaTable(deltalake_table(tmp_path, versions, configuration))
    memory = MemoryStore()
    load(memory, ROOT, tmp_path)
    store = FaultyStore(memory)
    snapshot = await load_snapshot(scoped(store), ROOT)
    assert snapshot.version == table.version() == versions - 1
    assert snapshot.protocol is not None
    assert snapshot.metadata is not None
    assert snapshot.protocol["minWriterVersion"] == table.protocol().min_writer_version
    assert snapshot.metadata["id"] == table.metadata().id
    assert snapshot.metadata["configuration"] == configuration
    assert snapshot.metadata["partitionColumns"] == []
    assert orjson.loads(snapshot.metadata["schemaString"]) == orjson.loads(table.schema().to_json())
    assert store.count(Kind.LIST) == 0
    if versions > 4:
        hint = await read_last_checkpoint(scoped(memory), ROOT)
        assert hint is not None
        assert store.count(Kind.GET, "log") == versions - 1 - hint.version


def checkpoint_file(**columns: list[Any]) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), sink, row_group_size=1)
    return bytes(sink.getvalue())


PROTOCOL_ROW = {"minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": None, "writerFeatures": ["appendOnly"]}
METADATA_ROW = {
    "id": "cp",
    "name": None,
    "configuration": [("a", "b")],
    "format": {"provider": "parquet", "options": []},
}
PROTOCOL = {"minReaderVersion": 3, "minWriterVersion": 7, "writerFeatures": ["appendOnly"]}
METADATA = {"id": "cp", "configuration": {"a": "b"}, "format": {"provider": "parquet", "options": {}}}


def seed_checkpointed(store: MemoryStore, pointer: dict[str, Any], files: dict[str, bytes]) -> None:
    """Put a table whose log before version 7 is gone."""
    for version in (7, 8):
        seed(store, version)
    store.seed(SCOPE.full(paths.delta_last_checkpoint(ROOT)), orjson.dumps(pointer))
    for name, data in files.items():
        store.seed(SCOPE.full(paths.relative_path(f"{paths.delta_log_dir(ROOT)}/{name}")), data)


@pytest.mark.parametrize(
    ("pointer", "files"),
    [
        (
            {"version": 7, "size": 3},
            {
                f"{7:020}.checkpoint.parquet": checkpoint_file(
                    add=[{"path": "x"}, None, None],
                    protocol=[None, PROTOCOL_ROW, None],
                    metaData=[None, None, METADATA_ROW],
                )
            },
        ),
        (
            {"version": 7, "size": 3, "parts": 2},
            {
                f"{7:020}.checkpoint.{1:010}.{2:010}.parquet": checkpoint_file(protocol=[PROTOCOL_ROW]),
                f"{7:020}.checkpoint.{2:010}.{2:010}.parquet": checkpoint_file(metaData=[METADATA_ROW]),
            },
        ),
        (
            {"version": 7, "size": 3, "v2Checkpoint": {"path": f"{7:020}.checkpoint.80a083e8-7026.parquet"}},
            {
                f"{7:020}.checkpoint.80a083e8-7026.parquet": checkpoint_file(
                    protocol=[PROTOCOL_ROW, None], metaData=[None, METADATA_ROW]
                )
            },
        ),
        (
            {"version": 7, "size": 3, "v2Checkpoint": {"path": f"gs://b/t/{7:020}.checkpoint.80a083e8.json"}},
            {
                f"{7:020}.checkpoint.80a083e8.json": b"\n".join(
                    orjson.dumps(action) for action in ({"protocol": PROTOCOL}, {"metaData": METADATA})
                )
            },
        ),
    ],
)
async def test_every_kind_of_checkpoint_gives_protocol_and_metadata(
    pointer: dict[str, Any], files: dict[str, bytes]
) -> None:
    store = MemoryStore()
    seed_checkpointed(store, pointer, files)
    assert await load_snapshot(scoped(store), ROOT) == Snapshot(8, PROTOCOL, METADATA)


@pytest.mark.parametrize("data", [b"", b"no parquet", checkpoint_file(add=[{"path": "x"}])])
async def test_a_checkpoint_that_cannot_be_read_is_refused_when_the_log_does_not_reach_back(data: bytes) -> None:
    store = MemoryStore()
    seed_checkpointed(store, {"version": 7}, {f"{7:020}.checkpoint.parquet": data})
    refusal = await refusal_of(load_snapshot(scoped(store), ROOT))
    assert refusal.code is Code.NOT_A_DELTA_TABLE
    assert "version 6" in refusal.message
    assert "version 7" in refusal.message


@pytest.mark.parametrize(
    ("data", "hint"),
    [
        (b'{"version":3,"size":1}', CheckpointHint(3)),
        (b'{"version":3,"parts":4}', CheckpointHint(3, 4)),
        (b'{"version":3,"parts":0}', CheckpointHint(3)),
        (b'{"version":3,"v2Checkpoint":{"path":"../../secret"}}', CheckpointHint(3)),
        (b'{"version":3,"v2Checkpoint":{"path":"00000000000000000004.checkpoint.a.json"}}', CheckpointHint(3)),
        (b'{"version":-1}', None),
        (b'{"version":true}', None),
        (b'{"version":"3"}', None),
        (b"[]", None),
        (b"", None),
        (b"{", None),
    ],
)
def test_the_pointer_is_a_hint(data: bytes, hint: CheckpointHint | None) -> None:
    assert parse_last_checkpoint(data) == hint


@given(st.binary(max_size=200))
def test_no_pointer_raises(data: bytes) -> None:
    parse_last_checkpoint(data)
