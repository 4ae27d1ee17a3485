"""Round records, request markers and refusals: create-only, verified on reading, and damage stays where it is."""

from __future__ import annotations

import json
from typing import Any

import pytest

from springline.checked import with_checksum
from springline.errors import Code, Refusal
from springline.ledger.request import (
    AppendedEvent,
    AppendMode,
    AppendOutcome,
    AppendRequest,
    EventOutcome,
    NewEvent,
    RefusalReason,
    RefusedAppend,
)
from springline.paths import orchestration_request, orchestration_round
from springline.sequencer.accepted import LOOK_BEHIND, Hole, last_round, pending_rounds, walk_rounds
from springline.sequencer.refused import RefusedObject, record_refused
from springline.sequencer.requests import (
    RequestMarker,
    decode_marker,
    encode_marker,
    marker_of,
    outcome_of,
    payload_sha256,
    read_markers,
    write_markers,
)
from springline.sequencer.rounds import (
    Ours,
    RoundEvent,
    RoundRecord,
    Taken,
    create_round,
    encode_round,
    find_round,
    read_round,
)
from springline.storage.damage import DamagedObject
from springline.storage.faults import Decision, FaultyStore, OperationKind, on
from springline.storage.memory import MemoryStore
from springline.storage.operations import Operation
from springline.storage.port import ObjectStore
from tests.support.sequencer_world import NOW_MS, SCOPE, ask, ask_each, body_of, event_id, request_id, scoped, triggered
from workflows.ledger_messages import AppendBatch


def marker(number: int = 1, run: str = "r1") -> RequestMarker:
    event = AppendedEvent(
        event_id=event_id(number),
        event_type="RunTriggered",
        idempotency_key=f"run:{run}",
        ledger_path="somewhere",
        outcome=EventOutcome.APPLIED,
    )
    answer = AppendOutcome(request_id=request_id(number), events=[event])
    return marker_of(answer, payload_sha256(ask(number, triggered(run))), number)


def record(number: int = 1, **more: Any) -> RoundRecord:
    event = RoundEvent.of(event_id(number), body_of(number, triggered(f"r-\u00e9-{number}")))
    given: dict[str, Any] = {"writer": "w", "order_sha256": "o", "kind": "own", "created_at_ms": NOW_MS} | more
    return RoundRecord(number=number, events=[event], requests=[marker(number)], **given)


async def test_a_record_is_created_once_and_read_as_it_was() -> None:
    store = scoped(MemoryStore())
    created = await create_round(store, record())
    assert isinstance(created, Ours)
    assert await create_round(store, record()) == created
    assert await find_round(store, 1) == created.stored
    assert await read_round(store, 1, created.stored.sha256) == created.stored
    assert created.stored.record.events[0].data == body_of(1, triggered("r-\u00e9-1"))
    pending = created.stored.pending
    assert (pending.number, pending.events, pending.first_event_id) == (1, 1, event_id(1))


async def test_another_record_of_the_number_is_told() -> None:
    store = scoped(MemoryStore())
    first = await create_round(store, record())
    taken = await create_round(store, record(writer="another"))
    assert isinstance(taken, Taken)
    assert taken.stored == first.stored


@pytest.mark.parametrize("decision", [Decision.FAIL_AFTER, Decision.LOSE, Decision.LATE])
async def test_an_unclear_creation_is_resolved(decision: Decision) -> None:
    faulty = FaultyStore(MemoryStore(), hook=on(lambda o: o.kind is OperationKind.PUT, decision))
    assert isinstance(await create_round(scoped(faulty), record()), Ours)
    await faulty.deliver_late()
    assert await find_round(scoped(faulty), 1) is not None


async def _walked(store: ObjectStore, after: int, **known: int) -> list[int | str]:
    """Return the numbers of the rounds behind one, and the paths of holes among them."""
    found = [one async for some in walk_rounds(scoped(store), after, **known) for one in some]
    return [one.path if isinstance(one, Hole) else one.record.number for one in found]


async def test_unfinished_rounds_are_found_by_probing() -> None:
    store = FaultyStore(MemoryStore())
    for number in (1, 2, 3, 4):
        await create_round(scoped(store), record(number))
    store.forget()
    assert [one.record.number for one in await pending_rounds(scoped(store), 2)] == [3, 4]
    assert store.count() == store.count(OperationKind.GET)
    store.forget()
    assert await pending_rounds(scoped(store), 4) == []
    assert store.count(OperationKind.GET) == LOOK_BEHIND + 1


@pytest.mark.parametrize("gone", [1, 2, LOOK_BEHIND])
async def test_absent_records_are_holes_as_long_as_there_are_others_behind(gone: int) -> None:
    store = MemoryStore()
    numbers = [*range(1, 5), *range(5 + gone, 9 + gone)]
    for number in numbers:
        await create_round(scoped(store), record(number))
    holes = [orchestration_round(number) for number in range(5, 5 + gone)]
    assert await _walked(store, 0) == [*range(1, 5), *holes, *range(5 + gone, 9 + gone)]
    assert await _walked(store, 2, through=4) == [3, 4]
    assert await last_round(scoped(store)) == numbers[-1]
    with pytest.raises(DamagedObject, match=holes[0]):
        await pending_rounds(scoped(store), 4)
    with pytest.raises(DamagedObject, match=holes[-1]):
        await pending_rounds(scoped(store), 4 + gone - 1)
    assert await pending_rounds(scoped(store), 8 + gone) == []


async def test_rounds_that_are_known_to_have_been_are_holes_whatever_comes_behind() -> None:
    store = MemoryStore()
    await create_round(scoped(store), record(1))
    holes = [orchestration_round(number) for number in range(2, 13)]
    assert await _walked(store, 0, least=12) == [1, *holes]
    assert await _walked(store, 0) == [1]
    assert await last_round(scoped(MemoryStore())) == 0


async def test_a_damaged_record_is_a_hole_and_not_the_end() -> None:
    store = MemoryStore()
    for number in range(1, 5):
        await create_round(scoped(store), record(number))
    store.seed(SCOPE.full(orchestration_round(2)), b"{}")
    assert await _walked(store, 0) == [1, orchestration_round(2), 3, 4]


async def test_records_that_come_while_one_looks_are_no_holes() -> None:
    """The walk reads number 2 before it is there, and number 3 when both are."""
    inner = MemoryStore()
    await create_round(scoped(inner), record(1))

    async def hook(operation: Operation) -> Decision:
        if operation.path == SCOPE.full(orchestration_round(3)) and orchestration_round(3) not in str(inner.objects):
            for number in (2, 3):
                await create_round(scoped(inner), record(number))
        return Decision.PROCEED

    assert await _walked(FaultyStore(inner, hook=hook), 0) == [1, 2, 3]


@pytest.mark.parametrize("stored", [b"", b"{}", encode_round(record(2)), encode_round(record(format=9))], ids=repr)
async def test_a_damaged_record_is_named(stored: bytes) -> None:
    store = MemoryStore()
    store.seed(SCOPE.full(orchestration_round(1)), stored)
    with pytest.raises(DamagedObject, match=orchestration_round(1)):
        await find_round(scoped(store), 1)


async def test_a_record_that_is_gone_or_another_is_named() -> None:
    store = scoped(MemoryStore())
    with pytest.raises(DamagedObject, match="missing"):
        await read_round(store, 1, "0" * 64)
    await create_round(store, record())
    with pytest.raises(DamagedObject, match="SHA-256"):
        await read_round(store, 1, "0" * 64)


async def test_markers_answer_again_and_only_the_same_events() -> None:
    store = scoped(MemoryStore())
    assert not await write_markers(store, [marker(1), marker(2)])
    assert not await write_markers(store, [marker(1), marker(2)])
    found = await read_markers(store, [request_id(1), request_id(3), request_id(2)])
    assert found == {request_id(1): marker(1), request_id(2): marker(2)}
    answer = outcome_of(marker(1), replayed=True)
    assert answer.replayed
    assert [event.event_id for event in answer.events] == [event_id(1)]
    assert payload_sha256(ask(1, triggered("r1"))) == payload_sha256(ask(2, triggered("r1")))
    assert payload_sha256(ask(1, triggered("r1"))) != payload_sha256(ask(1, triggered("r2")))


async def test_an_event_that_is_written_out_differently_is_another() -> None:
    plain = AppendRequest(request_id=request_id(1), events=[NewEvent(data=triggered("r1"))])
    keyed = AppendRequest(request_id=request_id(1), events=[NewEvent(data=triggered("r1"), idempotency_key="run:r1")])
    assert payload_sha256(plain) != payload_sha256(keyed)
    with pytest.raises(ValueError, match="float"):
        payload_sha256(ask(1, triggered("r1", labels={"n": 1.5})))


async def test_a_marker_with_another_answer_stays_and_is_reported() -> None:
    store = scoped(MemoryStore())
    await write_markers(store, [marker(1)])
    other = marker_of(AppendOutcome(request_id=request_id(1)), "another", 9)
    assert await write_markers(store, [other, marker(2)]) == {request_id(1): marker(1)}
    assert (await read_markers(store, [request_id(1)]))[request_id(1)] == marker(1)
    assert request_id(2) in await read_markers(store, [request_id(2)])


@pytest.mark.parametrize("stored", [b"", b"{}", encode_marker(marker(2))], ids=repr)
async def test_a_damaged_marker_refuses_its_own_request_only(stored: bytes) -> None:
    inner = MemoryStore()
    await write_markers(scoped(inner), [marker(3)])
    inner.seed(SCOPE.full(orchestration_request(request_id(1))), stored)
    found = await read_markers(scoped(inner), [request_id(1), request_id(3)])
    refusal = found[request_id(1)]
    assert isinstance(refusal, Refusal)
    assert refusal.code is Code.STORED_DAMAGED
    assert orchestration_request(request_id(1)) in refusal.message
    assert found[request_id(3)] == marker(3)
    assert await write_markers(scoped(inner), [marker(1)]) == {request_id(1): None}


async def test_a_refusal_is_recorded_once_per_path_reason_and_body() -> None:
    inner = MemoryStore()
    gone = RefusedObject("a", RefusalReason.MISSING, "there is nothing")
    damaged = RefusedObject("a", RefusalReason.OTHER_BODY, "another body", b"{}", accepted_sha256="0" * 64)
    again = RefusedObject("a", RefusalReason.OTHER_BODY, "another body", b"[]", accepted_sha256="0" * 64)
    first = await record_refused(scoped(inner), [gone, damaged])
    second = await record_refused(scoped(inner), [damaged, gone, again])
    assert first == second[1::-1]
    assert len(inner.objects) == 3
    assert b"accepted_sha256" in inner.objects[SCOPE.full(first[1])].data


# Requests `each`.

MARKER = (
    b'{"format":1,"request_id":"01946b1c-0000-7000-8000-000000000001","payload_sha256":"cf","round":1,"events":'
    b'[{"event_id":"01J","event_type":"RunTriggered","idempotency_key":"run:r","ledger_path":"p","outcome":"applied",'
    b'"completed":false}]'
)
"""What every build writes of a request of which no event was refused."""


def told(**more: Any) -> AppendOutcome:
    event = AppendedEvent(
        event_id="01J",
        event_type="RunTriggered",
        idempotency_key="run:r",
        ledger_path="p",
        outcome=EventOutcome.APPLIED,
    )
    return AppendOutcome(request_id=request_id(1), events=[event], **more)


def test_a_marker_without_refused_events_has_the_bytes_it_always_had() -> None:
    assert encode_marker(marker_of(told(), "cf", 1)) == with_checksum(MARKER + b"}")
    assert outcome_of(decode_marker(with_checksum(MARKER + b"}"), request_id(1)), replayed=False) == told()


def test_a_marker_keeps_refused_events() -> None:
    refusal = Refusal(code=Code.EVENT_CONFLICT, message="no", field="events[1].data", value=7, remedy="Wait.")
    plain = Refusal(code=Code.INVALID_REQUEST, message="bad")
    answer = told(refused=[RefusedAppend.of(1, refusal), RefusedAppend.of(2, plain)])
    data = encode_marker(marker_of(answer, "cf", 1))
    assert data.startswith(MARKER + b',"refused":[{"index":1,"code":"EVENT_CONFLICT","message":"no",')
    assert b'{"index":2,"code":"INVALID_REQUEST","message":"bad"}]' in data
    assert outcome_of(decode_marker(data, request_id(1)), replayed=False) == answer


def test_a_refusal_of_a_newer_build_is_told_as_far_as_it_is_known() -> None:
    data = with_checksum(MARKER + b',"refused":[{"index":1,"code":"BRAND_NEW","message":"no","more":1}],"other":2}')
    (refused,) = outcome_of(decode_marker(data, request_id(1)), replayed=True).refused
    assert (refused.index, refused.code, refused.message) == (1, Code.INTERNAL, "BRAND_NEW: no")


def test_the_mode_is_part_of_what_a_request_id_stands_for() -> None:
    payloads = [triggered("r1"), triggered("r2")]
    whole, by_itself = ask(1, *payloads), ask_each(1, *payloads)
    assert payload_sha256(whole) != payload_sha256(by_itself)
    assert payload_sha256(by_itself) == payload_sha256(ask_each(2, *payloads))
    assert payload_sha256(by_itself) != payload_sha256(ask_each(1, *reversed(payloads)))
    keyed = NewEvent(data=triggered("r1"), idempotency_key="run:r1")
    for other in ([keyed], [keyed.model_copy(update={"causation_id": "x"})]):
        changed = by_itself.model_copy(update={"events": [*other, by_itself.events[1]]})
        assert payload_sha256(changed) != payload_sha256(by_itself)
    odd: list[dict[str, Any]] = [{"type": "x", "n": 1.5}, {"n": float("nan")}, {"n": "\ud800"}, {"n": 2**70}]
    assert len({payload_sha256(ask_each(1, one)) for one in odd}) == len(odd)


def test_messages_of_requests_that_are_taken_whole_are_as_they_were() -> None:
    document = ask(1, triggered("r1")).model_dump_json()
    assert list(json.loads(document)) == ["request_id", "events"]
    assert AppendRequest.model_validate_json(document).mode is AppendMode.ALL
    assert AppendBatch(requests=[ask(1, triggered("r1"))]).model_dump_json() == f'{{"requests":[{document}]}}'
    assert json.loads(ask_each(1, triggered("r1")).model_dump_json())["mode"] == "each"
