"""When deltas are merged: a bounded number of them, rows rewritten a bounded number of times, whatever the rounds."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from springline.published.merge import (
    BASE_SHARE,
    MIN_BASE_ROWS,
    SMALLEST_TIER_ROWS,
    MergePlan,
    limits_for,
    plan_merge,
    tier_of,
)


@dataclass
class Store:
    """What a workspace's files come to, when a share `again` of each merge's rows are rows that it already has."""

    again: float = 0.0
    base: int = 0
    deltas: list[int] = field(default_factory=list)
    written: int = 0
    most_deltas: int = 0
    bases: int = 0
    largest_round: int = 0

    def take(self, new: int) -> None:
        limits = limits_for(self.base)
        plan = plan_merge(self.deltas, new, limits)
        if plan.kind == "base":
            wrote = self.base = self.base + self._merged([*self.deltas, new])
            self.deltas = []
            self.bases += 1
        else:
            assert (plan.kind == "merge") == (plan.deltas > 0)
            merged = self.deltas[len(self.deltas) - plan.deltas :]
            wrote = self._merged([*merged, new])
            self.deltas[len(self.deltas) - plan.deltas :] = [wrote]
            self.largest_round = max(self.largest_round, wrote)
        self.written += wrote
        self.most_deltas = max(self.most_deltas, len(self.deltas))
        assert len(self.deltas) < limits.max_count
        assert sum(self.deltas) < limits.max_rows

    def _merged(self, sizes: list[int]) -> int:
        return max(*sizes, round(sum(sizes) * (1 - self.again))) if len(sizes) > 1 else sizes[0]


ROWS_PER_EVENT = 1.6


def rounds_of(least: int, most: int, events: int) -> list[int]:
    """Return the rows of rounds of `least` to `most` events until there are `events`."""
    source, rounds, left = random.Random(7), [], events
    while left > 0:
        batch = min(left, source.randint(least, most))
        rounds.append(max(1, round(batch * ROWS_PER_EVENT)))
        left -= batch
    return rounds


@pytest.mark.parametrize("again", [0.0, 0.1, 0.5])
@pytest.mark.parametrize(
    ("least", "most", "events", "times_written"),
    [(1, 1_000, 1_000_000, 8), (1_000, 1_000, 1_000_000, 8), (100, 100, 1_000_000, 9), (10, 10, 300_000, 12)],
)
def test_a_million_events_rewrite_a_bounded_multiple_of_their_rows(
    least: int, most: int, events: int, times_written: int, again: float
) -> None:
    store = Store(again)
    rounds = rounds_of(least, most, events)
    for new in rounds:
        store.take(new)
    assert store.written <= times_written * sum(rounds)
    assert store.most_deltas <= 20
    assert store.bases <= 14


def test_the_multiple_does_not_grow_with_the_history() -> None:
    multiples = []
    for events in (250_000, 500_000, 1_000_000, 2_000_000):
        store, rounds = Store(), rounds_of(1, 1_000, events)
        for new in rounds:
            store.take(new)
        multiples.append(store.written / sum(rounds))
    assert max(multiples) <= 1.3 * min(multiples)


def test_single_events_cost_little_each() -> None:
    store = Store()
    for _ in range(30_000):
        store.take(1)
    assert store.written <= 30_000 * 20
    assert store.most_deltas <= 18


@settings(deadline=None)
@given(st.lists(st.integers(1, 6_000), max_size=300), st.floats(0, 0.9))
def test_any_rounds_keep_the_limits_and_the_order_of_tiers(rounds: list[int], again: float) -> None:
    store = Store(again)
    for new in rounds:
        store.take(new)
        tiers = [tier_of(rows) for rows in store.deltas]
        assert tiers == sorted(tiers, reverse=True)


@settings(deadline=None)
@given(st.lists(st.integers(1, 4_000), max_size=60), st.integers(1, 4_000))
def test_any_deltas_of_another_writer_give_a_plan_that_can_be_carried_out(deltas: list[int], new: int) -> None:
    limits = limits_for(0)
    plan = plan_merge(deltas, new, limits)
    assert 0 <= plan.deltas <= len(deltas)
    if plan.kind == "base":
        assert plan.deltas == 0
    else:
        assert len(deltas) - plan.deltas + 1 < limits.max_count
        assert sum(deltas) + new < limits.max_rows


def test_limits_grow_with_the_base() -> None:
    assert limits_for(0).max_rows == limits_for(BASE_SHARE * MIN_BASE_ROWS).max_rows == MIN_BASE_ROWS
    assert limits_for(10_000_000).max_rows == 10_000_000 // BASE_SHARE
    assert limits_for(2**40).max_rows == 2**32 - 1
    counts = [limits_for(base).max_count for base in (0, 10**6, 10**7, 10**9)]
    assert counts == sorted(counts)
    assert counts[0] == 19
    assert counts[-1] <= 50
    assert limits_for(0).max_age_seconds == 300


def test_a_base_is_written_when_its_share_is_reached() -> None:
    limits = limits_for(100_000)
    assert limits.max_rows == 50_000
    assert plan_merge([40_000], 9_999, limits).kind != "base"
    assert plan_merge([40_000], 10_000, limits) == MergePlan("base")
    assert plan_merge([], 50_000, limits) == MergePlan("base")


def test_the_fourth_of_a_tier_is_merged_with_the_others() -> None:
    limits = limits_for(0)
    assert plan_merge([], 5, limits) == MergePlan("append")
    assert plan_merge([5, 5], 5, limits) == MergePlan("append")
    assert plan_merge([5, 5, 5], 5, limits) == MergePlan("merge", 3)
    assert plan_merge([500, 5, 5, 5], 5, limits) == MergePlan("merge", 3)
    assert plan_merge([500, 500, 500, 60, 60, 60], 200, limits) == MergePlan("merge", 6)
    assert plan_merge([500, 5, 5], 100, limits) == MergePlan("merge", 2)
    assert plan_merge([5_000, 500], 600, limits) == MergePlan("append")


@pytest.mark.parametrize(
    ("rows", "tier"), [(0, 0), (1, 0), (SMALLEST_TIER_ROWS, 0), (SMALLEST_TIER_ROWS + 1, 1), (256, 1), (257, 2)]
)
def test_tiers_are_by_fours(rows: int, tier: int) -> None:
    assert tier_of(rows) == tier
