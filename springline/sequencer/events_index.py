"""The index of accepted events in the store: read it, and extend it by a round's events.

See docs/formats.md#events-index.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from springline import paths
from springline.projection.index import (
    EventsIndex,
    Node,
    NodeRef,
    SegmentRef,
    decode_index,
    decode_node,
    due_for_node,
    due_for_packing,
    due_for_sealing,
    encode_index,
    is_full,
    packed,
    sealed,
    with_events,
    with_node,
)
from springline.projection.table_paths import Artifact
from springline.sequencer.artifacts import read_file, write_file
from springline.sequencer.damage import DamagedObject
from springline.sequencer.parallel import each
from springline.sequencer.segments import RESTORE_SEGMENT, StoredEvent, read_segment, read_tail, write_segments
from springline.storage.port import ObjectStore

_PACKS_TOGETHER = 8


@dataclass(frozen=True, slots=True)
class AcceptedEvent:
    """An event that the ledger accepts: its id (a canonical ULID), the SHA-256 (hex) of its bytes, and these."""

    event_id: str
    sha256: str
    body: bytes


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
    data = encode_index(Node(segments))
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
