"""Runs: triggered, planned, cancelled; and the shape of plans, all of whose tasks can run (docs/events.md#w13).

See docs/events.md#fold-runs, docs/events.md#fold-plans, docs/events.md#fold-cancellation.
"""

from __future__ import annotations

from typing import Final

from springline.control.admission.cases import (
    Case,
    Completion,
    EventRule,
    Ruling,
    Write,
    check_addressable,
    check_no_colon,
    invalid,
    refuse_held,
    repair_key,
    repeated,
    shown,
)
from springline.ledger.events import PlanCreated, RunCancelRequested, RunTriggered, derived_key
from springline.ledger.nested import TaskDefinition
from springline.projection.rows import RunRow
from springline.projection.schema import CANCELLED, FINISHED_RUN, FINISHED_TASK, RUNNING
from springline.projection.state import State

SEQUENCER = "springline"
"""The requester in events that the sequencer adds."""

BACKFILL_RUN_KEYS = "backfill:"
SCHEDULE_RUN_KEYS = "sched:"
RERUN_RUN_KEYS = "rerun:"
RESERVED_RUN_KEYS = {BACKFILL_RUN_KEYS: "backfill", SCHEDULE_RUN_KEYS: "schedule", RERUN_RUN_KEYS: "rerun"}
"""The prefixes of run keys that only one kind of source may ask for, and which."""


def is_cancelled(run: RunRow | None) -> bool:
    """Say whether no task of a run may begin any more, because the run is cancelled or its cancellation requested."""
    return run is not None and (run.cancel_requested or run.state == CANCELLED)


def check_run(data: RunTriggered, field: str, now_ms: int) -> None:
    """Refuse run ids with a colon, which joins run and task in ids and keys: they could be ambiguous.

    See docs/events.md#w28.
    """
    check_addressable(data.run_id, f"{field}.run_id")
    check_no_colon(data.run_id, f"{field}.run_id")


def admit_run(state: State, case: Case[RunTriggered]) -> Ruling:
    """Admit a run under a new id whose run key stands for no other run."""
    data = case.data
    key = derived_key(data)
    first = repeated(state, data, key, case.key_field)
    if first is not None:
        return first
    refuse_held(state, case)
    if state.run(data.run_id) is not None:
        raise case.conflict("run_id", f"run {data.run_id!r} exists already", "Give the new run an id of its own.")
    named = "run_id" if data.run_key is None else "run_key"
    run_key: str = getattr(data, named)
    requested = state.run_key(run_key)
    if requested is not None and requested.run_id != data.run_id:
        raise case.conflict(
            named,
            f"run key {run_key!r} stands for run {requested.run_id!r}, which would never come",
            "Trigger the run with that id.",
        )
    if requested is not None:
        return Write(data)
    for prefix, owner in RESERVED_RUN_KEYS.items():
        if run_key.startswith(prefix):
            raise case.conflict(
                named,
                f"no run is requested under {run_key!r}, and keys like it belong to a {owner}",
                f"Append the run_requested of the {owner} first, or use another run key.",
            )
    if state.first_request(run_key) is not None:
        raise case.conflict(
            named, f"run key {run_key!r} was used for a run that retention has removed", "Use another run key."
        )
    return Write(data)


def admit_plan(state: State, case: Case[PlanCreated]) -> Ruling:
    """Admit the first plan of a run; a cancelled run is cancelled again, with its tasks in it (docs/events.md#w6)."""
    data = case.data
    run = state.run(data.run_id)
    if run is None:
        raise case.conflict(
            "run_id",
            f"there is no run {data.run_id!r} to plan",
            "Append its run_triggered first; it may be in the same request, before the plan.",
        )
    if state.tasks_of(data.run_id):
        first = repeated(state, data, derived_key(data), case.key_field)
        if first is not None:
            return first
        raise case.conflict("run_id", f"run {data.run_id!r} has a plan", "Trigger another run for another plan.")
    if not is_cancelled(run) and run.state not in FINISHED_RUN:
        return Write(data)
    cancel = RunCancelRequested(data.run_id, SEQUENCER, "the run was cancelled before it was planned")
    key = repair_key(data.run_id, "plan", case.event_id)
    return Write(data, lambda after: [Completion(cancel, key, case.field)])


def missed_plan(state: State, data: PlanCreated) -> str | None:
    """Return why a run waits for a plan: it has no tasks, as after an empty plan of another writer."""
    if state.run(data.run_id) is None or state.tasks_of(data.run_id):
        return None
    return (
        f"a plan of run {data.run_id!r} was recorded, but the run has no tasks: cancel it, or plan it under a new key"
    )


def admit_cancel(state: State, case: Case[RunCancelRequested]) -> Ruling:
    """Admit the cancellation of a run that has not ended."""
    run = state.run(case.data.run_id)
    if run is None:
        raise case.conflict(
            "run_id",
            f"there is no run {case.data.run_id!r} to cancel",
            "Append its run_triggered first, or check the id.",
        )
    if run.state in FINISHED_RUN:
        raise case.conflict("run_id", f"run {run.run_id!r} has ended: {run.state}", "There is nothing left to cancel.")
    return Write(case.data)


def missed_cancel(state: State, data: RunCancelRequested) -> str | None:
    """Return why a run waits for a cancellation: it has none, or another writer planned tasks since."""
    run = state.run(data.run_id)
    if run is None or run.state in FINISHED_RUN:
        return None
    tasks = state.tasks_of(data.run_id).values()
    left = any(task.state not in FINISHED_TASK and task.state != RUNNING for task in tasks)
    if run.cancel_requested and tasks and not left:
        return None
    return f"run {data.run_id!r} goes on although a cancellation was recorded: cancel it again under a new key"


_SHOWN_TASKS: Final = 6


def check_plan(data: PlanCreated, field: str, now_ms: int) -> None:
    """Refuse a plan with a task that could never run, or whose run could never end.

    That is a plan without tasks or with a task key twice, and a dependency that is repeated, unknown, the task
    itself or part of a circle. Raises `Refused` naming it.
    """
    if not data.tasks:
        raise invalid(f"{field}.tasks", [], "is empty: the run would never end", "Plan a task, or cancel the run.")
    places: dict[str, int] = {}
    for index, task in enumerate(data.tasks):
        if task.key in places:
            raise invalid(
                f"{field}.tasks[{index}].key",
                task.key,
                f"is that of tasks[{places[task.key]}] too: the run would never end",
                "Give each task of a plan a key of its own.",
            )
        places[task.key] = index
    for index, task in enumerate(data.tasks):
        _check_upstreams(task, places, f"{field}.tasks[{index}].depends_on")
    circle = _circle(data.tasks)
    if circle:
        raise invalid(
            f"{field}.tasks[{places[circle[0]]}].depends_on",
            circle[1],
            f"closes a circle of tasks that wait for each other: {_told(circle)}",
            "Remove one dependency of the circle.",
        )


def _check_upstreams(task: TaskDefinition, places: dict[str, int], field: str) -> None:
    seen: set[str] = set()
    for index, upstream in enumerate(task.depends_on):
        if upstream == task.key:
            problem, remedy = "is the task itself, which would wait for ever", "Remove it."
        elif upstream in seen:
            problem, remedy = "stands there twice: the task would wait for ever", "Name each dependency once."
        elif upstream not in places:
            problem, remedy = f"names no task of the plan: {shown(upstream)}", "Add the task, or remove its name."
        else:
            seen.add(upstream)
            continue
        raise invalid(f"{field}[{index}]", upstream, problem, remedy)


def _told(circle: list[str]) -> str:
    told = [shown(key) for key in circle]
    if len(told) > _SHOWN_TASKS:
        told[_SHOWN_TASKS - 1 : -1] = [f"({len(told) - _SHOWN_TASKS} more)"]
    return " -> ".join(told)


def _circle(tasks: list[TaskDefinition]) -> list[str]:
    """Return task keys of which each waits for the next and the last is the first; empty if there is no circle."""
    waiting = {task.key: set(task.depends_on) for task in tasks}
    downstream: dict[str, list[str]] = {task.key: [] for task in tasks}
    for task in tasks:
        for upstream in task.depends_on:
            downstream[upstream].append(task.key)
    free = [key for key, upstreams in waiting.items() if not upstreams]
    while free:
        done = free.pop()
        del waiting[done]
        for key in downstream[done]:
            waiting[key].discard(done)
            if not waiting[key]:
                free.append(key)
    if not waiting:
        return []
    path = [next(iter(waiting))]
    places = {path[0]: 0}
    while True:
        key = next(iter(waiting[path[-1]]))
        if key in places:
            return [*path[places[key] :], key]
        places[key] = len(path)
        path.append(key)


RULES: Final = (
    EventRule(RunTriggered, admit_run, check=check_run, missed=None),
    EventRule(PlanCreated, admit_plan, check=check_plan, missed=missed_plan),
    EventRule(RunCancelRequested, admit_cancel, check=None, missed=missed_cancel),
)
