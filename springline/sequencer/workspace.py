"""The sequencer of one workspace: its steps, and what a process caches between them.

See docs/protocol.md#ledger-rounds.

    open -> admit | admit_foreign -> append, fold (side by side) -> publish -> ...

Every step is idempotent and safe to run twice at once, here and in other processes. The cache saves reads only: a step
that finds nothing in memory reads what it needs, and writes the same bytes. Rounds have one order, that of their
records; the sequencer that creates the next record has judged on the state of all rounds before it. So a sequencer that
was believed dead and goes on can finish the round whose record it created, and nothing else.
"""

from __future__ import annotations

import asyncio
from collections import Counter

from springline.caches import Recent
from springline.errors import InvariantViolated
from springline.paths import ObjectPath, Scope, orchestration_manifest, orchestration_round
from springline.projection.config import FoldConfig
from springline.published.cached_state import CachedState, OnTop, StateCache
from springline.published.folding import fill_own, fold_forward, is_late, must_refold, refold
from springline.published.index_files import AcceptedEvent, SegmentCache, read_index
from springline.published.manifest import ForeignRevisions
from springline.published.pointer import PointerMove, PointerWriter, check_written
from springline.published.revision import Succession, WrittenRevision, write_refolded, write_revision
from springline.sequencer.accepted import check_no_round_lost, fill_tail, pending_rounds, with_bodies
from springline.sequencer.admitting import admit_requests
from springline.sequencer.admitting_foreign import WitnessPaths, admit_events, closed_by, unknown_events
from springline.sequencer.messages import (
    MAX_FOREIGN_PATHS,
    AdmitForeignOrder,
    AdmitOrder,
    Admitted,
    Appended,
    Folded,
    FoldOrder,
    ForeignRange,
    Head,
    Opened,
    OpenOrder,
    PendingRound,
    Published,
    PublishOrder,
    RoundStep,
)
from springline.sequencer.opening import ForeignEvents, read_opening
from springline.sequencer.requests import RequestMarker
from springline.sequencer.rounds import RoundRecord, StoredRound, read_round
from springline.sequencer.writer import write_round
from springline.storage.counted import CountedStore
from springline.storage.port import ObjectStore

_RECORDS, _RECORD_BYTES = 8, 64 * 1024 * 1024
_MARKERS, _MARKER_EVENTS = 10_000, 50_000


class Sequencer:
    """The steps of a workspace's ledger over `store`, which is scoped to it, under `config`.

    The steps raise `springline.storage.port.StoreError` for faults of the store (try again), `OtherConfiguration` if
    the published state is one of other settings, and `springline.errors.InvariantViolated` for what an operator must
    look at: `DamagedObject`.
    """

    def __init__(self, store: ObjectStore, config: FoldConfig) -> None:
        self._store = store
        self._config = config
        self._scope = Scope(config.tenant, config.workspace)
        self._lock = asyncio.Lock()
        self._warm = StateCache(config)
        self._refolded: CachedState | None = None
        self._folded: tuple[FoldOrder, Folded] | None = None
        self._records: Recent[StoredRound] = Recent(_RECORDS, _RECORD_BYTES)
        self._markers: Recent[RequestMarker] = Recent(_MARKERS, _MARKER_EVENTS)
        self._segments = SegmentCache()
        self._witnesses = ForeignEvents()
        self._pointer = PointerWriter()

    async def open(self, order: OpenOrder) -> Opened:
        """Return the workspace's head, the rounds that are kept and not visible, and what the reference published."""
        standing = await read_opening(self._store)
        head = standing.head
        pending = await pending_rounds(self._store, head.rounds_folded)
        await check_no_round_lost(self._store, head.manifest_id, head.rounds_folded + len(pending))
        for stored in pending:
            self._remember(await with_bodies(self._store, stored))
        foreign: list[str] = []
        if head.foreign:
            ours = None if standing.state is None else standing.state.springline
            index = await read_index(self._store, None if ours is None else ours.events.index)
            witnesses = await self._witnesses.of(self._store, head.foreign)
            paths = dict.fromkeys(path for _, paths in witnesses for path in paths)
            accepted = [event.event_id for stored in pending for event in stored.record.events]
            foreign = await unknown_events(self._store, index, paths, cache=self._segments, also_known=accepted)
        return Opened(
            head=head,
            pending=[stored.pending for stored in pending],
            next_round=head.rounds_folded + len(pending) + 1,
            foreign_paths=foreign[:MAX_FOREIGN_PATHS],
            more_foreign=len(foreign) > MAX_FOREIGN_PATHS,
        )

    async def admit(self, order: AdmitOrder) -> Admitted:
        """Judge append requests on the state at the order's head; accepted events are kept once this returns."""
        async with self._lock:
            warm = await self._at(order.head)
            if order.round != warm.rounds_folded + 1:
                return Admitted(kind="taken")
            closes = []
            if order.head.foreign:
                witnesses = await self._witnesses_of(order.head.foreign)
                closes = await closed_by(self._store, warm, witnesses, cache=self._segments)
            if warm.lacks_own and not warm.own_filled:
                await fill_tail(self._store, warm)
                await fill_own(self._store, self._config, warm, cache=self._segments)
            admitted, stored = await admit_requests(self._store, warm, order, self._markers, closes)
        return self._admitted(admitted, stored)

    async def admit_foreign(self, order: AdmitForeignOrder) -> Admitted:
        """Judge foreign events; once this returns, accepted ones are kept and refused ones are recorded."""
        async with self._lock:
            warm = await self._at(order.head)
            if order.round != warm.rounds_folded + 1:
                return Admitted(kind="taken")
            witnesses = await self._witnesses_of(order.head.foreign)
            admitted, stored = await admit_events(
                self._store, self._scope, warm, order, witnesses, cache=self._segments
            )
        return self._admitted(admitted, stored)

    async def append(self, step: RoundStep) -> Appended:
        """Write the event objects and request markers of a round of our own; a foreign one has none."""
        record = (await self._record(step.round)).record
        if record.kind == "foreign":
            return Appended(events=0, written=0)
        written = await write_round(self._store, record)
        for marker in written.markers:
            self._markers.put(marker.request_id, marker, weight=marker.weight)
        return Appended(events=len(record.events), written=written.created, damaged=written.damaged)

    async def fold(self, order: FoldOrder) -> Folded:
        """Fold a round onto the state at the order's head and write the next revision, except the pointer."""
        stored = await self._record(order.round)
        async with self._lock:
            if self._folded is not None and self._folded[0] == order:
                return self._folded[1]
            requests = Counter[str]()
            store = CountedStore(self._store, lambda operation, _, number: requests.update({operation: number}))
            warm = await self._at(order.head, keep=stored.sha256, store=store)
            events = stored.accepted()
            _check_next(stored.record, warm, is_late(events, warm))
            if must_refold(events, warm):
                folded = await self._fold_late(store, order, stored, events, warm)
            else:
                folded = await self._fold_on_top(store, order, stored, events, warm)
            folded = folded.model_copy(update={"store_requests": requests.total()})
            self._folded = (order, folded)
            return folded

    async def publish(self, order: PublishOrder) -> Published:
        """Move the pointer from the order's head to the folded revision: from then on readers see it."""
        async with self._lock:
            folded, path, move = order.folded, orchestration_manifest(order.folded.manifest_id), _move(order)
            if not self._holds(path):
                await check_written(self._store, self._config, move)
            visible = await self._pointer.publish(self._store, move)
            if visible is None:
                return Published(kind="lost")
            head = Head(
                manifest_id=folded.manifest_id,
                manifest_revision=order.manifest_revision,
                pointer_version=visible.version,
                pointer_sha256=visible.sha256,
                epoch=order.head.epoch,
                last_event_id=folded.last_event_id,
                events=folded.events,
                rounds_folded=order.round.number,
                state_manifest=path,
                foreign=folded.foreign,
            )
            return Published(kind="visible", head=head)

    # Memory.

    @property
    def size(self) -> int:
        """Bytes of memory that the state takes, about."""
        held = self._warm.held
        return 0 if held is None else held.size

    @property
    def loading(self) -> str | None:
        """Progress of loading the state, for people; None while no load is under way."""
        progress = self._warm.progress
        return None if progress is None else str(progress)

    async def _at(self, head: Head, *, keep: str | None = None, store: ObjectStore | None = None) -> CachedState:
        """Return the state at `head`; a refolded state replaces the cached one if it has been published."""
        refolded, self._refolded = self._refolded, None
        if refolded is not None and refolded.path == head.state_manifest:
            self._warm.replace(refolded)
        return await self._warm.at(store or self._store, head.state_manifest, keep=keep)

    def _holds(self, path: ObjectPath) -> bool:
        """Say whether this process has written the revision at `path`, under its own configuration."""
        held = self._warm.held
        on_top = None if held is None else held.on_top
        written = None if on_top is None else on_top.written
        return (written is not None and written.path == path) or (
            self._refolded is not None and self._refolded.path == path
        )

    async def _record(self, pending: PendingRound) -> StoredRound:
        stored = self._records.get(pending.record_sha256)
        if stored is None:
            stored = await read_round(self._store, pending.number, pending.record_sha256)
            stored = await with_bodies(self._store, stored)
            self._remember(stored)
        return stored

    def _remember(self, stored: StoredRound) -> None:
        weight = sum(len(event.body) for event in stored.record.events)
        self._records.put(stored.sha256, stored, weight=weight)

    def _admitted(self, admitted: Admitted, stored: StoredRound | None) -> Admitted:
        if stored is not None:
            self._remember(stored)
        return admitted

    async def _witnesses_of(self, foreign: list[ForeignRange]) -> WitnessPaths:
        return await self._witnesses.of(self._store, foreign) if foreign else []

    # Parts of the steps.

    async def _fold_on_top(
        self, store: ObjectStore, order: FoldOrder, stored: StoredRound, events: list[AcceptedEvent], warm: CachedState
    ) -> Folded:
        if warm.on_top is None:
            warm.on_top = OnTop(stored.sha256, *await fold_forward(warm.state, events))
        warm.on_top.bodies = {event.event_id: event.body for event in events}
        if warm.packs_with(len(events)):
            await fill_tail(store, warm)
        written = await write_revision(store, self._config, _succession(order, stored.record), events, warm)
        warm.on_top.written = written.revision
        folded = _answer(written, "base" if written.is_base else "delta")
        on_top = warm.on_top
        return folded.model_copy(update={"outcomes": dict(on_top.outcomes), "fold_seconds": on_top.fold_seconds})

    async def _fold_late(
        self, store: ObjectStore, order: FoldOrder, stored: StoredRound, events: list[AcceptedEvent], warm: CachedState
    ) -> Folded:
        await fill_tail(store, warm)
        refolded = await refold(store, self._config, warm, events, cache=self._segments)
        succession = _succession(order, stored.record)
        written = await write_refolded(store, self._config, succession, events, warm, refolded)
        revision, index = written.revision, written.revision.index
        at_hand = {**warm.tail, **{event.event_id: event.body for event in events}}
        tail = {event_id: at_hand[event_id] for event_id, _ in index.tail if event_id in at_hand}
        self._refolded = CachedState(revision.path, revision.manifest, refolded.state, refolded.digest, index, tail)
        folded = _answer(written, "refold")
        return folded.model_copy(
            update={
                "outcomes": dict(refolded.outcomes),
                "refolded_events": refolded.events,
                "fold_seconds": refolded.seconds,
            }
        )


def _check_next(record: RoundRecord, warm: CachedState, is_late: bool) -> None:
    """Raise `InvariantViolated` unless the round is the one that comes after the state."""
    if record.number != warm.rounds_folded + 1:
        raise InvariantViolated(
            f"round {record.number} cannot be folded on {warm.path}, which holds rounds up to {warm.rounds_folded}"
        )
    if record.kind == "own" and is_late:
        raise InvariantViolated(
            f"{orchestration_round(record.number)} has an event of ours, {record.events[0].event_id}, "
            f"below {warm.last_event_id}, which was folded before"
        )


def _succession(order: FoldOrder, record: RoundRecord) -> Succession:
    head = order.head
    return Succession(
        follows=head.manifest_id,
        has_pointer=head.pointer_version is not None,
        epoch=head.epoch,
        rounds_folded=record.number,
        revision=order.manifest_revision,
        delta_id=order.delta_id,
        snapshot_id=order.snapshot_id,
        now_ms=order.now_ms,
        foreign=[ForeignRevisions(one.head, one.back_to) for one in head.foreign if one.head not in record.closes],
    )


def _move(order: PublishOrder) -> PointerMove:
    folded, head = order.folded, order.head
    return PointerMove(
        manifest_id=folded.manifest_id,
        manifest_sha256=folded.manifest_sha256,
        epoch=head.epoch,
        now_ms=order.now_ms,
        from_version=head.pointer_version,
        from_sha256=head.pointer_sha256,
    )


def _answer(written: WrittenRevision, kind: str) -> Folded:
    manifest, ours = written.revision.manifest, written.revision.manifest.springline
    assert ours is not None
    return Folded.model_validate(
        {
            "kind": kind,
            "manifest_id": manifest.manifest_id,
            "manifest_sha256": written.sha256,
            "last_event_id": manifest.watermarks.last_committed_event_id,
            "events": ours.events.count,
            "digest": ours.digest.state,
            "foreign": [ForeignRange(head=one.head, back_to=one.back_to) for one in ours.foreign],
        }
    )
