"""Why there was an attempt of a task, who made it, and how it ended."""

from __future__ import annotations

import json
from typing import Any, Final

from springline.control.runs.ends import METADATA, UNSEEN_WORKER, metadata_in, short_message
from springline.errors import Code, refused
from springline.explaining.runs import aim_at_run
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
from springline.explaining.tasks import TASK_TABLES, notes_of, run_and_task, words_apart
from springline.explaining.waits import attempts_of, read_waits
from springline.ledger.envelope import Event
from springline.projection.rows import AttemptRow, NoteRow, TaskRow
from springline.projection.schema import CANCELLED, FAILED, RUNNING, SUCCEEDED
from springline.runs.loading import is_of_a_manifest

_ENDS: Final = {SUCCEEDED: Verdict.DONE, FAILED: Verdict.FAILED, CANCELLED: Verdict.CANCELLED}


def _aim(evidence: Evidence, question: Question) -> Aim:
    rows = evidence.rows
    run, task = run_and_task(rows, question)
    number = _number(question, task)
    since_ms, until_ms = aim_at_run(rows, run, question.now_ms)

    def concerns(event: Event) -> bool:
        data: Any = event.data
        if getattr(data, "run_id", None) != run.run_id or getattr(data, "task_key", None) != task.task_key:
            return False
        attempt = getattr(data, "attempt", None)
        # The end of the attempt before is why there was this one.
        return attempt == number or (attempt == number - 1 and hasattr(data, "outcome"))

    return Aim(since_ms, until_ms, (run.run_id,), concerns, run.run_id)


def _number(question: Question, task: TaskRow) -> int:
    if question.attempt is None:
        raise refused(
            Code.INVALID_REQUEST,
            "the question names no attempt",
            field="attempt",
            remedy="Give its number; the first one is 1.",
        )
    if not 1 <= question.attempt <= max(1, task.attempt):
        remedy = f"The task has had {task.attempt} attempt(s); the first one is 1."
        raise unknown("attempt", "attempt", str(question.attempt), remedy, of=f"task {task.task_key}")
    return question.attempt


def _answer(evidence: Evidence, question: Question) -> Account:
    rows = evidence.rows
    run, task = run_and_task(rows, question)
    number = _number(question, task)
    ended = attempts_of(rows, task)
    mine = [one for one in ended if one.attempt == number]
    why = _why(ended, number)
    steps = [explain_task(task.run_id, task.task_key)]
    notes = notes_of(rows, task, number)
    if mine:
        return _ended(mine[-1], why, notes, steps)
    if task.attempt == number and task.state == RUNNING:
        began = "" if task.started_at is None else f", since {ago(task.started_at, question.now_ms)}"
        beat = (
            ""
            if task.last_heartbeat_at is None
            else f"; its last heartbeat: {ago(task.last_heartbeat_at, question.now_ms)}"
        )
        return Account(Verdict.UNDER_WAY, f"{why} It is being made{began}{beat}.", next_steps=steps)
    if apart := words_apart(notes):
        text = f"{why} No end of it is its task's: {apart}."
        return Account(_ENDS.get(task.state, Verdict.NO_RECORD), text, next_steps=steps)
    if task.attempt == number and task.state == CANCELLED and is_of_a_manifest(run.code_version):
        text = f"{why} Its run was cancelled before anybody told that it had begun, and nothing tells how it ended."
        return Account(Verdict.CANCELLED, text, next_steps=steps)
    if task.attempt == number and task.state in _ENDS:
        # An end of another implementation, which our own table does not have.
        return Account(_ENDS[task.state], f"{why} It ended {task.state}: {task.error_message or 'no more is told'}.")
    if task.attempt == number:
        wait = read_waits(rows, task.run_id, evidence.pool_waits, question.now_ms).of(task)
        return Account(Verdict.WAITS, f"{why} It waits for {wait.text}.", waits_for=[wait.text], next_steps=steps)
    text = f"{why} No end of it is on record, and attempt {task.attempt} came behind it."
    return Account(Verdict.NO_RECORD, text, next_steps=steps)


def _why(ended: list[AttemptRow], number: int) -> str:
    before = [one for one in ended if one.attempt == number - 1]
    if number == 1:
        return "It is the first one."
    if not before:
        return f"Attempt {number - 1} came before."
    last = before[-1]
    reason = last.reason_code or last.category or last.outcome
    return f"Attempt {number - 1} ended {last.outcome} ({reason}), so there was this one."


def _ended(row: AttemptRow, why: str, notes: list[NoteRow], steps: list[str]) -> Account:
    began = row.true_started_at if row.true_started_at is not None else row.started_at
    ended = row.true_ended_at if row.true_ended_at is not None else row.ended_at
    took = "" if began is None else f" after {lasted(max(0, ended - began))}"
    who = "No worker has told of it" if row.worker_id == UNSEEN_WORKER else f"Worker {row.worker_id} made it"
    text = f"{why} {who}; it ended {row.outcome}{took}"
    text += "." if row.error_message is None else f": {row.error_message}."
    if row.category is not None:
        text += f" Category {row.category}."
    if row.tables:
        text += f" It wrote {len(json.loads(row.tables))} table(s)."
    told: dict[str, Any] = {}
    for note in notes:
        if note.note == METADATA:
            told = metadata_in(note.detail)
    if apart := words_apart(notes):
        text += f" Noted: {apart}."
    if told:
        text += f" It told {short_message(', '.join(f'{name}={_shown(value)}' for name, value in told.items()))}."
    return Account(_ENDS.get(row.outcome, Verdict.SKIPPED), text, row.reason_code, next_steps=steps)


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


ATTEMPTS: Final = Subject("attempt", ("task", "attempt"), TASK_TABLES, _aim, _answer)
