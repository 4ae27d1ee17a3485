"""Admitting a round: judging its requests, and fixing what is accepted by the round's record.

See docs/protocol.md#ledger-rounds.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from springline.batching import refused_alone
from springline.caches import Recent
from springline.control.admission.round import RoundVerdict, judge_round
from springline.errors import Code, Refusal
from springline.ledger.request import AppendOutcome, AppendRequest, VisibilityStatus
from springline.paths import orchestration_round
from springline.published.cached_state import CachedState, OnTop
from springline.sequencer.messages import AdmitForeignOrder, AdmitOrder, Admitted, Head
from springline.sequencer.requests import (
    RequestMarker,
    incomplete,
    key_reused,
    marker_of,
    outcome_of,
    payload_sha256,
    read_markers,
    write_markers,
)
from springline.sequencer.rounds import Ours, RoundEvent, RoundRecord, StoredRound, create_round, find_round
from springline.storage.damage import RUNBOOK, DamagedObject
from springline.storage.port import ObjectStore
from springline.storage.threads import timed_in_thread

Markers = Recent[RequestMarker]


@dataclass(slots=True)
class _Asked:
    """A round's requests, and what is known of each before the first is judged."""

    requests: list[AppendRequest]
    payloads: dict[str, str] = field(default_factory=dict)
    """`payload_sha256` by request id, for the requests to judge."""
    answers: dict[int, AppendOutcome] = field(default_factory=dict)
    """By position in the order."""
    same_as: dict[int, int] = field(default_factory=dict)
    """Positions of requests that repeat an earlier one of the same order, with the earlier position."""
    unfinished: bool = False
    """A request belongs to a round that is not visible."""


def order_sha256(order: AdmitOrder | AdmitForeignOrder) -> str:
    """Return the hash that tells attempts of this order from another order for the same round."""
    return hashlib.sha256(order.model_dump_json(exclude={"head"}).encode()).hexdigest()


async def admit_requests(
    store: ObjectStore, warm: CachedState, order: AdmitOrder, markers: Markers, closes: list[str]
) -> tuple[Admitted, StoredRound | None]:
    """Judge append requests on `warm`, and create the record of a round for those that are accepted.

    A round without events keeps the answers to requests `each` of which all events were refused or had been recorded:
    only a round has its place in the order of all judgements. A marker by itself could contradict the round of another
    sequencer that judges the same request on a later state. If a record was created, its events are folded on top of
    `warm`, else nothing is. Raises the store's errors.
    """
    asked = await _look_up(store, order, markers)
    if asked.unfinished:
        return Admitted(kind="taken"), None
    judged = [
        place for place in range(len(asked.requests)) if place not in asked.answers and place not in asked.same_as
    ]
    verdict, seconds = await timed_in_thread(lambda: _judge(warm, order, [asked.requests[place] for place in judged]))
    asked.answers |= dict(zip(judged, verdict.answers, strict=True))
    accepted = [asked.requests[place].request_id for place in judged if asked.answers[place].refusal is None]
    by_id = {asked.requests[place].request_id: asked.answers[place] for place in judged}
    needs_round = bool(verdict.events) or any(by_id[one].refused for one in accepted)
    number = order.round if needs_round else None
    answered = [marker_of(by_id[one], asked.payloads[one], number) for one in accepted]
    if not needs_round:
        await _answer_at_once(store, order.head, asked, answered, markers)
        return Admitted(kind="nothing", answers=_in_order(asked)), None
    record = RoundRecord(
        number=order.round,
        writer=order.writer,
        order_sha256=order_sha256(order),
        begun_on=order.head.state_manifest,
        kind="own",
        created_at_ms=order.now_ms,
        events=[RoundEvent(one.event_id, one.sha256, one.body.decode()) for one in verdict.events],
        requests=answered,
        closes=closes,
    )
    created = await create_round(store, record)
    if not isinstance(created, Ours):
        return Admitted(kind="taken"), created.stored
    outcomes = Counter(one.outcome for one in verdict.events)
    warm.on_top = OnTop(created.stored.sha256, outcomes, seconds)
    return Admitted(kind="admitted", round=created.stored.pending, answers=_in_order(asked)), created.stored


def _judge(warm: CachedState, order: AdmitOrder, requests: Sequence[AppendRequest]) -> RoundVerdict:
    if not requests:
        return RoundVerdict()
    named = (event.data.get("run_id") for request in requests for event in request.events)
    warm.state.fetch({run_id for run_id in named if isinstance(run_id, str)})
    return judge_round(
        warm.state,
        requests,
        first_event_id=order.first_event_id,
        now_ms=order.now_ms,
        tenant=order.workspace.tenant,
        workspace=order.workspace.workspace,
        on_error=_failed,
    )


def _failed(request: AppendRequest, index: int | None, error: Exception) -> Refusal:
    """Return the refusal of a request that met an unforeseen error, or of its event at `index` if each is judged alone.

    Raises a foreseen error again.
    """
    if index is None:
        return refused_alone(error, what="its events were judged", field="request_id", identity=request.request_id)
    field = f"events[{index}]"
    what = f"{field} was judged"
    refusal = refused_alone(error, what=what, field=field, identity=request.request_id)
    message = f"{field} met an error of ours ({type(error).__name__}); it was not recorded, and the others went on"
    remedy = (
        f"Report it with {request.request_id}: the log holds the error under it. Send the event again in a new request."
    )
    return refusal.model_copy(update={"message": message, "remedy": remedy})


async def _look_up(store: ObjectStore, order: AdmitOrder, markers: Markers) -> _Asked:
    """Sort out requests that are malformed, repeated, or answered before."""
    asked = _Asked(list(order.requests))
    first: dict[str, int] = {}
    for place, request in enumerate(asked.requests):
        try:
            payload = payload_sha256(request)
        except ValueError as error:
            asked.answers[place] = AppendOutcome(request_id=request.request_id, refusal=_malformed(error))
            continue
        except Exception as error:
            asked.answers[place] = AppendOutcome(request_id=request.request_id, refusal=_failed(request, None, error))
            continue
        earlier = first.setdefault(request.request_id, place)
        if earlier == place:
            asked.payloads[request.request_id] = payload
        elif asked.payloads[request.request_id] == payload:
            asked.same_as[place] = earlier
        else:
            refusal = key_reused(request.request_id)
            asked.answers[place] = AppendOutcome(request_id=request.request_id, refusal=refusal)
    known: dict[str, RequestMarker | Refusal] = {}
    for request_id in asked.payloads:
        if (marker := markers.get(request_id)) is not None:
            known[request_id] = marker
    known |= await read_markers(store, [one for one in asked.payloads if one not in known])
    for request_id, found in known.items():
        place = first[request_id]
        asked.answers[place] = _of_marker(found, asked.requests[place], asked.payloads[request_id], order.head)
        if isinstance(found, RequestMarker):
            markers.put(request_id, found)
            if found.round is not None and found.round > order.head.rounds_folded:
                if await find_round(store, found.round) is not None:
                    asked.unfinished = True
                else:
                    asked.answers[place] = _of_lost_round(request_id, found.round)
    return asked


def _of_lost_round(request_id: str, number: int) -> AppendOutcome:
    """Refuse a request whose round was accepted and is gone; all other requests go on."""
    lost = DamagedObject(orchestration_round(number), f"is missing, and holds what {request_id} was answered with")
    refusal = lost.refusal.model_copy(update={"remedy": f"An operator restores it from a copy; {RUNBOOK} tells more."})
    return AppendOutcome(request_id=request_id, refusal=refusal)


def _malformed(error: ValueError) -> Refusal:
    return Refusal(
        code=Code.INVALID_REQUEST,
        message=f"the events cannot be written: {error}",
        field="events",
        remedy="Give objects of strings, integers, booleans, lists and null; write other numbers as strings.",
    )


def _of_marker(found: RequestMarker | Refusal, request: AppendRequest, payload: str, head: Head) -> AppendOutcome:
    """Answer a request that was answered before."""
    request_id = request.request_id
    if isinstance(found, Refusal):
        return AppendOutcome(request_id=request_id, refusal=found)
    if found.payload_sha256 != payload:
        return AppendOutcome(request_id=request_id, refusal=key_reused(request_id))
    outcome = outcome_of(found, replayed=True)
    if len(outcome.results) != len(request.events):
        return AppendOutcome(request_id=request_id, refusal=incomplete(request_id))
    return _visible(outcome, head)


def _visible(outcome: AppendOutcome, head: Head) -> AppendOutcome:
    update = {
        "visibility_status": VisibilityStatus.VISIBLE,
        "manifest_id": head.manifest_id,
        "manifest_revision": head.manifest_revision,
    }
    return outcome.model_copy(update=update)


async def _answer_at_once(
    store: ObjectStore, head: Head, asked: _Asked, answered: Sequence[RequestMarker], markers: Markers
) -> None:
    """Store the answers of requests all of whose events were accepted before: they are visible already."""
    conflicts = await write_markers(store, answered)
    places = {request.request_id: place for place, request in reversed(list(enumerate(asked.requests)))}
    for marker in answered:
        request_id, place = marker.request_id, places[marker.request_id]
        other = conflicts.get(request_id)
        if other is not None:
            asked.answers[place] = _of_marker(other, asked.requests[place], marker.payload_sha256, head)
        else:
            asked.answers[place] = _visible(asked.answers[place], head)
            if request_id not in conflicts:
                markers.put(request_id, marker)


def _in_order(asked: _Asked) -> list[AppendOutcome]:
    return [asked.answers[asked.same_as.get(place, place)] for place in range(len(asked.requests))]
