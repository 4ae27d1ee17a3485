"""Types in the payloads of events: numbers, instants, and nested objects (docs/events.md#nested-shapes)."""

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
"""RFC 3339 text as in the event; `springline.ledger.timestamps` turns it into nanoseconds."""

ID_MARK = {"form": "id"}
Id = Annotated[str, Meta(extra=ID_MARK)]
"""Id of the subject of an event. Admission refuses an empty one."""
TEXT_MARK = {"form": "text"}
Text = Annotated[str, Meta(extra=TEXT_MARK)]
"""Text that is compared, joined or shown: admission bounds it. Messages and cursors are free, and `str`."""

TaskOutcome = Literal["succeeded", "failed", "skipped", "cancelled"]
Visibility = Literal["pending", "visible", "failed"]
TimerType = Literal["retry", "heartbeat_check", "cron", "sla_check"]
BackfillState = Literal["PENDING", "RUNNING", "PAUSED", "SUCCEEDED", "FAILED", "CANCELLED"]
OutputVisibility = Literal["PENDING", "VISIBLE", "FAILED"]
SensorChange = Literal["paused", "resumed", "reset", "cursor_set"]
ErrorCategory = Literal["USER_CODE", "DATA_QUALITY", "INFRASTRUCTURE", "CONFIGURATION", "TIMEOUT", "CANCELLED"]

DEFAULT_QUEUE = "default-queue"
DEFAULT_MAX_ATTEMPTS = 3
DEFAULT_HEARTBEAT_TIMEOUT_SEC = 300


class _Shape(Struct, omit_defaults=True, gc=False):
    """A nested object."""


# Triggers of a run.


class CronTrigger(_Shape, tag_field="type", tag="cron"):
    """A schedule's tick started the run."""

    schedule_id: Id


class ManualTrigger(_Shape, tag_field="type", tag="manual"):
    """A user started the run."""

    user_id: Text


class MaterializationTrigger(_Shape, tag_field="type", tag="materialization"):
    """A materialization upstream started the run."""

    upstream_materialization_id: Text


class WebhookTrigger(_Shape, tag_field="type", tag="webhook"):
    """A webhook started the run."""

    webhook_id: Text


class SensorTrigger(_Shape, tag_field="type", tag="sensor"):
    """A sensor started the run."""

    sensor_id: Id
    cursor: str


Trigger = CronTrigger | ManualTrigger | MaterializationTrigger | WebhookTrigger | SensorTrigger


class TaskDefinition(_Shape):
    """One task of a plan."""

    key: Id
    depends_on: list[str]
    asset_key: Id | None = None
    partition_key: Text | None = None
    max_attempts: U32 = field(default_factory=lambda: DEFAULT_MAX_ATTEMPTS)
    heartbeat_timeout_sec: U32 = field(default_factory=lambda: DEFAULT_HEARTBEAT_TIMEOUT_SEC)
    requires_visible_output: bool = field(default_factory=lambda: False)


class TaskOutput(_Shape, rename="camel"):
    """The output of a task."""

    materialization_id: Text | None = None
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
        """Return whether another attempt makes sense: if set, else by category (docs/events.md#nested-shapes)."""
        if self.retryable is not None:
            return self.retryable
        return self.category in ("USER_CODE", "INFRASTRUCTURE", "TIMEOUT")


class TaskMetrics(_Shape, rename="camel"):
    """The resources that a task used."""

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

    message_id: Id


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


class EvaluationRun(_Shape):
    """A run that an evaluation asks for."""

    run_key: Id
    request_fingerprint: Text
    asset_selection: list[Text]
    partition_selection: list[Text] | None = None
    code_version: Text | None = None


# Sources of a request for a run.


class ScheduleRef(_Shape, tag_field="type", tag="schedule"):
    """A tick of a schedule."""

    schedule_id: Id
    tick_id: Id


class SensorRef(_Shape, tag_field="type", tag="sensor"):
    """An evaluation of a sensor."""

    sensor_id: Id
    eval_id: Id


class BackfillRef(_Shape, tag_field="type", tag="backfill"):
    """A chunk of a backfill."""

    backfill_id: Id
    chunk_id: Id


class ManualRef(_Shape, tag_field="type", tag="manual"):
    """A user's request."""

    user_id: Text
    request_id: Text


TriggerSourceRef = ScheduleRef | SensorRef | BackfillRef | ManualRef


# Selectors of a backfill's partitions.


class RangeSelector(_Shape, tag_field="type", tag="range"):
    """Partitions from `start` to `end`, both inclusive."""

    start: str
    end: str


class ExplicitSelector(_Shape, tag_field="type", tag="explicit"):
    """The partitions named."""

    partition_keys: list[Text]


class FilterSelector(_Shape, tag_field="type", tag="filter"):
    """The partitions whose dimensions match."""

    filters: dict[str, str]


PartitionSelector = RangeSelector | ExplicitSelector | FilterSelector
