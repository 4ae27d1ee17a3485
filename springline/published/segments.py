"""Segments and packs: many events in one immutable object, as exactly the bytes they have in the ledger.

See docs/formats.md#segments.

The content is JSON lines compressed with zstd, ascending by event id: `zstd -dc FILE | jq` reads it. An event's line is
its body; a body that has line breaks, or does not begin with `{`, is written as a JSON string. The newest events,
the tail, have objects of their own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import pyarrow as pa
from msgspec import DecodeError, Struct
from msgspec.json import Decoder, encode

from springline import paths
from springline.errors import InvariantViolated
from springline.published.files import read_file, write_file
from springline.published.index import SegmentRef, TailEntry, pieces
from springline.storage.damage import DamagedObject
from springline.storage.port import ObjectStore
from springline.storage.threads import in_thread
from springline.storage.together import each

COMPRESSION_LEVEL: Final = 3
"""Fixed, so that one version of the library gives the same bytes for the same events."""


class _Identity(Struct, gc=False):
    event_id: str


_identify = Decoder(_Identity).decode
_unquote = Decoder(str).decode


class DamagedSegment(InvariantViolated):
    """Bytes that are not a valid segment; the message says what is wrong."""


def encode_segment(events: Sequence[tuple[str, bytes]], *, judged: bool = False) -> bytes:
    """Return the segment of events given as (event id, body), strictly ascending by id; see `sealed`."""
    return sealed(events, judged=judged)[0]


def sealed(events: Sequence[tuple[str, bytes]], *, judged: bool = False) -> tuple[bytes, int]:
    """Return the segment of events given as (event id, body), strictly ascending by id, and its `raw_size`.

    `judged`: the caller has parsed the bodies as events with the ids given. Raises `ValueError` if there is no event,
    they are out of order, a body is not UTF-8, or names another id; `DamagedSegment` if a body is no event.
    """
    if not events:
        raise ValueError("a segment holds at least one event")
    last = ""
    for event_id, body in events:
        if event_id <= last:
            raise ValueError(f"event {event_id} stands after {last}: sort events by id, each once")
        if not judged and event_id_of(body) != event_id:
            raise ValueError(f"event {event_id} has a body with the id {event_id_of(body)}")
        last = event_id
    text = _content(events)
    try:
        text.decode()  # All at once; the events are decoded one by one only to name the bad one in the message.
    except UnicodeDecodeError:
        for event_id, body in events:
            _text(event_id, body)
        raise
    codec = pa.Codec("zstd", compression_level=COMPRESSION_LEVEL)
    return bytes(codec.compress(text, asbytes=True)), len(text)


def decode_segment(data: bytes) -> list[tuple[str, bytes]]:
    """Return the events of a segment as (event id, body), strictly ascending by id; raises `DamagedSegment`."""
    events, last = [], ""
    for body in segment_bodies(data):
        event_id = event_id_of(body)
        if event_id <= last:
            raise DamagedSegment(f"event {event_id} stands after {last}")
        events.append((event_id, body))
        last = event_id
    return events


def segment_bodies(data: bytes) -> list[bytes]:
    """Return the bodies of a segment's events in its order, for callers that parse them anyway.

    Raises `DamagedSegment`; ids and their order are not checked.
    """
    try:
        text = pa.CompressedInputStream(pa.BufferReader(data), "zstd").read()
        *lines, rest = text.split(b"\n")
        if rest or not lines:
            raise DamagedSegment("its last line is not complete")
        return [line if line.startswith(b"{") else _unquote(line).encode() for line in lines]
    except (OSError, DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DamagedSegment(f"it cannot be read: {error}") from None


def event_id_of(body: bytes) -> str:
    """Return the event id in an event's body without reading the rest of it; raises `DamagedSegment`."""
    try:
        return _identify(body).event_id
    except (DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DamagedSegment(f"a line is no event: {error}") from None


def raw_size(events: Sequence[tuple[str, bytes]]) -> int:
    """Return the bytes of the segment's content before compression, by which segments are cut."""
    return len(_content(events))


def line_size(event_id: str, body: bytes) -> int:
    """Return the bytes that an event adds to the content of a segment."""
    return len(_line(event_id, body)) + 1


def _content(events: Sequence[tuple[str, bytes]]) -> bytes:
    bodies = [body for _, body in events]
    bodies.append(b"")
    text = b"\n".join(bodies)
    others = len(events) - 1
    if text.startswith(b"{") and text.count(b"\n") == len(events) and text.count(b"\n{") == others:
        return text  # The usual case: each body is a line of its own.
    return b"".join(_line(event_id, body) + b"\n" for event_id, body in events)


def _line(event_id: str, body: bytes) -> bytes:
    is_line = body.startswith(b"{") and b"\n" not in body
    return body if is_line else encode(_text(event_id, body))


def _text(event_id: str, body: bytes) -> str:
    try:
        return body.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"event {event_id} is not UTF-8: {error}") from None


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
    """Return the events of a segment or pack, ascending by id. Raises `DamagedObject`, and the store's errors."""

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
    """Write events, strictly ascending by canonical id, as full segments, and the rest as a pack.

    Safe to repeat. Raises as `write_file`, and `ValueError` for events that are out of order.
    """
    sizes = [line_size(*event) for event in events]

    async def write(piece: range) -> SegmentRef:
        some = events[piece.start : piece.stop]
        data = await in_thread(lambda: encode_segment(some))
        return await write_encoded(store, some, data, sum(sizes[piece.start : piece.stop]))

    return await each(write, pieces(sizes), concurrency=PUTS_TOGETHER)


async def write_encoded(store: ObjectStore, events: Sequence[StoredEvent], data: bytes, raw_bytes: int) -> SegmentRef:
    """Write `data`, the encoded segment of `events` with `raw_bytes` of text. As `write_segments`."""
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
    """Events of the tail by id, and the damage of the objects that could not be read, in order of ids."""

    bodies: dict[str, bytes] = field(default_factory=dict)
    damaged: list[DamagedObject] = field(default_factory=list)


async def read_tail(
    store: ObjectStore, entries: Sequence[TailEntry], at_hand: Mapping[str, bytes] | None = None
) -> TailRead:
    """Return the bytes of events that have objects of their own.

    `at_hand`: bytes by event id, whose objects are not read. A missing or altered object raises nothing, because
    others may be good; the store's errors are raised.
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
