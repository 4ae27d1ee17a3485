"""Admitting foreign events: each judged for itself, those that are accepted fixed by a round's record.

See docs/protocol.md#ledger-rounds.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto

from springline.ledger.request import IngestOutcome, RefusalReason, VisibilityStatus
from springline.paths import Scope
from springline.published.cached_state import CachedState
from springline.published.index import EventsIndex
from springline.published.index_files import SegmentCache, contains
from springline.sequencer.admitting import order_sha256
from springline.sequencer.foreign import EventRead, EventVerdict, is_too_far_ahead, judge_path, judged_path, read_events
from springline.sequencer.messages import AdmitForeignOrder, Admitted, ForeignRange
from springline.sequencer.refused import RefusedObject, record_refused
from springline.sequencer.rounds import (
    MAX_ROUND_BYTES,
    ForeignAnswer,
    ForeignRefusal,
    Ours,
    RoundEvent,
    RoundRecord,
    StoredRound,
    answer_of,
    create_round,
)
from springline.storage.port import ObjectStore

MOST_LISTED = 1_000
"""Refusals that the answers of a round list in full: what a message can hold."""

WitnessPaths = Sequence[tuple[ForeignRange, Sequence[str]]]
"""Event paths of the reference's revisions that are to be taken in."""


class _Fate(Enum):
    """What becomes of a path."""

    ACCEPTED = auto()
    LATE = auto()
    KNOWN = auto()
    DEFERRED = auto()
    REFUSED = auto()


@dataclass(slots=True)
class _Judged:
    """What became of every path of an order, and the round that follows from it."""

    fates: dict[str, _Fate] = field(default_factory=dict)
    refused: dict[str, RefusedObject] = field(default_factory=dict)
    events: list[RoundEvent] = field(default_factory=list)


async def admit_events(
    store: ObjectStore,
    scope: Scope,
    warm: CachedState,
    order: AdmitForeignOrder,
    witnesses: WitnessPaths,
    *,
    cache: SegmentCache,
) -> tuple[Admitted, StoredRound | None]:
    """Judge foreign events, record those that are refused, and create the record of a round for the accepted.

    Nothing is folded. Raises `DamagedObject` if a segment that must be searched is damaged, and what the store does.
    """
    paths = list(dict.fromkeys(path for request in order.requests for path in request.event_paths))
    judged = await _judge(store, scope, warm, paths, order.now_ms, cache)
    listed = list(judged.refused)
    records = dict(zip(listed, await record_refused(store, list(judged.refused.values())), strict=True))
    answers = _answers(order, judged, records)
    closes = await closed_by(store, warm, witnesses, judged.fates, cache=cache)
    if not judged.events and not closes:
        return _nothing(order, answers), None
    record = RoundRecord(
        number=order.round,
        writer=order.writer,
        order_sha256=order_sha256(order),
        begun_on=order.head.state_manifest,
        kind="foreign",
        created_at_ms=order.now_ms,
        events=judged.events,
        foreign_answers=answers,
        closes=closes,
    )
    created = await create_round(store, record)
    stored = created.stored
    # An earlier attempt of this order may have found other objects: what it fixed is what counts.
    if not isinstance(created, Ours) and stored.record.order_sha256 != record.order_sha256:
        return Admitted(kind="taken"), stored
    fixed = [answer_of(answer, {}) for answer in stored.record.foreign_answers]
    return Admitted(kind="admitted", round=stored.pending, foreign_answers=fixed), stored


async def _judge(
    store: ObjectStore, scope: Scope, warm: CachedState, paths: Sequence[str], now_ms: int, cache: SegmentCache
) -> _Judged:
    judged = _Judged()
    readable: list[str] = []
    ids: dict[str, str] = {}
    for path in paths:
        event_id = judged_path(path)
        if isinstance(event_id, EventVerdict):
            _refuse(judged, RefusedObject(path, event_id.reason, event_id.message))
        elif is_too_far_ahead(event_id, now_ms):
            judged.fates[path] = _Fate.DEFERRED
        else:
            readable.append(path)
            ids[path] = event_id
    known = await contains(store, warm.index, ids.values(), cache=cache)
    size = 0
    for read in await read_events(store, scope, readable):
        event_id = ids[read.path]
        if event_id in known:
            _meet_known(judged, read, known[event_id])
        elif read.refusal is not None or read.body is None:
            _refuse(judged, _refusal_of(read))
        elif warm.adopted_through is not None and event_id <= warm.adopted_through:
            message = f"the state up to {warm.adopted_through} was taken over as it was; a full rebuild can place it"
            _refuse(judged, RefusedObject(read.path, RefusalReason.BELOW_ADOPTED, message, read.body))
        elif (size := size + len(read.body)) > MAX_ROUND_BYTES:
            judged.fates[read.path] = _Fate.DEFERRED
        else:
            judged.events.append(RoundEvent.of(event_id, read.body))
            late = warm.last_event_id is not None and event_id < warm.last_event_id
            judged.fates[read.path] = _Fate.LATE if late else _Fate.ACCEPTED
    judged.events.sort(key=lambda event: event.event_id)
    return judged


def _meet_known(judged: _Judged, read: EventRead, accepted_sha256: str) -> None:
    """Judge the object of an event that was accepted before: it is the same, gone, or damage."""
    if read.body is None or hashlib.sha256(read.body).hexdigest() == accepted_sha256:
        judged.fates[read.path] = _Fate.KNOWN
        return
    message = f"the ledger has accepted another body under this id, with the SHA-256 {accepted_sha256}"
    _refuse(judged, RefusedObject(read.path, RefusalReason.OTHER_BODY, message, read.body, accepted_sha256))


def _refusal_of(read: EventRead) -> RefusedObject:
    verdict = read.refusal or EventVerdict(RefusalReason.MISSING, "there is no object at this path")
    return RefusedObject(read.path, verdict.reason, verdict.message, read.body)


def _refuse(judged: _Judged, refused: RefusedObject) -> None:
    judged.fates[refused.path] = _Fate.REFUSED
    judged.refused[refused.path] = refused


def _answers(order: AdmitForeignOrder, judged: _Judged, records: Mapping[str, str]) -> list[ForeignAnswer]:
    """Return an answer per request; a path that comes a second time is known then."""
    seen: set[str] = set()
    room = MOST_LISTED
    answers: list[ForeignAnswer] = []
    for request in order.requests:
        counts = dict.fromkeys(_Fate, 0)
        deferred: list[str] = []
        refused: list[ForeignRefusal] = []
        for path in dict.fromkeys(request.event_paths):
            fate = judged.fates[path]
            if path in seen and fate in (_Fate.ACCEPTED, _Fate.LATE):
                fate = _Fate.KNOWN
            seen.add(path)
            counts[fate] += 1
            if fate is _Fate.DEFERRED:
                deferred.append(path)
            elif fate is _Fate.REFUSED and room > 0:
                room -= 1
                one = judged.refused[path]
                refused.append(ForeignRefusal(path, one.reason, one.message, records[path]))
        answers.append(
            ForeignAnswer(
                accepted=counts[_Fate.ACCEPTED] + counts[_Fate.LATE],
                late=counts[_Fate.LATE],
                known=counts[_Fate.KNOWN],
                deferred=deferred,
                refused=refused,
                refused_total=counts[_Fate.REFUSED],
            )
        )
    return answers


def _nothing(order: AdmitForeignOrder, answers: Iterable[ForeignAnswer]) -> Admitted:
    update = {
        "visibility_status": VisibilityStatus.VISIBLE,
        "manifest_id": order.head.manifest_id,
        "manifest_revision": order.head.manifest_revision,
    }
    outcomes: list[IngestOutcome] = [answer_of(answer, {}).model_copy(update=update) for answer in answers]
    return Admitted(kind="nothing", foreign_answers=outcomes)


async def closed_by(
    store: ObjectStore,
    warm: CachedState,
    witnesses: WitnessPaths,
    fates: dict[str, _Fate] | None = None,
    *,
    cache: SegmentCache,
) -> list[str]:
    """Return the ranges, by their head, none of whose events is left behind once a round with `fates` is folded."""
    decided = {path for path, fate in (fates or {}).items() if fate is not _Fate.DEFERRED}
    closes: list[str] = []
    for revisions, paths in witnesses:
        if not await unknown_events(store, warm.index, [path for path in paths if path not in decided], cache=cache):
            closes.append(revisions.head)
    return closes


async def unknown_events(
    store: ObjectStore,
    index: EventsIndex,
    paths: Iterable[str],
    *,
    cache: SegmentCache,
    also_known: Iterable[str] = (),
) -> list[str]:
    """Return those of `paths` whose events the ledger has not accepted, in order; `also_known` are ids that count."""
    ids = {path: judge_path(path) for path in paths}
    wanted = [event_id for event_id in ids.values() if isinstance(event_id, str)]
    known = {*await contains(store, index, wanted, cache=cache), *also_known}
    return [path for path, event_id in ids.items() if event_id not in known]
