"""From any state that admission lets come about, everything can be brought to its end by appends alone."""

from __future__ import annotations

from typing import Any

from springline.errors import Code
from springline.ledger.request import NewEvent
from springline.projection.rows import TaskRow
from springline.projection.schema import FINISHED_TASK
from tests.control.invariants import FINISHED_RUN
from tests.control.ledger import Ledger, request
from tests.control.payloads import (
    backfill_state,
    dispatched,
    finished,
    hold,
    of_chunk,
    planned,
    requested,
    schedule,
    started,
    triggered,
)


def finish_everything(ledger: Ledger) -> None:
    """Ask for the runs of all chunks, trigger what is asked for, plan and run it all, and end the backfills.

    Fails as soon as an append that has to be possible is refused.
    """
    state = ledger.state
    if state.is_held:
        _append(ledger, hold(False, f"at {ledger.now_ms}"))
    _append(ledger, schedule(schedule_id=f"at {ledger.now_ms}"))  # What retention ends by now is gone.
    for chunk in list(state.chunks.rows.values()):
        backfill = state.backfill(chunk.backfill_id)
        if chunk.run_id is None and backfill is not None and backfill.state not in FINISHED_RUN:
            _append(ledger, requested(chunk.run_key, source=of_chunk(chunk.chunk_index, chunk.backfill_id)))
            assert state.chunk(chunk.chunk_id).run_id is not None  # type: ignore[union-attr]
    for row in list(state.run_keys.rows.values()):
        if state.run(row.run_id) is None:
            _append(ledger, triggered(row.run_id, run_key=row.run_key))
    for run_id in list(state.families.of):
        _finish_run(ledger, run_id)
    for backfill in list(state.backfills.rows.values()):
        _finish_backfill(ledger, backfill.backfill_id)


def _finish_run(ledger: Ledger, run_id: str) -> None:
    state = ledger.state
    run = state.run(run_id)
    if run is None:
        return  # It had ended, and its time came meanwhile.
    if run.state == "TRIGGERED":
        _append(ledger, planned(run_id, a="", b="a"))
    while moving := [task for task in state.tasks_of(run_id).values() if task.state not in FINISHED_TASK | {"BLOCKED"}]:
        for task in moving:
            if task.state not in FINISHED_TASK:
                _move(ledger, task)
    assert run.state in FINISHED_RUN, state.tasks_of(run_id)


def _move(ledger: Ledger, task: TaskRow) -> None:
    of = {"task": task.task_key, "run": task.run_id}
    before = (task.state, task.attempt)
    if task.state in ("READY", "RETRY_WAIT"):
        _append(ledger, dispatched(attempt=task.attempt + 1, **of))
    elif task.state == "DISPATCHED":
        _append(ledger, started(attempt=task.attempt, **of, attempt_id=task.attempt_id))
    else:
        _append(ledger, finished(attempt=task.attempt, **of, attempt_id=task.attempt_id))
    assert (task.state, task.attempt) != before


def _finish_backfill(ledger: Ledger, backfill_id: str) -> None:
    row = ledger.state.backfill(backfill_id)
    if row is not None and row.state == "PAUSED":
        _append(ledger, backfill_state("PAUSED", "RUNNING", row.state_version + 1, backfill_id))
        row = ledger.state.backfill(backfill_id)
    if row is not None and row.state == "RUNNING":
        _append(ledger, backfill_state("RUNNING", "SUCCEEDED", row.state_version + 1, backfill_id))
    assert ledger.state.backfill(backfill_id).state in FINISHED_RUN  # type: ignore[union-attr]


def _append(ledger: Ledger, data: dict[str, Any]) -> None:
    """Append an event; if its key was used in an earlier life of its run, under a key of its own."""
    (answer,) = ledger.round(request(data))
    if answer.refusal is not None and answer.refusal.code is Code.KEY_REUSED:
        (answer,) = ledger.round(request(NewEvent(data=data, idempotency_key=f"again {ledger.now_ms}")))
    assert answer.refusal is None, answer.refusal
    assert answer.events[0].outcome == "applied", (data, answer.events)
