"""Segments: exact bytes back, the same bytes each time, and damage named."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from springline.published.segments import (
    DamagedSegment,
    decode_segment,
    encode_segment,
    event_id_of,
    line_size,
    raw_size,
    sealed,
    segment_bodies,
)
from tests.ledger.samples import LEDGERS, bodies_of, event_of
from tests.ledger.strategies import DATA, TEXT


def sorted_events(bodies: list[bytes]) -> list[tuple[str, bytes]]:
    return sorted({event_id_of(body): body for body in bodies}.items())


def packed(text: bytes) -> bytes:
    return bytes(pa.compress(text, codec="zstd", asbytes=True))


def unpacked(segment: bytes) -> bytes:
    return bytes(pa.CompressedInputStream(pa.BufferReader(segment), "zstd").read())


@pytest.mark.parametrize("ledger", LEDGERS)
def test_golden_ledgers(ledger: str) -> None:
    events = sorted_events(bodies_of(ledger))
    segment = encode_segment(events)
    assert decode_segment(segment) == events
    assert segment_bodies(segment) == [body for _, body in events]
    assert unpacked(segment) == b"".join(body + b"\n" for _, body in events)
    assert sealed(events) == sealed(events, judged=True) == (segment, len(unpacked(segment)))
    assert len(unpacked(segment)) == raw_size(events) == sum(line_size(*event) for event in events)
    assert len(segment) * 8 < raw_size(events)


LAYOUTS: list[dict[str, Any]] = [
    {"separators": (",", ":"), "ensure_ascii": False},
    {"indent": 2},
    {"ensure_ascii": True},
]


@given(st.lists(st.tuples(DATA | st.fixed_dictionaries({"type": TEXT}), st.sampled_from(LAYOUTS), st.booleans())))
def test_bodies_come_back_as_they_were(shapes: list[tuple[dict[str, Any], dict[str, Any], bool]]) -> None:
    events = []
    for number, (data, layout, spaced) in enumerate(shapes):
        event_id = f"evt-{number:05}"
        text = json.dumps(event_of(data, event_id=event_id), **layout)
        events.append((event_id, (f"\r\n {text}\n" if spaced else text).encode()))
    if not events:
        return
    segment = encode_segment(events)
    assert decode_segment(segment) == events
    assert encode_segment(events) == segment
    assert len(unpacked(segment)) == raw_size(events)
    assert unpacked(segment).count(b"\n") == len(events)


def test_another_process_writes_the_same_bytes() -> None:
    events = sorted_events(bodies_of("plain"))
    code = (
        "import sys, hashlib; from springline.published.segments import *; from tests.ledger.samples import bodies_of;"
        "events = sorted({event_id_of(body): body for body in bodies_of('plain')}.items());"
        "print(hashlib.sha256(encode_segment(events)).hexdigest())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == hashlib.sha256(encode_segment(events)).hexdigest()


def body_of(event_id: str) -> bytes:
    return json.dumps(event_of({"type": "new"}, event_id=event_id)).encode()


@pytest.mark.parametrize(
    ("events", "why"),
    [
        ([], "at least one"),
        ([("b", body_of("b")), ("a", body_of("a"))], "event a stands after b"),
        ([("a", body_of("a")), ("a", body_of("a"))], "event a stands after a"),
        ([("a", body_of("b"))], "event a has a body with the id b"),
        ([("a", b"[]")], "a line is no event"),
        ([("a", body_of("a").replace(b"prod", b"\xff"))], "event a is not UTF-8"),
    ],
    ids=range(6),
)
def test_what_is_no_segment_is_not_written(events: list[tuple[str, bytes]], why: str) -> None:
    with pytest.raises((ValueError, DamagedSegment), match=why):
        encode_segment(events)


GOOD = encode_segment([("a", body_of("a")), ("b", body_of("b"))])


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}\n",
        GOOD[:-1],
        GOOD[:10],
        GOOD + b"x",
        GOOD + GOOD,
        packed(b""),
        packed(body_of("a")),
        packed(body_of("a") + b"\n\n"),
        packed(body_of("b") + b"\n" + body_of("a") + b"\n"),
        packed(b"5\n"),
        packed(b'"{}"\n'),
        packed(b'"\xff"\n'),
        packed(b'{"event_id":5}\n'),
        packed(b'{"event_id":"\xff"}\n'),
    ],
    ids=range(15),
)
def test_damage(data: bytes) -> None:
    with pytest.raises(DamagedSegment):
        decode_segment(data)


@given(st.integers(0, len(GOOD) - 1), st.integers(1, 255))
def test_an_altered_byte_never_escapes_as_another_error(position: int, change: int) -> None:
    """Whether it is noticed is for the index's hash to say; here it must not break the reader."""
    altered = bytearray(GOOD)
    altered[position] ^= change
    try:
        events = decode_segment(bytes(altered))
    except DamagedSegment:
        return
    assert [event_id for event_id, _ in events] == sorted(event_id_of(body) for _, body in events)
