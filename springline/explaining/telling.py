"""An event in words: who decided or reported what. One row for each type of event."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field

from springline.ledger import events as e
from springline.ledger.envelope import Event
from springline.ledger.identifiers import is_manual_tick
from springline.ledger.member import (
    BackfillMember,
    DefinitionMember,
    EvaluationMember,
    TickMember,
    member_of,
    typed_member,
)
from springline.ledger.nested import (
    BackfillRef,
    EvalError,
    EvalTriggered,
    ManualRef,
    PushSource,
    ScheduleRef,
    SensorRef,
    TickFailed,
    TickSkipped,
    TriggerSourceRef,
)
from springline.ledger.timestamps import NS_PER_MS, format_ms
from springline.ulids import ulid_time_ms

LAUNCHER: Final = "RunLauncher"
RUN: Final = "RunWorkflow"
SCHEDULES: Final = "ScheduleEvaluator"
SENSORS: Final = "SensorEvaluator"
BACKFILLS: Final = "BackfillEvaluator"
_LONGEST: Final = 500
MOST_NAMED: Final = 3
"""Of many, an answer names so many."""


def few(keys: Sequence[str]) -> str:
    """Return the first of some keys, and how many more there are."""
    shown = ", ".join(keys[:MOST_NAMED])
    return shown if len(keys) <= MOST_NAMED else f"{shown} and {len(keys) - MOST_NAMED:,} more"


class ToldEvent(BaseModel):
    """An event: when it was recorded, who decided or reported it, and what it says."""

    model_config = ConfigDict(frozen=True)

    at: str = Field(description="RFC 3339: when it was put on record.")
    who: str = Field(description="Who decided or reported it: a workflow, a worker, or a user.")
    what: str
    reason_code: str | None = None
    event: str = Field(description="Its type, as in `data.type`.")
    event_id: str


@dataclass(frozen=True, slots=True)
class Telling:
    """How events of one type are told. `who`, `what`: given the payload."""

    payload: type[Any]
    who: Callable[[Any], str]
    what: Callable[[Any], str]


def told(event: Event) -> ToldEvent:
    """Return an event in words; one of a type that this version does not know, by its type."""
    recorded = ulid_time_ms(event.event_id)
    at_ms = event.timestamp_ns // NS_PER_MS if recorded is None else recorded
    data = event.data
    if data is None:
        return ToldEvent(
            at=format_ms(at_ms), who=event.source, what="something that this version cannot tell",
            event=event.event_type, event_id=event.event_id,
        )  # fmt: skip
    telling = TELLINGS[type(data)]
    return ToldEvent(
        at=format_ms(at_ms),
        who=telling.who(data),
        what=telling.what(data)[:_LONGEST],
        reason_code=getattr(typed_member(data), "reason_code", None),
        event=e.EVENT_TYPES[type(data)].tag,
        event_id=event.event_id,
    )


def _definer(data: e.ScheduleDefinitionUpserted) -> str:
    said = member_of(data, DefinitionMember)
    return "an operator" if said is None or said.location is None else f"a deploy of {said.location}, or an operator"


def _definition(data: e.ScheduleDefinitionUpserted) -> str:
    said = member_of(data, DefinitionMember) or DefinitionMember()
    due = data.cron_expression if said.interval_seconds is None else f"every {said.interval_seconds} s"
    state = "on" if data.enabled else "off"
    if said.deleted:
        state = "gone from its file" if said.location else "deleted"
    since = "" if said.effective_from is None else f", for instants behind {said.effective_from}"
    return f"defined {data.schedule_id}: {due} ({data.timezone}), {state}{since}"


def _ticker(data: e.ScheduleTicked) -> str:
    if is_manual_tick(data.schedule_id, data.tick_id):
        return "a user, who triggered it"
    said = member_of(data, TickMember)
    # Both decide by the same rule; what was off is put on record by the change that ends it.
    return "the change of its definition" if said is not None and said.reason_code == "PAUSED" else SCHEDULES


def _tick(data: e.ScheduleTicked) -> str:
    match data.status:
        case TickSkipped(reason=reason):
            return f"skipped {data.scheduled_for}: {reason}"
        case TickFailed(error=error):
            return f"could not evaluate the definition: {error}"
    return f"asked for a run for {data.scheduled_for}, under the key {data.run_key}"


def source_text(source: TriggerSourceRef) -> str:
    """Return who asked for a run."""
    match source:
        case ScheduleRef(schedule_id=schedule_id):
            return f"schedule {schedule_id}"
        case SensorRef(sensor_id=sensor_id):
            return f"sensor {sensor_id}"
        case BackfillRef(backfill_id=backfill_id):
            return f"backfill {backfill_id}"
        case ManualRef(user_id=user_id):
            return f"user {user_id}"


def _request(data: e.RunRequested) -> str:
    partitions = data.partition_selection
    few = "" if not partitions else f" of {len(partitions)} partition(s)"
    return f"asked for a run of {', '.join(data.asset_selection[:5])}{few}, under the key {data.run_key}"


def _cancellation(data: e.RunCancelRequested) -> str:
    return "asked for the end of the run" + ("" if data.reason is None else f": {data.reason}")


def _end(data: e.TaskEnd) -> str:
    error = data.error_message or (None if data.error is None else data.error.message)
    category = "" if data.error is None else f" ({data.error.category})"
    return f"attempt {data.attempt} of {data.task_key}: {data.outcome}{category}" + (
        "" if error is None else f": {error}"
    )


def _visibility(data: e.TaskOutputVisibilityChanged) -> str:
    error = "" if data.publish_error is None else f": {data.publish_error}"
    return f"the output of {data.task_key} is {data.visibility_state}{error}"


def _evaluation(data: e.SensorEvaluated) -> str:
    match data.status:
        case EvalTriggered():
            keys = [one.run_key for one in data.run_requests]
            asked = f": {few(keys)}" if keys else ""
            return f"evaluated {data.sensor_id}: asked for {len(keys)} run(s){asked}"
        case EvalError(message=message):
            return f"evaluated {data.sensor_id}: it failed: {message}"
    said = member_of(data, EvaluationMember)
    if said is not None and said.polls is not None:
        return f"evaluated {data.sensor_id}: {said.polls} polls found nothing"
    woken = "a message" if isinstance(data.trigger_source, PushSource) else "a poll"
    return f"evaluated {data.sensor_id} after {woken}: nothing to run"


def _backfill_member(data: e.BackfillCreated) -> BackfillMember:
    return member_of(data, BackfillMember) or BackfillMember()


def _backfill(data: e.BackfillCreated) -> str:
    said = _backfill_member(data)
    of_what = ""
    if said.stale_revision is not None:
        why = f" ({', '.join(said.stale_reasons)})" if said.stale_reasons else ""
        of_what = f", for {said.stale_partitions} that were stale{why} at revision {said.stale_revision}"
    return f"asked for backfill {data.backfill_id} of {data.total_partitions} partition(s){of_what}"


def _chunk_end(data: e.BackfillChunkEnded) -> str:
    missed = [*(data.failed or ()), *(data.skipped or ())]
    not_done = f", not done: {few(missed)}" if missed else ""
    why = "" if data.reason_code is None else f" ({data.reason_code})"
    return f"chunk {data.chunk_index} ended: {data.outcome}{why}, {data.done} partition(s) done{not_done}"


def _sensor_change(data: e.SensorChanged) -> str:
    match data.change:
        case "cursor_set":
            return f"set the cursor of sensor {data.sensor_id} to {data.cursor!r:.120}"
        case "reset":
            return f"reset sensor {data.sensor_id} to no cursor"
    return f"{data.change} sensor {data.sensor_id}"


def _hold(data: e.HoldChanged) -> str:
    return ("held the workspace" if data.held else "ended the hold of the workspace") + (
        "" if data.reason is None else f": {data.reason}"
    )


_ROWS: Final = (
    Telling(e.RunTriggered, lambda d: LAUNCHER, lambda d: f"began run {d.run_id}"),
    Telling(e.PlanCreated, lambda d: LAUNCHER, lambda d: f"planned {len(d.tasks)} task(s)"),
    Telling(e.RunCancelRequested, lambda d: d.requested_by, _cancellation),
    Telling(e.TaskStarted, lambda d: f"worker {d.worker_id}", lambda d: f"began attempt {d.attempt} of {d.task_key}"),
    Telling(
        e.TaskHeartbeat, lambda d: f"worker {d.worker_id}", lambda d: f"attempt {d.attempt} of {d.task_key} is alive"
    ),
    Telling(e.TaskFinished, lambda d: f"worker {d.worker_id}", _end),
    Telling(e.TaskCompletionRecorded, lambda d: f"worker {d.worker_id}", _end),
    Telling(e.TaskOutputVisibilityChanged, lambda d: RUN, _visibility),
    Telling(
        e.DispatchRequested,
        lambda d: RUN,
        lambda d: f"sent attempt {d.attempt} of {d.task_key} to the queue {d.worker_queue}",
    ),
    Telling(e.DispatchEnqueued, lambda d: RUN, lambda d: f"attempt {d.attempt} of {d.task_key} was taken for dispatch"),
    Telling(
        e.TimerRequested,
        lambda d: RUN,
        lambda d: f"wanted to be woken at {d.fire_at} ({d.timer_type}) for {d.task_key or d.timer_id}",
    ),
    Telling(e.TimerEnqueued, lambda d: RUN, lambda d: f"the timer {d.timer_id} is set"),
    Telling(e.TimerFired, lambda d: RUN, lambda d: f"the timer {d.timer_id} has fired"),
    Telling(e.ScheduleDefinitionUpserted, _definer, _definition),
    Telling(e.ScheduleTicked, _ticker, _tick),
    Telling(e.SensorEvaluated, lambda d: SENSORS, _evaluation),
    Telling(e.RunRequested, lambda d: source_text(d.trigger_source_ref), _request),
    Telling(
        e.BackfillCreated,
        lambda d: _backfill_member(d).asked_by or "a user",
        _backfill,
    ),
    Telling(
        e.BackfillChunkPlanned,
        lambda d: BACKFILLS,
        lambda d: f"planned chunk {d.chunk_index}, under the run key {d.run_key}",
    ),
    Telling(
        e.BackfillStateChanged,
        lambda d: d.changed_by or BACKFILLS,
        lambda d: f"moved backfill {d.backfill_id} from {d.from_state} to {d.to_state}",
    ),
    Telling(e.HoldChanged, lambda d: d.changed_by, _hold),
    Telling(e.SensorChanged, lambda d: d.changed_by, _sensor_change),
    Telling(e.SensorMessage, lambda d: "a sender", lambda d: f"sent message {d.message_id} to sensor {d.sensor_id}"),
    Telling(
        e.BackfillChunkEnded,
        lambda d: BACKFILLS,
        _chunk_end,
    ),
    Telling(e.AttemptNoted, lambda d: RUN, lambda d: f"noted of attempt {d.attempt} of {d.task_key}: {d.note}"),
)

TELLINGS: Final[dict[type, Telling]] = e.by_payload(_ROWS)
"""How events are told, by the class of their payload."""
