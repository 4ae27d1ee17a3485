"""An operator resets a run to its beginning: everything it did is asked for again, and nothing happens twice."""

from __future__ import annotations

import asyncio

import uuid_utils
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.enums.v1 import EventType
from temporalio.api.workflowservice.v1 import ResetWorkflowExecutionRequest

from springline.delta.messages import CommitMode
from tests.server.cluster import Cluster, Ledger
from workflows.commit_messages import BatchResult


async def test_a_run_that_is_reset_answers_from_what_is_stored(cluster: Cluster, ledger: Ledger) -> None:
    if not cluster.workers:
        cluster.fork_worker()
    await cluster.ready(*cluster.workers)
    caller = ledger.caller()
    requests = [
        await ledger.request(mode=CommitMode.STRICT, read_version=0),
        await ledger.request(),
        await ledger.request(),
    ]
    await asyncio.gather(*(ledger.commit(caller, request) for request in requests))
    handle = ledger.client.get_workflow_handle(ledger.workflow_id, result_type=BatchResult)
    await handle.result()
    latest, before = await ledger.latest(), await handle.describe()
    first_task = next(
        event.event_id
        for event in (await handle.fetch_history()).events
        if event.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED
    )
    reset = await ledger.client.workflow_service.reset_workflow_execution(
        ResetWorkflowExecutionRequest(
            namespace=ledger.client.namespace,
            workflow_execution=WorkflowExecution(workflow_id=ledger.workflow_id, run_id=before.run_id),
            reason="tried by a test",
            workflow_task_finish_event_id=first_task,
            request_id=str(uuid_utils.uuid7()),
        )
    )
    again = ledger.client.get_workflow_handle(ledger.workflow_id, run_id=reset.run_id, result_type=BatchResult)
    async with asyncio.timeout(240):
        await again.result()
    assert await ledger.latest() == latest
    await ledger.check()
