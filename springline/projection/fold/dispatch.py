"""The outbox of attempts to be sent to workers (docs/events.md#fold-dispatch)."""

from __future__ import annotations

from typing import Final

from msgspec.structs import replace

from springline.ledger.events import DispatchEnqueued, DispatchRequested
from springline.ledger.nested import DEFAULT_QUEUE
from springline.projection.fold import Handler
from springline.projection.rows import DispatchRow, TaskRow
from springline.projection.schema import (
    CREATED,
    DISPATCHED,
    FINISHED_TASK,
    PENDING,
    READY,
    RETRY_WAIT,
    RUNNING,
)
from springline.projection.state import State

_SENT: Final = FINISHED_TASK | {RUNNING, RETRY_WAIT}
_TO_BE_SENT: Final = frozenset({READY, RETRY_WAIT, DISPATCHED})


def dispatch_requested(state: State, event_id: str, at_ms: int, data: DispatchRequested) -> bool:
    """Put an attempt into the outbox, unless it began; a task that is due becomes dispatched."""
    task = state.task(data.run_id, data.task_key)
    if task is not None and _is_consumed(task, data.attempt):
        _drop(state, data.run_id, data.task_key, data.attempt)
        return False
    row = state.outbox.rows.get(data.dispatch_id)
    changed = False
    if row is None:
        attempt_id = data.attempt_id
        state.outbox.put(
            data.dispatch_id,
            DispatchRow(
                run_id=data.run_id,
                task_key=data.task_key,
                attempt=data.attempt,
                dispatch_id=data.dispatch_id,
                cloud_task_id=None,
                status=PENDING,
                attempt_id=attempt_id,
                worker_queue=data.worker_queue,
                created_at=at_ms,
                row_version=event_id,
            ),
        )
        changed = True
    else:
        filled = _filled(row, data)
        if filled is not None:
            state.outbox.put(data.dispatch_id, filled)
            changed = True
        attempt_id = row.attempt_id or data.attempt_id
    if task is not None and task.state in _TO_BE_SENT and data.attempt >= task.attempt:
        return _dispatch(state, task, data.attempt, attempt_id, event_id, at_ms) or changed
    return changed


def _filled(row: DispatchRow, data: DispatchRequested) -> DispatchRow | None:
    """Return a row with the fields that only a request has, None if it lacks none.

    What is empty counts as filled, and the event as applied, even by an event that is empty there itself
    (docs/events.md#fold-dispatch).
    """
    queue = row.worker_queue
    takes_id = row.attempt_id == ""
    takes_queue = queue == "" or (queue == DEFAULT_QUEUE and data.worker_queue != DEFAULT_QUEUE)
    if not (takes_id or takes_queue):
        return None
    return replace(
        row,
        attempt_id=data.attempt_id if takes_id else row.attempt_id,
        worker_queue=data.worker_queue if takes_queue else queue,
    )


def _dispatch(state: State, task: TaskRow, attempt: int, attempt_id: str, event_id: str, at_ms: int) -> bool:
    if task.state == DISPATCHED and task.attempt == attempt and task.attempt_id == attempt_id:
        return False
    state.families.keep_task(task)
    task.state = DISPATCHED
    task.attempt = attempt
    task.attempt_id = attempt_id
    task.retry_not_before = None
    task.row_version = task.refreshed_version = event_id
    task.refreshed_at = at_ms
    return True


def dispatch_enqueued(state: State, event_id: str, at_ms: int, data: DispatchEnqueued) -> bool:
    """Record that an attempt was sent; without an earlier request, make a row from the event's fields."""
    run_id, task_key, attempt = data.run_id, data.task_key, data.attempt
    if run_id is not None and task_key is not None and attempt is not None:
        task = state.task(run_id, task_key)
        if task is not None and _is_consumed(task, attempt):
            _drop(state, run_id, task_key, attempt)
            return False
    row = state.outbox.rows.get(data.dispatch_id)
    if row is None:
        if run_id is None or task_key is None or attempt is None:
            return False
        row = DispatchRow(
            run_id=run_id,
            task_key=task_key,
            attempt=attempt,
            dispatch_id=data.dispatch_id,
            cloud_task_id=None,
            status=CREATED,
            attempt_id="",
            worker_queue=DEFAULT_QUEUE,
            created_at=at_ms,
            row_version=event_id,
        )
    sent = replace(row, status=CREATED, cloud_task_id=data.cloud_task_id, created_at=at_ms, row_version=event_id)
    state.outbox.put(data.dispatch_id, sent)
    return True


def _is_consumed(task: TaskRow, attempt: int) -> bool:
    """Say whether an attempt has begun, so that it need not be sent."""
    return task.attempt > attempt or (task.attempt == attempt and task.state in _SENT)


def _drop(state: State, run_id: str, task_key: str, attempt: int) -> None:
    """Remove the row under the derived dispatch id of an attempt, even if the event has another `dispatch_id`."""
    dispatch_id = f"dispatch:{run_id}:{task_key}:{attempt}"
    if dispatch_id in state.outbox.rows:
        state.outbox.remove(dispatch_id)


HANDLERS: Final = (
    Handler(DispatchRequested, dispatch_requested),
    Handler(DispatchEnqueued, dispatch_enqueued),
)
