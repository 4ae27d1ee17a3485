"""A run of thousands of tasks: made by shards, while its own workflow continues as new."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import workflows.run as run_module
from entrypoints import temporal_runs
from springline import names
from springline.control.runs.messages import AttemptEnded, AttemptOrder
from springline.packing import PACKED_FROM
from tests.support.definitions import asset
from tests.workflows.runs import until
from tests.workflows.runs_bench import RunsBench, children_of, failed, succeeded
from tests.workflows.test_runs import Waits

pytestmark = pytest.mark.usefixtures("long_patience")


def wide(count: int, **more: Any) -> list[dict[str, Any]]:
    return [asset(f"a{number:02}", heartbeat_ms=1_000, **more) for number in range(count)]


async def chain_of(runs: RunsBench, run_id: str) -> list[str]:
    """Return the Temporal runs of a run's workflow, the latest first."""
    workflow_id = names.run_workflow_id(runs.scope.tenant, runs.scope.workspace, run_id)
    found: list[str] = []
    run = await runs.client.get_workflow_handle(workflow_id).describe()
    first = run.raw_description.workflow_execution_info.first_run_id
    handle = runs.client.get_workflow_handle(workflow_id, run_id=first)
    while True:
        found.insert(0, str(handle.run_id))
        events = (await handle.fetch_history()).events
        last = events[-1]
        following = last.workflow_execution_continued_as_new_event_attributes.new_execution_run_id
        if not following:
            return found
        handle = runs.client.get_workflow_handle(workflow_id, run_id=following)


async def all_made_once(runs: RunsBench, run_id: str, count: int) -> None:
    attempts = await runs.rows("x_attempts", run_id)
    assert len(attempts) == count
    assert {(one["attempt"], one["outcome"]) for one in attempts} == {(1, "SUCCEEDED")}
    assert sorted(order.task_key for order in runs.orders) == sorted(one["task_key"] for one in attempts)
    assert await runs.rows("dispatch_outbox") == []


@pytest.mark.usefixtures("small")
async def test_a_large_run_is_made_by_shards_and_continues_as_new(runs: RunsBench) -> None:
    assets = wide(24)
    tail = asset("last", *(one["key"] for one in assets))
    await runs.deploy(*assets, tail)
    run_id = await runs.launch("k", "last", *(one["key"] for one in assets))
    ended = await runs.run_ended(run_id)
    assert (ended.state, ended.tasks) == ("SUCCEEDED", {"SUCCEEDED": 25})
    await all_made_once(runs, run_id, 25)
    assert runs.orders[-1].task_key == "last"
    assert len(await chain_of(runs, run_id)) > 1, "it has continued as new"


async def test_a_run_with_a_shard(runs: RunsBench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing but what its start says is as in no other run: its histories replay anywhere."""
    monkeypatch.setattr(temporal_runs, "SHARDS_FROM", 6)

    async def act(order: AttemptOrder) -> AttemptEnded:
        if order.attempt == 1:
            raise RuntimeError("the worker is gone")
        return failed() if order.attempt == 2 else succeeded()

    assets = wide(8, retries=1, retry_delay_ms=50)
    await runs.deploy(*assets)
    runs.acts["a03"] = act
    runs.acts["a07"] = waits = Waits(runs)
    run_id = await runs.launch("k", *(one["key"] for one in assets))
    await until(lambda: _others_ended(runs, run_id, "a07"), "all others have ended")
    await runs.cancel(run_id)
    assert (await runs.run_ended(run_id)).tasks == {"SUCCEEDED": 7, "CANCELLED": 1}
    assert waits.calls == 1
    attempts = sorted((one["attempt"], one["category"]) for one in await runs.rows("x_attempts", run_id, "a03"))
    assert attempts == [(1, "INFRASTRUCTURE"), (2, "USER_CODE"), (3, None)]
    assert len(await shards_of(runs, run_id)) == 1


@pytest.mark.usefixtures("small")
async def test_a_long_task_holds_up_no_short_ones(runs: RunsBench) -> None:
    assets = wide(24)
    await runs.deploy(*assets)
    runs.acts["a00"] = waits = Waits(runs)
    run_id = await runs.launch("k", *(one["key"] for one in assets))
    await until(lambda: _others_ended(runs, run_id), "all short tasks have ended")
    assert len(await chain_of(runs, run_id)) > 1
    waits.release.set()
    assert (await runs.run_ended(run_id)).state == "SUCCEEDED"
    await all_made_once(runs, run_id, 24)


@pytest.mark.usefixtures("small")
async def test_a_cancellation_reaches_attempts_of_shards(runs: RunsBench) -> None:
    assets = wide(12)
    await runs.deploy(*assets)
    waits = [Waits(runs) for _ in assets]
    runs.acts.update({one["key"]: wait for one, wait in zip(assets, waits, strict=True)})
    run_id = await runs.launch("k", *(one["key"] for one in assets))
    await asyncio.gather(*(wait.began.wait() for wait in waits))
    await runs.cancel(run_id)
    ended = await runs.run_ended(run_id)
    assert (ended.state, ended.tasks) == ("CANCELLED", {"CANCELLED": 12})
    assert {one["outcome"] for one in await runs.rows("x_attempts", run_id)} == {"CANCELLED"}


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("is_long", [False, True])
async def test_a_shard_that_an_operator_terminates_loses_its_attempts_and_no_more(
    runs: RunsBench, monkeypatch: pytest.MonkeyPatch, is_long: bool
) -> None:
    # One that has continued as new is told of the end of no child, and asks.
    monkeypatch.setattr(run_module, "DRAIN_EVENTS", 30 if is_long else 5_000)
    assets = wide(7)
    await runs.deploy(*assets)
    runs.acts["a00"] = first = Waits(runs)
    run_id = await runs.launch("k", *(one["key"] for one in assets))
    await first.began.wait()
    await until(lambda: _others_ended(runs, run_id), "all others have ended")
    if is_long:
        await until(lambda: _goes_on(runs, run_id), "the run goes on as another")
    else:
        assert len(await chain_of(runs, run_id)) == 1
    (shard_id,) = [one for one in await shards_of(runs, run_id) if await is_open(runs, one)][:1]
    runs.acts.pop("a00")
    await runs.client.get_workflow_handle(shard_id).terminate("by hand")
    assert (await runs.run_ended(run_id)).state == "SUCCEEDED"
    attempts = sorted((one["attempt"], one["category"]) for one in await runs.rows("x_attempts", run_id, "a00"))
    assert attempts == [(1, "INFRASTRUCTURE"), (2, None)]
    first.release.set()


async def _goes_on(runs: RunsBench, run_id: str) -> bool:
    return len(await chain_of(runs, run_id)) > 1


async def _others_ended(runs: RunsBench, run_id: str, left: str = "a00") -> bool:
    tasks = await runs.rows("tasks", run_id)
    return [one["task_key"] for one in tasks if one["state"] != "SUCCEEDED"] == [left]


async def shards_of(runs: RunsBench, run_id: str) -> list[str]:
    found: list[str] = []
    workflow_id = names.run_workflow_id(runs.scope.tenant, runs.scope.workspace, run_id)
    for temporal_run in await chain_of(runs, run_id):
        history = await runs.client.get_workflow_handle(workflow_id, run_id=temporal_run).fetch_history()
        found += children_of(history)
    return found


async def is_open(runs: RunsBench, workflow_id: str) -> bool:
    described = await runs.client.get_workflow_handle(workflow_id).describe()
    return described.close_time is None


@pytest.mark.usefixtures("small")
async def test_shards_end_with_their_run(runs: RunsBench) -> None:
    assets = wide(12)
    await runs.deploy(*assets)
    run_id = await runs.launch("k", *(one["key"] for one in assets))
    await runs.run_ended(run_id)
    shards = await shards_of(runs, run_id)
    assert len(shards) >= 3

    async def all_ended() -> bool:
        return not any([await is_open(runs, one) for one in shards])

    await until(all_ended, "all shards have ended")


@pytest.mark.usefixtures("small")
async def test_a_run_that_is_taken_up_ends_the_shards_of_the_one_before(runs: RunsBench) -> None:
    assets = wide(7)
    await runs.deploy(*assets)
    runs.acts["a00"] = first = Waits(runs)
    run_id = await runs.launch("k", *(one["key"] for one in assets))
    await first.began.wait()
    await until(lambda: _others_ended(runs, run_id), "all others have ended")
    await runs.run_handle(run_id).terminate("by hand")
    runs.acts.pop("a00")
    await runs.starts.start(runs.scope, run_id)
    first.release.set()
    assert (await runs.run_ended(run_id)).state == "SUCCEEDED"
    attempts = sorted((one["attempt"], one["outcome"]) for one in await runs.rows("x_attempts", run_id, "a00"))
    assert attempts[-1][1] == "SUCCEEDED"


async def test_the_tasks_of_a_large_run_fit_into_the_messages(runs: RunsBench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_module, "MOST_RUNNING", 0)
    keys = [f"{number:05}-{'x' * 20}" for number in range(2_000)]
    await runs.deploy(asset("a", partitions={"kind": "static", "keys": keys}))
    run_id = await runs.launch("k", "a", partition_selection=keys)
    await until(lambda: _is_running(runs, run_id), "the run is planned")
    assert len(await runs.rows("tasks", run_id)) == 2_000
    assert sum(len(one["task_key"]) for one in await runs.rows("tasks", run_id)) * 2 > PACKED_FROM // 2

    async def has_read_its_rows() -> bool:
        return (await runs.doing(run_id)).tasks == {"READY": 2_000}

    await until(has_read_its_rows, "the workflow has the tasks")
    await runs.cancel(run_id)
    assert (await runs.run_ended(run_id)).tasks == {"CANCELLED": 2_000}


async def _is_running(runs: RunsBench, run_id: str) -> bool:
    return await runs.run_state(run_id) in ("RUNNING", "TRIGGERED")
