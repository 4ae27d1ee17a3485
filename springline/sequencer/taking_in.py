"""Taking in foreign events: each judged by itself, and those accepted fixed by the round's record (design 4.1)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

from springline.ledger.request import IngestOutcome, IngestRequest, RefusalReason, VisibilityStatus
from springline.paths import Scope
from springline.sequencer.admitting import create_for, order_sha256
from springline.sequencer.foreign import is_too_far_ahead, judge_path
from springline.sequencer.index_lookup import SegmentCache, contains
from springline.sequencer.orders import AdmitForeignOrder, Admitted
from springline.sequencer.reader import EventRead, read_events
from springline.sequencer.refused import Refused, record_refused
from springline.sequencer.rounds import (
    MAX_ROUND_BYTES,
    ForeignAnswer,
    ForeignRefusal,
    RoundEvent,
    RoundRecord,
    StoredRound,
    answer_of,
)
from springline.sequencer.standing import ForeignEvents
from springline.sequencer.warm import Warm, WarmState
from springline.storage.port import ObjectStore

REFUSED_TOLD = 100
"""Refusals that an answer names; all are recorded."""


@dataclass(slots=True)
class _Judged:
    """What becomes of the events of one request."""

    accepted: list[tuple[str, bytes]] = field(default_factory=list)
    late: int = 0
    known: int = 0
    deferred: list[str] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)


async def admit_foreign(
    store: ObjectStore,
    scope: Scope,
    warm_state: WarmState,
    foreign: ForeignEvents,
    cache: SegmentCache,
    order: AdmitForeignOrder,
) -> tuple[Admitted, StoredRound | None]:
    """Look at foreign events and create the record of the round that accepts them; see the order and its answer."""
    warm = await warm_state.at(store, order.head)
    judged = await _judge_all(store, scope, warm, cache, order)
    answers = [await _answer(store, one) for one in judged]
    events = sorted((event for one in judged for event in one.accepted), key=lambda event: event[0])
    closes = await _closed(store, warm, foreign, cache, order, judged)
    if not events and not closes:
        told = [_visible(answer_of(answer, {}), order) for answer in answers]
        return Admitted(kind="nothing", foreign_answers=told), None
    record = RoundRecord(
        number=order.round,
        writer=order.writer,
        order_sha256=order_sha256(order),
        begun_on=order.head.state_manifest,
        kind="foreign",
        created_at_ms=order.now_ms,
        events=[RoundEvent.of(event_id, body) for event_id, body in events],
        foreign_answers=answers,
        closes=closes,
    )
    created = await create_for(store, record)
    if created is None:
        return Admitted(kind="taken"), None
    stored, _ = created
    told = [answer_of(answer, {}) for answer in stored.record.foreign_answers]
    return Admitted(kind="admitted", round=stored.pending, foreign_answers=told), stored


async def _judge_all(
    store: ObjectStore, scope: Scope, warm: Warm, cache: SegmentCache, order: AdmitForeignOrder
) -> list[_Judged]:
    judged = []
    seen: dict[str, str] = {}
    room = MAX_ROUND_BYTES
    for request in order.requests:
        one = await _judge(store, scope, warm, cache, order.now_ms, request, seen, room)
        room -= sum(len(body) for _, body in one.accepted)
        judged.append(one)
    return judged


async def _judge(
    store: ObjectStore,
    scope: Scope,
    warm: Warm,
    cache: SegmentCache,
    now_ms: int,
    request: IngestRequest,
    seen: dict[str, str],
    room: int,
) -> _Judged:
    """Judge the events of one request; `seen` has those that this round accepts already, by id."""
    found = _Judged()
    candidates: list[tuple[EventRead, str, bytes]] = []
    for read in await read_events(store, scope, list(dict.fromkeys(request.event_paths))):
        if read.refusal is not None:
            found.refused.append(Refused(read.path, read.refusal.reason, read.refusal.message, read.body))
        elif read.event is not None and read.body is not None:
            if is_too_far_ahead(read.event.event_id, now_ms):
                found.deferred.append(read.path)
            else:
                candidates.append((read, read.event.event_id, read.body))
    index = await contains(store, warm.index, [event_id for _, event_id, _ in candidates], cache=cache)
    for read, event_id, body in candidates:
        sha256 = hashlib.sha256(body).hexdigest()
        accepted = index.get(event_id, seen.get(event_id))
        if accepted is not None and accepted != sha256:
            message = "another body was accepted under this id"
            found.refused.append(Refused(read.path, RefusalReason.OTHER_BODY, message, body, accepted))
        elif accepted is not None:
            found.known += 1
        elif warm.adopted_through is not None and event_id <= warm.adopted_through:
            message = f"the state up to {warm.adopted_through} was taken over as it is; rebuild in mode full"
            found.refused.append(Refused(read.path, RefusalReason.BELOW_ADOPTED, message, body))
        elif len(body) > room:
            found.deferred.append(read.path)
        else:
            room -= len(body)
            seen[event_id] = sha256
            found.accepted.append((event_id, body))
            found.late += warm.last_event_id is not None and event_id < warm.last_event_id
    return found


async def _answer(store: ObjectStore, judged: _Judged) -> ForeignAnswer:
    records = await record_refused(store, judged.refused)
    refused = [
        ForeignRefusal(one.path, one.reason, one.message, record)
        for one, record in zip(judged.refused[:REFUSED_TOLD], records, strict=False)
    ]
    return ForeignAnswer(
        accepted=len(judged.accepted),
        late=judged.late,
        known=judged.known,
        deferred=judged.deferred,
        refused=refused,
        refused_total=len(judged.refused),
    )


async def _closed(
    store: ObjectStore,
    warm: Warm,
    foreign: ForeignEvents,
    cache: SegmentCache,
    order: AdmitForeignOrder,
    judged: Sequence[_Judged],
) -> list[str]:
    """Return the heads of the foreign ranges of which, after this round, no event is left behind."""
    if not order.head.foreign:
        return []
    accepted = {event_id for one in judged for event_id, _ in one.accepted}
    refused = {one.path for answer in judged for one in answer.refused}
    closes = []
    for revisions, event_paths in await foreign.of(store, order.head.foreign):
        ids = {path: event_id for path in event_paths if isinstance(event_id := judge_path(path), str)}
        open_ids = {event_id for path, event_id in ids.items() if path not in refused and event_id not in accepted}
        known = await contains(store, warm.index, open_ids, cache=cache)
        unjudged = [path for path in event_paths if path not in ids and path not in refused]
        if not unjudged and not open_ids - known.keys():
            closes.append(revisions.head)
    return closes


def _visible(outcome: IngestOutcome, order: AdmitForeignOrder) -> IngestOutcome:
    return outcome.model_copy(
        update={
            "visibility_status": VisibilityStatus.VISIBLE,
            "manifest_id": order.head.manifest_id,
            "manifest_revision": order.head.manifest_revision,
        }
    )
