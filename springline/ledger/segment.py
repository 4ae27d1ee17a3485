"""Segments and packs: many events in one immutable object, as exactly the bytes they have in the ledger.

See docs/formats.md#segments.

The content is JSON lines compressed with zstd, ascending by event id: `zstd -dc FILE | jq` reads it. An event's line is
its body; a body that one line cannot hold, or that does not begin with `{`, stands as a JSON string.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import pyarrow as pa
from msgspec import DecodeError, Struct
from msgspec.json import Decoder, encode

COMPRESSION_LEVEL: Final = 3
"""Fixed: with one library the same events give the same bytes."""


class _Identity(Struct, gc=False):
    event_id: str


_identify = Decoder(_Identity).decode
_unquote = Decoder(str).decode


class DamagedSegment(ValueError):
    """Bytes that no segment has; the message says what is wrong."""


def encode_segment(events: Sequence[tuple[str, bytes]], *, judged: bool = False) -> bytes:
    """Return the segment of events given as (event id, body), strictly ascending by id; see `sealed`."""
    return sealed(events, judged=judged)[0]


def sealed(events: Sequence[tuple[str, bytes]], *, judged: bool = False) -> tuple[bytes, int]:
    """Return the segment of events given as (event id, body), strictly ascending by id, and its `raw_size`.

    `judged`: the bodies were read as events before, and name the ids given. Raises `ValueError` if there is no event,
    they are out of order, a body is not UTF-8, or names another id.
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
        text.decode()  # All at once: that the events are looked at one by one is for the message only.
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
    """Return the bodies of a segment's events in its order, for readers who parse them anyway.

    Raises `DamagedSegment`; ids and their order are not looked at.
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
    """Return the bytes of the segment's content before compression; what the size of a segment is measured by."""
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
        return text  # As nearly always, each body is a line of its own.
    return b"".join(_line(event_id, body) + b"\n" for event_id, body in events)


def _line(event_id: str, body: bytes) -> bytes:
    is_line = body.startswith(b"{") and b"\n" not in body
    return body if is_line else encode(_text(event_id, body))


def _text(event_id: str, body: bytes) -> str:
    try:
        return body.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"event {event_id} is not UTF-8: {error}") from None
