"""The demo's pipeline: some weeks of a data platform, as the requests that its parts append.

Every night a schedule asks for a run of five tasks; some fail once and are tried again. One run is cancelled, and a
backfill goes over a month in three runs. The same seed gives the same history.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import msgspec

from springline.ledger import events as e
from springline.ledger.fingerprints import chunk_fingerprint, schedule_fingerprint
from springline.ledger.identifiers import (
    attempt_id,
    backfill_chunk_id,
    backfill_run_key,
    dispatch_id,
    dispatch_task_id,
    plan_id_of_run,
    retry_timer_id,
    run_id_of_key,
    schedule_run_key,
    tick_id,
)
from springline.ledger.nested import (
    BackfillRef,
    CompletionVisibility,
    CronTrigger,
    ManualTrigger,
    RangeSelector,
    ScheduleRef,
    TaskDefinition,
    TaskError,
    TaskOutput,
    TickTriggered,
    Trigger,
)
from springline.ledger.timestamps import format_ms
from springline.paths import Scope

Request = list[dict[str, Any]]
"""Payloads that are appended together."""

SCHEDULE = "nightly-flights"
BACKFILL = "january-again"
FIRST_NIGHT_MS = 1_735_704_000_000
"""2025-01-01T04:00:00Z."""
DAY_MS = 86_400_000
RETRY_MS = 30_000
FAILS = 0.15
"""Share of first attempts that fail."""

TASKS: dict[str, list[str]] = {
    "raw.flights": [],
    "staging.flights": ["raw.flights"],
    "mart.delays": ["staging.flights"],
    "mart.carriers": ["staging.flights"],
    "report.daily": ["mart.delays", "mart.carriers"],
}
"""The tasks that each task waits for, in an order in which they can run."""


def preparation() -> list[Request]:
    """Return the requests before the first night."""
    definition = e.ScheduleDefinitionUpserted(
        schedule_id=SCHEDULE,
        cron_expression="0 4 * * *",
        timezone="UTC",
        catchup_window_minutes=60,
        max_catchup_ticks=3,
        asset_selection=list(TASKS),
        enabled=True,
    )
    return [_request(definition)]


class History:
    """The requests for a workspace, story by story; stories do not depend on each other."""

    def __init__(self, scope: Scope, seed: int) -> None:
        self._scope = scope
        self._seed = seed

    def night(self, number: int, definition: str) -> Iterator[Request]:
        """Yield the requests of one night: the tick, the run that it asks for, its tasks.

        `definition` is the event that defined the schedule last: a tick by another one is refused.
        """
        at_ms = FIRST_NIGHT_MS + number * DAY_MS
        epoch = at_ms // 1000
        run_key, tick = schedule_run_key(SCHEDULE, epoch), tick_id(SCHEDULE, epoch)
        fingerprint = schedule_fingerprint(list(TASKS))
        yield _request(
            e.ScheduleTicked(
                schedule_id=SCHEDULE,
                tick_id=tick,
                definition_version=definition,
                scheduled_for=format_ms(at_ms),
                asset_selection=list(TASKS),
                status=TickTriggered(),
                run_key=run_key,
                request_fingerprint=fingerprint,
            ),
            e.RunRequested(
                run_key=run_key,
                request_fingerprint=fingerprint,
                asset_selection=list(TASKS),
                trigger_source_ref=ScheduleRef(SCHEDULE, tick),
            ),
        )
        run_id = self._run_id(run_key)
        yield self._begun(run_id, run_key, CronTrigger(SCHEDULE), {"kind": "nightly"})
        yield from self._tasks(run_id, format_ms(at_ms)[:10], random.Random(f"{self._seed}/{number}"), at_ms)

    def cancelled_run(self) -> Iterator[Request]:
        """Yield a run that a user starts by hand and cancels while its first task runs."""
        run_id = f"run_by_hand_{self._seed}"
        yield self._begun(run_id, None, ManualTrigger("ada@example.com"), {"kind": "by hand"})
        yield _dispatched(run_id, "raw.flights", 1)
        yield _request(e.RunCancelRequested(run_id, "ada@example.com", "the wrong branch"))
        yield _request(e.TaskFinished(**_attempt(run_id, "raw.flights", 1), outcome="cancelled"))

    def backfill(self) -> Iterator[Request]:
        """Yield a backfill of a month in three chunks, each a run."""
        days = [format_ms(FIRST_NIGHT_MS + day * DAY_MS)[:10] for day in range(30)]
        yield _request(
            e.BackfillCreated(
                backfill_id=BACKFILL,
                client_request_id=BACKFILL,
                asset_selection=["mart.delays"],
                partition_selector=RangeSelector(days[0], days[-1]),
                total_partitions=len(days),
                chunk_size=10,
                max_concurrent_runs=1,
            )
        )
        for index in range(3):
            run_key, chunk = backfill_run_key(BACKFILL, index), backfill_chunk_id(BACKFILL, index)
            keys = days[index * 10 : index * 10 + 10]
            fingerprint = chunk_fingerprint(keys)
            yield _request(
                e.BackfillChunkPlanned(BACKFILL, chunk, index, keys, run_key, fingerprint),
                e.RunRequested(
                    run_key, fingerprint, ["mart.delays"], BackfillRef(BACKFILL, chunk), partition_selection=keys
                ),
            )
            run_id = self._run_id(run_key)
            yield self._begun(run_id, run_key, ManualTrigger("ada@example.com"), {"kind": "backfill"})
            yield from self._tasks(run_id, keys[0], random.Random(f"{self._seed}/chunk/{index}"), FIRST_NIGHT_MS)
        yield _request(e.BackfillStateChanged(BACKFILL, "RUNNING", "SUCCEEDED", 2))

    def _run_id(self, run_key: str) -> str:
        return run_id_of_key(self._scope.tenant, self._scope.workspace, run_key, b"")

    def _begun(self, run_id: str, run_key: str | None, trigger: Trigger, labels: dict[str, str]) -> Request:
        plan_id = plan_id_of_run(run_id)
        tasks = [TaskDefinition(key, needs, asset_key=key) for key, needs in TASKS.items()]
        return _request(
            e.RunTriggered(run_id, plan_id, trigger, ["report.daily"], run_key=run_key, labels=labels),
            e.PlanCreated(run_id, plan_id, tasks),
        )

    def _tasks(self, run_id: str, partition: str, chance: random.Random, at_ms: int) -> Iterator[Request]:
        """Yield a run's tasks one after the other; some first attempts fail and are repeated."""
        for key in TASKS:
            attempt = 1
            yield _dispatched(run_id, key, attempt)
            if chance.random() < FAILS:
                yield _failed(run_id, key, attempt, at_ms)
                attempt = 2
                yield _dispatched(run_id, key, attempt)
            yield _succeeded(run_id, key, attempt, partition, rows=chance.randrange(600, 1100))


def _dispatched(run_id: str, key: str, attempt: int) -> Request:
    """Return an attempt from the request for it to its first sign of life."""
    identity = _attempt(run_id, key, attempt)
    sent = dispatch_id(run_id, key, attempt)
    return _request(
        e.DispatchRequested(run_id, key, attempt, identity["attempt_id"], sent),
        e.DispatchEnqueued(sent, dispatch_task_id(sent), run_id, key, attempt),
        e.TaskStarted(**identity),
        e.TaskHeartbeat(**identity, progress_pct=50, message="halfway"),
    )


def _failed(run_id: str, key: str, attempt: int, at_ms: int) -> Request:
    """Return the failure of an attempt, and the timer that lets it be repeated."""
    timer = retry_timer_id(run_id, key, attempt, (at_ms + RETRY_MS) // 1000)
    error = TaskError("INFRASTRUCTURE", "the machine went away")
    return _request(
        e.TaskFinished(**_attempt(run_id, key, attempt), outcome="failed", error_message=error.message, error=error),
        e.TimerRequested(timer, "retry", format_ms(at_ms + RETRY_MS), run_id, key, attempt),
        e.TimerFired(timer, "retry", run_id, key, attempt),
    )


def _succeeded(run_id: str, key: str, attempt: int, partition: str, *, rows: int) -> Request:
    output = TaskOutput(row_count=rows, byte_size=rows * 80, delta_table=key, delta_partition=partition)
    return _request(
        e.TaskCompletionRecorded(
            **_attempt(run_id, key, attempt),
            outcome="succeeded",
            output=output,
            asset_key=key,
            partition_key=partition,
            output_visibility=CompletionVisibility("visible"),
        )
    )


def _attempt(run_id: str, key: str, attempt: int) -> dict[str, Any]:
    identity = attempt_id(dispatch_id(run_id, key, attempt))
    return {"run_id": run_id, "task_key": key, "attempt": attempt, "attempt_id": identity, "worker_id": "worker-7"}


def _request(*payloads: e.Payload) -> Request:
    return [msgspec.to_builtins(payload) for payload in payloads]
