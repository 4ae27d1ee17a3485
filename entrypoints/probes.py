"""Probes of workers: a probe reaches a queue's worker like any other task."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from temporalio.client import Client, WorkflowFailureError, WorkflowQueryFailedError
from temporalio.common import WorkflowIDConflictPolicy
from temporalio.service import RPCError, RPCStatusCode

from activities.messages import Probed
from springline import names
from workflows.policies import WORKFLOW_TASK_TIMEOUT

PING_S = 1.0
PROBE_S = 3.0
"""How long a worker has to answer. A running one takes milliseconds, a busy one may take a second."""


async def probe(client: Client, queue: str, *, within_s: float = PROBE_S) -> Probed | None:
    """Return a worker's answer to a probe of `queue`; None if none answers in time.

    Concurrent probes share one run. Raises `RPCError` if Temporal does not answer.
    """
    limit = timedelta(seconds=within_s)
    try:
        handle = await client.start_workflow(
            names.PROBE_WORKFLOW,
            id=names.probe_workflow_id(queue),
            task_queue=queue,
            execution_timeout=limit,
            task_timeout=WORKFLOW_TASK_TIMEOUT,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            result_type=Probed,
            static_summary=f"is a worker of {queue} there?",
            rpc_timeout=limit,
        )
        async with asyncio.timeout(2 * within_s):
            probed: Probed = await handle.result(rpc_timeout=limit)
    except (WorkflowFailureError, TimeoutError):
        return None
    except RPCError as error:
        if error.status in (RPCStatusCode.DEADLINE_EXCEEDED, RPCStatusCode.CANCELLED):
            return None
        raise
    return probed


async def ping(client: Client, queue: str) -> bool:
    """Say whether a worker answers a query of the queue's last probe, which has ended: queries leave no history."""
    try:
        await client.get_workflow_handle(names.probe_workflow_id(queue)).query(
            names.PROBED_QUERY, rpc_timeout=timedelta(seconds=PING_S)
        )
    except (RPCError, WorkflowQueryFailedError):
        return False
    return True


async def answers(client: Client, queue: str) -> bool:
    """Say whether a worker of `queue` answers a probe."""
    return await probe(client, queue) is not None
