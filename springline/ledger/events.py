"""The 20 event types of the orchestration ledger and their nested shapes (docs/events.md#event-types).

Each payload is a struct tagged by `type` with its snake_case name; the envelope is in `springline.ledger.envelope`.
Decoding a struct checks types, ranges and inner enums, and passes over fields it does not know
(docs/formats.md#reading-events).

Presence when writing (E notation): an optional field that is None is left out; `labels` and `run_requests` are left
out when empty; the other defaults (`worker_queue`, the numbers of a task definition) are written always.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct, field

U8 = Annotated[int, Meta(ge=0, le=255)]
U32 = Annotated[int, Meta(ge=0, le=4_294_967_295)]
I64 = Annotated[int, Meta(ge=-9_223_372_036_854_775_808, le=9_223_372_036_854_775_807)]
U64 = Annotated[int, Meta(ge=0)]
"""Up to 2**64 - 1. msgspec has no bound that wide: `springline.ledger.envelope` checks it."""

TIMESTAMP_MARK = {"form": "timestamp"}
Timestamp = Annotated[str, Meta(extra=TIMESTAMP_MARK)]
"""RFC 3339 text as it stands in the event; `springline.ledger.timestamps` turns it into nanoseconds."""

TaskOutcome = Literal["succeeded", "failed", "skipped", "cancelled"]
Visibility = Literal["pending", "visible", "failed"]
TimerType = Literal["retry", "heartbeat_check", "cron", "sla_check"]
BackfillState = Literal["PENDING", "RUNNING", "PAUSED", "SUCCEEDED", "FAILED", "CANCELLED"]
OutputVisibility = Literal["PENDING", "VISIBLE", "FAILED"]
ErrorCategory = Literal["USER_CODE", "DATA_QUALITY", "INFRASTRUCTURE", "CONFIGURATION", "TIMEOUT", "CANCELLED"]

DEFAULT_QUEUE = "default-queue"
DEFAULT_MAX_ATTEMPTS = 3
DEFAULT_HEARTBEAT_TIMEOUT_SEC = 300


class _Shape(Struct, omit_defaults=True, gc=False):
    """A nested object."""


# What started a run.


class CronTrigger(_Shape, tag_field="type", tag="cron"):
    """A schedule's tick started the run."""

    schedule_id: str


class ManualTrigger(_Shape, tag_field="type", tag="manual"):
    """A user started the run."""

    user_id: str


class MaterializationTrigger(_Shape, tag_field="type", tag="materialization"):
    """A materialization upstream started the run."""

    upstream_materialization_id: str


class WebhookTrigger(_Shape, tag_field="type", tag="webhook"):
    """A webhook started the run."""

    webhook_id: str


class SensorTrigger(_Shape, tag_field="type", tag="sensor"):
    """A sensor started the run."""

    sensor_id: str
    cursor: str


Trigger = CronTrigger | ManualTrigger | MaterializationTrigger | WebhookTrigger | SensorTrigger


class TaskDefinition(_Shape):
    """One task of a plan."""

    key: str
    depends_on: list[str]
    asset_key: str | None = None
    partition_key: str | None = None
    max_attempts: U32 = field(default_factory=lambda: DEFAULT_MAX_ATTEMPTS)
    heartbeat_timeout_sec: U32 = field(default_factory=lambda: DEFAULT_HEARTBEAT_TIMEOUT_SEC)
    requires_visible_output: bool = field(default_factory=lambda: False)


class TaskOutput(_Shape, rename="camel"):
    """What a task produced."""

    materialization_id: str | None = None
    row_count: U64 | None = None
    byte_size: U64 | None = None
    output_path: str | None = None
    delta_table: str | None = None
    delta_version: I64 | None = None
    delta_partition: str | None = None
    output_visibility_state: OutputVisibility | None = None
    published_at: Timestamp | None = None
    publish_error: str | None = None


class TaskError(_Shape, rename="camel"):
    """Why a task failed."""

    category: ErrorCategory
    message: str
    stack_trace: str | None = None
    retryable: bool | None = None

    @property
    def is_retryable(self) -> bool:
        """Return whether another attempt makes sense: as said, else by category (docs/events.md#nested-shapes)."""
        if self.retryable is not None:
            return self.retryable
        return self.category in ("USER_CODE", "INFRASTRUCTURE", "TIMEOUT")


class TaskMetrics(_Shape, rename="camel"):
    """What a task used."""

    cpu_time_ms: U64 | None = None
    peak_memory_bytes: U64 | None = None
    io_read_bytes: U64 | None = None
    io_write_bytes: U64 | None = None


class CompletionVisibility(_Shape):
    """Visibility of an output as recorded with its completion."""

    visibility_state: Visibility
    published_at: Timestamp | None = None
    publish_error: str | None = None


# States of a tick.


class TickTriggered(_Shape, tag_field="status", tag="triggered"):
    """The tick asked for a run."""


class TickSkipped(_Shape, tag_field="status", tag="skipped"):
    """The tick asked for no run."""

    reason: str


class TickFailed(_Shape, tag_field="status", tag="failed"):
    """The tick could not be evaluated."""

    error: str


TickStatus = TickTriggered | TickSkipped | TickFailed


# Sensors.


class PushSource(_Shape, tag_field="source", tag="push"):
    """A message woke the sensor."""

    message_id: str


class PollSource(_Shape, tag_field="source", tag="poll"):
    """The clock woke the sensor."""

    poll_epoch: I64


TriggerSource = PushSource | PollSource


class EvalTriggered(_Shape, tag_field="status", tag="triggered"):
    """The evaluation asked for runs."""


class EvalNoNewData(_Shape, tag_field="status", tag="no_new_data"):
    """The evaluation found nothing new."""


class EvalError(_Shape, tag_field="status", tag="error"):
    """The evaluation failed."""

    message: str


class EvalSkippedStaleCursor(_Shape, tag_field="status", tag="skipped_stale_cursor"):
    """The evaluation was made on an older state of the sensor."""


EvalStatus = EvalTriggered | EvalNoNewData | EvalError | EvalSkippedStaleCursor


class RunRequest(_Shape):
    """A run that an evaluation asks for."""

    run_key: str
    request_fingerprint: str
    asset_selection: list[str]
    partition_selection: list[str] | None = None
    code_version: str | None = None


# Who asked for a run.


class ScheduleRef(_Shape, tag_field="type", tag="schedule"):
    """A tick of a schedule."""

    schedule_id: str
    tick_id: str


class SensorRef(_Shape, tag_field="type", tag="sensor"):
    """An evaluation of a sensor."""

    sensor_id: str
    eval_id: str


class BackfillRef(_Shape, tag_field="type", tag="backfill"):
    """A chunk of a backfill."""

    backfill_id: str
    chunk_id: str


class ManualRef(_Shape, tag_field="type", tag="manual"):
    """A user's request."""

    user_id: str
    request_id: str


TriggerSourceRef = ScheduleRef | SensorRef | BackfillRef | ManualRef


# What a backfill covers.


class RangeSelector(_Shape, tag_field="type", tag="range"):
    """Partitions from `start` to `end`, both inclusive."""

    start: str
    end: str


class ExplicitSelector(_Shape, tag_field="type", tag="explicit"):
    """The partitions named."""

    partition_keys: list[str]


class FilterSelector(_Shape, tag_field="type", tag="filter"):
    """The partitions whose dimensions match."""

    filters: dict[str, str]


PartitionSelector = RangeSelector | ExplicitSelector | FilterSelector


# The payloads.


class _Payload(Struct, omit_defaults=True, gc=False, tag_field="type"):
    """Payload of an event."""


class RunTriggered(_Payload, tag="run_triggered"):
    """A run exists."""

    run_id: str
    plan_id: str
    trigger: Trigger
    root_assets: list[str]
    run_key: str | None = None
    labels: dict[str, str] = field(default_factory=dict)
    code_version: str | None = None


class PlanCreated(_Payload, tag="plan_created"):
    """A run's tasks are known."""

    run_id: str
    plan_id: str
    tasks: list[TaskDefinition]


class RunCancelRequested(_Payload, tag="run_cancel_requested"):
    """A run is to be cancelled."""

    run_id: str
    requested_by: str
    reason: str | None = None


class TaskStarted(_Payload, tag="task_started"):
    """An attempt of a task runs."""

    run_id: str
    task_key: str
    attempt: U32
    attempt_id: str
    worker_id: str


class TaskHeartbeat(_Payload, tag="task_heartbeat"):
    """An attempt is alive."""

    run_id: str
    task_key: str
    attempt: U32
    attempt_id: str
    worker_id: str
    heartbeat_at: Timestamp | None = None
    progress_pct: U8 | None = None
    message: str | None = None


class TaskFinished(_Payload, tag="task_finished"):
    """An attempt has ended."""

    run_id: str
    task_key: str
    attempt: U32
    attempt_id: str
    worker_id: str
    outcome: TaskOutcome
    materialization_id: str | None = None
    error_message: str | None = None
    output: TaskOutput | None = None
    error: TaskError | None = None
    metrics: TaskMetrics | None = None
    cancelled_during_phase: str | None = None
    partial_progress_json: str | None = None
    asset_key: str | None = None
    partition_key: str | None = None
    code_version: str | None = None


class TaskCompletionRecorded(_Payload, tag="task_completion_recorded"):
    """An attempt has ended, and what is known of its output's visibility."""

    run_id: str
    task_key: str
    attempt: U32
    attempt_id: str
    worker_id: str
    outcome: TaskOutcome
    materialization_id: str | None = None
    error_message: str | None = None
    output: TaskOutput | None = None
    error: TaskError | None = None
    metrics: TaskMetrics | None = None
    cancelled_during_phase: str | None = None
    partial_progress_json: str | None = None
    asset_key: str | None = None
    partition_key: str | None = None
    code_version: str | None = None
    output_visibility: CompletionVisibility | None = None


class TaskOutputVisibilityChanged(_Payload, tag="task_output_visibility_changed"):
    """The output of a succeeded attempt became visible, or never will."""

    run_id: str
    task_key: str
    attempt: U32
    attempt_id: str
    visibility_state: Visibility
    published_at: Timestamp | None = None
    publish_error: str | None = None


class DispatchRequested(_Payload, tag="dispatch_requested"):
    """An attempt is to be sent to a worker."""

    run_id: str
    task_key: str
    attempt: U32
    attempt_id: str
    dispatch_id: str
    worker_queue: str = field(default_factory=lambda: DEFAULT_QUEUE)


class DispatchEnqueued(_Payload, tag="dispatch_enqueued"):
    """An attempt was sent to a worker."""

    dispatch_id: str
    cloud_task_id: str
    run_id: str | None = None
    task_key: str | None = None
    attempt: U32 | None = None


class TimerRequested(_Payload, tag="timer_requested"):
    """A timer is to fire."""

    timer_id: str
    timer_type: TimerType
    fire_at: Timestamp
    run_id: str | None = None
    task_key: str | None = None
    attempt: U32 | None = None


class TimerEnqueued(_Payload, tag="timer_enqueued"):
    """A timer is set."""

    timer_id: str
    cloud_task_id: str
    run_id: str | None = None
    task_key: str | None = None
    attempt: U32 | None = None


class TimerFired(_Payload, tag="timer_fired"):
    """A timer has fired."""

    timer_id: str
    timer_type: TimerType
    run_id: str | None = None
    task_key: str | None = None
    attempt: U32 | None = None


class ScheduleDefinitionUpserted(_Payload, tag="schedule_definition_upserted"):
    """A schedule is defined, or defined anew."""

    schedule_id: str
    cron_expression: str
    timezone: str
    catchup_window_minutes: U32
    max_catchup_ticks: U32
    asset_selection: list[str]
    enabled: bool
    code_version: str | None = None


class ScheduleTicked(_Payload, tag="schedule_ticked"):
    """A schedule's instant was decided on."""

    schedule_id: str
    tick_id: str
    definition_version: str
    scheduled_for: Timestamp
    asset_selection: list[str]
    status: TickStatus
    partition_selection: list[str] | None = None
    run_key: str | None = None
    request_fingerprint: str | None = None


class SensorEvaluated(_Payload, tag="sensor_evaluated"):
    """A sensor was evaluated."""

    sensor_id: str
    eval_id: str
    trigger_source: TriggerSource
    status: EvalStatus
    cursor_before: str | None = None
    cursor_after: str | None = None
    expected_state_version: U32 | None = None
    run_requests: list[RunRequest] = field(default_factory=list)


class RunRequested(_Payload, tag="run_requested"):
    """A run is asked for under a key."""

    run_key: str
    request_fingerprint: str
    asset_selection: list[str]
    trigger_source_ref: TriggerSourceRef
    partition_selection: list[str] | None = None
    labels: dict[str, str] = field(default_factory=dict)
    code_version: str | None = None


class BackfillCreated(_Payload, tag="backfill_created"):
    """A backfill exists."""

    backfill_id: str
    client_request_id: str
    asset_selection: list[str]
    partition_selector: PartitionSelector
    total_partitions: U32
    chunk_size: U32
    max_concurrent_runs: U32
    code_version: str | None = None
    parent_backfill_id: str | None = None


class BackfillChunkPlanned(_Payload, tag="backfill_chunk_planned"):
    """A chunk of a backfill is planned."""

    backfill_id: str
    chunk_id: str
    chunk_index: U32
    partition_keys: list[str]
    run_key: str
    request_fingerprint: str


class BackfillStateChanged(_Payload, tag="backfill_state_changed"):
    """A backfill moved from one state to another."""

    backfill_id: str
    from_state: BackfillState
    to_state: BackfillState
    state_version: U32
    changed_by: str | None = None


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
)

PAYLOAD_TYPES: dict[str, type[Struct]] = {
    str(kind.__struct_config__.tag): kind
    for kind in (
        RunTriggered,
        PlanCreated,
        RunCancelRequested,
        TaskStarted,
        TaskHeartbeat,
        TaskFinished,
        TaskCompletionRecorded,
        TaskOutputVisibilityChanged,
        DispatchRequested,
        DispatchEnqueued,
        TimerRequested,
        TimerEnqueued,
        TimerFired,
        ScheduleDefinitionUpserted,
        ScheduleTicked,
        SensorEvaluated,
        RunRequested,
        BackfillCreated,
        BackfillChunkPlanned,
        BackfillStateChanged,
    )
}
"""`data.type` -> payload class; the class name is the `event_type` of the envelope."""
