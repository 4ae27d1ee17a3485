"""Schedules by Temporal: from a definition to runs, and everything that interrupts them."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import uuid_utils
from temporalio.api.sdk.v1 import WorkflowMetadata
from temporalio.client import WorkflowExecutionStatus
from temporalio.service import RPCError

from entrypoints.temporal_repair import TemporalRepaired
from springline import names
from springline.control import repair as rules
from springline.control.repair import RepairKind
from springline.definitions.manifest import ScheduleDefinition
from springline.deployed.reading import ManifestReader
from springline.ledger.request import AppendOutcome, AppendRequest, NewEvent
from springline.paths import Scope
from springline.schedules.changing import Changed, ScheduleChange, Schedules, put_definition, switched
from tests.support.definitions import asset
from tests.workflows.runs import until
from tests.workflows.runs_bench import RunsBench, now_ms
from workflows import lifecycle

pytestmark = pytest.mark.usefixtures("long_patience")

EVERY_SECOND = ScheduleDefinition(interval_seconds=1, select=["raw"], max_catchup_ticks=100)
SELDOM_S = 5
EVERY_FIVE_SECONDS = ScheduleDefinition(interval_seconds=SELDOM_S, select=["raw"], max_catchup_ticks=100)
"""For a test that wakes the evaluator: the server that skips time leaves a run stuck that cancels a timer which fired
while its task was with the worker, so its alarm should seldom be near (see `conftest.PATIENCE`)."""
YEARLY = ScheduleDefinition(cron="0 0 1 1 *", select=["raw"])


@dataclass(frozen=True)
class BenchLedger:
    """The ledger of a bench, as the product's code takes it."""

    runs: RunsBench

    async def append(self, scope: Scope, request: AppendRequest) -> AppendOutcome:
        return await self.runs.append_one(request)


async def change(runs: RunsBench, schedule_id: str, make: Any) -> Changed:
    schedules = Schedules(runs.reader, BenchLedger(runs), runs.scope, now_ms)
    current = await ManifestReader().latest(runs.store, runs.scope)
    assert current is not None
    (changed,) = await schedules.change([ScheduleChange(schedule_id, make)], current.manifest)
    return changed


async def define(runs: RunsBench, schedule_id: str, definition: ScheduleDefinition) -> Changed:
    return await change(runs, schedule_id, put_definition(schedule_id, definition, None, runs.manifest_id))


async def ticks(runs: RunsBench) -> list[dict[str, Any]]:
    return sorted(await runs.rows("schedule_ticks"), key=lambda one: one["scheduled_for"])


async def there_are(runs: RunsBench, count: int) -> None:
    async def enough() -> bool:
        return len(await ticks(runs)) >= count

    await until(enough, f"{count} ticks")


def check_without_gap(found: Sequence[dict[str, Any]], every_s: int = 1) -> None:
    """Check that instants so many seconds apart are on record, each once."""
    seconds = [one["scheduled_for"] // 1_000 for one in found]
    assert seconds == list(range(seconds[0], seconds[0] + every_s * len(seconds), every_s))


async def status(runs: RunsBench) -> dict[str, Any]:
    found: dict[str, Any] = await runs.client.get_workflow_handle(runs.evaluator_id).query(names.STATUS_QUERY)
    return found


async def shown(runs: RunsBench, workflow_id: str) -> str:
    """Return what the Web UI shows of a workflow."""
    handle = runs.client.get_workflow_handle(workflow_id)
    metadata: WorkflowMetadata = await handle.query("__temporal_workflow_metadata", result_type=WorkflowMetadata)
    return metadata.current_details


async def has_ended(runs: RunsBench) -> bool:
    with contextlib.suppress(RPCError):
        described = await runs.client.get_workflow_handle(runs.evaluator_id).describe()
        return described.status is WorkflowExecutionStatus.COMPLETED
    return False


async def test_a_schedule_asks_for_runs_once_for_each_instant(runs: RunsBench) -> None:
    await runs.deploy(asset("raw"))
    changed = await define(runs, "often", EVERY_SECOND)
    assert (changed.created, changed.defined) == (True, True)
    await there_are(runs, 3)

    async def runs_have_ended() -> bool:
        states = [run["state"] for run in await runs.rows("runs")]
        return len(states) >= 3 and set(states) == {"SUCCEEDED"}

    await change(runs, "often", switched("often", enabled=False))
    await until(runs_have_ended, "every run has ended")
    found = await ticks(runs)
    check_without_gap(found)
    assert {one["run_key"] for one in found} == {run["run_key"] for run in await runs.rows("runs")}
    assert len(runs.orders) == len(found)
    details = await shown(runs, runs.evaluator_id)
    assert "### Last decisions" in details
    assert any(one["run_key"] in details for one in found)
    launched = await shown(runs, names.run_launcher_id(runs.scope.tenant, runs.scope.workspace))
    assert any(run["run_id"] in launched for run in await runs.rows("runs"))


async def test_an_evaluator_without_schedules_ends(runs: RunsBench) -> None:
    await runs.starts.wake_evaluator(runs.scope)
    await until(lambda: has_ended(runs), "the evaluator has ended")


async def test_a_change_wakes_the_evaluator_and_a_long_sleep_ends(runs: RunsBench) -> None:
    await runs.deploy(asset("raw"))
    await define(runs, "yearly", YEARLY)

    async def sleeps() -> bool:
        with contextlib.suppress(RPCError):
            return bool((await status(runs))["next_ms"])
        return False

    await until(sleeps, "the evaluator waits for the year's end")
    assert "| `yearly` |" in await shown(runs, runs.evaluator_id)
    await define(runs, "yearly", EVERY_SECOND)
    await there_are(runs, 2)
    check_without_gap(await ticks(runs))


async def test_a_hold_lets_nothing_begin_and_what_fell_into_it_is_caught_up(runs: RunsBench) -> None:
    await runs.deploy(asset("raw"))
    await define(runs, "often", EVERY_FIVE_SECONDS)
    await there_are(runs, 1)
    await hold(runs, held=True)

    async def is_held() -> bool:
        return bool((await status(runs))["held"])

    await until(is_held, "the evaluator knows of the hold")
    before = len(await ticks(runs))
    await hold(runs, held=False)
    await there_are(runs, before + 2)
    check_without_gap(await ticks(runs), SELDOM_S)


async def hold(runs: RunsBench, *, held: bool) -> None:
    data = {
        "type": "springline_hold_changed",
        "change_id": str(uuid_utils.uuid7()),
        "held": held,
        "changed_by": "tester",
    }
    await runs.append_one(AppendRequest(request_id=str(uuid_utils.uuid7()), events=[NewEvent(data=data)]))


async def test_an_evaluator_goes_on_as_another_run_without_a_gap(
    runs: RunsBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lifecycle, "DRAIN_EVENTS", 20)
    await runs.deploy(asset("raw"))
    await define(runs, "often", EVERY_SECOND)
    first = (
        (await runs.client.get_workflow_handle(runs.evaluator_id).describe()).run_id if await _is_there(runs) else ""
    )

    async def is_another() -> bool:
        return (await runs.client.get_workflow_handle(runs.evaluator_id).describe()).run_id != first

    await until(is_another, "another run of the evaluator")
    await there_are(runs, len(await ticks(runs)) + 2)
    check_without_gap(await ticks(runs))


async def _is_there(runs: RunsBench) -> bool:
    async def found() -> bool:
        with contextlib.suppress(RPCError):
            await runs.client.get_workflow_handle(runs.evaluator_id).describe()
            return True
        return False

    await until(found, "the evaluator is there")
    return True


async def test_repair_brings_an_evaluator_back_and_replaces_one_that_does_not_decide(
    runs: RunsBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rules, "SETTLED_MS", 0)
    await runs.deploy(asset("raw"))
    await define(runs, "yearly", YEARLY)
    handle = runs.client.get_workflow_handle(runs.evaluator_id)

    async def is_there() -> bool:
        with contextlib.suppress(RPCError):
            return (await handle.describe()).status is WorkflowExecutionStatus.RUNNING
        return False

    await until(is_there, "the evaluator runs")
    await handle.terminate("by hand")
    (found,) = (await runs.repair()).items
    assert (found.kind, found.error) == (RepairKind.SCHEDULES_WITHOUT_EVALUATOR, None)
    await until(is_there, "the evaluator is back")
    first = (await handle.describe()).run_id
    await TemporalRepaired(runs.client).restart_evaluator(runs.scope)
    assert (await handle.describe()).run_id != first
    assert await TemporalRepaired(runs.client).evaluator_trouble(runs.scope) is None
    assert (await runs.repair()).items == []
