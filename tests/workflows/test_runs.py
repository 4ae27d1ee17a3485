"""Runs by Temporal: from a request to the end of the last task, with the rows that are left."""

from __future__ import annotations

import asyncio

from springline.control.runs.messages import AttemptEnded, AttemptOrder
from tests.support.definitions import asset
from tests.workflows.runs_bench import RunsBench, failed, succeeded


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
        return failed() if order.attempt < 3 else succeeded()

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


async def test_a_cancellation_ends_what_runs_and_begins_nothing(runs: RunsBench) -> None:
    began = asyncio.Event()

    async def act(order: AttemptOrder) -> AttemptEnded:
        await runs.say_started(order)
        began.set()
        try:
            while True:
                from temporalio import activity

                activity.heartbeat()
                await asyncio.sleep(0.1)
        except asyncio.CancelledError:
            now = succeeded()
            return now.model_copy(update={"outcome": "cancelled", "category": "CANCELLED", "message": "stopped"})

    await runs.deploy(asset("raw", heartbeat_ms=1_000), asset("clean", "raw"))
    runs.acts["raw"] = act
    run_id = await runs.launch("k", "raw", "clean")
    await began.wait()
    from springline import names
    from springline.control.runs.messages import CancelAsked

    await runs.run_handle(run_id).execute_update(
        names.CANCEL_UPDATE, CancelAsked(requested_by="tester", reason="enough")
    )
    ended = await runs.run_ended(run_id)
    assert (ended.state, ended.tasks) == ("CANCELLED", {"CANCELLED": 2})
    (run,) = await runs.rows("runs")
    assert run["cancel_requested"]


async def test_a_request_that_cannot_be_planned_is_a_cancelled_run_with_its_reason(runs: RunsBench) -> None:
    await runs.deploy(asset("raw"))
    await runs.launch("k", "gone")

    async def is_there() -> bool:
        return bool(await runs.rows("runs"))

    from tests.workflows.runs import until

    await until(is_there, "the run is there")
    (run,) = await runs.rows("runs")
    assert run["state"] == "CANCELLED"
    (own,) = await runs.rows("x_runs")
    assert own["cancel_reason_code"] == "UNKNOWN_ASSET"
