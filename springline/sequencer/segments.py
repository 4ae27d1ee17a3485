"""Reading and writing the objects that events lie in: segments, packs, and event objects of the tail.

See docs/formats.md#segments.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from springline import paths
from springline.ledger.segment import DamagedSegment, decode_segment, encode_segment, line_size
from springline.projection.index import SegmentRef, TailEntry, pieces
from springline.sequencer.artifacts import read_file, write_file
from springline.sequencer.damage import DamagedObject
from springline.sequencer.offload import in_thread
from springline.sequencer.parallel import each
from springline.storage.port import ObjectStore

PUTS_TOGETHER = 4

StoredEvent = tuple[str, bytes]
"""Id of an event and its exact bytes."""

RESTORE_SEGMENT = (
    "rebuild in mode `full` with a list of `springline rebuild plan --from-rounds`, or restore the object from a copy"
)
RESTORE_EVENT = (
    "run `springline ledger restore` with this path, or restore the object from a copy: the ledger has accepted the "
    "event with these bytes"
)


async def read_segment(store: ObjectStore, ref: SegmentRef) -> list[StoredEvent]:
    """Return the events of a segment or pack, ascending by id. Raises `DamagedObject`, and what the store does."""

    def decode(data: bytes) -> list[StoredEvent]:
        events = decode_segment(data)
        if (len(events), events[0][0], events[-1][0]) != (ref.count, ref.first_id, ref.last_id):
            raise DamagedSegment(
                f"it holds {len(events)} events from {events[0][0]} to {events[-1][0]}, "
                f"not {ref.count} from {ref.first_id} to {ref.last_id}"
            )
        return events

    return await read_file(store, ref, decode, remedy=RESTORE_SEGMENT)


async def write_segments(store: ObjectStore, events: Sequence[StoredEvent]) -> list[SegmentRef]:
    """Write events, strictly ascending by canonical id, as full segments, and as a pack if some are left over.

    Safe to repeat. Raises as `write_file`, and `ValueError` for events that are out of order.
    """
    sizes = [line_size(*event) for event in events]

    async def write(piece: range) -> SegmentRef:
        some = events[piece.start : piece.stop]
        data = await in_thread(lambda: encode_segment(some))
        return await write_encoded(store, some, data, sum(sizes[piece.start : piece.stop]))

    return await each(write, pieces(sizes), concurrency=PUTS_TOGETHER)


async def write_encoded(store: ObjectStore, events: Sequence[StoredEvent], data: bytes, raw_bytes: int) -> SegmentRef:
    """Write the segment of some events, which is `data` and has `raw_bytes` of text. As `write_segments`."""
    first, last = events[0][0], events[-1][0]
    artifact = await write_file(store, data, lambda name: paths.ledger_segment(first, last, name))
    return SegmentRef(
        path=artifact.path,
        first_id=first,
        last_id=last,
        count=len(events),
        sha256=artifact.sha256,
        byte_size=artifact.byte_size,
        raw_bytes=raw_bytes,
    )


@dataclass(frozen=True, slots=True)
class TailRead:
    """Events of the tail by id, and what is wrong with the objects of the others, in order of ids."""

    bodies: dict[str, bytes] = field(default_factory=dict)
    damaged: list[DamagedObject] = field(default_factory=list)


async def read_tail(
    store: ObjectStore, entries: Sequence[TailEntry], at_hand: Mapping[str, bytes] | None = None
) -> TailRead:
    """Return the bytes of events that lie in objects of their own.

    `at_hand`: bytes by event id, which are not read. Nothing is raised for a missing or altered object, because
    others may be good; only what the store does.
    """
    known = {} if at_hand is None else at_hand
    missing = [event_id for event_id, _ in entries if event_id not in known]
    where = [paths.canonical_ulid_event(event_id) for event_id in missing]
    found = dict(zip(missing, await store.read_many(where), strict=True))
    read = TailRead()
    for event_id, sha256 in entries:
        if event_id in known:
            read.bodies[event_id] = known[event_id]
            continue
        body = found[event_id]
        if body is not None and hashlib.sha256(body).hexdigest() == sha256:
            read.bodies[event_id] = body
            continue
        why = "is missing" if body is None else f"holds other bytes than those with the SHA-256 {sha256}"
        read.damaged.append(DamagedObject(paths.canonical_ulid_event(event_id), why, RESTORE_EVENT))
    return read
