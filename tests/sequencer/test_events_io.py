"""Event objects: written create-only whatever gets lost on the way, and read one by one, each judged for itself."""

from __future__ import annotations

import orjson
import pytest

from springline.ledger.event_ids import new_event_id
from springline.ledger.request import RefusalReason
from springline.paths import canonical_ulid_event
from springline.sequencer.foreign import MAX_EVENT_BYTES, EventVerdict, is_too_far_ahead, judge_path, read_events
from springline.sequencer.writer import EventsTaken, EventTaken, write_event, write_events
from springline.storage.faults import Decision, FaultyStore, Kind, on
from springline.storage.memory import MemoryStore
from springline.storage.port import StoreRetry, StoreUnknown
from tests.support.sequencer_world import NOW_MS, SCOPE, body_of, event_id, scoped, seed_event, triggered

ID = event_id(1)
BODY = body_of(1, triggered("r1"))
OTHER = body_of(1, triggered("r2"))
PATH = SCOPE.full(canonical_ulid_event(ID))


def is_put(operation: object) -> bool:
    return getattr(operation, "kind", None) is Kind.PUT


async def test_an_event_is_created_once_and_equal_bytes_are_a_success() -> None:
    store = MemoryStore()
    assert await write_event(scoped(store), ID, BODY)
    assert not await write_event(scoped(store), ID, BODY)
    assert store.objects[PATH].data == BODY


async def test_the_same_content_in_another_key_order_is_a_success() -> None:
    store = MemoryStore()
    reversed_keys = dict(reversed(orjson.loads(BODY).items()))
    stored = orjson.dumps(reversed_keys, option=orjson.OPT_INDENT_2)
    store.seed(PATH, stored)
    assert not await write_event(scoped(store), ID, BODY)
    assert store.objects[PATH].data == stored


@pytest.mark.parametrize("stored", [OTHER, b"", b"not JSON", b"[1.5]", b"[" * 5000], ids=repr)
async def test_another_body_is_a_typed_error_and_stays(stored: bytes) -> None:
    store = MemoryStore()
    store.seed(PATH, stored)
    with pytest.raises(EventTaken) as caught:
        await write_event(scoped(store), ID, BODY)
    assert caught.value.path == canonical_ulid_event(ID)
    assert store.objects[PATH].data == stored


@pytest.mark.parametrize("decision", [Decision.FAIL_AFTER, Decision.LOSE, Decision.LATE])
async def test_an_unclear_answer_is_resolved_by_putting_again(decision: Decision) -> None:
    store = FaultyStore(MemoryStore(), hook=on(is_put, decision))
    created = await write_event(scoped(store), ID, BODY)
    assert created is (decision is not Decision.FAIL_AFTER)
    await store.deliver_late()
    assert (await store.inner.get(PATH)).data == BODY  # type: ignore[union-attr]


async def test_a_write_that_stays_unclear_is_not_called_undone() -> None:
    async def lose(operation: object) -> Decision:
        return Decision.LOSE if is_put(operation) else Decision.PROCEED

    with pytest.raises(StoreUnknown):
        await write_event(scoped(FaultyStore(MemoryStore(), hook=lose)), ID, BODY)


async def test_many_are_written_sixteen_at_a_time_and_the_rest_in_spite_of_taken_ones() -> None:
    inner = MemoryStore()
    seed_event(inner, OTHER, ID)
    most = now = 0

    async def count(operation: object) -> Decision:
        nonlocal most, now
        now += 1
        most = max(most, now)
        return Decision.PROCEED

    class Leaving(FaultyStore):
        async def run(self, *args: object, **kwargs: object) -> object:  # type: ignore[override]
            nonlocal now
            try:
                return await super().run(*args, **kwargs)  # type: ignore[arg-type]
            finally:
                now -= 1

    store = Leaving(inner, hook=count, latency=0.001)
    bodies = {event_id(n): body_of(n, triggered(f"r{n}")) for n in range(40)}
    with pytest.raises(EventsTaken) as caught:
        await write_events(scoped(store), bodies)
    assert caught.value.paths == [canonical_ulid_event(ID)]
    assert caught.value.created == 39
    assert most == 16
    assert len(inner.objects) == 40


async def test_a_batch_that_failed_half_way_is_completed_by_the_same_call() -> None:
    inner = MemoryStore()
    bodies = {event_id(n): body_of(n, triggered(f"r{n}")) for n in range(5)}
    with pytest.raises(StoreRetry):
        await write_events(scoped(FaultyStore(inner, hook=on(is_put, Decision.FAIL_BEFORE, nth=2))), bodies)
    created = len(inner.objects)
    assert created < 5
    assert await write_events(scoped(inner), bodies) == 5 - created


async def test_every_kind_of_trouble_has_its_reason_and_holds_up_no_other_event() -> None:
    store = MemoryStore()
    good = seed_event(store, BODY)
    other_tenant = orjson.dumps(orjson.loads(body_of(2, triggered("r"))) | {"tenant_id": "rival"})
    unknown = orjson.dumps(orjson.loads(body_of(9, triggered("r"))) | {"data": {"type": "of_the_future", "n": 1.5}})
    wanted: dict[str, RefusalReason | None] = {
        good: None,
        seed_event(store, unknown): None,
        seed_event(store, b"{", event_id(3)): RefusalReason.UNREADABLE,
        seed_event(store, b"\xff", event_id(4)): RefusalReason.UNREADABLE,
        seed_event(store, b'{"data":' + b" " * MAX_EVENT_BYTES, event_id(5)): RefusalReason.UNREADABLE,
        seed_event(store, other_tenant): RefusalReason.OTHER_SCOPE,
        seed_event(store, BODY, event_id(6)): RefusalReason.WRONG_PATH,
        canonical_ulid_event(event_id(7)): RefusalReason.MISSING,
        good.replace("2025-01-15", "2025-01-16"): RefusalReason.WRONG_PATH,
        good.replace(ID, ID.lower()): RefusalReason.NOT_A_ULID,
        good.replace(ID, "evt-1"): RefusalReason.NOT_A_ULID,
        good.replace("2025-01-15", "day"): RefusalReason.NOT_A_LEDGER_PATH,
        f"../{good}": RefusalReason.NOT_A_LEDGER_PATH,
        "": RefusalReason.NOT_A_LEDGER_PATH,
    }
    read = await read_events(scoped(store), SCOPE, list(wanted))
    assert {one.path: one.refusal and one.refusal.reason for one in read} == wanted
    assert all(one.refusal.message for one in read if one.refusal)
    assert read[0].body == BODY
    assert read[1].event is not None
    assert read[1].event.data is None


async def test_nothing_is_read_for_a_path_that_cannot_be_an_event() -> None:
    store = FaultyStore(MemoryStore())
    await read_events(scoped(store), SCOPE, ["elsewhere.json", canonical_ulid_event(ID)])
    assert store.count() == 1


def test_an_id_after_the_year_9999_has_no_path() -> None:
    verdict = judge_path(canonical_ulid_event(ID).replace(ID, "7" + "Z" * 25))
    assert isinstance(verdict, EventVerdict)
    assert verdict.reason is RefusalReason.NOT_A_ULID


@pytest.mark.parametrize(("ahead_ms", "deferred"), [(0, False), (300_000, False), (300_001, True), (600_000, True)])
def test_an_id_more_than_five_minutes_ahead_is_deferred(ahead_ms: int, deferred: bool) -> None:
    assert is_too_far_ahead(new_event_id(None, NOW_MS + ahead_ms, 0), NOW_MS) is deferred
