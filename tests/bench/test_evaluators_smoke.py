"""The benchmark of evaluators: what needs no stack is measured small, and figures are judged and written down."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from bench import evaluators, failover
from bench.evaluators import QUICK, THRESHOLDS, judged
from bench.evaluators_pure import chunks_a_second, decisions_a_second, pass_ms
from bench.evaluators_sensors import WORST, Pushed, calls_in, flow_of, lateness
from bench.evaluators_stack import TooSlow
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


def test_calls_of_a_sensor_are_late_by_the_call_before() -> None:
    calls = calls_in("poll-0 10.0\npoll-1 11.0\npoll-0 40.25\npoll-0 70.25\n")
    assert calls == {"poll-0": [10.0, 40.25, 70.25], "poll-1": [11.0]}
    assert lateness(calls["poll-0"], 30) == [(40.0, 0.25), (70.25, 0.0)]


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
    good = failover.document_of([0.5] * 49 + [2.9], "schedules")
    assert (good["passed"], good["kills"], good["p50_s"], good["p99_s"]) == (True, 50, 0.5, 2.9)
    assert failover.document_of([0.5] * 49 + [3.1], "schedules")["passed"] is False


def test_what_a_kill_costs_messages_is_known_when_all_around_it_are_evaluated() -> None:
    sent = {"early": 90.0, "before": 99.0, "behind": 101.0, "late": 110.0}
    assert failover.waited(sent, {"early": 99.9, "before": 99.1}, 100.0) is None
    assert failover.waited(sent, {"before": 99.1, "behind": 103.5}, 100.0) == 2.5
    assert failover.waited({}, {}, 100.0) is None


def test_what_a_kill_costs_a_backfill_is_what_is_beyond_the_usual() -> None:
    planned = [90.0, 91.0, 92.0, 93.0, 94.0, 99.5, 100.0, 104.5]
    assert failover.longer_than_usual(planned, 100.1) is None
    assert failover.longer_than_usual([*planned, 105.5], 100.1) == 3.5
