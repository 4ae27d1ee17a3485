"""Named retry policies and time limits of activities, in one place."""

from __future__ import annotations

from datetime import timedelta

from temporalio.common import RetryPolicy

from springline import names

FINAL_ERRORS = [names.INVALID_REQUEST, names.STORE_MISCONFIGURED, names.INVARIANT_VIOLATED]

WORKFLOW_TASK_TIMEOUT = timedelta(seconds=2)
"""A worker killed in the middle of a workflow task costs this long (the default is 10 s). A task takes
milliseconds, and the replay of a run of thousands of events on a cold worker stays below it."""

BRIEF_TASK_TIMEOUT = timedelta(seconds=1)
"""The same for workflows that others wait for and whose histories are short: ledgers and singletons, which go on as
another run after 1,000 and 500 events. A replay of those takes at most half of it. On a machine where it takes longer,
the fourth try gets five seconds more from the server."""

COMMIT_RETRY = RetryPolicy(
    initial_interval=timedelta(milliseconds=50),
    backoff_coefficient=2.0,
    maximum_interval=timedelta(seconds=2),
    maximum_attempts=0,
    non_retryable_error_types=FINAL_ERRORS,
)
"""Commit steps are retried without a limit: a reservation must be finished."""

BEFORE_RESERVED_RETRY = RetryPolicy(
    initial_interval=timedelta(milliseconds=50),
    backoff_coefficient=2.0,
    maximum_interval=timedelta(seconds=2),
    maximum_attempts=50,
    non_retryable_error_types=FINAL_ERRORS,
)
"""Steps before anything is reserved or recorded are retried for a bounded time, then the callers get an error.

The activities themselves give up on faults that last a minute (`activities.interceptor.PATIENCE`); the number of
attempts bounds those that give no answer at all."""

COMMIT_START_TO_CLOSE = timedelta(seconds=60)
"""Upper bound of one attempt; heartbeats show that an attempt is alive."""

COMMIT_HEARTBEAT = timedelta(milliseconds=1500)
"""A killed worker is noticed after this long; a false alarm costs a second attempt, which does no harm."""

LEDGER_RETRY = COMMIT_RETRY
"""The steps of a ledger round likewise: a recorded round must become visible."""

LEDGER_START_TO_CLOSE = timedelta(minutes=30)
"""A fold may have to load a large state or to refold from a checkpoint; a live attempt heartbeats."""

LEDGER_HEARTBEAT = timedelta(milliseconds=1000)
"""A killed worker is noticed after this long; its round is visible within 3 s, including a cold start and the second
that an untuned server adds to any shorter timer."""

GARBAGE_RETRY = RetryPolicy(
    initial_interval=timedelta(seconds=1),
    backoff_coefficient=2.0,
    maximum_interval=timedelta(minutes=1),
    maximum_attempts=10,
    non_retryable_error_types=FINAL_ERRORS,
)
"""Garbage does no harm: after some minutes of failures the next collection deletes it."""

GARBAGE_START_TO_CLOSE = timedelta(hours=1)
GARBAGE_HEARTBEAT = timedelta(seconds=10)

PROBE_RETRY = RetryPolicy(maximum_attempts=2)
"""A probe asks whether a worker answers now."""

CHECKPOINT_RETRY = RetryPolicy(
    initial_interval=timedelta(seconds=1),
    backoff_coefficient=2.0,
    maximum_interval=timedelta(seconds=30),
    maximum_attempts=10,
    non_retryable_error_types=FINAL_ERRORS,
)
"""Readers work without a checkpoint: after some minutes of failures the next checkpoint replaces it."""

CHECKPOINT_START_TO_CLOSE = timedelta(minutes=15)
CHECKPOINT_HEARTBEAT = timedelta(seconds=10)
"""Longer than a commit's: the library's work on a big table can keep a small machine busy."""

REBUILD_RETRY = RetryPolicy(
    initial_interval=timedelta(milliseconds=200),
    backoff_coefficient=2.0,
    maximum_interval=timedelta(seconds=10),
    maximum_attempts=0,
    non_retryable_error_types=FINAL_ERRORS,
)
"""An operator waits for a rebuild and can cancel it; passing faults must not end it."""

REBUILD_START_TO_CLOSE = timedelta(hours=1)
"""Upper bound of one attempt of a part, which takes seconds; heartbeats show that an attempt is alive."""

REBUILD_HEARTBEAT = timedelta(seconds=3)
"""A killed worker is noticed after this long; another worker then runs its parts from their beginning."""

RUN_RETRY = COMMIT_RETRY
"""The steps of a run are retried without a limit: what an attempt did must be recorded."""

RUN_START_TO_CLOSE = timedelta(minutes=10)
"""Upper bound of one attempt of a step of a run, such as reading the rows of a large workspace."""

RUN_HEARTBEAT = LEDGER_HEARTBEAT
"""A killed worker delays a run or a pass by this, a retry, and the time until its cached workflows are another's."""

ATTEMPT_ONCE = RetryPolicy(maximum_attempts=1)
"""Attempts of tasks are the ledger's: Temporal never tries one again."""


def polls(most: int) -> RetryPolicy:
    """Return the policy of a series of polls, each a try of one activity: `most` at most.

    A poll that found nothing says when the next is due. One whose worker is lost is told, and not repeated; these
    names of timeouts are those of the Temporal server (`TemporalTimeout:` and the kind).
    """
    return RetryPolicy(
        initial_interval=timedelta(seconds=1),
        backoff_coefficient=1.0,
        maximum_attempts=most,
        non_retryable_error_types=["TemporalTimeout:Heartbeat", "TemporalTimeout:StartToClose"],
    )


ATTEMPT_LIMIT = timedelta(days=365)
"""Upper bound of an attempt without a timeout; its heartbeats show that it is alive."""
ATTEMPT_GRACE = timedelta(minutes=1)
"""How much longer than its timeout an attempt may take: the worker itself ends it, and says so."""

POST_RETRY = RetryPolicy(
    initial_interval=timedelta(milliseconds=500),
    backoff_coefficient=2.0,
    maximum_interval=timedelta(seconds=30),
    maximum_attempts=0,
    non_retryable_error_types=FINAL_ERRORS,
)
"""An attempt waits for its worker over HTTP for however long, as one on a queue does."""
POST_START_TO_CLOSE = timedelta(minutes=1)
"""Upper bound of one try to post an attempt, which gives up by itself after half of that."""

WAKE_RETRY = RetryPolicy(
    initial_interval=timedelta(milliseconds=100), maximum_interval=timedelta(seconds=5), maximum_attempts=20
)
"""Whoever was not woken looks by itself a minute later."""
