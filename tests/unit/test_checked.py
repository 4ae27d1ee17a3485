"""Objects that carry a checksum of themselves: every byte counts, and older ones without are read."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from springline.checked import WrongChecksum, has_checksum, verify, with_checksum

MEMBERS = ("a", "b")
JSON = st.recursive(st.none() | st.integers() | st.text(), st.lists, max_leaves=8)
OBJECTS = st.dictionaries(st.text(), JSON, min_size=1).filter(lambda one: "checksum" not in one)
INDENTS = st.sampled_from([0, 1, 2, 4])


@given(OBJECTS, INDENTS)
def test_what_was_written_is_verified_and_reads_as_before(document: dict[str, object], indent: int) -> None:
    data = msgspec.json.encode(document)
    sealed = with_checksum(msgspec.json.format(data, indent=indent) if indent else data)
    assert verify(sealed, MEMBERS)
    found = msgspec.json.decode(sealed)
    assert len(found.pop("checksum")) == len("sha256:") + 64
    assert found == document
    assert not has_checksum(data)


def test_an_object_in_the_place_of_another_is_seen_by_its_name() -> None:
    sealed = with_checksum(b'{"a":1}', "some/name.json")
    assert verify(sealed, MEMBERS, "some/name.json")
    for name in ("", "another/name.json"):
        with pytest.raises(WrongChecksum):
            verify(sealed, MEMBERS, name)


@pytest.mark.parametrize("indent", [0, 2])
def test_no_bit_can_change_unseen(indent: int) -> None:
    data = msgspec.json.encode({"a": "text", "b": [1, {"a": None}]})
    sealed = with_checksum(msgspec.json.format(data, indent=indent) if indent else data)
    for place in range(len(sealed) * 8):
        altered = bytearray(sealed)
        altered[place // 8] ^= 1 << place % 8
        with pytest.raises(WrongChecksum):
            verify(bytes(altered), MEMBERS)


@pytest.mark.parametrize("indent", [0, 2])
def test_no_end_can_be_missing_unseen(indent: int) -> None:
    data = msgspec.json.encode({"a": "text", "b": {}})
    sealed = with_checksum(msgspec.json.format(data, indent=indent) if indent else data)
    for size in range(len(sealed)):
        with pytest.raises(WrongChecksum):
            verify(sealed[:size], MEMBERS)


def test_older_objects_are_read_and_nothing_else() -> None:
    assert not verify(b'{"a": 1}', MEMBERS)
    assert not verify(b'{"a": 1, "other": 2}')
    for data in (b'{"a": 1, "other": 2}', b'{"checksum": "sha256:0", "a": 1}', b"[]", b"", b"\xff"):
        with pytest.raises(WrongChecksum):
            verify(data, MEMBERS)


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b"{ }", b'"text"'])
def test_only_an_object_can_carry_one(data: bytes) -> None:
    with pytest.raises(ValueError, match="checksum"):
        with_checksum(data)
