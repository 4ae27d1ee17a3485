"""What is published: pointer and manifest are read as they are, or named as damaged."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import msgspec
import pytest

from springline import paths
from springline.published.head import read_head, read_manifest
from springline.published.manifest import Manifest, Pointer, decode_manifest, decode_pointer, encode, pointer_hash
from springline.storage.damage import DamagedObject
from springline.storage.faults import Decision, FaultyStore, Kind, plan
from springline.storage.memory import MemoryStore
from springline.storage.port import ObjectStore, StoreRetry
from tests.sequencer.projections import Publisher, bodies_of_runs
from tests.support.sequencer_world import SCOPE, scoped

POINTER = SCOPE.full(paths.orchestration_pointer())
FIRST = paths.orchestration_manifest(paths.orchestration_manifest_id(1))
MANIFEST = SCOPE.full(FIRST)


async def published() -> MemoryStore:
    store = MemoryStore()
    await Publisher(scoped(store)).publish(bodies_of_runs(1), base=True)
    return store


async def test_nothing_is_published(store: ObjectStore) -> None:
    assert await read_head(store) is None


async def test_the_head_is_what_was_published(store: ObjectStore) -> None:
    publisher = Publisher(store)
    for number in range(3):
        await publisher.publish(bodies_of_runs(1, first=100 * number), base=number == 1)
    head = await read_head(store)
    assert head is not None
    assert head.is_ours
    assert head.manifest == publisher.manifest
    assert head.manifest_path == paths.orchestration_manifest(head.manifest.manifest_id)
    stored = await store.get(head.manifest_path)
    pointer = await store.get(paths.orchestration_pointer())
    assert stored is not None
    assert pointer is not None
    assert head.manifest_sha256 == hashlib.sha256(stored.data).hexdigest()
    assert (head.pointer_raw, head.pointer_version) == (pointer.data, pointer.version)
    assert head.pointer_hash == pointer_hash(pointer.data)


async def test_a_head_costs_two_reads_and_a_look_at_rounds_that_must_not_be_there() -> None:
    store = FaultyStore(await published())
    head = await read_head(scoped(store))
    assert head is not None
    assert head.manifest.springline is not None
    rounds = head.manifest.springline.rounds_folded
    assert [(line.operation.kind, line.operation.path) for line in store.trace] == [
        (Kind.GET, POINTER),
        (Kind.GET, MANIFEST),
        (Kind.GET, SCOPE.full(paths.orchestration_round(rounds + 2))),
        (Kind.GET, SCOPE.full(paths.orchestration_round(rounds + 3))),
    ]


async def test_without_a_pointer_the_old_manifest_counts() -> None:
    store = await published()
    old = scoped(store)
    manifest = msgspec.structs.replace(decode_manifest(store.objects[MANIFEST].data, FIRST), springline=None)
    store.seed(SCOPE.full(paths.orchestration_legacy_manifest()), encode(manifest))
    store.remove(POINTER)
    head = await read_head(old)
    assert head is not None
    assert (head.manifest, head.manifest_path) == (manifest, paths.orchestration_legacy_manifest())
    assert (head.pointer, head.pointer_version, head.pointer_hash, head.is_ours) == (None, None, None, False)


async def test_the_greater_epoch_counts() -> None:
    store = await published()
    pointer = decode_pointer(store.objects[POINTER].data, POINTER)
    store.seed(POINTER, encode(msgspec.structs.replace(pointer, epoch=7)))
    head = await read_head(scoped(store))
    assert head is not None
    assert head.manifest.epoch == 7


def changed_pointer(**fields: object) -> Callable[[MemoryStore], None]:
    def change(store: MemoryStore) -> None:
        pointer: Pointer = decode_pointer(store.objects[POINTER].data, POINTER)
        store.seed(POINTER, encode(msgspec.structs.replace(pointer, **fields)))

    return change


def changed_manifest(**fields: object) -> Callable[[MemoryStore], None]:
    def change(store: MemoryStore) -> None:
        manifest: Manifest = decode_manifest(store.objects[MANIFEST].data, MANIFEST)
        store.seed(MANIFEST, encode(msgspec.structs.replace(manifest, **fields)))

    return change


def bytes_at(path: paths.ObjectPath, change: Callable[[bytes], bytes]) -> Callable[[MemoryStore], None]:
    def write(store: MemoryStore) -> None:
        store.seed(path, change(store.objects[path].data))

    return write


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (bytes_at(POINTER, lambda data: b""), paths.orchestration_pointer()),
        (bytes_at(POINTER, lambda data: data[:-2]), paths.orchestration_pointer()),
        (bytes_at(POINTER, lambda data: b"\xff" + data), paths.orchestration_pointer()),
        (bytes_at(POINTER, lambda data: b"[]"), paths.orchestration_pointer()),
        (changed_pointer(manifest_path="../x"), "../x"),
        (changed_pointer(manifest_path=""), ""),
        (changed_pointer(manifest_id=paths.orchestration_manifest_id(2)), paths.orchestration_pointer()),
        (lambda store: store.remove(MANIFEST), FIRST),
        (bytes_at(MANIFEST, lambda data: data[:-2]), FIRST),
        (bytes_at(MANIFEST, lambda data: data.replace(b'"l0_count": 0', b'"l0_count": 1')), FIRST),
        (bytes_at(MANIFEST, lambda data: data.replace(b'"format": 1', b'"format": 2')), FIRST),
        (changed_manifest(schema_version=3), FIRST),
        (changed_manifest(manifest_id=paths.orchestration_manifest_id(2)), FIRST),
    ],
)
async def test_damage_is_named_with_a_remedy(damage: Callable[[MemoryStore], None], named: str) -> None:
    store = await published()
    damage(store)
    with pytest.raises(DamagedObject) as caught:
        await read_head(scoped(store))
    assert caught.value.path == named
    assert caught.value.remedy in str(caught.value)
    assert named in str(caught.value)


@pytest.mark.parametrize("read", [0, 1])
async def test_a_fault_of_the_store_is_no_damage(read: int) -> None:
    store = FaultyStore(await published(), hook=plan({read: Decision.FAIL_BEFORE}))
    with pytest.raises(StoreRetry):
        await read_head(scoped(store))


async def test_a_manifest_that_is_not_there_is_none() -> None:
    assert await read_manifest(scoped(MemoryStore()), FIRST) is None
