"""Adopting tables that deltalake made, with and without checkpoints, and refusing what cannot be committed to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from springline import paths
from springline.checked import has_checksum
from springline.commit.registry import Registry
from springline.commit.tables import adopt_table
from springline.delta.features import ALLOWED, REFUSED
from springline.delta.registry import TableEntry
from springline.delta.table_request import AdoptTable
from springline.errors import Code
from springline.storage.faults import Decision, FaultyStore, ProcessDied
from springline.storage.memory import MemoryStore
from springline.storage.operations import Kind, Operation
from tests.support.checksums import without_checksum
from tests.support.tables import (
    ID_A,
    ID_B,
    ID_C,
    LATER_MS,
    SCOPE,
    adopt,
    create,
    deltalake_table,
    flights,
    hand_made,
    load,
    refusal_of,
    relative_objects,
    scoped,
)

ROOT = "lake/rides"


def coordinator(store: MemoryStore, table_id: str) -> bytes:
    path = paths.delta_coordinator(table_id)
    data = relative_objects(store)[path]
    return without_checksum(data, path) if has_checksum(data) else data


async def test_a_table_without_checkpoint_is_probed_from_version_0(tmp_path: Path) -> None:
    memory = MemoryStore()
    load(memory, ROOT, deltalake_table(tmp_path, 6, {"delta.checkpointInterval": "100"}))
    store = FaultyStore(memory)
    entry = await adopt(store, "rides", ROOT)
    assert entry == TableEntry(
        table_id=ID_B,
        name="rides",
        root=ROOT,
        created_at_ms=LATER_MS,
        properties={"delta.checkpointInterval": "100"},
    )
    assert coordinator(memory, ID_B) == b'{"latest_version":5,"inflight":null}'
    assert store.count(Kind.LIST) == 0
    assert await Registry(scoped(memory)).entry("rides") == entry


async def test_a_table_with_checkpoints_and_a_cleaned_log(tmp_path: Path) -> None:
    configuration = {"delta.checkpointInterval": "4", "delta.logRetentionDuration": "interval 0 seconds"}
    deltalake_table(tmp_path, 11, configuration)
    DeltaTable(tmp_path).create_checkpoint()
    write_deltalake(tmp_path, pa.table({"id": [99], "day": ["x"]}), mode="append")
    DeltaTable(tmp_path).cleanup_metadata()
    assert not (tmp_path / "_delta_log" / f"{0:020}.json").exists()
    memory = MemoryStore()
    load(memory, ROOT, tmp_path)
    entry = await adopt(memory, "rides", ROOT)
    assert coordinator(memory, ID_B) == b'{"latest_version":11,"inflight":null}'
    assert entry.properties == configuration


async def test_a_stale_pointer_whose_log_is_gone_is_refused_rather_than_believed(tmp_path: Path) -> None:
    """Believing it would reserve a version in the table's past."""
    deltalake_table(tmp_path, 9, {"delta.checkpointInterval": "3"})
    memory = MemoryStore()
    load(memory, ROOT, tmp_path)
    memory.seed(SCOPE.full(paths.delta_last_checkpoint(ROOT)), b'{"version":2,"size":5}')
    for version in range(5):
        memory.remove(SCOPE.full(paths.delta_log(ROOT, version)))
    before = dict(memory.objects)
    refusal = await refusal_of(adopt(memory, "rides", ROOT))
    assert refusal.code is Code.NOT_A_DELTA_TABLE
    assert "checkpoint" in refusal.message
    assert dict(memory.objects) == before


async def test_a_damaged_pointer_is_no_obstacle_while_the_log_is_whole(tmp_path: Path) -> None:
    memory = MemoryStore()
    load(memory, ROOT, deltalake_table(tmp_path, 3))
    memory.seed(SCOPE.full(paths.delta_last_checkpoint(ROOT)), b'{"version":')
    await adopt(memory, "rides", ROOT)
    assert coordinator(memory, ID_B) == b'{"latest_version":2,"inflight":null}'


async def test_a_missing_checkpoint_is_no_obstacle_while_the_log_is_whole(tmp_path: Path) -> None:
    memory = MemoryStore()
    load(memory, ROOT, deltalake_table(tmp_path, 7, {"delta.checkpointInterval": "3"}))
    for path in [path for path in memory.objects if path.endswith(".parquet") and "checkpoint" in path]:
        memory.remove(path)
    await adopt(memory, "rides", ROOT)
    assert coordinator(memory, ID_B) == b'{"latest_version":6,"inflight":null}'


@pytest.mark.parametrize("location", ["lake/nothing", "lake"])
async def test_a_folder_without_a_log_is_no_table(location: str, tmp_path: Path) -> None:
    memory = MemoryStore()
    load(memory, ROOT, deltalake_table(tmp_path, 1))
    before = dict(memory.objects)
    refusal = await refusal_of(adopt(memory, "rides", location))
    assert (refusal.code, refusal.field, refusal.value) == (Code.NOT_A_DELTA_TABLE, "location", location)
    assert dict(memory.objects) == before


@pytest.mark.parametrize(
    "log",
    [
        b'{"commitInfo":{}}\n{"add":{"path":"x"}}',
        b'{"protocol":{"minReaderVersion":1,"minWriterVersion":2}}',
        b'{"protocol":{"minReaderVersion":1,',
        b'{"protocol":{}}\n{"metaData":{}}',
    ],
)
async def test_a_log_without_readable_protocol_and_metadata_is_refused(log: bytes) -> None:
    memory = MemoryStore()
    memory.seed(SCOPE.full(paths.delta_log(ROOT, 0)), log)
    assert (await refusal_of(adopt(memory, "rides", ROOT))).code is Code.NOT_A_DELTA_TABLE
    assert len(memory.objects) == 1


@pytest.mark.parametrize("name", [*sorted(REFUSED), "someDay"])
async def test_a_table_with_a_feature_off_the_list_is_refused_by_name(name: str) -> None:
    memory = MemoryStore()
    hand_made(memory, ROOT, {"minReaderVersion": 1, "minWriterVersion": 7, "writerFeatures": ["appendOnly", name]})
    refusal = await refusal_of(adopt(memory, "rides", ROOT))
    assert (refusal.code, refusal.field, refusal.value) == (Code.UNSUPPORTED_FEATURE, "location", [name])
    assert len(memory.objects) == 1


@pytest.mark.parametrize(
    ("configuration", "name"),
    [
        ({"delta.enableInCommitTimestamps": "true"}, "inCommitTimestamp"),
        ({"delta.enableRowTracking": "true"}, "rowTracking"),
        ({"delta.columnMapping.mode": "name"}, "columnMapping"),
    ],
)
async def test_a_property_off_the_list_is_refused_by_name(configuration: dict[str, str], name: str) -> None:
    memory = MemoryStore()
    hand_made(memory, ROOT, {"minReaderVersion": 1, "minWriterVersion": 2}, configuration=configuration)
    refusal = await refusal_of(adopt(memory, "rides", ROOT))
    assert (refusal.code, refusal.value) == (Code.UNSUPPORTED_FEATURE, [name])


async def test_a_feature_added_after_the_checkpoint_is_seen(tmp_path: Path) -> None:
    memory = MemoryStore()
    load(memory, ROOT, deltalake_table(tmp_path, 5, {"delta.checkpointInterval": "3"}))
    protocol = {"protocol": {"minReaderVersion": 1, "minWriterVersion": 7, "writerFeatures": ["rowTracking"]}}
    memory.seed(SCOPE.full(paths.delta_log(ROOT, 5)), orjson.dumps(protocol))
    memory.seed(SCOPE.full(paths.delta_log(ROOT, 6)), b'{"commitInfo":{}}')
    assert (await refusal_of(adopt(memory, "rides", ROOT))).value == ["rowTracking"]


async def test_every_allowed_feature_is_adopted() -> None:
    for name in sorted(ALLOWED):
        memory = MemoryStore()
        hand_made(
            memory,
            ROOT,
            {"minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": [name], "writerFeatures": [name]},
        )
        assert (await adopt(memory, "rides", ROOT)).root == ROOT


async def test_names_and_roots_are_taken_once(tmp_path: Path) -> None:
    memory = MemoryStore()
    load(memory, ROOT, deltalake_table(tmp_path, 2))
    hand_made(memory, f"{ROOT}/inner", {"minReaderVersion": 1, "minWriterVersion": 2})
    hand_made(memory, "lake/other", {"minReaderVersion": 1, "minWriterVersion": 2})
    first = await adopt(memory, "rides", ROOT)
    before = dict(memory.objects)
    assert await adopt(memory, "rides", ROOT) == first
    for name, location, table_id, code in (
        ("again", ROOT, ID_A, Code.ROOT_TAKEN),
        ("rides", ROOT, ID_A, Code.NAME_TAKEN),
        ("rides", "lake/other", ID_A, Code.NAME_TAKEN),
        ("inner", f"{ROOT}/inner", ID_A, Code.ROOT_TAKEN),
        ("again", "delta", ID_A, Code.INVALID_PATH),
        ("", ROOT, ID_A, Code.INVALID_REQUEST),
    ):
        assert (await refusal_of(adopt(memory, name, location, table_id))).code is code
    assert (await refusal_of(create(memory, flights("again", f"{SCOPE.prefix}/{ROOT}")))).code is Code.ROOT_TAKEN
    assert dict(memory.objects) == before


async def test_a_table_of_the_reference_keeps_its_id_and_its_coordinator() -> None:
    """It has a coordinator and the default root: another id would give its log a second sequencer."""
    memory = MemoryStore()
    root = paths.default_table_root(ID_C)
    hand_made(memory, root, {"minReaderVersion": 1, "minWriterVersion": 2})
    inflight: dict[str, Any] = {
        "commit_id": "01946742-8400-7000-8000-000000000002",
        "read_version": 0,
        "version": 1,
        "staged_path": f"delta/staging/{ID_C}/01JHKM51020000000000000002.json",
        "staged_version": "sha256:00",
        "started_at_ms": 1,
        "expires_at_ms": 2,
    }
    state = orjson.dumps({"latest_version": 0, "inflight": inflight})
    memory.seed(SCOPE.full(paths.delta_coordinator(ID_C)), state)
    registry = Registry(scoped(memory))
    assert await registry.root_of(ID_C) == root
    entry = await adopt(memory, "old", root, ID_B)
    assert entry.table_id == ID_C
    assert coordinator(memory, ID_C) == state
    assert await registry.root_of(ID_C) == root


@pytest.mark.parametrize("decision", [Decision.DIE_BEFORE, Decision.DIE_AFTER])
async def test_a_crash_at_every_operation_is_completed_by_the_same_or_another_workflow(
    decision: Decision, tmp_path: Path
) -> None:
    original = MemoryStore()
    load(original, ROOT, deltalake_table(tmp_path, 4, {"delta.checkpointInterval": "2"}))
    counted = FaultyStore(original.copy())
    await adopt(counted, "rides", ROOT)
    for index in range(len(counted.trace)):
        memory = original.copy()

        async def hook(operation: Operation, index: int = index) -> Decision:
            return decision if operation.index == index else Decision.PROCEED

        with pytest.raises(ProcessDied):
            await adopt(FaultyStore(memory, hook=hook), "rides", ROOT)
        finished = paths.name_claim("rides") in relative_objects(memory)
        entry = await adopt(memory.copy(), "rides", ROOT)
        assert entry.table_id == ID_B
        if finished:
            continue
        twin = memory.copy()
        # Somebody commits past us between the crash and the retry of another workflow.
        twin.seed(SCOPE.full(paths.delta_log(ROOT, 4)), b'{"commitInfo":{}}')
        entry = await adopt(twin, "rides", ROOT, ID_A)
        objects = relative_objects(twin)
        assert entry.table_id == (ID_B if paths.root_claim(ROOT) in relative_objects(memory) else ID_A)
        assert json.loads(objects[paths.name_claim("rides")])["table_id"] == entry.table_id
        assert json.loads(objects[paths.delta_coordinator(entry.table_id)])["latest_version"] in (3, 4)


async def test_the_location_may_be_a_url_of_this_workspace_and_not_of_another(tmp_path: Path) -> None:
    memory = MemoryStore(name="lake")
    load(memory, ROOT, deltalake_table(tmp_path, 1))
    url = f"memory://lake/{SCOPE.prefix}/{ROOT}/"
    assert (await adopt(memory, "rides", url)).root == ROOT
    elsewhere = paths.Scope("acme", "test")
    spec = AdoptTable(name="rides", location=url)
    refusal = await refusal_of(adopt_table(scoped(memory), elsewhere, spec, ID_A, LATER_MS))
    assert refusal.code is Code.INVALID_PATH
    assert "lies outside workspace 'test' of tenant 'acme'" in refusal.message
