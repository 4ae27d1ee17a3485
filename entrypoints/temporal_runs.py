"""RunLauncher and RunWorkflow by Temporal: what the API asks of them, and how they are started and woken."""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta
from typing import Any

from temporalio.client import (
    Client,
    WithStartWorkflowOperation,
    WorkflowUpdateFailedError,
    WorkflowUpdateRPCTimeoutOrCancelledError,
)
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from entrypoints.updates import query_status
from springline import names
from springline.control.backfills.messages import BackfillStart
from springline.control.runs.messages import (
    SHARDS_FROM,
    CancelAsked,
    LaunchAsked,
    LauncherStart,
    LoadedRun,
    PoolStart,
    RunDoing,
    RunStart,
    SlotsAsked,
)
from springline.control.schedules.messages import EvaluatorStart
from springline.control.sensors.messages import SensorStart
from springline.paths import Scope
from springline.runs.requests import USER_REQUEST
from workflows.evaluator_messages import ABOUT_LAUNCHER, ABOUT_SCHEDULES
from workflows.lifecycle import run_attributes, workspace_attributes
from workflows.policies import BRIEF_TASK_TIMEOUT, WORKFLOW_TASK_TIMEOUT

LAUNCH_S = 3.0
"""How long a request waits for its run to begin: most begin within a tenth of this."""
CANCEL_S = 2.0
"""How long a cancellation waits for the run. After that it is recorded without it, and the run finds it."""

_log = logging.getLogger("springline.temporal")
_NO_ANSWER = (
    WorkflowUpdateFailedError,
    WorkflowUpdateRPCTimeoutOrCancelledError,
    WorkflowAlreadyStartedError,
    RPCError,
    RuntimeError,
    TimeoutError,
)


class TemporalRuns:
    """The port `springline.api.ports.Runs`. Times are in seconds."""

    def __init__(self, client: Client, *, launch_s: float = LAUNCH_S, cancel_s: float = CANCEL_S) -> None:
        self._client = client
        self._launch_s = launch_s
        self._cancel_s = cancel_s

    async def launch(self, scope: Scope, run_key: str) -> None:
        """Tell the workspace's launcher of a request, and wait a moment for its run.

        A failure is logged and no more: the launcher looks at what waits by itself.
        """
        try:
            async with asyncio.timeout(self._launch_s):
                await self._client.execute_update_with_start_workflow(
                    names.LAUNCH_UPDATE,
                    LaunchAsked(run_keys=[run_key]),
                    start_workflow_operation=WithStartWorkflowOperation(names.RUN_LAUNCHER, **_launcher_of(scope)),
                    rpc_timeout=timedelta(seconds=self._launch_s),
                )
        except _NO_ANSWER as error:
            _log.warning("runs of %s/%s: no answer to a launch: %s", scope.tenant, scope.workspace, _told(error))

    async def cancel(self, scope: Scope, run_id: str, requested_by: str, reason: str | None) -> bool:
        """Let a run cancel itself; False if no workflow executes it, or it does not answer in time."""
        workflow_id = names.run_workflow_id(scope.tenant, scope.workspace, run_id)
        asked = CancelAsked(requested_by=requested_by, reason=reason, reason_code=USER_REQUEST)
        try:
            async with asyncio.timeout(self._cancel_s):
                await self._client.get_workflow_handle(workflow_id).execute_update(
                    names.CANCEL_UPDATE, asked, rpc_timeout=timedelta(seconds=self._cancel_s)
                )
        except _NO_ANSWER as error:
            level = logging.DEBUG if _is_gone(error) else logging.WARNING
            _log.log(level, "%s: no answer to a cancellation: %s", workflow_id, _told(error))
            return False
        return True

    async def status(self, scope: Scope, run_id: str) -> RunDoing | None:
        """Return what a run is doing and waits for; None if no workflow executes it, or it does not answer now."""
        return await query_status(self._client, names.run_workflow_id(scope.tenant, scope.workspace, run_id), RunDoing)

    async def wake(self, scope: Scope, run_id: str) -> None:
        """Tell a run that its rows have changed. A failure is logged and no more: the run looks by itself."""
        workflow_id = names.run_workflow_id(scope.tenant, scope.workspace, run_id)
        try:
            await self._client.get_workflow_handle(workflow_id).signal(
                names.WAKE_SIGNAL, rpc_timeout=timedelta(seconds=self._cancel_s)
            )
        except _NO_ANSWER as error:
            level = logging.DEBUG if _is_gone(error) else logging.WARNING
            _log.log(level, "%s was not told that its rows have changed: %s", workflow_id, _told(error))


class TemporalRunStarts:
    """The port `activities.runs.RunWakes`: starts and wakes launchers and runs."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def start(self, scope: Scope, run_id: str, loaded: LoadedRun | None = None) -> None:
        """Start the workflow of a run; one that is running reads its rows. `loaded`: where it stands, if known."""
        await self._client.start_workflow(
            names.RUN_WORKFLOW,
            **_run_of(scope, run_id, loaded),
            id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
            start_signal=None if loaded is not None else names.WAKE_SIGNAL,
        )

    async def start_missing(self, scope: Scope, run_id: str) -> None:
        """Start the workflow of a run unless it is running; then it is told nothing."""
        await self._client.start_workflow(
            names.RUN_WORKFLOW, **_run_of(scope, run_id), id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE
        )

    async def wake_launcher(self, scope: Scope, run_keys: list[str], *, looks: bool) -> None:
        """Tell the launcher of a workspace of requests, and start it if it does not run."""
        await self._client.start_workflow(
            names.RUN_LAUNCHER,
            **_launcher_of(scope),
            id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
            start_signal=names.WAKE_SIGNAL,
            start_signal_args=[LaunchAsked(run_keys=run_keys, looks=looks)],
        )

    async def wake_run(self, scope: Scope, run_id: str) -> None:
        """Tell a run's workflow that its rows have changed; one that does not run is not started."""
        handle = self._client.get_workflow_handle(names.run_workflow_id(scope.tenant, scope.workspace, run_id))
        try:
            await handle.signal(names.WAKE_SIGNAL)
        except RPCError as error:
            if not _is_gone(error):
                raise

    async def wake_evaluator(self, scope: Scope) -> None:
        """Tell the evaluator of a workspace's schedules to look, and start it if it does not run."""
        await self._client.start_workflow(
            names.SCHEDULE_EVALUATOR,
            **_evaluator_of(scope),
            id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
            start_signal=names.WAKE_SIGNAL,
        )

    async def wake_sensor(self, scope: Scope, sensor_id: str) -> None:
        """Tell a sensor's workflow to look, and start it if it does not run; one that there is not ends at once."""
        await self._client.start_workflow(
            names.SENSOR_WORKFLOW,
            **sensor_of(scope, sensor_id),
            id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
            start_signal=names.WAKE_SIGNAL,
        )

    async def wake_backfill(self, scope: Scope, backfill_id: str) -> None:
        """Tell the evaluator of a backfill to look, and start it if it does not run."""
        await self._client.start_workflow(
            names.BACKFILL_EVALUATOR,
            **acting_for_runs(
                scope,
                BackfillStart(tenant=scope.tenant, workspace=scope.workspace, backfill_id=backfill_id),
                names.backfill_evaluator_id(scope.tenant, scope.workspace, backfill_id),
                f"backfill {backfill_id}",
            ),
            id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
            start_signal=names.WAKE_SIGNAL,
        )

    async def restart_evaluator(self, scope: Scope) -> None:
        """Start the evaluator of a workspace's schedules, in the place of one that runs: it has no state to lose."""
        await self._client.start_workflow(
            names.SCHEDULE_EVALUATOR,
            **_evaluator_of(scope) | {"id_conflict_policy": WorkflowIDConflictPolicy.TERMINATE_EXISTING},
            id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
        )

    async def ask_pool(self, scope: Scope, asked: SlotsAsked) -> None:
        """Tell a pool what a run wants of it, and start its workflow if it does not run."""
        await self._client.start_workflow(
            names.POOL_WORKFLOW,
            **acting_for_runs(
                scope,
                PoolStart(tenant=scope.tenant, workspace=scope.workspace, pool=asked.pool),
                names.pool_workflow_id(scope.tenant, scope.workspace, asked.pool),
                f"pool {asked.pool}",
            ),
            id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
            start_signal=names.SLOTS_ASKED_SIGNAL,
            start_signal_args=[asked],
        )


def acting_for_runs(scope: Scope, start: Any, workflow_id: str, what: str, about: str | None = None) -> dict[str, Any]:
    """Return how a workflow of a workspace that acts for runs is started, or found running.

    `what` and `about`, which is Markdown, are for people.
    """
    return {
        "arg": start,
        "id": workflow_id,
        "task_queue": names.RUNS_QUEUE,
        "id_conflict_policy": WorkflowIDConflictPolicy.USE_EXISTING,
        "search_attributes": workspace_attributes(scope.tenant, scope.workspace),
        "task_timeout": BRIEF_TASK_TIMEOUT,
        "static_summary": f"{what} of {scope.tenant}/{scope.workspace}",
        "static_details": about,
    }


def sensor_of(scope: Scope, sensor_id: str) -> dict[str, Any]:
    """Return how a sensor's workflow is started, or found running."""
    start = SensorStart(tenant=scope.tenant, workspace=scope.workspace, sensor_id=sensor_id)
    workflow_id = names.sensor_workflow_id(scope.tenant, scope.workspace, sensor_id)
    return acting_for_runs(scope, start, workflow_id, f"sensor {sensor_id}")


def _run_of(scope: Scope, run_id: str, loaded: LoadedRun | None = None) -> dict[str, Any]:
    """Return how the workflow of a run is started, or found running; `loaded`: where the run stands, if known."""
    start = RunStart(
        tenant=scope.tenant, workspace=scope.workspace, run_id=run_id, loaded=loaded, shards_from=SHARDS_FROM
    )
    how = acting_for_runs(scope, start, names.run_workflow_id(scope.tenant, scope.workspace, run_id), f"run {run_id}")
    return how | {
        "search_attributes": run_attributes(scope.tenant, scope.workspace, run_id),
        # Its history is not short: a run goes on as another after thousands of events only.
        "task_timeout": WORKFLOW_TASK_TIMEOUT,
    }


def _evaluator_of(scope: Scope) -> dict[str, Any]:
    """Return how the evaluator of a workspace's schedules is started, or found running."""
    start = EvaluatorStart(tenant=scope.tenant, workspace=scope.workspace)
    workflow_id = names.schedule_evaluator_id(scope.tenant, scope.workspace)
    return acting_for_runs(scope, start, workflow_id, "evaluator of schedules", ABOUT_SCHEDULES)


def _launcher_of(scope: Scope) -> dict[str, Any]:
    """Return how a workspace's RunLauncher is started, or found running."""
    start = LauncherStart(tenant=scope.tenant, workspace=scope.workspace)
    workflow_id = names.run_launcher_id(scope.tenant, scope.workspace)
    return acting_for_runs(scope, start, workflow_id, "launcher of runs", ABOUT_LAUNCHER)


def _is_gone(error: Exception) -> bool:
    return isinstance(error, RPCError) and error.status is RPCStatusCode.NOT_FOUND


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
