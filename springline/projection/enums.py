"""Which texts the enum columns may hold (docs/formats.md#projection-tables)."""

from __future__ import annotations

from typing import Final

_RUN: Final = frozenset({"TRIGGERED", "RUNNING", "SUCCEEDED", "FAILED", "CANCELLED"})

TASK_RANKS: Final = {
    "PLANNED": 0,
    "BLOCKED": 1,
    "READY": 2,
    "DISPATCHED": 3,
    "RUNNING": 4,
    "RETRY_WAIT": 5,
    "SKIPPED": 10,
    "CANCELLED": 11,
    "FAILED": 12,
    "SUCCEEDED": 13,
}
"""States of a task; of two rows with one stamp the reference keeps the one of higher rank
(docs/protocol.md#overlay)."""

_TASK: Final = frozenset(TASK_RANKS)
_VISIBILITY: Final = frozenset({"PENDING", "VISIBLE", "FAILED"})
_ENDS: Final = frozenset({"SUCCEEDED", "FAILED", "SKIPPED", "CANCELLED"})

ALLOWED: Final[dict[tuple[str, str], frozenset[str]]] = {
    ("runs", "state"): _RUN,
    ("tasks", "state"): _TASK,
    ("tasks", "output_visibility_state"): _VISIBILITY,
    ("catalog_run_index", "run_status"): _RUN,
    ("catalog_run_index", "task_status"): _TASK,
    ("catalog_run_index", "output_visibility_state"): _VISIBILITY,
    ("dep_satisfaction", "resolution"): frozenset({"SUCCESS", "FAILED", "SKIPPED", "CANCELLED"}),
    ("timers", "timer_type"): frozenset({"RETRY", "HEARTBEAT_CHECK", "CRON", "SLA_CHECK"}),
    ("timers", "state"): frozenset({"SCHEDULED", "FIRED", "CANCELLED"}),
    ("dispatch_outbox", "status"): frozenset({"PENDING", "CREATED"}),
    ("sensor_state", "status"): frozenset({"ACTIVE", "PAUSED", "ERROR"}),
    ("partition_status", "last_attempt_outcome"): _ENDS,
    ("backfills", "state"): frozenset({"PENDING", "RUNNING", "PAUSED", "SUCCEEDED", "FAILED", "CANCELLED"}),
    ("backfill_chunks", "state"): frozenset({"PENDING", "PLANNED", "RUNNING", "SUCCEEDED", "FAILED"}),
}
"""Allowed texts by table and column."""

READ_AS: Final[dict[tuple[str, str], dict[str, str]]] = {
    ("dispatch_outbox", "status"): {"ACKED": "CREATED", "FAILED": "CREATED"},
}
"""Texts of old files that mean another one today (docs/formats.md#projection-tables)."""
