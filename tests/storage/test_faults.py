"""The fault injector does what it says: a wrong one would prove wrong things about everything else."""

from __future__ import annotations

import asyncio

import pytest

from springline.paths import ObjectPath, delta_coordinator, delta_log, delta_marker, delta_staged
from springline.storage.faults import (
    Decision,
    FaultyStore,
    Kind,
    Operation,
    Outcome,
    ProcessDied,
    Quota,
    on,
    path_kind,
    plan,
)
from springline.storage.memory import MemoryStore
from springline.storage.port import (
    IfAbsent,
    IfVersion,
    ObjectStore,
    PreconditionFailed,
    Stored,
    StoreMisconfigured,
    StoreRetry,
    StoreUnknown,
)
from springline.storage.together import together
from tests.support.virtual_time import run

TABLE = "01946b1c-0000-7000-8000-0000000000aa"
PATH = ObjectPath("object")


def faulty(decision: Decision, *, seed: bytes | None = None) -> FaultyStore:
    memory = MemoryStore()
    if seed is not None:
        memory.seed(PATH, seed)
    return FaultyStore(memory, hook=plan({0: decision}))


def stored(store: FaultyStore) -> bytes | None:
    assert isinstance(store.inner, MemoryStore)
    found = store.inner.objects.get(PATH)
    return None if found is None else found.data


WRITES = [
    (Decision.FAIL_BEFORE, StoreRetry, False),
    (Decision.FAIL_AFTER, StoreUnknown, True),
    (Decision.LOSE, StoreUnknown, False),
    (Decision.LATE, StoreUnknown, False),
    (Decision.DIE_BEFORE, ProcessDied, False),
    (Decision.DIE_AFTER, ProcessDied, True),
    (Decision.DIE_LATE, ProcessDied, False),
]


@pytest.mark.parametrize(("decision", "error", "happens"), WRITES)
async def test_puts(decision: Decision, error: type[BaseException], happens: bool) -> None:
    store = faulty(decision)
    with pytest.raises(error):
        await store.put(PATH, b"x", IfAbsent())
    assert stored(store) == (b"x" if happens else None)
    assert [traced.happened for traced in store.trace] == [happens]
    late = decision in (Decision.LATE, Decision.DIE_LATE)
    assert len(store.late) == int(late)
    await store.deliver_late()
    assert stored(store) == (b"x" if happens or late else None)
    assert store.late == []


@pytest.mark.parametrize(("decision", "error", "happens"), WRITES)
async def test_deletes(decision: Decision, error: type[BaseException], happens: bool) -> None:
    store = faulty(decision, seed=b"x")
    with pytest.raises(error):
        await store.delete(PATH, if_version="1")
    assert stored(store) == (None if happens else b"x")
    await store.deliver_late()
    late = decision in (Decision.LATE, Decision.DIE_LATE)
    assert stored(store) == (None if happens or late else b"x")


@pytest.mark.parametrize("kind", [Kind.GET, Kind.HEAD, Kind.LIST])
@pytest.mark.parametrize(("decision", "error", "happens"), WRITES)
async def test_reads_are_never_in_doubt(
    decision: Decision, error: type[BaseException], happens: bool, kind: Kind
) -> None:
    store = faulty(decision, seed=b"x")
    with pytest.raises(StoreRetry if issubclass(error, Exception) else error):
        await read(store, kind)
    assert store.late == []
    assert [(traced.operation.kind, traced.happened) for traced in store.trace] == [(kind, happens)]


async def read(store: ObjectStore, kind: Kind) -> object:
    if kind is Kind.LIST:
        return [info async for info in store.list(ObjectPath(""))]
    return await (store.get(PATH) if kind is Kind.GET else store.head(PATH))


async def test_a_late_write_is_judged_when_it_arrives() -> None:
    store = faulty(Decision.LATE)
    with pytest.raises(StoreUnknown):
        await store.put(PATH, b"early", IfAbsent())
    late = store.late[0]
    assert await store.put(PATH, b"other", IfAbsent()) == Stored("1")
    await late.deliver()
    assert stored(store) == b"other"
    assert isinstance(store.inner, MemoryStore)
    store.inner.remove(PATH)
    await late.deliver()
    assert stored(store) is None, "a request arrives once"


async def test_the_dead_stay_dead_and_others_live() -> None:
    store = FaultyStore(MemoryStore(), hook=plan({0: Decision.DIE_AFTER}))
    one, two = store.actor("one"), store.actor("two")
    with pytest.raises(ProcessDied):
        await one.put(PATH, b"x", IfAbsent())
    for again in (one, store.actor("one")):
        with pytest.raises(ProcessDied):
            await again.get(PATH)
    assert store.dead == {"one"}
    found = await two.get(PATH)
    assert found is not None
    assert found.data == b"x"
    assert [(traced.operation.actor, traced.outcome) for traced in store.trace] == [
        ("one", Outcome.DIED),
        ("two", Outcome.FOUND),
    ]


async def test_what_a_process_had_under_way_dies_with_it() -> None:
    going = asyncio.Event()

    async def hook(operation: Operation) -> Decision:
        if operation.path == "slow":
            await going.wait()
            return Decision.PROCEED
        return Decision.DIE_BEFORE

    memory = MemoryStore()
    store = FaultyStore(memory, hook=hook).actor("one")
    slow = asyncio.create_task(store.put(ObjectPath("slow"), b"x", IfAbsent()))
    with pytest.raises(ProcessDied):
        await store.get(PATH)
    going.set()
    with pytest.raises(ProcessDied):
        await slow
    assert memory.objects == {}


async def test_a_hook_decides_the_order() -> None:
    """A scheduler suspends every operation and lets them go one by one, in an order of its own."""
    waiting: dict[str, asyncio.Future[Decision]] = {}

    async def hook(operation: Operation) -> Decision:
        waiting[operation.actor] = asyncio.get_running_loop().create_future()
        return await waiting[operation.actor]

    store = FaultyStore(MemoryStore(), hook=hook)
    tasks = {
        name: asyncio.create_task(store.actor(name).put(PATH, name.encode(), IfAbsent())) for name in ("a", "b", "c")
    }
    await asyncio.sleep(0)  # each task runs up to its hook
    for name in ("c", "a", "b"):
        waiting[name].set_result(Decision.PROCEED)
        await tasks[name]
    assert stored(store) == b"c"
    assert [traced.operation.actor for traced in store.trace] == ["c", "a", "b"]
    assert [type(tasks[name].result()) for name in ("a", "b", "c")] == [PreconditionFailed, PreconditionFailed, Stored]


async def test_what_a_hook_sees() -> None:
    seen: list[Operation] = []

    async def hook(operation: Operation) -> Decision:
        seen.append(operation)
        return Decision.PROCEED

    store = FaultyStore(MemoryStore(), hook=hook)
    one, two = store.actor("one"), store.actor("two")
    await one.put(PATH, b"x", IfAbsent())
    await two.head(PATH)
    await one.put(PATH, b"y", IfVersion("1"))
    await one.delete(PATH, if_version="2")
    assert [(op.index, op.actor, op.actor_index, op.kind) for op in seen] == [
        (0, "one", 0, Kind.PUT),
        (1, "two", 0, Kind.HEAD),
        (2, "one", 1, Kind.PUT),
        (3, "one", 2, Kind.DELETE),
    ]
    assert (seen[0].data, seen[0].precondition) == (b"x", IfAbsent())
    assert (seen[2].data, seen[2].precondition) == (b"y", IfVersion("1"))
    assert seen[3].if_version == "2"


async def test_on_counts_only_what_matches() -> None:
    store = FaultyStore(MemoryStore(), hook=on(lambda op: op.kind is Kind.GET, Decision.FAIL_BEFORE, nth=1))
    await store.get(PATH)
    await store.head(PATH)
    with pytest.raises(StoreRetry):
        await store.get(PATH)
    await store.get(PATH)


async def test_errors_of_the_wrapped_store_pass() -> None:
    class Closed(MemoryStore):
        async def get(self, path: ObjectPath) -> None:
            raise StoreMisconfigured("closed")

    store = FaultyStore(Closed())
    with pytest.raises(StoreMisconfigured):
        await store.get(PATH)
    assert [traced.outcome for traced in store.trace] == [Outcome.ERROR]


class Clock:
    """Seconds that pass when told."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


async def test_quota_of_one_write_per_second_and_name() -> None:
    clock = Clock()
    store = FaultyStore(MemoryStore(), quota=Quota(clock=clock))
    assert await store.put(PATH, b"1", IfAbsent()) == Stored("1")
    assert await store.put(ObjectPath("another"), b"1", IfAbsent()) == Stored("2")
    clock.now += 0.99
    with pytest.raises(StoreRetry):
        await store.put(PATH, b"2", IfVersion("1"))
    with pytest.raises(StoreRetry):
        await store.delete(PATH, if_version="1")
    assert stored(store) == b"1"
    assert [traced.outcome for traced in store.trace][-2:] == [Outcome.THROTTLED] * 2
    clock.now += 0.01
    assert await store.put(PATH, b"2", IfVersion("1")) == Stored("3")
    with pytest.raises(StoreRetry):
        await store.put(PATH, b"3", IfVersion("3"))
    found = await store.get(PATH)
    assert found is not None
    assert found.data == b"2", "reads are not limited"


async def test_quota_is_not_used_up_by_refusals() -> None:
    clock = Clock()
    store = FaultyStore(MemoryStore(), quota=Quota(clock=clock))
    assert isinstance(await store.put(PATH, b"1", IfVersion("9")), PreconditionFailed)
    assert await store.delete(PATH, if_version="9") is False
    assert await store.put(PATH, b"1", IfAbsent()) == Stored("1")
    clock.now += 1
    assert isinstance(await store.put(PATH, b"1", IfAbsent()), PreconditionFailed)
    assert await store.put(PATH, b"2", IfVersion("1")) == Stored("2")


async def test_quota_at_another_rate() -> None:
    clock = Clock()
    store = FaultyStore(MemoryStore(), quota=Quota(per_second=4, clock=clock))
    await store.put(PATH, b"1", IfAbsent())
    clock.now += 0.2
    with pytest.raises(StoreRetry):
        await store.put(PATH, b"2", IfVersion("1"))
    clock.now += 0.05
    assert await store.put(PATH, b"2", IfVersion("1")) == Stored("2")


async def test_quota_counts_writes_under_way() -> None:
    """Two writes that start together are two writes, however long the store takes."""

    class Slow(MemoryStore):
        async def put(self, path: ObjectPath, data: bytes, precondition: object) -> object:  # type: ignore[override]
            await asyncio.sleep(0)
            return await super().put(path, data, precondition)  # type: ignore[arg-type]

    store = FaultyStore(Slow(), quota=Quota(clock=Clock()))
    results = await asyncio.gather(
        store.put(PATH, b"1", IfAbsent()), store.put(PATH, b"2", IfAbsent()), return_exceptions=True
    )
    assert [type(result) for result in results] == [Stored, StoreRetry]


def test_latency_overlaps() -> None:
    async def measured() -> tuple[float, float]:
        loop = asyncio.get_running_loop()
        store = FaultyStore(MemoryStore(), latency=0.03)
        started = loop.time()
        await together(*(store.get(PATH) for _ in range(100)))
        at_once = loop.time() - started
        for _ in range(4):
            await store.get(PATH)
        return at_once, loop.time() - started - at_once

    at_once, in_turn = run(measured())
    assert at_once == pytest.approx(0.03)
    assert in_turn == pytest.approx(0.12)


async def test_steps_count_what_overlaps_once() -> None:
    store = FaultyStore(MemoryStore(), latency=lambda operation: 0.002 if operation.path == PATH else 0.001)
    await store.get(PATH)
    await together(store.get(PATH), store.head(PATH), store.put(ObjectPath("other"), b"", IfAbsent()))
    await store.get(PATH)
    await store.actor("another").get(PATH)
    assert store.steps == {"main": 3, "another": 1}


async def test_requests_are_counted_by_operation_and_path() -> None:
    store = FaultyStore(MemoryStore())
    await store.get(delta_coordinator(TABLE))
    await store.get(delta_coordinator(TABLE))
    await store.put(delta_log("tables/x", 3), b"", IfAbsent())
    await read(store, Kind.LIST)
    assert store.requests == {(Kind.GET, "delta/coordinator"): 2, (Kind.PUT, "log"): 1, (Kind.LIST, ""): 1}
    assert (store.count(), store.count(Kind.GET), store.count(path_group="log")) == (4, 2, 1)
    store.forget()
    assert store.count() == 0
    assert store.trace == []


def test_path_kinds() -> None:
    scoped = "tenant=a/workspace=b/"
    for path, kind in [
        (delta_coordinator(TABLE), "delta/coordinator"),
        (delta_staged(TABLE, "x"), "delta/staging"),
        (delta_marker(TABLE, "k"), "delta/idempotency"),
        (delta_log("a/b", 0), "log"),
        (ObjectPath("x"), ""),
    ]:
        assert path_kind(path) == kind
        assert path_kind(ObjectPath(scoped + path)) == kind


async def test_many_reads_end_with_the_first_fault() -> None:
    store = FaultyStore(MemoryStore(), hook=plan({5: Decision.FAIL_BEFORE}), latency=0.001)
    with pytest.raises(StoreRetry):
        await store.read_many([ObjectPath(f"many/{number}") for number in range(1000)], concurrency=4)
    assert store.count(Kind.GET) < 20
