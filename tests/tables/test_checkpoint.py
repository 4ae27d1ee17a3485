"""Checkpoints, and tables that other engines open where we keep them."""

from __future__ import annotations

import asyncio
from pathlib import Path

import orjson
import pytest
from deltalake import DeltaTable

from springline import paths
from springline.commit.checkpoint import write_checkpoint
from springline.commit.snapshot import load_snapshot
from springline.delta.checkpoints import CheckpointKind
from springline.errors import InvariantViolated
from springline.storage.delta_uri import delta_uri
from springline.storage.faults import Decision, FaultyStore, ProcessDied
from springline.storage.memory import MemoryStore
from springline.storage.operations import Kind, Operation
from springline.storage.port import IfAbsent, ObjectStore, StoreMisconfigured
from tests.support.tables import (
    SCOPE,
    adopt,
    create,
    deltalake_table,
    flights,
    hand_made,
    load,
    relative_objects,
    save,
    scoped,
)

ROOT = f"/{SCOPE.tables}/lake/rides"


def add(number: int) -> bytes:
    action = {
        "path": f"part-{number}.parquet",
        "partitionValues": {},
        "size": 1,
        "modificationTime": 1,
        "dataChange": True,
    }
    return orjson.dumps({"commitInfo": {"timestamp": number}}) + b"\n" + orjson.dumps({"add": action})


async def commit(store: ObjectStore, root: str, first: int, last: int) -> None:
    for version in range(first, last + 1):
        await scoped(store).put(paths.delta_log(root, version), add(version), IfAbsent())


def pointer(store: MemoryStore, root: str) -> dict[str, int]:
    found: dict[str, int] = orjson.loads(relative_objects(store)[paths.delta_last_checkpoint(root)])
    return found


async def test_tables_we_create_and_checkpoint_are_opened_by_deltalake(open_to_others: ObjectStore) -> None:
    store = open_to_others
    entry = await create(store, flights(partition_columns=[]))
    await commit(store, entry.root, 1, 6)
    result = await write_checkpoint(scoped(store), entry.root)
    assert (result.kind, result.version) == (CheckpointKind.WRITTEN, 6)
    await commit(store, entry.root, 7, 7)
    uri, options = delta_uri(scoped(store), entry.root)
    table = await asyncio.to_thread(DeltaTable, uri, storage_options=options)
    assert table.version() == 7
    assert len(table.file_uris()) == 7
    snapshot = await load_snapshot(scoped(store), entry.root)
    assert snapshot.version == 7
    assert snapshot.metadata is not None
    assert snapshot.metadata["id"] == entry.table_id
    assert delta_uri(store, SCOPE.full(paths.workspace_path(entry.root))) == (uri, options)


async def test_a_store_in_memory_has_checkpoints_but_no_uri() -> None:
    with pytest.raises(StoreMisconfigured, match="MemoryStore"):
        delta_uri(MemoryStore(), ROOT)


async def test_readers_need_only_the_checkpoint_and_the_log_after_it(tmp_path: Path) -> None:
    store = MemoryStore()
    entry = await create(store, flights(location=ROOT))
    await commit(store, ROOT, 1, 5)
    assert (await write_checkpoint(scoped(store), ROOT)).version == 5
    await commit(store, ROOT, 6, 9)
    assert (await write_checkpoint(scoped(store), ROOT)).version == 9
    await commit(store, ROOT, 10, 10)
    assert pointer(store, ROOT)["version"] == 9
    for version in range(9):
        store.remove(SCOPE.full(paths.delta_log(ROOT, version)))
    table = DeltaTable(save(store, ROOT, tmp_path))
    assert (table.version(), len(table.file_uris()), str(table.metadata().id)) == (10, 10, entry.table_id)
    assert (await load_snapshot(scoped(store), ROOT)).version == 10


async def test_a_checkpoint_is_made_once_lists_nothing_and_removes_nothing() -> None:
    memory = MemoryStore()
    await create(memory, flights(location=ROOT))
    assert (await write_checkpoint(scoped(MemoryStore()), ROOT)).kind is CheckpointKind.CURRENT
    await commit(memory, ROOT, 1, 3)
    before = set(memory.objects)
    store = FaultyStore(memory)
    assert (await write_checkpoint(scoped(store), ROOT)).kind is CheckpointKind.WRITTEN
    again = await write_checkpoint(scoped(store), ROOT)
    assert (again.kind, again.version) == (CheckpointKind.CURRENT, 3)
    assert store.count(Kind.LIST) == store.count(Kind.DELETE) == 0
    assert {SCOPE.relative(path) for path in set(memory.objects) - before} == {
        paths.delta_checkpoint(ROOT, 3),
        paths.delta_last_checkpoint(ROOT),
    }


@pytest.mark.parametrize("decision", [Decision.DIE_BEFORE, Decision.DIE_AFTER])
async def test_a_crash_at_every_operation_leaves_a_readable_table_and_the_next_finishes(
    decision: Decision, tmp_path: Path
) -> None:
    original = MemoryStore()
    await create(original, flights(location=ROOT))
    await commit(original, ROOT, 1, 4)
    counted = FaultyStore(original.copy())
    await write_checkpoint(scoped(counted), ROOT)
    for index in range(len(counted.trace)):
        memory = original.copy()

        async def hook(operation: Operation, index: int = index) -> Decision:
            return decision if operation.index == index else Decision.PROCEED

        with pytest.raises(ProcessDied):
            await write_checkpoint(scoped(FaultyStore(memory, hook=hook)), ROOT)
        assert (await load_snapshot(scoped(memory), ROOT)).version == 4
        await write_checkpoint(scoped(memory), ROOT)
        assert pointer(memory, ROOT)["version"] == 4
        table = DeltaTable(save(memory, ROOT, tmp_path / str(index)))
        assert (table.version(), len(table.file_uris())) == (4, 4)


async def test_the_pointer_never_goes_back() -> None:
    store = MemoryStore()
    await create(store, flights(location=ROOT))
    await commit(store, ROOT, 1, 2)

    async def hook(operation: Operation) -> Decision:
        """Let somebody commit and checkpoint a later version just before our pointer is written."""
        if operation.kind is Kind.PUT and operation.path == SCOPE.full(paths.delta_last_checkpoint(ROOT)):
            await commit(store, ROOT, 3, 4)
            await write_checkpoint(scoped(store), ROOT)
        return Decision.PROCEED

    assert (await write_checkpoint(scoped(FaultyStore(store, hook=hook)), ROOT)).version == 2
    assert pointer(store, ROOT)["version"] == 4


async def test_an_adopted_table_with_a_cleaned_log_gets_the_next_checkpoint(tmp_path: Path) -> None:
    configuration = {"delta.checkpointInterval": "4", "delta.logRetentionDuration": "interval 0 seconds"}
    deltalake_table(tmp_path / "made", 10, configuration)
    DeltaTable(tmp_path / "made").cleanup_metadata()
    store = MemoryStore()
    load(store, ROOT, tmp_path / "made")
    assert paths.delta_log(ROOT, 0) not in relative_objects(store)
    await adopt(store, "rides", ROOT)
    assert (await write_checkpoint(scoped(store), ROOT)).version == 9
    table = DeltaTable(save(store, ROOT, tmp_path / "saved"))
    assert (table.version(), table.to_pyarrow_table().num_rows) == (9, 10)


@pytest.mark.parametrize(
    ("protocol", "said"),
    [
        ({"minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": ["x"], "writerFeatures": ["x"]}, "cannot"),
        ({"minReaderVersion": 99, "minWriterVersion": 99}, "cannot"),
    ],
)
async def test_a_table_the_library_cannot_handle_is_left_alone(protocol: dict[str, object], said: str) -> None:
    store = MemoryStore()
    hand_made(store, ROOT, protocol)
    await commit(store, ROOT, 1, 2)
    before = dict(store.objects)
    result = await write_checkpoint(scoped(store), ROOT)
    assert (result.kind, result.version) == (CheckpointKind.SKIPPED, 2)
    assert said in (result.detail or "")
    assert dict(store.objects) == before


async def test_a_table_nobody_described_gets_none() -> None:
    store = MemoryStore()
    await commit(store, ROOT, 0, 2)
    assert (await write_checkpoint(scoped(store), ROOT)).kind is CheckpointKind.SKIPPED


async def test_what_the_pointer_names_and_is_gone_is_said() -> None:
    store = MemoryStore()
    zero = SCOPE.full(paths.delta_log(ROOT, 0))
    await create(store, flights(location=ROOT))
    await commit(store, ROOT, 1, 3)
    at = SCOPE.full(paths.delta_last_checkpoint(ROOT))
    store.seed(at, b'{"version":2}')
    first = store.objects[zero].data
    store.remove(zero)
    result = await write_checkpoint(scoped(store), ROOT)
    assert result.kind is CheckpointKind.SKIPPED
    assert paths.delta_checkpoint(ROOT, 2) in (result.detail or "")
    store.seed(at, b'{"version":2,"v2Checkpoint":{"path":"00000000000000000002.checkpoint.ab.json"}}')
    assert "second specification" in ((await write_checkpoint(scoped(store), ROOT)).detail or "")
    store.seed(at, b'{"version":17}')
    with pytest.raises(InvariantViolated, match=f"{17:020}.json is gone.*_last_checkpoint is damaged|is gone"):
        await write_checkpoint(scoped(store), ROOT)
    store.seed(zero, first)
    for damaged in (b'{"version":17}', b'{"version":2}', b"{"):
        store.seed(at, damaged)
        assert (await write_checkpoint(scoped(store), ROOT)).kind is CheckpointKind.WRITTEN
        assert b'"version":3' in store.objects[at].data
