"""The activity of users' workers: starts told in groups, heartbeats, cancellation, a worker that goes down."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import time
from datetime import timedelta
from pathlib import Path

import pytest
from temporalio.activity import ActivityCancellationDetails
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError, RPCStatusCode
from temporalio.testing import ActivityEnvironment

from activities import attempts
from activities.attempts import AttemptActivities, StartSignals
from springline import names
from springline.control.runs.messages import AttemptEnded, AttemptOrder, AttemptsStarted, AttemptStarted
from tests.work.conftest import Open, Worker, gone, order
from tests.work.test_attempts import FLOW, begun

RUN_WORKFLOW = names.run_workflow_id("acme", "dev", "run_1")


class Told:
    """Notes what runs were told; the next call fails with `fault` if there is one."""

    def __init__(self) -> None:
        self.signals: list[tuple[str, list[str]]] = []
        self.fault: RPCStatusCode | None = None

    async def __call__(self, workflow_id: str, started: AttemptsStarted) -> None:
        self.signals.append((workflow_id, [one.attempt_id for one in started.attempts]))
        if self.fault is not None:
            raise RPCError("no", self.fault, b"")


def activities_of(worker: Worker, told: Told) -> tuple[AttemptActivities, StartSignals]:
    starts = StartSignals(told)
    return AttemptActivities(worker.maker, starts, "w1"), starts


def begin(
    environment: ActivityEnvironment, activity: AttemptActivities, wanted: AttemptOrder
) -> asyncio.Task[AttemptEnded]:
    async def run() -> AttemptEnded:
        return await environment.run(activity.run_attempt, wanted)

    return asyncio.create_task(run())


def start_of(attempt_id: str) -> AttemptStarted:
    return AttemptStarted(task_key="a", attempt=1, attempt_id=attempt_id, worker_id="w", started_at_ms=1)


async def test_what_begins_together_is_told_to_each_run_at_once() -> None:
    told = Told()
    starts = StartSignals(told)
    for workflow_id, attempt_id in (("run/1", "a1"), ("run/1", "a2"), ("run/2", "b1")):
        starts.add(workflow_id, start_of(attempt_id))
    await starts.aclose()
    assert told.signals == [("run/1", ["a1", "a2"]), ("run/2", ["b1"])]


async def test_a_start_is_told_if_its_attempt_goes_on_and_else_left_to_the_end(opened: Open) -> None:
    worker, told = await opened(FLOW), Told()
    activity, starts = activities_of(worker, told)
    environment = ActivityEnvironment()
    for wanted in (order("later"), order("tells")):
        assert (await begin(environment, activity, wanted)).outcome == "succeeded"
    await starts.aclose()
    assert told.signals == [(RUN_WORKFLOW, ["a-tells-1"])]


@pytest.mark.parametrize("fault", [RPCStatusCode.NOT_FOUND, RPCStatusCode.UNAVAILABLE])
async def test_a_run_that_cannot_be_told_takes_nothing_with_it(
    fault: RPCStatusCode, caplog: pytest.LogCaptureFixture
) -> None:
    # Other tests of this process may have made our logs quieter.
    caplog.set_level(logging.WARNING, logger="springline.work")
    told = Told()
    told.fault = fault
    starts = StartSignals(told, grouped_s=0)
    starts.add("run/1", start_of("a1"))
    await starts.aclose()
    told.fault = None
    starts.add("run/1", start_of("a2"))
    await starts.aclose()
    assert told.signals == [("run/1", ["a1"]), ("run/1", ["a2"])]
    assert ("run/1 was not told of 1 starts" in caplog.text) is (fault is RPCStatusCode.UNAVAILABLE)


async def test_heartbeats_carry_the_progress(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts, "HEARTBEAT_S", 0.05)
    worker = await opened(FLOW)
    activity, _ = activities_of(worker, Told())
    environment = ActivityEnvironment()
    beats: list[object] = []
    environment.on_heartbeat = lambda *details: beats.append(details)
    assert (await begin(environment, activity, order("tells"))).outcome == "succeeded"
    assert beats[0] == ()
    assert ({"progress": 0.25, "message": "a quarter"},) in beats
    assert beats[-1] == ({"progress": 0.5, "message": None},)


async def test_an_asset_with_little_patience_gets_heartbeats_in_time(opened: Open) -> None:
    worker = await opened(FLOW)
    activity, _ = activities_of(worker, Told())
    environment = ActivityEnvironment()
    environment.info = dataclasses.replace(environment.info, heartbeat_timeout=timedelta(milliseconds=400))
    beats: list[float] = []
    environment.on_heartbeat = lambda *_: beats.append(time.monotonic())
    assert (await begin(environment, activity, order("tells"))).outcome == "succeeded"
    assert len(beats) > 8, "1.6 s, ten each second"


@pytest.mark.parametrize(
    "details", [ActivityCancellationDetails(cancel_requested=True), ActivityCancellationDetails(not_found=True)]
)
async def test_a_cancelled_activity_stops_its_function_and_says_so(
    details: ActivityCancellationDetails, opened: Open, tmp_path: Path
) -> None:
    worker = await opened(FLOW)
    activity, _ = activities_of(worker, Told())
    environment = ActivityEnvironment()
    making = begin(environment, activity, order("sleeps"))
    pid = await begun(tmp_path)
    environment.cancel(details)
    end = await making
    assert (end.outcome, end.category) == ("cancelled", "CANCELLED")
    assert (tmp_path / "cleaned").exists()
    assert await gone(pid)


async def test_a_worker_that_goes_down_hands_the_attempt_back(opened: Open, tmp_path: Path) -> None:
    worker = await opened(FLOW, grace_s=0.2)
    activity, _ = activities_of(worker, Told())
    environment = ActivityEnvironment()
    making = begin(environment, activity, order("deaf"))
    pid = await begun(tmp_path)
    environment.cancel(ActivityCancellationDetails(worker_shutdown=True))
    with pytest.raises(ApplicationError, match="worker w1 was told to end, and has stopped deaf, attempt 1") as stopped:
        await making
    assert (stopped.value.type, stopped.value.non_retryable) == (names.WORKER_STOPPED, False)
    assert await gone(pid)


async def test_a_function_that_ends_while_its_worker_goes_down_has_ended(opened: Open, tmp_path: Path) -> None:
    worker = await opened(FLOW)
    activity, _ = activities_of(worker, Told())
    environment = ActivityEnvironment()
    making = begin(environment, activity, order("swallows"))
    await begun(tmp_path)
    environment.cancel(ActivityCancellationDetails(worker_shutdown=True))
    assert (await making).outcome == "succeeded"
