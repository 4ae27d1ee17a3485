"""Rows inside the fold: structs whose fields are their table's columns, in order (docs/formats.md#projection-tables).

`RunRow` and `TaskRow` are changed in place, because most events touch one; all others are replaced. Fields are stored
values as in `springline.projection.schema`; `RunRow` and `TaskRow` have fields of their own behind the columns.
None of them takes part in garbage collection: no row refers to another.
"""

from __future__ import annotations

from collections.abc import Sized
from typing import Final

from msgspec import Struct
from msgspec.json import Encoder

from springline.ledger.timestamps import NS_PER_MS, parse_timestamp

NOTHING_PENDING: Final[tuple[str, ...]] = ()


class RunRow(Struct, gc=False):
    """A run (`runs`)."""

    run_id: str
    plan_id: str
    state: str
    run_key: str | None
    cancel_requested: bool
    tasks_total: int
    tasks_completed: int
    tasks_succeeded: int
    tasks_failed: int
    tasks_skipped: int
    tasks_cancelled: int
    triggered_at: int
    completed_at: int | None
    labels: str | None
    code_version: str | None
    row_version: str
    refreshed_at: int | None = None
    """Time of the event that gave `row_version`: the run's catalog rows were all refreshed then."""
    pending: tuple[str, ...] | None = None
    """Keys of tasks stamped since their catalog rows were refreshed; None: unknown, so that all tasks are checked."""


class TaskRow(Struct, gc=False):
    """A task of a run (`tasks`)."""

    run_id: str
    task_key: str
    state: str
    attempt: int
    attempt_id: str | None
    started_at: int | None
    completed_at: int | None
    error_message: str | None
    deps_total: int
    deps_satisfied_count: int
    max_attempts: int
    heartbeat_timeout_sec: int
    last_heartbeat_at: int | None
    ready_at: int | None
    asset_key: str | None
    partition_key: str | None
    requires_visible_output: bool | None
    materialization_id: str | None
    output_visibility_state: str | None
    published_at: int | None
    publish_error: str | None
    retry_not_before: int | None
    delta_table: str | None
    delta_version: int | None
    delta_partition: str | None
    execution_lineage_ref: str | None
    row_version: str
    refreshed_version: str = ""
    """Stamp and time of the last refresh of this task's catalog row, unless the whole run was refreshed since."""
    refreshed_at: int | None = None


class EdgeRow(Struct, gc=False, frozen=True):
    """A dependency of a task (`dep_satisfaction`)."""

    run_id: str
    upstream_task_key: str
    downstream_task_key: str
    satisfied: bool
    resolution: str | None
    satisfied_at: int | None
    satisfying_attempt: int | None
    row_version: str


class TimerRow(Struct, gc=False, frozen=True):
    """A timer (`timers`)."""

    timer_id: str
    cloud_task_id: str | None
    timer_type: str
    run_id: str | None
    task_key: str | None
    attempt: int | None
    fire_at: int
    state: str
    payload: str | None
    row_version: str
    fire_at_below_ms: int | None


class DispatchRow(Struct, gc=False, frozen=True):
    """An attempt to be sent to a worker (`dispatch_outbox`)."""

    run_id: str
    task_key: str
    attempt: int
    dispatch_id: str
    cloud_task_id: str | None
    status: str
    attempt_id: str
    worker_queue: str
    created_at: int
    row_version: str


class SensorRow(Struct, gc=False, frozen=True):
    """The state of a sensor (`sensor_state`)."""

    tenant_id: str
    workspace_id: str
    sensor_id: str
    cursor: str | None
    last_evaluation_at: int | None
    last_eval_id: str | None
    status: str
    state_version: int
    row_version: str


class EvaluationRow(Struct, gc=False, frozen=True):
    """One evaluation of a sensor (`sensor_evals`)."""

    tenant_id: str
    workspace_id: str
    eval_id: str
    sensor_id: str
    cursor_before: str | None
    cursor_after: str | None
    expected_state_version: int | None
    trigger_source: str
    run_requests: str | None
    status: str
    evaluated_at: int
    row_version: str


class RunKeyRow(Struct, gc=False, frozen=True):
    """The run that a run key stands for (`run_key_index`)."""

    tenant_id: str
    workspace_id: str
    run_key: str
    run_id: str
    request_fingerprint: str
    code_version: str | None
    created_at: int
    row_version: str


class ConflictRow(Struct, gc=False, frozen=True):
    """A second request under a run key, with another fingerprint (`run_key_conflicts`)."""

    tenant_id: str
    workspace_id: str
    run_key: str
    existing_fingerprint: str
    conflicting_fingerprint: str
    conflicting_event_id: str
    detected_at: int


class PartitionRow(Struct, gc=False, frozen=True):
    """The status of a partition of an asset (`partition_status`)."""

    tenant_id: str
    workspace_id: str
    asset_key: str
    partition_key: str
    last_materialization_run_id: str | None
    last_materialization_at: int | None
    last_materialization_code_version: str | None
    last_attempt_run_id: str | None
    last_attempt_at: int | None
    last_attempt_outcome: str | None
    stale_since: int | None
    stale_reason_code: str | None
    partition_values: str | None
    delta_table: str | None
    delta_version: int | None
    delta_partition: str | None
    execution_lineage_ref: str | None
    row_version: str


class ScheduleRow(Struct, gc=False, frozen=True):
    """The definition of a schedule (`schedule_definitions`)."""

    tenant_id: str
    workspace_id: str
    schedule_id: str
    cron_expression: str
    timezone: str
    catchup_window_minutes: int
    asset_selection: str | None
    code_version: str | None
    max_catchup_ticks: int
    enabled: bool
    created_at: int
    row_version: str


class ScheduleStateRow(Struct, gc=False, frozen=True):
    """The last tick of a schedule (`schedule_state`)."""

    tenant_id: str
    workspace_id: str
    schedule_id: str
    last_scheduled_for: int | None
    last_tick_id: str | None
    last_run_key: str | None
    row_version: str


class TickRow(Struct, gc=False, frozen=True):
    """The decision for an instant of a schedule (`schedule_ticks`)."""

    tenant_id: str
    workspace_id: str
    tick_id: str
    schedule_id: str
    scheduled_for: int
    definition_version: str
    asset_selection: str | None
    partition_selection: str | None
    status: str
    run_key: str | None
    run_id: str | None
    request_fingerprint: str | None
    row_version: str


class BackfillRow(Struct, gc=False, frozen=True):
    """A backfill (`backfills`)."""

    tenant_id: str
    workspace_id: str
    backfill_id: str
    asset_selection: str
    code_version: str | None
    partition_selector: str
    chunk_size: int
    max_concurrent_runs: int
    state: str
    state_version: int
    total_partitions: int
    planned_chunks: int
    completed_chunks: int
    failed_chunks: int
    parent_backfill_id: str | None
    created_at: int
    row_version: str


class ChunkRow(Struct, gc=False, frozen=True):
    """A chunk of a backfill (`backfill_chunks`)."""

    tenant_id: str
    workspace_id: str
    chunk_id: str
    backfill_id: str
    chunk_index: int
    partition_keys: str
    run_key: str
    run_id: str | None
    state: str
    row_version: str


class OwnRunRow(Struct, gc=False, frozen=True):
    """What a run's events say beyond the reference (`x_runs`)."""

    run_id: str
    request_event_id: str | None
    effects_scope: str | None
    config: str | None
    cancel_reason_code: str | None
    row_version: str


class AttemptRow(Struct, gc=False, frozen=True):
    """An attempt that has ended (`x_attempts`)."""

    run_id: str
    task_key: str
    attempt_id: str
    attempt: int
    outcome: str
    category: str | None
    reason_code: str | None
    error_message: str | None
    worker_id: str
    started_at: int | None
    ended_at: int
    true_started_at: int | None
    true_ended_at: int | None
    tables: str | None
    checks: str | None
    code_version: str | None
    cpu_time_ms: int | None
    peak_memory_bytes: int | None
    row_version: str
    log_chunks: int | None


class NoteRow(Struct, gc=False, frozen=True):
    """A note on an attempt (`x_notes`)."""

    run_id: str
    task_key: str
    attempt_id: str
    note: str
    attempt: int
    detail: str | None
    noted_at: int
    row_version: str


class FirstRequestRow(Struct, gc=False, frozen=True):
    """The first request under a run key (`x_run_keys`)."""

    run_key: str
    run_id: str
    request_fingerprint: str
    requested_at: int
    row_version: str


class DefinitionRow(Struct, gc=False, frozen=True):
    """The current definition of a schedule, or the settings of a backfill (`x_definitions`)."""

    kind: str
    definition_id: str
    defined_at: int
    first_defined_at: int
    code_version: str | None
    settings: str | None
    row_version: str
    decided_to: int | None


class OwnSensorRow(Struct, gc=False, frozen=True):
    """What operators made of a sensor (`x_sensors`)."""

    sensor_id: str
    paused: bool
    cursor: str | None
    cursor_event_id: str | None
    changed_by: str
    changed_at: int
    row_version: str


class MessageRow(Struct, gc=False, frozen=True):
    """A message that waits for its evaluation (`x_messages`)."""

    sensor_id: str
    message_id: str
    payload: str | None
    received_at: int
    row_version: str


class OwnChunkRow(Struct, gc=False, frozen=True):
    """A chunk of a backfill, and how it ended (`x_chunks`)."""

    chunk_id: str
    backfill_id: str
    chunk_index: int
    run_key: str
    partitions: int
    planned_at: int
    outcome: str | None
    done: int | None
    failed: str | None
    skipped: str | None
    keys_path: str | None
    keys_sha256: str | None
    reason_code: str | None
    ended_at: int | None
    row_version: str


class HoldRow(Struct, gc=False, frozen=True):
    """Whether the workspace is held (`x_holds`)."""

    hold_id: str
    held: bool
    reason: str | None
    changed_by: str
    changed_at: int
    row_version: str


class UsedKeyRow(Struct, gc=False, frozen=True):
    """The event that used an idempotency key: the columns that are not equal in all rows, without the key."""

    event_id: str
    event_type: str
    recorded_at: int


_sorted: Final = Encoder(order="sorted")
_as_declared: Final = Encoder()


class _Lineage(Struct, omit_defaults=True, rename="camel", gc=False):
    run_id: str
    task_key: str
    attempt: int
    materialization_id: str | None = None
    delta_table: str | None = None
    delta_version: int | None = None
    delta_partition: str | None = None


def json_text(value: object) -> str:
    """Return a value of an event as canonical JSON text."""
    return _sorted.encode(value).decode()


def json_or_none(value: Sized | None) -> str | None:
    """Return an object or list of an event as canonical JSON text, None if it is absent or empty."""
    return json_text(value) if value else None


def ms_or_none(timestamp: str | None) -> int | None:
    """Return a timestamp of an event in epoch milliseconds, None for None."""
    return None if timestamp is None else parse_timestamp(timestamp) // NS_PER_MS


def lineage_ref(
    run_id: str,
    task_key: str,
    attempt: int,
    materialization_id: str | None,
    delta_table: str | None,
    delta_version: int | None,
    delta_partition: str | None,
) -> str:
    """Return the reference to the execution that produced an output (docs/formats.md#lineage)."""
    lineage = _Lineage(run_id, task_key, attempt, materialization_id, delta_table, delta_version, delta_partition)
    return _as_declared.encode(lineage).decode()
