"""The sequencer of one workspace: its steps, and what a process remembers between them.

See docs/protocol.md#ledger-rounds.

    open -> admit | admit_foreign -> append, fold (side by side) -> publish -> ...

Every step is idempotent and safe to run twice at once, here and in other processes. What is remembered saves reading:
a step that finds nothing in memory reads what it needs, and writes the same bytes. Rounds have one order, that of
their records; whoever holds the next number has judged on the state of all rounds before it. So a sequencer that was
believed dead and goes on can finish the round that it holds, and nothing else.
"""

from __future__ import annotations

import asyncio
from collections import Counter

from springline.caches import Recent
from springline.ledger.request import RefusalReason
from springline.paths import ObjectPath, Scope, orchestration_manifest, orchestration_request
from springline.projection.config import FoldConfig
from springline.published.cached_state import OnTop, Warm, WarmState
from springline.published.folding import check_next, fold_forward, is_late, refold
from springline.published.head import check_no_round_lost
from springline.published.index_files import SegmentCache, read_index
from springline.published.pointer import PointerWriter, check_folded
from springline.published.revision import WrittenRevision, write_refolded, write_revision
from springline.sequencer.accepted import pending_rounds, with_bodies
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
from springline.sequencer.opening import ForeignEvents, read_standing
from springline.sequencer.refused import Refused, record_refused
from springline.sequencer.requests import RequestMarker, write_markers
from springline.sequencer.rounds import RoundRecord, StoredRound, read_round
from springline.sequencer.writer import EventsTaken, write_events
from springline.storage.counted import CountedStore
from springline.storage.port import ObjectStore
from springline.storage.together import together

_RECORDS, _RECORD_BYTES = 8, 64 * 1024 * 1024
_MARKERS, _MARKER_EVENTS = 10_000, 50_000


class Sequencer:
    """The steps of a workspace's ledger over `store`, which is scoped to it, under `config`.

    The steps raise `springline.storage.port.StoreError` for faults of the store (try again), and
    `springline.errors.InvariantViolated` for what an operator must look at: `DamagedObject`, `OtherConfiguration`.
    """

    def __init__(self, store: ObjectStore, config: FoldConfig) -> None:
        self._store = store
        self._config = config
        self._scope = Scope(config.tenant, config.workspace)
        self._lock = asyncio.Lock()
        self._warm = WarmState(config)
        self._refolded: Warm | None = None
        self._folded: tuple[FoldOrder, Folded] | None = None
        self._records: Recent[StoredRound] = Recent(_RECORDS, _RECORD_BYTES)
        self._markers: Recent[RequestMarker] = Recent(_MARKERS, _MARKER_EVENTS)
        self._segments = SegmentCache()
        self._witnesses = ForeignEvents()
        self._pointer = PointerWriter()

    async def open(self, order: OpenOrder) -> Opened:
        """Find out where the workspace stands, which rounds are kept and not visible, and what the reference did."""
        standing = await read_standing(self._store)
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
        """Judge append requests on the state at the order's head; what is accepted is kept once this returns."""
        async with self._lock:
            warm = await self._at(order.head)
            if order.round != warm.rounds_folded + 1:
                return Admitted(kind="taken")
            closes = []
            if order.head.foreign:
                witnesses = await self._witnesses_of(order.head.foreign)
                closes = await closed_by(self._store, warm, witnesses, cache=self._segments)
            admitted, stored = await admit_requests(self._store, warm, order, self._markers, closes)
        return self._admitted(admitted, stored)

    async def admit_foreign(self, order: AdmitForeignOrder) -> Admitted:
        """Look at foreign events; those that are accepted are kept once this returns, all others recorded."""
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
        """Write the event objects and request markers of an own round; a foreign one has none."""
        record = (await self._record(step.round)).record
        if record.kind == "foreign":
            return Appended(events=0, written=0)
        (written, taken), conflicts = await together(
            self._write_events(record), write_markers(self._store, record.requests)
        )
        for marker in record.requests:
            if marker.request_id not in conflicts:
                self._markers.put(marker.request_id, marker, weight=len(marker.events))
        damaged = [
            orchestration_request(marker.request_id)
            for marker in record.requests
            if marker.request_id in conflicts and not _says_the_same(conflicts[marker.request_id], marker)
        ]
        return Appended(events=len(record.events), written=written, damaged=[*taken, *damaged])

    async def fold(self, order: FoldOrder) -> Folded:
        """Fold a round onto the state at the order's head and write the next revision, all but the pointer."""
        stored = await self._record(order.round)
        async with self._lock:
            if self._folded is not None and self._folded[0] == order:
                return self._folded[1]
            requests = Counter[str]()
            store = CountedStore(self._store, lambda operation, _, number: requests.update({operation: number}))
            warm = await self._at(order.head, keep=stored.sha256, store=store)
            check_next(stored.record, warm)
            if is_late(stored.record, warm):
                folded = await self._fold_late(store, order, stored, warm)
            else:
                folded = await self._fold_on_top(store, order, stored, warm)
            folded = folded.model_copy(update={"store_requests": requests.total()})
            self._folded = (order, folded)
            return folded

    async def publish(self, order: PublishOrder) -> Published:
        """Move the pointer from the order's head to the folded revision: the moment from which readers see it."""
        async with self._lock:
            folded, path = order.folded, orchestration_manifest(order.folded.manifest_id)
            if not self._holds(path):
                await check_folded(self._store, self._config, folded)
            visible = await self._pointer.publish(self._store, order)
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
        """How far loading the state is, for people; None while nothing is being loaded."""
        progress = self._warm.progress
        return None if progress is None else str(progress)

    async def _at(self, head: Head, *, keep: str | None = None, store: ObjectStore | None = None) -> Warm:
        """Return the state at `head`; a refolded one takes its place if it has been published."""
        refolded, self._refolded = self._refolded, None
        if refolded is not None and refolded.path == head.state_manifest:
            self._warm.replace(refolded)
        return await self._warm.at(store or self._store, head, keep=keep)

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

    async def _write_events(self, record: RoundRecord) -> tuple[int, list[str]]:
        """Write a round's events; return how many this created, and the names at which something else stands.

        The round counts, whatever stands there: its events are in its record. What took their names is damage.
        """
        bodies = {event.event_id: event.data for event in record.events}
        try:
            return await write_events(self._store, bodies), []
        except EventsTaken as error:
            by_path = {path: event for event in record.events for path in error.paths if event.event_id in path}
            found = await self._store.read_many([ObjectPath(path) for path in by_path])
            message = "the name belongs to an event of ours, whose bytes are in its round's record"
            refused = [
                Refused(path, RefusalReason.OTHER_BODY, message, body, event.sha256)
                for (path, event), body in zip(by_path.items(), found, strict=True)
            ]
            await record_refused(self._store, refused)
            return error.created, error.paths

    async def _fold_on_top(self, store: ObjectStore, order: FoldOrder, stored: StoredRound, warm: Warm) -> Folded:
        record = stored.record
        if warm.on_top is None:
            warm.on_top = OnTop(stored.sha256, *await fold_forward(warm.state, record))
        warm.on_top.bodies = {event.event_id: event.data for event in record.events}
        written = await write_revision(store, self._config, order, record, warm)
        warm.on_top.written = written.revision
        folded = _answer(written, "base" if written.is_base else "delta")
        on_top = warm.on_top
        return folded.model_copy(update={"outcomes": dict(on_top.outcomes), "fold_seconds": on_top.fold_seconds})

    async def _fold_late(self, store: ObjectStore, order: FoldOrder, stored: StoredRound, warm: Warm) -> Folded:
        record = stored.record
        refolded = await refold(store, self._config, warm, record, cache=self._segments)
        written = await write_refolded(store, self._config, order, record, warm, refolded)
        revision, index = written.revision, written.revision.index
        at_hand = {**warm.tail, **{event.event_id: event.data for event in record.events}}
        tail = {event_id: at_hand[event_id] for event_id, _ in index.tail if event_id in at_hand}
        self._refolded = Warm(revision.path, revision.manifest, refolded.state, refolded.digest, index, tail)
        folded = _answer(written, "refold")
        return folded.model_copy(
            update={
                "outcomes": dict(refolded.outcomes),
                "refolded_events": refolded.events,
                "fold_seconds": refolded.seconds,
            }
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


def _says_the_same(found: RequestMarker | None, marker: RequestMarker) -> bool:
    """Say whether a marker that was written before gives the answer that this one would."""
    if found is None:
        return False
    ids = [event.event_id for event in found.events]
    return (found.payload_sha256, ids) == (marker.payload_sha256, [event.event_id for event in marker.events])
