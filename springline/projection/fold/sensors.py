"""Sensors and their evaluations (docs/events.md#fold-automation)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from springline.ledger.events import EvalSkippedStaleCursor, SensorEvaluated
from springline.projection.fold.values import json_or_none, json_text
from springline.projection.rows import EvaluationRow, SensorRow

if TYPE_CHECKING:
    from springline.projection.state import State

STALE_STATUS: Final = json_text(EvalSkippedStaleCursor())
"""Status of an evaluation that was made on an older state of the sensor."""


def sensor_evaluated(state: State, event_id: str, at_ms: int, data: SensorEvaluated) -> bool:
    """Record an evaluation; unless it is stale, it moves the sensor.

    A sensor that was never evaluated gets a row even from a stale evaluation (docs/events.md#w38).
    """
    tenant, workspace = state.config.tenant, state.config.workspace
    sensor = state.sensors.rows.get(data.sensor_id)
    if sensor is None:
        sensor = SensorRow(
            tenant_id=tenant,
            workspace_id=workspace,
            sensor_id=data.sensor_id,
            cursor=None,
            last_evaluation_at=None,
            last_eval_id=None,
            status="ACTIVE",
            state_version=0,
            row_version="",
        )
    is_stale = data.expected_state_version is not None and data.expected_state_version != sensor.state_version
    evaluation = EvaluationRow(
        tenant_id=tenant,
        workspace_id=workspace,
        eval_id=data.eval_id,
        sensor_id=data.sensor_id,
        cursor_before=data.cursor_before,
        cursor_after=data.cursor_after,
        expected_state_version=data.expected_state_version,
        trigger_source=json_text(data.trigger_source),
        run_requests=json_or_none(data.run_requests),
        status=STALE_STATUS if is_stale else json_text(data.status),
        evaluated_at=at_ms,
        row_version=event_id,
    )
    state.evaluations.put(data.eval_id, evaluation)
    if not is_stale:
        sensor = replace(
            sensor,
            cursor=data.cursor_after,
            last_evaluation_at=at_ms,
            last_eval_id=data.eval_id,
            state_version=sensor.state_version + 1,
            row_version=event_id,
        )
    state.sensors.put(data.sensor_id, sensor)
    return True
