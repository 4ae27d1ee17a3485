"""What a worker over HTTP calls back about its attempt: which events say it, or why it is refused.

The decisions are made over rows, which may be a moment old. So what is newer than a row is left to the sequencer, which
judges by the state as it is then (docs/protocol.md#callback-errors).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from springline.control.runs.ends import cut_trace, short_message
from springline.control.runs.messages import AttemptEnded
from springline.control.runs.retries import INFRASTRUCTURE, may_try_again
from springline.errors import AttemptStanding, Code, Refusal, Refused
from springline.ledger.events import (
    Payload,
    TaskCompletionRecorded,
    TaskHeartbeat,
    TaskOutputVisibilityChanged,
    TaskStarted,
)
from springline.ledger.nested import ErrorCategory, TaskError, TaskMetrics, TaskOutput
from springline.projection.rows import AttemptRow, TaskRow
from springline.projection.schema import CANCELLED, FAILED, FINISHED_TASK, RETRY_WAIT, RUNNING, SUCCEEDED

Outcome = Literal["SUCCEEDED", "FAILED", "CANCELLED"]
Call = Literal["started", "heartbeat", "completed"]

USER_REQUESTED: Final = "user_requested"
"""Why an attempt is to stop, as its worker is told."""
_STOP: Final = "Stop working on this attempt; what it reports is not taken any more."


@dataclass(frozen=True, slots=True)
class Caller:
    """Whose callback it is: the attempt, which its token is for, and the worker that makes it."""

    run_id: str
    task_key: str
    attempt: int
    attempt_id: str
    worker_id: str


@dataclass(frozen=True, slots=True)
class CalledTask:
    """Where the task of a callback stands.

    Attributes:
        task: its row; None if the run has no such task.
        cancel_requested: whether its run is cancelled.
        ended: its attempts that have ended.
        retries: how often a failed attempt is followed by another, as its asset has it.
        location: the code location of its asset, None if that is gone.
        code_version: what the asset's author calls the version of its code.
    """

    task: TaskRow | None
    cancel_requested: bool = False
    ended: Sequence[AttemptRow] = ()
    retries: int = 0
    location: str | None = None
    code_version: str | None = None


@dataclass(frozen=True, slots=True)
class CalledError:
    """Why an attempt has failed, as its worker says."""

    category: ErrorCategory
    message: str
    stack_trace: str | None = None
    retryable: bool | None = None


@dataclass(frozen=True, slots=True)
class Completed:
    """How an attempt has ended, as its worker says. `completed_at`: by its clock, RFC 3339."""

    outcome: Outcome
    output: TaskOutput | None = None
    error: CalledError | None = None
    metrics: TaskMetrics | None = None
    completed_at: str | None = None
    cancelled_during_phase: str | None = None
    partial_progress_json: str | None = None


@dataclass(frozen=True, slots=True)
class Judged:
    """What a callback comes to: events to append, each by itself; without any it repeats one that is recorded."""

    events: Sequence[Payload] = ()
    should_cancel: bool = False

    @property
    def is_repeat(self) -> bool:
        """Whether it says what is recorded already."""
        return not self.events


def judge_started(called: CalledTask, caller: Caller, started_at: str | None) -> Judged:
    """Return the event that records a start; raises `Refused`."""
    task = _current(called, caller, "started")
    if called.cancel_requested:
        message = "the run is cancelled: no attempt of it begins"
        raise _refused(Code.TASK_ALREADY_TERMINAL, message, caller, task, CANCELLED)
    return Judged([_start(called, caller, started_at)])


def judge_heartbeat(called: CalledTask, caller: Caller, progress_pct: int | None, message: str | None) -> Judged:
    """Return the event that records a sign of life, and whether the attempt is to stop; raises `Refused`.

    Its time is that of its receipt: a worker's clock decides nothing.
    """
    _current(called, caller, "heartbeat")
    beat = TaskHeartbeat(
        run_id=caller.run_id,
        task_key=caller.task_key,
        attempt=caller.attempt,
        attempt_id=caller.attempt_id,
        worker_id=caller.worker_id,
        progress_pct=progress_pct,
        message=None if message is None else short_message(message),
    )
    return Judged([beat], should_cancel=called.cancel_requested)


def judge_completed(called: CalledTask, caller: Caller, said: Completed) -> Judged:
    """Return the events that record an end; none for one that repeats what is recorded; raises `Refused`.

    An output that became visible later is told by the same end with its new visibility.
    """
    task = called.task
    if task is not None and _is_own(task, caller) and _says_the_same(task, said.outcome, called.cancel_requested):
        later = _visibility(caller, said.output)
        is_news = task.output_visibility_state == "PENDING" and later.visibility_state != "pending"
        return Judged([later] if is_news and task.state == SUCCEEDED else [])
    task = _current(called, caller, "completed")
    begun = task.state == RUNNING and _is_own(task, caller)
    events: list[Payload] = [] if begun else [_start(called, caller, None)]
    events.append(_end(called, task, caller, said))
    if said.outcome == "SUCCEEDED":
        events.append(_visibility(caller, said.output))
    return Judged(events)


def taken_by_another(caller: Caller, task: TaskRow | None) -> Refused:
    """Return the refusal of a start that another worker was first with: the attempt is that one's."""
    return _refused(Code.ATTEMPT_TAKEN, "another worker has started this attempt", caller, task)


def overtaken(caller: Caller, task: TaskRow | None, message: str) -> Refused:
    """Return the refusal of what the sequencer did not admit: the state has moved meanwhile."""
    return _refused(Code.ATTEMPT_MISMATCH, message, caller, task)


def _current(called: CalledTask, caller: Caller, call: Call) -> TaskRow:
    """Return the task of a callback if its attempt is the latest, or newer than the row; raises `Refused`."""
    task = called.task
    if task is None:
        raise Refused(
            Refusal(
                code=Code.NOT_FOUND,
                message=f"run {caller.run_id!r} has no task {caller.task_key!r}",
                field="task_id",
                remedy="The run may be older than the retention of its workspace. Stop working on this attempt.",
            )
        )
    if task.state in FINISHED_TASK:
        code = Code.TASK_EXPIRED if call == "heartbeat" else Code.TASK_ALREADY_TERMINAL
        raise _refused(code, f"the task has ended: {task.state}", caller, task)
    if caller.attempt < task.attempt:
        raise _refused(Code.ATTEMPT_MISMATCH, f"attempt {task.attempt} of the task has begun", caller, task)
    if caller.attempt == task.attempt and task.attempt_id != caller.attempt_id:
        raise _refused(Code.ATTEMPT_ID_MISMATCH, f"attempt {task.attempt} has another id", caller, task)
    if caller.attempt == task.attempt and task.state == RETRY_WAIT:
        raise _refused(Code.ATTEMPT_ALREADY_COMPLETED, "this attempt has ended, and another one follows", caller, task)
    return task


def _is_own(task: TaskRow, caller: Caller) -> bool:
    return (task.attempt, task.attempt_id) == (caller.attempt, caller.attempt_id)


def _says_the_same(task: TaskRow, outcome: Outcome, cancelled: bool) -> bool:
    if outcome == "FAILED":
        # In a cancelled run, a failure that another attempt would follow cancels the task.
        return task.state in (FAILED, RETRY_WAIT) or (cancelled and task.state == CANCELLED)
    return task.state == outcome


def _start(called: CalledTask, caller: Caller, started_at: str | None) -> TaskStarted:
    member = {"started_at": started_at, "location": called.location}
    return TaskStarted(
        run_id=caller.run_id,
        task_key=caller.task_key,
        attempt=caller.attempt,
        attempt_id=caller.attempt_id,
        worker_id=caller.worker_id,
        springline={name: one for name, one in member.items() if one is not None} or None,
    )


def _end(called: CalledTask, task: TaskRow, caller: Caller, said: Completed) -> TaskCompletionRecorded:
    output = said.output or TaskOutput()
    succeeded = said.outcome == "SUCCEEDED"
    error, message = None, None
    if said.outcome != "SUCCEEDED":
        fallback: ErrorCategory = "CANCELLED" if said.outcome == "CANCELLED" else "USER_CODE"
        given = said.error or CalledError(fallback, "the worker gave no reason")
        message = short_message(given.message)
        error = TaskError(
            category=given.category,
            message=message,
            stack_trace=None if given.stack_trace is None else cut_trace(given.stack_trace),
            retryable=said.outcome == "FAILED" and _is_followed(called, task, caller, given),
        )
    return TaskCompletionRecorded(
        run_id=caller.run_id,
        task_key=caller.task_key,
        attempt=caller.attempt,
        attempt_id=caller.attempt_id,
        worker_id=caller.worker_id,
        outcome=_OUTCOMES[said.outcome],
        materialization_id=(output.materialization_id or caller.attempt_id) if succeeded else None,
        error_message=message,
        output=said.output if succeeded else None,
        error=error,
        metrics=said.metrics,
        cancelled_during_phase=said.cancelled_during_phase,
        partial_progress_json=said.partial_progress_json,
        asset_key=task.asset_key,
        partition_key=task.partition_key,
        code_version=called.code_version,
        springline=None if said.completed_at is None else {"ended_at": said.completed_at},
    )


_OUTCOMES: Final[dict[Outcome, Any]] = {"SUCCEEDED": "succeeded", "FAILED": "failed", "CANCELLED": "cancelled"}


def _is_followed(called: CalledTask, task: TaskRow, caller: Caller, error: CalledError) -> bool:
    """Say whether another attempt follows a failure, by the budget that a run keeps for its own attempts, too."""
    failures = sum(one.outcome == FAILED and one.category != INFRASTRUCTURE for one in called.ended)
    said = AttemptEnded(
        outcome="failed",
        worker_id=caller.worker_id,
        started_at_ms=0,
        ended_at_ms=0,
        category=error.category,
        retryable=error.retryable,
    )
    failures += error.category != INFRASTRUCTURE
    return caller.attempt < task.max_attempts and may_try_again(said, failures, called.retries)


def _visibility(caller: Caller, output: TaskOutput | None) -> TaskOutputVisibilityChanged:
    """Return the event that says whether an output is visible: it is, unless its worker says otherwise."""
    state = "VISIBLE" if output is None else output.output_visibility_state or "VISIBLE"
    return TaskOutputVisibilityChanged(
        run_id=caller.run_id,
        task_key=caller.task_key,
        attempt=caller.attempt,
        attempt_id=caller.attempt_id,
        visibility_state=_VISIBILITIES[state],
        published_at=None if output is None else output.published_at,
        publish_error=None if output is None else output.publish_error,
    )


_VISIBILITIES: Final[dict[str, Any]] = {"PENDING": "pending", "VISIBLE": "visible", "FAILED": "failed"}


def _refused(code: Code, message: str, caller: Caller, task: TaskRow | None, state: str | None = None) -> Refused:
    found = None
    if task is not None:
        found = AttemptStanding(
            state=state or task.state,
            expectedAttempt=task.attempt,
            receivedAttempt=caller.attempt,
            expectedAttemptId=task.attempt_id,
            receivedAttemptId=caller.attempt_id,
        )
    field = {Code.ATTEMPT_MISMATCH: "attempt", Code.ATTEMPT_ID_MISMATCH: "attemptId", Code.ATTEMPT_TAKEN: "workerId"}
    return Refused(
        Refusal(
            code=code,
            message=message,
            field=field.get(code, "task_id"),
            value={"attempt": caller.attempt, "attemptId": caller.attempt_id, "workerId": caller.worker_id}.get(
                field.get(code, ""), caller.task_key
            ),
            remedy=_STOP,
            attempt=found,
        )
    )
