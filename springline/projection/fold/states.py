"""States of runs, tasks and their satellites, as they are stored (docs/formats.md#projection-tables)."""

from __future__ import annotations

from typing import Final

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

FINISHED_TASK: Final = frozenset({SUCCEEDED, FAILED, SKIPPED, CANCELLED})
"""Terminal states of a task."""

SUCCESS: Final = "SUCCESS"
"""Resolution of an edge whose upstream succeeded; the others are the upstream's state."""

PENDING: Final = "PENDING"
CREATED: Final = "CREATED"

SCHEDULED: Final = "SCHEDULED"
FIRED: Final = "FIRED"
