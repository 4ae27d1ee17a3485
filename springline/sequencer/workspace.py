"""The sequencer's steps for one workspace, and what a process remembers between them (design 4.1).

Every step is idempotent and safe to run twice at once, here or in another process: what it writes follows from its
order and from what is stored, and only the compare-and-swap of the pointer makes anything visible. Memory saves
reading; nothing rests on it.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict

from springline.ledger.request import EventOutcome
from springline.ledger.timestamps import format_ms
from springline.paths import Scope, orchestration_manifest, orchestration_pointer, orchestration_request
from springline.projection.config import FoldConfig
from springline.projection.lineage import pointer_hash
from springline.projection.manifest import Manifest, Pointer, encode
from springline.sequencer.admitting import admit_own
from springline.sequencer.folding import check_next, fold_forward, is_late, refold
from springline.sequencer.index_lookup import SegmentCache
from springline.sequencer.orders import (
    MAX_FOREIGN_PATHS,
    AdmitForeignOrder,
    AdmitOrder,
    Admitted,
    Appended,
    Folded,
    FoldOrder,
    Head,
    Opened,
    OpenOrder,
    PendingRound,
    Published,
    PublishOrder,
    RoundStep,
)
from springline.sequencer.requests import write_markers
from springline.sequencer.revision import WrittenRevision, write_refolded, write_revision
from springline.sequencer.rounds import RoundRecord, StoredRound, probe_rounds, read_round
from springline.sequencer.standing import ForeignEvents, read_standing
from springline.sequencer.taking_in import admit_foreign
from springline.sequencer.warm import OnTop, Warm, WarmState
from springline.sequencer.writer import EventsTaken, write_events
from springline.storage.counted import CountedStore
from springline.storage.port import IfAbsent, IfVersion, ObjectStore, Stored, StoreUnknown

ROUNDS_REMEMBERED = 8


class Sequencer:
    """The steps of one workspace. `store` sees the workspace only; `config` says whose events these are."""

    def __init__(self, store: ObjectStore, config: FoldConfig) -> None:
        self._requests = 0
        self._store: ObjectStore = CountedStore(store, self._count)
        self._config = config
        self._scope = Scope(config.tenant, config.workspace)
        self._turn = asyncio.Lock()
        self._warm = WarmState(config)
        self._foreign = ForeignEvents()
        self._cache = SegmentCache()
        self._rounds: OrderedDict[str, StoredRound] = OrderedDict()
        self._refolded: tuple[str, Folded, Warm] | None = None

    async def open(self, order: OpenOrder) -> Opened:
        """Find out where the workspace stands. Reads only; see `Opened`."""
        standing = await read_standing(self._store)
        head = standing.head
        pending = await probe_rounds(self._store, head.rounds_folded)
        for stored in pending[:ROUNDS_REMEMBERED]:
            self._remember(stored)
        listed = await self._foreign.of(self._store, head.foreign)
        foreign = list(dict.fromkeys(path for _, event_paths in listed for path in event_paths))
        return Opened(
            head=head,
            pending=[stored.pending for stored in pending],
            next_round=head.rounds_folded + len(pending) + 1,
            foreign_paths=foreign[:MAX_FOREIGN_PATHS],
            more_foreign=len(foreign) > MAX_FOREIGN_PATHS,
        )

    async def admit(self, order: AdmitOrder) -> Admitted:
        """Judge append requests and create the round's record: from there on its events are kept."""
        async with self._turn:
            try:
                admitted, stored = await admit_own(self._store, self._warm, order)
            except BaseException:
                self._warm.drop()
                raise
            self._remember(stored)
            return admitted

    async def admit_foreign(self, order: AdmitForeignOrder) -> Admitted:
        """Look at foreign events and create the record of the round that accepts them."""
        async with self._turn:
            admitted, stored = await admit_foreign(
                self._store, self._scope, self._warm, self._foreign, self._cache, order
            )
            self._remember(stored)
            return admitted

    async def append(self, step: RoundStep) -> Appended:
        """Put a round's event objects and request markers. A foreign round has none to put."""
        record = (await self._round(step.round)).record
        if record.kind == "foreign":
            return Appended(events=len(record.events), written=0)
        damaged: list[str] = []
        written = 0
        try:
            written = await write_events(self._store, {event.event_id: event.data for event in record.events})
        except EventsTaken as error:
            damaged += error.paths
            written = error.created
        others = await write_markers(self._store, record.requests)
        damaged += [orchestration_request(request_id) for request_id in others]
        return Appended(events=len(record.events), written=written, damaged=damaged)

    async def fold(self, order: FoldOrder) -> Folded:
        """Fold a round onto the state at the order's head, and write all of the next revision but the pointer."""
        async with self._turn:
            before = self._requests
            record = (await self._round(order.round)).record
            refolded = self._refolded
            if refolded is not None and refolded[0] == _attempt_at(order):
                return refolded[1]
            warm = await self._warm.at(self._store, order.head, keep=order.round.record_sha256)
            if warm.on_top is None:
                check_next(record, warm)
            try:
                if is_late(record, warm):
                    folded = await self._refold(order, record, warm)
                else:
                    folded = await self._forward(order, record, warm)
            except BaseException:
                self._warm.drop()
                raise
            return folded.model_copy(update={"store_requests": self._requests - before})

    async def publish(self, order: PublishOrder) -> Published:
        """Move the pointer from the order's head to the folded manifest, or find out who else moved it."""
        path = orchestration_manifest(order.folded.manifest_id)
        head = order.head
        pointer = Pointer(
            manifest_path=path,
            updated_at=format_ms(order.now_ms),
            manifest_id=order.folded.manifest_id,
            epoch=head.epoch,
            parent_pointer_hash=None if head.pointer_sha256 is None else f"sha256:{head.pointer_sha256}",
        )
        data = encode(pointer)
        version = await self._swap(data, head)
        if version is None:
            return Published(kind="lost")
        if self._refolded is not None and self._refolded[2].path == path:
            self._warm.replace(self._refolded[2])
        self._refolded = None
        return Published(
            kind="visible",
            head=Head(
                manifest_id=order.folded.manifest_id,
                manifest_revision=order.manifest_revision,
                pointer_version=version,
                pointer_sha256=pointer_hash(data).removeprefix("sha256:"),
                epoch=head.epoch,
                last_event_id=order.folded.last_event_id,
                events=order.folded.events,
                rounds_folded=order.round.number,
                state_manifest=path,
                foreign=order.folded.foreign,
            ),
        )

    async def _swap(self, data: bytes, head: Head) -> str | None:
        """Replace the pointer; return its new token, or None if another one stands there."""
        path = orchestration_pointer()
        condition = IfAbsent() if head.pointer_version is None else IfVersion(head.pointer_version)
        unclear: StoreUnknown | None = None
        try:
            result = await self._store.put(path, data, condition)
            if isinstance(result, Stored):
                return result.version
        except StoreUnknown as error:
            unclear = error
        there = await self._store.get(path)
        if there is not None and there.data == data:
            return there.version
        if unclear is not None and (None if there is None else there.version) == head.pointer_version:
            # The write may still arrive: only trying again, which finds out, can tell.
            raise unclear
        return None

    async def _forward(self, order: FoldOrder, record: RoundRecord, warm: Warm) -> Folded:
        if warm.on_top is None:
            outcomes = await fold_forward(warm.state, record)
            warm.on_top = OnTop(
                order.round.record_sha256, outcomes, {event.event_id: event.data for event in record.events}
            )
        written = await write_revision(self._store, self._config, order, record, warm)
        warm.on_top.written = written.revision
        kind = "base" if written.is_base else "delta"
        return _folded(order, record, written, warm.on_top.outcomes).model_copy(update={"kind": kind})

    async def _refold(self, order: FoldOrder, record: RoundRecord, warm: Warm) -> Folded:
        """Fold late events into their places; the state that is held stays what it is until the pointer has moved."""
        refolded = await refold(self._store, self._config, warm, record, cache=self._cache)
        written = await write_refolded(self._store, self._config, order, record, warm, refolded)
        folded = _folded(order, record, written, refolded.outcomes).model_copy(
            update={"kind": "refold", "refolded_events": refolded.events}
        )
        revision = written.revision
        at_hand = {**warm.tail, **{event.event_id: event.data for event in record.events}}
        tail = {event_id: at_hand[event_id] for event_id, _ in revision.index.tail if event_id in at_hand}
        refolded.state.accept()
        next_warm = Warm(revision.path, revision.manifest, refolded.state, revision.digest, revision.index, tail)
        self._refolded = (_attempt_at(order), folded, next_warm)
        return folded

    async def _round(self, pending: PendingRound) -> StoredRound:
        known = self._rounds.get(pending.record_sha256)
        if known is None:
            known = await read_round(self._store, pending.number, pending.record_sha256)
            self._remember(known)
        return known

    def _remember(self, stored: StoredRound | None) -> None:
        if stored is None:
            return
        self._rounds[stored.sha256] = stored
        self._rounds.move_to_end(stored.sha256)
        while len(self._rounds) > ROUNDS_REMEMBERED:
            self._rounds.popitem(last=False)

    def _count(self, operation: str, outcome: str) -> None:
        self._requests += 1


def _attempt_at(order: FoldOrder) -> str:
    """Return what attempts at one fold have in common, and no other fold."""
    return f"{order.manifest_revision} {order.round.record_sha256} {order.head.state_manifest}"


def _folded(order: FoldOrder, record: RoundRecord, written: WrittenRevision, outcomes: Counter[EventOutcome]) -> Folded:
    manifest: Manifest = written.revision.manifest
    ours = manifest.springline
    assert ours is not None
    return Folded(
        kind="delta",
        manifest_id=manifest.manifest_id,
        manifest_sha256=written.sha256,
        last_event_id=manifest.watermarks.last_committed_event_id,
        events=ours.events.count,
        outcomes=dict(outcomes),
        digest=ours.digest.state,
        foreign=[one for one in order.head.foreign if one.head not in record.closes],
    )
