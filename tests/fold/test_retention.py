"""What ends by age: exactly when, and with what (docs/events.md#fold-retention)."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from msgspec.structs import replace

from springline.ledger.event_ids import event_id_ms
from springline.projection.fold.loop import EventOutcome
from springline.projection.state import State
from tests.fold.history import T0, Object, cancel, enqueued, event, planned, retry_timer, triggered
from tests.fold.support import empty_state, events_of, tables_of
from tests.support.ledgers import adversarial_ledger, bodies_of

DAY = 86_400_000


def after(state: State, days: float, key: str = "later", **changes: Any) -> State:
    """Fold an event that does nothing, so many days after the first."""
    late = event(enqueued("none", dispatch_id=f"at{days}", run_id=None), T0 + int(days * DAY), key=f"{key}{days}")
    assert state.fold(replace(late, **changes)) is EventOutcome.REFUSED
    return state


def ended_run(retention_days: int | None, *more: Object) -> State:
    """Return a state with a run that was cancelled at once, and what else there is of it."""
    state = empty_state(retention_days)
    history = [triggered(), planned("a", "b<a"), cancel(), *more]
    for number, data in enumerate(history):
        assert state.fold(event(data, T0 + number)) is EventOutcome.APPLIED
    return state


@pytest.mark.parametrize(("retention_days", "pruned"), [(None, False), (0, True), (90, True)])
def test_keys_end_after_30_days(retention_days: int | None, pruned: bool) -> None:
    state = after(ended_run(retention_days), 30)
    assert state.event_with_key("run:r") is not None
    after(state, 30.001)
    assert (state.event_with_key("run:r") is None) is pruned


def test_a_key_that_ended_can_be_used_again() -> None:
    state = after(ended_run(0), 31)
    assert state.fold(event(triggered("r"), T0 + 31 * DAY + 1)) is EventOutcome.REFUSED
    assert state.fold(event(planned("a", run_id="q"), T0 + 31 * DAY + 2, key="plan:r")) is EventOutcome.APPLIED
    assert state.fold(event(triggered("q"), T0 + 31 * DAY + 3, key="plan:r")) is EventOutcome.DUPLICATE


def test_keys_end_by_the_producers_time() -> None:
    state = empty_state(0)
    old = replace(event(triggered(), T0), timestamp_ns=(T0 - 29 * DAY) * 1_000_000)
    state.fold(old)
    assert after(state, 1).event_with_key("run:r") is not None
    assert after(state, 1.001).event_with_key("run:r") is None


@pytest.mark.parametrize(("retention_days", "days", "is_left"), [(0, 900, True), (7, 7, True), (7, 7.001, False)])
def test_a_finished_run_ends_with_all_that_names_it(retention_days: int, days: float, is_left: bool) -> None:
    timer, sends = retry_timer("a", "2026-01-15T10:00:00Z"), enqueued("z", dispatch_id="odd")
    state = after(ended_run(retention_days, timer, sends), days)
    counts = {"runs": 1, "tasks": 2, "catalog_run_index": 2, "dep_satisfaction": 1, "timers": 1, "dispatch_outbox": 1}
    assert {table: state.count(table) for table in counts} == (counts if is_left else dict.fromkeys(counts, 0))


def test_a_run_key_ends_with_its_run_and_its_conflicts() -> None:
    state = empty_state(7)
    source = {"type": "manual", "user_id": "u", "request_id": "q"}
    asks = {"type": "run_requested", "run_key": "k", "asset_selection": [], "trigger_source_ref": source}
    for number, (key, fingerprint) in enumerate((("k", "f1"), ("k", "f2"), ("other", "f1"), ("other", "f2"))):
        state.fold(event({**asks, "run_key": key, "request_fingerprint": fingerprint}, T0 + number))
    row = state.run_key("k")
    assert row is not None
    state.fold(event(triggered(row.run_id), T0 + 10))
    state.fold(event(cancel(row.run_id), T0 + 11))
    after(state, 8)
    assert {key: state.run_key(key) is not None for key in ("k", "other")} == {"k": False, "other": True}
    assert [row[2] for row in state.rows("run_key_conflicts")] == ["other"]


def test_a_running_run_never_ends() -> None:
    state = empty_state(7)
    state.fold(event(triggered(), T0))
    state.fold(event(planned("a"), T0 + 1))
    after(state, 900)
    assert state.count("runs") == 1
    state.fold(event(cancel(), T0 + 901 * DAY))
    assert after(state, 908).count("runs") == 1
    assert after(state, 908.001).count("runs") == 0


def test_a_run_whose_stamp_has_no_time_is_as_old_as_its_end() -> None:
    state = empty_state(7)
    state.fold(event(triggered(), T0))
    odd = replace(event(cancel(), T0), event_id=f"{state.last_event_id}~", timestamp_ns=(T0 - 3 * DAY) * 1_000_000)
    assert state.fold(odd) is EventOutcome.APPLIED
    assert after(state, 4).count("runs") == 1
    assert after(state, 4.001).count("runs") == 0


def test_time_goes_by_ids_alone() -> None:
    state = ended_run(7)
    frontier = state.frontier_ms
    late = event(triggered("q"), T0 + 1_000)
    state.fold(replace(late, event_id=f"{late.event_id}~", timestamp_ns=(T0 + 900 * DAY) * 1_000_000))
    assert (state.frontier_ms, state.count("runs")) == (frontier, 2)
    # Duplicates and unknown types move it too.
    assert state.fold(event(triggered("r"), T0 + 8 * DAY)) is EventOutcome.DUPLICATE
    assert (state.frontier_ms, state.run("r")) == (T0 + 8 * DAY, None)


def test_without_retention_there_is_no_frontier() -> None:
    assert after(ended_run(None), 900).frontier_ms is None


@pytest.mark.parametrize("retention_days", [0, 5, 40])
def test_the_frontier_is_the_greatest_time_of_all_ids(
    retention_days: int, record_property: Callable[[str, object], None]
) -> None:
    pruned = 0
    for seed in range(10):
        events = events_of(bodies_of(adversarial_ledger(Random(seed), 200, 200.0)))
        state, kept = empty_state(retention_days), empty_state()
        for one in events:
            state.fold(one)
            kept.fold(one)
        times = [ms for one in events if (ms := event_id_ms(one.event_id)) is not None]
        assert state.frontier_ms == max(times)
        pruned += sum(map(len, tables_of(kept).values())) - sum(map(len, tables_of(state).values()))
    assert pruned > 0
    record_property("explored", f"pruned by retention: {pruned} rows")
