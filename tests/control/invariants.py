"""What is true of every state that was reached through admission alone."""

from __future__ import annotations

import json
from collections import Counter
from graphlib import TopologicalSorter

from springline.ledger.nested import TickTriggered
from springline.projection.fold.automation import STALE_STATUS
from springline.projection.rows import RunRow, TaskRow, json_text
from springline.projection.schema import FINISHED_TASK
from springline.projection.state import State

FINISHED_RUN = {"SUCCEEDED", "FAILED", "CANCELLED"}
TRIGGERED_STATUS = json_text(TickTriggered())


def check_invariants(state: State) -> None:
    """Assert that nothing in a state is stuck, torn or without an owner."""
    for run_id, family in state.families.of.items():
        run = family.run
        assert run is not None, f"tasks without their run: {run_id}"
        _check_run(run, list(family.tasks.values()))
        _check_dependencies(state, run_id)
    for row in state.outbox.rows.values():
        task = state.task(row.run_id, row.task_key)
        assert task is not None, f"a dispatch without its task: {row}"
        assert task.attempt >= row.attempt, f"a dispatch that its task does not know of: {row}, {task}"
        assert row.attempt_id, f"a dispatch that nobody asked for: {row}"
    _check_run_keys(state)
    if not state.prunes:
        _check_asked_for(state)
    for sensor in state.sensors.rows.values():
        evaluation = state.evaluation(sensor.last_eval_id) if sensor.last_eval_id is not None else None
        if evaluation is not None and evaluation.row_version == sensor.row_version:
            assert evaluation.status != STALE_STATUS, f"a stale evaluation moved its sensor: {evaluation}"


def _check_run(run: RunRow, tasks: list[TaskRow]) -> None:
    states = Counter(task.state for task in tasks)
    assert run.tasks_total == len(tasks), run
    counted = (run.tasks_succeeded, run.tasks_failed, run.tasks_skipped, run.tasks_cancelled)
    assert counted == tuple(states[name] for name in ("SUCCEEDED", "FAILED", "SKIPPED", "CANCELLED")), (run, states)
    assert run.tasks_completed == sum(counted), run
    if not tasks:
        assert run.state == ("CANCELLED" if run.cancel_requested else "TRIGGERED"), run
    elif run.tasks_completed == len(tasks):
        worst = "CANCELLED" if run.tasks_cancelled else "FAILED" if run.tasks_failed else "SUCCEEDED"
        assert run.state == worst, run
    else:
        assert run.state == "RUNNING", run
    for task in tasks:
        if run.cancel_requested:
            assert task.state in FINISHED_TASK | {"RUNNING"}, (run, task)
        if task.state == "RETRY_WAIT":
            assert task.attempt < task.max_attempts, task
        if task.state in ("BLOCKED", "READY"):
            assert (task.attempt, task.attempt_id) == (0, None), task
        if task.state in ("DISPATCHED", "RUNNING", "RETRY_WAIT"):
            assert task.attempt > 0, task
            assert task.attempt_id, task


def _check_dependencies(state: State, run_id: str) -> None:
    family = state.families.of[run_id]
    waits: dict[str, set[str]] = {key: set() for key in family.tasks}
    open_upstreams: dict[str, set[str]] = {key: set() for key in family.tasks}
    for edges in family.edges.values():
        for edge in edges.values():
            waits[edge.downstream_task_key].add(edge.upstream_task_key)
            if not edge.satisfied:
                open_upstreams[edge.downstream_task_key].add(edge.upstream_task_key)
    TopologicalSorter(waits).prepare()
    for key, task in family.tasks.items():
        assert task.deps_total == len(waits[key]), task
        assert task.deps_satisfied_count == len(waits[key] - open_upstreams[key]), task
        movable = [one for one in open_upstreams[key] if family.tasks[one].state not in FINISHED_TASK]
        if task.state == "BLOCKED":
            assert movable, f"blocked for ever: {task}"
        elif task.state not in FINISHED_TASK:
            assert not open_upstreams[key], f"begun before its upstreams have succeeded: {task}"


def _check_asked_for(state: State) -> None:
    """Assert that every run which a tick or an evaluation says it triggered has been asked for."""
    for tick in state.ticks.rows.values():
        if tick.status == TRIGGERED_STATUS:
            asked = state.run_key(tick.run_key or "")
            assert asked is not None, f"a tick whose run nobody asked for: {tick}"
            assert tick.run_id == asked.run_id, tick
    for evaluation in state.evaluations.rows.values():
        if evaluation.status != STALE_STATUS:
            for request in json.loads(evaluation.run_requests or "[]"):
                assert state.run_key(request["run_key"]), f"an evaluation whose run nobody asked for: {evaluation}"


def _check_run_keys(state: State) -> None:
    for run_key, row in state.run_keys.rows.items():
        if state.run(row.run_id) is None:
            assert state.event_with_key(f"run:{run_key}") is None, f"a run that can never be triggered: {row}"
    for chunk in state.chunks.rows.values():
        assert state.backfill(chunk.backfill_id) is not None, f"a chunk without its backfill: {chunk}"
        requested = state.run_key(chunk.run_key)
        if requested is not None:
            assert chunk.run_id == requested.run_id, f"a chunk that never gets its run: {chunk}"
