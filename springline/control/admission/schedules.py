"""Schedules and their ticks (E 4.12)."""

from __future__ import annotations

from springline.control.admission.cases import Case, Repeats, Ruling, Write
from springline.ledger.events import ScheduleDefinitionUpserted, ScheduleTicked
from springline.ledger.keys import derived_key
from springline.projection.fold.values import json_or_none
from springline.projection.rows import ScheduleRow
from springline.projection.state import State


def definition_key(data: ScheduleDefinitionUpserted, event_id: str) -> str:
    """Return the key of a change of a schedule: one per change, so that a schedule can be enabled again (W19)."""
    return f"sched_def_api:{data.schedule_id}:{event_id}"


def admit_definition(state: State, case: Case[ScheduleDefinitionUpserted]) -> Ruling:
    """Admit a definition that says something new."""
    data = case.data
    row = state.schedule(data.schedule_id)
    if row is None or not _says(row, data):
        return Write(data)
    keys = (definition_key(data, row.row_version), derived_key(data))
    known = next((key for key in keys if _event_of(state, key) == row.row_version), keys[1])
    return Repeats(row.row_version, type(data).__name__, known)


def admit_tick(state: State, case: Case[ScheduleTicked]) -> Ruling:
    """Admit what was decided for an instant, once."""
    data = case.data
    if state.tick(data.tick_id) is not None:
        raise case.conflict(
            "tick_id", f"tick {data.tick_id!r} was decided on before", "Give each instant one tick, under its own id."
        )
    return Write(data)


def _says(row: ScheduleRow, data: ScheduleDefinitionUpserted) -> bool:
    return (
        row.cron_expression,
        row.timezone,
        row.catchup_window_minutes,
        row.max_catchup_ticks,
        row.asset_selection,
        row.enabled,
        row.code_version,
    ) == (
        data.cron_expression,
        data.timezone,
        data.catchup_window_minutes,
        data.max_catchup_ticks,
        json_or_none(data.asset_selection),
        data.enabled,
        data.code_version,
    )


def _event_of(state: State, key: str) -> str | None:
    used = state.event_with_key(key)
    return None if used is None else used[0]
