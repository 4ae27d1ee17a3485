"""Attempts on their way to workers, and timers (docs/events.md#fold-dispatch, docs/events.md#fold-timers)."""

from __future__ import annotations

from typing import Final

from springline.control.admission.cases import Case, EventRule, Ruling, Write, invalid, refuse_held
from springline.control.admission.runs import is_cancelled
from springline.control.admission.tasks import check_attempt, refuse_finished, task_of
from springline.ledger.events import DispatchEnqueued, DispatchRequested, TimerEnqueued, TimerFired, TimerRequested
from springline.ledger.identifiers import dispatch_id, parse_timer_id
from springline.projection.schema import BLOCKED, READY, RETRY_WAIT, RUNNING
from springline.projection.state import State

_LATER = "Dispatch the attempt after it."


def check_dispatch(data: DispatchRequested, field: str, now_ms: int) -> None:
    """Refuse a dispatch id that is not the attempt's own: its outbox row would never go away (docs/events.md#w37)."""
    check_attempt(data, field, now_ms)
    own = dispatch_id(data.run_id, data.task_key, data.attempt)
    if data.dispatch_id != own:
        raise invalid(f"{field}.dispatch_id", data.dispatch_id, "is not that of run, task and attempt", f"Give {own}.")


def admit_dispatch(state: State, case: Case[DispatchRequested]) -> Ruling:
    """Admit the dispatch of an attempt that is due: an earlier one would be sent without moving the task.

    See docs/events.md#order-4, docs/events.md#order-5.
    """
    data, task = case.data, task_of(state, case)
    refuse_finished(case, task)
    refuse_held(state, case)
    if is_cancelled(state.run(data.run_id)):
        raise case.conflict("run_id", f"run {data.run_id!r} is cancelled", "Do not send its tasks any more.")
    if task.state == BLOCKED:
        raise case.conflict(
            "task_key", f"task {data.task_key!r} waits for others to succeed", "Dispatch it when it is READY."
        )
    if data.attempt < task.attempt or (data.attempt == task.attempt and task.state in (RUNNING, RETRY_WAIT)):
        raise case.conflict("attempt", f"attempt {task.attempt} of task {data.task_key!r} has begun", _LATER)
    if task.state == RUNNING:
        raise case.conflict("attempt", f"attempt {task.attempt} of task {data.task_key!r} is still running", _LATER)
    return Write(data)


def missed_dispatch(state: State, data: DispatchRequested) -> str | None:
    """Return why the task waits for a dispatch whose key was used before it was due (docs/events.md#w22)."""
    task = state.task(data.run_id, data.task_key)
    if task is None or task.state not in (READY, RETRY_WAIT) or data.attempt <= task.attempt:
        return None
    return f"attempt {data.attempt} of task {data.task_key!r} waits to be dispatched, but the key of that was used"


def admit_sent(state: State, case: Case[DispatchEnqueued]) -> Ruling:
    """Admit that an attempt was sent, if its dispatch was requested.

    It often comes after the attempt has begun: then it is recorded, and changes nothing.
    """
    data = case.data
    named = (data.run_id, data.task_key, data.attempt)
    row = state.dispatch(data.dispatch_id)
    if row is not None:
        own = (row.run_id, row.task_key, row.attempt)
        if any(given not in (None, known) for given, known in zip(named, own, strict=True)):
            raise case.conflict(
                "dispatch_id",
                f"{data.dispatch_id!r} sends attempt {row.attempt} of task {row.task_key!r} of run {row.run_id!r}",
                "Leave run_id, task_key and attempt out, or give these.",
            )
        return Write(data, may_be_refused=True)
    task = None if data.run_id is None or data.task_key is None else state.task(data.run_id, data.task_key)
    asked = state.event_with_key(f"dispatch_req:{data.dispatch_id}") is not None
    if asked and task is not None and data.attempt is not None and task.attempt >= data.attempt:
        return Write(data, may_be_refused=True)
    if asked and None in named:
        return Write(data, may_be_refused=True)
    raise case.conflict(
        "dispatch_id",
        f"no dispatch {data.dispatch_id!r} is under way",
        "Append its dispatch_requested first.",
    )


def admit_timer(state: State, case: Case[TimerRequested]) -> Ruling:
    """Admit a timer, or another instant for it; a repeated instant is recorded, and changes nothing."""
    return Write(case.data, may_be_refused=True)


def admit_timer_news(state: State, case: Case[TimerEnqueued] | Case[TimerFired]) -> Ruling:
    """Admit an event of a timer that is known, or whose id can be parsed: else the event would be lost.

    See docs/events.md#w35.
    """
    timer_id = case.data.timer_id
    if state.timer(timer_id) is None and parse_timer_id(timer_id) is None:
        raise case.conflict(
            "timer_id",
            f"there is no timer {timer_id!r}, and its id does not say what it is for",
            "Append its timer_requested first.",
        )
    return Write(case.data)


RULES: Final = (
    EventRule(DispatchRequested, admit_dispatch, check=check_dispatch, missed=missed_dispatch),
    EventRule(DispatchEnqueued, admit_sent, check=None, missed=None),
    EventRule(TimerRequested, admit_timer, check=None, missed=None),
    EventRule(TimerEnqueued, admit_timer_news, check=None, missed=None),
    EventRule(TimerFired, admit_timer_news, check=None, missed=None),
)
