"""The projection tables: columns in file order, physical types, keys, enums (docs/formats.md#projection-tables).

Seventeen are the reference's, and fold to the same rows there. Those whose names begin with `x_` are ours
(docs/events.md#what-is-ours).

A row is kept, written and digested as a tuple of *stored values*, one per column and in its order:

    STR        str                      U32, I64   int
    MS         int, epoch milliseconds  BOOL       bool
    JSON       str, canonical JSON text (keys sorted, no spaces)

A nullable column may hold None. Enum values are in the files' spelling (SCREAMING_SNAKE_CASE).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from operator import itemgetter
from typing import Final

Value = str | int | bool | None
Row = tuple[Value, ...]
"""Stored values of one row, in the order of its table's columns."""
Key = str | tuple[str, ...]
"""Key of a row: text, or a tuple of texts where the key has several columns."""


class Kind(Enum):
    """Physical type of a column."""

    STR = "string"
    U32 = "uint32"
    I64 = "int64"
    BOOL = "bool"
    MS = "int64 milliseconds"
    JSON = "string with JSON"


@dataclass(frozen=True, slots=True)
class Column:
    """One column. `required_to_read`: a file without it is refused (docs/formats.md#projection-tables: columns not
    marked opt-read).
    """

    name: str
    kind: Kind
    nullable: bool
    required_to_read: bool
    lower_in_golden: bool = False
    """Golden rows and digests spell this enum as events do, in lower case (docs/formats.md#golden-form)."""
    internal: bool = False
    """Ours: the reference ignores it, and golden rows and digests leave it out."""


@dataclass(frozen=True, slots=True)
class Table:
    """One table. `key`: names of its key columns, in order; rows are sorted by them, bytewise.

    `key_of` returns the key of a row.
    """

    name: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    key_of: Callable[[Row], Key] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "key_of", itemgetter(*(self.index(name) for name in self.key)))

    def index(self, column: str) -> int:
        """Return the position of a column. Raises `KeyError` for an unknown name."""
        for position, one in enumerate(self.columns):
            if one.name == column:
                return position
        raise KeyError(column)


_KINDS: Final = {"s": Kind.STR, "u": Kind.U32, "i": Kind.I64, "b": Kind.BOOL, "t": Kind.MS, "j": Kind.JSON}


def _table(name: str, key: str, columns: str) -> Table:
    """Read `name:kind` with kind one of s u i b t j, then `?` nullable, `~` may be missing, `_` lower, `+` ours."""
    parsed = []
    for text in columns.split():
        column, _, kind = text.partition(":")
        flags = kind[1:]
        parsed.append(
            Column(
                column,
                _KINDS[kind[0]],
                nullable="?" in flags,
                required_to_read="~" not in flags,
                lower_in_golden="_" in flags,
                internal="+" in flags,
            )
        )
    return Table(name, tuple(parsed), tuple(key.split()))


RUNS: Final = _table(
    "runs",
    "run_id",
    "run_id:s plan_id:s state:s run_key:s?~ cancel_requested:b~ tasks_total:u tasks_completed:u tasks_succeeded:u "
    "tasks_failed:u tasks_skipped:u tasks_cancelled:u triggered_at:t completed_at:t? labels:j?~ code_version:s?~ "
    "row_version:s",
)
TASKS: Final = _table(
    "tasks",
    "run_id task_key",
    "run_id:s task_key:s state:s attempt:u attempt_id:s? started_at:t?~ completed_at:t?~ error_message:s?~ "
    "deps_total:u deps_satisfied_count:u max_attempts:u heartbeat_timeout_sec:u last_heartbeat_at:t? ready_at:t? "
    "asset_key:s?~ partition_key:s?~ requires_visible_output:b?~ materialization_id:s?~ "
    "output_visibility_state:s?~_ published_at:t?~ publish_error:s?~ retry_not_before:t?~ delta_table:s?~ "
    "delta_version:i?~ delta_partition:s?~ execution_lineage_ref:s?~ row_version:s",
)
CATALOG_RUN_INDEX: Final = _table(
    "catalog_run_index",
    "org_id workspace_id run_id task_key",
    "schema_version:u org_id:s workspace_id:s run_id:s task_key:s plan_id:s run_key:s? kind:s? reference_id:s? "
    "source_type:s? run_status:s cancel_requested:b task_status:s asset_key:s? target_namespace:s? target_table:s? "
    "partition_key:s? attempt:u attempt_id:s? requires_visible_output:b materialization_id:s? "
    "output_visibility_state:s?_ published_at:t? publish_error:s? delta_table:s? delta_version:i? "
    "delta_partition:s? execution_lineage_ref:s? started_at:t? last_heartbeat_at:t? triggered_at:t completed_at:t? "
    "updated_at:t code_version:s? error_message:s? row_version:s",
)
DEP_SATISFACTION: Final = _table(
    "dep_satisfaction",
    "run_id upstream_task_key downstream_task_key",
    "run_id:s upstream_task_key:s downstream_task_key:s satisfied:b resolution:s? satisfied_at:t? "
    "satisfying_attempt:u? row_version:s",
)
TIMERS: Final = _table(
    "timers",
    "timer_id",
    "timer_id:s cloud_task_id:s? timer_type:s run_id:s? task_key:s? attempt:u? fire_at:t state:s payload:s? "
    "row_version:s fire_at_below_ms:u?~+",
)
"""`fire_at_below_ms`: the nanoseconds that `fire_at` leaves out, null for none; whether a repeated request changes
anything is decided on them, and must not depend on where batches end (docs/events.md#w31)."""
DISPATCH_OUTBOX: Final = _table(
    "dispatch_outbox",
    "dispatch_id",
    "run_id:s task_key:s attempt:u dispatch_id:s cloud_task_id:s? status:s attempt_id:s worker_queue:s created_at:t "
    "row_version:s",
)
SENSOR_STATE: Final = _table(
    "sensor_state",
    "sensor_id",
    "tenant_id:s workspace_id:s sensor_id:s cursor:s? last_evaluation_at:t?~ last_eval_id:s? status:s "
    "state_version:u row_version:s",
)
SENSOR_EVALS: Final = _table(
    "sensor_evals",
    "eval_id",
    "tenant_id:s workspace_id:s eval_id:s sensor_id:s cursor_before:s? cursor_after:s? expected_state_version:u? "
    "trigger_source:j run_requests:j?~ status:j evaluated_at:t row_version:s",
)
RUN_KEY_INDEX: Final = _table(
    "run_key_index",
    "run_key",
    "tenant_id:s workspace_id:s run_key:s run_id:s request_fingerprint:s code_version:s?~ created_at:t row_version:s",
)
RUN_KEY_CONFLICTS: Final = _table(
    "run_key_conflicts",
    "run_key conflicting_event_id",
    "tenant_id:s workspace_id:s run_key:s existing_fingerprint:s conflicting_fingerprint:s conflicting_event_id:s "
    "detected_at:t",
)
PARTITION_STATUS: Final = _table(
    "partition_status",
    "asset_key partition_key",
    "tenant_id:s workspace_id:s asset_key:s partition_key:s last_materialization_run_id:s?~ "
    "last_materialization_at:t?~ last_materialization_code_version:s?~ last_attempt_run_id:s?~ last_attempt_at:t?~ "
    "last_attempt_outcome:s?~_ stale_since:t?~ stale_reason_code:s?~ partition_values:j?~ delta_table:s?~ "
    "delta_version:i?~ delta_partition:s?~ execution_lineage_ref:s?~ row_version:s",
)
IDEMPOTENCY_KEYS: Final = _table(
    "idempotency_keys",
    "idempotency_key",
    "tenant_id:s workspace_id:s idempotency_key:s event_id:s event_type:s~ recorded_at:t row_version:s",
)
SCHEDULE_DEFINITIONS: Final = _table(
    "schedule_definitions",
    "schedule_id",
    "tenant_id:s workspace_id:s schedule_id:s cron_expression:s timezone:s catchup_window_minutes:u "
    "asset_selection:j?~ code_version:s?~ max_catchup_ticks:u enabled:b created_at:t row_version:s",
)
SCHEDULE_STATE: Final = _table(
    "schedule_state",
    "schedule_id",
    "tenant_id:s workspace_id:s schedule_id:s last_scheduled_for:t?~ last_tick_id:s?~ last_run_key:s?~ row_version:s",
)
SCHEDULE_TICKS: Final = _table(
    "schedule_ticks",
    "tick_id",
    "tenant_id:s workspace_id:s tick_id:s schedule_id:s scheduled_for:t definition_version:s asset_selection:j?~ "
    "partition_selection:j?~ status:j run_key:s?~ run_id:s?~ request_fingerprint:s?~ row_version:s",
)
BACKFILLS: Final = _table(
    "backfills",
    "backfill_id",
    "tenant_id:s workspace_id:s backfill_id:s asset_selection:j code_version:s?~ partition_selector:j chunk_size:u "
    "max_concurrent_runs:u state:s state_version:u total_partitions:u planned_chunks:u completed_chunks:u "
    "failed_chunks:u parent_backfill_id:s?~ created_at:t row_version:s",
)
BACKFILL_CHUNKS: Final = _table(
    "backfill_chunks",
    "chunk_id",
    "tenant_id:s workspace_id:s chunk_id:s backfill_id:s chunk_index:u partition_keys:j run_key:s run_id:s?~ state:s "
    "row_version:s",
)

REFERENCE_TABLES: Final[dict[str, Table]] = {
    table.name: table
    for table in (
        RUNS,
        TASKS,
        CATALOG_RUN_INDEX,
        DEP_SATISFACTION,
        TIMERS,
        DISPATCH_OUTBOX,
        SENSOR_STATE,
        SENSOR_EVALS,
        RUN_KEY_INDEX,
        RUN_KEY_CONFLICTS,
        PARTITION_STATUS,
        IDEMPOTENCY_KEYS,
        SCHEDULE_DEFINITIONS,
        SCHEDULE_STATE,
        SCHEDULE_TICKS,
        BACKFILLS,
        BACKFILL_CHUNKS,
    )
}
"""The 17 tables of the reference by name, in the order in which they are written and shown."""

# Tables of our own. Every column is required: no other writer has ever left one out.

X_RUNS: Final = _table(
    "x_runs",
    "run_id",
    "run_id:s request_event_id:s? effects_scope:s? config:j? cancel_reason_code:s? row_version:s",
)
"""What a run's own events say in their member `springline`; a run without any has no row."""
X_ATTEMPTS: Final = _table(
    "x_attempts",
    "run_id task_key attempt_id",
    "run_id:s task_key:s attempt_id:s attempt:u outcome:s_ category:s? reason_code:s? error_message:s? worker_id:s "
    "started_at:t? ended_at:t true_started_at:t? true_ended_at:t? tables:j? checks:j? code_version:s? cpu_time_ms:i? "
    "peak_memory_bytes:i? row_version:s log_chunks:u?~+",
)
"""Every attempt that has ended; `tasks` has the last one only.

`log_chunks`: how many chunks its log has, by the worker that ended it; null where nobody has said it."""
X_NOTES: Final = _table(
    "x_notes",
    "run_id task_key attempt_id note",
    "run_id:s task_key:s attempt_id:s note:s attempt:u detail:j? noted_at:t row_version:s",
)
"""What happened to attempts beyond their ends."""
X_RUN_KEYS: Final = _table(
    "x_run_keys",
    "run_key",
    "run_key:s run_id:s request_fingerprint:s requested_at:t row_version:s",
)
"""The first request under each run key. Retention never removes one."""
X_DEFINITIONS: Final = _table(
    "x_definitions",
    "kind definition_id",
    "kind:s definition_id:s defined_at:t first_defined_at:t code_version:s? settings:j? row_version:s decided_to:t?~+",
)
"""The current definition of each schedule, and the settings of each backfill, with what the reference cannot say.
Retention never removes one.

`decided_to`: the greatest instant that a tick stands for, manual ones apart; null where no tick came since the
column is there."""
X_SENSORS: Final = _table(
    "x_sensors",
    "sensor_id",
    "sensor_id:s paused:b cursor:s? cursor_event_id:s? changed_by:s changed_at:t row_version:s",
)
"""What operators made of a sensor; its cursor counts if `cursor_event_id` lies above the last evaluation."""
X_MESSAGES: Final = _table(
    "x_messages",
    "sensor_id message_id",
    "sensor_id:s message_id:s payload:j? received_at:t row_version:s",
)
"""Messages that wait for their evaluation."""
X_CHUNKS: Final = _table(
    "x_chunks",
    "chunk_id",
    "chunk_id:s backfill_id:s chunk_index:u run_key:s partitions:u planned_at:t outcome:s?_ done:u? failed:j? "
    "skipped:j? keys_path:s? keys_sha256:s? reason_code:s? ended_at:t? row_version:s",
)
"""Chunks of backfills and how they ended. Retention never removes one."""
X_HOLDS: Final = _table(
    "x_holds",
    "hold_id",
    "hold_id:s held:b reason:s? changed_by:s changed_at:t row_version:s",
)
"""Whether the workspace is held."""
X_KEYS: Final = _table(
    "x_keys",
    "idempotency_key",
    "tenant_id:s workspace_id:s idempotency_key:s event_id:s event_type:s recorded_at:t row_version:s",
)
"""Keys that events of our own types have used: the reference records none for a type that it does not know."""

OWN_TABLES: Final[dict[str, Table]] = {
    table.name: table
    for table in (
        X_RUNS,
        X_ATTEMPTS,
        X_NOTES,
        X_RUN_KEYS,
        X_DEFINITIONS,
        X_SENSORS,
        X_MESSAGES,
        X_CHUNKS,
        X_HOLDS,
        X_KEYS,
    )
}
"""The tables of our own by name, in the order in which they are written and shown."""

TABLES: Final[dict[str, Table]] = REFERENCE_TABLES | OWN_TABLES
"""All tables by name: first the reference's."""

# Values of the enum columns.

TRIGGERED: Final = "TRIGGERED"
RUNNING: Final = "RUNNING"
BLOCKED: Final = "BLOCKED"
READY: Final = "READY"
DISPATCHED: Final = "DISPATCHED"
RETRY_WAIT: Final = "RETRY_WAIT"
SKIPPED: Final = "SKIPPED"
CANCELLED: Final = "CANCELLED"
FAILED: Final = "FAILED"
SUCCEEDED: Final = "SUCCEEDED"

FINISHED_RUN: Final = frozenset({SUCCEEDED, FAILED, CANCELLED})
"""Terminal states of a run."""
OPEN_RUN: Final = frozenset({TRIGGERED, RUNNING})
"""All others."""
FINISHED_TASK: Final = frozenset({SUCCEEDED, FAILED, SKIPPED, CANCELLED})
"""Terminal states of a task."""

SUCCESS: Final = "SUCCESS"
"""Resolution of an edge whose upstream succeeded; the others are the upstream's state."""

PENDING: Final = "PENDING"
CREATED: Final = "CREATED"

SCHEDULED: Final = "SCHEDULED"
FIRED: Final = "FIRED"

WORKSPACE_HOLD: Final = "workspace"
"""The id of the one hold that there is."""
SCHEDULE: Final = "schedule"
"""The kind of definition that a schedule is."""
BACKFILL: Final = "backfill"
"""And that the settings of a backfill are."""

_RUN: Final = FINISHED_RUN | OPEN_RUN

TASK_RANKS: Final = {
    "PLANNED": 0,
    BLOCKED: 1,
    READY: 2,
    DISPATCHED: 3,
    RUNNING: 4,
    RETRY_WAIT: 5,
    SKIPPED: 10,
    CANCELLED: 11,
    FAILED: 12,
    SUCCEEDED: 13,
}
"""States of a task; of two rows with one stamp the reference keeps the one of higher rank
(docs/protocol.md#overlay)."""

_TASK: Final = frozenset(TASK_RANKS)
_VISIBILITY: Final = frozenset({"PENDING", "VISIBLE", "FAILED"})

ALLOWED: Final[dict[tuple[str, str], frozenset[str]]] = {
    ("runs", "state"): _RUN,
    ("tasks", "state"): _TASK,
    ("tasks", "output_visibility_state"): _VISIBILITY,
    ("catalog_run_index", "run_status"): _RUN,
    ("catalog_run_index", "task_status"): _TASK,
    ("catalog_run_index", "output_visibility_state"): _VISIBILITY,
    ("dep_satisfaction", "resolution"): frozenset({SUCCESS, FAILED, SKIPPED, CANCELLED}),
    ("timers", "timer_type"): frozenset({"RETRY", "HEARTBEAT_CHECK", "CRON", "SLA_CHECK"}),
    ("timers", "state"): frozenset({SCHEDULED, FIRED, CANCELLED}),
    ("dispatch_outbox", "status"): frozenset({PENDING, CREATED}),
    ("sensor_state", "status"): frozenset({"ACTIVE", "PAUSED", "ERROR"}),
    ("partition_status", "last_attempt_outcome"): FINISHED_TASK,
    ("backfills", "state"): frozenset({"PENDING", "RUNNING", "PAUSED", "SUCCEEDED", "FAILED", "CANCELLED"}),
    ("backfill_chunks", "state"): frozenset({"PENDING", "PLANNED", "RUNNING", "SUCCEEDED", "FAILED"}),
    ("x_attempts", "outcome"): FINISHED_TASK,
    ("x_chunks", "outcome"): FINISHED_TASK,
}
"""Allowed texts by table and column."""

READ_AS: Final[dict[tuple[str, str], dict[str, str]]] = {
    ("dispatch_outbox", "status"): {"ACKED": "CREATED", "FAILED": "CREATED"},
}
"""Texts of old files, and today's texts for them (docs/formats.md#projection-tables)."""
