"""What a task waits for, by its rows: tasks that it needs, a worker, a slot of a pool, or its next attempt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

from springline.explaining.holds import hold_of
from springline.explaining.story import ago, lasted
from springline.ledger.identifiers import dispatch_id
from springline.ledger.timestamps import format_ms
from springline.projection.rows import AttemptRow, DispatchRow, EdgeRow, TaskRow
from springline.projection.schema import BLOCKED, DISPATCHED, READY, RETRY_WAIT
from springline.published.snapshot import StateSnapshot
from springline.ulids import ulid_time_ms

TABLES: Final = ("tasks", "dep_satisfaction", "dispatch_outbox", "x_attempts", "x_holds")
MOST_NAMED: Final = 5


@dataclass(frozen=True, slots=True)
class TaskWait:
    """What a task waits for. `text`: in words; `on`: the keys of the tasks that it needs, of those that block it."""

    text: str
    on: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Waits:
    """What tasks of one run wait for."""

    rows: StateSnapshot
    run_id: str
    pool_waits: Mapping[str, str]
    now_ms: int

    def of(self, task: TaskRow) -> TaskWait:
        """Return what a task waits for that has neither begun nor ended."""
        if task.state == BLOCKED:
            return self._blocked(task)
        if task.task_key in self.pool_waits:
            return TaskWait(self.pool_waits[task.task_key])
        if task.state == RETRY_WAIT:
            return TaskWait(self._retry(task))
        held = hold_of(self.rows)
        if held is not None and task.state == READY:
            return TaskWait(f"the end of the hold {held.text(self.now_ms)}")
        if task.state == DISPATCHED:
            return TaskWait(self._dispatched(task))
        since = "" if task.ready_at is None else f", ready since {ago(task.ready_at, self.now_ms)}"
        return TaskWait(f"its run to send an attempt{since}")

    def _blocked(self, task: TaskRow) -> TaskWait:
        states = {one.task_key: one.state for one in needed_by(self.rows, self.run_id, task.task_key)}
        open_edges = [one for one in edges_of(self.rows, self.run_id, task.task_key) if not one.satisfied]
        keys = [one.upstream_task_key for one in open_edges]
        shown = ", ".join(f"{key} ({states.get(key, 'not in the rows')})" for key in keys[:MOST_NAMED])
        more = f" and {len(keys) - MOST_NAMED} more" if len(keys) > MOST_NAMED else ""
        return TaskWait(f"{len(keys)} task(s) that it needs: {shown}{more}", tuple(keys))

    def _retry(self, task: TaskRow) -> str:
        ended = attempts_of(self.rows, task)
        error = ended[-1].error_message if ended else None
        failed = f"attempt {task.attempt + 1} after a failure" + ("" if error is None else f" ({error})")
        if task.retry_not_before is None:
            return f"{failed}, at once"
        left = task.retry_not_before - self.now_ms
        when = f", in {lasted(left)}" if left > 0 else ", which is due"
        return f"{failed}, not before {format_ms(task.retry_not_before)}{when}"

    def _dispatched(self, task: TaskRow) -> str:
        sent = dispatch_of(self.rows, self.run_id, task)
        queue = "" if sent is None else f" of the queue {sent.worker_queue}"
        since = ulid_time_ms(task.row_version) if sent is None else sent.created_at
        when = "" if since is None else f", since {ago(since, self.now_ms)}"
        return f"a worker{queue}: attempt {task.attempt} was sent, and nobody has begun it{when}"


def attempts_of(rows: StateSnapshot, task: TaskRow) -> list[AttemptRow]:
    """Return the attempts of a task that have ended, by number."""
    found = [AttemptRow(*cast(Any, row)) for row in rows["x_attempts"].below((task.run_id, task.task_key))]
    return sorted(found, key=lambda one: (one.attempt, one.row_version))


def error_of(task: TaskRow, attempts: Sequence[AttemptRow]) -> str | None:
    """Return the error of a task, or else of its last attempt that has ended."""
    return task.error_message or (attempts[-1].error_message if attempts else None)


def read_waits(rows: StateSnapshot, run_id: str, pool_waits: Mapping[str, str], now_ms: int) -> Waits:
    """Return what tasks of a run wait for; needs `TABLES`. `pool_waits`: waits for slots of pools, by task."""
    return Waits(rows, run_id, pool_waits, now_ms)


def edges_of(rows: StateSnapshot, run_id: str, task_key: str) -> list[EdgeRow]:
    """Return what a task needs, in the order of the keys."""
    edges = (EdgeRow(*cast(Any, row)) for row in rows["dep_satisfaction"].below((run_id,)))
    return [one for one in edges if one.downstream_task_key == task_key]


def needed_by(rows: StateSnapshot, run_id: str, task_key: str) -> list[TaskRow]:
    """Return the tasks that a task needs, as far as the rows have them."""
    found: Sequence[Any] = [
        rows["tasks"].get((run_id, one.upstream_task_key)) for one in edges_of(rows, run_id, task_key)
    ]
    return [TaskRow(*row) for row in found if row is not None]


def dispatch_of(rows: StateSnapshot, run_id: str, task: TaskRow) -> DispatchRow | None:
    """Return how the last attempt of a task was sent, None if it was not."""
    row: Any = rows["dispatch_outbox"].get(dispatch_id(run_id, task.task_key, task.attempt))
    return None if row is None else DispatchRow(*row)
