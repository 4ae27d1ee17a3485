"""Sections hand over exactly the events that were read, in their order, however many there are."""

from __future__ import annotations

import zlib
from random import Random

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from springline.errors import InvariantViolated
from springline.ledger.envelope import parse_event
from springline.rebuild.parts import CHUNK_EVENTS, KeptEvent, SectionWriter, compress, decode, events_of
from tests.support.ledgers import adversarial_ledger, bodies_of, ledgers


def handed_over(bodies: list[bytes]) -> list[KeptEvent]:
    writer = SectionWriter()
    for body in bodies:
        writer.add(parse_event(body), body)
    assert writer.events == len(bodies)
    return list(events_of(decode(writer.close())))


def read(bodies: list[bytes]) -> list[KeptEvent]:
    return [KeptEvent(parse_event(body), zlib.crc32(body)) for body in bodies]


@settings(max_examples=200, deadline=None)
@given(ledgers(80))
def test_any_event_comes_over_as_it_was_read(events: list[dict[str, object]]) -> None:
    bodies = bodies_of(events)
    assert handed_over(bodies) == read(bodies)


@pytest.mark.parametrize("seed", range(5))
def test_odd_events_too(seed: int) -> None:
    bodies = bodies_of(adversarial_ledger(Random(seed), 400))
    assert handed_over(bodies) == read(bodies)


@given(st.sampled_from([0, 1, CHUNK_EVENTS - 1, CHUNK_EVENTS, CHUNK_EVENTS + 1, 3 * CHUNK_EVENTS]))
def test_nothing_is_lost_where_chunks_end(count: int) -> None:
    bodies = bodies_of(adversarial_ledger(Random(1), 300))[:count]
    assert len(handed_over(bodies)) == count


def test_what_other_systems_write_comes_over() -> None:
    """Fields nobody knows, other orders, great numbers, times with nanoseconds, and types of tomorrow."""
    body = bodies_of(adversarial_ledger(Random(1), 1))[0]
    event = orjson.loads(body)
    forms = [
        orjson.dumps(event, option=orjson.OPT_INDENT_2),
        orjson.dumps({"unknown": {"a": [1, None]}, **event}),
        orjson.dumps(event | {"timestamp": "2025-01-15T10:00:00.123456789Z"}),
        orjson.dumps(event | {"source": "ü \U0001f600 \u2028", "data": {"type": "asset_inspected", "of": 2**63}}),
        orjson.dumps(event | {"timestamp": "1969-12-31T23:59:59.5Z"}),
    ]
    assert handed_over(forms) == read(forms)
    assert handed_over(forms)[2].event.timestamp_ns % 1_000_000_000 == 123_456_789


def test_bodies_that_mean_the_same_are_told_apart() -> None:
    body = bodies_of(adversarial_ledger(Random(1), 1))[0]
    spaced = body.replace(b"{", b"{ ", 1)
    one, other = handed_over([body, spaced])
    assert one.event == other.event
    assert one != other


@pytest.mark.parametrize("data", [b"", b"no frame", compress(b"\xc1"), compress(b"\x93\x01\x02\x03")])
def test_other_bytes_are_no_section(data: bytes) -> None:
    with pytest.raises(InvariantViolated):
        list(events_of(decode(data)))
