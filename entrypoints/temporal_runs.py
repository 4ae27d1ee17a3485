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
from temporalio.common import (
    SearchAttributePair,
    TypedSearchAttributes,
    WorkflowIDConflictPolicy,
    WorkflowIDReusePolicy,
)
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from springline import names
from springline.control.runs.messages import CancelAsked, LaunchAsked, LauncherStart, LoadedRun, RunStart
from springline.paths import Scope
from springline.runs.requests import USER_REQUEST
from workflows.lifecycle import SEARCH_RUN_KEY, workspace_attributes
from workflows.policies import WORKFLOW_TASK_TIMEOUT

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


class TemporalRunStarts:
    """The port `activities.runs.RunWakes`: starts and wakes launchers and runs."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def start(self, scope: Scope, run_id: str, loaded: LoadedRun | None = None) -> None:
        """Start the workflow of a run; one that is running reads its rows. `loaded`: where it stands, if known."""
        attributes = workspace_attributes(scope.tenant, scope.workspace)
        await self._client.start_workflow(
            names.RUN_WORKFLOW,
            RunStart(tenant=scope.tenant, workspace=scope.workspace, run_id=run_id, loaded=loaded),
            id=names.run_workflow_id(scope.tenant, scope.workspace, run_id),
            task_queue=names.RUNS_QUEUE,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
            task_timeout=WORKFLOW_TASK_TIMEOUT,
            search_attributes=TypedSearchAttributes(
                [*attributes.search_attributes, SearchAttributePair(SEARCH_RUN_KEY, run_id)]
            ),
            static_summary=f"run {run_id} of {scope.tenant}/{scope.workspace}",
            start_signal=None if loaded is not None else names.WAKE_SIGNAL,
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


def _launcher_of(scope: Scope) -> dict[str, Any]:
    """Return how a workspace's RunLauncher is started, or found running."""
    return {
        "arg": LauncherStart(tenant=scope.tenant, workspace=scope.workspace),
        "id": names.run_launcher_id(scope.tenant, scope.workspace),
        "task_queue": names.RUNS_QUEUE,
        "id_conflict_policy": WorkflowIDConflictPolicy.USE_EXISTING,
        "search_attributes": workspace_attributes(scope.tenant, scope.workspace),
        "task_timeout": WORKFLOW_TASK_TIMEOUT,
        "static_summary": f"launcher of runs of {scope.tenant}/{scope.workspace}",
    }


def _is_gone(error: Exception) -> bool:
    return isinstance(error, RPCError) and error.status is RPCStatusCode.NOT_FOUND


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
