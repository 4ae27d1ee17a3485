"""Large ledgers that look like real ones: runs that overlap, tasks with retries, schedules, sensors and backfills.

Seeded: the same arguments give the same bytes. Made at about 40,000 events per second.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Iterator
from typing import Final

from springline.ledger import events as e
from springline.ledger.envelope import compose_event
from springline.ledger.identifiers import (
    attempt_id,
    backfill_chunk_id,
    backfill_run_key,
    dispatch_id,
    dispatch_task_id,
    heartbeat_timer_id,
    plan_id_of_run,
    retry_timer_id,
    run_id_of_key,
    schedule_run_key,
    tick_id,
    timer_task_id,
)
from springline.ledger.json_text import canonical_json
from springline.ledger.nested import (
    BackfillRef,
    CompletionVisibility,
    CronTrigger,
    EvalTriggered,
    EvaluationRun,
    ExplicitSelector,
    ManualTrigger,
    PushSource,
    ScheduleRef,
    SensorRef,
    SensorTrigger,
    TaskDefinition,
    TaskError,
    TaskMetrics,
    TaskOutput,
    TickTriggered,
    TimerType,
    Trigger,
    TriggerSourceRef,
)
from springline.ledger.timestamps import format_ms
from springline.ulids import RANDOM_BITS, new_ulid

START_MS: Final = 1_736_899_200_000
"""2025-01-15T00:00:00Z: when the ledgers begin."""

Planned = tuple[int, int, e.Payload | None]
"""When an event happens, a number that breaks ties, and its payload; None for one of a type nobody knows."""


def realistic_ledger(
    seed: int, events: int, *, run_gap_ms: int = 20_000, tenant: str = "acme", workspace: str = "prod"
) -> list[bytes]:
    """Return the bodies of that many events, ascending by id.

    Args:
        seed: of everything random.
        events: how many.
        run_gap_ms: mean time from one run to the next; a run has some 80 events.
        tenant, workspace: whose events they are; run ids follow from run keys under an empty secret.
    """
    return list(itertools.islice(_Workload(seed, run_gap_ms, tenant, workspace).bodies(), events))


class _Workload:
    def __init__(self, seed: int, run_gap_ms: int, tenant: str, workspace: str) -> None:
        self._random = random.Random(seed)
        self._gap = run_gap_ms
        self._tenant, self._workspace = tenant, workspace
        self._waiting: list[Planned] = []
        self._numbers = itertools.count()
        self._evaluations = 0

    def bodies(self) -> Iterator[bytes]:
        last: str | None = None
        now = START_MS
        for schedule in range(5):
            self._at(now, _definition(schedule))
        for number in itertools.count():
            self._begin(number, now)
            now += int(self._random.expovariate(1 / self._gap))
            while self._waiting and self._waiting[0][0] <= now:
                at_ms, _, payload = heapq.heappop(self._waiting)
                last = new_ulid(last, at_ms, self._random.getrandbits(RANDOM_BITS))
                yield self._body(last, at_ms - self._random.randrange(15), payload)

    def _at(self, at_ms: int, payload: e.Payload | None) -> None:
        heapq.heappush(self._waiting, (at_ms, next(self._numbers), payload))

    def _body(self, event_id: str, timestamp_ms: int, payload: e.Payload | None) -> bytes:
        tenant, workspace = self._tenant, self._workspace
        if payload is not None:
            return compose_event(
                payload, event_id=event_id, timestamp_ms=timestamp_ms, tenant=tenant, workspace=workspace
            )
        unknown = {
            "data": {"asset": "raw.a", "type": "asset_inspected"},
            "event_id": event_id,
            "event_type": "AssetInspected",
            "event_version": 1,
            "idempotency_key": f"inspected:{event_id}",
            "source": f"arco-flow/{tenant}/{workspace}",
            "tenant_id": tenant,
            "timestamp": format_ms(timestamp_ms),
            "workspace_id": workspace,
        }
        return canonical_json(unknown)

    def _begin(self, number: int, now: int) -> None:
        """Plan all events of one run, and of what asks for it."""
        kind = self._random.random()
        if number % 12 == 0:
            self._at(now, None)
        if kind < 0.3:
            self._scheduled(now)
        elif kind < 0.4:
            self._sensed(now)
        elif kind < 0.42:
            self._backfilled(number, now)
        else:
            run_id = f"run_{new_ulid(None, now, self._random.getrandbits(RANDOM_BITS))}"
            self._run(now, run_id, None, ManualTrigger(user_id=f"user-{number % 7}@example.com"))

    def _scheduled(self, now: int) -> None:
        schedule, epoch = f"schedule-{self._random.randrange(5)}", now // 1_000
        run_key = schedule_run_key(schedule, epoch)
        fingerprint = f"{self._random.getrandbits(256):064x}"
        tick = e.ScheduleTicked(
            schedule_id=schedule,
            tick_id=tick_id(schedule, epoch),
            definition_version="def_1",
            scheduled_for=format_ms(epoch * 1_000),
            asset_selection=["mart.a", "raw/b"],
            status=TickTriggered(),
            run_key=run_key,
            request_fingerprint=fingerprint,
        )
        self._at(now, tick)
        ref = ScheduleRef(schedule_id=schedule, tick_id=tick.tick_id)
        self._requested(now + 1, run_key, fingerprint, ref, CronTrigger(schedule_id=schedule))

    def _sensed(self, now: int) -> None:
        sensor = f"sensor-{self._random.randrange(5)}"
        self._evaluations += 1
        message = f"m-{self._evaluations}"
        request = EvaluationRun(
            run_key=f"sensor:{sensor}:msg:{message}", request_fingerprint=f"fp:{message}", asset_selection=["raw.a"]
        )
        evaluation = e.SensorEvaluated(
            sensor_id=sensor,
            eval_id=f"eval_{sensor}_{self._evaluations:026}",
            trigger_source=PushSource(message_id=message),
            status=EvalTriggered(),
            cursor_after=message,
            run_requests=[request],
        )
        self._at(now, evaluation)
        ref = SensorRef(sensor_id=sensor, eval_id=evaluation.eval_id)
        trigger = SensorTrigger(sensor_id=sensor, cursor=message)
        self._requested(now + 1, request.run_key, request.request_fingerprint, ref, trigger)

    def _backfilled(self, number: int, now: int) -> None:
        backfill = f"bf_{number}"
        partitions = [f"2024-01-{day:02}" for day in range(1, 7)]
        self._at(
            now,
            e.BackfillCreated(
                backfill_id=backfill,
                client_request_id=f"req-{number}",
                asset_selection=["mart.a"],
                partition_selector=ExplicitSelector(partition_keys=partitions),
                total_partitions=6,
                chunk_size=2,
                max_concurrent_runs=2,
            ),
        )
        for index in range(3):
            at_ms, chunk = now + 1_000 * (index + 1), backfill_chunk_id(backfill, index)
            run_key, fingerprint = backfill_run_key(backfill, index), f"{self._random.getrandbits(128):032x}"
            self._at(
                at_ms,
                e.BackfillChunkPlanned(
                    backfill_id=backfill,
                    chunk_id=chunk,
                    chunk_index=index,
                    partition_keys=partitions[2 * index : 2 * index + 2],
                    run_key=run_key,
                    request_fingerprint=fingerprint,
                ),
            )
            ref = BackfillRef(backfill_id=backfill, chunk_id=chunk)
            self._requested(at_ms + 1, run_key, fingerprint, ref, ManualTrigger(user_id="backfill"))
        self._at(
            now + 600_000,
            e.BackfillStateChanged(backfill_id=backfill, from_state="RUNNING", to_state="SUCCEEDED", state_version=2),
        )

    def _requested(self, now: int, run_key: str, fingerprint: str, ref: TriggerSourceRef, trigger: Trigger) -> None:
        self._at(
            now,
            e.RunRequested(
                run_key=run_key, request_fingerprint=fingerprint, asset_selection=["raw.a"], trigger_source_ref=ref
            ),
        )
        run_id = run_id_of_key(self._tenant, self._workspace, run_key, b"")
        self._run(now + 500 + self._random.randrange(500), run_id, run_key, trigger)

    def _run(self, now: int, run_id: str, run_key: str | None, trigger: Trigger) -> None:
        rnd = self._random
        plan_id = plan_id_of_run(run_id)
        tasks = [self._definition(index) for index in range(rnd.randrange(3, 13))]
        self._at(
            now,
            e.RunTriggered(
                run_id=run_id,
                plan_id=plan_id,
                trigger=trigger,
                root_assets=["mart.a"],
                run_key=run_key,
                labels={"kind": "refresh", "source_type": "delta"} if rnd.random() < 0.5 else {},
                code_version=f"git-{rnd.getrandbits(28):07x}",
            ),
        )
        self._at(now + 10, e.PlanCreated(run_id=run_id, plan_id=plan_id, tasks=tasks))
        cancel_at = now + rnd.randrange(200_000) if rnd.random() < 0.03 else None
        if cancel_at is not None:
            self._at(cancel_at, e.RunCancelRequested(run_id=run_id, requested_by="ops@example.com"))
        ends: dict[str, int | None] = {}
        for task in tasks:
            upstream_ends = [ends[key] for key in task.depends_on]
            if None in upstream_ends:
                ends[task.key] = None
                continue
            ready = max((end for end in upstream_ends if end is not None), default=now + 10)
            if cancel_at is not None and ready >= cancel_at:
                ends[task.key] = None
            else:
                ends[task.key] = self._task(ready, run_id, task)

    def _definition(self, index: int) -> TaskDefinition:
        rnd = self._random
        kinds = (f"raw/table_{rnd.randrange(40)}", f"mart.table_{rnd.randrange(40)}", f"plain_{index}", None)
        return TaskDefinition(
            key=f"task_{index:03}",
            depends_on=sorted({f"task_{rnd.randrange(index):03}" for _ in range(rnd.randrange(3))}) if index else [],
            asset_key=rnd.choice(kinds),
            partition_key=f"2025-01-{rnd.randrange(1, 29):02}" if rnd.random() < 0.3 else None,
            max_attempts=rnd.randrange(1, 4),
            requires_visible_output=rnd.random() < 0.5,
        )

    def _task(self, ready: int, run_id: str, task: TaskDefinition) -> int | None:
        """Plan the attempts of a task; return when it succeeds, or None if it does not."""
        rnd, now = self._random, ready
        for attempt in range(1, task.max_attempts + 1):
            now = self._attempt(now + rnd.randrange(50, 1_500), run_id, task, attempt)
            if rnd.random() < 0.88:
                self._succeed(now, run_id, task, attempt)
                return now
            self._fail(now, run_id, task, attempt)
            if attempt < task.max_attempts:
                fires = now + 30_000 * 2 ** (attempt - 1)
                timer = retry_timer_id(run_id, task.key, attempt, fires // 1_000)
                self._timer(now + 200, timer, "retry", fires, run_id, task.key, attempt)
                self._at(fires, e.TimerFired(timer_id=timer, timer_type="retry", run_id=run_id))
                now = fires
        return None

    def _attempt(self, now: int, run_id: str, task: TaskDefinition, attempt: int) -> int:
        """Plan an attempt up to its end, and return when that is."""
        rnd = self._random
        dispatch = dispatch_id(run_id, task.key, attempt)
        own, worker = attempt_id(dispatch), f"worker-{rnd.randrange(9)}"
        self._at(
            now,
            e.DispatchRequested(
                run_id=run_id, task_key=task.key, attempt=attempt, attempt_id=own, dispatch_id=dispatch
            ),
        )
        self._at(
            now + 80,
            e.DispatchEnqueued(
                dispatch_id=dispatch,
                cloud_task_id=dispatch_task_id(dispatch),
                run_id=run_id,
                task_key=task.key,
                attempt=attempt,
            ),
        )
        now += rnd.randrange(200, 900)
        self._at(
            now,
            e.TaskStarted(run_id=run_id, task_key=task.key, attempt=attempt, attempt_id=own, worker_id=worker),
        )
        if rnd.random() < 0.3:
            fires = now + 300_000
            timer = heartbeat_timer_id(run_id, task.key, attempt, fires // 1_000)
            self._timer(now + 100, timer, "heartbeat_check", fires, run_id, task.key, attempt)
        for beat in range(rnd.randrange(4)):
            now += rnd.randrange(10_000, 30_000)
            self._at(
                now,
                e.TaskHeartbeat(
                    run_id=run_id,
                    task_key=task.key,
                    attempt=attempt,
                    attempt_id=own,
                    worker_id=worker,
                    heartbeat_at=format_ms(now - 3),
                    progress_pct=20 * beat,
                    message="working",
                ),
            )
        return now + rnd.randrange(1_000, 20_000)

    def _timer(
        self, now: int, timer: str, kind: TimerType, fires: int, run_id: str, task_key: str, attempt: int
    ) -> None:
        self._at(
            now,
            e.TimerRequested(
                timer_id=timer,
                timer_type=kind,
                fire_at=format_ms(fires // 1_000 * 1_000),
                run_id=run_id,
                task_key=task_key,
                attempt=attempt,
            ),
        )
        self._at(
            now + 90,
            e.TimerEnqueued(
                timer_id=timer,
                cloud_task_id=timer_task_id(timer),
                run_id=run_id,
                task_key=task_key,
                attempt=attempt,
            ),
        )

    def _succeed(self, now: int, run_id: str, task: TaskDefinition, attempt: int) -> None:
        rnd = self._random
        own = attempt_id(dispatch_id(run_id, task.key, attempt))
        materialization = f"mat_{rnd.getrandbits(80):020x}"
        output = TaskOutput(
            materialization_id=materialization,
            row_count=rnd.randrange(10**6),
            byte_size=rnd.randrange(10**9),
            delta_table=task.asset_key,
            delta_version=rnd.randrange(1_000),
        )
        finished = e.TaskCompletionRecorded(
            run_id=run_id,
            task_key=task.key,
            attempt=attempt,
            attempt_id=own,
            worker_id="worker-1",
            outcome="succeeded",
            materialization_id=materialization,
            output=output,
            metrics=TaskMetrics(cpu_time_ms=rnd.randrange(10**5)),
            asset_key=task.asset_key,
            partition_key=task.partition_key,
            code_version="git-1",
            output_visibility=CompletionVisibility(visibility_state="pending"),
        )
        self._at(now, finished)
        if rnd.random() < 0.6:
            self._at(
                now + rnd.randrange(500, 5_000),
                e.TaskOutputVisibilityChanged(
                    run_id=run_id, task_key=task.key, attempt=attempt, attempt_id=own, visibility_state="visible"
                ),
            )

    def _fail(self, now: int, run_id: str, task: TaskDefinition, attempt: int) -> None:
        self._at(
            now,
            e.TaskFinished(
                run_id=run_id,
                task_key=task.key,
                attempt=attempt,
                attempt_id=attempt_id(dispatch_id(run_id, task.key, attempt)),
                worker_id="worker-1",
                outcome="failed",
                error_message="out of memory",
                error=TaskError(category="INFRASTRUCTURE", message="out of memory"),
                asset_key=task.asset_key,
                partition_key=task.partition_key,
            ),
        )


def _definition(schedule: int) -> e.ScheduleDefinitionUpserted:
    return e.ScheduleDefinitionUpserted(
        schedule_id=f"schedule-{schedule}",
        cron_expression="*/5 * * * *",
        timezone="UTC",
        catchup_window_minutes=60,
        max_catchup_ticks=3,
        asset_selection=["mart.a", "raw/b"],
        enabled=True,
        code_version="v1",
    )
