"""RunWorkflow: one run of a workspace, from its plan to the end of its last task.

It begins what is ready at once and appends what happened behind it, so that the ledger costs no time between tasks.
All decisions are in `springline.control.runs.progress`. This module waits, starts activities, and hands over what they
say.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from temporalio import workflow
from temporalio.exceptions import ActivityError, ApplicationError, CancelledError, TimeoutError, TimeoutType

with workflow.unsafe.imports_passed_through():
    from springline import names
    from springline.control.runs.messages import (
        AttemptEnded,
        AttemptOrder,
        AttemptsStarted,
        CancelAsked,
        LoadedRun,
        LoadOrder,
        NotTaken,
        Recorded,
        RecordOrder,
        RunDoing,
        RunEnded,
        RunStart,
    )
    from springline.control.runs.patience import Patience
    from springline.control.runs.progress import RunProgress, as_event
    from springline.ledger.events import Payload, RunCancelRequested
    from springline.projection.schema import FINISHED_RUN
    from workflows.failures import ENDS_THE_RUN
    from workflows.lifecycle import (
        SEARCH_RUN_KEY,
        SEARCH_TENANT_KEY,
        SEARCH_WORKSPACE_KEY,
        finish_though_cancelled,
        new_uuid7,
        now_ms,
    )
    from workflows.policies import (
        ATTEMPT_GRACE,
        ATTEMPT_LIMIT,
        ATTEMPT_ONCE,
        RUN_HEARTBEAT,
        RUN_RETRY,
        RUN_START_TO_CLOSE,
    )

MOST_RUNNING = 500
"""Attempts of a run that are under way at once."""
MOST_EVENTS, MOST_BYTES = 200, 256 * 1024
"""Of one append."""
DRAIN_EVENTS, MOST_HISTORY_EVENTS = 4_000, 15_000
"""History events after which a run begins nothing until all that runs has ended, and continues as new. If that takes
longer than `DRAIN_PATIENCE`, because something long runs, it goes on up to the second limit."""
DRAIN_PATIENCE = timedelta(seconds=60)
LOOKS_AGAIN_MS = 60_000
"""A run reads its rows this often while it has nothing else to do: a lost wake-up costs no more."""
FOREIGN_LOOKS_MS = 5_000
"""And this often, whatever else it does, while there are attempts of another workflow of it."""
PAUSE, LONGEST_PAUSE = timedelta(seconds=5), timedelta(minutes=5)
"""Before a step that failed for good is tried again, twice as long each time."""


@workflow.defn(name=names.RUN_WORKFLOW, failure_exception_types=ENDS_THE_RUN)
class RunWorkflow:
    """Executes one run; its id keeps one workflow for each run."""

    @workflow.init
    def __init__(self, start: RunStart) -> None:
        self._start = start
        self._writer = new_uuid7()
        self._progress: RunProgress | None = None
        self._said: list[Callable[[RunProgress], None]] = []
        self._cancel: CancelAsked | None = None
        self._cancel_recorded = False
        self._stale = True
        self._not_taken: list[Payload] = []
        self._appending: asyncio.Task[None] | None = None
        self._attempts: dict[str, workflow.ActivityHandle[AttemptEnded]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._trouble: str | None = None
        self._patience = Patience()
        self._news_ms = self._looked_ms = now_ms()
        self._alarm_ms: int | None = None
        self._rang = False
        self._drains_since: datetime | None = None

    @workflow.run
    async def run(self, start: RunStart) -> RunEnded:
        """Work until every task has ended and the rows say so. To cancel the workflow is to cancel the run."""
        return await finish_though_cancelled(asyncio.create_task(self._work(start)), self._cancel_by_temporal)

    def _cancel_by_temporal(self) -> None:
        if self._cancel is None:
            self._cancel = CancelAsked(
                requested_by="temporal", reason="its workflow was cancelled", reason_code="WORKFLOW_CANCELLED"
            )

    async def _work(self, start: RunStart) -> RunEnded:
        workflow.upsert_search_attributes(
            [
                SEARCH_TENANT_KEY.value_set(start.tenant),
                SEARCH_WORKSPACE_KEY.value_set(start.workspace),
                SEARCH_RUN_KEY.value_set(start.run_id),
            ]
        )
        if start.loaded is not None:
            self._progress, self._stale = self._begun(start.loaded), False
        while True:
            if self._stale and self._appending is None:
                ended = await self._read_rows()
                if ended is not None:
                    return await self._end_with_rows(ended)
            progress = self._progress
            assert progress is not None
            self._step(progress)
            quiet = self._appending is None and not self._attempts
            if progress.is_over and quiet and not self._said and not self._stale:
                # Every event was applied as it was meant: the run's row is as its tasks are.
                return await self._end(progress.final_state, progress.counts)
            if self._is_long and not progress.running and not progress.outbox and quiet:
                await workflow.wait_condition(workflow.all_handlers_finished)
                workflow.continue_as_new(start.model_copy(update={"loaded": None}))
            await self._wait(progress)

    @workflow.signal(name=names.ATTEMPTS_STARTED_SIGNAL, description="A worker has begun attempts")
    def attempts_started(self, started: AttemptsStarted) -> None:
        """Note which attempts a worker has begun."""
        for one in started.attempts:
            self._said.append(lambda progress, one=one: progress.started(one, now_ms()))  # type: ignore[misc]

    @workflow.signal(name=names.WAKE_SIGNAL, description="The rows of the run have changed: read them")
    def wake(self) -> None:
        """Read the rows again."""
        self._stale = True

    @workflow.update(name=names.CANCEL_UPDATE, description="Cancel the run; answered when that is recorded")
    async def cancel(self, asked: CancelAsked) -> None:
        """Cancel the run, and wait until the ledger has it."""
        if self._cancel is None:
            self._cancel = asked
        await workflow.wait_condition(lambda: self._cancel_recorded)

    @workflow.query(name=names.STATUS_QUERY, description="What the run is doing, and what it waits for")
    def status(self) -> RunDoing:
        """Return tasks by state, what runs, and what is wrong."""
        progress = self._progress
        if progress is None:
            return RunDoing(run_id=self._start.run_id, phase="reading its rows", trouble=self._trouble)
        return RunDoing(
            run_id=self._start.run_id,
            phase=self._phase(progress),
            tasks=progress.counts,
            running=sorted(progress.running)[:50],
            unrecorded=len(progress.outbox),
            cancel_requested=progress.cancel_requested,
            trouble=self._trouble,
        )

    # Steps of the loop.

    async def _read_rows(self) -> LoadedRun | None:
        """Read where the run stands, and go on from there; return the rows if the run has ended, or cannot go on."""
        self._stale, self._looked_ms = False, now_ms()
        order = LoadOrder(tenant=self._start.tenant, workspace=self._start.workspace, run_id=self._start.run_id)
        loaded: LoadedRun = await self._insist(names.LOAD_RUN, order, LoadedRun, "where the run stands")
        before = self._progress
        if (loaded.missing is not None or loaded.state in FINISHED_RUN) and (
            before is None or not (before.outbox or self._attempts or self._said or self._not_taken)
        ):
            return loaded
        if loaded.missing is not None:
            # What runs is finished first, as it was begun.
            self._trouble = loaded.missing
            return None
        if before is None:
            self._progress = self._begun(loaded)
            self._progress.take_up(now_ms())
        else:
            not_taken, self._not_taken = self._not_taken, []
            self._progress, dropped = before.overlaid(loaded, not_taken, now_ms())
            for one in dropped:
                self._end_attempt(one.attempt_id)
            gone = self._patience.exhausted(self._progress.foreign, loaded, now_ms())
            if gone:
                self._progress.take_up(now_ms(), gone)
        if loaded.cancel_requested:
            self._cancel_recorded = True
        return None

    def _begun(self, loaded: LoadedRun) -> RunProgress:
        return RunProgress(loaded, self._start.tenant, self._start.workspace, self._writer)

    def _step(self, progress: RunProgress) -> None:
        """Take in what was said, begin what may begin, and append what is to be recorded."""
        said, self._said = self._said, []
        for note in said:
            note(progress)
        if self._cancel is not None:
            progress.cancel(self._cancel)
        if progress.cancel_requested:
            for attempt in progress.running.values():
                self._end_attempt(attempt.attempt_id)
        progress.beat(now_ms())
        if not self._drains:
            for order in progress.begin(now_ms(), MOST_RUNNING - len(progress.running)):
                self._begin(progress, order)
        if progress.outbox and self._appending is None:
            batch = progress.take_batch(MOST_EVENTS, MOST_BYTES)
            self._appending = asyncio.create_task(self._append(batch))
        workflow.set_current_details(self._described(progress))

    async def _wait(self, progress: RunProgress) -> None:
        """Wait until something is said, or due."""
        began_with = self._appending
        if self._said or began_with is not None:
            self._news_ms = now_ms()
        due_ms = self._looks_ms(progress)
        if self._drains_since is not None:
            ends_ms = int((self._drains_since + DRAIN_PATIENCE).timestamp() * 1_000)
            due_ms = min(due_ms, ends_ms) if ends_ms > now_ms() else due_ms
        next_ms = None if self._drains else progress.next_ms()
        if next_ms is not None:
            due_ms = min(due_ms, next_ms)
        if due_ms > now_ms():
            self._set_alarm(due_ms)
            await workflow.wait_condition(
                lambda: (
                    self._rang
                    or bool(self._said)
                    or (self._appending is None and (began_with is not None or self._stale or bool(progress.outbox)))
                    or (self._cancel is not None and not progress.cancel_requested)
                )
            )
        self._rang = False
        if now_ms() >= self._looks_ms(progress):
            self._news_ms = self._looked_ms = now_ms()
            self._stale = True

    def _looks_ms(self, progress: RunProgress) -> int:
        """Return when the rows are to be read though nobody has said that they changed."""
        quiet_ms = self._news_ms + LOOKS_AGAIN_MS
        return min(quiet_ms, self._looked_ms + FOREIGN_LOOKS_MS) if progress.foreign else quiet_ms

    def _set_alarm(self, at_ms: int) -> None:
        """Have the run look up at an instant. No alarm is taken back: each would be two events of the history."""
        if self._alarm_ms is not None and self._alarm_ms <= at_ms:
            return
        self._alarm_ms = at_ms
        self._keep(asyncio.create_task(self._ring(at_ms)))

    async def _ring(self, at_ms: int) -> None:
        await workflow.sleep(timedelta(milliseconds=at_ms - now_ms()), summary="until something is due")
        self._rang = True
        if self._alarm_ms == at_ms:
            self._alarm_ms = None

    def _begin(self, progress: RunProgress, order: AttemptOrder) -> None:
        asset = progress.asset_of(order.task_key)
        limit = ATTEMPT_LIMIT
        if order.timeout_ms is not None:
            limit = timedelta(milliseconds=order.timeout_ms) + ATTEMPT_GRACE
        handle = workflow.start_activity(
            names.RUN_ATTEMPT,
            order,
            task_queue=names.attempt_queue(order.tenant, order.workspace, asset.location, asset.queue),
            result_type=AttemptEnded,
            start_to_close_timeout=limit,
            heartbeat_timeout=timedelta(milliseconds=asset.heartbeat_ms),
            retry_policy=ATTEMPT_ONCE,
            cancellation_type=workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
            summary=f"{order.task_key}, attempt {order.attempt}",
        )
        self._attempts[order.attempt_id] = handle
        self._keep(asyncio.create_task(self._follow(order, asset.heartbeat_ms, handle)))

    async def _follow(
        self, order: AttemptOrder, heartbeat_ms: int, handle: workflow.ActivityHandle[AttemptEnded]
    ) -> None:
        """Wait for the end of an attempt, and say how it was."""
        key, attempt_id = order.task_key, order.attempt_id
        try:
            ended = await handle
        except ActivityError as error:
            self._said.append(_unanswered(key, attempt_id, error.cause, heartbeat_ms))
        except CancelledError:
            self._said.append(lambda progress: progress.never_began(key, attempt_id, now_ms()))
        else:
            self._said.append(lambda progress: progress.ended(key, attempt_id, ended, now_ms()))
        finally:
            self._attempts.pop(attempt_id, None)

    def _end_attempt(self, attempt_id: str) -> None:
        handle = self._attempts.get(attempt_id)
        if handle is not None:
            handle.cancel()

    async def _append(self, batch: list[Payload]) -> None:
        """Append payloads; those that were not taken as they are make the rows to be read again."""
        order = RecordOrder(
            tenant=self._start.tenant,
            workspace=self._start.workspace,
            request_id=new_uuid7(),
            events=[as_event(payload) for payload in batch],
        )
        recorded: Recorded = await self._insist(
            names.APPEND_RUN_EVENTS, order, Recorded, f"append {len(batch)} event(s)"
        )
        self._take_in(batch, recorded.not_taken)
        self._appending = None

    def _take_in(self, batch: list[Payload], not_taken: list[NotTaken]) -> None:
        missed = {one.index for one in not_taken}
        if missed:
            self._stale = True
            self._not_taken += [batch[index] for index in sorted(missed)]
        if any(isinstance(payload, RunCancelRequested) for payload in batch):
            self._cancel_recorded = True

    async def _insist(self, name: str, order: Any, result_type: Any, summary: str) -> Any:
        """Run a step until it succeeds; what makes it fail for good is shown meanwhile."""
        pause = PAUSE
        while True:
            try:
                result = await workflow.execute_activity(
                    name,
                    order,
                    result_type=result_type,
                    task_queue=names.RUNS_QUEUE,
                    start_to_close_timeout=RUN_START_TO_CLOSE,
                    heartbeat_timeout=RUN_HEARTBEAT,
                    retry_policy=RUN_RETRY,
                    summary=summary,
                )
            except ActivityError as error:
                self._trouble = f"{name} failed: {error.cause or error}"
                workflow.logger.error("%s", self._trouble)
                await workflow.sleep(pause, summary=f"{name} is tried again")
                pause = min(2 * pause, LONGEST_PAUSE)
            else:
                self._trouble = None
                return result

    async def _end_with_rows(self, loaded: LoadedRun) -> RunEnded:
        """End with the run as its rows have it, or with what keeps it from being executed."""
        if loaded.missing is not None and loaded.state not in FINISHED_RUN:
            self._trouble = f"the run cannot be executed: {loaded.missing}"
            if not loaded.state:
                raise ApplicationError(f"there is no run {loaded.run_id}: {loaded.missing}", non_retryable=True)
            cancel = RunCancelRequested(
                run_id=loaded.run_id,
                requested_by="springline",
                reason=self._trouble,
                springline={"reason_code": "CANNOT_BE_EXECUTED"},
            )
            await self._append([cancel])
        counts: dict[str, int] = {}
        for task in loaded.tasks:
            counts[task.state] = counts.get(task.state, 0) + 1
        return await self._end(loaded.state, counts)

    async def _end(self, state: str, counts: dict[str, int]) -> RunEnded:
        self._cancel_recorded = True
        await workflow.wait_condition(workflow.all_handlers_finished)
        launcher = names.run_launcher_id(self._start.tenant, self._start.workspace)
        with contextlib.suppress(ApplicationError):
            # One that does not run has nobody waiting.
            await workflow.get_external_workflow_handle(launcher).signal(names.WAKE_SIGNAL)
        told = ", ".join(f"{count} {name}" for name, count in counts.items())
        workflow.set_current_details(
            f"Run **{self._start.run_id}**: {state}\n\n{told}"
            + ("" if self._trouble is None else f"\n\n{self._trouble}")
        )
        return RunEnded(run_id=self._start.run_id, state=state, tasks=counts)

    # What is shown.

    @property
    def _is_long(self) -> bool:
        return workflow.info().get_current_history_length() >= DRAIN_EVENTS

    @property
    def _drains(self) -> bool:
        length = workflow.info().get_current_history_length()
        if length < DRAIN_EVENTS:
            return False
        if self._drains_since is None:
            self._drains_since = workflow.now()
        return length >= MOST_HISTORY_EVENTS or workflow.now() - self._drains_since < DRAIN_PATIENCE

    def _phase(self, progress: RunProgress) -> str:
        if self._trouble is not None:
            return "in trouble"
        if progress.cancel_requested:
            return "cancelled: what runs is being ended"
        if progress.held:
            return "held: the workspace is held, and nothing begins"
        if progress.foreign:
            return "waiting for attempts of another workflow of this run"
        if self._drains:
            return "continuing as new as soon as nothing runs"
        return "running" if progress.running else "waiting"

    def _described(self, progress: RunProgress) -> str:
        counts = progress.counts
        lines = [
            f"Run **{self._start.run_id}** of `{self._start.tenant}/{self._start.workspace}`: {self._phase(progress)}",
            "",
            "| " + " | ".join(counts) + " |",
            "|" + " --- |" * len(counts),
            "| " + " | ".join(str(count) for count in counts.values()) + " |",
        ]
        waiting = [one.key for one in progress.running.values() if not one.started]
        lines += ["", *(f"- `{key}` is with no worker yet" for key in waiting[:5])]
        if self._trouble is not None:
            lines += ["", self._trouble]
        return "\n".join(lines)

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _unanswered(
    key: str, attempt_id: str, cause: BaseException | None, heartbeat_ms: int
) -> Callable[[RunProgress], None]:
    """Return what the end of an activity says of its attempt, where its worker said nothing."""
    if isinstance(cause, CancelledError):
        return lambda progress: progress.never_began(key, attempt_id, now_ms())
    if isinstance(cause, TimeoutError) and cause.type is TimeoutType.START_TO_CLOSE:
        message = "it took longer than its timeout, and its worker did not end it"
    elif isinstance(cause, TimeoutError):
        message = f"its worker gave no sign of life for {heartbeat_ms / 1_000:g} s"
    else:
        message = f"its worker could not finish it: {cause}"
    return lambda progress: progress.lost(key, attempt_id, message, now_ms())
