"""Runs that can never go on: their workflow task fails for ever, because the code does not fit their history.

Such a run should fail by itself (`workflows.failures.ENDS_THE_RUN`). It does not while updates wait for it: then the
SDK answers an update in the task that fails the run, and the server refuses the whole task, again and again (SDK 1.35,
server 1.29.1). No run of ours has state to lose, so it is terminated; its callers send again and start the next.
"""

from __future__ import annotations

import logging
from datetime import timedelta

from temporalio.api.common.v1 import WorkflowExecution as Execution
from temporalio.api.enums.v1 import EventType, WorkflowTaskFailedCause
from temporalio.api.workflowservice.v1 import DescribeWorkflowExecutionRequest
from temporalio.client import Client, WorkflowHandle
from temporalio.service import RPCError, RPCStatusCode

CALL_TIMEOUT = timedelta(seconds=5)
HOPELESS_ATTEMPT = 2
"""A second attempt at a task that failed for such a cause fails like the first."""
MISFITS = frozenset(
    {
        WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_NON_DETERMINISTIC_ERROR,
        WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_BAD_UPDATE_WORKFLOW_EXECUTION_MESSAGE,
    }
)
REASON = "its workflow task fails for ever: the code does not fit the history"
_log = logging.getLogger("springline.temporal")


async def end_if_wedged(client: Client, workflow_id: str, run_id: str | None = None) -> bool:
    """Terminate a run, by default the open one, that can never go on; say whether it was one. Raises `RPCError`."""
    try:
        described = await client.workflow_service.describe_workflow_execution(
            DescribeWorkflowExecutionRequest(
                namespace=client.namespace, execution=Execution(workflow_id=workflow_id, run_id=run_id or "")
            ),
            timeout=CALL_TIMEOUT,
        )
        if not described.HasField("pending_workflow_task"):
            return False
        if described.pending_workflow_task.attempt < HOPELESS_ATTEMPT:
            return False
        run = described.workflow_execution_info.execution.run_id
        handle = client.get_workflow_handle(workflow_id, run_id=run)
        if not await _misfits(handle):
            return False
        await handle.terminate(reason=REASON, rpc_timeout=CALL_TIMEOUT)
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            return False
        raise
    _log.error("run %s of %s was terminated, its callers begin another: %s", run, workflow_id, REASON)
    return True


async def _misfits(handle: WorkflowHandle[object, object]) -> bool:
    """Say whether the last workflow task in a run's history failed because the code does not fit it."""
    cause = None
    async for event in handle.fetch_history_events(rpc_timeout=CALL_TIMEOUT):
        if event.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED:
            cause = event.workflow_task_failed_event_attributes.cause
        elif event.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED:
            cause = None
    return cause in MISFITS
