"""Schedules: their definitions, and what was decided for their instants (docs/events.md#fold-automation)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from springline.ledger.events import ScheduleDefinitionUpserted, ScheduleTicked
from springline.ledger.identifiers import run_id_of_key
from springline.ledger.timestamps import NS_PER_MS, parse_timestamp
from springline.projection.fold.values import json_or_none, json_text
from springline.projection.rows import ScheduleRow, ScheduleStateRow, TickRow

if TYPE_CHECKING:
    from springline.projection.state import State


def schedule_definition_upserted(state: State, event_id: str, at_ms: int, data: ScheduleDefinitionUpserted) -> bool:
    """Define a schedule, or define it anew; it was created when it was first defined."""
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
