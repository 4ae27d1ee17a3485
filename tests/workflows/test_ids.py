"""Ids minted by workflows: laid out as RFC 9562 says, ordered by time."""

from __future__ import annotations

import uuid

from hypothesis import given
from hypothesis import strategies as st

from springline.keys import check_key
from workflows.lifecycle import uuid7_of

MS = st.integers(min_value=0, max_value=2**48 - 1)
BITS = st.integers(min_value=0, max_value=2**74 - 1)


@given(MS, BITS)
def test_every_id_is_a_canonical_key_that_carries_its_time_and_all_random_bits(unix_ms: int, bits: int) -> None:
    made = uuid7_of(unix_ms, bits)
    assert check_key(made) == made
    value = uuid.UUID(made).int
    assert value >> 80 == unix_ms
    assert ((value >> 64) & 0xFFF) << 62 | value & (2**62 - 1) == bits


def test_the_example_of_the_rfc() -> None:
    # RFC 9562, A.6: Tuesday, February 22, 2022 2:22:22.00 PM GMT-05:00, rand_a 0xCC3, rand_b 0x18C4DC0C0C07398F.
    assert uuid7_of(0x017F22E279B0, 0xCC3 << 62 | 0x18C4DC0C0C07398F) == "017f22e2-79b0-7cc3-98c4-dc0c0c07398f"


@given(MS, MS, BITS, BITS)
def test_ids_are_ordered_by_time(one_ms: int, other_ms: int, one_bits: int, other_bits: int) -> None:
    if one_ms < other_ms:
        assert uuid7_of(one_ms, one_bits) < uuid7_of(other_ms, other_bits)
