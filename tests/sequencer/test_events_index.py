"""The index of accepted events: what is in it, in which order it comes back, and what damage does."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from springline import paths
from springline.paths import ObjectPath, canonical_ulid_event
from springline.published import index as pure
from springline.published.events import events_between
from springline.published.files import Artifact
from springline.published.index import EventsIndex
from springline.published.index_files import (
    AcceptedEvent,
    ExtendedIndex,
    SegmentCache,
    SegmentIds,
    contains,
    count_through,
    extend_index,
    read_index,
    read_node,
)
from springline.published.segments import StoredEvent
from springline.storage.damage import DamagedObject
from springline.storage.faults import Decision, FaultyStore, Kind, on, plan
from springline.storage.memory import MemoryStore
from springline.storage.port import ObjectStore, StoreError, StoreRetry
from tests.support.sequencer_world import SCOPE, event_id, scoped


@pytest.fixture(autouse=True)
def _small_objects(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let packs, segments and nodes be small, so that few events make all of them."""
    monkeypatch.setattr(pure, "PACK_EVENTS", 4)
    monkeypatch.setattr(pure, "SEGMENT_EVENTS", 12)
    monkeypatch.setattr(pure, "NODE_SEGMENTS", 3)


def event(number: int, *, padding: int = 0) -> AcceptedEvent:
    ident = event_id(number)
    body = orjson.dumps({"event_id": ident, "padding": "x" * padding})
    return AcceptedEvent(ident, hashlib.sha256(body).hexdigest(), body)


@dataclass
class Ledger:
    """A ledger whose events come in rounds; event objects are there, as after the append of each round."""

    store: ObjectStore
    memory: MemoryStore
    index: EventsIndex = field(default_factory=EventsIndex)
    artifact: Artifact | None = None
    events: dict[str, AcceptedEvent] = field(default_factory=dict)
    last: ExtendedIndex | None = None

    async def accept(self, numbers: Sequence[int], *, padding: int = 0) -> None:
        accepted = [event(number, padding=padding) for number in numbers]
        for one in accepted:
            self.memory.seed(SCOPE.full(canonical_ulid_event(one.event_id)), one.body)
        self.last = await extend_index(self.store, self.index, accepted)
        self.index, self.artifact = self.last.index, self.last.artifact
        self.events |= {one.event_id: one for one in accepted}

    def expected(self, after: str | None = None, through: str | None = None) -> list[StoredEvent]:
        ids = sorted(one for one in self.events if (after or "") < one <= (through or "Z"))
        return [(one, self.events[one].body) for one in ids]

    def objects_of_index(self) -> list[str]:
        return [*(one.path for one in self.index.segments), *(one.path for one in self.index.packs)]


def ledger(store: ObjectStore | None = None) -> Ledger:
    memory = MemoryStore()
    return Ledger(scoped(memory if store is None else store), memory)


async def many(numbers: int = 69, size: int = 3, *, shuffled: bool = False) -> Ledger:
    """Return a ledger with nodes and segments, and with the usual sizes a pack and a tail."""
    one = ledger()
    order = list(range(numbers))
    if shuffled:
        random.Random(7).shuffle(order)
    for start in range(0, numbers, size):
        await one.accept(order[start : start + size])
    assert one.index.nodes
    assert one.index.segments
    return one


async def collected(
    one: Ledger, after: str | None = None, through: str | None = None, **more: Any
) -> list[StoredEvent]:
    found: list[StoredEvent] = []
    async for batch in events_between(one.store, one.index, after, through, **more):
        assert batch
        found += batch
    return found


rounds = st.lists(st.integers(1, 9), min_size=1, max_size=14)


@settings(max_examples=60, deadline=None)
@given(rounds, st.randoms(use_true_random=False), st.booleans(), st.integers(0, 30), st.integers(0, 30))
async def test_whatever_comes_in_is_found_and_comes_out_in_order(
    sizes: list[int], rng: random.Random, in_order: bool, low: int, span: int
) -> None:
    one = ledger()
    numbers = [2 * number for number in range(sum(sizes))]
    if not in_order:
        rng.shuffle(numbers)
    for size in sizes:
        await one.accept([numbers.pop(0) for _ in range(size)])
        assert one.last is not None
        assert one.last.damaged == []
        assert one.index.count == len(one.events)
        assert await read_index(one.store, one.artifact) == one.index
    assert len(one.index.tail) < 4
    assert sum(ref.count for ref in one.index.packs) < 12
    assert len(one.index.segments) <= 3
    everything = [event_id(number) for number in range(2 * len(one.events) + 2)]
    sha_of = {ident: accepted.sha256 for ident, accepted in one.events.items()}
    assert await contains(one.store, one.index, everything) == sha_of
    assert await collected(one) == one.expected()
    after, through = event_id(low), event_id(low + span)
    for held in (1, 10, 1000):
        got = await collected(one, after, through, most_held=held, batch=2, ahead=held % 3)
        assert got == one.expected(after, through)
    assert await count_through(one.store, one.index, through) == len(one.expected(None, through))
    assert await count_through(one.store, one.index, None) == 0


async def test_an_empty_index_is_no_object(store: ObjectStore) -> None:
    extended = await extend_index(store, EventsIndex(), [])
    assert (extended.index, extended.artifact, extended.damaged) == (EventsIndex(), None, [])
    assert await read_index(store, None) == EventsIndex()
    assert await contains(store, EventsIndex(), [event_id(1)]) == {}


async def test_the_index_object_says_what_it_covers() -> None:
    one = await many()
    assert one.artifact is not None
    name = paths.parse_ledger_index(one.artifact.path)
    assert name is not None
    assert (name.first_id, name.last_id, name.node) == (event_id(0), event_id(68), False)
    assert all(paths.parse_ledger_segment(path) is not None for path in one.objects_of_index())
    for node in one.index.nodes:
        parsed = paths.parse_ledger_index(node.path)
        assert parsed is not None
        assert parsed.node
        assert len(await read_node(one.store, node)) == node.segments == 3


async def test_a_round_costs_one_object_unless_something_is_due() -> None:
    memory = MemoryStore()
    store = FaultyStore(memory)
    one = Ledger(scoped(store), memory)
    await one.accept(range(3))
    assert store.count() == store.count(Kind.PUT) == 1
    store.forget()
    await one.accept(range(3, 4))
    assert store.count(Kind.PUT) == 2, "a pack, and the index"
    assert store.count(Kind.GET) == 3, "the tail of the rounds before"
    store.forget()
    before = {event(number).event_id: event(number).body for number in range(4, 7)}
    await one.accept(range(4, 7))
    extended = await extend_index(one.store, one.index, [event(7)], at_hand=before)
    assert extended.index.tail == []
    assert store.count(Kind.GET) == 0, "bytes at hand are not read"
    assert store.count(Kind.LIST) == 0


async def test_many_events_at_once_go_into_segments_directly() -> None:
    one = ledger()
    await one.accept(range(100))
    assert (len(one.index.tail), sum(ref.count for ref in one.index.packs)) == (0, 4)
    assert sum(ref.count for ref in one.index.nodes) + sum(ref.count for ref in one.index.segments) == 96
    assert await collected(one) == one.expected()


async def test_a_segment_is_full_by_bytes_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pure, "SEGMENT_BYTES", 5_000)
    one = ledger()
    for start in range(0, 12, 2):
        await one.accept(range(start, start + 2), padding=1_000)
    assert [ref.count for ref in one.index.segments] == [5, 5]
    assert [ref.count for ref in one.index.packs] == [2]
    assert await collected(one) == one.expected()


async def test_an_event_is_accepted_once() -> None:
    one = ledger()
    await one.accept(range(2))
    with pytest.raises(ValueError, match="in the index's tail already"):
        await extend_index(one.store, one.index, [event(1)])


@pytest.mark.parametrize("decision", [Decision.FAIL_BEFORE, Decision.FAIL_AFTER, Decision.LOSE, Decision.LATE])
async def test_any_fault_is_cured_by_repeating(decision: Decision) -> None:
    good = await many(71, 10)
    steps = 0
    index = 0
    while True:
        memory = MemoryStore()
        store = FaultyStore(memory, hook=plan({index: decision}))
        one = Ledger(scoped(store), memory)
        failed = False
        for start in range(0, 71, 10):
            numbers = range(start, min(71, start + 10))
            try:
                await one.accept(numbers)
            except StoreError:
                failed = True
                await one.accept(numbers)
        await store.deliver_late()
        assert one.index == good.index
        assert {path: stored.data for path, stored in memory.objects.items()} == {
            path: stored.data for path, stored in good.memory.objects.items()
        }
        steps += failed
        index += 1
        if len(store.trace) <= index:
            break
    assert index > 20
    assert decision is not Decision.FAIL_BEFORE or steps > 10


async def test_looking_up_reads_only_what_may_hold_an_id() -> None:
    one = await many()
    store = FaultyStore(one.memory)
    watched = scoped(store)
    tail = [ident for ident, _ in one.index.tail]
    assert tail
    assert one.index.packs
    assert set(await contains(watched, one.index, tail)) == set(tail)
    assert await contains(watched, one.index, [event_id(1_000)]) == {}
    assert store.count() == 0
    cache = SegmentCache()
    last_segment = one.index.segments[-1]
    assert last_segment.first_id in await contains(watched, one.index, [last_segment.first_id], cache=cache)
    assert store.count() == 1
    await contains(watched, one.index, [last_segment.last_id], cache=cache)
    assert store.count() == 1, "remembered"
    await contains(watched, one.index, [event_id(0)], cache=cache)
    assert store.count() == 3, "a node and its segment"
    assert store.count(Kind.LIST) == 0
    store.forget()
    total = await count_through(watched, one.index, event_id(1_000), cache=cache)
    assert total == one.index.count
    assert store.count() == 0


def test_a_cache_forgets_what_was_not_used_for_longest() -> None:
    ids = SegmentIds([(event(number).event_id, event(number).body) for number in range(10)])
    assert ids.size == 580
    assert len(ids) == 10
    cache = SegmentCache(most_bytes=1_200)
    cache.put("a", ids)
    cache.put("b", ids)
    assert cache.get("a") is ids
    cache.put("c", ids)
    assert cache.get("b") is None
    assert cache.get("a") is cache.get("c") is ids
    cache.put("a", ids)
    assert cache.size == 1_160
    small = SegmentCache(most_bytes=100)
    small.put("a", ids)
    assert small.get("a") is None


async def test_the_stream_holds_little_of_what_overlaps() -> None:
    """Rounds in random order: every segment covers nearly everything."""
    one = await many(600, 12, shuffled=True)
    store = FaultyStore(one.memory)
    watched = Ledger(scoped(store), one.memory, one.index, one.artifact, one.events)
    assert await collected(watched, most_held=1) == one.expected()
    again = store.count()
    store.forget()
    assert await collected(watched) == one.expected()
    assert store.count() <= again


async def test_the_stream_reads_ahead() -> None:
    one = await many(70, 7)
    store = FaultyStore(one.memory, latency=0.02)
    watched = Ledger(scoped(store), one.memory, one.index, one.artifact, one.events)
    await collected(watched, ahead=0)
    alone = store.steps["main"]
    store.forget()
    await collected(watched, ahead=4)
    assert store.steps["main"] < alone / 1.5
    assert store.count(Kind.LIST) == 0


async def test_a_stream_that_is_left_leaves_nothing_behind() -> None:
    one = await many()
    store = FaultyStore(one.memory, latency=0.001)
    stream = events_between(scoped(store), one.index, None)
    async for _ in stream:
        break
    await stream.aclose()
    asked = store.count()
    async for _ in events_between(scoped(FaultyStore(one.memory, latency=0.001)), one.index, event_id(60)):
        pass
    assert store.count() == asked


def damaged(data: bytes) -> list[bytes | None]:
    flipped = bytearray(data)
    flipped[len(data) // 2] ^= 1
    return [bytes(flipped), data[:-1], b"", None]


async def test_a_damaged_object_is_named_when_the_stream_gets_there() -> None:
    one = await many()
    tail = [canonical_ulid_event(ident) for ident, _ in one.index.tail]
    nodes = [node.path for node in one.index.nodes]
    in_nodes = [ref.path for node in one.index.nodes for ref in await read_node(one.store, node)]
    named = [*nodes, *in_nodes, *one.objects_of_index(), *tail]
    assert len(named) == 10
    for path in named:
        full = SCOPE.full(ObjectPath(path))
        good = one.memory.objects[full].data
        for bad in damaged(good):
            one.memory.remove(full) if bad is None else one.memory.seed(full, bad)
            seen: list[StoredEvent] = []
            with pytest.raises(DamagedObject) as caught:
                async for batch in events_between(one.store, one.index, None):
                    seen += batch
            assert caught.value.path == path
            assert caught.value.remedy
            assert seen == one.expected()[: len(seen)]
            one.memory.seed(full, good)


async def test_a_damaged_index_or_node_is_named() -> None:
    one = await many()
    assert one.artifact is not None
    for path in (one.artifact.path, one.index.nodes[0].path):
        full = SCOPE.full(ObjectPath(path))
        good = one.memory.objects[full].data
        for bad in damaged(good):
            one.memory.remove(full) if bad is None else one.memory.seed(full, bad)
            with pytest.raises(DamagedObject) as caught:
                await contains(one.store, await read_index(one.store, one.artifact), [event_id(0)])
            assert caught.value.path == path
            one.memory.seed(full, good)


async def test_a_segment_that_is_not_the_one_named_is_damage() -> None:
    """Its bytes are those of a sound segment, and its hash is what the index says: only its events are others."""
    one = await many()
    first, second = one.index.segments[:2]
    other = one.memory.objects[SCOPE.full(ObjectPath(second.path))].data
    one.memory.seed(SCOPE.full(ObjectPath(first.path)), other)
    lying = [
        pure.SegmentRef(
            path=first.path, first_id=first.first_id, last_id=first.last_id, count=first.count,
            sha256=second.sha256, byte_size=second.byte_size, raw_bytes=first.raw_bytes,
        )
    ]  # fmt: skip
    index = EventsIndex(count=first.count, segments=lying)
    with pytest.raises(DamagedObject, match="not 12 from"):
        await contains(one.store, index, [first.first_id])


async def test_a_lost_event_holds_up_no_round() -> None:
    """An event object of the tail that is gone stays in the tail, and is named; all others are packed."""
    one = ledger()
    await one.accept(range(3))
    lost = canonical_ulid_event(event_id(1))
    kept = one.memory.objects[SCOPE.full(lost)].data
    one.memory.remove(SCOPE.full(lost))
    for start in range(3, 60, 3):
        await one.accept(range(start, start + 3))
        assert one.last is not None
    assert one.last is not None
    assert one.index.tail[0][0] == event_id(1)
    assert one.index.count == 60
    assert one.index.nodes
    extended = await extend_index(one.store, one.index, [event(number) for number in range(60, 64)])
    assert [damage.path for damage in extended.damaged] == [lost]
    with pytest.raises(DamagedObject, match="is missing"):
        await collected(one)
    one.memory.seed(SCOPE.full(lost), kept)
    healed = await extend_index(one.store, one.index, [event(number) for number in range(60, 64)])
    assert healed.damaged == []
    assert event_id(1) not in dict(healed.index.tail)


async def test_a_lost_pack_holds_up_no_round() -> None:
    one = ledger()
    await one.accept(range(4))
    (pack,) = one.index.packs
    full = SCOPE.full(ObjectPath(pack.path))
    kept = one.memory.objects[full].data
    one.memory.remove(full)
    named = set()
    for start in range(4, 40, 4):
        await one.accept(range(start, start + 4))
        assert one.last is not None
        named |= {damage.path for damage in one.last.damaged}
    assert named == {pack.path}
    assert pack in one.index.packs
    assert one.index.segments
    assert one.index.count == 40
    one.memory.seed(full, kept)
    assert await collected(one) == one.expected()


async def test_a_fault_of_the_store_passes_through() -> None:
    one = await many()
    for nth in range(3):
        store = FaultyStore(one.memory, hook=on(lambda op: op.kind is Kind.GET, Decision.FAIL_BEFORE, nth=nth))
        watched = Ledger(scoped(store), one.memory, one.index)
        with pytest.raises(StoreRetry):
            await collected(watched)
        store.hook = on(lambda op: op.kind is Kind.GET, Decision.FAIL_BEFORE)
        with pytest.raises(StoreRetry):
            await contains(watched.store, one.index, [event_id(0)])
