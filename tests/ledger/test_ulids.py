"""Event ids: canonical, monotonic, and read as leniently as the reference does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ulid import ULID

from springline.ulids import MAX_ULID_MS, RANDOM_BITS, is_canonical_ulid, new_ulid, nth_ulid, ulid_time_ms

MS = st.integers(0, MAX_ULID_MS)
RANDOM = st.integers(0, 2**RANDOM_BITS - 1)
LAST = "7" + "Z" * 25


@given(MS, RANDOM)
def test_a_first_id_is_the_librarys(ms: int, random_bits: int) -> None:
    text = new_ulid(None, ms, random_bits)
    assert text == str(ULID.from_bytes((ms << 80 | random_bits).to_bytes(16, "big")))
    assert is_canonical_ulid(text)
    assert ulid_time_ms(text) == ms
    assert ulid_time_ms(text.lower()) == ms


@given(MS, RANDOM, MS, RANDOM)
def test_ids_rise_whatever_the_clock_does(first_ms: int, first: int, ms: int, random_bits: int) -> None:
    before = new_ulid(None, first_ms, first)
    if before == LAST and ms == MAX_ULID_MS:
        return
    after = new_ulid(before, ms, random_bits)
    assert after > before
    assert is_canonical_ulid(after)
    if ms > first_ms:
        assert after == new_ulid(None, ms, random_bits)
    else:
        assert after == nth_ulid(before, 1)


def test_an_exhausted_random_part_moves_to_the_next_millisecond() -> None:
    full = new_ulid(None, 1_736_935_200_000, 2**80 - 1)
    after = new_ulid(full, 1_736_935_200_000, 5)
    assert ulid_time_ms(after) == 1_736_935_200_001
    assert after.endswith("0" * 16)
    assert after > full


@given(MS.filter(lambda ms: ms < MAX_ULID_MS), RANDOM, st.lists(st.integers(0, 2_000), max_size=5))
def test_successors(ms: int, random_bits: int, steps: list[int]) -> None:
    first = new_ulid(None, ms, random_bits)
    assert nth_ulid(first, 0) == first
    ids = sorted({nth_ulid(first, step) for step in steps})
    assert ids == [nth_ulid(first, step) for step in sorted(set(steps))]


@pytest.mark.parametrize(
    ("after", "ms", "random_bits", "why"),
    [
        (None, -1, 0, "now_ms"),
        (None, 2**48, 0, "now_ms"),
        (None, 0, -1, "random_bits"),
        (None, 0, 2**80, "random_bits"),
        (LAST, 5, 5, "no event id lies above"),
        ("evt-1", 5, 5, "no canonical ULID"),
    ],
)
def test_what_has_no_successor(after: str | None, ms: int, random_bits: int, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        new_ulid(after, ms, random_bits)


def test_ids_that_are_no_ulid_may_lie_below() -> None:
    assert new_ulid("00-old", 5, 5) == new_ulid(None, 5, 5)


@pytest.mark.parametrize(("first", "n"), [("evt-1", 1), ("01JHMPFQ6G000AQKFF00000004", -1), (LAST, 1)])
def test_successors_that_do_not_exist(first: str, n: int) -> None:
    with pytest.raises(ValueError, match=r"canonical ULID|lies above"):
        nth_ulid(first, n)


@pytest.mark.parametrize(
    ("event_id", "ms"),
    [
        ("01JHMPFQ6G000AQKFF00000004", 1_736_935_202_000),
        ("01jhmpfq6g000aqkff00000004", 1_736_935_202_000),
        ("81JHMPFQ6G000AQKFF00000004", 1_736_935_202_000),
        (LAST, MAX_ULID_MS),
        ("evt-1", None),
        ("01JHMPFQ6G000AQKFF0000000U", None),
        ("01JHMPFQ6G000AQKFF0000000", None),
        ("", None),
    ],
)
def test_the_time_in_an_id(event_id: str, ms: int | None) -> None:
    assert ulid_time_ms(event_id) == ms
    assert is_canonical_ulid(event_id) is (ms is not None and event_id.isupper() and event_id[0] < "8")
