"""Accepted events are read through the index: the newest few, or all after an id, without listing anything."""

from __future__ import annotations

import hashlib

import pytest

from springline import paths
from springline.errors import Refused
from springline.paths import Scope
from springline.projection.config import FoldConfig
from springline.published.events import accepted_events, events_after, newest
from springline.published.index import EventsIndex
from springline.published.index_files import AcceptedEvent, extend_index
from springline.storage.faults import FaultyStore, Kind
from springline.storage.memory import MemoryStore
from springline.storage.scoped import ScopedStore
from tests.support.golden_ledgers import SCOPE, ledger
from tests.support.publishing import Publisher

BODIES = {path.rpartition("/")[2].removesuffix(".json"): body for path, body in ledger("plain").bodies.items()}
IDS = sorted(BODIES)


class Indexed:
    """The golden ledger in a store, indexed in the order of `ids`, `step` events at a time."""

    def __init__(self) -> None:
        self.memory = MemoryStore()
        self.counted = FaultyStore(self.memory)
        self.store = ScopedStore(self.counted, SCOPE)
        self.index = EventsIndex()

    async def add(self, ids: list[str], step: int) -> None:
        for event_id in ids:
            self.memory.seed(SCOPE.full(paths.canonical_ulid_event(event_id)), BODIES[event_id])
        for start in range(0, len(ids), step):
            accepted = [
                AcceptedEvent(one, hashlib.sha256(BODIES[one]).hexdigest(), BODIES[one])
                for one in ids[start : start + step]
            ]
            self.index = (await extend_index(self.store, self.index, accepted)).index
        self.counted.forget()


@pytest.mark.parametrize("step", [1, 30, 300, 1000])
@pytest.mark.parametrize("late", [False, True])
async def test_the_newest_events_are_found(step: int, late: bool) -> None:
    world = Indexed()
    await world.add(IDS[100:] + IDS[:100] if late else IDS, step)
    for count in (0, 1, 10, 299, len(IDS), len(IDS) + 5):
        found = await newest(world.store, world.index, count)
        assert found == [(one, BODIES[one]) for one in IDS[max(0, len(IDS) - count) :]]
    assert world.counted.count() == world.counted.count(Kind.GET), "nothing is listed"


async def test_a_few_of_the_newest_cost_a_few_reads() -> None:
    world = Indexed()
    await world.add(IDS, 1)
    await newest(world.store, world.index, 5)
    assert world.counted.count() <= 6


async def test_events_after_an_id() -> None:
    world = Indexed()
    await world.add(IDS, 50)
    for place in (0, 100, len(IDS) - 1):
        found = [event_id async for event_id, _ in events_after(world.store, world.index, IDS[place])]
        assert found == IDS[place + 1 :]


async def test_what_the_reference_published_has_no_index() -> None:
    memory = MemoryStore()
    store = ScopedStore(memory, Scope("acme", "prod"))
    assert (await accepted_events(store)).index.count == 0
    publisher = Publisher(store, FoldConfig("acme", "prod"))
    await publisher.publish([BODIES[one] for one in IDS[:10]], "base", ours=False)
    with pytest.raises(Refused) as caught:
        await accepted_events(store)
    assert caught.value.refusal.code == "NOT_FOUND"
    assert "ingest" in (caught.value.refusal.remedy or "")
