"""Which of many event ids the ledger has accepted, and how many up to one: without reading more than may hold them."""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterable, Sequence

from springline.projection.index import EventsIndex, SegmentRef, in_tail, may_hold
from springline.sequencer.events_index import read_node
from springline.sequencer.offload import in_thread
from springline.sequencer.parallel import each
from springline.sequencer.segments import StoredEvent, read_segment
from springline.storage.port import ObjectStore

_SEGMENTS_TOGETHER = 4
_NODES_TOGETHER = 4
_ID, _HASH = 26, 32
_SPARSE = 20
"""One in so many ids of a segment: from there on, going through all of them costs less than looking each up."""


class SegmentIds:
    """Ids and hashes of a segment's events in 58 bytes each, by id."""

    __slots__ = ("_hashes", "_ids")

    def __init__(self, events: Sequence[StoredEvent]) -> None:
        self._ids = b"".join(event_id.encode() for event_id, _ in events)
        self._hashes = b"".join(hashlib.sha256(body).digest() for _, body in events)

    def __len__(self) -> int:
        return len(self._ids) // _ID

    def __getitem__(self, place: int) -> bytes:
        return self._ids[place * _ID : (place + 1) * _ID]

    @property
    def size(self) -> int:
        """Bytes of memory, nearly."""
        return len(self._ids) + len(self._hashes)

    def up_to(self, event_id: str) -> int:
        """Return how many ids do not lie above `event_id`."""
        return bisect_right(self, event_id.encode())

    def sha256_of(self, event_id: str) -> str | None:
        """Return the SHA-256 (hex) of an event, or None if it is not here."""
        place = self.up_to(event_id) - 1
        if place < 0 or self[place] != event_id.encode():
            return None
        return self._hash(place)

    def hashes(self, event_ids: Sequence[str]) -> dict[str, str]:
        """Return the SHA-256 (hex) of those of many events that are here; in one pass if they are very many."""
        if len(event_ids) < len(self) // _SPARSE:
            found = ((event_id, self.sha256_of(event_id)) for event_id in event_ids)
            return {event_id: sha256 for event_id, sha256 in found if sha256 is not None}
        text = self._ids.decode("ascii")
        places = {text[at : at + _ID]: at // _ID for at in range(0, len(text), _ID)}
        return {event_id: self._hash(places[event_id]) for event_id in event_ids if event_id in places}

    def _hash(self, place: int) -> str:
        return self._hashes[place * _HASH : (place + 1) * _HASH].hex()


class SegmentCache:
    """Ids of the segments looked at last, `most_bytes` at most: segments never change, their paths name them."""

    def __init__(self, most_bytes: int = 32 * 1024 * 1024) -> None:
        self._most = most_bytes
        self._size = 0
        self._held: OrderedDict[str, SegmentIds] = OrderedDict()

    def get(self, path: str) -> SegmentIds | None:
        """Return the ids of a segment, or None if they have to be read."""
        found = self._held.get(path)
        if found is not None:
            self._held.move_to_end(path)
        return found

    def put(self, path: str, ids: SegmentIds) -> None:
        """Keep the ids of a segment that is not held, and forget those not used for longest."""
        if path in self._held or ids.size > self._most:
            return
        self._held[path] = ids
        self._size += ids.size
        while self._size > self._most:
            self._size -= self._held.popitem(last=False)[1].size

    @property
    def size(self) -> int:
        """Bytes held."""
        return self._size


async def contains(
    store: ObjectStore, index: EventsIndex, event_ids: Iterable[str], *, cache: SegmentCache | None = None
) -> dict[str, str]:
    """Return those of `event_ids` that the ledger has accepted, with the SHA-256 (hex) of their bytes.

    Only nodes, packs and segments whose range holds an id are read, `cache` spares the latter. Raises
    `DamagedObject` for one of them, and what the store does.
    """
    wanted = set(event_ids)
    found = in_tail(index, wanted)
    wanted -= found.keys()
    nodes = list(may_hold(index.nodes, wanted))
    listed = await each(lambda pair: read_node(store, pair[0]), nodes, concurrency=_NODES_TOGETHER)
    held = SegmentCache() if cache is None else cache

    async def look(pair: tuple[SegmentRef, list[str]]) -> dict[str, str]:
        ref, inside = pair
        return (await _ids_of(store, ref, held)).hashes(inside)

    refs = [*index.packs, *index.segments, *(ref for segments in listed for ref in segments)]
    for some in await each(look, may_hold(refs, wanted), concurrency=_SEGMENTS_TOGETHER):
        found |= some
    return found


async def count_through(
    store: ObjectStore, index: EventsIndex, event_id: str | None, *, cache: SegmentCache | None = None
) -> int:
    """Return how many accepted events do not lie above `event_id`; None lies below all.

    What lies wholly on one side is not read. Raises as `contains`.
    """
    if event_id is None:
        return 0
    held = SegmentCache() if cache is None else cache
    across_nodes = [ref for ref in index.nodes if ref.first_id <= event_id < ref.last_id]
    listed = await each(lambda ref: read_node(store, ref), across_nodes, concurrency=_NODES_TOGETHER)
    count = sum(ref.count for ref in index.nodes if ref.last_id <= event_id)
    refs = [*index.packs, *index.segments, *(ref for segments in listed for ref in segments)]
    count += sum(ref.count for ref in refs if ref.last_id <= event_id)

    async def part(ref: SegmentRef) -> int:
        return (await _ids_of(store, ref, held)).up_to(event_id)

    across = [ref for ref in refs if ref.first_id <= event_id < ref.last_id]
    count += sum(await each(part, across, concurrency=_SEGMENTS_TOGETHER))
    return count + sum(one <= event_id for one, _ in index.tail)


async def _ids_of(store: ObjectStore, ref: SegmentRef, cache: SegmentCache) -> SegmentIds:
    ids = cache.get(ref.path)
    if ids is None:
        events = await read_segment(store, ref)
        ids = await in_thread(lambda: SegmentIds(events))
        cache.put(ref.path, ids)
    return ids
