"""Folding events onto the state; late events are refolded from the newest checkpoint below them.

See docs/protocol.md#state-of-a-set.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from itertools import groupby

from springline.errors import InvariantViolated
from springline.ledger.envelope import Event, MalformedEvent, parse_event
from springline.ledger.request import EventOutcome
from springline.paths import canonical_ulid_event
from springline.projection.config import FoldConfig
from springline.projection.digest import Digest
from springline.projection.fold.loop import fold_all
from springline.projection.schema import TABLES
from springline.projection.state import State
from springline.published.cached_state import CachedState
from springline.published.events import events_between
from springline.published.head import read_manifest
from springline.published.index import EventsIndex
from springline.published.index_files import AcceptedEvent, SegmentCache, count_through
from springline.published.load import LoadedState, load_state
from springline.published.manifest import Checkpoint, Manifest, SpringlineSection, valid_below
from springline.published.segments import StoredEvent
from springline.storage.damage import DamagedObject
from springline.storage.port import ObjectStore
from springline.storage.threads import in_thread, timed_in_thread


def is_late(events: Sequence[AcceptedEvent], warm: CachedState) -> bool:
    """Say whether some of `events`, ascending by id, are at or below the watermark of the state."""
    last = warm.last_event_id
    return bool(events) and last is not None and events[0].event_id < last


def must_refold(events: Sequence[AcceptedEvent], warm: CachedState) -> bool:
    """Say whether `events` cannot be folded forward: some are late, or the state lacks the tables of our own, which
    only the events before them can fill (docs/protocol.md#own-tables).
    """
    return is_late(events, warm) or warm.lacks_own


async def fill_own(store: ObjectStore, config: FoldConfig, warm: CachedState, *, cache: SegmentCache) -> None:
    """Fold the tables of our own into a cached state whose revision lacks them, so that events are judged on them.

    The caller has filled `tail`. Nothing is written. Raises as `refold`.
    """
    refolded = await refold(store, config, warm, (), cache=cache)
    warm.state, warm.digest, warm.own_filled = refolded.state, refolded.digest, True


async def fold_forward(state: State, events: Sequence[AcceptedEvent]) -> tuple[Counter[EventOutcome], float]:
    """Fold events that all lie above the state, ascending by id; in a thread.

    After an error the state must not be used. Returns how many events had which outcome, and the seconds it took.
    """
    return await timed_in_thread(lambda: _fold(state, ((event.event_id, event.body) for event in events)))


@dataclass(frozen=True, slots=True)
class Refolded:
    """The state with late events in their places, and the outcomes of these events.

    `checkpoints` are those that are still valid; `events` counts what was folded, in `seconds`.
    """

    state: State
    digest: Digest
    outcomes: Counter[EventOutcome]
    checkpoints: list[Checkpoint]
    events: int
    seconds: float


async def refold(
    store: ObjectStore, config: FoldConfig, warm: CachedState, events: Sequence[AcceptedEvent], *, cache: SegmentCache
) -> Refolded:
    """Fold everything above the newest checkpoint below the least of `events`, these included; all, if there are none.

    `warm` is not changed; events of the index's tail are taken from its `tail`, if they are there. Raises
    `DamagedObject` if the bytes of an accepted event cannot be found, and the store's errors.
    """
    ours = warm.ours
    if ours is None:
        raise InvariantViolated("events come late to a state that no round of ours has made")
    first = events[0].event_id if events else ""
    point = await load_below(store, ours, warm.index, first, config, cache=cache)
    state, outcomes, count, seconds = point.state, Counter[EventOutcome](), 0, 0.0
    new = {event.event_id for event in events}
    late = [(event.event_id, event.body) for event in events]
    stream = events_between(store, warm.index, state.last_event_id or None, at_hand=warm.tail)
    async with aclosing(stream) as accepted, aclosing(_merged(accepted, late)) as all_events:
        async for batch in all_events:
            folded, took = await timed_in_thread(_folding(state, batch, new))
            outcomes += folded
            seconds += took
            count += len(batch)
    state.tracking = True
    digest = await in_thread(lambda: Digest.of({name: state.rows(name) for name in TABLES}))
    kept = [] if point.checkpoint is None else ours.checkpoints[: ours.checkpoints.index(point.checkpoint) + 1]
    return Refolded(state, digest, outcomes, kept, count, seconds)


def _folding(state: State, batch: Sequence[StoredEvent], counted: set[str]) -> Callable[[], Counter[EventOutcome]]:
    """Return a function that folds a batch and returns the outcomes of the events in `counted`."""

    def work() -> Counter[EventOutcome]:
        outcomes: Counter[EventOutcome] = Counter()
        for is_counted, events in groupby(batch, lambda one: one[0] in counted):
            folded = _fold(state, events)
            if is_counted:
                outcomes += folded
        return outcomes

    return work


def _fold(state: State, events: Iterable[StoredEvent]) -> Counter[EventOutcome]:
    """Fold events, and return how many had which outcome."""
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
    """Merge accepted and late events, both ascending by id and without a common id, into batches ascending by id."""
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


@dataclass(frozen=True, slots=True)
class RefoldPoint:
    """A state to go on folding from, above `state.last_event_id`, and the checkpoint that it comes from.

    Without a checkpoint it is the empty state, or the one that was taken over from the reference. `skipped`: newer
    checkpoints that could not be used; that costs time only.
    """

    state: State
    digest: Digest
    checkpoint: Checkpoint | None = None
    skipped: list[DamagedObject] = field(default_factory=list)


async def load_below(
    store: ObjectStore,
    ours: SpringlineSection,
    index: EventsIndex,
    event_id: str,
    config: FoldConfig,
    *,
    cache: SegmentCache | None = None,
) -> RefoldPoint:
    """Return the newest stored state that lies below the event `event_id`.

    `ours` is the section of the revision for which the event is late, `index` its accepted events, with or without
    the late ones. A checkpoint is used only if it holds as many events as the index names up to its watermark; one
    that is damaged or does not fit is skipped. Raises `DamagedObject` if the state taken over from the reference
    is damaged, and the store's errors.
    """
    skipped: list[DamagedObject] = []
    for checkpoint in reversed(valid_below(ours.checkpoints, event_id)):
        try:
            loaded = await _load(store, checkpoint, index, config, cache)
        except DamagedObject as error:
            skipped.append(error)
        else:
            return RefoldPoint(loaded.state, loaded.digest, checkpoint, skipped)
    if ours.adopted is not None:
        taken_over = await _manifest_of(store, ours.adopted.manifest_path)
        loaded = await load_state(store, taken_over, config)
        return RefoldPoint(loaded.state, loaded.digest, None, skipped)
    return RefoldPoint(State(config), Digest(), None, skipped)


async def _load(
    store: ObjectStore, checkpoint: Checkpoint, index: EventsIndex, config: FoldConfig, cache: SegmentCache | None
) -> LoadedState:
    manifest = await _manifest_of(store, checkpoint.manifest_path)
    ours = manifest.springline
    if ours is None or manifest.l0_deltas or manifest.watermarks.last_committed_event_id != checkpoint.watermark:
        raise DamagedObject(
            checkpoint.manifest_path, f"is not a base at {checkpoint.watermark}, as a checkpoint must be"
        )
    if ours.config.fingerprint != config.fingerprint:
        raise DamagedObject(checkpoint.manifest_path, "was folded under another configuration")
    if not ours.digest.has_own:
        raise DamagedObject(checkpoint.manifest_path, "was published by a build that had no tables of its own")
    if (found := await count_through(store, index, checkpoint.watermark, cache=cache)) != checkpoint.events:
        raise DamagedObject(
            checkpoint.manifest_path, f"holds {checkpoint.events} events, but {found} lie up to its watermark"
        )
    return await load_state(store, manifest, config)


async def _manifest_of(store: ObjectStore, path: str) -> Manifest:
    found = await read_manifest(store, path)
    if found is None:
        raise DamagedObject(path, "is missing")
    return found.manifest
