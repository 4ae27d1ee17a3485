"""Repair by Temporal: what stands still because its workflow is gone goes on, and nothing else is touched."""

from __future__ import annotations

from typing import Any

import pytest
import uuid_utils
from temporalio.client import WorkflowExecutionStatus

from entrypoints.temporal_repair import TemporalRepaired
from springline import names
from springline.control import repair as rules
from springline.control.repair import RepairAction, RepairItem, RepairKind
from springline.control.runs.messages import RunStart
from springline.ledger.request import AppendRequest, NewEvent
from springline.repairing import OpenWorkflow
from springline.runs import untold
from springline.storage.scoped import ScopedStore
from springline.work import unnoted
from springline.work.seals import seal, seal_of
from tests.support.definitions import asset
from tests.workflows.runs import until
from tests.workflows.runs_bench import RunsBench
from tests.workflows.test_runs import Waits, _is
from workflows import lifecycle

pytestmark = pytest.mark.usefixtures("long_patience")


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Judge what has just happened: the tests know that nobody is about to act on it."""
    monkeypatch.setattr(rules, "SETTLED_MS", 0)


@pytest.fixture
def _without_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "FOLDED_LATE_MS", 0)


async def test_a_workspace_in_order_is_left_alone(runs: RunsBench) -> None:
    await runs.deploy(asset("raw", heartbeat_ms=1_000))
    runs.acts["raw"] = waits = Waits(runs)
    run_id = await runs.launch("k", "raw")
    await waits.began.wait()
    report = await runs.repair()
    assert (report.active_runs, report.items, report.left) == (1, [], 0)
    waits.release.set()
    assert (await runs.run_ended(run_id)).state == "SUCCEEDED"
    status = await runs.repair_status()
    assert status.made == {}
    assert status.next_ms is not None


async def test_a_run_without_a_workflow_gets_one_and_a_dry_run_only_says_so(runs: RunsBench) -> None:
    await runs.deploy(asset("raw"), asset("clean", "raw", heartbeat_ms=1_000), asset("stats", "clean"))
    runs.acts["clean"] = waits = Waits(runs)
    run_id = await runs.launch("k", "raw", "clean", "stats")
    await waits.began.wait()
    await until(lambda: _is(runs, run_id, "RUNNING", "clean"), "the attempt is on record")
    await runs.run_handle(run_id).terminate("by hand")
    waits.release.set()
    for _ in range(2):
        (item,) = (await runs.repair(dry_run=True)).items
        assert (item.kind, item.subject, item.times) == (RepairKind.RUN_WITHOUT_WORKFLOW, run_id, 0)
        assert item.action is RepairAction.START_RUN
    assert (await runs.run_handle(run_id).describe()).status is WorkflowExecutionStatus.TERMINATED
    (item,) = (await runs.repair()).items
    assert (item.action, item.error) == (RepairAction.START_RUN, None)
    assert (await runs.run_ended(run_id)).state == "SUCCEEDED"
    attempts = await runs.rows("x_attempts", run_id)
    assert [(one["task_key"], one["category"]) for one in attempts if one["outcome"] == "FAILED"] == [
        ("clean", "INFRASTRUCTURE")
    ]
    after = await runs.repair()
    assert (after.active_runs, after.items, after.healed) == (0, [], 1)
    assert (await runs.repair_status()).made == {RepairKind.RUN_WITHOUT_WORKFLOW: 1}


async def test_an_attempt_of_whose_end_nobody_is_left_to_tell_is_noted(
    runs: RunsBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its run is cancelled on record while no workflow of it is there; its worker has sealed, and died."""
    for module in (rules, untold, unnoted):
        monkeypatch.setattr(module, "UNTOLD_MS", 0)
    await runs.deploy(asset("raw", heartbeat_ms=1_000), asset("clean", "raw"))
    runs.acts["raw"] = waits = Waits(runs, announced=False)
    run_id = await runs.launch("k", "raw", "clean")
    await waits.began.wait()
    await until(lambda: _is(runs, run_id, "DISPATCHED", "raw"), "the attempt is on record")
    await runs.run_handle(run_id).terminate("by hand")
    write = {"number": 1, "table": "t", "operation": "append", "key": "k", "staged": "s", "sha256": "0", "rows": 2}
    wanted = seal_of(runs.orders[0], [write], worker_id="w-1", sealed_at_ms=1_000, output=False, metadata={})
    await seal(ScopedStore(runs.objects, runs.scope), wanted)
    data = {"type": "run_cancel_requested", "run_id": run_id, "requested_by": "somebody"}
    await runs.append_one(AppendRequest(request_id=str(uuid_utils.uuid7()), events=[NewEvent(data=data)]))
    assert await runs.run_state(run_id) == "CANCELLED"
    (item,) = (await runs.repair(dry_run=True)).items
    assert (item.kind, item.subject, item.action) == (RepairKind.ATTEMPT_NOT_TOLD, run_id, RepairAction.START_RUN)
    assert await runs.rows("x_notes", run_id) == []
    await runs.repair()
    assert (await runs.run_ended(run_id)).state == "CANCELLED"
    notes = await runs.rows("x_notes", run_id)
    assert [(one["task_key"], one["attempt"], one["note"]) for one in notes] == [
        ("raw", 1, "ended_apart"),
        ("raw", 1, "sealed"),
    ]
    after = await runs.repair()
    assert (after.items, after.healed) == ([], 1)


async def test_a_request_that_nobody_launches_is_launched(runs: RunsBench) -> None:
    """The launcher is gone when the run ends for whose end the request has waited."""
    await runs.stop_worker()
    await runs.start_worker(max_active_runs=1)
    await runs.deploy(asset("raw", heartbeat_ms=1_000))
    runs.acts["raw"] = waits = Waits(runs)
    first = await runs.launch("first", "raw")
    await waits.began.wait()
    second = await runs.request("second", "raw")
    launcher = runs.client.get_workflow_handle(runs.launcher_id)

    async def one_waits() -> bool:
        status: dict[str, Any] = await launcher.query(names.STATUS_QUERY)
        return bool(status["waiting"] == 1)

    await until(one_waits, "the request waits")
    report = await runs.repair()
    assert (report.items, report.waiting_requests) == ([], 1)
    await launcher.terminate("by hand")
    waits.release.set()
    assert (await runs.run_ended(first)).state == "SUCCEEDED"
    await runs.repair()
    assert (await runs.run_ended(second)).state == "SUCCEEDED"
    assert (await runs.repair_status()).made == {RepairKind.REQUESTS_NOT_LAUNCHED: 1}


@pytest.mark.usefixtures("_without_patience")
async def test_a_workflow_without_a_run_is_told_and_then_ended(
    runs: RunsBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The task queue has no worker, as if the workflow could do nothing."""
    await runs.deploy(asset("raw"))
    await runs.launch("k", "raw")
    orphan = "run_of_nobody"
    workflow_id = names.run_workflow_id(runs.scope.tenant, runs.scope.workspace, orphan)
    start = RunStart(tenant=runs.scope.tenant, workspace=runs.scope.workspace, run_id=orphan)
    handle = await runs.client.start_workflow(names.RUN_WORKFLOW, start, id=workflow_id, task_queue="nobody-polls")
    described = await handle.describe()
    listed = [OpenWorkflow(orphan, described.run_id, int(described.start_time.timestamp() * 1_000))]
    monkeypatch.setattr(TemporalRepaired, "open_runs", lambda self, scope: _answer(listed))
    monkeypatch.setattr(rules, "FIRST_PAUSE_MS", 0)
    acted: list[RepairItem] = []

    async def is_ended() -> bool:
        # Repair also looks by itself meanwhile.
        acted.extend(one for one in (await runs.repair()).items if one.subject == orphan)
        return (await handle.describe()).status is WorkflowExecutionStatus.TERMINATED

    await until(is_ended, "it is terminated")
    assert [one.error for one in acted] == [None] * len(acted)
    assert {one.action for one in acted if one.times < rules.MOST_WAKES} <= {RepairAction.WAKE_RUN}
    assert {one.action for one in acted if one.times >= rules.MOST_WAKES} <= {RepairAction.TERMINATE}
    assert (await runs.repair_status()).made[RepairKind.WORKFLOW_WITHOUT_RUN] > rules.MOST_WAKES


async def _answer(listed: list[OpenWorkflow]) -> list[OpenWorkflow]:
    return listed


async def test_repair_hands_its_back_off_on_and_ends_when_it_is_cancelled(
    runs: RunsBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lifecycle, "DRAIN_EVENTS", 30)
    await runs.deploy(asset("raw", heartbeat_ms=1_000))
    runs.acts["raw"] = waits = Waits(runs)
    run_id = await runs.launch("k", "raw")
    await waits.began.wait()
    await until(lambda: _is(runs, run_id, "RUNNING", "raw"), "the attempt is on record")
    await runs.run_handle(run_id).terminate("by hand")
    await runs.repair()
    handle = runs.client.get_workflow_handle(runs.repair_id)
    first = (await handle.describe()).run_id

    async def goes_on_anew() -> bool:
        await runs.repair()
        return (await handle.describe()).run_id != first

    await until(goes_on_anew, "it continues as new")
    assert (await runs.repair_status()).made == {RepairKind.RUN_WITHOUT_WORKFLOW: 1}
    waits.release.set()
    await runs.run_ended(run_id)
    await handle.cancel()

    async def has_ended() -> bool:
        return (await handle.describe()).status is WorkflowExecutionStatus.COMPLETED

    await until(has_ended, "it ends")
