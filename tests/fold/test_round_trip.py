"""Rows out and in again at any point: what is folded then is the same as without (docs/protocol.md#state-of-a-set)."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest

from springline.ledger.envelope import Event
from springline.projection.schema import TABLES
from springline.projection.state import State
from tests.fold.support import Tables, differences, empty_state, events_of, tables_of
from tests.support.ledgers import adversarial_ledger, bodies_of

MODES = [(None, 0.02), (0, 200.0), (5, 200.0)]


def reloaded(state: State, order: list[str]) -> State:
    """Return a new state from the rows of another, its tables loaded in an order."""
    copy = empty_state(state.config.retention_days)
    for table in order:
        copy.load_rows(table, list(state.rows(table)))
    copy.last_event_id, copy.frontier_ms = state.last_event_id, state.frontier_ms
    return copy


def folded(events: list[Event], retention_days: int | None) -> tuple[list[object], Tables]:
    state = empty_state(retention_days)
    return [state.fold(event) for event in events], tables_of(state)


@pytest.mark.parametrize(("retention_days", "days"), MODES)
def test_a_state_can_be_stored_at_every_point(
    retention_days: int | None, days: float, record_property: Callable[[str, object], None]
) -> None:
    splits = 0
    for seed in range(4):
        rnd = Random(seed)
        events = events_of(bodies_of(adversarial_ledger(rnd, 90, days)))
        outcomes, expected = folded(events, retention_days)
        first = empty_state(retention_days)
        for split in range(len(events) + 1):
            order = list(TABLES)
            rnd.shuffle(order)
            second = reloaded(first, order)
            assert differences(tables_of(second), tables_of(first)) == []
            assert [second.fold(event) for event in events[split:]] == outcomes[split:]
            assert differences(tables_of(second), expected) == [], (seed, split)
            splits += 1
            if split < len(events):
                first.fold(events[split])
    record_property("explored", f"states stored half-way: {splits} splits")


@pytest.mark.parametrize(("retention_days", "days"), MODES)
def test_another_state_follows_by_changes_alone(retention_days: int | None, days: float) -> None:
    for seed in range(10):
        rnd = Random(seed)
        events = events_of(bodies_of(adversarial_ledger(rnd, 150, days)))
        outcomes, expected = folded(events, retention_days)
        leader, follower = empty_state(retention_days), empty_state(retention_days)
        leader.tracking = True
        at = 0
        while at < len(events) // 2:
            size = rnd.randrange(1, 20)
            leader.fold_all(events[at : at + size])
            at += size
            tables = list(leader.changes().items())
            rnd.shuffle(tables)
            for table, changes in tables:
                follower.load_rows(table, [change.after for change in changes if change.after is not None])
                for change in changes:
                    if change.after is None:
                        follower.unload(table, change.key)
            leader.accept()
            follower.last_event_id, follower.frontier_ms = leader.last_event_id, leader.frontier_ms
            assert differences(tables_of(follower), tables_of(leader)) == [], (seed, at)
        assert [follower.fold(event) for event in events[at:]] == outcomes[at:]
        assert differences(tables_of(follower), expected) == [], seed


def test_every_kind_of_row_was_stored() -> None:
    met = set()
    for seed in range(12):
        state = empty_state()
        state.fold_all(events_of(bodies_of(adversarial_ledger(Random(seed), 150))))
        met |= {table for table in TABLES if state.count(table)}
    assert met == set(TABLES)
