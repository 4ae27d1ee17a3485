"""Checkpoints: few of them, yet near enough to a late event of any age."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from springline.published.manifest import MOST, NEGLIGIBLE_EVENTS, Checkpoint, below, valid_below, with_checkpoint


def checkpoint(events: int) -> Checkpoint:
    return Checkpoint(f"manifest {events}", f"{events:012}" if events else None, events)


def kept_after(bases: list[int]) -> list[Checkpoint]:
    kept: list[Checkpoint] = []
    for events in bases:
        kept = with_checkpoint(kept, checkpoint(events))
    return kept


def refold(kept: list[Checkpoint], head: int, age: int) -> int:
    """Return how many events are folded again when an event comes that is `age` events late."""
    found = below(kept, f"{head - age:012}")
    return head - (0 if found is None else found.events)


@pytest.mark.parametrize("step", [12_500, 60_000])
def test_what_a_late_event_costs_stays_in_proportion_to_its_age(step: int) -> None:
    kept: list[Checkpoint] = []
    for head in range(step, 200 * step, step):
        kept = with_checkpoint(kept, checkpoint(head))
        assert len(kept) <= MOST
        for age in (1, 1_000, step, 5 * step, head // 10, head // 3, head - 1):
            cost = refold(kept, head, min(age, head - 1))
            assert cost <= 4 * (age + step + NEGLIGIBLE_EVENTS), (head, age)


def test_bases_that_grow_by_shares_are_kept_at_growing_distances() -> None:
    events, bases = 10_000, []
    for _ in range(20):
        bases.append(events)
        events = events * 3 // 2
    kept = kept_after(bases)
    assert len(kept) == MOST
    assert kept[-1].events == bases[-1]
    ages = [bases[-1] - one.events + NEGLIGIBLE_EVENTS for one in kept]
    assert ages == sorted(ages, reverse=True)
    assert kept[-2].events == bases[-2]


@settings(deadline=None)
@given(st.lists(st.integers(1, 50_000), max_size=60))
def test_the_newest_always_stays_and_the_order_is_that_of_age(steps: list[int]) -> None:
    head = 0
    kept: list[Checkpoint] = []
    for step in steps:
        head += step
        kept = with_checkpoint(kept, checkpoint(head))
        assert kept[-1] == checkpoint(head)
        assert len(kept) <= MOST
        assert [one.events for one in kept] == sorted({one.events for one in kept})


def test_a_base_written_again_is_there_once() -> None:
    kept = kept_after([100, 200, 200])
    assert [one.events for one in kept] == [100, 200]


def test_the_checkpoint_below_an_event_lacks_it() -> None:
    kept = [checkpoint(0), checkpoint(100), checkpoint(200)]
    assert below(kept, f"{250:012}") == checkpoint(200)
    assert below(kept, f"{200:012}") == checkpoint(100)
    assert below(kept, f"{199:012}") == checkpoint(100)
    assert below(kept, f"{50:012}") == checkpoint(0)
    assert below(kept[1:], f"{50:012}") is None
    assert below([], "x") is None


def test_checkpoints_above_a_late_event_are_states_of_the_ledger_no_more() -> None:
    kept = [checkpoint(100), checkpoint(200), checkpoint(300)]
    assert valid_below(kept, f"{200:012}") == [checkpoint(100)]
    assert valid_below(kept, f"{999:012}") == kept
    assert valid_below(kept, f"{1:012}") == []
