"""Why a task of a run has not begun, what it waits for, or how it ended."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Any, Final, cast

from springline.control.runs.apart import note_words
from springline.control.runs.ends import METADATA
from springline.control.runs.planning import LOST_ATTEMPTS
from springline.control.runs.retries import INFRASTRUCTURE
from springline.errors import Code, refused
from springline.explaining.holds import HOLD_EVENT, hold_of, is_hold
from springline.explaining.runs import aim_at_run, no_run, run_row
from springline.explaining.story import (
    Account,
    Aim,
    Evidence,
    Question,
    Subject,
    Verdict,
    ago,
    explain_task,
    lasted,
    unknown,
)
from springline.explaining.waits import TABLES, attempts_of, edges_of, error_of, needed_by, read_waits
from springline.ledger.envelope import Event
from springline.ledger.events import PlanCreated, RunCancelRequested, TaskHeartbeat
from springline.projection.rows import NoteRow, RunRow, TaskRow
from springline.projection.schema import (
    CANCELLED,
    FAILED,
    FINISHED_RUN,
    FINISHED_TASK,
    READY,
    RUNNING,
    SKIPPED,
    SUCCEEDED,
)
from springline.published.snapshot import StateSnapshot
from springline.runs.loading import is_of_a_manifest

TASK_TABLES: Final = ("runs", "x_runs", "x_notes", *TABLES)
"""What explanations of tasks and attempts need of the published state."""
_ENDS: Final = {SUCCEEDED: Verdict.DONE, FAILED: Verdict.FAILED, SKIPPED: Verdict.SKIPPED, CANCELLED: Verdict.CANCELLED}


def run_and_task(rows: StateSnapshot, question: Question) -> tuple[RunRow, TaskRow]:
    """Return the run and the task that a question names; raises `Refused`."""
    run = run_row(rows, question.identity)
    if run is None:
        raise no_run(question.identity)
    if question.task is None:
        raise refused(
            Code.INVALID_REQUEST,
            "the question names no task",
            field="task",
            remedy=f"Give a task's key; `springline run show {run.run_id}` shows them.",
        )
    row: Any = rows["tasks"].get((run.run_id, question.task))
    if row is None:
        remedy = f"`springline run show {run.run_id}` shows the tasks of the run."
        raise unknown("task", "task", question.task, remedy, of=f"run {run.run_id}")
    return run, TaskRow(*row)


def _aim(evidence: Evidence, question: Question) -> Aim:
    rows = evidence.rows
    run, task = run_and_task(rows, question)
    needed = {one.upstream_task_key for one in edges_of(rows, run.run_id, task.task_key)}
    since_ms, until_ms = aim_at_run(rows, run, question.now_ms)

    def concerns(event: Event) -> bool:
        data: Any = event.data
        if is_hold(event):
            return True
        if getattr(data, "run_id", None) != run.run_id or isinstance(data, TaskHeartbeat):
            return False
        if isinstance(data, PlanCreated | RunCancelRequested):
            return True
        key = getattr(data, "task_key", None)
        # Of what it needs only the ends decide anything.
        return key == task.task_key or (key in needed and hasattr(data, "outcome"))

    return Aim(since_ms, until_ms, (run.run_id, HOLD_EVENT), concerns, run.run_id)


def _answer(evidence: Evidence, question: Question) -> Account:
    rows = evidence.rows
    run, task = run_and_task(rows, question)
    steps = [f"springline explain run {run.run_id}"]
    if task.state in FINISHED_TASK:
        return _ended(rows, run, task)
    if task.state == RUNNING:
        began = "" if task.started_at is None else f" since {ago(task.started_at, question.now_ms)}"
        beat = (
            ""
            if task.last_heartbeat_at is None
            else f"; its last heartbeat: {ago(task.last_heartbeat_at, question.now_ms)}"
        )
        text = f"Attempt {task.attempt} is being made{began}{beat}."
        return Account(
            Verdict.UNDER_WAY,
            text,
            next_steps=[f"springline explain attempt {run.run_id} {shlex.quote(task.task_key)} {task.attempt}"],
        )
    if run.cancel_requested or run.state in FINISHED_RUN:
        ends = run.state if run.state in FINISHED_RUN else "to be cancelled"
        text = f"It has not begun, and does not any more: its run is {ends}."
        return Account(Verdict.CANCELLED, text, next_steps=steps)
    wait = read_waits(rows, run.run_id, evidence.pool_waits, question.now_ms).of(task)
    verdict = Verdict.HELD if task.state == READY and hold_of(rows) is not None else Verdict.WAITS
    steps = [explain_task(run.run_id, key) for key in wait.on[:1]] or steps
    return Account(verdict, f"It is {task.state}: it waits for {wait.text}.", waits_for=[wait.text], next_steps=steps)


def _ended(rows: StateSnapshot, run: RunRow, task: TaskRow) -> Account:
    attempts = attempts_of(rows, task)
    last = attempts[-1] if attempts else None
    code = None if last is None else last.reason_code
    if task.state == SKIPPED:
        unmet = [one for one in needed_by(rows, run.run_id, task.task_key) if one.state in FINISHED_TASK - {SUCCEEDED}]
        said = ", ".join(f"{one.task_key} is {one.state}" for one in unmet) or "a task that it needs did not succeed"
        steps = [explain_task(run.run_id, one.task_key) for one in unmet[:1]]
        return Account(Verdict.SKIPPED, f"It was never begun: {said}.", next_steps=steps)
    if task.state == CANCELLED and last is None and task.attempt_id is None:
        return Account(
            Verdict.CANCELLED,
            "It had not begun when its run was cancelled.",
            next_steps=[f"springline explain run {run.run_id}"],
        )
    took = ""
    if last is not None and last.true_started_at is not None and last.true_ended_at is not None:
        took = f" after {lasted(max(0, last.true_ended_at - last.true_started_at))}"
    elif task.started_at is not None and task.completed_at is not None:
        took = f" after {lasted(task.completed_at - task.started_at)}"
    is_ours = is_of_a_manifest(run.code_version)
    most = "" if is_ours else f" of at most {task.max_attempts}"
    text = f"It is {task.state} with attempt {task.attempt}{most}{took}"
    error = error_of(task, attempts)
    text += "." if error is None or task.state == SUCCEEDED else f": {error}."
    lost = sum(one.category == INFRASTRUCTURE for one in attempts)
    if is_ours and task.state == FAILED:
        retries = max(0, task.max_attempts - 1 - LOST_ATTEMPTS)
        used = min(retries, max(0, task.attempt - lost - 1))
        text += f" It used {used} of its {retries} retries." if retries else " It has no retries."
    if lost:
        text += f" {lost} attempt(s) were lost with their worker or their workflow, and do not count as retries."
    if task.state != SUCCEEDED and (apart := words_apart(notes_of(rows, task))):
        text += f" Noted: {apart}."
    steps = [] if task.state == SUCCEEDED else [f"springline run rerun {run.run_id} --failed"]
    return Account(_ENDS[task.state], text, code, next_steps=steps)


def notes_of(rows: StateSnapshot, task: TaskRow, number: int | None = None) -> list[NoteRow]:
    """Return the notes on attempts of a task, or on that of a number."""
    found = [NoteRow(*cast(Any, one)) for one in rows["x_notes"].below((task.run_id, task.task_key))]
    return [one for one in found if number is None or one.attempt == number]


def words_apart(notes: Sequence[NoteRow]) -> str:
    """Return notes in words, but what functions have told; empty if there are none."""
    apart = [one for one in notes if one.note != METADATA]
    return "; ".join(f"attempt {one.attempt}: {note_words(one.run_id, one.note, one.detail)}" for one in apart)


TASKS: Final = Subject("task", ("task",), TASK_TABLES, _aim, _answer)
