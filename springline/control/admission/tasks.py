"""Attempts of tasks: started, alive, finished, their output visible.

See docs/events.md#fold-tasks, docs/events.md#fold-dependencies, docs/events.md#fold-run-counters.
"""

from __future__ import annotations

from typing import Final

from msgspec.structs import replace

from springline.control.admission.cases import Case, Completion, EventRule, Ruling, Write, invalid, repair_key
from springline.control.admission.runs import is_cancelled
from springline.ledger.events import (
    AttemptNoted,
    DispatchRequested,
    TaskCompletionRecorded,
    TaskFinished,
    TaskHeartbeat,
    TaskOutputVisibilityChanged,
    TaskStarted,
)
from springline.ledger.timestamps import NS_PER_MS, format_ms, parse_timestamp
from springline.projection.rows import TaskRow
from springline.projection.schema import BLOCKED, FINISHED_TASK, RETRY_WAIT, RUNNING, SUCCEEDED
from springline.projection.state import State

MAX_AHEAD_MS = 300_000
"""How far a worker's clock may be ahead; a heartbeat from farther ahead would hide the worker's death."""

Finish = TaskFinished | TaskCompletionRecorded
AttemptEvent = TaskStarted | TaskHeartbeat | Finish | TaskOutputVisibilityChanged
_OVER = "Stop working on this attempt; what it reports is not taken any more."


def check_attempt(data: AttemptEvent | DispatchRequested | AttemptNoted, field: str, now_ms: int) -> None:
    """Refuse attempt 0, which a task has before its first one (docs/events.md#w36)."""
    if data.attempt < 1:
        raise invalid(f"{field}.attempt", data.attempt, "counts from 1", "Give the number of the attempt.")


def check_heartbeat(data: TaskHeartbeat, field: str, now_ms: int) -> None:
    """Refuse a heartbeat with a time in the future."""
    check_attempt(data, field, now_ms)
    if data.progress_pct is not None and data.progress_pct > 100:
        raise invalid(f"{field}.progress_pct", data.progress_pct, "is a percentage", "Give 0 to 100.")
    if data.heartbeat_at is not None and parse_timestamp(data.heartbeat_at) // NS_PER_MS > now_ms + MAX_AHEAD_MS:
        raise invalid(
            f"{field}.heartbeat_at",
            data.heartbeat_at,
            f"lies more than {MAX_AHEAD_MS // 60_000} minutes after {format_ms(now_ms)}, which is now",
            "Set the worker's clock, or leave heartbeat_at out.",
        )


def with_heartbeat_time(data: TaskHeartbeat, now_ms: int) -> TaskHeartbeat:
    """Return the heartbeat with a time: without one, all of an attempt share a key, and only the first counts."""
    return data if data.heartbeat_at is not None else replace(data, heartbeat_at=format_ms(now_ms))


def task_of(state: State, case: Case[AttemptEvent] | Case[DispatchRequested]) -> TaskRow:
    """Return the task that an event is about, if it may still change; raises `Refused`."""
    data = case.data
    task = state.task(data.run_id, data.task_key)
    if task is None:
        raise case.conflict(
            "task_key",
            f"run {data.run_id!r} has no task {data.task_key!r}",
            "Append the run's plan first; it may be in the same request. Or check the ids.",
        )
    return task


def admit_start(state: State, case: Case[TaskStarted]) -> Ruling:
    """Admit the start of an attempt that is due, or taken over by a later one."""
    data, task = case.data, task_of(state, case)
    refuse_finished(case, task)
    if task.state == BLOCKED:
        raise case.conflict(
            "task_key", f"task {data.task_key!r} waits for others to succeed", "Start it when it is READY."
        )
    if data.attempt < task.attempt:
        raise case.conflict("attempt", f"attempt {task.attempt} of task {data.task_key!r} has begun", _OVER)
    if data.attempt == task.attempt and task.state == RETRY_WAIT:
        raise case.conflict("attempt", f"attempt {data.attempt} of task {data.task_key!r} has ended", _OVER)
    if data.attempt == task.attempt and task.attempt_id not in (None, data.attempt_id):
        raise case.conflict("attempt_id", f"attempt {data.attempt} has the id {task.attempt_id!r}", _OVER)
    if is_cancelled(state.run(data.run_id)) and (task.state != RUNNING or data.attempt > task.attempt):
        raise case.conflict("run_id", f"run {data.run_id!r} is cancelled: no attempt of it begins", _OVER)
    return Write(data)


def missed_start(state: State, data: TaskStarted) -> str | None:
    """Return why a task waits for a start: it never reached this attempt, because another task used the key."""
    task = state.task(data.run_id, data.task_key)
    if task is None or task.state in FINISHED_TASK or task.attempt >= data.attempt:
        return None
    return f"attempt {data.attempt} of task {data.task_key!r} has not begun, but its key was used by another event"


def admit_heartbeat(state: State, case: Case[TaskHeartbeat]) -> Ruling:
    """Admit a sign of life of the current attempt."""
    task = task_of(state, case)
    refuse_finished(case, task)
    _refuse_other_attempt(case, task)
    return Write(case.data)


def admit_finish(state: State, case: Case[Finish]) -> Ruling:
    """Admit the end of the current attempt; in a cancelled run it is the end of the task too (docs/events.md#w16)."""
    task = task_of(state, case)
    refuse_finished(case, task)
    _refuse_other_attempt(case, task)
    return Write(case.data, lambda after: _end_if_cancelled(after, case))


def _end_if_cancelled(state: State, case: Case[Finish]) -> list[Completion]:
    data = case.data
    task = state.task(data.run_id, data.task_key)
    if task is None or task.state != RETRY_WAIT or not is_cancelled(state.run(data.run_id)):
        return []
    end = TaskFinished(
        run_id=data.run_id,
        task_key=data.task_key,
        attempt=data.attempt,
        attempt_id=data.attempt_id,
        worker_id=data.worker_id,
        outcome="cancelled",
        error_message="the run is cancelled: the task is not tried again",
    )
    return [Completion(end, repair_key(data.run_id, "finish", case.event_id), case.field)]


def missed_finish(state: State, data: Finish) -> str | None:
    """Return why a running attempt waits for an end: another task, or an earlier end, used the key.

    See docs/events.md#w7.
    """
    task = state.task(data.run_id, data.task_key)
    if task is None or task.state in FINISHED_TASK or task.state == RETRY_WAIT:
        return None
    if (task.attempt, task.attempt_id) != (data.attempt, data.attempt_id):
        return None
    return f"attempt {data.attempt} of task {data.task_key!r} goes on, but the key of its end was used"


def admit_visibility(state: State, case: Case[TaskOutputVisibilityChanged]) -> Ruling:
    """Admit the visibility of a succeeded attempt's output; a final one stays."""
    data, task = case.data, task_of(state, case)
    if task.state != SUCCEEDED:
        raise case.conflict("task_key", f"task {data.task_key!r} is {task.state}", "Only a success has an output.")
    _refuse_other_attempt(case, task)
    known = task.output_visibility_state
    if known in ("VISIBLE", "FAILED") and known != data.visibility_state.upper():
        raise case.conflict("visibility_state", f"the output is {known} for good", "Finish another attempt instead.")
    return Write(data)


def missed_visibility(state: State, data: TaskOutputVisibilityChanged) -> str | None:
    """Return why an output waits for a visibility: it has none yet, or not the final one."""
    task = state.task(data.run_id, data.task_key)
    if task is None or task.state != SUCCEEDED or (task.attempt, task.attempt_id) != (data.attempt, data.attempt_id):
        return None
    if task.output_visibility_state in ("VISIBLE", "FAILED", data.visibility_state.upper()):
        return None
    return f"the output of task {data.task_key!r} is not {data.visibility_state}, but the key of that was used"


def refuse_finished(case: Case[AttemptEvent] | Case[DispatchRequested], task: TaskRow) -> None:
    """Raise `Refused` if a task has ended."""
    if task.state in FINISHED_TASK:
        raise case.conflict("task_key", f"task {task.task_key!r} has ended: {task.state}", _OVER)


def _refuse_other_attempt(case: Case[AttemptEvent], task: TaskRow) -> None:
    data = case.data
    if data.attempt != task.attempt:
        now = f"attempt {task.attempt} is the latest" if task.attempt else "no attempt has begun"
        remedy = _OVER if data.attempt < task.attempt else "Append the attempt's task_started first."
        raise case.conflict("attempt", f"task {task.task_key!r} is {task.state}, and {now}", remedy)
    if data.attempt_id != task.attempt_id:
        raise case.conflict("attempt_id", f"attempt {task.attempt} has the id {task.attempt_id!r}", _OVER)


RULES: Final = (
    EventRule(TaskStarted, admit_start, check=check_attempt, missed=missed_start),
    EventRule(TaskHeartbeat, admit_heartbeat, check=check_heartbeat, missed=None, fill=with_heartbeat_time),
    EventRule(TaskFinished, admit_finish, check=check_attempt, missed=missed_finish),
    EventRule(TaskCompletionRecorded, admit_finish, check=check_attempt, missed=missed_finish),
    EventRule(TaskOutputVisibilityChanged, admit_visibility, check=check_attempt, missed=missed_visibility),
)
