"""The shape of plans: tasks that can all be reached (docs/events.md#w13)."""

from __future__ import annotations

from typing import Final

from springline.control.admission.refusals import invalid, shown
from springline.ledger.events import PlanCreated, TaskDefinition

_SHOWN_TASKS: Final = 6


def check_plan(data: PlanCreated, field: str, now_ms: int) -> None:
    """Refuse a plan of which some task could never run, or whose run could never end.

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
