"""The index of accepted events in the store: read it, extend it by a round's events, and look ids up in it."""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from springline import paths
from springline.published.files import Artifact, read_file, write_file
from springline.published.index import (
    EventsIndex,
    IndexNode,
    NodeRef,
    SegmentRef,
    decode_index,
    decode_node,
    due_for_node,
    due_for_packing,
    due_for_sealing,
    encode_index,
    in_tail,
    is_full,
    may_hold,
    packed,
    sealed,
    with_events,
    with_node,
)
from springline.published.segments import RESTORE_SEGMENT, StoredEvent, read_segment, read_tail, write_segments
from springline.storage.damage import DamagedObject
from springline.storage.offload import in_thread
from springline.storage.parallel import each
from springline.storage.port import ObjectStore

_PACKS_TOGETHER = 8


@dataclass(frozen=True, slots=True)
class AcceptedEvent:
    """An event that the ledger accepts: its id (a canonical ULID), the SHA-256 (hex) of its bytes, and these."""

    event_id: str
    sha256: str
    body: bytes

    @classmethod
    def of(cls, event_id: str, body: bytes) -> AcceptedEvent:
        """Return the event with these bytes."""
        return cls(event_id, hashlib.sha256(body).hexdigest(), body)


@dataclass(frozen=True, slots=True)
class ExtendedIndex:
    """An index and the object that holds it, None for an empty one.

    `damaged`: objects that should have been moved into larger ones and could not be read. The index goes on naming
    them where they are, so that they hold up nothing; an operator should restore them.
    """

    index: EventsIndex
    artifact: Artifact | None
    damaged: list[DamagedObject] = field(default_factory=list)


async def read_index(store: ObjectStore, artifact: Artifact | None) -> EventsIndex:
    """Return the index at `artifact`; None is the empty one. Raises `DamagedObject`, and what the store does."""
    if artifact is None:
        return EventsIndex()
    return await read_file(store, artifact, lambda data: decode_index(data, artifact.path), remedy=RESTORE_SEGMENT)


async def read_node(store: ObjectStore, ref: NodeRef) -> list[SegmentRef]:
    """Return the segments that a node lists. Raises `DamagedObject`, and what the store does."""
    node = await read_file(store, ref, lambda data: decode_node(data, ref.path, ref), remedy=RESTORE_SEGMENT)
    return node.segments


async def extend_index(
    store: ObjectStore,
    index: EventsIndex,
    accepted: Sequence[AcceptedEvent],
    *,
    at_hand: Mapping[str, bytes] | None = None,
) -> ExtendedIndex:
    """Take newly accepted events into the index and write it, with all packs, segments and nodes that are due.

    The bytes of events of the tail that are packed come from `accepted`, from `at_hand` by event id, or from their
    objects. Safe to repeat with the same events: the same objects are written. Raises `ValueError` for an event that
    is in the tail already, `DamagedObject` if other bytes stand at a name to be written, and what the store does.
    """
    damaged: list[DamagedObject] = []
    index = with_events(index, [(event.event_id, event.sha256) for event in accepted])
    index = await _pack(store, index, {**(at_hand or {}), **{e.event_id: e.body for e in accepted}}, damaged)
    index = await _seal(store, index, damaged)
    while segments := due_for_node(index):
        index = with_node(index, await _write_node(store, segments))
    return ExtendedIndex(index, await write_index(store, index), damaged)


async def write_index(store: ObjectStore, index: EventsIndex) -> Artifact | None:
    """Write an index and return its object, None for the empty one. Safe to repeat. Raises as `write_file`."""
    if index.count == 0:
        return None
    parts: list[NodeRef | SegmentRef] = [*index.nodes, *index.segments, *index.packs]
    first = min([one.first_id for one in parts] + [event_id for event_id, _ in index.tail[:1]])
    last = max([one.last_id for one in parts] + [event_id for event_id, _ in index.tail[-1:]])
    return await write_file(store, encode_index(index), lambda name: paths.ledger_index(first, last, name))


async def _pack(
    store: ObjectStore, index: EventsIndex, at_hand: Mapping[str, bytes], damaged: list[DamagedObject]
) -> EventsIndex:
    due = due_for_packing(index)
    if not due:
        return index
    read = await read_tail(store, due, at_hand)
    damaged += read.damaged
    entries = [entry for entry in due if entry[0] in read.bodies]
    written = await write_segments(store, [(event_id, read.bodies[event_id]) for event_id, _ in entries])
    return packed(index, entries, written)


async def _seal(store: ObjectStore, index: EventsIndex, damaged: list[DamagedObject]) -> EventsIndex:
    due = due_for_sealing(index)
    if not due:
        return index

    async def read(pack: SegmentRef) -> list[StoredEvent] | DamagedObject:
        try:
            return await read_segment(store, pack)
        except DamagedObject as error:
            return error

    found = await each(read, due, concurrency=_PACKS_TOGETHER)
    damaged += [one for one in found if isinstance(one, DamagedObject)]
    good = [pack for pack, one in zip(due, found, strict=True) if not isinstance(one, DamagedObject)]
    if not is_full(sum(pack.count for pack in good), sum(pack.raw_bytes for pack in good)):
        return index
    events = sorted(event for one in found if not isinstance(one, DamagedObject) for event in one)
    return sealed(index, good, await write_segments(store, events))


async def _write_node(store: ObjectStore, segments: list[SegmentRef]) -> NodeRef:
    first, last = min(one.first_id for one in segments), max(one.last_id for one in segments)
    data = encode_index(IndexNode(segments))
    artifact = await write_file(store, data, lambda name: paths.ledger_index_node(first, last, name))
    return NodeRef(
        path=artifact.path,
        first_id=first,
        last_id=last,
        count=sum(one.count for one in segments),
        segments=len(segments),
        sha256=artifact.sha256,
        byte_size=artifact.byte_size,
    )


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
