"""Readers see what is published: the same rows whether loaded or brought forward, for one read if nothing changed."""

from __future__ import annotations

import asyncio
from typing import Literal

import pytest

from springline.paths import ObjectPath, Scope, orchestration_pointer
from springline.projection.config import FoldConfig
from springline.projection.schema import TABLES, Row
from springline.published.reader import PublishedReader, read_digest, read_published
from springline.published.snapshot import StateSnapshot
from springline.storage.damage import DamagedObject
from springline.storage.faults import FaultyStore, Kind
from springline.storage.memory import MemoryStore
from springline.storage.scoped import ScopedStore
from tests.support.golden_ledgers import SCOPE, ledger
from tests.support.publishing import Publisher

CONFIG = FoldConfig(SCOPE.tenant, SCOPE.workspace)
NAMES = tuple(TABLES)
How = Literal["delta", "base", "bridged base"]


class World:
    def __init__(self) -> None:
        self.memory = MemoryStore()
        self.store = FaultyStore(self.memory)
        self.publisher = Publisher(ScopedStore(self.memory, SCOPE), CONFIG)
        self.reader = PublishedReader(self.store)
        bodies = ledger("plain").bodies
        self.bodies = [bodies[path] for path in sorted(bodies)]

    async def publish(self, first: int, last: int, how: How = "delta") -> None:
        await self.publisher.publish(self.bodies[first:last], how)

    def gets(self) -> int:
        assert self.store.count() == self.store.count(Kind.GET), "readers only read, and never list"
        count = self.store.count()
        self.store.forget()
        return count

    def assert_state(self, snapshot: StateSnapshot, names: tuple[str, ...] = NAMES) -> None:
        for name in names:
            assert sorted_rows(name, snapshot[name]) == sorted_rows(name, self.publisher.state.rows(name)), name
        assert snapshot.revision.manifest_id == self.publisher.manifest_id
        assert snapshot.revision.last_visible_event_id == self.publisher.state.last_event_id


def sorted_rows(name: str, rows: object) -> list[Row]:
    return sorted(rows, key=TABLES[name].key_of)  # type: ignore[call-overload, no-any-return]


@pytest.fixture
def world() -> World:
    return World()


async def test_nothing_published_yet_is_an_empty_state(world: World) -> None:
    snapshot = await world.reader.snapshot(SCOPE, NAMES)
    assert snapshot.revision.as_json() == {
        "manifest_id": "0" * 20,
        "manifest_revision": "",
        "published_at": None,
        "last_visible_event_id": None,
    }
    assert all(len(snapshot[name]) == 0 for name in NAMES)
    head = await world.reader.head(SCOPE)
    assert (head.events, head.watermarks) == (0, {})
    await world.publish(0, 100)
    world.assert_state(await world.reader.snapshot(SCOPE, NAMES))


async def test_one_read_says_that_nothing_changed(world: World) -> None:
    await world.publish(0, 100)
    first = await world.reader.snapshot(SCOPE, NAMES)
    assert world.gets() > 17
    for _ in range(3):
        again = await world.reader.snapshot(SCOPE, ("runs", "tasks"))
        assert again["runs"] is first["runs"]
        assert world.gets() == 1
    assert world.reader.counts == {"loaded": 1, "held": 3}


async def test_only_tables_that_are_asked_for_are_read(world: World) -> None:
    await world.publish(0, 200, "base")
    snapshot = await world.reader.snapshot(SCOPE, ("runs",))
    assert world.gets() == 6, "twice the pointer, the manifest, two rounds that must not be there, the table"
    world.assert_state(snapshot, ("runs",))
    with pytest.raises(KeyError):
        snapshot["tasks"]
    both = await world.reader.snapshot(SCOPE, ("runs", "timers"))
    world.assert_state(both, ("runs", "timers"))
    assert world.gets() == 3, "twice the pointer, one table"


@pytest.mark.parametrize("seed", range(4))
async def test_what_is_brought_forward_is_what_is_loaded(world: World, seed: int) -> None:
    hows: list[How] = [["delta", "bridged base", "base", "delta"][(step + seed) % 4] for step in range(9)]  # type: ignore[misc]
    await world.reader.snapshot(SCOPE, NAMES)
    for step, how in enumerate(hows):
        await world.publish(step * 50, step * 50 + 50, how)
        if (step + seed) % 3:  # now and then a revision is never seen
            warm = await world.reader.snapshot(SCOPE, NAMES)
            world.assert_state(warm)
            _, cold = await read_published(ScopedStore(world.memory, SCOPE), NAMES)
            world.assert_state(cold)
    world.assert_state(await world.reader.snapshot(SCOPE, NAMES))
    assert world.reader.counts["advanced"] >= 1


async def test_bringing_forward_reads_the_new_delta_and_no_base(world: World) -> None:
    await world.publish(0, 300, "base")
    await world.reader.snapshot(SCOPE, NAMES)
    world.gets()
    await world.publish(300, 310)
    older = await world.reader.snapshot(SCOPE, ("runs",))
    read = world.gets()
    assert 4 <= read <= 16, "pointer, manifest, deletions and the tables that changed"
    await world.publish(310, 320, "bridged base")
    world.assert_state(await world.reader.snapshot(SCOPE, NAMES))
    assert world.gets() <= 17
    assert older.revision.manifest_id == "00000000000000000002", "who read before keeps his revision"
    assert world.reader.counts["advanced"] == 2


async def test_a_reader_goes_on_after_the_reference_published(world: World) -> None:
    await world.publish(0, 100)
    await world.reader.snapshot(SCOPE, NAMES)
    await world.publisher.publish(world.bodies[100:200], "base", ours=False)
    world.assert_state(await world.reader.snapshot(SCOPE, NAMES))
    found = await read_digest(ScopedStore(world.memory, SCOPE))
    assert found.state == world.publisher.digest.state()
    assert found.head.events == 0, "the reference does not count them"


async def test_the_digest_is_the_recorded_one_and_costs_four_reads(world: World) -> None:
    await world.publish(0, 100)
    found = await world.reader.digest(SCOPE)
    assert found.state == world.publisher.digest.state()
    assert world.gets() == 4
    assert found.tables["runs"]["rows"] == world.publisher.state.count("runs")


async def test_workspaces_are_apart_and_forgotten_in_turn(world: World) -> None:
    await world.publish(0, 100)
    reader = PublishedReader(world.store, max_workspaces=2)
    for number in range(5):
        other = await reader.snapshot(Scope("acme", f"w{number}"), NAMES)
        assert all(len(other[name]) == 0 for name in NAMES)
    world.assert_state(await reader.snapshot(SCOPE, NAMES))
    world.gets()
    await reader.snapshot(Scope("acme", "w4"), NAMES)
    await reader.snapshot(SCOPE, NAMES)
    assert world.gets() <= 8
    small = PublishedReader(world.store, max_bytes=1)
    await small.snapshot(SCOPE, NAMES)
    world.gets()
    await small.snapshot(SCOPE, NAMES)
    assert world.gets() == 1, "the workspace that is asked for is kept whatever its size"
    await small.snapshot(Scope("acme", "w0"), NAMES)
    await small.snapshot(SCOPE, NAMES)
    assert world.gets() > 17


async def test_many_readers_at_once_load_once(world: World) -> None:
    await world.publish(0, 200)
    store = FaultyStore(world.memory, latency=0.001)
    reader = PublishedReader(store)
    snapshots = await asyncio.gather(*(reader.snapshot(SCOPE, NAMES) for _ in range(20)))
    for snapshot in snapshots:
        world.assert_state(snapshot)
    assert reader.counts["loaded"] == 1
    assert store.count() < 80


async def test_readers_while_others_publish_see_whole_revisions(world: World) -> None:
    reader = PublishedReader(FaultyStore(world.memory, latency=0.0005))
    digests: dict[str, tuple[int, int]] = {}
    seen: list[tuple[str, int, int]] = []

    async def read() -> None:
        while "00000000000000000009" not in {one[0] for one in seen}:
            snapshot = await reader.snapshot(SCOPE, ("runs", "idempotency_keys"))
            seen.append((snapshot.revision.manifest_id, len(snapshot["runs"]), len(snapshot["idempotency_keys"])))

    async def write() -> None:
        for step in range(9):
            how: How = "delta" if step % 3 else "bridged base"
            await world.publish(step * 50, step * 50 + 50, how)
            state = world.publisher.state
            digests[world.publisher.manifest_id] = state.count("runs"), state.count("idempotency_keys")
            await asyncio.sleep(0.002)

    await asyncio.gather(write(), *(read() for _ in range(4)))
    for manifest_id, runs, keys in seen:
        assert (runs, keys) == digests.get(manifest_id, (0, 0))
    assert len({one[0] for one in seen}) > 2


@pytest.mark.parametrize("harm", ["gone", "altered", "truncated"])
async def test_a_damaged_file_is_named_and_the_next_revision_is_read(world: World, harm: str) -> None:
    await world.publish(0, 100, "base")
    path = next(path for path in world.memory.objects if "/tasks." in path)
    data = world.memory.objects[path].data
    if harm == "gone":
        world.memory.remove(path)
    else:
        world.memory.seed(path, data[:-1] if harm == "truncated" else data[:-20] + b"x" + data[-19:])
    with pytest.raises(DamagedObject) as caught:
        await world.reader.snapshot(SCOPE, NAMES)
    assert ObjectPath(caught.value.path) == SCOPE.relative(path)
    runs = await world.reader.snapshot(SCOPE, ("runs",))
    world.assert_state(runs, ("runs",))
    await world.publish(100, 150, "base")
    world.assert_state(await world.reader.snapshot(SCOPE, NAMES))


async def test_a_pointer_that_is_none_is_named(world: World) -> None:
    world.memory.seed(SCOPE.full(orchestration_pointer()), b"{}")
    with pytest.raises(DamagedObject):
        await world.reader.snapshot(SCOPE, ("runs",))
