"""Coordinators, markers and registry records carry a checksum of themselves; older ones without are still read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import orjson
import pytest

from springline import paths
from springline.checked import has_checksum
from springline.commit.registry import decode_record, encode_record
from springline.delta.coordinator import Coordinator, Inflight, Member, decode_coordinator
from springline.delta.markers import Marker, decode_marker
from springline.delta.messages import CommitMode
from springline.delta.table_request import Claim, TableEntry
from springline.errors import InvariantViolated
from springline.paths import ObjectPath, delta_coordinator, delta_marker, name_claim, root_claim, table_entry

TABLE = "01946b1c-0000-7000-8000-000000000001"
OTHER = "01946b1c-0000-7000-8000-000000000002"
KEY = "01946b1c-0000-7000-8000-00000000000a"
MARKER = Marker(
    KEY, "h", "r", 3, paths.delta_log("tables/t", 3), 17, CommitMode.APPEND, 2, "s/1.json", "1", "aa", "append:x"
)
MEMBER = Member(KEY, CommitMode.APPEND, 2, "s/1.json", "1", "aa", "r")
INFLIGHT = Inflight("c", 2, 3, "s/1.json", "1", 17, 18, "springline/1", CommitMode.APPEND, "aa", (MEMBER,))
ENTRY = TableEntry(table_id=TABLE, name="flights", root="lake/flights", created_at_ms=17, properties={"a": "b"})
NAME = Claim(table_id=TABLE, value="flights")
ROOT = Claim(table_id=TABLE, value="lake/flights")

Decode = Callable[[bytes, ObjectPath], Any]


def coordinator_of(data: bytes, path: ObjectPath) -> Coordinator:
    return decode_coordinator(data, path)


def marker_of(data: bytes, path: ObjectPath) -> Marker:
    return decode_marker(data, path, KEY, root="tables/t")


def entry_of(data: bytes, path: ObjectPath) -> TableEntry:
    return decode_record(data, path, TableEntry)


def claim_of(data: bytes, path: ObjectPath) -> Claim:
    return decode_record(data, path, Claim)


PLACES: list[tuple[ObjectPath, bytes, Any, Decode]] = [
    (delta_coordinator(TABLE), Coordinator(2, INFLIGHT).encode(delta_coordinator(TABLE)), Coordinator(2, INFLIGHT),
     coordinator_of),
    (delta_coordinator(TABLE), Coordinator(2).encode(delta_coordinator(TABLE)), Coordinator(2), coordinator_of),
    (delta_marker(TABLE, KEY), MARKER.encode(delta_marker(TABLE, KEY)), MARKER, marker_of),
    (table_entry(TABLE), encode_record(ENTRY, table_entry(TABLE)), ENTRY, entry_of),
    (name_claim("flights"), encode_record(NAME, name_claim("flights")), NAME, claim_of),
    (root_claim("lake/flights"), encode_record(ROOT, root_claim("lake/flights")), ROOT, claim_of),
]  # fmt: skip


@pytest.mark.parametrize(("path", "data", "value", "decode"), PLACES)
def test_any_bit_that_is_changed_is_named(path: ObjectPath, data: bytes, value: Any, decode: Decode) -> None:
    assert has_checksum(data)
    assert decode(data, path) == value
    for place in range(len(data)):
        for bit in range(8):
            damaged = data[:place] + bytes([data[place] ^ 1 << bit]) + data[place + 1 :]
            with pytest.raises(InvariantViolated, match=path):
                decode(damaged, path)
    for end in range(len(data)):
        with pytest.raises(InvariantViolated, match=path):
            decode(data[:end], path)


@pytest.mark.parametrize(("path", "data", "value", "decode"), PLACES)
def test_an_older_one_without_a_checksum_is_read(path: ObjectPath, data: bytes, value: Any, decode: Decode) -> None:
    members = orjson.loads(data)
    del members["checksum"]
    assert decode(orjson.dumps(members), path) == value
    assert decode(orjson.dumps(members, option=orjson.OPT_INDENT_2), path) == value
    with pytest.raises(InvariantViolated, match=path):
        decode(orjson.dumps(members | {"checksom": "sha256:00"}), path)


def test_another_object_in_its_place_is_named() -> None:
    places = [
        (Coordinator(2).encode(delta_coordinator(OTHER)), delta_coordinator(TABLE), coordinator_of),
        (MARKER.encode(delta_marker(OTHER, KEY)), delta_marker(TABLE, KEY), marker_of),
        (encode_record(ENTRY.model_copy(update={"table_id": OTHER}), table_entry(OTHER)), table_entry(TABLE), entry_of),
        (encode_record(ROOT, root_claim("lake/flights")), name_claim("flights"), claim_of),
    ]
    for data, path, decode in places:
        with pytest.raises(InvariantViolated, match=path):
            decode(data, path)


def test_another_older_object_that_says_what_it_is_is_named() -> None:
    marker = orjson.loads(replace(MARKER, idempotency_key="another").encode(delta_marker(TABLE, KEY)))
    entry = ENTRY.model_copy(update={"table_id": OTHER}).model_dump()
    del marker["checksum"]
    with pytest.raises(InvariantViolated, match="another"):
        marker_of(orjson.dumps(marker), delta_marker(TABLE, KEY))
    with pytest.raises(InvariantViolated, match=table_entry(TABLE)):
        entry_of(orjson.dumps(entry), table_entry(TABLE))
    with pytest.raises(InvariantViolated, match=name_claim("flights")):
        claim_of(orjson.dumps(ROOT.model_dump()), name_claim("flights"))
