"""Where a late event is folded from: the newest sound checkpoint below it, whatever is wrong with newer ones."""

from __future__ import annotations

import hashlib

import msgspec
import pytest

from springline.ledger.envelope import parse_event
from springline.paths import ObjectPath
from springline.projection.config import FoldConfig
from springline.projection.state import State
from springline.published.events import events_between
from springline.published.folding import RefoldPoint, load_below
from springline.published.head import read_manifest
from springline.published.index_files import AcceptedEvent, extend_index
from springline.published.manifest import Adopted, SpringlineSection, encode
from springline.storage.damage import DamagedObject
from springline.storage.faults import Decision, FaultyStore, Kind, plan
from springline.storage.memory import MemoryStore
from springline.storage.port import StoreRetry
from tests.sequencer.projections import Publisher, bodies_of_runs, golden_rows
from tests.support.sequencer_world import CONFIG, SCOPE, body_of, event_id, scoped, triggered


async def three_checkpoints(store: MemoryStore) -> Publisher:
    """Publish three bases at the events 10, 34 and 58, with deltas in between and behind; odd ids are free."""
    publisher = Publisher(scoped(store))
    bodies = bodies_of_runs(6, step=2)
    for number in range(6):
        await publisher.publish(bodies[number * 6 : number * 6 + 6], base=number % 2 == 0)
    return publisher


def ours(publisher: Publisher) -> SpringlineSection:
    section = publisher.manifest.springline
    assert section is not None
    return section


async def below(publisher: Publisher, number: int, section: SpringlineSection | None = None) -> RefoldPoint:
    section = ours(publisher) if section is None else section
    return await load_below(publisher.store, section, publisher.index, event_id(number), CONFIG)


@pytest.mark.parametrize(
    ("late", "watermark"), [(3, None), (10, None), (11, 10), (34, 10), (35, 34), (58, 34), (59, 58), (100, 58)]
)
async def test_the_newest_checkpoint_below_the_late_event_counts(late: int, watermark: int | None) -> None:
    publisher = await three_checkpoints(MemoryStore())
    point = await below(publisher, late)
    assert point.skipped == []
    assert point.state.last_event_id == ("" if watermark is None else event_id(watermark))
    assert (point.checkpoint is None) is (watermark is None)
    expected = State(CONFIG)
    for body in bodies_of_runs(6, step=2)[: 0 if watermark is None else watermark // 2 + 1]:
        expected.fold(parse_event(body))
    assert golden_rows(point.state) == golden_rows(expected)


async def test_folding_on_from_a_checkpoint_gives_the_in_order_fold() -> None:
    """The whole way of a late event: its index, the state below it, the events from there on."""
    publisher = await three_checkpoints(MemoryStore())
    late, ident = body_of(41, triggered("late"), idempotency_key="late"), event_id(41)
    accepted = AcceptedEvent(ident, hashlib.sha256(late).hexdigest(), late)
    extended = await extend_index(publisher.store, publisher.index, [accepted])
    point = await load_below(publisher.store, ours(publisher), extended.index, ident, CONFIG)
    assert point.checkpoint is not None
    assert point.checkpoint.watermark == event_id(34)
    async for batch in events_between(
        publisher.store, extended.index, point.state.last_event_id, at_hand={ident: late}, batch=5
    ):
        for _, body in batch:
            point.state.fold(parse_event(body))
    in_order = State(CONFIG)
    for event in sorted(
        (parse_event(body) for body in [*bodies_of_runs(6, step=2), late]), key=lambda one: one.event_id
    ):
        in_order.fold(event)
    assert golden_rows(point.state) == golden_rows(in_order)


async def test_a_damaged_checkpoint_costs_time_and_nothing_else() -> None:
    store = MemoryStore()
    publisher = await three_checkpoints(store)
    newest = ours(publisher).checkpoints[-1]
    found = await read_manifest(publisher.store, newest.manifest_path)
    assert found is not None
    table = next(found.manifest.base_snapshot.tables.files()).path
    for path in (table, newest.manifest_path):
        full = SCOPE.full(ObjectPath(path))
        good = store.objects[full].data
        for bad in (good[:-1], None):
            store.remove(full) if bad is None else store.seed(full, bad)
            point = await below(publisher, 100)
            assert [damage.path for damage in point.skipped] == [path]
            assert point.state.last_event_id == event_id(34)
            store.seed(full, good)
    assert (await below(publisher, 100)).skipped == []


async def test_a_checkpoint_that_lacks_an_event_is_passed_over() -> None:
    """It was made before an event below it came late, and nobody took it off the list."""
    publisher = await three_checkpoints(MemoryStore())
    late = body_of(41, triggered("late"), idempotency_key="late")
    accepted = AcceptedEvent(event_id(41), hashlib.sha256(late).hexdigest(), late)
    extended = await extend_index(publisher.store, publisher.index, [accepted])
    point = await load_below(publisher.store, ours(publisher), extended.index, event_id(100), CONFIG)
    assert point.state.last_event_id == event_id(34)
    assert "holds 30 events, but 31" in point.skipped[0].why


async def test_a_checkpoint_that_is_none_is_passed_over() -> None:
    store = MemoryStore()
    publisher = await three_checkpoints(store)
    section = ours(publisher)
    foreign = msgspec.structs.replace(publisher.manifest, springline=None, l0_deltas=[], l0_count=0)
    store.seed(SCOPE.full(ObjectPath("foreign.json")), encode(foreign))
    sound, *_, newest = section.checkpoints
    with_deltas = str(publisher.manifests[-2].previous_manifest_path)
    for path in (with_deltas, "foreign.json"):
        pretended = msgspec.structs.replace(newest, manifest_path=path)
        point = await below(publisher, 100, msgspec.structs.replace(section, checkpoints=[sound, pretended]))
        assert point.state.last_event_id == event_id(10)
        assert "must be" in point.skipped[0].why
    other = FoldConfig("acme", "prod", b"another secret")
    point = await load_below(publisher.store, section, publisher.index, event_id(100), other)
    assert point.checkpoint is None
    assert len(point.skipped) == 3
    assert all("another configuration" in damage.why for damage in point.skipped)


async def test_below_all_checkpoints_lies_what_was_taken_over() -> None:
    store = MemoryStore()
    publisher = await three_checkpoints(store)
    foreign = msgspec.structs.replace(publisher.manifests[0], springline=None)
    store.seed(SCOPE.full(ObjectPath("foreign.json")), encode(foreign))
    adopted = Adopted(manifest_path="foreign.json", watermark=event_id(10))
    section = msgspec.structs.replace(ours(publisher), checkpoints=[], adopted=adopted)
    point = await below(publisher, 20, section)
    assert (point.checkpoint, point.state.last_event_id) == (None, event_id(10))
    store.remove(SCOPE.full(ObjectPath("foreign.json")))
    with pytest.raises(DamagedObject, match=r"foreign\.json is missing"):
        await below(publisher, 20, section)


async def test_nothing_is_listed_and_faults_pass_through() -> None:
    memory = MemoryStore()
    publisher = await three_checkpoints(memory)
    store = FaultyStore(memory)
    await load_below(scoped(store), ours(publisher), publisher.index, event_id(100), CONFIG)
    assert store.count(Kind.LIST) == 0
    for nth in (0, 3):
        store = FaultyStore(memory, hook=plan({nth: Decision.FAIL_BEFORE}))
        with pytest.raises(StoreRetry):
            await load_below(scoped(store), ours(publisher), publisher.index, event_id(100), CONFIG)
