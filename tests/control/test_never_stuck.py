"""Whatever is appended, in whatever order and under whatever keys: no state comes about that could not move on."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from springline.ledger.events import RunRequested, SensorEvaluated
from springline.ledger.nested import EvalSkippedStaleCursor, SensorRef
from springline.ledger.request import EventOutcome
from springline.projection.config import FoldConfig
from springline.projection.fold.automation import STALE_STATUS
from tests.control.finishing import finish_everything
from tests.control.invariants import check_invariants
from tests.control.ledger import Ledger, request, snapshot
from tests.control.strategies import events

DAY_MS = 86_400_000
MAY_PASS_WITHOUT_EFFECT = {"DispatchEnqueued", "TimerRequested"}

explored = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


def play_round(ledger: Ledger, draw: st.DataObject) -> None:
    """Append a round of up to three requests, and check what is true of every round."""
    state = ledger.state
    cursors = {sensor.sensor_id: sensor.cursor for sensor in state.sensors.rows.values()}
    before = len(ledger.events)
    requests = [
        request(*draw.draw(st.lists(events(state), min_size=1, max_size=3)), number=number)
        for number in range(draw.draw(st.integers(1, 3)))
    ]
    answers = ledger.round(*requests)
    written = {event.event_id for event in ledger.events[before:]}
    for asked, answer in zip(requests, answers, strict=True):
        if answer.refusal is not None:
            assert answer.events == []
            assert (answer.refusal.field or "").startswith("events[")
            assert answer.refusal.remedy
            continue
        assert len([event for event in answer.events if not event.completed]) == len(asked.events)
        for event in answer.events:
            if event.outcome is EventOutcome.NOT_APPLIED:
                assert event.event_type in MAY_PASS_WITHOUT_EFFECT
            if event.outcome is not EventOutcome.DUPLICATE:
                written.remove(event.event_id)
    assert not written, "events that nobody was told of"
    for sensor_id, cursor in cursors.items():
        sensor = state.sensor(sensor_id)
        assert sensor is not None
        assert cursor is None or sensor.cursor is not None
    for written_event in ledger.events[before:]:
        source = written_event.data.trigger_source_ref if isinstance(written_event.data, RunRequested) else None
        if isinstance(source, SensorRef):
            evaluation = state.evaluation(source.eval_id)
            assert evaluation is not None
            assert evaluation.status != STALE_STATUS
        if isinstance(written_event.data, SensorEvaluated):
            assert not isinstance(written_event.data.status, EvalSkippedStaleCursor)


@explored
@given(st.data(), st.integers(1, 25))
def test_no_stuck_state_is_reached(draw: st.DataObject, rounds: int) -> None:
    ledger = Ledger()
    for _ in range(rounds):
        play_round(ledger, draw)
        check_invariants(ledger.state)
    finish_everything(ledger)
    check_invariants(ledger.state)
    assert snapshot(ledger.state) == snapshot(ledger.refolded())


@explored
@given(st.data(), st.integers(1, 20), st.sampled_from((1, 5, 40)))
def test_no_stuck_state_is_reached_while_retention_prunes(draw: st.DataObject, rounds: int, days: int) -> None:
    ledger = Ledger(FoldConfig("acme", "prod", retention_days=days))
    for _ in range(rounds):
        play_round(ledger, draw)
        check_invariants(ledger.state)
        ledger.now_ms += draw.draw(st.sampled_from((0, 0, 0, 2, 6, 31, 41))) * DAY_MS
    finish_everything(ledger)
    assert snapshot(ledger.state) == snapshot(ledger.refolded())


@explored
@given(st.data(), st.integers(1, 20))
def test_other_writers_do_what_they_like_and_nothing_breaks(draw: st.DataObject, rounds: int) -> None:
    """Their histories fold as given, stuck or not; appends are judged all the same, whole or not at all."""
    ledger = Ledger()
    for _ in range(rounds):
        for event in draw.draw(st.lists(events(ledger.state), max_size=3)):
            if event.data["type"] != "something_new":
                ledger.foreign(event.data, event.idempotency_key)
        play_round(ledger, draw)
    assert snapshot(ledger.state) == snapshot(ledger.refolded())
