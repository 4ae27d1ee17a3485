"""Event objects written anew, with the very bytes that were accepted: from segments and round records.

An event is kept in up to three places: its own object, the record of its round until that is emptied, and a segment
once it is packed. Whoever lists events by their objects needs the first; this makes it of the others.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from springline.ledger.event_ids import is_canonical
from springline.paths import ObjectPath, canonical_ulid_event, event_id_from_ledger_path, orchestration_round
from springline.published.head import read_head
from springline.published.index import EventsIndex, may_hold
from springline.published.index_files import read_index, read_node
from springline.published.segments import read_segment
from springline.sequencer.accepted import Hole, check_no_round_lost, walk_rounds
from springline.storage.damage import DamagedObject
from springline.storage.parallel import each
from springline.storage.port import IfVersion, ObjectStore, Stored, StoredObject
from springline.storage.resolve import Other, put_once


class RestoreOutcome(StrEnum):
    """What became of one event's object."""

    WHOLE = "whole"
    """It has the accepted bytes; nothing was done."""
    RESTORED = "restored"
    """It was missing and has been written."""
    REPLACED = "replaced"
    """It held other bytes and has been written over."""
    ALTERED = "altered"
    """It holds other bytes, and was left as it is."""
    LOST = "lost"
    """The event was accepted, and its bytes are nowhere to be had."""
    UNKNOWN = "unknown"
    """Nothing says that such an event was accepted."""
    UNCLEAR = "unclear"
    """Nothing that can be read says that it was accepted, and not everything that might say so can be read."""
    NO_EVENT = "no_event"
    """This is no event's path."""


DONE = frozenset({RestoreOutcome.WHOLE, RestoreOutcome.RESTORED, RestoreOutcome.REPLACED})


@dataclass(frozen=True, slots=True)
class Restored:
    """What became of one path. `found_in`: where the accepted bytes were; `sha256`: what they must be.

    `unread`: the first object that might say that the event was accepted, and cannot be read.
    """

    path: str
    outcome: RestoreOutcome
    found_in: str | None = None
    sha256: str | None = None
    unread: str | None = None


@dataclass(slots=True)
class _Known:
    """What is known of the wanted events: accepted hashes, and bytes with the object that had them.

    `holes`: paths of objects that might say more and cannot be read.
    """

    wanted: set[str]
    hashes: dict[str, str] = field(default_factory=dict)
    bodies: dict[str, tuple[bytes, str]] = field(default_factory=dict)
    holes: list[str] = field(default_factory=list)
    manifest_id: str | None = None
    """Of the published revision, if that is ours."""

    @property
    def without_body(self) -> set[str]:
        return self.wanted - self.bodies.keys()

    def take(self, event_id: str, body: bytes, found_in: str) -> None:
        self.hashes.setdefault(event_id, hashlib.sha256(body).hexdigest())
        self.bodies.setdefault(event_id, (body, found_in))


async def restore_events(store: ObjectStore, paths: Sequence[str], *, replace: bool) -> list[Restored]:
    """Write the objects of accepted events that are missing and, with `replace`, those that were altered.

    `paths` are paths or ids of events. Nothing is listed, and nothing is written but accepted bytes under an event's
    own name. Safe to repeat, and while everything runs. What of the index or the records cannot be read is passed over;
    then an event of which nothing else tells is `unclear`.
    """
    ids = {path: _id_of(path) for path in dict.fromkeys(paths)}
    known = _Known({one for one in ids.values() if one is not None})
    await _look_in_segments(store, known)
    await _look_in_rounds(store, known)

    async def restore(path: str) -> Restored:
        event_id = ids[path]
        if event_id is None:
            return Restored(path, RestoreOutcome.NO_EVENT)
        return await _restore(store, event_id, known, replace=replace)

    return await each(restore, ids)


async def _restore(store: ObjectStore, event_id: str, known: _Known, *, replace: bool) -> Restored:
    path = canonical_ulid_event(event_id)
    sha256 = known.hashes.get(event_id)
    if sha256 is None:
        if known.holes:
            return Restored(path, RestoreOutcome.UNCLEAR, unread=known.holes[0])
        return Restored(path, RestoreOutcome.UNKNOWN)
    stored = await store.get(path)
    if stored is not None and hashlib.sha256(stored.data).hexdigest() == sha256:
        return Restored(path, RestoreOutcome.WHOLE, path, sha256)
    if event_id not in known.bodies:
        return Restored(path, RestoreOutcome.LOST, None, sha256)
    body, found_in = known.bodies[event_id]
    return Restored(path, await _write(store, path, stored, body, replace=replace), found_in, sha256)


async def _write(
    store: ObjectStore, path: ObjectPath, stored: StoredObject | None, body: bytes, *, replace: bool
) -> RestoreOutcome:
    if stored is None:
        other = isinstance(await put_once(store, path, body), Other)
        return RestoreOutcome.ALTERED if other else RestoreOutcome.RESTORED
    if not replace:
        return RestoreOutcome.ALTERED
    put = await store.put(path, body, IfVersion(stored.version))
    return RestoreOutcome.REPLACED if isinstance(put, Stored) else RestoreOutcome.ALTERED


def _id_of(path: str) -> str | None:
    """Return the id of the event that a path, or its id alone, names."""
    if is_canonical(path):
        return path
    event_id = event_id_from_ledger_path(path)
    if event_id is None or not is_canonical(event_id) or path != canonical_ulid_event(event_id):
        return None
    return event_id


async def _look_in_segments(store: ObjectStore, known: _Known) -> None:
    index = await _published_index(store, known)
    known.hashes |= {event_id: sha256 for event_id, sha256 in index.tail if event_id in known.wanted}
    refs = [*index.packs, *index.segments]
    for node, _ in may_hold(index.nodes, known.wanted):
        try:
            refs += await read_node(store, node)
        except DamagedObject as error:
            known.holes.append(error.path)
    for ref, inside in may_hold(refs, known.wanted):
        try:
            events = await read_segment(store, ref)
        except DamagedObject as error:
            known.holes.append(error.path)
            continue
        for event_id, body in events:
            if event_id in inside:
                known.take(event_id, body, ref.path)


async def _published_index(store: ObjectStore, known: _Known) -> EventsIndex:
    try:
        head = await read_head(store)
        ours = None if head is None else head.manifest.springline
        known.manifest_id = None if head is None or ours is None else head.manifest.manifest_id
        return await read_index(store, None if ours is None else ours.events.index)
    except DamagedObject as error:
        known.holes.append(error.path)
        return EventsIndex()


async def _look_in_rounds(store: ObjectStore, known: _Known) -> None:
    if not known.without_body:
        return
    last = 0
    async for some in walk_rounds(store, 0):
        for one in some:
            last += 1
            if isinstance(one, Hole):
                known.holes.append(one.path)
                continue
            for event in one.record.events:
                if event.event_id not in known.without_body:
                    continue
                accepted = known.hashes.setdefault(event.event_id, event.sha256)
                if hashlib.sha256(event.data).hexdigest() == accepted:
                    known.take(event.event_id, event.data, orchestration_round(one.record.number))
    if known.manifest_id is not None:
        try:
            await check_no_round_lost(store, known.manifest_id, last)
        except DamagedObject as error:
            known.holes.append(error.path)
