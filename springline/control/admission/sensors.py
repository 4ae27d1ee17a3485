"""Evaluations of sensors, and the runs they ask for (docs/events.md#fold-automation)."""

from __future__ import annotations

from msgspec.structs import replace

from springline.control.admission.cases import Case, Completion, Ruling, Write
from springline.control.admission.refusals import invalid
from springline.control.admission.runs import BACKFILL_RUN_KEYS
from springline.control.admission.texts import check_addressable
from springline.ledger.events import EvalSkippedStaleCursor, RunRequest, RunRequested, SensorEvaluated, SensorRef
from springline.projection.fold.automation import STALE_STATUS
from springline.projection.state import State


def check_evaluation(data: SensorEvaluated, field: str, now_ms: int) -> None:
    """Refuse a status that only the ledger gives, run keys that belong to backfills, and sensors that no URL names."""
    check_addressable(data.sensor_id, f"{field}.sensor_id")
    if isinstance(data.status, EvalSkippedStaleCursor):
        raise invalid(
            f"{field}.status",
            "skipped_stale_cursor",
            "is what the ledger finds, by expected_state_version",
            "Say what the evaluation found: triggered, no_new_data or error.",
        )
    for index, request in enumerate(data.run_requests):
        check_run_key(request.run_key, f"{field}.run_requests[{index}].run_key")


def check_run_key(run_key: str, field: str) -> None:
    """Refuse a run key that belongs to a backfill: its chunk would never get its run (docs/events.md#w18)."""
    if run_key.startswith(BACKFILL_RUN_KEYS):
        raise invalid(field, run_key, "has the form of a backfill's run key", "Use another run key.")


def admit_evaluation(state: State, case: Case[SensorEvaluated]) -> Ruling:
    """Admit an evaluation; it keeps the cursor unless it says another, and its run requests travel behind it.

    One that was made on an older state of its sensor is recorded as stale, and asks for nothing.
    """
    data = case.data
    if state.evaluation(data.eval_id) is not None:
        raise case.conflict(
            "eval_id", f"evaluation {data.eval_id!r} exists already", "Give each evaluation its own id."
        )
    sensor = state.sensor(data.sensor_id)
    if data.cursor_after is None and sensor is not None and sensor.cursor is not None:
        data = replace(data, cursor_after=sensor.cursor)
    return Write(data, lambda after: _run_requests(after, case))


def _run_requests(state: State, case: Case[SensorEvaluated]) -> list[Completion]:
    data = case.data
    evaluation = state.evaluation(data.eval_id)
    if evaluation is None or evaluation.status == STALE_STATUS:
        return []
    source = SensorRef(data.sensor_id, data.eval_id)
    asked = {
        (draft.data.run_key, draft.data.request_fingerprint)
        for draft in case.later
        if isinstance(draft.data, RunRequested) and draft.data.trigger_source_ref == source
    }
    return [
        Completion(_requested(request, source), None, f"{case.field}.run_requests[{index}]")
        for index, request in enumerate(data.run_requests)
        if (request.run_key, request.request_fingerprint) not in asked
    ]


def _requested(request: RunRequest, source: SensorRef) -> RunRequested:
    return RunRequested(
        run_key=request.run_key,
        request_fingerprint=request.request_fingerprint,
        asset_selection=request.asset_selection,
        trigger_source_ref=source,
        partition_selection=request.partition_selection,
        code_version=request.code_version,
    )
