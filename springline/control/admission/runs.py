"""Runs: triggered, planned, cancelled.

See docs/events.md#fold-runs, docs/events.md#fold-plans, docs/events.md#fold-cancellation.
"""

from __future__ import annotations

from springline.control.admission.cases import Case, Completion, Ruling, Write
from springline.control.admission.keys import repair_key, repeated
from springline.control.admission.refusals import invalid
from springline.control.admission.texts import check_addressable
from springline.ledger.events import PlanCreated, RunCancelRequested, RunTriggered
from springline.ledger.keys import derived_key
from springline.projection.rows import RunRow
from springline.projection.schema import CANCELLED, FINISHED_RUN, FINISHED_TASK, RUNNING
from springline.projection.state import State

SEQUENCER = "springline"
"""Who asks for what the sequencer adds."""

BACKFILL_RUN_KEYS = "backfill:"
"""What run keys of backfills begin with."""


def is_cancelled(run: RunRow | None) -> bool:
    """Say whether nothing of a run may be begun any more because it is, or is to be, cancelled."""
    return run is not None and (run.cancel_requested or run.state == CANCELLED)


def check_run(data: RunTriggered, field: str, now_ms: int) -> None:
    """Refuse run ids with a colon: ids and keys join run and task with it, and could be taken for another's.

    See docs/events.md#w28.
    """
    check_addressable(data.run_id, f"{field}.run_id")
    if ":" in data.run_id:
        raise invalid(
            f"{field}.run_id", data.run_id, "holds a colon, which separates the parts of ids", "Leave it out."
        )


def admit_run(state: State, case: Case[RunTriggered]) -> Ruling:
    """Admit a run under a new id whose run key stands for no other run."""
    data = case.data
    key = derived_key(data)
    first = repeated(state, data, key, case.key_field)
    if first is not None:
        return first
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
    if requested is None and run_key.startswith(BACKFILL_RUN_KEYS):
        raise case.conflict(
            named,
            f"no run is requested under {run_key!r}, and keys like it belong to backfills",
            "Append the run_requested of the backfill's chunk first, or use another run key.",
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
    """A plan is news as long as its run has no tasks, as after an empty plan of another writer."""
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
    """A cancellation is news if the run does not know of it, or if another writer planned tasks since."""
    run = state.run(data.run_id)
    if run is None or run.state in FINISHED_RUN:
        return None
    tasks = state.tasks_of(data.run_id).values()
    left = any(task.state not in FINISHED_TASK and task.state != RUNNING for task in tasks)
    if run.cancel_requested and tasks and not left:
        return None
    return f"run {data.run_id!r} goes on although a cancellation was recorded: cancel it again under a new key"
