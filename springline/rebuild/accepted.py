"""The hashes that the ledger has accepted by event id: a listed event must have these bytes.

An object that was altered may still be a valid event, so the object itself proves nothing. The published index has the
hashes; if it cannot be read, the round records have them, which the plan then reads once and writes as lists into the
work folder.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec
from msgspec import Struct

from springline.ledger.request import RefusalReason
from springline.paths import ObjectPath, content_hash12, rebuild_accepted, relative_path
from springline.published.files import Artifact, read_file, write_file
from springline.published.head import read_manifest
from springline.published.index import EventsIndex, SegmentRef
from springline.published.index_files import SegmentCache, contains, read_node
from springline.rebuild.later import index_of
from springline.rebuild.messages import RebuildPlan
from springline.rebuild.parts import WORK_AGAIN
from springline.sequencer.accepted import AcceptedSet
from springline.sequencer.foreign import EventVerdict
from springline.storage.damage import DamagedObject
from springline.storage.port import ObjectStore
from springline.storage.threads import in_thread
from springline.storage.together import each

STRETCH = 50_000
"""Events of one list in the work folder."""
_LISTS_TOGETHER = 4


class AcceptedHashes(Protocol):
    """Looks up the hashes that were accepted."""

    async def hashes(self, event_ids: Sequence[str]) -> dict[str, str]:
        """Return the SHA-256 (hex) of those of `event_ids`, ascending, that were accepted. Raises `DamagedObject`."""

    async def is_empty(self) -> bool:
        """Say whether no accepted event is known."""

    async def has_segment(self, path: str) -> bool:
        """Say whether the segment is the ledger's own, so that all its events were accepted as they are."""


class Nobody:
    """No hash is known, so no event is refused."""

    async def hashes(self, event_ids: Sequence[str]) -> dict[str, str]:
        """Return an empty mapping."""
        return {}

    async def is_empty(self) -> bool:
        """Say yes."""
        return True

    async def has_segment(self, path: str) -> bool:
        """Say no."""
        return False


class Hashes:
    """Hashes in memory."""

    def __init__(self, hashes: Mapping[str, str]) -> None:
        self._hashes = hashes

    async def hashes(self, event_ids: Sequence[str]) -> dict[str, str]:
        """Look the ids up."""
        return {event_id: self._hashes[event_id] for event_id in event_ids if event_id in self._hashes}

    async def is_empty(self) -> bool:
        """Say whether there are no hashes."""
        return not self._hashes

    async def has_segment(self, path: str) -> bool:
        """Say no: every event is compared."""
        return False


class ByIndex:
    """Hashes of an index of events."""

    def __init__(self, store: ObjectStore, index: EventsIndex) -> None:
        self._store, self._index = store, index
        self._cache = SegmentCache()
        self._own: set[str] | None = None

    async def hashes(self, event_ids: Sequence[str]) -> dict[str, str]:
        """Look the ids up in the index's segments."""
        return await contains(self._store, self._index, event_ids, cache=self._cache)

    async def is_empty(self) -> bool:
        """Say whether the index is empty."""
        return not self._index.count

    async def has_segment(self, path: str) -> bool:
        """Say whether the index names it."""
        if self._own is None:
            nodes = await each(lambda ref: read_node(self._store, ref), self._index.nodes)
            own = [*self._index.segments, *self._index.packs, *(ref for segments in nodes for ref in segments)]
            self._own = {ref.path for ref in own}
        return path in self._own


class Stretch(Struct, frozen=True):
    """A list of accepted events from `first_id` to `last_id`."""

    first_id: str
    last_id: str
    stored: Artifact


class AcceptedLists(Struct, frozen=True):
    """All lists, and the paths of the holes: objects that may name more accepted events and cannot be read."""

    stretches: list[Stretch]
    holes: list[str] = []


class ByRounds:
    """Hashes of the lists that the plan made from all round records, and from the readable part of the index."""

    def __init__(self, store: ObjectStore, path: str) -> None:
        self._store, self._path = store, relative_path(path)
        self._read: AcceptedLists | None = None

    async def hashes(self, event_ids: Sequence[str]) -> dict[str, str]:
        """Look the ids up in the lists whose range has them."""
        stretches = (await self._lists()).stretches if event_ids else []
        if not stretches:
            return {}
        wanted, found = set(event_ids), dict[str, str]()
        first, last = min(wanted), max(wanted)
        for one in stretches:
            if one.first_id <= last and first <= one.last_id:
                found |= {event_id: sha256 for event_id, sha256 in await self._entries(one) if event_id in wanted}
        return found

    async def is_empty(self) -> bool:
        """Say whether the lists are empty."""
        return not (await self._lists()).stretches

    async def has_segment(self, path: str) -> bool:
        """Say no: every event is compared."""
        return False

    async def ids_through(self, last: str | None) -> set[str]:
        """Return all accepted ids at or below `last`; None is above all."""
        some = [one for one in (await self._lists()).stretches if last is None or one.first_id <= last]
        read = await each(self._entries, some, concurrency=_LISTS_TOGETHER)
        return {event_id for entries in read for event_id, _ in entries if last is None or event_id <= last}

    async def holes(self) -> list[str]:
        """Return the paths of objects that may name more accepted events and cannot be read."""
        return (await self._lists()).holes

    async def _entries(self, stretch: Stretch) -> list[tuple[str, str]]:
        return await read_file(self._store, stretch.stored, _ENTRIES.decode, remedy=WORK_AGAIN)

    async def _lists(self) -> AcceptedLists:
        """Return the lists; the first call reads them."""
        if self._read is None:
            stored = await self._store.get(self._path)
            if stored is None:
                raise DamagedObject(self._path, "is gone", WORK_AGAIN)
            if content_hash12(stored.data) not in self._path:
                raise DamagedObject(self._path, "holds other bytes than its name says", WORK_AGAIN)
            is_older = stored.data.startswith(b"[")
            self._read = AcceptedLists(_STRETCHES.decode(stored.data)) if is_older else _LISTS.decode(stored.data)
        return self._read


_ENTRIES = msgspec.json.Decoder(list[tuple[str, str]])
_STRETCHES = msgspec.json.Decoder(list[Stretch])
_LISTS = msgspec.json.Decoder(AcceptedLists)


async def accepted_of(store: ObjectStore, plan: RebuildPlan) -> AcceptedHashes:
    """Return the accepted hashes for a plan. Raises `DamagedObject` if their source was damaged since."""
    if plan.accepted_path is not None:
        return ByRounds(store, plan.accepted_path)
    if plan.accepted_by is None or plan.manifest_path is None:
        return Nobody()
    found = await read_manifest(store, plan.manifest_path)
    index = await index_of(store, None if found is None else found.manifest)
    if index is None:
        raise DamagedObject(plan.manifest_path, "or its index was damaged since the rebuild was planned", "start again")
    return ByIndex(store, index)


async def counts_of(store: ObjectStore, index: EventsIndex | None) -> dict[str, int]:
    """Return how many events each segment of an index has, by path; none if it cannot be read."""
    if index is None:
        return {}
    try:
        nodes = await each(lambda ref: read_node(store, ref), index.nodes)
    except DamagedObject:
        return {}
    refs = [*index.segments, *index.packs, *(ref for segments in nodes for ref in segments)]
    return {ref.path: ref.count for ref in refs}


async def is_whole(store: ObjectStore, index: EventsIndex) -> bool:
    """Say whether all objects that an index names exist and match their hashes; decodes none of them."""

    async def is_there(ref: SegmentRef) -> bool:
        try:
            await read_file(store, ref, len)
        except DamagedObject:
            return False
        return True

    try:
        nodes = await each(lambda ref: read_node(store, ref), index.nodes)
    except DamagedObject:
        return False
    return all(await each(is_there, [*index.segments, *index.packs, *(ref for refs in nodes for ref in refs)]))


async def write_accepted(store: ObjectStore, work_id: str, accepted: AcceptedSet) -> ObjectPath:
    """Write the lists of accepted events, and return the path of the list of lists, which also names the holes."""
    entries = sorted(accepted.hashes.items())

    async def write(start: int) -> Stretch:
        stretch = entries[start : start + STRETCH]
        return Stretch(stretch[0][0], stretch[-1][0], await _write(store, work_id, stretch))

    stretches = await each(write, range(0, len(entries), STRETCH), concurrency=_LISTS_TOGETHER)
    lists = AcceptedLists(stretches, [hole.path for hole in accepted.holes])
    return relative_path((await _write(store, work_id, lists)).path)


async def _write(store: ObjectStore, work_id: str, value: object) -> Artifact:
    data = await in_thread(lambda: msgspec.json.encode(value))
    return await write_file(store, data, lambda digest: rebuild_accepted(work_id, digest))


def judge_hash(body: bytes, accepted: str | None) -> EventVerdict | None:
    """Return why a body is not the accepted one, None if it is, or if the accepted hash is unknown."""
    if accepted is None or hashlib.sha256(body).hexdigest() == accepted:
        return None
    message = f"the ledger has accepted another body under this id, with the SHA-256 {accepted}"
    return EventVerdict(RefusalReason.OTHER_BODY, message)
