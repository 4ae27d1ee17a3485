"""Tasks: started, alive, finished; and the effects on dependent tasks and on partitions.

See docs/events.md#fold-tasks, docs/events.md#fold-dependencies, docs/events.md#fold-partitions.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from msgspec.structs import replace

from springline.ledger.events import (
    TaskCompletionRecorded,
    TaskEnd,
    TaskFinished,
    TaskHeartbeat,
    TaskOutputVisibilityChanged,
    TaskStarted,
)
from springline.ledger.timestamps import NS_PER_MS, parse_timestamp
from springline.projection.families import Family
from springline.projection.fold import Handler
from springline.projection.fold.runs import count_task
from springline.projection.rows import EdgeRow, PartitionRow, TaskRow, lineage_ref, ms_or_none
from springline.projection.schema import (
    BLOCKED,
    CANCELLED,
    FAILED,
    FINISHED_TASK,
    READY,
    RETRY_WAIT,
    RUNNING,
    SKIPPED,
    SUCCEEDED,
    SUCCESS,
)
from springline.projection.state import State
from springline.ulids import ulid_time_ms

_OUTCOMES: Final = {"succeeded": SUCCEEDED, "skipped": SKIPPED, "cancelled": CANCELLED}
_VISIBILITIES: Final = {"pending": "PENDING", "visible": "VISIBLE", "failed": "FAILED"}
_FINAL_VISIBILITIES: Final = frozenset({"VISIBLE", "FAILED"})

_FIRST_BACKOFF_MS: Final = 30_000
_LONGEST_BACKOFF_MS: Final = 900_000
_MOST_DOUBLINGS: Final = 6


def task_started(state: State, event_id: str, at_ms: int, data: TaskStarted) -> bool:
    """Let an attempt run, from any state that is not terminal (docs/events.md#fold-tasks)."""
    families = state.families
    family = families.of.get(data.run_id)
    task = None if family is None else family.tasks.get(data.task_key)
    if task is None or task.state in FINISHED_TASK:
        return False
    attempt = data.attempt
    if attempt <= task.attempt and (
        attempt < task.attempt or (task.attempt_id is not None and task.attempt_id != data.attempt_id)
    ):
        return False
    if families.kept is not None:
        families.keep_task(task)
    task.state = RUNNING
    task.attempt = attempt
    task.attempt_id = data.attempt_id
    task.started_at = task.refreshed_at = at_ms
    task.row_version = task.refreshed_version = event_id
    dispatch_id = f"dispatch:{data.run_id}:{data.task_key}:{attempt}"
    if dispatch_id in state.outbox.rows:
        state.outbox.remove(dispatch_id)
    return True


def task_heartbeat(state: State, event_id: str, at_ms: int, data: TaskHeartbeat) -> bool:
    """Record that the current attempt is alive (docs/events.md#fold-tasks)."""
    families = state.families
    family = families.of.get(data.run_id)
    task = None if family is None else family.tasks.get(data.task_key)
    if (
        task is None
        or task.attempt != data.attempt
        or task.attempt_id != data.attempt_id
        or task.state in FINISHED_TASK
    ):
        return False
    if families.kept is not None:
        families.keep_task(task)
    beat = data.heartbeat_at
    task.last_heartbeat_at = at_ms if beat is None else parse_timestamp(beat) // NS_PER_MS
    task.row_version = task.refreshed_version = event_id
    task.refreshed_at = at_ms
    return True


def task_finished(state: State, event_id: str, at_ms: int, data: TaskEnd) -> bool:
    """End the current attempt, and the task unless it can be retried (docs/events.md#fold-tasks)."""
    families = state.families
    family = families.of.get(data.run_id)
    task = None if family is None else family.tasks.get(data.task_key)
    if (
        family is None
        or task is None
        or task.attempt != data.attempt
        or task.attempt_id != data.attempt_id
        or task.state in FINISHED_TASK
    ):
        return False
    if families.kept is not None:
        families.keep_task(task)
    output = data.output
    partition = data.partition_key
    if partition is None and output is not None:
        partition = output.delta_partition
    task.state = _result(task, data)
    task.row_version = task.refreshed_version = event_id
    task.refreshed_at = at_ms
    if task.asset_key is None:
        task.asset_key = data.asset_key
    if task.partition_key is None:
        task.partition_key = partition
    if task.state != RETRY_WAIT:
        task.completed_at = at_ms
    task.output_visibility_state = task.published_at = task.publish_error = None
    if task.state == SUCCEEDED:
        task.error_message = task.retry_not_before = None
        _record_output(task, data)
    else:
        task.error_message = data.error_message
        task.retry_not_before = _retry_at(task, event_id, at_ms) if task.state == RETRY_WAIT else None
    if task.state != RETRY_WAIT:
        run_id = task.run_id
        if family.run is not None:
            count_task(state, family.run, task.state, event_id, at_ms)
        if task.state == SUCCEEDED:
            satisfy(state, family, run_id, task.task_key, data.attempt, event_id, at_ms)
        else:
            propagate(state, family, run_id, task.task_key, task.state, event_id, at_ms)
    if data.asset_key is not None and partition is not None:
        record_attempt(state, task, data, partition, event_id, at_ms)
    return True


def task_completion_recorded(state: State, event_id: str, at_ms: int, data: TaskCompletionRecorded) -> bool:
    """End the current attempt, with the visibility of its output if known (docs/events.md#fold-tasks)."""
    if not task_finished(state, event_id, at_ms, data):
        return False
    visibility = data.output_visibility
    if visibility is not None and data.outcome == "succeeded":
        task = state.families.of[data.run_id].tasks[data.task_key]
        _set_visibility(task, visibility.visibility_state, visibility.published_at, visibility.publish_error, at_ms)
    return True


def task_output_visibility_changed(state: State, event_id: str, at_ms: int, data: TaskOutputVisibilityChanged) -> bool:
    """Move the visibility of a succeeded task's output; a final one stays (docs/events.md#fold-tasks)."""
    families = state.families
    family = families.of.get(data.run_id)
    task = None if family is None else family.tasks.get(data.task_key)
    if (
        task is None
        or task.attempt != data.attempt
        or task.attempt_id != data.attempt_id
        or task.state != SUCCEEDED
        or (
            task.output_visibility_state in _FINAL_VISIBILITIES
            and task.output_visibility_state != _VISIBILITIES[data.visibility_state]
        )
    ):
        return False
    families.keep_task(task)
    _set_visibility(task, data.visibility_state, data.published_at, data.publish_error, at_ms)
    task.row_version = task.refreshed_version = event_id
    task.refreshed_at = at_ms
    return True


def _result(task: TaskRow, data: TaskEnd) -> str:
    if data.outcome != "failed":
        return _OUTCOMES[data.outcome]
    retryable = data.error is None or data.error.is_retryable
    return RETRY_WAIT if retryable and task.attempt < task.max_attempts else FAILED


def _record_output(task: TaskRow, data: TaskEnd) -> None:
    output = data.output
    materialization, partition = data.materialization_id, data.partition_key
    table = version = None
    if output is not None:
        materialization = output.materialization_id if materialization is None else materialization
        table, version = output.delta_table, output.delta_version
        partition = partition if output.delta_partition is None else output.delta_partition
    task.materialization_id = materialization
    task.delta_table = table
    task.delta_version = version
    task.delta_partition = partition
    task.execution_lineage_ref = lineage_ref(
        task.run_id, task.task_key, data.attempt, materialization, table, version, partition
    )


def _retry_at(task: TaskRow, event_id: str, at_ms: int) -> int:
    """Return when the next attempt may begin, counted from the time in the event's id (docs/events.md#fold-retries)."""
    from_ms = ulid_time_ms(event_id)
    doublings = min(max(task.attempt - 1, 0), _MOST_DOUBLINGS)
    return (at_ms if from_ms is None else from_ms) + min(_FIRST_BACKOFF_MS << doublings, _LONGEST_BACKOFF_MS)


def _set_visibility(task: TaskRow, visibility: str, published_at: str | None, error: str | None, at_ms: int) -> None:
    task.output_visibility_state = _VISIBILITIES[visibility]
    task.published_at = task.publish_error = None
    if visibility == "visible":
        task.published_at = at_ms if published_at is None else ms_or_none(published_at)
    elif visibility == "failed":
        task.publish_error = error


def satisfy(state: State, family: Family, run_id: str, upstream: str, attempt: int, event_id: str, at_ms: int) -> None:
    """Satisfy the edges of a task that succeeded; tasks that waited for nothing else become ready."""
    edges = family.edges.get(upstream)
    if edges is None:
        return
    families = state.families
    for downstream, edge in list(edges.items()):
        families.put_edge(family, EdgeRow(run_id, upstream, downstream, True, SUCCESS, at_ms, attempt, event_id))
        task = family.tasks.get(downstream)
        if edge.satisfied or task is None:
            continue
        families.keep_task(task)
        task.deps_satisfied_count += 1
        if task.deps_satisfied_count == task.deps_total and task.state == BLOCKED:
            task.state = READY
            task.ready_at = at_ms
            task.row_version = event_id


def propagate(
    state: State, family: Family, run_id: str, task_key: str, resolution: str, event_id: str, at_ms: int
) -> None:
    """Resolve the edges of a task that failed, was skipped or cancelled, and end its dependent tasks, in turn."""
    families = state.families
    ended = deque([(task_key, resolution)])
    while ended:
        upstream, current = ended.popleft()
        for downstream in list(family.edges.get(upstream, ())):
            families.put_edge(family, EdgeRow(run_id, upstream, downstream, False, current, at_ms, None, event_id))
            task = family.tasks.get(downstream)
            if task is None or task.state in FINISHED_TASK:
                continue
            families.keep_task(task)
            task.state = CANCELLED if current == CANCELLED else SKIPPED
            task.row_version = event_id
            if family.run is not None:
                count_task(state, family.run, task.state, event_id, at_ms)
            ended.append((downstream, task.state))


ENDS: Final = {
    "succeeded": "SUCCEEDED",
    "failed": "FAILED",
    "skipped": "SKIPPED",
    "cancelled": "CANCELLED",
}
"""How tables spell the outcomes of events."""


def record_attempt(
    state: State,
    task: TaskRow,
    data: TaskEnd,
    partition: str,
    event_id: str,
    at_ms: int,
) -> None:
    """Record an ended attempt and its materialization for the event's asset and partition.

    `task` is the attempt's task, after the end.
    """
    asset = data.asset_key or ""
    key = (asset, partition)
    row = state.partitions.rows.get(key)
    if row is None:
        row = _placeholder(state, asset, partition)
    row = replace(
        row,
        last_attempt_run_id=task.run_id,
        last_attempt_at=at_ms,
        last_attempt_outcome=ENDS[data.outcome],
        row_version=event_id,
    )
    if task.state == SUCCEEDED:
        row = replace(
            row,
            last_materialization_run_id=task.run_id,
            last_materialization_at=at_ms,
            last_materialization_code_version=data.code_version,
            stale_since=None,
            stale_reason_code=None,
            delta_table=task.delta_table,
            delta_version=task.delta_version,
            delta_partition=task.delta_partition,
            execution_lineage_ref=task.execution_lineage_ref,
        )
    state.partitions.put(key, row)


def _placeholder(state: State, asset: str, partition: str) -> PartitionRow:
    return PartitionRow(
        tenant_id=state.config.tenant,
        workspace_id=state.config.workspace,
        asset_key=asset,
        partition_key=partition,
        last_materialization_run_id=None,
        last_materialization_at=None,
        last_materialization_code_version=None,
        last_attempt_run_id=None,
        last_attempt_at=None,
        last_attempt_outcome=None,
        stale_since=None,
        stale_reason_code=None,
        partition_values=None,
        delta_table=None,
        delta_version=None,
        delta_partition=None,
        execution_lineage_ref=None,
        row_version="",
    )


HANDLERS: Final = (
    Handler(TaskStarted, task_started),
    Handler(TaskHeartbeat, task_heartbeat),
    Handler(TaskFinished, task_finished),
    Handler(TaskCompletionRecorded, task_completion_recorded),
    Handler(TaskOutputVisibilityChanged, task_output_visibility_changed),
)
