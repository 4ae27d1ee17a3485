"""Runs that are asked for under a key (docs/events.md#fold-automation)."""

from __future__ import annotations

from springline.control.admission.backfills import FINISHED_BACKFILL
from springline.control.admission.cases import Case, Ruling, Write
from springline.control.admission.sensors import check_run_key
from springline.ledger.events import BackfillRef, RunRequested, ScheduleRef, SensorRef
from springline.ledger.identifiers import run_id_of_key
from springline.projection.fold.automation import STALE_STATUS
from springline.projection.state import State


def check_run_request(data: RunRequested, field: str, now_ms: int) -> None:
    """Refuse a backfill's run key in the hand of anybody else."""
    if not isinstance(data.trigger_source_ref, BackfillRef):
        check_run_key(data.run_key, f"{field}.run_key")


def admit_run_request(state: State, case: Case[RunRequested]) -> Ruling:
    """Admit a request whose source is known and may ask for it, and whose run can come."""
    source = case.data.trigger_source_ref
    if isinstance(source, SensorRef):
        _check_evaluation(state, case, source)
    elif isinstance(source, BackfillRef):
        _check_chunk(state, case, source)
    elif isinstance(source, ScheduleRef):
        _check_tick(state, case, source)
    _check_run_can_come(state, case)
    return Write(case.data)


def _check_evaluation(state: State, case: Case[RunRequested], source: SensorRef) -> None:
    evaluation = state.evaluation(source.eval_id)
    if evaluation is None or evaluation.sensor_id != source.sensor_id:
        raise case.conflict(
            "trigger_source_ref.eval_id",
            f"sensor {source.sensor_id!r} has no evaluation {source.eval_id!r}",
            "Append its sensor_evaluated first; it may be in the same request, before this.",
        )
    if evaluation.status == STALE_STATUS:
        raise case.conflict(
            "trigger_source_ref.eval_id",
            f"evaluation {source.eval_id!r} was made on an older state of sensor {source.sensor_id!r}",
            "Evaluate the sensor again, with its state_version as it is now.",
        )


def _check_chunk(state: State, case: Case[RunRequested], source: BackfillRef) -> None:
    chunk = state.chunk(source.chunk_id)
    if chunk is None or chunk.backfill_id != source.backfill_id:
        raise case.conflict(
            "trigger_source_ref.chunk_id",
            f"backfill {source.backfill_id!r} has no chunk {source.chunk_id!r}, which would never get its run",
            "Append its backfill_chunk_planned first; it may be in the same request, before this.",
        )
    if chunk.run_key != case.data.run_key:
        raise case.conflict("run_key", f"the chunk's run key is {chunk.run_key!r}", "Give this one.")
    backfill = state.backfill(source.backfill_id)
    if backfill is not None and backfill.state in FINISHED_BACKFILL:
        raise case.conflict(
            "trigger_source_ref.backfill_id",
            f"backfill {source.backfill_id!r} has ended: {backfill.state}",
            "Ask for no more runs.",
        )


def _check_tick(state: State, case: Case[RunRequested], source: ScheduleRef) -> None:
    tick = state.tick(source.tick_id)
    if tick is not None and tick.run_key not in (None, case.data.run_key):
        raise case.conflict("run_key", f"tick {source.tick_id!r} has run key {tick.run_key!r}", "Give this one.")


def _check_run_can_come(state: State, case: Case[RunRequested]) -> None:
    """Refuse a new run key that another run has used: the run that it stands for could not be triggered.

    See docs/events.md#w9.
    """
    run_key = case.data.run_key
    used = state.event_with_key(f"run:{run_key}")
    if used is None or state.run_key(run_key) is not None:
        return
    config = state.config
    if state.run(run_id_of_key(config.tenant, config.workspace, run_key, config.run_id_secret)) is None:
        raise case.conflict(
            "run_key", f"run key {run_key!r} was used for another run, by event {used[0]}", "Use another run key."
        )
