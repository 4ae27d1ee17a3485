"""Schedules and their ticks (docs/events.md#fold-automation)."""

from __future__ import annotations

from springline.control.admission.cases import Case, Completion, Repeats, Ruling, Write
from springline.control.admission.refusals import invalid
from springline.control.admission.sensors import check_run_key
from springline.control.admission.texts import check_addressable
from springline.ledger.events import (
    RunRequested,
    ScheduleDefinitionUpserted,
    ScheduleRef,
    ScheduleTicked,
    TickTriggered,
)
from springline.ledger.keys import derived_key
from springline.projection.rows import ScheduleRow, json_or_none
from springline.projection.state import State


def definition_key(data: ScheduleDefinitionUpserted, event_id: str) -> str:
    """Return the key of a change of a schedule: one per change, so that a schedule can be enabled again.

    See docs/events.md#w19.
    """
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


def check_definition(data: ScheduleDefinitionUpserted, field: str, now_ms: int) -> None:
    """Refuse a schedule that no URL could name."""
    check_addressable(data.schedule_id, f"{field}.schedule_id")


def check_tick(data: ScheduleTicked, field: str, now_ms: int) -> None:
    """Refuse a tick that triggers a run and does not say which: nobody could ever tell."""
    if not isinstance(data.status, TickTriggered):
        return
    for name in ("run_key", "request_fingerprint"):
        if getattr(data, name) is None:
            raise invalid(f"{field}.{name}", None, "is missing in a tick that triggers a run", "Give it.")
    check_run_key(data.run_key or "", f"{field}.run_key")


def admit_tick(state: State, case: Case[ScheduleTicked]) -> Ruling:
    """Admit what was decided for an instant, once; the run that it triggers is asked for behind it.

    A tick whose request never came would say for ever that a run was triggered which nobody begins.
    """
    data = case.data
    if state.tick(data.tick_id) is not None:
        raise case.conflict(
            "tick_id", f"tick {data.tick_id!r} was decided on before", "Give each instant one tick, under its own id."
        )
    return Write(data, lambda after: _run_request(after, case))


def _run_request(state: State, case: Case[ScheduleTicked]) -> list[Completion]:
    data = case.data
    if not isinstance(data.status, TickTriggered) or data.run_key is None or data.request_fingerprint is None:
        return []
    source = ScheduleRef(data.schedule_id, data.tick_id)
    if any(isinstance(draft.data, RunRequested) and draft.data.trigger_source_ref == source for draft in case.later):
        return []
    definition = state.schedule(data.schedule_id)
    is_current = definition is not None and definition.row_version == data.definition_version
    request = RunRequested(
        run_key=data.run_key,
        request_fingerprint=data.request_fingerprint,
        asset_selection=data.asset_selection,
        trigger_source_ref=source,
        partition_selection=data.partition_selection,
        code_version=definition.code_version if definition is not None and is_current else None,
    )
    return [Completion(request, None, case.field)]


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
