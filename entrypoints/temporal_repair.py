"""Repair by Temporal: what the API asks of it, how it is started, and the workflows that it looks at."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

from temporalio.client import (
    Client,
    WithStartWorkflowOperation,
    WorkflowExecutionStatus,
    WorkflowUpdateFailedError,
    WorkflowUpdateRPCTimeoutOrCancelledError,
)
from temporalio.common import WorkflowIDReusePolicy
from temporalio.exceptions import ApplicationError, WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from entrypoints.temporal_ledger import sequencing
from entrypoints.temporal_runs import TemporalRunStarts, acting_for_runs
from entrypoints.updates import query_status
from springline import names
from springline.control.repair import RepairAsked, RepairReport, RepairStart, RepairStatus
from springline.definitions.limits import MAX_WORKSPACE_SENSORS
from springline.errors import Code, Refused, refused
from springline.paths import Scope
from springline.repairing import CannotList, OpenWorkflow
from workflows.lifecycle import SEARCH_RUN_KEY

CALL_TIMEOUT = timedelta(seconds=5)
QUERY_TIMEOUT = timedelta(seconds=2)
PASS_S = 30.0
"""How long a caller waits for a pass that it asked for."""
MOST_LISTED = 1_000
"""Open workflows of runs that one look lists."""


class TemporalRepairs:
    """The port `springline.api.ports.Repairs`. `pass_s`: how long a pass may take, in seconds."""

    def __init__(self, client: Client, *, pass_s: float = PASS_S) -> None:
        self._client = client
        self._pass_s = pass_s

    async def run(self, scope: Scope, *, dry_run: bool) -> RepairReport:
        """Have the workspace looked at now, and repaired unless `dry_run`; raises `Refused` if there is no answer."""
        try:
            async with asyncio.timeout(self._pass_s):
                report: RepairReport = await self._client.execute_update_with_start_workflow(
                    names.REPAIR_UPDATE,
                    RepairAsked(dry_run=dry_run),
                    start_workflow_operation=WithStartWorkflowOperation(names.REPAIR_WORKFLOW, **_repair_of(scope)),
                    result_type=RepairReport,
                    rpc_timeout=timedelta(seconds=self._pass_s),
                )
        except WorkflowUpdateFailedError as error:
            said = error.cause.message if isinstance(error.cause, ApplicationError) else str(error.cause)
            raise _no_answer(said) from error
        except (
            WorkflowUpdateRPCTimeoutOrCancelledError,
            WorkflowAlreadyStartedError,
            RPCError,
            RuntimeError,
            TimeoutError,
        ) as error:
            raise _no_answer(str(error) or f"nothing within {self._pass_s:g} s") from error
        return report

    async def status(self, scope: Scope) -> RepairStatus | None:
        """Return what the workspace's Repair has done, None if it does not run or does not answer now."""
        return await query_status(self._client, names.repair_workflow_id(scope.tenant, scope.workspace), RepairStatus)


class TemporalRepaired(TemporalRunStarts):
    """The port `springline.repairing.RepairedWorkflows`, and how Repair itself is kept alive."""

    async def wake_repair(self, scope: Scope) -> None:
        """Have a workspace looked at now, and from then on."""
        await self._client.start_workflow(
            names.REPAIR_WORKFLOW,
            **_repair_of(scope),
            id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
            start_signal=names.WAKE_SIGNAL,
        )

    async def follow(self, workflow_type: str, scope: Scope) -> None:
        """Start what looks after a workspace in the place of one of an older build; safe to repeat."""
        if workflow_type == names.SCHEDULE_EVALUATOR:
            await self.restart_evaluator(scope)
        else:
            await self.wake_repair(scope)

    async def open_runs(self, scope: Scope) -> list[OpenWorkflow]:
        """Return the open workflows of runs, at most `MOST_LISTED`; raises `CannotList`."""
        query = (
            f"WorkflowType = '{names.RUN_WORKFLOW}' AND ExecutionStatus = 'Running' AND "
            f"{names.SEARCH_TENANT} = '{scope.tenant}' AND "
            f"{names.SEARCH_WORKSPACE} = '{scope.workspace}'"
        )
        found = []
        try:
            async for run in self._client.list_workflows(query, limit=MOST_LISTED, rpc_timeout=CALL_TIMEOUT):
                run_id = run.typed_search_attributes.get(SEARCH_RUN_KEY)
                # Whoever starts a workflow by hand may give it any name.
                if run_id is not None and run.id == names.run_workflow_id(scope.tenant, scope.workspace, run_id):
                    found.append(OpenWorkflow(run_id, run.run_id, int(run.start_time.timestamp() * 1_000)))
        except RPCError as error:
            raise CannotList(f"Temporal does not list them ({error.message})") from error
        return found

    async def open_sensors(self, scope: Scope) -> set[str]:
        """Return the sensors with an open workflow; raises `CannotList`."""
        query = (
            f"WorkflowType = '{names.SENSOR_WORKFLOW}' AND ExecutionStatus = 'Running' AND "
            f"{names.SEARCH_TENANT} = '{scope.tenant}' AND "
            f"{names.SEARCH_WORKSPACE} = '{scope.workspace}'"
        )
        prefix = names.sensor_workflow_id(scope.tenant, scope.workspace, "")
        try:
            listed = self._client.list_workflows(query, limit=MAX_WORKSPACE_SENSORS, rpc_timeout=CALL_TIMEOUT)
            return {one.id.removeprefix(prefix) async for one in listed if one.id.startswith(prefix)}
        except RPCError as error:
            raise CannotList(f"Temporal does not list them ({error.message})") from error

    async def is_open(self, scope: Scope, run_id: str) -> bool:
        """Say whether a run has an open workflow. Raises `RPCError`."""
        return await self._runs(names.run_workflow_id(scope.tenant, scope.workspace, run_id))

    async def is_backfill_open(self, scope: Scope, backfill_id: str) -> bool:
        """Say whether a backfill has an open evaluator. Raises `RPCError`."""
        return await self._runs(names.backfill_evaluator_id(scope.tenant, scope.workspace, backfill_id))

    async def _runs(self, workflow_id: str) -> bool:
        handle = self._client.get_workflow_handle(workflow_id)
        try:
            described = await handle.describe(rpc_timeout=CALL_TIMEOUT)
        except RPCError as error:
            if error.status is RPCStatusCode.NOT_FOUND:
                return False
            raise
        return described.status is WorkflowExecutionStatus.RUNNING

    async def terminate(self, scope: Scope, run_id: str, workflow_run_id: str, reason: str) -> None:
        """End this workflow of a run; one that has ended is left alone."""
        workflow_id = names.run_workflow_id(scope.tenant, scope.workspace, run_id)
        try:
            await self._client.get_workflow_handle(workflow_id, run_id=workflow_run_id).terminate(
                reason=reason, rpc_timeout=CALL_TIMEOUT
            )
        except RPCError as error:
            if error.status is not RPCStatusCode.NOT_FOUND:
                raise

    async def has_evaluator(self, scope: Scope) -> bool:
        """Say whether the evaluator of a workspace's schedules runs. Raises `RPCError`."""
        return await self._runs(names.schedule_evaluator_id(scope.tenant, scope.workspace))

    async def evaluator_trouble(self, scope: Scope) -> str | None:
        """Return why the evaluator's last pass failed, None if it did not; or that it does not answer."""
        handle = self._client.get_workflow_handle(names.schedule_evaluator_id(scope.tenant, scope.workspace))
        try:
            status: dict[str, Any] = await handle.query(names.STATUS_QUERY, rpc_timeout=QUERY_TIMEOUT)
        except (RPCError, RuntimeError) as error:
            return f"it does not answer ({error})"
        trouble = status.get("trouble")
        return None if trouble is None else str(trouble)

    async def start_ledger(self, scope: Scope) -> None:
        """Start the ledger's workflow, unless it runs."""
        await self._client.start_workflow(
            names.LEDGER_WORKFLOW,
            **sequencing(scope),
        )


def _repair_of(scope: Scope) -> dict[str, Any]:
    """Return how a workspace's Repair is started, or found running."""
    start = RepairStart(tenant=scope.tenant, workspace=scope.workspace)
    return acting_for_runs(scope, start, names.repair_workflow_id(scope.tenant, scope.workspace), "repairs")


def _no_answer(said: str) -> Refused:
    return refused(
        Code.UNAVAILABLE,
        f"the workspace could not be looked at: {said}",
        field="repair",
        remedy="Run `springline doctor` to see what is wrong, then ask again: a pass is safe to repeat.",
    )
