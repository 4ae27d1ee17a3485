"""Named retry policies and time limits of activities, in one place."""

from __future__ import annotations

from datetime import timedelta

from temporalio.common import RetryPolicy

from springline import names

FINAL_ERRORS = [names.INVALID_REQUEST, names.STORE_MISCONFIGURED, names.INVARIANT_VIOLATED]

WORKFLOW_TASK_TIMEOUT = timedelta(seconds=2)
"""A worker killed in the middle of a workflow task costs this long (the default is 10 s). A task takes
milliseconds, and `DRAIN_EVENTS` keeps a replay on a cold worker well below it."""

COMMIT_RETRY = RetryPolicy(
    initial_interval=timedelta(milliseconds=50),
    backoff_coefficient=2.0,
    maximum_interval=timedelta(seconds=2),
    maximum_attempts=0,
    non_retryable_error_types=FINAL_ERRORS,
)
"""Commit steps are tried for as long as it takes: what is reserved must come to an end."""

BEFORE_RESERVED_RETRY = RetryPolicy(
    initial_interval=timedelta(milliseconds=50),
    backoff_coefficient=2.0,
    maximum_interval=timedelta(seconds=2),
    maximum_attempts=50,
    non_retryable_error_types=FINAL_ERRORS,
)
"""Steps before anything is reserved or recorded are tried for a bounded time, then the callers are told.

The activities themselves give up on faults that last a minute (`activities.failures.PATIENCE`); the number of attempts
bounds those that give no answer at all."""

COMMIT_START_TO_CLOSE = timedelta(seconds=60)
"""Upper bound of one attempt; a live attempt is known by its heartbeats."""

COMMIT_HEARTBEAT = timedelta(milliseconds=1500)
"""A killed worker is noticed after this long; a false alarm costs a second attempt, which does no harm."""

LEDGER_RETRY = COMMIT_RETRY
"""The steps of a ledger round likewise: what is recorded must become visible."""

LEDGER_START_TO_CLOSE = timedelta(minutes=30)
"""A fold may have to load a large state or to fold anew from a checkpoint; a live attempt heartbeats."""

LEDGER_HEARTBEAT = timedelta(milliseconds=1000)
"""A killed worker is noticed after this long; what it was about is visible again within 3 s, a cold start included,
and the second that a server with its own defaults adds to any timer that is shorter than that."""

GARBAGE_RETRY = RetryPolicy(
    initial_interval=timedelta(seconds=1),
    backoff_coefficient=2.0,
    maximum_interval=timedelta(minutes=1),
    maximum_attempts=10,
    non_retryable_error_types=FINAL_ERRORS,
)
"""Garbage is nobody's burden: after some minutes of trouble it is left to the next collection."""

GARBAGE_START_TO_CLOSE = timedelta(hours=1)
GARBAGE_HEARTBEAT = timedelta(seconds=10)

CHECKPOINT_RETRY = RetryPolicy(
    initial_interval=timedelta(seconds=1),
    backoff_coefficient=2.0,
    maximum_interval=timedelta(seconds=30),
    maximum_attempts=10,
    non_retryable_error_types=FINAL_ERRORS,
)
"""A checkpoint is a convenience: after some minutes of trouble it is left to the next one."""

CHECKPOINT_START_TO_CLOSE = timedelta(minutes=15)
CHECKPOINT_HEARTBEAT = timedelta(seconds=10)
"""Wider than a commit's: the library's work on a big table can keep a small machine busy."""

REBUILD_RETRY = RetryPolicy(
    initial_interval=timedelta(milliseconds=200),
    backoff_coefficient=2.0,
    maximum_interval=timedelta(seconds=10),
    maximum_attempts=0,
    non_retryable_error_types=FINAL_ERRORS,
)
"""An operator waits for a rebuild and can cancel it; passing faults must not end it."""

REBUILD_START_TO_CLOSE = timedelta(hours=1)
"""Upper bound of one attempt of a part, which takes seconds; a live attempt is known by its heartbeats."""

REBUILD_HEARTBEAT = timedelta(seconds=3)
"""A killed worker is noticed after this long; its parts are then done by another, from their beginning."""
