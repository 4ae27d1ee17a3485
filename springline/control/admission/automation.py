"""Schedules, sensors, backfills, and the runs that they ask for (docs/events.md#fold-automation)."""

from __future__ import annotations

from typing import Final

from msgspec.structs import replace

from springline.control.admission.cases import (
    Case,
    Completion,
    EventRule,
    Repeats,
    Ruling,
    Write,
    check_addressable,
    invalid,
    refuse_held,
    repeated,
)
from springline.control.admission.runs import RERUN_RUN_KEYS, RESERVED_RUN_KEYS, SCHEDULE_RUN_KEYS
from springline.ledger.events import (
    BackfillChunkEnded,
    BackfillChunkPlanned,
    BackfillCreated,
    BackfillStateChanged,
    RunRequested,
    ScheduleDefinitionUpserted,
    ScheduleTicked,
    SensorEvaluated,
    derived_key,
)
from springline.ledger.identifiers import (
    backfill_chunk_id,
    backfill_run_key,
    is_manual_tick,
    is_tick_note,
    run_id_of_key,
)
from springline.ledger.member import DefinitionMember, EvaluationMember, RunRequestedMember, TickMember, member_of
from springline.ledger.nested import (
    BackfillRef,
    EvalSkippedStaleCursor,
    EvaluationRun,
    PushSource,
    ScheduleRef,
    SensorRef,
    TickTriggered,
)
from springline.ledger.timestamps import NS_PER_MS, format_ms, parse_timestamp
from springline.projection.fold.automation import STALE_STATUS
from springline.projection.fold.ours import settings_of
from springline.projection.rows import (
    BackfillRow,
    FirstRequestRow,
    OwnSensorRow,
    ScheduleRow,
    SensorRow,
    json_or_none,
    json_text,
)
from springline.projection.schema import SCHEDULE
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
    _check_replaced(case, row)
    if row is None or not _says(row, data) or not _says_of_ours(state, data):
        return Write(data)
    keys = (definition_key(data, row.row_version), derived_key(data))
    known = next((key for key in keys if _event_of(state, key) == row.row_version), keys[1])
    return Repeats(row.row_version, type(data).__name__, known)


def _check_replaced(case: Case[ScheduleDefinitionUpserted], row: ScheduleRow | None) -> None:
    """Refuse a definition that says from when it holds, unless it replaces the one that there is.

    Whoever made it has decided what that other one owed, and knows nothing of a later one.
    """
    said = member_of(case.data, DefinitionMember)
    current = None if row is None else row.row_version
    if said is not None and said.effective_from is not None and said.replaces != current:
        raise case.conflict(
            "springline",
            f"schedule {case.data.schedule_id!r} was changed by {current}"
            if current is not None
            else f"schedule {case.data.schedule_id!r} is not defined",
            "Read its definition and decide again.",
        )


def check_definition(data: ScheduleDefinitionUpserted, field: str, now_ms: int) -> None:
    """Refuse a schedule whose id cannot be part of a URL."""
    check_addressable(data.schedule_id, f"{field}.schedule_id")


def check_tick(data: ScheduleTicked, field: str, now_ms: int) -> None:
    """Refuse a tick that triggers a run and does not name it, because no later event could."""
    if not isinstance(data.status, TickTriggered):
        return
    for name in ("run_key", "request_fingerprint"):
        if getattr(data, name) is None:
            raise invalid(f"{field}.{name}", None, "is missing in a tick that triggers a run", "Give it.")
    check_run_key(data.run_key or "", f"{field}.run_key", may_be=SCHEDULE_RUN_KEYS)


def admit_tick(state: State, case: Case[ScheduleTicked]) -> Ruling:
    """Admit the decision for an instant, once; the request for the run that it triggers follows it.

    A tick without its request would name for ever a triggered run that never begins.
    """
    data = case.data
    refuse_held(state, case)
    if state.tick(data.tick_id) is not None:
        raise case.conflict(
            "tick_id", f"tick {data.tick_id!r} was decided on before", "Give each instant one tick, under its own id."
        )
    is_decided = member_of(data, TickMember) is not None
    if (is_decided or isinstance(data.status, TickTriggered)) and not is_manual_tick(data.schedule_id, data.tick_id):
        _check_due(state, case)
        _check_order(state, case)
    return Write(data, lambda after: _run_request(after, case))


def _check_order(state: State, case: Case[ScheduleTicked]) -> None:
    """Refuse a tick of our evaluator for an instant that lies within what is decided on.

    Its identity is not enough: a range of instants that was skipped as one has another.
    """
    data, said = case.data, member_of(case.data, TickMember)
    known = state.definition(SCHEDULE, data.schedule_id)
    if said is None or known is None or known.decided_to is None or is_tick_note(data.schedule_id, data.tick_id):
        return
    if parse_timestamp(said.range_from or data.scheduled_for) // NS_PER_MS <= known.decided_to:
        raise case.conflict(
            "scheduled_for",
            f"schedule {data.schedule_id!r} is decided on up to {format_ms(known.decided_to)}",
            "Read its ticks and decide again.",
        )


def _check_due(state: State, case: Case[ScheduleTicked]) -> None:
    """Refuse a tick that triggers a run of a schedule that is off, or by a definition that is not the current one.

    Whoever decided on it has not seen the last change; of our evaluator a skipped tick is refused likewise. A manual
    tick, `{schedule}:manual:{epoch}`, is what its user wants now. A schedule that the ledger does not know may be
    another system's.
    """
    data = case.data
    definition = state.schedule(data.schedule_id)
    if definition is None:
        return
    if not definition.enabled and isinstance(data.status, TickTriggered):
        raise case.conflict(
            "schedule_id",
            f"schedule {data.schedule_id!r} is off",
            "Record the instant as skipped, or trigger by a manual tick.",
        )
    if data.definition_version != definition.row_version:
        raise case.conflict(
            "definition_version",
            f"schedule {data.schedule_id!r} was changed by {definition.row_version}",
            "Read its definition and decide again.",
        )


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


def _says_of_ours(state: State, data: ScheduleDefinitionUpserted) -> bool:
    row = state.definition(SCHEDULE, data.schedule_id)
    return (None if row is None else row.settings) == settings_of(data)


def _event_of(state: State, key: str) -> str | None:
    used = state.event_with_key(key)
    return None if used is None else used[0]


def check_evaluation(data: SensorEvaluated, field: str, now_ms: int) -> None:
    """Refuse a status that only the sequencer sets, run keys of backfills, and ids that cannot be part of a URL."""
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


def check_run_key(run_key: str, field: str, *, may_be: str = "") -> None:
    """Refuse a run key with the prefix of another source: its chunk would never get its run (docs/events.md#w18), its
    tick or its rerun would meet a key that is used. `may_be`: the prefix that this source may use.
    """
    for prefix, owner in RESERVED_RUN_KEYS.items():
        if prefix != may_be and run_key.startswith(prefix):
            raise invalid(field, run_key, f"has the form of a {owner}'s run key", "Use another run key.")


def admit_evaluation(state: State, case: Case[SensorEvaluated]) -> Ruling:
    """Admit an evaluation; it keeps the cursor unless it sets another, and its run requests follow it.

    One that was made on an older state of its sensor is recorded as stale, and asks for nothing. One of ours says what
    it has seen of the sensor and is refused instead, so that it uses up no key (docs/protocol.md#sensors).
    """
    data = case.data
    said = member_of(data, EvaluationMember)
    if said is not None and said.seen_version is not None:
        _check_seen(state, case, said)
    if state.evaluation(data.eval_id) is not None:
        raise case.conflict(
            "eval_id", f"evaluation {data.eval_id!r} exists already", "Give each evaluation its own id."
        )
    cursor = sensor_cursor(state.sensor(data.sensor_id), state.own_sensor(data.sensor_id))
    if data.cursor_after is None and cursor is not None:
        data = replace(data, cursor_after=cursor)
    return Write(data, lambda after: _run_requests(after, case))


def sensor_cursor(sensor: SensorRow | None, own: OwnSensorRow | None) -> str | None:
    """Return the cursor of a sensor: of its last evaluation, or of operators who have set or reset it since then."""
    evaluated = "" if sensor is None else sensor.row_version
    if own is not None and own.cursor_event_id is not None and own.cursor_event_id > evaluated:
        return own.cursor
    return None if sensor is None else sensor.cursor


def _check_seen(state: State, case: Case[SensorEvaluated], said: EvaluationMember) -> None:
    """Refuse an evaluation of ours that was made on another state of its sensor than the one there is."""
    refuse_held(state, case)
    sensor_id = case.data.sensor_id
    sensor, own = state.sensor(sensor_id), state.own_sensor(sensor_id)
    version = 0 if sensor is None else sensor.state_version
    if version != said.seen_version:
        raise case.conflict(
            "sensor_id",
            f"sensor {sensor_id!r} has state version {version}: it was evaluated meanwhile",
            "Read its state and evaluate it again.",
        )
    if (said.seen_change or "") != ("" if own is None else own.row_version):
        raise case.conflict(
            "sensor_id",
            f"operators have changed sensor {sensor_id!r} meanwhile",
            "Read its state and evaluate it again.",
        )
    if own is not None and own.paused:
        raise case.conflict("sensor_id", f"sensor {sensor_id!r} is paused", "Resume it first.")


def missed_evaluation(state: State, data: SensorEvaluated) -> str | None:
    """Return why a message waits for an evaluation whose key was used: by one that was stale."""
    source = data.trigger_source
    if not isinstance(source, PushSource) or state.message(data.sensor_id, source.message_id) is None:
        return None
    return f"message {source.message_id!r} waits: its last evaluation was stale, and used the key of this one"


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


def _requested(request: EvaluationRun, source: SensorRef) -> RunRequested:
    return RunRequested(
        run_key=request.run_key,
        request_fingerprint=request.request_fingerprint,
        asset_selection=request.asset_selection,
        trigger_source_ref=source,
        partition_selection=request.partition_selection,
        code_version=request.code_version,
    )


def check_run_request(data: RunRequested, field: str, now_ms: int) -> None:
    """Refuse run keys with the prefix of another source: of a backfill, of a schedule, or of a rerun's parent."""
    source, said = data.trigger_source_ref, member_of(data, RunRequestedMember)
    if isinstance(source, BackfillRef):
        return
    may_be = SCHEDULE_RUN_KEYS if isinstance(source, ScheduleRef) else ""
    if said is not None and said.parent_run_id is not None:
        may_be = RERUN_RUN_KEYS
    check_run_key(data.run_key, f"{field}.run_key", may_be=may_be)


def admit_run_request(state: State, case: Case[RunRequested]) -> Ruling:
    """Admit a request whose source is known and may ask for it, and whose run can be triggered."""
    source = case.data.trigger_source_ref
    if isinstance(source, SensorRef):
        _check_evaluation(state, case, source)
    elif isinstance(source, BackfillRef):
        _check_chunk(state, case, source)
    elif isinstance(source, ScheduleRef):
        _check_tick(state, case, source)
    first = state.first_request(case.data.run_key)
    if first is not None and state.run_key(case.data.run_key) is None:
        return _of_old_run(case, first)
    _check_run_can_come(state, case)
    return Write(case.data)


def _of_old_run(case: Case[RunRequested], first: FirstRequestRow) -> Ruling:
    """Answer a request whose run retention has removed with that run's first request: there is no second run."""
    data = case.data
    if first.request_fingerprint != data.request_fingerprint:
        raise case.conflict(
            "run_key",
            f"run key {data.run_key!r} was used with another request, by event {first.row_version}",
            "Use another run key.",
        )
    return Repeats(first.row_version, type(data).__name__, case.key)


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
    if tick is None:
        return
    if tick.status != _TRIGGERED:
        # Its key may stand for a tick that was decided on otherwise: who asks has not seen that.
        raise case.conflict(
            "trigger_source_ref.tick_id",
            f"tick {source.tick_id!r} asked for no run",
            "Trigger the schedule by a manual tick, if a run is wanted all the same.",
        )
    if tick.run_key not in (None, case.data.run_key):
        raise case.conflict("run_key", f"tick {source.tick_id!r} has run key {tick.run_key!r}", "Give this one.")


def _check_run_can_come(state: State, case: Case[RunRequested]) -> None:
    """Refuse a new run key that another run has used, because its own run could not be triggered.

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


_TRIGGERED: Final = json_text(TickTriggered())
FINISHED_BACKFILL: Final = frozenset({"SUCCEEDED", "FAILED", "CANCELLED"})
"""Terminal states of a backfill."""

_LEGAL: Final = {
    "PENDING": ("RUNNING", "CANCELLED"),
    "RUNNING": ("PAUSED", "SUCCEEDED", "FAILED", "CANCELLED"),
    "PAUSED": ("RUNNING", "CANCELLED"),
}


def check_backfill(data: BackfillCreated, field: str, now_ms: int) -> None:
    """Refuse a backfill that could plan or run nothing, or whose id cannot be part of a URL."""
    check_addressable(data.backfill_id, f"{field}.backfill_id")
    for name in ("chunk_size", "max_concurrent_runs"):
        if getattr(data, name) < 1:
            raise invalid(f"{field}.{name}", 0, "is 0: the backfill would never get on", "Give 1 or more.")


def check_chunk(data: BackfillChunkPlanned, field: str, now_ms: int) -> None:
    """Refuse a chunk without partitions, and one whose id or run key is not its own: it would not be counted."""
    if not data.partition_keys:
        raise invalid(
            f"{field}.partition_keys", [], "is empty: the chunk's run would have no tasks", "Name partitions."
        )
    check_chunk_id(data, field)
    own_key = backfill_run_key(data.backfill_id, data.chunk_index)
    if data.run_key != own_key:
        raise invalid(f"{field}.run_key", data.run_key, "is not that of backfill and index", f"Give {own_key}.")


def check_chunk_id(data: BackfillChunkPlanned | BackfillChunkEnded, field: str) -> None:
    """Refuse a chunk id that is not that of its backfill and index."""
    own_id = backfill_chunk_id(data.backfill_id, data.chunk_index)
    if data.chunk_id != own_id:
        raise invalid(f"{field}.chunk_id", data.chunk_id, "is not that of backfill and index", f"Give {own_id}.")


def admit_backfill(state: State, case: Case[BackfillCreated]) -> Ruling:
    """Admit a backfill under a new id."""
    data = case.data
    if state.backfill(data.backfill_id) is not None:
        first = repeated(state, data, derived_key(data), case.key_field)
        if first is not None:
            return first
        raise case.conflict(
            "backfill_id", f"backfill {data.backfill_id!r} exists already", "Give the new backfill an id of its own."
        )
    return Write(data)


def admit_chunk(state: State, case: Case[BackfillChunkPlanned]) -> Ruling:
    """Admit a new chunk of a backfill that runs, under an unused run key: a pause is a position in the ledger."""
    data = case.data
    refuse_held(state, case)
    backfill = _backfill(state, case)
    if backfill.state != "RUNNING":
        ended = backfill.state in FINISHED_BACKFILL
        raise case.conflict(
            "backfill_id",
            f"backfill {data.backfill_id!r} {'has ended' if ended else 'is not running'}: {backfill.state}",
            "Plan no more." if ended else "Let it run first, by backfill_state_changed to RUNNING.",
        )
    if state.chunk(data.chunk_id) is not None:
        raise case.conflict("chunk_index", f"chunk {data.chunk_id!r} is planned", "Plan each chunk once.")
    if state.run_key(data.run_key) is not None or state.event_with_key(f"run:{data.run_key}") is not None:
        raise case.conflict(
            "run_key",
            f"run key {data.run_key!r} was used: the chunk would never get its run",
            "Use another backfill id.",
        )
    return Write(data)


def admit_state_change(state: State, case: Case[BackfillStateChanged]) -> Ruling:
    """Admit the next change of a backfill's state, if it is a legal one."""
    data = case.data
    backfill = _backfill(state, case)
    if data.from_state != backfill.state:
        raise case.conflict("from_state", f"the backfill is {backfill.state}", "Read its state and decide again.")
    if data.state_version != backfill.state_version + 1:
        raise case.conflict(
            "state_version",
            f"its next state version is {backfill.state_version + 1}",
            "Read its state and decide again.",
        )
    legal = _LEGAL.get(backfill.state, ())
    if data.to_state not in legal:
        raise case.conflict(
            "to_state",
            f"a backfill that is {backfill.state} does not become {data.to_state}",
            f"Choose one of {', '.join(legal)}." if legal else "It has ended.",
        )
    return Write(data)


def _backfill(state: State, case: Case[BackfillChunkPlanned] | Case[BackfillStateChanged]) -> BackfillRow:
    backfill = state.backfill(case.data.backfill_id)
    if backfill is None:
        raise case.conflict(
            "backfill_id", f"there is no backfill {case.data.backfill_id!r}", "Append its backfill_created first."
        )
    return backfill


RULES: Final = (
    EventRule(ScheduleDefinitionUpserted, admit_definition, check=check_definition, missed=None, key=definition_key),
    EventRule(ScheduleTicked, admit_tick, check=check_tick, missed=None),
    EventRule(SensorEvaluated, admit_evaluation, check=check_evaluation, missed=missed_evaluation),
    EventRule(RunRequested, admit_run_request, check=check_run_request, missed=None),
    EventRule(BackfillCreated, admit_backfill, check=check_backfill, missed=None),
    EventRule(BackfillChunkPlanned, admit_chunk, check=check_chunk, missed=None),
    EventRule(BackfillStateChanged, admit_state_change, check=None, missed=None),
)
