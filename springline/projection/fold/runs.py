"""Runs: triggered, planned, cancelled, and finished by their tasks.

See docs/events.md#fold-runs, docs/events.md#fold-plans, docs/events.md#fold-run-counters,
docs/events.md#fold-cancellation.
"""

from __future__ import annotations

from typing import Final

from springline.ledger.events import PlanCreated, RunCancelRequested, RunTriggered
from springline.ledger.nested import TaskDefinition
from springline.projection.families import Family
from springline.projection.fold import Handler
from springline.projection.rows import NOTHING_PENDING, EdgeRow, RunRow, TaskRow, json_or_none
from springline.projection.schema import (
    BLOCKED,
    CANCELLED,
    FAILED,
    FINISHED_RUN,
    FINISHED_TASK,
    READY,
    RUNNING,
    SKIPPED,
    SUCCEEDED,
    TRIGGERED,
)
from springline.projection.state import State


def run_triggered(state: State, event_id: str, at_ms: int, data: RunTriggered) -> bool:
    """Create a run; tasks planned before it are counted (docs/events.md#fold-runs)."""
    family = state.families.of.get(data.run_id)
    if family is not None and family.run is not None:
        return False
    run = RunRow(
        run_id=data.run_id,
        plan_id=data.plan_id,
        state=TRIGGERED,
        run_key=data.run_key,
        cancel_requested=False,
        tasks_total=0,
        tasks_completed=0,
        tasks_succeeded=0,
        tasks_failed=0,
        tasks_skipped=0,
        tasks_cancelled=0,
        triggered_at=at_ms,
        completed_at=None,
        labels=json_or_none(data.labels),
        code_version=data.code_version,
        row_version=event_id,
    )
    if family is not None and family.tasks:
        _count_planned(run, family)
    state.families.add_run(run)
    stamp_run(state, run, event_id, at_ms)
    return True


def _count_planned(run: RunRow, family: Family) -> None:
    for task in family.tasks.values():
        run.tasks_total += 1
        if task.state in FINISHED_TASK:
            _add(run, task.state)
    run.state = RUNNING
    if run.tasks_completed == run.tasks_total:
        run.state = _outcome(run)
        ends = [
            task.completed_at
            for task in family.tasks.values()
            if task.state in FINISHED_TASK and task.completed_at is not None
        ]
        run.completed_at = max(ends, default=None)


def plan_created(state: State, event_id: str, at_ms: int, data: PlanCreated) -> bool:
    """Create the tasks and edges of a run in any state (docs/events.md#fold-plans, docs/events.md#w6)."""
    families = state.families
    family = families.of.get(data.run_id)
    if family is not None and family.tasks:
        return False
    run = None if family is None else family.run
    if run is not None:
        families.keep_run(run)
        run.tasks_total = len(data.tasks)
        run.state = RUNNING
        stamp_run(state, run, event_id, at_ms)
    if not data.tasks:
        return run is not None
    family = families.family(data.run_id)
    run_id = data.run_id if run is None else run.run_id
    for definition in data.tasks:
        families.add_task(_planned_task(run_id, event_id, at_ms, definition))
        for upstream in definition.depends_on:
            families.put_edge(family, EdgeRow(run_id, upstream, definition.key, False, None, None, None, event_id))
    return True


def _planned_task(run_id: str, event_id: str, at_ms: int, definition: TaskDefinition) -> TaskRow:
    blocked = bool(definition.depends_on)
    return TaskRow(
        run_id=run_id,
        task_key=definition.key,
        state=BLOCKED if blocked else READY,
        attempt=0,
        attempt_id=None,
        started_at=None,
        completed_at=None,
        error_message=None,
        deps_total=len(definition.depends_on),
        deps_satisfied_count=0,
        max_attempts=definition.max_attempts,
        heartbeat_timeout_sec=definition.heartbeat_timeout_sec,
        last_heartbeat_at=None,
        ready_at=None if blocked else at_ms,
        asset_key=definition.asset_key,
        partition_key=definition.partition_key,
        requires_visible_output=definition.requires_visible_output,
        materialization_id=None,
        output_visibility_state=None,
        published_at=None,
        publish_error=None,
        retry_not_before=None,
        delta_table=None,
        delta_version=None,
        delta_partition=None,
        execution_lineage_ref=None,
        row_version=event_id,
    )


def run_cancel_requested(state: State, event_id: str, at_ms: int, data: RunCancelRequested) -> bool:
    """Cancel the tasks that do not run, and the run if none is left (docs/events.md#fold-cancellation)."""
    families = state.families
    family = families.of.get(data.run_id)
    if family is None:
        return False
    run = family.run
    if run is not None:
        if run.state in FINISHED_RUN:
            return False
        families.keep_run(run)
        run.cancel_requested = True
    cancelled = False
    for task in family.tasks.values():
        if task.state != RUNNING and task.state not in FINISHED_TASK:
            families.keep_task(task)
            task.state = CANCELLED
            task.row_version = event_id
            cancelled = True
            if run is not None:
                _add(run, CANCELLED)
    if run is None:
        return cancelled
    if run.tasks_completed == run.tasks_total:
        run.state = CANCELLED
        run.completed_at = at_ms
    stamp_run(state, run, event_id, at_ms)
    return True


def count_task(state: State, run: RunRow, task_state: str, event_id: str, at_ms: int) -> None:
    """Count a task that reached a terminal state; the run ends when the counters are equal.

    See docs/events.md#fold-run-counters.
    """
    state.families.keep_run(run)
    _add(run, task_state)
    if run.tasks_completed == run.tasks_total:
        run.state = _outcome(run)
        run.completed_at = at_ms
    stamp_run(state, run, event_id, at_ms)


def stamp_run(state: State, run: RunRow, event_id: str, at_ms: int) -> None:
    """Stamp a run whose before-image is kept; that refreshes all its catalog rows (docs/events.md#fold-catalog)."""
    run.row_version = event_id
    run.refreshed_at = at_ms
    run.pending = NOTHING_PENDING
    if state.expiry is not None:
        state.expiry.note(run)


def _add(run: RunRow, task_state: str) -> None:
    run.tasks_completed += 1
    if task_state == SUCCEEDED:
        run.tasks_succeeded += 1
    elif task_state == FAILED:
        run.tasks_failed += 1
    elif task_state == SKIPPED:
        run.tasks_skipped += 1
    else:
        run.tasks_cancelled += 1


def _outcome(run: RunRow) -> str:
    if run.tasks_cancelled > 0:
        return CANCELLED
    return FAILED if run.tasks_failed > 0 else SUCCEEDED


HANDLERS: Final = (
    Handler(RunTriggered, run_triggered),
    Handler(PlanCreated, plan_created),
    Handler(RunCancelRequested, run_cancel_requested),
)
