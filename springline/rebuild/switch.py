"""Publishing a rebuilt state: the one step of a rebuild that readers notice, and that the sequencer runs.

See docs/protocol.md#rebuild.

    full       the rebuilt base, with events accepted meanwhile folded on top, replaces the published state;
               it works when the pointer, its manifest or its files are damaged or gone
    catch-up   the listed events above the watermark are folded onto the published state

Everything is written before the pointer moves, by one compare-and-swap. Manifest ids continue.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

from springline.errors import Code, Refused, refused
from springline.paths import (
    orchestration_manifest,
    orchestration_pointer,
    parse_orchestration_manifest,
)
from springline.projection.config import FoldConfig
from springline.published.cached_state import CachedState, StateCache
from springline.published.configuration import RETENTION, SECRET
from springline.published.folding import fold_forward, must_refold, refold
from springline.published.head import StoredManifest, read_head, read_manifest, write_manifest
from springline.published.index import EventsIndex
from springline.published.index_files import AcceptedEvent, SegmentCache, contains, read_index
from springline.published.load import load_state
from springline.published.manifest import (
    NO_MANIFEST,
    DamagedManifest,
    ForeignRevisions,
    Manifest,
    decode_pointer,
)
from springline.published.pointer import PointerMove, PointerWriter
from springline.published.revision import Succession, write_refolded, write_revision
from springline.published.segments import RESTORE_EVENT, read_segment
from springline.rebuild.accepted import AcceptedHashes, Hashes
from springline.rebuild.assemble import RebuiltBase, manifest_of, read_base
from springline.rebuild.fold import overlapping
from springline.rebuild.later import Later, add_accepted, add_rounds, events_after, index_of
from springline.rebuild.messages import RebuildMode, StateSwitched, Switched, SwitchOrder, SwitchStateOrder
from springline.rebuild.recording import Recording, nothing_new, record_new, record_of
from springline.rebuild.split import read_parts, read_split
from springline.sequencer.accepted import Hole, check_no_round_lost, fill_tail, last_round, survey, walk_rounds
from springline.sequencer.opening import Opening, read_opening
from springline.sequencer.rounds import MAX_ROUND_BYTES, RoundEvent, StoredRound, create_round
from springline.sequencer.writer import EventsTaken, write_events, write_round
from springline.storage.damage import DamagedObject
from springline.storage.port import ObjectStore

CAUGHT_UP_AT_ONCE = 100_000
"""Events that a catch-up folds and publishes in one go, in one record; the rest comes with the next."""
LOOKED_BACK = 32
"""How many of the last rounds are read to find the last revision that one was judged on."""


@dataclass(frozen=True, slots=True)
class _Replaced:
    """The published revision that the result replaces, as far as it can be read.

    `pointer_sha256` in hex. `state`: the last manifest of ours, at `state_path`; None if none can be read.
    """

    manifest_id: str
    pointer_version: str | None
    pointer_sha256: str | None
    epoch: int
    rounds_folded: int = 0
    state: Manifest | None = None
    state_path: str | None = None
    foreign: Sequence[ForeignRevisions] = ()

    @classmethod
    def of(cls, opening: Opening) -> _Replaced:
        """Return the published revision of an opened workspace."""
        head = opening.head
        return cls(
            manifest_id=head.manifest_id,
            pointer_version=head.pointer_version,
            pointer_sha256=head.pointer_sha256,
            epoch=head.epoch,
            rounds_folded=head.rounds_folded,
            state=opening.state,
            state_path=head.state_manifest,
            foreign=[ForeignRevisions(one.head, one.back_to) for one in head.foreign],
        )

    def succession(self, order: SwitchStateOrder, revision: str, rounds_folded: int) -> Succession:
        """Return the succession to it, under the names that the order has chosen."""
        return Succession(
            follows=self.manifest_id,
            has_pointer=self.pointer_version is not None,
            epoch=self.epoch,
            rounds_folded=rounds_folded,
            revision=revision,
            delta_id=order.delta_id,
            snapshot_id=order.snapshot_id,
            now_ms=order.now_ms,
            foreign=self.foreign,
        )


@dataclass(frozen=True, slots=True)
class _Result:
    """A stored revision to publish; not `new`: it is already the published one."""

    stored: StoredManifest
    later: int = 0
    folded: int = 0
    more: bool = False
    new: bool = True


async def switch_state(store: ObjectStore, config: FoldConfig, order: SwitchStateOrder) -> StateSwitched:
    """Publish the result of a rebuild. Safe to repeat with the same order, and to run twice at once.

    Raises `Refused` (LEDGER_INCOMPLETE) if accepted events are missing from it and cannot be added, or (UNAVAILABLE) if
    it was made under another configuration, `DamagedObject` and the store's errors; nothing is published then.
    """
    if (done := await _published(store, order)) is not None:
        return done
    if order.switch.mode is RebuildMode.CATCH_UP:
        at = _Replaced.of(await read_opening(store))
        result = await _catch_up(store, config, order, at)
    else:
        at = await _replaced(store)
        result = await _full(store, config, order, at)
    if result is None or (result.new and not await _publish(store, order, at, result)):
        return StateSwitched(kind="lost")
    return _answer(result)


async def _full(store: ObjectStore, config: FoldConfig, order: SwitchStateOrder, at: _Replaced) -> _Result | None:
    """Write the revision of a rebuilt base and events accepted besides; None if another writer was faster."""
    switch = order.switch
    assert switch.base_path is not None
    assert switch.base_sha256 is not None
    rebuilt = await read_base(store, switch.base_path, switch.base_sha256)
    if rebuilt.config_fingerprint != config.fingerprint:
        raise refused(
            Code.UNAVAILABLE,
            f"the rebuild was made by workers with another {RETENTION} or {SECRET} than the one that is to publish it",
            field="rebuild",
            remedy=f"Give every worker the same {RETENTION} and {SECRET}, then start the rebuild again.",
        )
    held = await read_index(store, rebuilt.index)
    index = await index_of(store, at.state)
    later, known = await _later(store, config, order, rebuilt, held, at, index)
    if not switch.allow_missing:
        await check_no_round_lost(store, at.manifest_id, later.last_round)
    if later.missing and not switch.allow_missing:
        raise _incomplete(later.missing)
    await _write_out(store, later)
    if not await _record_new(store, order, at, rebuilt, held, index, later, known):
        return None
    events = later.ascending()
    rounds = rebuilt.rounds_folded if events else max(rebuilt.rounds_folded, later.last_round)
    template = manifest_of(rebuilt, config, at.succession(order, order.base_revision, rounds))
    base = await write_manifest(store, template, is_base=True)
    if not events:
        return _Result(base, folded=rebuilt.events)
    loaded = await load_state(store, base.manifest, config)
    warm = CachedState(base.path, base.manifest, loaded.state, loaded.digest, held)
    warm.state.tracking = True
    succession = at.succession(order, order.manifest_revision, later.last_round)
    stored = await _on_top(store, config, succession, warm, events)
    return _Result(stored, later=len(events), folded=rebuilt.events)


async def _record_new(
    store: ObjectStore,
    order: SwitchStateOrder,
    at: _Replaced,
    rebuilt: RebuiltBase,
    held: EventsIndex,
    index: EventsIndex | None,
    later: Later,
    known: AcceptedHashes,
) -> bool:
    """Record the rebuilt base's events that were never accepted; False if another sequencer has the number."""
    if await nothing_new(store, order, rebuilt.events):
        return True
    recording = Recording(order, at.state_path, later.last_round)
    await record_new(store, recording, held, index, known)
    later.last_round = recording.last_round
    return not recording.taken


async def _catch_up(store: ObjectStore, config: FoldConfig, order: SwitchStateOrder, at: _Replaced) -> _Result | None:
    """Fold the events of rounds that are not folded yet onto the published state; if there are none, listed ones.

    None if another writer was faster.
    """
    folded = at.rounds_folded
    warm = await StateCache(config).at(store, at.state_path)
    later = Later(last_round=folded)
    await add_rounds(store, later, warm.index, after=folded, folded=folded)
    if later.missing:
        raise _incomplete(later.missing)
    number, more = later.last_round, True
    if number > folded:
        await _write_out(store, later)
    else:
        more = await _add_listed(store, order.switch, warm, later)
        if later.events:
            number = folded + 1
            new = [RoundEvent.of(one.event_id, one.body) for one in later.ascending()]
            record = record_of(order, number, new, at.state_path)
            if (await create_round(store, record)).stored.record != record:
                return None
    if number > folded:
        events = later.ascending()
        succession = at.succession(order, order.manifest_revision, number)
        return _Result(await _on_top(store, config, succession, warm, events), folded=len(events), more=more)
    published = await read_head(store)
    assert published is not None
    here = StoredManifest(published.manifest_path, published.manifest, published.manifest_sha256)
    return _Result(here, new=False)


async def _add_listed(store: ObjectStore, switch: SwitchOrder, warm: CachedState, later: Later) -> bool:
    """Add listed events that the ledger has not accepted yet, least id first; True if not all of them fit."""
    split = await read_split(store, switch.plan.work_id, switch.split)
    parts = await read_parts(store, split.receipts)
    least = max(filter(None, (switch.plan.floor, warm.adopted_through)), default="")
    cache, size = SegmentCache(), 0
    for group in overlapping(parts):
        refs = [part.segment for part in group if part.segment is not None]
        listed = [(event_id, body) for ref in refs for event_id, body in await read_segment(store, ref)]
        above = {event_id: body for event_id, body in listed if event_id > least and event_id not in later.events}
        known = await contains(store, warm.index, above, cache=cache)
        for event_id in sorted(above.keys() - known.keys()):
            size += len(above[event_id])
            if len(later.events) >= CAUGHT_UP_AT_ONCE or (later.events and size > MAX_ROUND_BYTES):
                return True
            later.add(AcceptedEvent.of(event_id, above[event_id]))
    return False


async def _later(
    store: ObjectStore,
    config: FoldConfig,
    order: SwitchStateOrder,
    rebuilt: RebuiltBase,
    held: EventsIndex,
    at: _Replaced,
    index: EventsIndex | None,
) -> tuple[Later, AcceptedHashes]:
    """Return the accepted events that a rebuilt base lacks, and the hashes of accepted events.

    Events above the base come from the published index, those since the plan from the round records. If these cannot
    be read, all records of accepted events are, and the rebuild is refused if a hole remains.
    """
    folded = at.rounds_folded
    if at.state is not None and index is not None and order.switch.plan.accepted_by == "index":
        try:
            later = await events_after(store, config, at.state, rebuilt.last_event_id)
            await add_rounds(store, later, held, after=min(rebuilt.rounds_folded, folded), folded=folded)
        except DamagedObject:
            later = Later()
        else:
            pending = [event for stored in later.rounds for event in stored.record.events]
            return later, Hashes({event.event_id: event.sha256 for event in pending})
    ours = None if at.state is None else at.state.springline
    count = None if ours is None else ours.events.count
    accepted = await survey(store, index, folded=None if ours is None else folded, count=count)
    if accepted.holes and not order.switch.allow_missing:
        raise _unknown(accepted.holes)
    later = Later()
    await add_accepted(store, later, held, accepted, index)
    return later, Hashes(accepted.hashes)


async def _on_top(
    store: ObjectStore, config: FoldConfig, succession: Succession, warm: CachedState, events: Sequence[AcceptedEvent]
) -> StoredManifest:
    """Write the revision of a state with more events, ascending by id, late ones included."""
    refolds = must_refold(events, warm)
    if refolds or warm.packs_with(len(events)):
        await fill_tail(store, warm)
    if refolds:
        refolded = await refold(store, config, warm, events, cache=SegmentCache())
        written = await write_refolded(store, config, succession, events, warm, refolded)
    else:
        await fold_forward(warm.state, events)
        written = await write_revision(store, config, succession, events, warm)
    # Events of segments may have no object of their own, and the index's tail is read from objects.
    tail = {event_id for event_id, _ in written.revision.index.tail}
    try:
        await write_events(store, {one.event_id: one.body for one in events if one.event_id in tail})
    except EventsTaken as error:
        raise DamagedObject(error.paths[0], "holds another event than the accepted one", RESTORE_EVENT) from error
    path = orchestration_manifest(written.revision.manifest.manifest_id)
    return StoredManifest(path, written.revision.manifest, written.sha256)


async def _write_out(store: ObjectStore, later: Later) -> None:
    """Write the event objects and request markers of rounds that become visible with this.

    A round that is visible without its markers could be appended twice.
    """
    for stored in later.rounds:
        record = stored.record
        if record.kind == "own" and all(event.is_whole for event in record.events):
            await write_round(store, record)  # Other rounds have nothing to write out, or were visible long ago.


# What is published.


async def _replaced(store: ObjectStore) -> _Replaced:
    """Return the revision that a full rebuild replaces, as far as it can be read; the rebuild does without it."""
    try:
        found = _Replaced.of(await read_opening(store))
    except DamagedObject:
        return await _lost(store)
    if found.pointer_version is None and found.state is None:
        return await _lost(store)
    return found if found.state is None or found.state.springline is not None else replace(found, state=None)


async def _lost(store: ObjectStore) -> _Replaced:
    """Return the point to go on from if pointer or manifest is gone or damaged.

    Manifest ids continue after the manifest that the last round was judged on, which its record names.
    """
    stored = await store.get(orchestration_pointer())
    manifest_id, epoch = NO_MANIFEST, 0
    if stored is not None:
        try:
            pointer = decode_pointer(stored.data, orchestration_pointer())
            manifest_id, epoch = pointer.manifest_id, pointer.epoch
        except DamagedManifest:
            manifest_id = NO_MANIFEST
    last = await _last_round_manifest(store)
    return _Replaced(
        manifest_id=max(manifest_id, last or NO_MANIFEST),
        pointer_version=None if stored is None else stored.version,
        pointer_sha256=None if stored is None else hashlib.sha256(stored.data).hexdigest(),
        epoch=epoch,
    )


async def _last_round_manifest(store: ObjectStore) -> str | None:
    """Return the id of the manifest that the last rounds were judged on: about the last published one."""
    last = await last_round(store)
    judged_on: list[str] = []
    async for some in walk_rounds(store, max(0, last - LOOKED_BACK), through=last):
        begun_on = [one.record.begun_on for one in some if isinstance(one, StoredRound)]
        judged_on += [number for path in begun_on if path and (number := parse_orchestration_manifest(path))]
    return max(judged_on, default=None)


async def _published(store: ObjectStore, order: SwitchStateOrder) -> StateSwitched | None:
    """Return the answer if an earlier attempt of this order has published already."""
    try:
        head = await read_head(store)
    except DamagedObject:
        return None
    if head is None or head.manifest.revision_ulid not in (order.base_revision, order.manifest_revision):
        return None
    stored = StoredManifest(head.manifest_path, head.manifest, head.manifest_sha256)
    ours, before = head.manifest.springline, 0
    switch = order.switch
    if switch.mode is RebuildMode.CATCH_UP:
        before = await _events_before(store, head.manifest)
    elif switch.base_path is not None and switch.base_sha256 is not None:
        before = (await read_base(store, switch.base_path, switch.base_sha256)).events
    added = 0 if ours is None else ours.events.count - before
    if switch.mode is RebuildMode.CATCH_UP:
        # Only the attempt that published knew whether there were more events: the next catch-up finds out.
        return _answer(_Result(stored, folded=added, more=True))
    return _answer(_Result(stored, later=added, folded=before))


async def _events_before(store: ObjectStore, manifest: Manifest) -> int:
    path = manifest.previous_manifest_path
    found = await read_manifest(store, path) if path is not None else None
    ours = found.manifest.springline if found is not None else None
    return 0 if ours is None else ours.events.count


async def _publish(store: ObjectStore, order: SwitchStateOrder, at: _Replaced, result: _Result) -> bool:
    """Move the pointer; False if another writer has moved it."""
    move = PointerMove(
        manifest_id=result.stored.manifest.manifest_id,
        manifest_sha256=result.stored.sha256,
        epoch=at.epoch,
        now_ms=order.now_ms,
        from_version=at.pointer_version,
        from_sha256=at.pointer_sha256,
    )
    return await PointerWriter().publish(store, move) is not None


def _answer(result: _Result) -> StateSwitched:
    manifest = result.stored.manifest
    ours = manifest.springline
    switched = Switched(
        manifest_id=manifest.manifest_id,
        manifest_revision=manifest.revision_ulid,
        digest=None if ours is None else ours.digest.state,
        events=0 if ours is None else ours.events.count,
        folded=result.folded,
        later_events=result.later,
        last_event_id=manifest.watermarks.last_committed_event_id,
    )
    return StateSwitched(kind="visible", switched=switched, more=result.more)


def _unknown(holes: Sequence[Hole]) -> Refused:
    named = ", ".join(f"{hole.path} {hole.why}" for hole in holes[:3])
    return refused(
        Code.LEDGER_INCOMPLETE,
        f"{len(holes)} object(s) that say what was accepted cannot be read, and nothing else tells; nothing was "
        f"published. First: {named}",
        field="rebuild_manifest_path",
        value=holes[0].path,
        remedy="Restore what is named from a copy, or start the rebuild again with allow_missing to publish a state "
        "without what only it would tell.",
    )


def _incomplete(missing: list[str]) -> Refused:
    return refused(
        Code.LEDGER_INCOMPLETE,
        f"{len(missing)} accepted event(s) are neither listed nor to be found; nothing was published. "
        f"First: {', '.join(missing[:3])}",
        field="rebuild_manifest_path",
        value=missing[0],
        remedy="Restore what is named, or start the rebuild again with allow_missing to publish a state without it.",
    )
