"""What a batch changed, and taking it back (docs/protocol.md#cost)."""

from __future__ import annotations

import sys
from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from bench.ledgers import realistic_ledger
from springline.ledger.envelope import Event
from springline.projection.config import FoldConfig
from springline.projection.schema import TABLES
from springline.projection.state import State
from springline.projection.tables import Change
from tests.fold.support import Tables, differences, empty_state, events_of, tables_of
from tests.support.ledgers import adversarial_ledger, bodies_of

MODES = [(None, 0.02), (0, 200.0), (5, 200.0), (40, 200.0)]


def changes_between(before: Tables, after: Tables) -> dict[str, set[Change]]:
    found: dict[str, set[Change]] = {}
    for table, key, old, new in differences(before, after):
        found.setdefault(table, set()).add(Change(key, old, new))
    return found


def changes_of(state: State) -> dict[str, set[Change]]:
    changes = state.changes()
    for of_table in changes.values():
        assert len({change.key for change in of_table}) == len(of_table)
    return {table: set(of_table) for table, of_table in changes.items()}


@pytest.mark.parametrize(("retention_days", "days"), MODES)
def test_changes_are_the_differences(
    retention_days: int | None, days: float, record_property: Callable[[str, object], None]
) -> None:
    batches = 0
    for seed in range(15):
        rnd = Random(seed)
        events = events_of(bodies_of(adversarial_ledger(rnd, 200, days)))
        state = empty_state(retention_days)
        state.tracking = True
        at, accepted = 0, tables_of(state)
        while at < len(events):
            size = rnd.randrange(1, 15)
            state.fold_all(events[at : at + size])
            at += size
            now = tables_of(state)
            assert changes_of(state) == changes_between(accepted, now), (seed, at)
            if rnd.random() < 0.7:
                state.accept()
                accepted = now
                assert state.changes() == {}
            batches += 1
    record_property("explored", f"changes = differences: {batches} batches")


@pytest.mark.parametrize(("retention_days", "days"), MODES)
def test_a_rollback_leaves_no_trace(
    retention_days: int | None, days: float, record_property: Callable[[str, object], None]
) -> None:
    rollbacks = 0
    for seed in range(15):
        rnd = Random(seed)
        events = events_of(bodies_of(adversarial_ledger(rnd, 200, days)))
        plain, state = empty_state(retention_days), empty_state(retention_days)
        state.tracking = True
        at = 0
        while at < len(events):
            size = rnd.randrange(1, 12)
            tried = [event for event in events[at : at + 40] if rnd.random() < 0.5]
            before = (state.last_event_id, state.frontier_ms, tables_of(state))
            state.fold_all(tried)
            state.rollback()
            assert (state.last_event_id, state.frontier_ms, tables_of(state)) == before, (seed, at)
            assert state.changes() == {}
            rollbacks += 1
            batch = events[at : at + size]
            assert [state.fold(event) for event in batch] == [plain.fold(event) for event in batch]
            assert differences(tables_of(state), tables_of(plain)) == [], (seed, at)
            state.accept()
            at += size
    record_property("explored", f"rollbacks: {rollbacks} batches")


def test_tracking_begins_where_it_is_switched_on() -> None:
    events = events_of(bodies_of(adversarial_ledger(Random(3), 120)))
    state = empty_state()
    state.fold_all(events[:60])
    state.tracking = True
    before = tables_of(state)
    state.fold_all(events[60:])
    assert changes_of(state) == changes_between(before, tables_of(state))
    state.rollback()
    assert tables_of(state) == before
    state.tracking = False
    state.fold_all(events[60:])
    for ask in (state.changes, state.rollback):
        with pytest.raises(ValueError, match="tracking"):
            ask()


@pytest.mark.parametrize("table", list(TABLES))
def test_rows_are_not_loaded_into_an_open_batch(table: str) -> None:
    events = events_of(bodies_of(adversarial_ledger(Random(3), 60)))
    state = empty_state()
    state.tracking = True
    state.fold_all(events)
    with pytest.raises(ValueError, match="accepted"):
        state.load_rows(table, [])
    with pytest.raises(ValueError, match="accepted"):
        state.unload(table, "x")
    state.accept()
    state.load_rows(table, list(state.rows(table)))
    assert state.changes() == {}


def steps(work: Callable[[], Any]) -> int:
    """Return how many function calls some work takes."""
    calls = 0

    def count(frame: object, event: str, argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(None)
    return calls


def batch_steps(events: list[Event], batch: list[Event], retention_days: int | None) -> int:
    state = State(FoldConfig("acme", "prod", retention_days=retention_days))
    state.fold_all(events)
    state.tracking = True

    def work() -> None:
        for event in batch:
            state.fold(event)
        state.changes()
        state.accept()

    return steps(work)


@pytest.mark.parametrize("retention_days", [None, 90])
def test_a_batch_costs_what_it_touches(retention_days: int | None) -> None:
    """The last 50 events cost the same on a state of ten times as many rows of other runs."""
    events = events_of(realistic_ledger(5, 12_000))
    batch = events[-50:]
    runs = {getattr(event.data, "run_id", None) for event in batch}
    needed = [event for event in events[:-50] if getattr(event.data, "run_id", None) in runs]
    others = [event for event in events[:-50] if getattr(event.data, "run_id", None) not in runs]
    few, many = (
        batch_steps(sorted(needed + others[-count:], key=lambda event: event.event_id), batch, retention_days)
        for count in (1_000, 10_000)
    )
    assert many <= few * 1.05
