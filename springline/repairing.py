"""Looking at a workspace for what `Repair` is to repair: its rows, its rounds, and the workflows that Temporal has.

The workflows are listed first and the rows read after that: a workflow that is open has its run in the rows by then.
What cannot be looked at is said, and keeps nothing else from being looked at.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from springline.backfills.reading import RUN_TABLES, known_backfill
from springline.backfills.standing import StandingBackfill, changed_ms, moved_ms, standing_backfill
from springline.control.repair import (
    SCHEDULES_LATE_MS,
    PlannedRepair,
    RepairAction,
    RepairLook,
    RepairLookOrder,
    SeenAutomation,
    SeenBackfill,
    SeenRun,
    SeenUntold,
    SeenWorkflow,
    SeenWorkspace,
    judge,
    plan_repairs,
)
from springline.definitions.manifest import DeployedManifest, sensor_ids
from springline.deployed.reading import read_latest
from springline.deployed.register import register
from springline.errors import SpringlineError
from springline.paths import Scope
from springline.projection.rows import BackfillRow, RunKeyRow, RunRow
from springline.projection.schema import FINISHED_RUN
from springline.published.reader import PublishedReader
from springline.published.snapshot import StateSnapshot
from springline.runs.backfilled import TABLES as TABLES_OF_BACKFILLS
from springline.runs.backfilled import open_backfills
from springline.runs.launching import active_runs, asked_for, is_of_a_backfill, kept_free
from springline.runs.loading import is_held
from springline.runs.untold import TABLES as TABLES_OF_UNTOLD
from springline.runs.untold import untold_runs, was_cancelled_lately
from springline.schedules.overdue import StandingSchedules, standing_schedules
from springline.schedules.reading import TABLES
from springline.sensors.reading import TABLES as TABLES_OF_SENSORS
from springline.sensors.standing import standing_sensors
from springline.sequencer.accepted import pending_rounds
from springline.sequencer.opening import read_opening
from springline.storage.damage import DamagedObject
from springline.storage.port import ObjectStore
from springline.storage.scoped import ScopedStore
from springline.storage.together import each

MOST_ASKED: Final = 200
"""Runs without a listed workflow of which one look asks Temporal."""


class CannotList(SpringlineError):
    """Temporal does not list the workflows of a workspace; the message says why."""


@dataclass(frozen=True, slots=True)
class OpenWorkflow:
    """An open workflow of a run, as Temporal has it. `started_ms`: when it was started, in ms since 1970."""

    run_id: str
    workflow_run_id: str
    started_ms: int


class RepairedWorkflows(Protocol):
    """Workflows of a workspace: which are open, and how they are started, told and ended."""

    async def open_runs(self, scope: Scope) -> list[OpenWorkflow]:
        """Return the open workflows of runs, as the index of Temporal has them; raises `CannotList`."""

    async def is_open(self, scope: Scope, run_id: str) -> bool:
        """Say whether a run has an open workflow, without the index: it lags behind."""

    async def is_backfill_open(self, scope: Scope, backfill_id: str) -> bool:
        """Say whether a backfill has an open evaluator."""

    async def wake_backfill(self, scope: Scope, backfill_id: str) -> None:
        """Tell the evaluator of a backfill, and start it if it does not run."""

    async def start(self, scope: Scope, run_id: str) -> None:
        """Start the workflow of a run; one that is running reads its rows."""

    async def wake_run(self, scope: Scope, run_id: str) -> None:
        """Tell a run's workflow to read its rows; one that does not run is not started."""

    async def terminate(self, scope: Scope, run_id: str, workflow_run_id: str, reason: str) -> None:
        """End this workflow of a run; one that has ended is left alone."""

    async def wake_launcher(self, scope: Scope, run_keys: list[str], *, looks: bool) -> None:
        """Tell the launcher of a workspace, and start it if it does not run."""

    async def open_sensors(self, scope: Scope) -> set[str]:
        """Return the sensors with an open workflow, as the index of Temporal has them; raises `CannotList`."""

    async def wake_sensor(self, scope: Scope, sensor_id: str) -> None:
        """Tell a sensor's workflow to look, and start it if it does not run."""

    async def start_ledger(self, scope: Scope) -> None:
        """Start the ledger's workflow, unless it runs: it finishes rounds that others left."""

    async def has_evaluator(self, scope: Scope) -> bool:
        """Say whether a workflow decides on the schedules of a workspace, without the index."""

    async def evaluator_trouble(self, scope: Scope) -> str | None:
        """Return why the evaluator's last pass failed, None if it did not; or why it does not say."""

    async def wake_evaluator(self, scope: Scope) -> None:
        """Tell the evaluator of a workspace's schedules, and start it if it does not run."""

    async def restart_evaluator(self, scope: Scope) -> None:
        """Start the evaluator of a workspace's schedules in the place of one that runs."""


async def look(
    store: ObjectStore,
    reader: PublishedReader,
    workflows: RepairedWorkflows,
    order: RepairLookOrder,
    *,
    most_active: int,
) -> RepairLook:
    """Return what is to be repaired in a workspace. `store` is the whole store; `most_active`: runs under way at once.

    Raises `DamagedObject` if the published state cannot be read, the store's errors, and Temporal's.
    """
    scope = Scope(order.tenant, order.workspace)
    trouble: list[str] = []
    opened: list[OpenWorkflow] = []
    try:
        opened = await workflows.open_runs(scope)
    except CannotList as error:
        trouble.append(f"workflows of ended runs were not looked for: {error}")
    snapshot = await reader.snapshot(scope, sorted({*TABLES, *TABLES_OF_BACKFILLS}))
    active = await asyncio.to_thread(active_runs, snapshot)
    room = max(0, most_active - len(active))
    waiting, _ = await asyncio.to_thread(asked_for, snapshot, None)
    if room <= kept_free(most_active):
        # Those of backfills wait for their turn.
        waiting = [one for one in waiting if not is_of_a_backfill(one)]
    names = {run.run_id for run in active}
    others = [one for one in opened if one.run_id not in names]
    rows: dict[str, Any] = await asyncio.to_thread(
        lambda: {one.run_id: snapshot["runs"].get(one.run_id) for one in others}
    )
    standing = await asyncio.to_thread(standing_schedules, snapshot, order.now_ms)
    pending, since_ms = await _pending(ScopedStore(store, scope), trouble)
    manifest = await _manifest(store, scope, trouble)
    if manifest is not None:
        # An entry that was lost is made again, before Temporal loses everything.
        await register(store, scope)
    lost, deployed_ms = await _lost_sensors(workflows, scope, manifest, trouble)
    backfills = await asyncio.to_thread(open_backfills, snapshot)
    untold = await _untold_runs(store, reader, snapshot, scope, order.now_ms)
    seen = SeenWorkspace(
        active=await _seen(workflows, scope, active, {one.run_id for one in opened}, trouble),
        without_run=[_without_run(one, rows[one.run_id]) for one in others],
        waiting=len(waiting),
        waiting_since_ms=_oldest_ms(waiting),
        room=room,
        untold=await _untold(workflows, scope, untold, opened),
        backfills=await _backfills(workflows, scope, backfills),
        held=is_held(snapshot),
        pending=pending,
        pending_since_ms=since_ms,
        lost_sensors=lost,
        deployed_ms=deployed_ms,
        **await _evaluator(workflows, scope, standing, order.now_ms),
    )
    found = judge(seen, order.now_ms)
    plan = plan_repairs(found.findings, order.tried, order.now_ms)
    automation = SeenAutomation(
        **await _measured("backfills", _standing_backfills(reader, scope, backfills, order.now_ms), trouble),
        **await _measured("sensors", _standing_sensors(reader, scope, manifest, order.now_ms), trouble),
    )
    return found.model_copy(update={"plan": plan, "automation": automation, "trouble": trouble})


async def make_repair(workflows: RepairedWorkflows, scope: Scope, one: PlannedRepair) -> None:
    """Make a repair; it is safe to repeat. Raises the errors of Temporal."""
    finding = one.finding
    match one.action:
        case RepairAction.START_RUN:
            await workflows.start(scope, finding.subject)
        case RepairAction.WAKE_RUN:
            await workflows.wake_run(scope, finding.subject)
        case RepairAction.TERMINATE:
            assert finding.workflow_run_id is not None
            await workflows.terminate(scope, finding.subject, finding.workflow_run_id, finding.why)
        case RepairAction.WAKE_LAUNCHER:
            await workflows.wake_launcher(scope, [], looks=True)
        case RepairAction.START_BACKFILL:
            await workflows.wake_backfill(scope, finding.subject)
        case RepairAction.START_LEDGER:
            await workflows.start_ledger(scope)
        case RepairAction.START_SENSOR:
            await workflows.wake_sensor(scope, finding.subject)
        case RepairAction.WAKE_EVALUATOR:
            await workflows.wake_evaluator(scope)
        case RepairAction.RESTART_EVALUATOR:
            await workflows.restart_evaluator(scope)


async def _backfills(workflows: RepairedWorkflows, scope: Scope, found: Sequence[BackfillRow]) -> list[SeenBackfill]:
    """Return which of the backfills that are not over have no evaluator."""
    are_open = await each(lambda one: workflows.is_backfill_open(scope, one.backfill_id), found)
    return [
        SeenBackfill(backfill_id=one.backfill_id, changed_ms=changed_ms(one))
        for one, is_open in zip(found, are_open, strict=True)
        if not is_open
    ]


async def _untold_runs(
    store: ObjectStore, reader: PublishedReader, snapshot: StateSnapshot, scope: Scope, now_ms: int
) -> dict[str, int]:
    if not await asyncio.to_thread(was_cancelled_lately, snapshot, now_ms):
        return {}
    return await untold_runs(store, await reader.snapshot(scope, TABLES_OF_UNTOLD), scope, now_ms)


async def _untold(
    workflows: RepairedWorkflows, scope: Scope, found: dict[str, int], opened: Sequence[OpenWorkflow]
) -> list[SeenUntold]:
    """Return which of the ended runs with an attempt of untold end have no workflow that could tell it."""
    listed = {one.run_id for one in opened}
    asked = [run_id for run_id in found if run_id not in listed]
    are_open = await each(lambda run_id: workflows.is_open(scope, run_id), asked)
    return [
        SeenUntold(run_id=run_id, cancelled_ms=found[run_id])
        for run_id, is_open in zip(asked, are_open, strict=True)
        if not is_open
    ]


async def _measured(what: str, found: Awaitable[dict[str, Any]], trouble: list[str]) -> dict[str, Any]:
    """Return what is measured, nothing if it cannot be read: that keeps nothing from being repaired."""
    try:
        return await found
    except DamagedObject as error:
        trouble.append(f"how {what} get on was not looked at: {error}")
        return {}


async def _standing_backfills(
    reader: PublishedReader, scope: Scope, rows: Sequence[BackfillRow], now_ms: int
) -> dict[str, Any]:
    """Say how the backfills get on that are not over; tasks are read only if one may stand still."""
    if not rows:
        return {"oldest_chunk_ms": now_ms, "moved_ms": now_ms}
    snapshot = await reader.snapshot(scope, RUN_TABLES)

    def look() -> list[StandingBackfill]:
        known = [known_backfill(snapshot, row.backfill_id) for row in rows]
        return [standing_backfill(snapshot, one, now_ms) for one in known if one is not None]

    found = await asyncio.to_thread(look)
    still = [one for one in found if one.stands_still(now_ms)]
    moved: list[int] = []
    if still:
        tasks = await reader.snapshot(scope, ("tasks",))
        moved = await asyncio.to_thread(lambda: [max(one.moved_ms, moved_ms(tasks, one, now_ms)) for one in still])
    return {
        "open_chunks": sum(len(one.view.open) for one in found),
        "oldest_chunk_ms": min((one.oldest_ms for one in found if one.oldest_ms is not None), default=now_ms),
        "moved_ms": min(moved, default=now_ms),
    }


async def _standing_sensors(
    reader: PublishedReader, scope: Scope, manifest: DeployedManifest | None, now_ms: int
) -> dict[str, Any]:
    """Say how the deployed sensors get on; nothing if it is not known which are."""
    if manifest is None:
        return {}
    if not manifest.sensors:
        return {"oldest_message_ms": now_ms, "on_time_ms": now_ms}
    snapshot = await reader.snapshot(scope, TABLES_OF_SENSORS)
    found = await asyncio.to_thread(standing_sensors, snapshot, manifest, now_ms)
    return {"messages": found.messages, "oldest_message_ms": found.oldest_ms, "on_time_ms": found.on_time_ms}


async def _evaluator(
    workflows: RepairedWorkflows, scope: Scope, standing: StandingSchedules, now_ms: int
) -> dict[str, Any]:
    """Say how the schedules and their evaluator stand; it is asked why only if an instant is late."""
    if not standing.count:
        return {}
    since_ms = standing.overdue[0].due_ms if standing.overdue else None
    found: dict[str, Any] = {
        "schedules": standing.count,
        "due_soon": standing.due_soon,
        "schedules_since_ms": standing.newest_ms or 0,
        "has_evaluator": await workflows.has_evaluator(scope),
        "overdue": len(standing.overdue),
        "overdue_since_ms": since_ms,
    }
    if found["has_evaluator"] and since_ms is not None and now_ms - since_ms >= SCHEDULES_LATE_MS:
        found["evaluator_trouble"] = await workflows.evaluator_trouble(scope)
    return found


async def _seen(
    workflows: RepairedWorkflows, scope: Scope, active: Sequence[RunRow], opened: set[str], trouble: list[str]
) -> list[SeenRun]:
    """Say of each active run whether it has a workflow; those that are not listed are asked for one by one."""
    asked = [run for run in active if run.run_id not in opened]
    if len(asked) > MOST_ASKED:
        trouble.append(f"{len(asked) - MOST_ASKED} more runs are looked at in the next passes")
    found = await each(lambda run: workflows.is_open(scope, run.run_id), asked[:MOST_ASKED])
    known = dict(zip((run.run_id for run in asked), found, strict=False))
    return [
        SeenRun(
            run_id=run.run_id,
            triggered_ms=run.triggered_at,
            has_workflow=True if run.run_id in opened else known.get(run.run_id),
        )
        for run in active
    ]


async def _manifest(store: ObjectStore, scope: Scope, trouble: list[str]) -> DeployedManifest | None:
    try:
        current = await read_latest(ScopedStore(store, scope))
    except DamagedObject as error:
        trouble.append(f"sensors were not looked for: {error}")
        return None
    return None if current is None else current.manifest


async def _lost_sensors(
    workflows: RepairedWorkflows, scope: Scope, manifest: DeployedManifest | None, trouble: list[str]
) -> tuple[list[str], int]:
    """Return the deployed sensors that no workflow evaluates, and when they were deployed."""
    wanted = sensor_ids(manifest)
    if manifest is None or not wanted:
        return [], 0
    try:
        opened = await workflows.open_sensors(scope)
    except CannotList as error:
        trouble.append(f"workflows of sensors were not looked for: {error}")
        return [], 0
    return [one for one in wanted if one not in opened], manifest.deployed_at_ms


def _without_run(one: OpenWorkflow, row: Any) -> SeenWorkflow:
    run = None if row is None else RunRow(*row)
    ended = run is not None and run.state in FINISHED_RUN
    ended_at = run.completed_at if run is not None and ended else None
    return SeenWorkflow(
        run_id=one.run_id,
        workflow_run_id=one.workflow_run_id,
        started_ms=one.started_ms,
        is_known=run is not None,
        ended_ms=None if not ended else ended_at or 0,
    )


def _oldest_ms(waiting: Sequence[RunKeyRow]) -> int | None:
    return min((row.created_at for row in waiting), default=None)


async def _pending(store: ObjectStore, trouble: list[str]) -> tuple[int, int | None]:
    """Return how many rounds are accepted and not visible, and since when the oldest is."""
    try:
        opening = await read_opening(store)
        rounds = await pending_rounds(store, opening.head.rounds_folded)
    except DamagedObject as error:
        trouble.append(f"rounds of the ledger were not looked at: {error}")
        return 0, None
    return len(rounds), rounds[0].record.created_at_ms if rounds else None
