"""Loading a state: once for all who wait for it, whatever becomes of them, and told as it goes."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from springline.paths import ObjectPath
from springline.published import cached_state as warm_module
from springline.published.cached_state import StateCache
from springline.published.load import LoadProgress
from springline.sequencer.messages import Head
from springline.sequencer.opening import read_opening
from springline.storage.damage import DamagedObject
from springline.storage.faults import FaultyStore, Kind
from springline.storage.memory import MemoryStore
from springline.storage.port import StoredObject
from springline.storage.scoped import ScopedStore
from tests.sequencer.projections import Publisher, bodies_of_runs, golden_rows
from tests.support.sequencer_world import CONFIG, SCOPE


async def published(store: ScopedStore) -> Publisher:
    publisher = Publisher(store)
    bodies = bodies_of_runs(6)
    await publisher.publish(bodies[:30], base=True)
    await publisher.publish(bodies[30:])
    return publisher


async def head_of(store: ScopedStore) -> Head:
    return (await read_opening(store)).head


def reads(store: FaultyStore) -> Counter[str]:
    return Counter(
        str(one.operation.path)
        for one in store.trace
        if one.operation.kind is Kind.GET and ".parquet" in str(one.operation.path)
    )


class GatedStore(MemoryStore):
    """A store whose table files can be read while its gate is open."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = asyncio.Event()
        self.gate.set()

    async def get(self, path: ObjectPath) -> StoredObject | None:
        if ".parquet" in path:
            await self.gate.wait()
        return await super().get(path)


async def test_attempts_that_are_given_up_do_not_begin_anew() -> None:
    gated = GatedStore()
    store = FaultyStore(gated)
    scoped = ScopedStore(store, SCOPE)
    publisher = await published(scoped)
    head = await head_of(scoped)
    store.forget()
    state = StateCache(CONFIG)
    gated.gate.clear()
    for _ in range(4):
        attempt = asyncio.create_task(state.at(scoped, head.state_manifest))
        await asyncio.wait({attempt}, timeout=0.03)
        assert not attempt.done()
        attempt.cancel()
        with pytest.raises(asyncio.CancelledError):
            await attempt
        assert state.progress is not None
        assert str(state.progress).startswith("loading the state: ")
    gated.gate.set()
    warm = await state.at(scoped, head.state_manifest)
    assert golden_rows(warm.state) == golden_rows(publisher.state)
    assert set(reads(store).values()) == {1}, "each file was read once"
    assert state.progress is None
    assert await state.at(scoped, head.state_manifest) is warm


async def test_a_load_that_nobody_waits_for_serves_a_newer_revision() -> None:
    store = FaultyStore(MemoryStore(), latency=0.01)
    scoped = ScopedStore(store, SCOPE)
    publisher = await published(scoped)
    state, older = StateCache(CONFIG), await head_of(scoped)
    attempt = asyncio.create_task(state.at(scoped, older.state_manifest))
    await asyncio.sleep(0.02)
    attempt.cancel()
    await publisher.publish(bodies_of_runs(1, first=900))
    store.forget()
    warm = await state.at(scoped, (await head_of(scoped)).state_manifest)
    assert golden_rows(warm.state) == golden_rows(publisher.state)
    assert max(reads(store).values()) == 1


async def test_a_load_that_fails_is_tried_again() -> None:
    memory = MemoryStore()
    scoped = ScopedStore(memory, SCOPE)
    publisher = await published(scoped)
    tasks = next(file for file in publisher.manifest.base_snapshot.tables.files() if file.table == "tasks")
    path = SCOPE.full(ObjectPath(tasks.path))
    data = memory.objects[path].data
    memory.seed(path, data[:-1])
    state, head = StateCache(CONFIG), await head_of(scoped)
    for _ in range(2):
        with pytest.raises(DamagedObject) as caught:
            await state.at(scoped, head.state_manifest)
        assert ObjectPath(caught.value.path) == SCOPE.relative(path)
    memory.seed(path, data)
    assert golden_rows((await state.at(scoped, head.state_manifest)).state) == golden_rows(publisher.state)


async def test_a_state_with_many_rows_in_memory_goes_back_into_files(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = MemoryStore()
    scoped = ScopedStore(memory, SCOPE)
    publisher = await published(scoped)
    state, head = StateCache(CONFIG), await head_of(scoped)
    warm = await state.at(scoped, head.state_manifest)
    assert await state.at(scoped, head.state_manifest) is warm
    for run in range(6):
        assert warm.state.run(f"run-{run}") is not None
    monkeypatch.setattr(warm_module, "RELOAD_ROWS", 5)
    assert warm.is_large
    before = len(memory.objects)
    anew = await state.at(scoped, head.state_manifest)
    assert anew is not warm
    assert not anew.is_large
    assert golden_rows(anew.state) == golden_rows(publisher.state)
    assert len(memory.objects) == before
    for run in range(6):
        assert anew.state.run(f"run-{run}") is not None
    for path in [path for path in memory.objects if "manifest" in path]:
        memory.remove(path)
    assert await state.at(scoped, head.state_manifest) is anew, (
        "what is in memory is good, whatever became of the files"
    )


def test_progress_is_told_in_words() -> None:
    progress = LoadProgress(files=4, files_read=1)
    assert str(progress) == "loading the state: 1 of 4 files read"
    progress = LoadProgress(files=4, files_read=4, rows=2_000_000, rows_done=500_000)
    assert str(progress) == "loading the state: 500,000 of 2,000,000 rows found, 25%"
