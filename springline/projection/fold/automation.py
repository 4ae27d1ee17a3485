"""Schedules, sensors, run keys and backfills (docs/events.md#fold-automation)."""

from __future__ import annotations

from typing import Final

from msgspec.structs import replace

from springline.ledger.events import (
    BackfillChunkPlanned,
    BackfillCreated,
    BackfillStateChanged,
    RunRequested,
    ScheduleDefinitionUpserted,
    ScheduleTicked,
    SensorEvaluated,
)
from springline.ledger.identifiers import backfill_chunk_id, run_id_of_key
from springline.ledger.nested import BackfillRef, EvalSkippedStaleCursor, ScheduleRef, SensorRef
from springline.ledger.timestamps import NS_PER_MS, parse_timestamp
from springline.projection.fold import Handler
from springline.projection.rows import (
    BackfillRow,
    ChunkRow,
    ConflictRow,
    EvaluationRow,
    RunKeyRow,
    ScheduleRow,
    ScheduleStateRow,
    SensorRow,
    TickRow,
    json_or_none,
    json_text,
)
from springline.projection.state import State


def schedule_definition_upserted(state: State, event_id: str, at_ms: int, data: ScheduleDefinitionUpserted) -> bool:
    """Define or redefine a schedule; its creation time is that of the first definition."""
    old = state.schedules.rows.get(data.schedule_id)
    row = ScheduleRow(
        tenant_id=state.config.tenant,
        workspace_id=state.config.workspace,
        schedule_id=data.schedule_id,
        cron_expression=data.cron_expression,
        timezone=data.timezone,
        catchup_window_minutes=data.catchup_window_minutes,
        asset_selection=json_or_none(data.asset_selection),
        code_version=data.code_version,
        max_catchup_ticks=data.max_catchup_ticks,
        enabled=data.enabled,
        created_at=at_ms if old is None else old.created_at,
        row_version=event_id,
    )
    state.schedules.put(data.schedule_id, row)
    return True


def schedule_ticked(state: State, event_id: str, at_ms: int, data: ScheduleTicked) -> bool:
    """Record a tick, and that it was the schedule's last."""
    config = state.config
    scheduled_for = parse_timestamp(data.scheduled_for) // NS_PER_MS
    state.schedule_states.put(
        data.schedule_id,
        ScheduleStateRow(
            tenant_id=config.tenant,
            workspace_id=config.workspace,
            schedule_id=data.schedule_id,
            last_scheduled_for=scheduled_for,
            last_tick_id=data.tick_id,
            last_run_key=data.run_key,
            row_version=event_id,
        ),
    )
    run_key = data.run_key
    tick = TickRow(
        tenant_id=config.tenant,
        workspace_id=config.workspace,
        tick_id=data.tick_id,
        schedule_id=data.schedule_id,
        scheduled_for=scheduled_for,
        definition_version=data.definition_version,
        asset_selection=json_or_none(data.asset_selection),
        partition_selection=None if data.partition_selection is None else json_text(data.partition_selection),
        status=json_text(data.status),
        run_key=run_key,
        run_id=None
        if run_key is None
        else run_id_of_key(config.tenant, config.workspace, run_key, config.run_id_secret),
        request_fingerprint=data.request_fingerprint,
        row_version=event_id,
    )
    state.ticks.put(data.tick_id, tick)
    return True


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


def run_requested(state: State, event_id: str, at_ms: int, data: RunRequested) -> bool:
    """Bind a run key to its run; the first request stays, and another fingerprint is a conflict."""
    source, config = data.trigger_source_ref, state.config
    if isinstance(source, SensorRef):
        evaluation = state.evaluations.rows.get(source.eval_id)
        if evaluation is not None and evaluation.status == STALE_STATUS:
            return False
    known = state.run_keys.rows.get(data.run_key)
    if known is None:
        run_id = run_id_of_key(config.tenant, config.workspace, data.run_key, config.run_id_secret)
        row = RunKeyRow(
            tenant_id=config.tenant,
            workspace_id=config.workspace,
            run_key=data.run_key,
            run_id=run_id,
            request_fingerprint=data.request_fingerprint,
            code_version=data.code_version,
            created_at=at_ms,
            row_version=event_id,
        )
        state.run_keys.put(data.run_key, row)
        _correlate(state, source, run_id)
    elif known.request_fingerprint != data.request_fingerprint:
        conflict = ConflictRow(
            tenant_id=config.tenant,
            workspace_id=config.workspace,
            run_key=data.run_key,
            existing_fingerprint=known.request_fingerprint,
            conflicting_fingerprint=data.request_fingerprint,
            conflicting_event_id=event_id,
            detected_at=at_ms,
        )
        state.conflicts.put((data.run_key, event_id), conflict)
    return True


def _correlate(state: State, source: object, run_id: str) -> None:
    """Name the run in the tick or chunk that asked for it; their stamps stay."""
    if isinstance(source, ScheduleRef):
        tick = state.ticks.rows.get(source.tick_id)
        if tick is not None:
            state.ticks.put(source.tick_id, replace(tick, run_id=run_id))
    elif isinstance(source, BackfillRef):
        chunk = state.chunks.rows.get(source.chunk_id)
        if chunk is not None:
            state.chunks.put(source.chunk_id, replace(chunk, run_id=run_id))


LEGAL_MOVES: Final = frozenset(
    {
        ("PENDING", "RUNNING"),
        ("PAUSED", "RUNNING"),
        ("RUNNING", "PAUSED"),
        ("RUNNING", "SUCCEEDED"),
        ("RUNNING", "FAILED"),
        ("PENDING", "CANCELLED"),
        ("RUNNING", "CANCELLED"),
        ("PAUSED", "CANCELLED"),
    }
)
"""The state changes that a backfill may make."""


def backfill_created(state: State, event_id: str, at_ms: int, data: BackfillCreated) -> bool:
    """Create a backfill; chunks planned before it are counted."""
    if data.backfill_id in state.backfills.rows:
        return False
    row = BackfillRow(
        tenant_id=state.config.tenant,
        workspace_id=state.config.workspace,
        backfill_id=data.backfill_id,
        asset_selection=json_text(data.asset_selection),
        code_version=data.code_version,
        partition_selector=json_text(data.partition_selector),
        chunk_size=data.chunk_size,
        max_concurrent_runs=data.max_concurrent_runs,
        state="RUNNING",
        state_version=1,
        total_partitions=data.total_partitions,
        planned_chunks=0 if data.chunk_size == 0 else _contiguous(state, data.backfill_id, 0),
        completed_chunks=0,
        failed_chunks=0,
        parent_backfill_id=data.parent_backfill_id,
        created_at=at_ms,
        row_version=event_id,
    )
    state.backfills.put(data.backfill_id, row)
    return True


def backfill_chunk_planned(state: State, event_id: str, at_ms: int, data: BackfillChunkPlanned) -> bool:
    """Plan or replan a chunk; its backfill counts the chunks up to the first gap."""
    old = state.chunks.rows.get(data.chunk_id)
    row = ChunkRow(
        tenant_id=state.config.tenant,
        workspace_id=state.config.workspace,
        chunk_id=data.chunk_id,
        backfill_id=data.backfill_id,
        chunk_index=data.chunk_index,
        partition_keys=json_text(data.partition_keys),
        run_key=data.run_key,
        run_id=None if old is None else old.run_id,
        state="PLANNED",
        row_version=event_id,
    )
    state.chunks.put(data.chunk_id, row)
    backfill = state.backfills.rows.get(data.backfill_id)
    if backfill is not None:
        planned = _contiguous(state, data.backfill_id, backfill.planned_chunks)
        if planned != backfill.planned_chunks:
            state.backfills.put(data.backfill_id, replace(backfill, planned_chunks=planned, row_version=event_id))
    return True


def _contiguous(state: State, backfill_id: str, planned: int) -> int:
    """Return how many chunks there are from the first up to a gap; `planned` are known to exist."""
    while backfill_chunk_id(backfill_id, planned) in state.chunks.rows:
        planned += 1
    return planned


def backfill_state_changed(state: State, event_id: str, at_ms: int, data: BackfillStateChanged) -> bool:
    """Change a backfill's state, if it is the one that the event names and the change is legal."""
    backfill = state.backfills.rows.get(data.backfill_id)
    if (
        backfill is None
        or backfill.state != data.from_state
        or (data.from_state, data.to_state) not in LEGAL_MOVES
        or data.state_version != backfill.state_version + 1
    ):
        return False
    moved = replace(backfill, state=data.to_state, state_version=data.state_version, row_version=event_id)
    state.backfills.put(data.backfill_id, moved)
    return True


HANDLERS: Final = (
    Handler(ScheduleDefinitionUpserted, schedule_definition_upserted),
    Handler(ScheduleTicked, schedule_ticked),
    Handler(SensorEvaluated, sensor_evaluated),
    Handler(RunRequested, run_requested),
    Handler(BackfillCreated, backfill_created),
    Handler(BackfillChunkPlanned, backfill_chunk_planned),
    Handler(BackfillStateChanged, backfill_state_changed),
)
