"""What the ledger has accepted under each id: a listed event must have these bytes.

An object that was altered and is still an event tells nobody. The published index does; where it cannot be read, the
records of rounds do, which the plan then reads once and leaves as lists in the work folder.
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
from springline.storage.offload import in_thread
from springline.storage.parallel import each
from springline.storage.port import ObjectStore

STRETCH = 50_000
"""Events of one list in the work folder."""
_LISTS_TOGETHER = 4


class AcceptedHashes(Protocol):
    """Knows the bytes that were accepted."""

    async def hashes(self, event_ids: Sequence[str]) -> dict[str, str]:
        """Return the SHA-256 (hex) of those of `event_ids`, ascending, that were accepted. Raises `DamagedObject`."""

    async def is_empty(self) -> bool:
        """Say whether nothing was accepted, or nothing is known of it."""

    async def has_segment(self, path: str) -> bool:
        """Say whether all events of a segment were accepted as they are, for this is one of the ledger's own."""


class Nobody:
    """Nothing is known, and nothing is refused."""

    async def hashes(self, event_ids: Sequence[str]) -> dict[str, str]:
        """Return none."""
        return {}

    async def is_empty(self) -> bool:
        """Say yes."""
        return True

    async def has_segment(self, path: str) -> bool:
        """Say no."""
        return False


class Hashes:
    """Accepted is what is held in memory."""

    def __init__(self, hashes: Mapping[str, str]) -> None:
        self._hashes = hashes

    async def hashes(self, event_ids: Sequence[str]) -> dict[str, str]:
        """Look the ids up."""
        return {event_id: self._hashes[event_id] for event_id in event_ids if event_id in self._hashes}

    async def is_empty(self) -> bool:
        """Say whether nothing is held."""
        return not self._hashes

    async def has_segment(self, path: str) -> bool:
        """Say no: every event is compared."""
        return False


class ByIndex:
    """Accepted as an index says."""

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
    """All lists, and the paths of objects that would say more of what was accepted and cannot be read."""

    stretches: list[Stretch]
    holes: list[str] = []


class ByRounds:
    """Accepted as the lists say that the plan made of all rounds, and of the index as far as it could be read."""

    def __init__(self, store: ObjectStore, path: str) -> None:
        self._store, self._path = store, relative_path(path)
        self._read: AcceptedLists | None = None

    async def hashes(self, event_ids: Sequence[str]) -> dict[str, str]:
        """Look the ids up in the lists that can hold them."""
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
        """Return all accepted ids that do not lie above `last`; None lies above all."""
        some = [one for one in (await self._lists()).stretches if last is None or one.first_id <= last]
        read = await each(self._entries, some, concurrency=_LISTS_TOGETHER)
        return {event_id for entries in read for event_id, _ in entries if last is None or event_id <= last}

    async def holes(self) -> list[str]:
        """Return the paths of the objects that would say more and cannot be read."""
        return (await self._lists()).holes

    async def _entries(self, stretch: Stretch) -> list[tuple[str, str]]:
        return await read_file(self._store, stretch.stored, _ENTRIES.decode, remedy=WORK_AGAIN)

    async def _lists(self) -> AcceptedLists:
        """Return the lists, which are read once."""
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
    """Return what knows the accepted bytes for a plan. Raises `DamagedObject` if it was damaged since."""
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
    """Say whether everything that an index names is there, by its hash; nothing is decoded."""

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
    """Write the lists of what was accepted, and return the path of the list of them, which names the holes as well."""
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
    """Return why a body is not that of its id, None if it is, or if nobody knows."""
    if accepted is None or hashlib.sha256(body).hexdigest() == accepted:
        return None
    message = f"the ledger has accepted another body under this id, with the SHA-256 {accepted}"
    return EventVerdict(RefusalReason.OTHER_BODY, message)
