"""Runs that make no progress: tasks that fail again and again or have no worker, and runs that ended because of it."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from temporalio.api.common.v1 import WorkflowExecution as Execution
from temporalio.api.enums.v1 import PendingActivityState, PendingWorkflowTaskState
from temporalio.api.workflow.v1 import PendingActivityInfo
from temporalio.api.workflowservice.v1 import DescribeWorkflowExecutionRequest, DescribeWorkflowExecutionResponse
from temporalio.client import Client, WorkflowExecution, WorkflowHistoryEventFilterType
from temporalio.service import RPCError, RPCStatusCode

from springline import names

CALL_TIMEOUT = timedelta(seconds=5)
SETTLED_BEFORE = timedelta(seconds=3)
"""Younger runs are not checked: it is too early to tell."""
FAILING_ATTEMPTS = 3
"""A workflow task in its third attempt fails for a reason; a killed worker costs one or two."""
WAITS_S = 3.0
"""A task that waits for so long has no worker that takes it."""
RECENTLY = timedelta(minutes=10)
MOST_LOOKED_AT = 200
MOST_BROKEN = 20
_TOGETHER = 16
_MISFITS = ("TMPRL1100", "nondeterminis", "non-determinis")
"""Texts in the SDK's errors if code does not fit a history."""
_TYPES = ", ".join(
    f"'{kind}'"
    for kind in (
        names.COMMIT_WORKFLOW,
        names.CREATE_TABLE_WORKFLOW,
        names.CHECKPOINT_WORKFLOW,
        names.LEDGER_WORKFLOW,
        names.GARBAGE_WORKFLOW,
        names.REBUILD_WORKFLOW,
    )
)

_OF_RUNS = ", ".join(
    f"'{kind}'" for kind in (names.RUN_LAUNCHER, names.RUN_WORKFLOW, names.REQUEST_RUN_WORKFLOW, names.REPAIR_WORKFLOW)
)
ATTEMPT_WAITS_S = 30.0
"""An attempt that nobody has taken for so long may have no worker; then it is worth a look at who polls."""

UNSERVED = "no worker takes its tasks"


@dataclass(frozen=True, slots=True)
class Trouble:
    """A run that makes or made no progress, and why."""

    workflow_id: str
    run_id: str
    why: str


@dataclass(frozen=True, slots=True)
class WaitingQueue:
    """A queue of users' workers: how many attempts wait in it, for how many seconds the oldest."""

    queue: str
    attempts: int
    oldest_s: float


async def troubled_runs(client: Client, *, most: int = MOST_LOOKED_AT) -> list[Trouble]:
    """Return the open runs of tables, ledgers and rebuilds that make no progress; checks at most `most`.

    Raises `RPCError`.
    """
    now_s = datetime.now(UTC).timestamp()
    looked = await _looked_at(client, _TYPES, most)
    return [found for run, described in looked if (found := _trouble_of(run, described, now_s)) is not None]


async def pipeline_troubles(client: Client, *, most: int = MOST_LOOKED_AT) -> tuple[list[Trouble], list[WaitingQueue]]:
    """Return workflows of pipelines' runs that make no progress, and queues in which attempts of them wait.

    Checks at most `most` workflows. Raises `RPCError`.
    """
    now_s = datetime.now(UTC).timestamp()
    looked = await _looked_at(client, _OF_RUNS, most)
    troubles = [found for run, described in looked if (found := _trouble_of(run, described, now_s)) is not None]
    return troubles, waiting_queues([described for _, described in looked], now_s)


def waiting_queues(described: Iterable[DescribeWorkflowExecutionResponse], now_s: float) -> list[WaitingQueue]:
    """Return the queues in which attempts have waited for `ATTEMPT_WAITS_S` at `now_s`, Unix time, by name."""
    waits: defaultdict[str, list[float]] = defaultdict(list)
    for one in described:
        for activity in one.pending_activities:
            waited_s = now_s - activity.scheduled_time.ToNanoseconds() / 1e9
            if _waits(activity) and activity.activity_type.name == names.RUN_ATTEMPT and waited_s > ATTEMPT_WAITS_S:
                waits[activity.activity_options.task_queue.name].append(waited_s)
    return [WaitingQueue(queue, len(waited), max(waited)) for queue, waited in sorted(waits.items())]


async def _looked_at(
    client: Client, types: str, most: int
) -> list[tuple[WorkflowExecution, DescribeWorkflowExecutionResponse]]:
    """Return the open runs of some types with what Temporal tells of each."""
    before = datetime.now(UTC) - SETTLED_BEFORE
    query = f"ExecutionStatus = 'Running' AND WorkflowType IN ({types}) AND StartTime < '{before.isoformat()}'"
    places = asyncio.Semaphore(_TOGETHER)

    async def look(run: WorkflowExecution) -> tuple[WorkflowExecution, DescribeWorkflowExecutionResponse] | None:
        async with places:
            described = await _described(client, run)
        return None if described is None else (run, described)

    runs = [run async for run in client.list_workflows(query, limit=most, rpc_timeout=CALL_TIMEOUT)]
    return [found for found in await asyncio.gather(*map(look, runs)) if found is not None]


async def broken_runs(client: Client) -> list[Trouble]:
    """Return runs that failed lately because the code did not fit their history. Raises `RPCError`."""
    return [found async for found in _broken_runs(client)]


async def _broken_runs(client: Client) -> AsyncIterator[Trouble]:
    since = datetime.now(UTC) - RECENTLY
    query = (
        f"ExecutionStatus = 'Failed' AND WorkflowType IN ({_TYPES}, {_OF_RUNS}) AND CloseTime > '{since.isoformat()}'"
    )
    async for run in client.list_workflows(query, limit=MOST_BROKEN, rpc_timeout=CALL_TIMEOUT):
        handle = client.get_workflow_handle(run.id, run_id=run.run_id)
        events = handle.fetch_history_events(
            event_filter_type=WorkflowHistoryEventFilterType.CLOSE_EVENT, rpc_timeout=CALL_TIMEOUT
        )
        async for event in events:
            failure = event.workflow_execution_failed_event_attributes.failure
            said = f"{failure.application_failure_info.type} {failure.message}"
            if any(word.lower() in said.lower() for word in _MISFITS):
                yield Trouble(run.id, run.run_id, "it failed: the workers' code does not fit its history")


async def _described(client: Client, run: WorkflowExecution) -> DescribeWorkflowExecutionResponse | None:
    try:
        return await client.workflow_service.describe_workflow_execution(
            DescribeWorkflowExecutionRequest(
                namespace=client.namespace, execution=Execution(workflow_id=run.id, run_id=run.run_id)
            ),
            timeout=CALL_TIMEOUT,
        )
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            return None
        raise


def _trouble_of(run: WorkflowExecution, described: DescribeWorkflowExecutionResponse, now_s: float) -> Trouble | None:
    task = described.pending_workflow_task
    if described.HasField("pending_workflow_task") and task.attempt >= FAILING_ATTEMPTS:
        return Trouble(run.id, run.run_id, f"its workflow task fails, attempt {task.attempt}")
    if is_unserved(described, now_s, WAITS_S):
        return Trouble(run.id, run.run_id, UNSERVED)
    return None


def is_unserved(described: DescribeWorkflowExecutionResponse, now_s: float, waits_s: float) -> bool:
    """Say whether a task of a run has waited for a worker for more than `waits_s` seconds at `now_s`, Unix time.

    Attempts of pipelines' tasks do not count: they wait for users' workers, which may be busy or not there.
    """
    if described.HasField("pending_workflow_task"):
        task = described.pending_workflow_task
        waits = task.state == PendingWorkflowTaskState.PENDING_WORKFLOW_TASK_STATE_SCHEDULED
        if waits and now_s - task.scheduled_time.ToNanoseconds() / 1e9 > waits_s:
            return True
    return any(
        _waits(activity)
        and activity.activity_type.name != names.RUN_ATTEMPT
        and now_s - activity.scheduled_time.ToNanoseconds() / 1e9 > waits_s
        for activity in described.pending_activities
    )


def _waits(activity: PendingActivityInfo) -> bool:
    return activity.state == PendingActivityState.PENDING_ACTIVITY_STATE_SCHEDULED and activity.attempt <= 1
