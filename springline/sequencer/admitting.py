"""Admitting requests of our own callers: judged on the state, and fixed by the round's record (design 4.1)."""

from __future__ import annotations

import hashlib
from collections import Counter

from springline.control.admission import RoundVerdict, judge_round
from springline.errors import Refusal
from springline.ledger.request import AppendOutcome, AppendRequest, VisibilityStatus
from springline.sequencer.offload import in_thread
from springline.sequencer.orders import AdmitForeignOrder, AdmitOrder, Admitted, Head
from springline.sequencer.requests import (
    RequestMarker,
    key_reused,
    marker_of,
    outcome_of,
    payload_sha256,
    read_markers,
    write_markers,
)
from springline.sequencer.rounds import Ours, RoundEvent, RoundRecord, StoredRound, create_round
from springline.sequencer.warm import OnTop, Warm, WarmState
from springline.storage.port import ObjectStore


def order_sha256(order: AdmitOrder | AdmitForeignOrder) -> str:
    """Return what names an order in the record that is made for it: a retry has the same one."""
    return hashlib.sha256(order.model_dump_json().encode()).hexdigest()


async def create_for(store: ObjectStore, record: RoundRecord) -> tuple[StoredRound, bool] | None:
    """Create a round's record; return what stands, and whether it is exactly this one.

    An earlier attempt at the same order counts as ours whatever it decided. None: the number is another's.
    """
    result = await create_round(store, record)
    if isinstance(result, Ours):
        return result.stored, True
    there = result.stored.record
    if (there.writer, there.order_sha256) == (record.writer, record.order_sha256):
        return result.stored, False
    return None


async def admit_own(
    store: ObjectStore, warm_state: WarmState, order: AdmitOrder
) -> tuple[Admitted, StoredRound | None]:
    """Judge append requests and create the round's record; see `AdmitOrder` and `Admitted`."""
    known = await read_markers(store, [request.request_id for request in order.requests])
    if any(_is_unfinished(marker, order.head) for marker in known.values()):
        return Admitted(kind="taken"), None
    payloads = {request.request_id: _payload(request) for request in order.requests}
    new = [request for request in order.requests if request.request_id not in known]
    told = {
        request_id: _told_again(request_id, marker, payloads[request_id], order.head)
        for request_id, marker in known.items()
    }
    if not new:
        return Admitted(kind="nothing", answers=[told[request.request_id] for request in order.requests]), None
    warm = await warm_state.at(store, order.head)
    verdict = await in_thread(lambda: _judge(warm, order, new))
    told |= {answer.request_id: answer for answer in verdict.answers}
    markers = [
        marker_of(
            answer.request_id, payloads[answer.request_id], order.round if verdict.events else None, answer.events
        )
        for answer in verdict.answers
        if answer.refusal is None
    ]
    answers = [told[request.request_id] for request in order.requests]
    if not verdict.events:
        await write_markers(store, markers)
        return Admitted(kind="nothing", answers=[_visible(answer, order.head) for answer in answers]), None
    record = RoundRecord(
        number=order.round,
        writer=order.writer,
        order_sha256=order_sha256(order),
        begun_on=order.head.state_manifest,
        kind="own",
        created_at_ms=order.now_ms,
        events=[RoundEvent(one.event_id, one.sha256, one.body.decode()) for one in verdict.events],
        requests=markers,
    )
    try:
        created = await create_for(store, record)
    except BaseException:
        warm.roll_back()
        raise
    if created is None:
        warm.roll_back()
        return Admitted(kind="taken"), None
    stored, exactly = created
    if exactly:
        warm.on_top = _on_top(stored, verdict)
    else:
        warm.roll_back()
        by_id = {marker.request_id: outcome_of(marker, replayed=False) for marker in stored.record.requests}
        answers = [by_id.get(answer.request_id, answer) for answer in answers]
    return Admitted(kind="admitted", round=stored.pending, answers=answers), stored


def _judge(warm: Warm, order: AdmitOrder, requests: list[AppendRequest]) -> RoundVerdict:
    return judge_round(
        warm.state,
        requests,
        first_event_id=order.first_event_id,
        now_ms=order.now_ms,
        tenant=order.workspace.tenant,
        workspace=order.workspace.workspace,
    )


def _on_top(stored: StoredRound, verdict: RoundVerdict) -> OnTop:
    outcomes = Counter(event.outcome for event in verdict.events)
    return OnTop(stored.sha256, outcomes, {event.event_id: event.body for event in verdict.events})


def _payload(request: AppendRequest) -> str:
    """Return the payload's hash; a payload that has none is refused when it is judged, and gets no marker."""
    try:
        return payload_sha256(request)
    except ValueError:
        return ""


def _is_unfinished(marker: RequestMarker | Refusal, head: Head) -> bool:
    """Say whether a marker's round is not in the published state yet: it is to be finished first."""
    return isinstance(marker, RequestMarker) and marker.round is not None and marker.round > head.rounds_folded


def _told_again(request_id: str, marker: RequestMarker | Refusal, payload: str, head: Head) -> AppendOutcome:
    if isinstance(marker, Refusal):
        return AppendOutcome(request_id=request_id, refusal=marker)
    if marker.payload_sha256 != payload:
        return AppendOutcome(request_id=request_id, refusal=key_reused(request_id))
    return _visible(outcome_of(marker, replayed=True), head)


def _visible(answer: AppendOutcome, head: Head) -> AppendOutcome:
    if answer.refusal is not None:
        return answer
    return answer.model_copy(
        update={
            "visibility_status": VisibilityStatus.VISIBLE,
            "manifest_id": head.manifest_id,
            "manifest_revision": head.manifest_revision,
        }
    )
