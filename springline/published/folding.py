"""Folding a round onto the state, and refolding from a checkpoint where its events come late.

See docs/protocol.md#state-of-a-set.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from itertools import groupby

from springline.errors import InvariantViolated
from springline.ledger.envelope import Event, MalformedEvent, parse_event
from springline.ledger.request import EventOutcome
from springline.paths import canonical_ulid_event, orchestration_round
from springline.projection.config import FoldConfig
from springline.projection.digest import Digest
from springline.projection.fold.loop import fold_all
from springline.projection.schema import TABLES
from springline.projection.state import State
from springline.published.cached_state import Warm
from springline.published.event_stream import events_between
from springline.published.index_files import SegmentCache
from springline.published.manifest import Checkpoint
from springline.published.refold import load_below
from springline.published.segments import StoredEvent
from springline.sequencer.accepted import tail_bodies
from springline.sequencer.rounds import RoundRecord
from springline.storage.damage import DamagedObject
from springline.storage.offload import in_thread, timed_in_thread
from springline.storage.port import ObjectStore


def is_late(record: RoundRecord, warm: Warm) -> bool:
    """Say whether events of a round lie below the state that it is to be folded on; its least event is its first."""
    last = warm.last_event_id
    return bool(record.events) and last is not None and record.events[0].event_id < last


def check_next(record: RoundRecord, warm: Warm) -> None:
    """Raise `InvariantViolated` unless the round is the one that comes after the state."""
    if record.number != warm.rounds_folded + 1:
        raise InvariantViolated(
            f"round {record.number} cannot be folded on {warm.path}, which holds rounds up to {warm.rounds_folded}"
        )
    if record.kind == "own" and is_late(record, warm):
        raise InvariantViolated(
            f"{orchestration_round(record.number)} has an event of ours, {record.events[0].event_id}, "
            f"below {warm.last_event_id}, which was folded before"
        )


async def fold_forward(state: State, record: RoundRecord) -> tuple[Counter[EventOutcome], float]:
    """Fold a round whose events all lie above the state; in a thread. After an error the state is worth nothing.

    Returns what became of the events, and how many seconds it took.
    """
    return await timed_in_thread(lambda: _fold(state, ((event.event_id, event.data) for event in record.events)))


@dataclass(frozen=True, slots=True)
class Refolded:
    """The state with a round's late events in their places, and what became of the round's own events.

    `checkpoints` are those that still are states of the ledger; `events` counts what was folded, in `seconds`.
    """

    state: State
    digest: Digest
    outcomes: Counter[EventOutcome]
    checkpoints: list[Checkpoint]
    events: int
    seconds: float


async def refold(
    store: ObjectStore, config: FoldConfig, warm: Warm, record: RoundRecord, *, cache: SegmentCache
) -> Refolded:
    """Fold from the newest checkpoint below the round's least event everything above it, the round included.

    `warm` stays as it is. Raises `DamagedObject` if the bytes of an event that was accepted are nowhere to be had,
    and what the store does.
    """
    ours = warm.ours
    if ours is None:
        raise InvariantViolated(f"round {record.number} comes late to a state that no round of ours has made")
    point = await load_below(store, ours, warm.index, record.events[0].event_id, config, cache=cache)
    state, outcomes, count, seconds = point.state, Counter[EventOutcome](), 0, 0.0
    new = {event.event_id for event in record.events}
    late = [(event.event_id, event.data) for event in record.events]
    warm.tail = await tail_bodies(store, warm)
    stream = events_between(store, warm.index, state.last_event_id or None, at_hand=warm.tail)
    async with aclosing(stream) as accepted, aclosing(_merged(accepted, late)) as events:
        async for batch in events:
            folded, took = await timed_in_thread(_folding(state, batch, new))
            outcomes += folded
            seconds += took
            count += len(batch)
    state.tracking = True
    digest = await in_thread(lambda: Digest.of({name: state.rows(name) for name in TABLES}))
    kept = [] if point.checkpoint is None else ours.checkpoints[: ours.checkpoints.index(point.checkpoint) + 1]
    return Refolded(state, digest, outcomes, kept, count, seconds)


def _folding(state: State, batch: Sequence[StoredEvent], counted: set[str]) -> Callable[[], Counter[EventOutcome]]:
    """Return the work of folding a batch; it returns what became of the events in `counted`."""

    def work() -> Counter[EventOutcome]:
        outcomes: Counter[EventOutcome] = Counter()
        for is_counted, events in groupby(batch, lambda one: one[0] in counted):
            folded = _fold(state, events)
            if is_counted:
                outcomes += folded
        return outcomes

    return work


def _fold(state: State, events: Iterable[StoredEvent]) -> Counter[EventOutcome]:
    """Fold events, and return what became of them."""
    return fold_all(state, (_parsed(event_id, body) for event_id, body in events))


def _parsed(event_id: str, body: bytes) -> Event:
    try:
        return parse_event(body)
    except MalformedEvent as error:
        raise DamagedObject(
            canonical_ulid_event(event_id), f"was accepted and cannot be read: {error.reason}", "upgrade"
        ) from error


async def _merged(
    accepted: AsyncIterator[list[StoredEvent]], late: Sequence[StoredEvent]
) -> AsyncGenerator[list[StoredEvent], None]:
    """Yield batches of accepted and late events together, ascending by id; both do, and have no id in common."""
    waiting: Iterator[StoredEvent] = iter(late)
    next_late = next(waiting, None)
    async for batch in accepted:
        last, added = batch[-1][0], []
        while next_late is not None and next_late[0] < last:
            added.append(next_late)
            next_late = next(waiting, None)
        yield sorted([*batch, *added]) if added else batch
    rest = [] if next_late is None else [next_late, *waiting]
    if rest:
        yield rest
