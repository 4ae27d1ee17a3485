"""Rebuilds through RebuildWorkflow, one of a workspace at a time: start, watch, cancel."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from pydantic import BaseModel
from temporalio.api.enums.v1 import PendingActivityState
from temporalio.api.workflow.v1 import PendingActivityInfo
from temporalio.client import (
    Client,
    WorkflowExecutionDescription,
    WorkflowExecutionStatus,
    WorkflowFailureError,
    WorkflowHandle,
    WorkflowQueryFailedError,
    WorkflowQueryRejectedError,
)
from temporalio.common import SearchAttributeKey, WorkflowIDConflictPolicy
from temporalio.converter import DataConverter
from temporalio.exceptions import ApplicationError, CancelledError, TerminatedError, WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from entrypoints.rebuild_history import found_by_steps
from entrypoints.updates import RPC_TIMEOUT, refusal_in
from springline import names
from springline.errors import Code, Refusal, Refused, refused
from springline.paths import Scope
from springline.rebuild.messages import RebuildRequest, RebuildView, RunStatus, Step
from workflows.lifecycle import REBUILD_PERCENT_KEY, REBUILD_PHASE_KEY, workspace_attributes
from workflows.policies import WORKFLOW_TASK_TIMEOUT
from workflows.rebuild_messages import ABOUT, RebuildProgress, RebuildResult, RebuildStart

RESULT_POLL = timedelta(seconds=3)
"""How long one call waits for a run's end before the next one; see `temporal_tables`."""
QUERY_TIMEOUT = timedelta(seconds=4)
"""A worker may be in the middle of a task, or have to replay the run first."""
_FIELD = "rebuild"
_STATUS = {
    WorkflowExecutionStatus.RUNNING: RunStatus.RUNNING,
    WorkflowExecutionStatus.CONTINUED_AS_NEW: RunStatus.RUNNING,
    WorkflowExecutionStatus.COMPLETED: RunStatus.COMPLETED,
    WorkflowExecutionStatus.FAILED: RunStatus.FAILED,
    WorkflowExecutionStatus.CANCELED: RunStatus.CANCELLED,
    WorkflowExecutionStatus.TERMINATED: RunStatus.TERMINATED,
    WorkflowExecutionStatus.TIMED_OUT: RunStatus.TIMED_OUT,
}
_WATCH = "springline rebuild watch"

_log = logging.getLogger("springline.temporal")
_Handle = WorkflowHandle[Any, Any]


class TemporalRebuilds:
    """The port `springline.api.ports.Rebuilds`. All methods raise `Refused` (UNAVAILABLE) without Temporal's answer."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def start(self, scope: Scope, request: RebuildRequest) -> str:
        """Start a rebuild and return its run id; raises `Refused` (REBUILD_UNDER_WAY) if one is running."""
        workflow_id = names.rebuild_workflow_id(scope.tenant, scope.workspace)
        with _reached():
            try:
                handle = await self._client.start_workflow(
                    names.REBUILD_WORKFLOW,
                    RebuildStart(
                        tenant=scope.tenant,
                        workspace=scope.workspace,
                        rebuild_manifest_path=request.rebuild_manifest_path,
                        mode=request.mode.value,
                        allow_missing=request.allow_missing,
                    ),
                    id=workflow_id,
                    task_queue=names.REBUILD_QUEUE,
                    id_conflict_policy=WorkflowIDConflictPolicy.FAIL,
                    search_attributes=workspace_attributes(scope.tenant, scope.workspace),
                    task_timeout=WORKFLOW_TASK_TIMEOUT,
                    static_summary=f"rebuild of {scope.tenant}/{scope.workspace}, mode {request.mode.value}",
                    static_details=ABOUT,
                    rpc_timeout=RPC_TIMEOUT,
                )
            except WorkflowAlreadyStartedError as error:
                raise _under_way(workflow_id, error.run_id) from error
        run_id = handle.first_execution_run_id
        assert run_id is not None
        return run_id

    async def result(self, scope: Scope, run_id: str, wait_s: float) -> dict[str, Any] | None:
        """Return the result of a run, None if it still runs after `wait_s` seconds.

        Raises `Refused` for a run that ended without one: its own refusal, or REBUILD_CANCELLED if a user cancelled
        it.
        """
        with _reached():
            try:
                async with asyncio.timeout(wait_s):
                    return await _result(self._handle(scope, run_id))
            except TimeoutError:
                return None
            except WorkflowFailureError as error:
                raise Refused(refusal_of(error)) from error

    async def view(self, scope: Scope, run_id: str | None = None) -> RebuildView | None:
        """Return the progress of a rebuild, by default the workspace's newest; None if Temporal knows none."""
        with _reached():
            try:
                described = await self._handle(scope, run_id).describe(rpc_timeout=RPC_TIMEOUT)
            except RPCError as error:
                if error.status in (RPCStatusCode.NOT_FOUND, RPCStatusCode.INVALID_ARGUMENT):
                    return None
                raise
            handle = self._handle(scope, described.run_id)
            view = RebuildView(
                workflow_id=described.id,
                run_id=described.run_id,
                status=_STATUS[described.status or WorkflowExecutionStatus.RUNNING],
                phase=_attribute(described, REBUILD_PHASE_KEY),
                percent=_attribute(described, REBUILD_PERCENT_KEY),
                started_at=described.start_time,
                ended_at=described.close_time,
                progress=await _progress(handle),
                steps=[
                    await _step(one, self._client.data_converter)
                    for one in described.raw_description.pending_activities
                ],
            )
            if not view.ended:
                return view
            try:
                return view.model_copy(update={"result": await _result(handle)})
            except WorkflowFailureError as error:
                return await self._failed(view.model_copy(update={"failure": refusal_of(error)}), handle)

    async def cancel(self, scope: Scope) -> RebuildView | None:
        """Cancel the running rebuild, and return it; None if none runs. It publishes nothing."""
        view = await self.view(scope)
        if view is None or view.ended:
            return None
        with _reached():
            try:
                await self._handle(scope, view.run_id).cancel(rpc_timeout=RPC_TIMEOUT)
            except RPCError as error:
                if error.status is not RPCStatusCode.NOT_FOUND:
                    raise
                return None
        return view

    async def _failed(self, view: RebuildView, handle: _Handle) -> RebuildView:
        if view.failure is None or view.failure.code is not Code.LEDGER_INCOMPLETE:
            return view
        found = await found_by_steps(handle.fetch_history_events(rpc_timeout=RPC_TIMEOUT), self._client.data_converter)
        return view.model_copy(update={"missing_or_damaged": found.bad, "accepted_and_not_listed": found.gaps})

    def _handle(self, scope: Scope, run_id: str | None) -> _Handle:
        workflow_id = names.rebuild_workflow_id(scope.tenant, scope.workspace)
        return self._client.get_workflow_handle(workflow_id, run_id=run_id, result_type=RebuildResult)


def refusal_of(error: WorkflowFailureError) -> Refusal:
    """Return why a rebuild has no result, from the failure of its workflow."""
    cause = error.cause
    again = "Start it again with the same manifest: parts that are finished are not repeated."
    if isinstance(cause, ApplicationError):
        return refusal_in(cause) or _unplanned(cause)
    if isinstance(cause, CancelledError | TerminatedError):
        how = "cancelled" if isinstance(cause, CancelledError) else "terminated"
        return Refusal(
            code=Code.REBUILD_CANCELLED,
            message=f"the rebuild was {how}; nothing was published",
            field=_FIELD,
            remedy=again,
        )
    return Refusal(code=Code.UNAVAILABLE, message=f"the rebuild ended: {cause}", field=_FIELD, remedy=again)


def _unplanned(cause: ApplicationError) -> Refusal:
    """Return the refusal for any other failure: wrong input of a run started by hand, or a broken store."""
    if cause.type == "ValidationError":
        return Refusal(
            code=Code.INVALID_REQUEST,
            message=cause.message,
            field="input",
            remedy="Correct the workflow's input: tenant, workspace, rebuild_manifest_path, mode.",
        )
    if cause.type == names.STORE_MISCONFIGURED:
        remedy = "Run `springline doctor` to see what is wrong with the store, then start the rebuild again."
        return Refusal(code=Code.STORE_MISCONFIGURED, message=cause.message, field="store", remedy=remedy)
    remedy = "Nothing was published. Do what the message says, then start the rebuild again."
    code = Code.STORED_DAMAGED if cause.type == names.INVARIANT_VIOLATED else Code.INTERNAL
    return Refusal(code=code, message=cause.message, field="store", remedy=remedy)


async def _result(handle: _Handle) -> dict[str, Any]:
    found = await handle.result(rpc_timeout=RESULT_POLL)
    return found.model_dump(mode="json") if isinstance(found, BaseModel) else dict(found)


async def _progress(handle: _Handle) -> dict[str, Any] | None:
    try:
        answer: RebuildProgress = await handle.query(
            names.PROGRESS_QUERY, result_type=RebuildProgress, rpc_timeout=QUERY_TIMEOUT
        )
    except (RPCError, WorkflowQueryRejectedError, WorkflowQueryFailedError) as error:
        _log.debug("%s: no progress of its workflow: %s", handle.id, error)
        return None
    return answer.model_dump(mode="json")


def _attribute(described: WorkflowExecutionDescription, key: SearchAttributeKey[Any]) -> Any:
    return described.typed_search_attributes.get(key)


async def _step(pending: PendingActivityInfo, converter: DataConverter) -> Step:
    payloads = pending.heartbeat_details.payloads
    return Step(
        name=pending.activity_type.name,
        attempt=pending.attempt,
        started=pending.state == PendingActivityState.PENDING_ACTIVITY_STATE_STARTED,
        reported=await converter.decode(payloads) if payloads else [],
        last_failure=pending.last_failure.message or None,
    )


def _under_way(workflow_id: str, run_id: str | None) -> Refused:
    return refused(
        Code.REBUILD_UNDER_WAY,
        f"a rebuild of the workspace is under way: workflow {workflow_id}, run {run_id}",
        field=_FIELD,
        value=run_id,
        remedy=f"Watch it with `{_WATCH}` or `temporal workflow describe --workflow-id {workflow_id}`; "
        "wait for its end, or cancel it with `springline rebuild cancel`.",
    )


@contextmanager
def _reached() -> Iterator[None]:
    """Turn Temporal's errors into refusals."""
    try:
        yield
    except (RPCError, RuntimeError) as error:
        raise refused(
            Code.UNAVAILABLE,
            f"Temporal gives no answer: {error}",
            field=_FIELD,
            remedy="Run `springline doctor` to see what is wrong with Temporal. Whether a rebuild is under way, "
            f"`{_WATCH}` tells.",
        ) from error
