"""The event types of the orchestration ledger: their payloads, and a row for each (docs/events.md#event-types).

Each payload is a struct tagged by `type` with its snake_case name; the envelope is in `springline.ledger.envelope`.
Decoding a struct checks types, ranges and inner enums, and ignores unknown fields
(docs/formats.md#reading-events).

Presence when writing (E notation): an optional field that is None is left out; `labels` and `run_requests` are left
out when empty; the other defaults (`worker_queue`, the numbers of a task definition) are written always.

A new type is a class here, in `Payload` and in `EVENT_TYPES`; a row of `HANDLERS` in the fold's module of its subject;
and one of `RULES` in admission's. A table that lacks a row cannot be imported.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, Generic, Protocol, TypeVar, get_args

from msgspec import Struct, field

from springline.ledger.identifiers import sha256_hex
from springline.ledger.nested import (
    DEFAULT_QUEUE,
    U8,
    U32,
    BackfillState,
    CompletionVisibility,
    EvalStatus,
    EvaluationRun,
    Id,
    PartitionSelector,
    PushSource,
    SensorChange,
    TaskDefinition,
    TaskError,
    TaskMetrics,
    TaskOutcome,
    TaskOutput,
    Text,
    TickStatus,
    TimerType,
    Timestamp,
    Trigger,
    TriggerSource,
    TriggerSourceRef,
    Visibility,
)
from springline.ledger.timestamps import NS_PER_MS, parse_timestamp


class _Payload(Struct, omit_defaults=True, gc=False, tag_field="type", kw_only=True):
    """Payload of an event. `springline` is what we say beyond the reference's fields (`springline.ledger.member`)."""

    springline: Any = None


class RunTriggered(_Payload, tag="run_triggered"):
    """A run exists."""

    run_id: Id
    plan_id: Id
    trigger: Trigger
    root_assets: list[Text]
    run_key: Id | None = None
    labels: dict[str, str] = field(default_factory=dict)
    code_version: Text | None = None


class PlanCreated(_Payload, tag="plan_created"):
    """A run's tasks are known."""

    run_id: Id
    plan_id: Id
    tasks: list[TaskDefinition]


class RunCancelRequested(_Payload, tag="run_cancel_requested"):
    """The cancellation of a run is requested."""

    run_id: Id
    requested_by: Text
    reason: str | None = None


class TaskStarted(_Payload, tag="task_started"):
    """An attempt of a task runs."""

    run_id: Id
    task_key: Id
    attempt: U32
    attempt_id: Id
    worker_id: Text


class TaskHeartbeat(_Payload, tag="task_heartbeat"):
    """An attempt is alive."""

    run_id: Id
    task_key: Id
    attempt: U32
    attempt_id: Id
    worker_id: Text
    heartbeat_at: Timestamp | None = None
    progress_pct: U8 | None = None
    message: str | None = None


class TaskEnd(_Payload):
    """The common fields of both events that end an attempt."""

    run_id: Id
    task_key: Id
    attempt: U32
    attempt_id: Id
    worker_id: Text
    outcome: TaskOutcome
    materialization_id: Text | None = None
    error_message: str | None = None
    output: TaskOutput | None = None
    error: TaskError | None = None
    metrics: TaskMetrics | None = None
    cancelled_during_phase: str | None = None
    partial_progress_json: str | None = None
    asset_key: Id | None = None
    partition_key: Text | None = None
    code_version: Text | None = None


class TaskFinished(TaskEnd, tag="task_finished"):
    """An attempt has ended."""


class TaskCompletionRecorded(TaskEnd, tag="task_completion_recorded"):
    """An attempt has ended, with the visibility of its output if known."""

    output_visibility: CompletionVisibility | None = None


class TaskOutputVisibilityChanged(_Payload, tag="task_output_visibility_changed"):
    """The output of a succeeded attempt became visible, or never will."""

    run_id: Id
    task_key: Id
    attempt: U32
    attempt_id: Id
    visibility_state: Visibility
    published_at: Timestamp | None = None
    publish_error: str | None = None


class DispatchRequested(_Payload, tag="dispatch_requested"):
    """An attempt is to be sent to a worker."""

    run_id: Id
    task_key: Id
    attempt: U32
    attempt_id: Id
    dispatch_id: Id
    worker_queue: Text = field(default_factory=lambda: DEFAULT_QUEUE)


class DispatchEnqueued(_Payload, tag="dispatch_enqueued"):
    """An attempt was sent to a worker."""

    dispatch_id: Id
    cloud_task_id: Text
    run_id: Id | None = None
    task_key: Id | None = None
    attempt: U32 | None = None


class TimerRequested(_Payload, tag="timer_requested"):
    """A timer is to fire."""

    timer_id: Id
    timer_type: TimerType
    fire_at: Timestamp
    run_id: Id | None = None
    task_key: Id | None = None
    attempt: U32 | None = None


class TimerEnqueued(_Payload, tag="timer_enqueued"):
    """A timer is set."""

    timer_id: Id
    cloud_task_id: Text
    run_id: Id | None = None
    task_key: Id | None = None
    attempt: U32 | None = None


class TimerFired(_Payload, tag="timer_fired"):
    """A timer has fired."""

    timer_id: Id
    timer_type: TimerType
    run_id: Id | None = None
    task_key: Id | None = None
    attempt: U32 | None = None


class ScheduleDefinitionUpserted(_Payload, tag="schedule_definition_upserted"):
    """A schedule is defined or redefined."""

    schedule_id: Id
    cron_expression: Text
    timezone: Text
    catchup_window_minutes: U32
    max_catchup_ticks: U32
    asset_selection: list[Text]
    enabled: bool
    code_version: Text | None = None


class ScheduleTicked(_Payload, tag="schedule_ticked"):
    """A schedule's instant was decided on."""

    schedule_id: Id
    tick_id: Id
    definition_version: Text
    scheduled_for: Timestamp
    asset_selection: list[Text]
    status: TickStatus
    partition_selection: list[Text] | None = None
    run_key: Id | None = None
    request_fingerprint: Text | None = None


class SensorEvaluated(_Payload, tag="sensor_evaluated"):
    """A sensor was evaluated."""

    sensor_id: Id
    eval_id: Id
    trigger_source: TriggerSource
    status: EvalStatus
    cursor_before: str | None = None
    cursor_after: str | None = None
    expected_state_version: U32 | None = None
    run_requests: list[EvaluationRun] = field(default_factory=list)


class RunRequested(_Payload, tag="run_requested"):
    """A run is requested under a key."""

    run_key: Id
    request_fingerprint: Text
    asset_selection: list[Text]
    trigger_source_ref: TriggerSourceRef
    partition_selection: list[Text] | None = None
    labels: dict[str, str] = field(default_factory=dict)
    code_version: Text | None = None


class BackfillCreated(_Payload, tag="backfill_created"):
    """A backfill exists."""

    backfill_id: Id
    client_request_id: Id
    asset_selection: list[Text]
    partition_selector: PartitionSelector
    total_partitions: U32
    chunk_size: U32
    max_concurrent_runs: U32
    code_version: Text | None = None
    parent_backfill_id: Id | None = None


class BackfillChunkPlanned(_Payload, tag="backfill_chunk_planned"):
    """A chunk of a backfill is planned."""

    backfill_id: Id
    chunk_id: Id
    chunk_index: U32
    partition_keys: list[Text]
    run_key: Id
    request_fingerprint: Text


class BackfillStateChanged(_Payload, tag="backfill_state_changed"):
    """A backfill moved from one state to another."""

    backfill_id: Id
    from_state: BackfillState
    to_state: BackfillState
    state_version: U32
    changed_by: Text | None = None


# Types of our own (docs/events.md#what-is-ours). The reference keeps their events and folds nothing of them.


class HoldChanged(_Payload, tag="springline_hold_changed"):
    """The workspace is held from here on: nothing new is decided or dispatched; or it is no longer."""

    change_id: Id
    held: bool
    changed_by: Text
    reason: str | None = None


class SensorChanged(_Payload, tag="springline_sensor_changed"):
    """An operator paused or resumed a sensor, reset it to no cursor, or set its cursor."""

    sensor_id: Id
    change_id: Id
    change: SensorChange
    changed_by: Text
    cursor: str | None = None


class SensorMessage(_Payload, tag="springline_sensor_message"):
    """A message was pushed to a sensor, which has not been evaluated yet."""

    sensor_id: Id
    message_id: Id
    payload: Any = None


class BackfillChunkEnded(_Payload, tag="springline_backfill_chunk_ended"):
    """A chunk of a backfill ended: how many partitions are done, and which are not.

    Where the lists of keys are long, they are in an object, named by path and SHA-256.
    """

    backfill_id: Id
    chunk_id: Id
    chunk_index: U32
    outcome: TaskOutcome
    done: U32
    failed: list[Text] | None = None
    skipped: list[Text] | None = None
    keys_path: Text | None = None
    keys_sha256: Id | None = None
    reason_code: Id | None = None


class AttemptNoted(_Payload, tag="springline_attempt_noted"):
    """Something happened to an attempt that the reference's events cannot say; `note` says what, `detail` more."""

    run_id: Id
    task_key: Id
    attempt: U32
    attempt_id: Id
    note: Id
    detail: Any = None


Payload = (
    RunTriggered
    | PlanCreated
    | RunCancelRequested
    | TaskStarted
    | TaskHeartbeat
    | TaskFinished
    | TaskCompletionRecorded
    | TaskOutputVisibilityChanged
    | DispatchRequested
    | DispatchEnqueued
    | TimerRequested
    | TimerEnqueued
    | TimerFired
    | ScheduleDefinitionUpserted
    | ScheduleTicked
    | SensorEvaluated
    | RunRequested
    | BackfillCreated
    | BackfillChunkPlanned
    | BackfillStateChanged
    | HoldChanged
    | SensorChanged
    | SensorMessage
    | BackfillChunkEnded
    | AttemptNoted
)
"""Every type's payload. `EVENT_TYPES` has a row for each."""

# The table of event types.

P = TypeVar("P", bound=_Payload)


class Owner(Enum):
    """The run that an event belongs to; a rebuild folds it with the other events of that run."""

    RUN = "run"
    """The run in its `run_id`; it refreshes that run's catalog rows."""
    DISPATCH = "dispatch"
    """The run in its `run_id`, else the one that its `dispatch_id` names."""
    TIMER = "timer"
    """The run that its `timer_id` names."""
    NOBODY = "nobody"
    """No run."""


@dataclass(frozen=True, slots=True)
class EventType(Generic[P]):
    """One type of event: its row in the ledger's table.

    `springline.projection.fold` and `springline.control.admission` also have a row for each type: what its events do,
    and when they are admitted.

    Args:
        payload: its class. `data.type` in the event is the class's tag, `event_type` in the envelope its name.
        prefix: the prefix of idempotency keys derived from its payloads (docs/formats.md#event-keys).
        key: returns the part of such a key behind `prefix:`, given a payload.
        owner: the run that its events belong to (docs/protocol.md#rebuild).
        key_names: of what the id is that stands first in `key`; a key that names another run than `owner` is odd.
        is_ours: the reference does not know the type: its events change tables of our own only.
    """

    payload: type[P]
    prefix: str
    key: Callable[[P], str]
    owner: Owner
    key_names: Owner
    is_ours: bool = False

    @property
    def tag(self) -> str:
        """The value of `data.type`."""
        return str(self.payload.__struct_config__.tag)


def _attempt(data: TaskStarted | TaskHeartbeat | TaskEnd | TaskOutputVisibilityChanged | AttemptNoted) -> str:
    return f"{data.run_id}:{data.task_key}:{data.attempt}"


def _heartbeat(data: TaskHeartbeat) -> str:
    beat = "" if data.heartbeat_at is None else f":{parse_timestamp(data.heartbeat_at) // NS_PER_MS}"
    return f"{_attempt(data)}:{data.attempt_id}{beat}"


def _definition(data: ScheduleDefinitionUpserted) -> str:
    parts = (
        data.cron_expression,
        data.timezone,
        str(data.catchup_window_minutes),
        str(data.max_catchup_ticks),
        "true" if data.enabled else "false",
        ",".join(sorted(data.asset_selection)),
    )
    return f"{data.schedule_id}:{sha256_hex('|'.join(parts))}"


def _evaluation(data: SensorEvaluated) -> str:
    source = data.trigger_source
    if isinstance(source, PushSource):
        return f"{data.sensor_id}:msg:{source.message_id}"
    cursor = "none" if data.cursor_before is None else sha256_hex(data.cursor_before)
    return f"{data.sensor_id}:poll:{source.poll_epoch}:{cursor}"


_RUN, _DISPATCH, _TIMER, _NOBODY = Owner
_ROWS: Final = (
    EventType(RunTriggered, "run", lambda p: p.run_id if p.run_key is None else p.run_key, _RUN, _NOBODY),
    EventType(PlanCreated, "plan", lambda p: p.run_id, _RUN, _RUN),
    EventType(RunCancelRequested, "cancel_req", lambda p: p.run_id, _RUN, _RUN),
    EventType(TaskStarted, "started", _attempt, _RUN, _RUN),
    EventType(TaskHeartbeat, "heartbeat", _heartbeat, _RUN, _RUN),
    EventType(TaskFinished, "finished", _attempt, _RUN, _RUN),
    EventType(TaskCompletionRecorded, "finished", _attempt, _RUN, _RUN),
    EventType(
        TaskOutputVisibilityChanged, "output_visibility", lambda p: f"{_attempt(p)}:{p.visibility_state}", _RUN, _RUN
    ),
    EventType(DispatchRequested, "dispatch_req", lambda p: p.dispatch_id, _RUN, _DISPATCH),
    EventType(DispatchEnqueued, "dispatch_ack", lambda p: p.dispatch_id, _DISPATCH, _DISPATCH),
    EventType(TimerRequested, "timer_req", lambda p: p.timer_id, _TIMER, _TIMER),
    EventType(TimerEnqueued, "timer_ack", lambda p: p.timer_id, _TIMER, _TIMER),
    EventType(TimerFired, "timer_fired", lambda p: p.timer_id, _TIMER, _TIMER),
    EventType(ScheduleDefinitionUpserted, "sched_def", _definition, _NOBODY, _NOBODY),
    EventType(ScheduleTicked, "sched_tick", lambda p: p.tick_id, _NOBODY, _NOBODY),
    EventType(SensorEvaluated, "sensor_eval", _evaluation, _NOBODY, _NOBODY),
    EventType(RunRequested, "runreq", lambda p: f"{p.run_key}:{sha256_hex(p.request_fingerprint)}", _NOBODY, _NOBODY),
    EventType(BackfillCreated, "backfill_create", lambda p: p.client_request_id, _NOBODY, _NOBODY),
    EventType(BackfillChunkPlanned, "backfill_chunk", lambda p: f"{p.backfill_id}:{p.chunk_index}", _NOBODY, _NOBODY),
    EventType(
        BackfillStateChanged,
        "backfill_state",
        lambda p: f"{p.backfill_id}:{p.state_version}:{p.to_state}",
        _NOBODY,
        _NOBODY,
    ),
    EventType(HoldChanged, "springline_hold", lambda p: p.change_id, _NOBODY, _NOBODY, is_ours=True),
    EventType(
        SensorChanged, "springline_sensor", lambda p: f"{p.sensor_id}:{p.change_id}", _NOBODY, _NOBODY, is_ours=True
    ),
    EventType(
        SensorMessage, "springline_message", lambda p: f"{p.sensor_id}:{p.message_id}", _NOBODY, _NOBODY, is_ours=True
    ),
    EventType(
        BackfillChunkEnded,
        "springline_chunk",
        lambda p: f"{p.backfill_id}:{p.chunk_index}",
        _NOBODY,
        _NOBODY,
        is_ours=True,
    ),
    EventType(
        AttemptNoted,
        "springline_attempt",
        lambda p: f"{_attempt(p)}:{p.attempt_id}:{p.note}",
        _RUN,
        _RUN,
        is_ours=True,
    ),
)


class _HasPayload(Protocol):
    @property
    def payload(self) -> type[Any]: ...


RowT = TypeVar("RowT", bound=_HasPayload)


def by_payload(rows: Iterable[RowT]) -> dict[type, RowT]:
    """Return rows of a table by payload class.

    Raises `TypeError` unless the table has exactly one row for each event type.
    """
    table: dict[type, RowT] = {}
    for row in rows:
        if table.setdefault(row.payload, row) is not row:
            raise TypeError(f"{row.payload.__name__} has two rows, {table[row.payload]!r} and {row!r}: remove one")
    types = set(get_args(Payload))
    for kind in sorted(types ^ table.keys(), key=lambda kind: str(kind.__name__)):
        problem = "is no type of `Payload`" if kind in table else "has no row: add one"
        raise TypeError(f"{kind.__name__} {problem}; there are rows for {', '.join(one.__name__ for one in table)}")
    return table


EVENT_TYPES: Final[dict[type, EventType[Any]]] = by_payload(_ROWS)
"""Every type of event, by the class of its payload."""

PAYLOAD_TYPES: Final[dict[str, type[_Payload]]] = {row.tag: row.payload for row in EVENT_TYPES.values()}
"""The class of a payload by its `data.type`."""

KEY_PREFIXES: Final = frozenset(row.prefix for row in EVENT_TYPES.values())
"""The prefixes, before a colon, of keys derived from a payload."""

_LEGACY_TYPES: Final = {
    row.prefix: row.payload.__name__
    for row in reversed(EVENT_TYPES.values())
    if row.payload is not TaskOutputVisibilityChanged and not row.is_ours
}


def derived_key(payload: Payload) -> str:
    """Return the idempotency key that a writer gives to an event with this payload."""
    row = EVENT_TYPES[type(payload)]
    return f"{row.prefix}:{row.key(payload)}"


def correlation_of(payload: Payload) -> str | None:
    """Return the correlation id of an event with this payload: its `run_id`, or None if it names none.

    See docs/formats.md#correlation.
    """
    run_id: str | None = getattr(payload, "run_id", None)
    return run_id


def event_type_of_legacy_key(key: str) -> str:
    """Guess the `event_type` from a key, for old rows that lack the column; `LegacyUnknown` if it cannot."""
    return _LEGACY_TYPES.get(key.split(":", 1)[0], "LegacyUnknown")
