"""Workflows of runs, started and woken: the port `activities.runs.RunWakes` by Temporal."""

from __future__ import annotations

from temporalio.client import Client
from temporalio.common import (
    SearchAttributePair,
    TypedSearchAttributes,
    WorkflowIDConflictPolicy,
    WorkflowIDReusePolicy,
)
from temporalio.service import RPCError, RPCStatusCode

from springline import names
from springline.control.runs.messages import LaunchAsked, LauncherStart, LoadedRun, RunStart
from springline.paths import Scope
from workflows.lifecycle import SEARCH_RUN_KEY, workspace_attributes
from workflows.policies import WORKFLOW_TASK_TIMEOUT


class TemporalRunStarts:
    """Starts and wakes launchers and runs."""

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
            LauncherStart(tenant=scope.tenant, workspace=scope.workspace),
            id=names.run_launcher_id(scope.tenant, scope.workspace),
            task_queue=names.RUNS_QUEUE,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
            task_timeout=WORKFLOW_TASK_TIMEOUT,
            search_attributes=workspace_attributes(scope.tenant, scope.workspace),
            static_summary=f"launcher of runs of {scope.tenant}/{scope.workspace}",
            start_signal=names.WAKE_SIGNAL,
            start_signal_args=[LaunchAsked(run_keys=run_keys, looks=looks)],
        )

    async def wake_run(self, scope: Scope, run_id: str) -> None:
        """Tell a run's workflow that its rows have changed; one that does not run is not started."""
        handle = self._client.get_workflow_handle(names.run_workflow_id(scope.tenant, scope.workspace, run_id))
        try:
            await handle.signal(names.WAKE_SIGNAL)
        except RPCError as error:
            if error.status is not RPCStatusCode.NOT_FOUND:
                raise
