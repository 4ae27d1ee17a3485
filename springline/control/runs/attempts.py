"""An attempt under way, and the events that tell of attempts and of the waits between them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from springline.control.runs.ends import UNSEEN_WORKER, short_message, written_tables
from springline.control.runs.graph import GraphTask
from springline.control.runs.messages import AttemptEnded, AttemptOrder, CancelAsked
from springline.control.runs.remote import Remote
from springline.ledger.events import (
    AttemptNoted,
    DispatchEnqueued,
    DispatchRequested,
    RunCancelRequested,
    TaskCompletionRecorded,
    TaskHeartbeat,
    TaskStarted,
    TimerFired,
    TimerRequested,
)
from springline.ledger.identifiers import dispatch_id, dispatch_task_id, retry_timer_id
from springline.ledger.timestamps import format_ms

DEFAULT_GRACE_MS: Final = 10_000


@dataclass(slots=True)
class Attempt:
    """An attempt under way. `started`: its start is recorded, or waits to be. `said_ms`: when the ledger last heard.

    `order`: what is to be made as soon as the attempt has a slot of its pool; None once it is being made. `grace_ms`:
    how long it may take to end when it is told to. `began_ms`: when its worker has begun it, as far as that is known.
    `remote`: what is known of it if it is made over HTTP, else None.
    """

    key: str
    number: int
    attempt_id: str
    said_ms: int
    worker_id: str | None = None
    started: bool = False
    order: AttemptOrder | None = None
    grace_ms: int = DEFAULT_GRACE_MS
    began_ms: int | None = None
    remote: Remote | None = None


@dataclass(frozen=True, slots=True)
class AttemptEvents:
    """Makes the events about the attempts of a run's tasks. `run_id`: the run's."""

    run_id: str

    def dispatch(self, order: AttemptOrder, queue: str) -> DispatchRequested:
        """Tell that an attempt is ordered; `queue`: whose workers may take it."""
        return DispatchRequested(
            run_id=self.run_id,
            task_key=order.task_key,
            attempt=order.attempt,
            attempt_id=order.attempt_id,
            dispatch_id=dispatch_id(self.run_id, order.task_key, order.attempt),
            worker_queue=queue,
            springline={"location": order.location},
        )

    def enqueued(self, attempt: Attempt) -> DispatchEnqueued:
        """Tell that a worker over HTTP has taken an attempt."""
        dispatch = dispatch_id(self.run_id, attempt.key, attempt.number)
        return DispatchEnqueued(
            dispatch_id=dispatch,
            cloud_task_id=dispatch_task_id(dispatch),
            run_id=self.run_id,
            task_key=attempt.key,
            attempt=attempt.number,
        )

    def start(self, attempt: Attempt, started_at_ms: int, location: str) -> TaskStarted:
        """Tell that a worker of a location has begun an attempt."""
        return TaskStarted(
            run_id=self.run_id,
            task_key=attempt.key,
            attempt=attempt.number,
            attempt_id=attempt.attempt_id,
            worker_id=attempt.worker_id or UNSEEN_WORKER,
            springline={"started_at": format_ms(started_at_ms), "location": location},
        )

    def start_before(self, end: TaskCompletionRecorded) -> TaskStarted:
        """Tell of the start that the end of an attempt lacks."""
        return TaskStarted(
            run_id=self.run_id,
            task_key=end.task_key,
            attempt=end.attempt,
            attempt_id=end.attempt_id,
            worker_id=end.worker_id,
        )

    def heartbeat(self, attempt: Attempt, now_ms: int) -> TaskHeartbeat:
        """Tell that an attempt is alive."""
        return TaskHeartbeat(
            run_id=self.run_id,
            task_key=attempt.key,
            attempt=attempt.number,
            attempt_id=attempt.attempt_id,
            worker_id=attempt.worker_id or UNSEEN_WORKER,
            heartbeat_at=format_ms(now_ms),
        )

    def end(self, task: GraphTask, number: int, attempt_id: str, said: AttemptEnded) -> TaskCompletionRecorded:
        """Tell which attempt has ended and how; `springline.control.runs.ends.completion` adds the rest."""
        return TaskCompletionRecorded(
            run_id=self.run_id,
            task_key=task.key,
            attempt=number,
            attempt_id=attempt_id,
            worker_id=said.worker_id,
            outcome=said.outcome,
            asset_key=None if task.asset.is_task else task.loaded.asset,
            partition_key=task.loaded.partition,
            code_version=task.asset.code_version,
        )

    def timer(self, task: GraphTask, at_ms: int) -> TimerRequested:
        """Tell that a task waits for its next attempt until an instant."""
        return TimerRequested(
            timer_id=self._timer_id(task, at_ms),
            timer_type="retry",
            fire_at=format_ms(at_ms),
            run_id=self.run_id,
            task_key=task.key,
            attempt=task.attempt,
        )

    def timer_fired(self, task: GraphTask, at_ms: int) -> TimerFired:
        """Tell that the wait of a task until an instant is over."""
        return TimerFired(
            timer_id=self._timer_id(task, at_ms),
            timer_type="retry",
            run_id=self.run_id,
            task_key=task.key,
            attempt=task.attempt,
        )

    def cancel(self, asked: CancelAsked) -> RunCancelRequested:
        """Tell that the run is to be cancelled."""
        member = None if asked.reason_code is None else {"reason_code": asked.reason_code}
        return RunCancelRequested(
            run_id=self.run_id, requested_by=asked.requested_by, reason=asked.reason, springline=member
        )

    def noted(self, key: str, number: int, attempt_id: str, note: str, detail: dict[str, Any]) -> AttemptNoted:
        """Note something of an attempt: `ENDED_APART`, which is the task's own no more, or the `METADATA` it told."""
        return AttemptNoted(
            run_id=self.run_id, task_key=key, attempt=number, attempt_id=attempt_id, note=note, detail=detail
        )

    def _timer_id(self, task: GraphTask, at_ms: int) -> str:
        return retry_timer_id(self.run_id, task.key, task.attempt, at_ms // 1_000)


def said_apart(said: AttemptEnded) -> dict[str, Any]:
    """Return what a note has of an end that a worker has told."""
    detail: dict[str, Any] = {"outcome": str(said.outcome), "worker_id": said.worker_id}
    if said.message is not None:
        detail["message"] = short_message(said.message)
    if said.tables:
        detail["tables"] = written_tables(said.tables)
    return detail


def end_apart(end: TaskCompletionRecorded) -> dict[str, Any]:
    """Return what a note has of an end that could not be recorded as one."""
    detail: dict[str, Any] = {"outcome": end.outcome, "worker_id": end.worker_id}
    if end.error_message is not None:
        detail["message"] = end.error_message
    if end.springline is not None and "tables" in end.springline:
        detail["tables"] = end.springline["tables"]
    return detail
