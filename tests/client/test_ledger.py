"""The Python client's ledger and state, over the real HTTP surface on a port of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from springline.client import Springline
from springline.client.table import new_key
from springline.errors import Refused
from springline.ledger.request import AppendMode, AppendOutcome, RefusedAppend, VisibilityStatus
from tests.cli.conftest import Served, api  # noqa: F401 - a fixture
from tests.support.pipeline import plan_created, requests, run_triggered, succeeded_run


@pytest.fixture
def lake(api: Served) -> Iterator[Springline]:  # noqa: F811 - the fixture
    with Springline() as made:
        yield made


def test_what_is_appended_is_read_back(lake: Springline) -> None:
    for request in requests():
        outcome = lake.ledger.append(request)
        assert outcome.visibility_status is VisibilityStatus.VISIBLE
    assert [run["run_id"] for run in lake.state.runs(state="SUCCEEDED")] == ["run-good"]
    assert [run["run_id"] for run in lake.state.runs(label=["team=sales"])] == ["run-cancelled", "run-retried"]
    assert lake.state.run("run-good")["run"]["state"] == "SUCCEEDED"
    assert [one["attempt"] for one in lake.state.attempts("run-retried", task_key="raw.a")] == [1, 2]
    assert [one["task_key"] for one in lake.state.tasks(run_id="run-retried", state=["READY"])] == ["mart.b"]
    assert [one["asset_key"] for one in lake.state.partitions(asset_key="raw.a")] == ["raw.a"]
    assert [one["timer_type"] for one in lake.state.timers(run_id="run-retried")] == ["RETRY"]
    assert [one["schedule_id"] for one in lake.state.schedules(enabled=True)] == ["daily"]
    assert list(lake.state.schedules(enabled=False)) == []
    assert [one["tick_id"] for one in lake.state.ticks(schedule_id="daily", status="skipped")] == ["daily:6"]
    assert [one["cursor"] for one in lake.state.sensors()] == ["m-1"]
    assert [one["eval_id"] for one in lake.state.evaluations(sensor_id="files")] == ["eval-1"]
    assert [one["backfill_id"] for one in lake.state.backfills(state="RUNNING")] == ["bf-1"]
    assert len(lake.state.backfill("bf-1")["chunks"]) == 2
    assert len(lake.state.digest()["digest"]) == 32
    assert lake.ledger.status()["events"] == sum(map(len, requests()))


def test_the_same_request_id_appends_once(lake: Springline) -> None:
    request_id = new_key()
    first = lake.ledger.append(succeeded_run("run-1"), request_id=request_id)
    again = lake.ledger.append(succeeded_run("run-1"), request_id=request_id)
    assert again.replayed
    assert [event.event_id for event in again.events] == [event.event_id for event in first.events]


def test_events_are_taken_each_by_itself(lake: Springline) -> None:
    run, plan, start, end = succeeded_run("run-1")
    request_id, asked = new_key(), [start, run, plan, end]
    outcome = lake.ledger.append(asked, mode="each", request_id=request_id)
    assert [(one.index, one.code) for one in outcome.refused] == [(0, "EVENT_CONFLICT"), (3, "EVENT_CONFLICT")]
    told = [one.field if isinstance(one, RefusedAppend) else one.outcome for one in outcome.results]
    assert told == ["events[0].data.task_key", "applied", "applied", "events[3].data.attempt"]
    again = lake.ledger.append(asked, mode=AppendMode.EACH, request_id=request_id)
    assert again.replayed
    assert again.results == outcome.results
    with pytest.raises(Refused, match="another mode"):
        lake.ledger.append(asked, request_id=request_id)
    with pytest.raises(Refused) as bad_mode:
        lake.ledger.append(asked, mode="some")  # type: ignore[arg-type]
    assert bad_mode.value.refusal.field == "mode"


def test_an_answer_of_an_older_api_tells_of_no_refused_event(lake: Springline) -> None:
    (taken,) = lake.ledger.append([run_triggered("run-1")]).results
    assert not isinstance(taken, RefusedAppend)
    older = {"request_id": "x", "events": [taken.model_dump()], "visibility_status": "visible"}
    assert AppendOutcome.model_validate(older).results == [taken]


def test_lists_are_read_page_by_page(lake: Springline, monkeypatch: pytest.MonkeyPatch) -> None:
    lake.ledger.append([run_triggered(f"run-{number}") for number in range(7)])
    monkeypatch.setattr("springline.client.http.PAGE", 3)
    assert [run["run_id"] for run in lake.state.runs()] == [f"run-{number}" for number in range(7)]


def test_refusals_say_what_is_wrong(lake: Springline) -> None:
    with pytest.raises(Refused) as refused:
        lake.ledger.append([plan_created("nope", ("a", []))])
    assert (refused.value.refusal.code, refused.value.refusal.field) == ("EVENT_CONFLICT", "events[0].data.run_id")
    with pytest.raises(Refused) as unknown:
        lake.state.run("a/b")
    assert unknown.value.refusal.status == 404
    with pytest.raises(Refused) as bad_key:
        lake.ledger.append([run_triggered("run-1")], request_id="x")
    assert bad_key.value.refusal.field == "request_id"
    with pytest.raises(Refused) as bad_filter:
        list(lake.state.runs(nonsense="x"))
    assert bad_filter.value.refusal.field == "nonsense"
