"""The benchmark of evaluators: what needs no stack is measured small, and figures are judged and written down."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest
from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent

from bench import evaluators, failover
from bench.evaluators import QUICK, THRESHOLDS, judged
from bench.evaluators_pure import chunks_a_second, decisions_a_second, pass_ms
from bench.evaluators_sensors import WORST, Call, Pushed, calls_in, flow_of
from bench.evaluators_stack import TooSlow
from springline import names
from springline.cli.pipelines import describe


def test_what_needs_no_stack_is_measured() -> None:
    assert decisions_a_second(schedules=3, instants=5) > 0
    assert pass_ms(400, 100) > 0
    assert chunks_a_second(chunks=25) > 0


def test_each_threshold_has_its_figure(tmp_path: Path) -> None:
    with evaluators.places(QUICK) as stacks:
        assert list(evaluators.figures_of(stacks)) == [one.name for one in THRESHOLDS]


def test_a_measurement_of_two_figures_is_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []

    def slow(*_: Any) -> None:
        made.append("once")
        raise TooSlow("it takes too long")

    monkeypatch.setattr(evaluators, "pushed", slow)
    out = tmp_path / "evaluators.json"
    assert evaluators.main(["--only", "messages*", "--out", str(out)]) == 4
    figures = orjson.loads(out.read_bytes())["figures"]
    assert [one["problem"] for one in figures] == 2 * ["TooSlow: it takes too long"]
    monkeypatch.setattr(evaluators, "pushed", lambda *_: Pushed(accepted=60.0, evaluated=9.0))
    assert evaluators.main(["--only", "messages*", "--out", str(out)]) == 1
    figures = orjson.loads(out.read_bytes())["figures"]
    assert [(one["value"], one["passed"]) for one in figures] == [(60.0, True), (9.0, False)]
    assert made == ["once"]


def test_calls_of_a_sensor_are_late_by_their_history() -> None:
    look, call = names.LOOK_AT_SENSOR, names.EVALUATE_SENSOR
    history = [
        *_made(1, look, 10.0, {"now_ms": 10_000}),
        *_made(4, call, 10.25, {"due_ms": 9_500}),
        # Somebody else wants an evaluation now, then it is due without a look, and one is under way.
        *_made(7, look, 12.0, {"now_ms": 12_000}),
        *_made(10, call, 12.5, {"due_ms": None}),
        *_made(13, call, 39.75, {"due_ms": 39_500}),
        *_made(16, call, 69.5, {"due_ms": 69_500})[:1],
    ]
    assert calls_in(history) == [Call(due_s=9.5, began_s=10.25), Call(due_s=39.5, began_s=39.75)]


def _made(event_id: int, activity: str, began_s: float, order: dict[str, Any]) -> list[HistoryEvent]:
    """Return the events of an activity."""
    events = [HistoryEvent(event_id=event_id + number) for number in range(3)]
    for event, kind in zip(events, ("SCHEDULED", "STARTED", "COMPLETED"), strict=True):
        event.event_type = EventType.Value(f"EVENT_TYPE_ACTIVITY_TASK_{kind}")
    scheduled = events[0].activity_task_scheduled_event_attributes
    scheduled.activity_type.name = activity
    scheduled.input.payloads.add(data=orjson.dumps(order))
    events[1].activity_task_started_event_attributes.scheduled_event_id = event_id
    events[1].event_time.FromMilliseconds(int(began_s * 1_000))
    events[2].activity_task_completed_event_attributes.scheduled_event_id = event_id
    return events


def test_the_pipeline_of_sensors_is_valid(tmp_path: Path) -> None:
    (tmp_path / "flow.py").write_text(flow_of(polls=3, every_s=5, worst=True, hooks=2))
    found = describe(str(tmp_path / "flow.py"), None)
    assert found["problems"] == []
    sensors = {one["sensor_id"]: one["kind"] for one in found["sensors"]}
    assert sensors == dict.fromkeys(["poll-000", "poll-001", "poll-002", *WORST], "poll") | dict.fromkeys(
        ["hook-000", "hook-001"], "push"
    )


def test_figures_are_judged_by_their_limit() -> None:
    rate = next(one for one in THRESHOLDS if one.is_rate)
    time = next(one for one in THRESHOLDS if not one.is_rate)
    assert [judged(rate, rate.limit + more, 1.0).passed for more in (-1, 0, 1)] == [False, True, True]
    assert [judged(time, time.limit + more, 1.0).passed for more in (-0.01, 0, 0.01)] == [True, True, False]
    assert judged(time, None, 1.0, "too slow").passed is False
    assert all(one.why for one in THRESHOLDS)


def test_one_document_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "evaluators.json"
    monkeypatch.setattr(evaluators, "decisions_a_second", lambda: 60_000.0)
    assert evaluators.main(["--only", "decisions", "--out", str(out)]) == 0
    found = orjson.loads(out.read_bytes())
    (figure,) = found["figures"]
    assert (found["passed"], figure["name"], figure["value"], figure["passed"]) == (True, "decisions", 60_000.0, True)
    monkeypatch.setattr(evaluators, "decisions_a_second", lambda: 1.0)
    assert evaluators.main(["--only", "deci*", "--out", str(out)]) == 1
    assert evaluators.main(["--only", "other", "--out", str(out)]) == 2


def test_kills_are_judged_by_their_p99() -> None:
    good = failover.document_of([0.5] * 49 + [2.9])
    assert (good["passed"], good["kills"], good["p50_s"], good["p99_s"]) == (True, 50, 0.5, 2.9)
    assert failover.document_of([0.5] * 49 + [3.1])["passed"] is False
