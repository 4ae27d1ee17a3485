"""Runs by Temporal: from a request to the end of the last task, with the rows that are left."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
from typing import Any

import pytest
import uuid_utils
from temporalio import activity
from temporalio.service import RPCError

import workflows.run as run_module
from springline import names
from springline.control.runs.ends import METADATA, metadata_in
from springline.control.runs.messages import AttemptEnded, AttemptOrder
from springline.control.runs.planning import PRIORITY_LABEL
from springline.ledger.request import AppendRequest, NewEvent
from springline.storage.scoped import ScopedStore
from springline.work.seals import seal, seal_of
from tests.support.definitions import asset
from tests.workflows.runs import until
from tests.workflows.runs_bench import RunsBench, failed, succeeded
from workflows import lifecycle

# A ledger that rests between two appends of a run would set a timer that fires while they come (see conftest.py).
pytestmark = pytest.mark.usefixtures("long_patience")


async def test_a_run_makes_its_tasks_in_order_and_its_rows_say_so(runs: RunsBench) -> None:
    await runs.deploy(asset("raw"), asset("clean", "raw"), asset("stats", "clean"), asset("chart", "clean", "raw"))
    run_id = await runs.launch("k", "raw", "clean", "stats", "chart")
    ended = await runs.run_ended(run_id)
    assert (ended.state, ended.tasks) == ("SUCCEEDED", {"SUCCEEDED": 4})
    made = [order.task_key for order in runs.orders]
    assert made[:2] == ["raw", "clean"]
    assert sorted(made) == ["chart", "clean", "raw", "stats"]
    (run,) = await runs.rows("runs")
    assert (run["state"], run["run_key"], run["code_version"]) == ("SUCCEEDED", "k", runs.manifest_id)
    tasks = await runs.rows("tasks", run_id)
    assert {task["state"] for task in tasks} == {"SUCCEEDED"}
    assert {task["output_visibility_state"] for task in tasks} == {"VISIBLE"}
    attempts = await runs.rows("x_attempts", run_id)
    assert [(one["attempt"], one["outcome"], one["worker_id"]) for one in attempts] == [(1, "SUCCEEDED", "w-1")] * 4
    assert await runs.rows("dispatch_outbox") == []


async def test_a_failed_attempt_is_tried_again_as_often_as_its_asset_says(runs: RunsBench) -> None:
    async def act(order: AttemptOrder) -> AttemptEnded:
        told = {"share": order.attempt / 4}
        return failed(metadata=told) if order.attempt < 3 else succeeded(metadata=told)

    await runs.deploy(asset("raw", retries=2, retry_delay_ms=50), asset("clean", "raw"))
    runs.acts["raw"] = act
    run_id = await runs.launch("k", "raw", "clean")
    ended = await runs.run_ended(run_id)
    assert ended.state == "SUCCEEDED"
    attempts = await runs.rows("x_attempts", run_id, "raw")
    assert sorted((one["attempt"], one["outcome"]) for one in attempts) == [
        (1, "FAILED"),
        (2, "FAILED"),
        (3, "SUCCEEDED"),
    ]
    notes = await runs.rows("x_notes", run_id, "raw")
    assert sorted((one["note"], one["attempt"], metadata_in(one["detail"])["share"]) for one in notes) == [
        *((METADATA, 1, 0.25), (METADATA, 2, 0.5), (METADATA, 3, 0.75))
    ]
    assert {timer["state"] for timer in await runs.rows("timers")} == {"FIRED"}


async def test_the_budget_of_retries_ends_the_run_and_skips_what_needs_the_task(runs: RunsBench) -> None:
    async def act(order: AttemptOrder) -> AttemptEnded:
        return failed()

    await runs.deploy(
        asset("raw", retries=1, retry_delay_ms=50), asset("clean", "raw"), asset("stats", "clean"), asset("other")
    )
    runs.acts["raw"] = act
    run_id = await runs.launch("k", "raw", "clean", "stats", "other")
    ended = await runs.run_ended(run_id)
    assert (ended.state, ended.tasks) == ("FAILED", {"FAILED": 1, "SKIPPED": 2, "SUCCEEDED": 1})


async def test_what_a_worker_loses_costs_no_retry_and_begins_again_at_once(runs: RunsBench) -> None:
    async def act(order: AttemptOrder) -> AttemptEnded:
        if order.attempt == 1:
            raise RuntimeError("the worker is gone")
        return succeeded()

    await runs.deploy(asset("raw"))
    runs.acts["raw"] = act
    run_id = await runs.launch("k", "raw")
    assert (await runs.run_ended(run_id)).state == "SUCCEEDED"
    attempts = sorted((one["attempt"], one["category"]) for one in await runs.rows("x_attempts", run_id, "raw"))
    assert attempts == [(1, "INFRASTRUCTURE"), (2, None)]


class Waits:
    """An attempt that goes on until it is let go, or cancelled; then it says so."""

    def __init__(self, runs: RunsBench, *, announced: bool = True) -> None:
        self.runs = runs
        self.announced = announced
        self.began = asyncio.Event()
        self.release = asyncio.Event()
        self.calls = 0

    async def __call__(self, order: AttemptOrder) -> AttemptEnded:
        self.calls += 1
        if self.announced:
            # Of an attempt that was lost and is delivered again the run may have ended.
            with contextlib.suppress(RPCError):
                await self.runs.say_started(order)
        self.began.set()
        try:
            while not self.release.is_set():
                activity.heartbeat()
                await asyncio.sleep(0.05)
        except asyncio.CancelledError:
            return succeeded().model_copy(
                update={"outcome": "cancelled", "category": "CANCELLED", "message": "stopped"}
            )
        return succeeded()


async def test_a_cancellation_ends_what_runs_and_begins_nothing(runs: RunsBench) -> None:
    await runs.deploy(asset("raw", heartbeat_ms=1_000), asset("clean", "raw"))
    runs.acts["raw"] = waits = Waits(runs)
    run_id = await runs.launch("k", "raw", "clean")
    await waits.began.wait()
    await runs.cancel(run_id)
    ended = await runs.run_ended(run_id)
    assert (ended.state, ended.tasks) == ("CANCELLED", {"CANCELLED": 2})
    (run,) = await runs.rows("runs")
    assert run["cancel_requested"]
    assert [order.task_key for order in runs.orders] == ["raw"]


async def test_a_cancellation_that_only_the_ledger_has_reaches_the_run(runs: RunsBench) -> None:
    await runs.deploy(asset("raw", heartbeat_ms=1_000))
    runs.acts["raw"] = waits = Waits(runs)
    run_id = await runs.launch("k", "raw")
    await waits.began.wait()
    await until(lambda: _is(runs, run_id, "RUNNING", "raw"), "the attempt is on record")
    data = {"type": "run_cancel_requested", "run_id": run_id, "requested_by": "somebody"}
    await runs.append_one(AppendRequest(request_id=str(uuid_utils.uuid7()), events=[NewEvent(data=data)]))
    assert (await runs.run_ended(run_id)).state == "CANCELLED"


async def _is(runs: RunsBench, run_id: str, state: str, task: str) -> bool:
    return [one["state"] for one in await runs.rows("tasks", run_id) if one["task_key"] == task] == [state]


async def test_to_cancel_the_workflow_is_to_cancel_the_run(runs: RunsBench) -> None:
    await runs.deploy(asset("raw", heartbeat_ms=1_000), asset("clean", "raw"))
    runs.acts["raw"] = waits = Waits(runs)
    run_id = await runs.launch("k", "raw", "clean")
    await waits.began.wait()
    await runs.run_handle(run_id).cancel()
    ended = await runs.run_ended(run_id)
    assert (ended.state, ended.tasks) == ("CANCELLED", {"CANCELLED": 2})
    (own,) = await runs.rows("x_runs")
    assert own["cancel_reason_code"] == "WORKFLOW_CANCELLED"
    assert {task["state"] for task in await runs.rows("tasks", run_id)} == {"CANCELLED"}


async def test_what_a_lost_attempt_has_sealed_is_noted_when_its_run_ends(runs: RunsBench) -> None:
    async def act(order: AttemptOrder) -> AttemptEnded:
        if order.attempt > 1:
            return await waits(order)
        write = {"number": 1, "table": "t", "operation": "append", "key": "k", "staged": "s", "sha256": "0", "rows": 2}
        wanted = seal_of(order, [write], worker_id="w-1", sealed_at_ms=1_000, output=False, metadata={})
        await seal(ScopedStore(runs.objects, runs.scope), wanted)
        raise RuntimeError("its worker is gone")

    await runs.deploy(asset("raw", heartbeat_ms=1_000), asset("clean", "raw"))
    runs.acts["raw"], waits = act, Waits(runs)
    run_id = await runs.launch("k", "raw", "clean")
    await waits.began.wait()
    await runs.cancel(run_id)
    assert (await runs.run_ended(run_id)).state == "CANCELLED"
    (note,) = await runs.rows("x_notes", run_id)
    assert (note["task_key"], note["attempt"], note["note"]) == ("raw", 1, "sealed")
    assert json.loads(note["detail"])["tables"] == [
        {"idempotency_key": "k", "operation": "append", "rows": 2, "table": "t"}
    ]


async def test_a_cancelled_run_ends_though_no_worker_is_there(runs: RunsBench) -> None:
    await runs.deploy(asset("raw", queue="nobody-polls"))
    run_id = await runs.launch("k", "raw")
    await until(lambda: _is(runs, run_id, "DISPATCHED", "raw"), "the task waits for a worker")
    doing = await runs.doing(run_id)
    assert doing.running == ["raw"]
    assert doing.longest == []
    (waits,) = doing.waits_for
    assert waits.startswith("raw: no worker of code location flights, queue nobody-polls has begun, since 2")
    assert waits in await runs.details_of(run_id)
    await runs.cancel(run_id)
    assert (await runs.run_ended(run_id)).state == "CANCELLED"


async def test_a_request_that_cannot_be_planned_is_a_cancelled_run_with_its_reason(runs: RunsBench) -> None:
    await runs.deploy(asset("raw"))
    run_id = await runs.launch("k", "gone")

    async def is_cancelled() -> bool:
        return await runs.run_state(run_id) == "CANCELLED"

    await until(is_cancelled, "the run is cancelled")
    (own,) = await runs.rows("x_runs")
    assert own["cancel_reason_code"] == "UNKNOWN_ASSET"


async def test_a_run_whose_workflow_is_gone_is_taken_up_from_its_rows(runs: RunsBench) -> None:
    await runs.deploy(asset("raw"), asset("clean", "raw", heartbeat_ms=1_000), asset("stats", "clean"))
    runs.acts["clean"] = waits = Waits(runs)
    run_id = await runs.launch("k", "raw", "clean", "stats")
    await waits.began.wait()
    await until(lambda: _is(runs, run_id, "RUNNING", "clean"), "the attempt is on record")
    await runs.run_handle(run_id).terminate("by hand")
    waits.release.set()
    await runs.starts.wake_launcher(runs.scope, [], looks=True)

    async def has_ended() -> bool:
        return await runs.run_state(run_id) == "SUCCEEDED"

    await until(has_ended, "the run ends all the same")
    attempts = await runs.rows("x_attempts", run_id)
    assert [(one["task_key"], one["attempt"], one["category"]) for one in attempts if one["outcome"] == "FAILED"] == [
        ("clean", 1, "INFRASTRUCTURE")
    ]
    assert {one["task_key"] for one in attempts if one["outcome"] == "SUCCEEDED"} == {"raw", "clean", "stats"}
    assert [order.task_key for order in runs.orders].count("raw") == 1


async def test_a_held_workspace_begins_nothing_until_it_goes_on(runs: RunsBench) -> None:
    await runs.deploy(asset("raw", heartbeat_ms=1_000), asset("clean", "raw"))
    runs.acts["raw"] = waits = Waits(runs)
    running = await runs.launch("k", "raw", "clean")
    await waits.began.wait()
    await runs.hold(True)
    waiting = await runs.launch("later", "raw")
    await runs.starts.wake_run(runs.scope, running)
    waits.release.set()
    await until(lambda: _is(runs, running, "SUCCEEDED", "raw"), "what ran is on record")

    async def is_held() -> bool:
        return (await runs.doing(running)).phase.startswith("held")

    await until(is_held, "the run says that it is held")
    assert await runs.run_state(waiting) is None
    await runs.hold(False)
    assert (await runs.run_ended(running)).state == "SUCCEEDED"
    assert (await runs.run_ended(waiting)).state == "SUCCEEDED"


async def test_a_parameter_takes_the_output_of_the_attempt_that_succeeded(runs: RunsBench) -> None:
    async def act(order: AttemptOrder) -> AttemptEnded:
        return failed() if order.attempt == 1 else succeeded()

    taking = asset("clean")
    taking["dependencies"] = [{"asset": "raw", "argument": "raw"}]
    await runs.deploy(asset("raw", retries=1, retry_delay_ms=10), taking)
    runs.acts["raw"] = act
    run_id = await runs.launch("k", "raw", "clean")
    assert (await runs.run_ended(run_id)).state == "SUCCEEDED"
    raws = [order for order in runs.orders if order.task_key == "raw"]
    (clean,) = [order for order in runs.orders if order.task_key == "clean"]
    assert [order.keeps_output for order in raws] == [True, True]
    (taken,) = clean.inputs
    assert (taken.argument, taken.many) == ("raw", False)
    assert [(one.task_key, one.attempt_id, one.scope) for one in taken.outputs] == [("raw", raws[1].attempt_id, run_id)]


async def test_a_worker_that_falls_silent_loses_its_attempt(runs: RunsBench) -> None:
    async def act(order: AttemptOrder) -> AttemptEnded:
        if order.attempt == 1:
            activity.raise_complete_async()
        return succeeded()

    await runs.deploy(asset("raw", heartbeat_ms=1_000))
    runs.acts["raw"] = act
    run_id = await runs.launch("k", "raw")
    assert (await runs.run_ended(run_id)).state == "SUCCEEDED"
    lost = [one for one in await runs.rows("x_attempts", run_id) if one["outcome"] == "FAILED"]
    assert [(one["category"], one["reason_code"]) for one in lost] == [("INFRASTRUCTURE", "attempt_lost")]


async def test_a_run_with_a_long_history_continues_as_new(runs: RunsBench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_module, "DRAIN_EVENTS", 40)
    keys = [f"t{number}" for number in range(6)]
    await runs.deploy(asset("t0"), *(asset(key, before) for before, key in itertools.pairwise(keys)))
    run_id = await runs.launch("k", *keys)

    async def has_ended() -> bool:
        return await runs.run_state(run_id) == "SUCCEEDED"

    await until(has_ended, "the run ends")
    assert [order.task_key for order in runs.orders] == keys
    assert {one["attempt"] for one in await runs.rows("x_attempts", run_id)} == {1}


async def test_a_launcher_with_a_long_history_goes_on_as_another_run(
    runs: RunsBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lifecycle, "DRAIN_EVENTS", 20)
    await runs.deploy(asset("raw"))
    launched = [await runs.launch("k0", "raw")]
    await runs.run_ended(launched[0])
    launcher = runs.client.get_workflow_handle(runs.launcher_id)
    first = (await launcher.describe()).run_id
    launched += await asyncio.gather(*(runs.launch(f"k{number}", "raw") for number in range(1, 10)))
    for run_id in launched:
        assert (await runs.run_ended(run_id)).state == "SUCCEEDED"
    assert (await launcher.describe()).run_id != first
    assert len(runs.orders) == 10


async def test_a_request_whose_manifest_is_gone_waits_and_holds_up_nobody(runs: RunsBench) -> None:
    await runs.deploy(asset("raw"))
    deployed, runs.manifest_id = runs.manifest_id, "01JHMPDTN0000AQKFF00000001"
    waits = await runs.launch("k", "raw")
    runs.manifest_id = deployed
    await runs.run_ended(await runs.launch("l", "raw"))
    assert await runs.run_state(waits) is None


async def test_a_request_of_another_system_is_left_to_it(runs: RunsBench) -> None:
    await runs.deploy(asset("raw"))
    runs.manifest_id = "git-abc"
    foreign = await runs.request("theirs", "raw")
    await runs.starts.wake_launcher(runs.scope, ["theirs"], looks=True)
    await runs.deploy(asset("raw"), asset("other"))
    run_id = await runs.launch("ours", "raw")
    await runs.run_ended(run_id)
    assert await runs.run_state(foreign) is None


async def test_runs_beyond_the_limit_wait_the_most_urgent_first(
    runs: RunsBench,
) -> None:
    await runs.stop_worker()
    await runs.start_worker(max_active_runs=1)
    await runs.deploy(asset("raw", heartbeat_ms=1_000))
    runs.acts["raw"] = waits = Waits(runs)
    first = await runs.launch("first", "raw")
    await waits.began.wait()
    usual = await runs.launch("usual", "raw")
    urgent = await runs.launch("urgent", "raw", labels={PRIORITY_LABEL: "5"})
    await until(lambda: _waits(runs, 2), "two requests wait")
    assert [await runs.run_state(run_id) for run_id in (usual, urgent)] == [None, None]
    waits.release.set()
    for run_id in (first, urgent, usual):
        assert (await runs.run_ended(run_id)).state == "SUCCEEDED"
    assert [order.run_id for order in runs.orders] == [first, urgent, usual]


@pytest.mark.not_recorded
async def test_looks_at_everything_wake_runs_that_go_on_once_in_a_while(runs: RunsBench) -> None:
    """Each end of a run is such a look while others wait: not each may have all that go on read their rows."""
    await runs.deploy(asset("raw"))
    launcher = runs.client.get_workflow_handle(runs.launcher_id)
    for number in (1, 2):
        await runs.starts.wake_launcher(runs.scope, [], looks=True)

        async def has_looked(number: int = number) -> bool:
            status: dict[str, Any] = await launcher.query(names.STATUS_QUERY)
            return bool(status["passes"] == number)

        await until(has_looked, "the launcher has looked")
    orders = [
        json.loads(event.activity_task_scheduled_event_attributes.input.payloads[0].data)
        async for event in launcher.fetch_history_events()
        if event.HasField("activity_task_scheduled_event_attributes")
    ]
    assert [(order["run_keys"], order["restarts"]) for order in orders] == [(None, True), (None, False)]


async def _waits(runs: RunsBench, count: int) -> bool:
    launcher = runs.client.get_workflow_handle(runs.launcher_id)
    status: dict[str, Any] = await launcher.query(names.STATUS_QUERY)
    return bool(status["waiting"] == count)
