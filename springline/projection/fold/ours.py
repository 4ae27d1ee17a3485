"""The second fold: tables of our own, from events of our own types and from what the first fold has applied.

See docs/events.md#what-is-ours. Nothing here changes a table of the reference's. A handler of our own types answers as
those of the first fold do. An effect follows an event that the first fold applied, and reads its rows, never the other
way round.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
from msgspec.structs import replace

from springline.ledger.events import (
    AttemptNoted,
    BackfillChunkEnded,
    BackfillChunkPlanned,
    BackfillCreated,
    HoldChanged,
    RunCancelRequested,
    RunRequested,
    RunTriggered,
    ScheduleDefinitionUpserted,
    ScheduleTicked,
    SensorChanged,
    SensorEvaluated,
    SensorMessage,
    TaskCompletionRecorded,
    TaskEnd,
    TaskFinished,
)
from springline.ledger.identifiers import is_manual_tick, is_tick_note
from springline.ledger.json_text import canonical_json
from springline.ledger.member import (
    BackfillMember,
    CancelMember,
    DefinitionMember,
    EndMember,
    RunTriggeredMember,
    member_of,
)
from springline.ledger.nested import PushSource
from springline.ledger.timestamps import NS_PER_MS, parse_timestamp
from springline.projection.fold import Effect, Handler
from springline.projection.fold.tasks import ENDS
from springline.projection.rows import (
    AttemptRow,
    DefinitionRow,
    FirstRequestRow,
    HoldRow,
    MessageRow,
    NoteRow,
    OwnChunkRow,
    OwnRunRow,
    OwnSensorRow,
    json_or_none,
    ms_or_none,
)
from springline.projection.schema import BACKFILL, SCHEDULE, WORKSPACE_HOLD
from springline.projection.state import State

_MAX_I64: Final = 2**63 - 1


def _free(value: Any) -> str | None:
    """Return a value of any shape as canonical JSON text, None if it is absent.

    One that has none, such as a number with a fraction, counts as absent: we write no such value.
    """
    if value is None:
        return None
    try:
        return canonical_json(value).decode()
    except ValueError:
        return None


# Events of our own types.


def hold_changed(state: State, event_id: str, at_ms: int, data: HoldChanged) -> bool:
    """Hold the workspace, or let it go on; no change is none."""
    known = state.holds.rows.get(WORKSPACE_HOLD)
    if data.held == (known is not None and known.held):
        return False
    row = HoldRow(WORKSPACE_HOLD, data.held, data.reason, data.changed_by, at_ms, event_id)
    state.holds.put(WORKSPACE_HOLD, row)
    return True


def sensor_changed(state: State, event_id: str, at_ms: int, data: SensorChanged) -> bool:
    """Pause or resume a sensor, if it is not so yet; reset or set its cursor, always."""
    known = state.own_sensors.rows.get(data.sensor_id)
    paused = known is not None and known.paused
    cursor, cursor_event_id = (None, None) if known is None else (known.cursor, known.cursor_event_id)
    if data.change in ("paused", "resumed"):
        if paused == (data.change == "paused"):
            return False
        paused = not paused
    else:
        cursor, cursor_event_id = (data.cursor if data.change == "cursor_set" else None), event_id
    row = OwnSensorRow(data.sensor_id, paused, cursor, cursor_event_id, data.changed_by, at_ms, event_id)
    state.own_sensors.put(data.sensor_id, row)
    return True


def sensor_message(state: State, event_id: str, at_ms: int, data: SensorMessage) -> bool:
    """Let a message wait for its evaluation, once."""
    key = (data.sensor_id, data.message_id)
    if key in state.messages.rows:
        return False
    state.messages.put(key, MessageRow(data.sensor_id, data.message_id, _free(data.payload), at_ms, event_id))
    return True


def backfill_chunk_ended(state: State, event_id: str, at_ms: int, data: BackfillChunkEnded) -> bool:
    """End a planned chunk, once."""
    known = state.own_chunks.rows.get(data.chunk_id)
    if known is None or known.outcome is not None or known.backfill_id != data.backfill_id:
        return False
    row = replace(
        known,
        outcome=ENDS[data.outcome],
        done=data.done,
        failed=json_or_none(data.failed),
        skipped=json_or_none(data.skipped),
        keys_path=data.keys_path,
        keys_sha256=data.keys_sha256,
        reason_code=data.reason_code,
        ended_at=at_ms,
        row_version=event_id,
    )
    state.own_chunks.put(data.chunk_id, row)
    return True


def attempt_noted(state: State, event_id: str, at_ms: int, data: AttemptNoted) -> bool:
    """Note something about an attempt of a known run, once for each note."""
    if state.run(data.run_id) is None:
        return False
    key = (data.run_id, data.task_key, data.attempt_id, data.note)
    if key in state.notes.rows:
        return False
    state.notes.put(key, NoteRow(*key, data.attempt, _free(data.detail), at_ms, event_id))
    return True


# Effects of the reference's types.


def run_triggered(state: State, event_id: str, at_ms: int, data: RunTriggered) -> None:
    """Keep what the member says of a run."""
    said = member_of(data, RunTriggeredMember)
    if said is None or said == RunTriggeredMember():
        return
    row = OwnRunRow(data.run_id, said.request_event_id, said.effects_scope, _free(said.config or None), None, event_id)
    state.own_runs.put(data.run_id, row)


def run_cancel_requested(state: State, event_id: str, at_ms: int, data: RunCancelRequested) -> None:
    """Keep why a run was cancelled, the last time that one said so."""
    said = member_of(data, CancelMember)
    if said is None or said.reason_code is None:
        return
    known = state.own_runs.rows.get(data.run_id) or OwnRunRow(data.run_id, None, None, None, None, "")
    state.own_runs.put(data.run_id, replace(known, cancel_reason_code=said.reason_code, row_version=event_id))


def task_ended(state: State, event_id: str, at_ms: int, data: TaskEnd) -> None:
    """Record an ended attempt; its task's row still says when it was started."""
    task = state.task(data.run_id, data.task_key)
    said = member_of(data, EndMember) or EndMember()
    error, metrics = data.error, data.metrics
    failed = data.outcome != "succeeded"
    row = AttemptRow(
        run_id=data.run_id,
        task_key=data.task_key,
        attempt_id=data.attempt_id,
        attempt=data.attempt,
        outcome=ENDS[data.outcome],
        category=error.category if failed and error is not None else None,
        reason_code=said.reason_code,
        error_message=(data.error_message or (None if error is None else error.message)) if failed else None,
        worker_id=data.worker_id,
        started_at=None if task is None else task.started_at,
        ended_at=at_ms,
        true_started_at=ms_or_none(said.started_at),
        true_ended_at=ms_or_none(said.ended_at),
        tables=json_or_none(said.tables),
        checks=json_or_none(said.checks),
        code_version=data.code_version,
        cpu_time_ms=None if metrics is None else _i64(metrics.cpu_time_ms),
        peak_memory_bytes=None if metrics is None else _i64(metrics.peak_memory_bytes),
        row_version=event_id,
        log_chunks=said.log_chunks,
    )
    state.attempts.put((data.run_id, data.task_key, data.attempt_id), row)


def _i64(number: int | None) -> int | None:
    """Return a number if a column can hold it: events hold numbers up to 2**64 - 1."""
    return None if number is None or number > _MAX_I64 else number


def run_requested(state: State, event_id: str, at_ms: int, data: RunRequested) -> None:
    """Keep the first request under a run key for ever."""
    if data.run_key in state.first_requests.rows:
        return
    first = state.run_keys.rows[data.run_key]
    row = FirstRequestRow(data.run_key, first.run_id, first.request_fingerprint, first.created_at, first.row_version)
    state.first_requests.put(data.run_key, row)


def schedule_defined(state: State, event_id: str, at_ms: int, data: ScheduleDefinitionUpserted) -> None:
    """Keep the current definition with the settings of its member."""
    key = (SCHEDULE, data.schedule_id)
    known = state.definitions.rows.get(key)
    settings = settings_of(data)
    first = at_ms if known is None else known.first_defined_at
    decided_to = None if known is None else known.decided_to
    state.definitions.put(key, DefinitionRow(*key, at_ms, first, data.code_version, settings, event_id, decided_to))


def schedule_ticked(state: State, event_id: str, at_ms: int, data: ScheduleTicked) -> None:
    """Keep up to which instant a schedule is decided on: `last_scheduled_for` is that of the last event instead."""
    key = (SCHEDULE, data.schedule_id)
    known = state.definitions.rows.get(key)
    if known is None or is_manual_tick(data.schedule_id, data.tick_id) or is_tick_note(data.schedule_id, data.tick_id):
        return
    decided_to = parse_timestamp(data.scheduled_for) // NS_PER_MS
    if known.decided_to is None or decided_to > known.decided_to:
        state.definitions.put(key, replace(known, decided_to=decided_to))


def settings_of(data: ScheduleDefinitionUpserted) -> str | None:
    """Return the settings in the member of a definition as canonical JSON text, None if there are none."""
    said = member_of(data, DefinitionMember)
    return None if said is None else json_or_none(msgspec.to_builtins(said))


def sensor_evaluated(state: State, event_id: str, at_ms: int, data: SensorEvaluated) -> None:
    """Let a message wait no longer once its evaluation moved the sensor: a stale one is to be repeated."""
    source = data.trigger_source
    if not isinstance(source, PushSource):
        return
    key = (data.sensor_id, source.message_id)
    sensor = state.sensors.rows.get(data.sensor_id)
    if key in state.messages.rows and sensor is not None and sensor.row_version == event_id:
        state.messages.remove(key)


def backfill_created(state: State, event_id: str, at_ms: int, data: BackfillCreated) -> None:
    """Keep what the member says of a backfill that was asked for here: of others there is no row."""
    key = (BACKFILL, data.backfill_id)
    said = member_of(data, BackfillMember)
    if said is None or said.request_fingerprint is None:
        return
    settings = json_or_none(msgspec.to_builtins(said))
    state.definitions.put(key, DefinitionRow(*key, at_ms, at_ms, data.code_version, settings, event_id, None))


def chunk_planned(state: State, event_id: str, at_ms: int, data: BackfillChunkPlanned) -> None:
    """Keep a planned chunk for ever; one that is planned again has not ended."""
    row = OwnChunkRow(
        chunk_id=data.chunk_id,
        backfill_id=data.backfill_id,
        chunk_index=data.chunk_index,
        run_key=data.run_key,
        partitions=len(data.partition_keys),
        planned_at=at_ms,
        outcome=None,
        done=None,
        failed=None,
        skipped=None,
        keys_path=None,
        keys_sha256=None,
        reason_code=None,
        ended_at=None,
        row_version=event_id,
    )
    state.own_chunks.put(data.chunk_id, row)


HANDLERS: Final = (
    Handler(HoldChanged, hold_changed),
    Handler(SensorChanged, sensor_changed),
    Handler(SensorMessage, sensor_message),
    Handler(BackfillChunkEnded, backfill_chunk_ended),
    Handler(AttemptNoted, attempt_noted),
)

EFFECTS: Final[dict[type, Effect[Any]]] = {
    RunTriggered: run_triggered,
    RunCancelRequested: run_cancel_requested,
    TaskFinished: task_ended,
    TaskCompletionRecorded: task_ended,
    RunRequested: run_requested,
    ScheduleDefinitionUpserted: schedule_defined,
    ScheduleTicked: schedule_ticked,
    SensorEvaluated: sensor_evaluated,
    BackfillCreated: backfill_created,
    BackfillChunkPlanned: chunk_planned,
}
"""The effects on tables of our own, by type of event."""
