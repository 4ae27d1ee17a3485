"""How long a run waits for a word of a worker over HTTP."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from springline.control.runs.messages import LoadedTask
from springline.control.runs.remote import CANCEL_GRACE_MS, Remote

HEARTBEAT_MS, TIMEOUT_MS = 60_000, 600_000


def row(state: str = "RUNNING", **more: Any) -> LoadedTask:
    return LoadedTask(key="a", asset="a", state=state, attempt=1, attempt_id="x", max_attempts=3, **more)


def remote() -> Remote:
    return Remote(HEARTBEAT_MS, TIMEOUT_MS, None)


def test_an_attempt_on_its_way_waits_for_however_long() -> None:
    one = remote()
    one.read(row("DISPATCHED"), 10)
    assert (one.recorded, one.due_ms(None), one.ended(10**12, None)) == (True, None, None)


def test_one_that_is_taken_is_to_start_within_a_heartbeat() -> None:
    one = remote()
    one.heard_ms = 1_000
    assert one.ended(60_999, None) is None
    said = one.ended(61_000, None)
    assert said is not None
    assert (said.outcome, said.category, said.reason_code) == ("failed", "INFRASTRUCTURE", "attempt_lost")


def test_signs_of_life_prolong_it_up_to_its_timeout() -> None:
    one = remote()
    one.read(row(started_ms=0, heard_ms=50_000), 50_000)
    assert one.due_ms(None) == 110_000
    one.read(row(started_ms=0, heard_ms=590_000), 590_000)
    assert one.due_ms(None) == 600_000
    said = one.ended(600_000, None)
    assert said is not None
    assert (said.category, said.message) == ("TIMEOUT", "it took longer than its timeout, 10m")


def test_a_heartbeat_of_the_attempt_before_and_a_clock_ahead_prolong_nothing() -> None:
    one = remote()
    one.read(row(started_ms=100_000, heard_ms=5_000), 100_000)
    assert one.heard_ms == 100_000
    one.read(row(started_ms=100_000, heard_ms=10**12), 110_000)
    assert one.heard_ms == 110_000


def test_a_cancelled_one_has_a_heartbeat_and_the_grace() -> None:
    one = remote()
    one.read(row(started_ms=0, heard_ms=0), 0)
    one.heard_ms = 50_000
    assert one.due_ms(20_000) == min(50_000 + HEARTBEAT_MS, 20_000 + HEARTBEAT_MS + CANCEL_GRACE_MS)
    said = one.ended(90_000, 20_000)
    assert said is not None
    assert said.outcome == "cancelled"


_MS = st.integers(0, 2_000_000)


@given(st.lists(_MS, min_size=1, max_size=6), _MS, st.none() | _MS)
def test_what_is_due_ends_and_nothing_else(beats: list[int], now_ms: int, cancelled_ms: int | None) -> None:
    one, clock = remote(), 0
    for beat in beats:
        clock = max(clock, beat)
        before = one.due_ms(cancelled_ms)
        one.read(row(started_ms=0, heard_ms=beat), clock)
        due = one.due_ms(cancelled_ms)
        assert due is not None
        assert before is None or due >= before, "a sign of life never brings an end nearer"
        assert due <= TIMEOUT_MS or cancelled_ms is not None
    due = one.due_ms(cancelled_ms)
    assert due is not None
    assert (one.ended(now_ms, cancelled_ms) is not None) == (due <= now_ms)
