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
from temporalio.exceptions import ActivityError, ApplicationError

with workflow.unsafe.imports_passed_through():
    from springline import names
    from springline.control.runs.attempts import Attempt
    from springline.control.runs.explaining import longest_running, waits_for
    from springline.control.runs.messages import (
        AskPools,
        AttemptOrder,
        AttemptReport,
        AttemptsEnded,
        AttemptsStarted,
        AttemptStarted,
        CancelAsked,
        CarriedRun,
        LoadedRun,
        LoadOrder,
        NoteOrder,
        NotTaken,
        PlacedOrder,
        Recorded,
        RecordOrder,
        RunDoing,
        RunEnded,
        RunStart,
        SealsNoted,
        ShardWaits,
        SlotClaim,
        SlotsAsked,
        SlotsGranted,
    )
    from springline.control.runs.patience import Patience
    from springline.control.runs.progress import RunProgress
    from springline.ledger.envelope import as_event
    from springline.ledger.events import Payload, RunCancelRequested
    from springline.ledger.timestamps import format_ms
    from springline.projection.schema import FINISHED_RUN, SUCCEEDED
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
        RUN_HEARTBEAT,
        RUN_RETRY,
        RUN_START_TO_CLOSE,
    )
    from workflows.run_attempts import AttemptsUnderWay
    from workflows.run_posts import Posts
    from workflows.run_shards import Shards

MOST_RUNNING = 500
"""Attempts of a run that are under way at once."""
MOST_EVENTS, MOST_BYTES = 200, 256 * 1024
"""Of one append."""
DRAIN_EVENTS, MOST_HISTORY_EVENTS = 4_000, 15_000
"""History events after which a run begins nothing until all that runs has ended, and continues as new. If that takes
longer than `DRAIN_PATIENCE`, because something long runs, it goes on up to the second limit."""
DRAIN_PATIENCE = timedelta(seconds=60)
DRAIN_BYTES = 8 * 1024 * 1024
"""Likewise, bytes of the history of a run with attempts over HTTP."""
LOOKS_AGAIN_MS = 60_000
"""A run reads its rows this often while it has nothing else to do: a lost wake-up costs no more."""
FOREIGN_LOOKS_MS = 5_000
"""And this often, whatever else it does, while there are attempts of another workflow of it."""
CLAIMS_AGAIN_MS = 2_000
"""Attempts that are on record, and found no slot free, look again after this: somebody has to end, or to be ended."""
SHOWS_MS = 2_000
"""A run that is busy says so often what it is doing; one that waits, always."""
LEAST_BETWEEN_LOOKS_MS = 1_000
"""And this often at most, while it waits for a word of attempts over HTTP."""
SEALS_NOTED = "notes-seals"
"""The patch that lets runs replay which older code ended without a look at their seals."""
BACKFILL_TOLD = "tells-backfill"
"""The patch that lets runs of chunks replay which older code began, and which told nobody of their end."""
PAUSE, LONGEST_PAUSE = timedelta(seconds=5), timedelta(minutes=5)
"""Before a step that failed for good is tried again, twice as long each time."""


@workflow.defn(name=names.RUN_WORKFLOW, failure_exception_types=ENDS_THE_RUN)
class RunWorkflow:
    """Executes one run; its id keeps one workflow for each run."""

    @workflow.init
    def __init__(self, start: RunStart) -> None:
        self._start = start
        self._writer = new_uuid7() if start.carried is None else start.carried.writer
        self._progress: RunProgress | None = None
        self._said: list[Callable[[RunProgress], None]] = []
        self._backfill_id: str | None = None
        self._cancel: CancelAsked | None = None
        self._cancel_recorded = False
        self._stale = True
        self._not_taken: list[Payload] = []
        self._appending: asyncio.Task[None] | None = None
        self._asking: asyncio.Task[None] | None = None
        self._claimed_ms = 0
        self._outlasting = 0
        self._hands: AttemptsUnderWay | Shards = AttemptsUnderWay(self._note)
        self._posts = Posts(self._hear)
        self._tasks: set[asyncio.Task[None]] = set()
        self._trouble: str | None = None
        self._patience = Patience()
        self._news_ms = self._looked_ms = now_ms()
        self._alarm_ms: int | None = None
        self._rang = False
        self._drains_since: datetime | None = None
        self._early: list[AttemptsEnded] = []
        self._shown_ms = 0

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
        if start.carried is not None and start.carried.cancel is not None:
            self._cancel, self._cancel_recorded = start.carried.cancel, start.carried.cancel_recorded
        if start.loaded is not None:
            self._progress, self._stale = self._begun(start.loaded), False
            self._backfill_id = start.loaded.backfill_id
        while True:
            if self._stale and self._appending is None:
                ended = await self._read_rows()
                if ended is not None:
                    return await self._end_with_rows(ended)
            progress = self._progress
            assert progress is not None
            self._step(progress)
            quiet = self._appending is None and self._asking is None and not self._hands
            if progress.is_over and quiet and not self._said and not self._stale:
                # Every event was applied as it was meant: the run's row is as its tasks are.
                return await self._end(progress.final_state, progress.counts)
            if isinstance(self._hands, Shards):
                if self._may_hand_over:
                    carried = self._carried(progress, self._hands)
                    workflow.continue_as_new(start.model_copy(update={"loaded": None, "carried": carried}))
            elif self._is_long and not progress.is_bound and not progress.outbox and quiet:
                await workflow.wait_condition(workflow.all_handlers_finished)
                workflow.continue_as_new(start.model_copy(update={"loaded": None}))
            await self._wait(progress)

    @workflow.signal(name=names.ATTEMPTS_STARTED_SIGNAL, description="A worker has begun attempts")
    def attempts_started(self, started: AttemptsStarted) -> None:
        """Note which attempts a worker has begun."""
        for one in started.attempts:
            self._said.append(lambda progress, one=one: self._has_started(progress, one))  # type: ignore[misc]

    @workflow.signal(name=names.ATTEMPTS_ENDED_SIGNAL, description="Attempts of a shard have ended")
    def attempts_ended(self, said: AttemptsEnded) -> None:
        """Note how attempts have ended."""
        if isinstance(self._hands, Shards):
            self._hands.take_in(said)
        else:
            # Told before the rows are read.
            self._early.append(said)

    @workflow.signal(name=names.SHARD_WAITS_SIGNAL, description="A shard asks whether its run is there")
    def shard_waits(self, said: ShardWaits) -> None:
        """Let a shard go on by taking its signal; one that another workflow has opened is ended."""
        if isinstance(self._hands, Shards):
            self._hands.hear(said.shard_id)

    @workflow.signal(name=names.SLOTS_GRANTED_SIGNAL, description="A pool gives slots, or tells how it stands")
    def slots_granted(self, told: SlotsGranted) -> None:
        """Note which attempts have leave to be dispatched."""
        self._said.append(lambda progress: progress.granted(told))

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
            longest=longest_running(progress),
            waits_for=waits_for(progress, MOST_RUNNING),
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
        self._backfill_id = loaded.backfill_id
        before = self._progress
        carried = self._start.carried
        is_idle = carried is None or not (carried.outbox or carried.running)
        if before is not None:
            under_way = before.outbox or before.claims() or self._hands or self._outlasting
            is_idle = not (under_way or self._said or self._not_taken)
        if (loaded.missing is not None or loaded.state in FINISHED_RUN) and is_idle:
            return loaded
        if loaded.missing is not None and before is not None:
            # What runs is finished first, as it was begun.
            self._trouble = loaded.missing
            return None
        if before is None and carried is not None:
            self._progress = self._go_on(loaded, carried)
        elif before is None:
            self._progress = self._begun(loaded)
            self._progress.take_up(now_ms())
        else:
            not_taken, self._not_taken = self._not_taken, []
            self._progress, dropped = before.overlaid(loaded, not_taken, now_ms())
            for one in dropped:
                self._end_attempt(self._progress, one)
            for one in self._progress.running.values():
                if one.remote is not None and one.started:
                    self._posts.end(one.attempt_id)
            gone = self._patience.exhausted(self._progress.foreign, loaded, now_ms())
            if gone:
                self._progress.take_up(now_ms(), gone)
        if loaded.cancel_requested:
            self._cancel_recorded = True
        return None

    def _begun(self, loaded: LoadedRun) -> RunProgress:
        if len(loaded.tasks) >= self._start.shards_from:
            self._hand_to(Shards(self._start, self._writer, self._note))
        return RunProgress(loaded, self._start.tenant, self._start.workspace, self._writer)

    def _step(self, progress: RunProgress) -> None:
        """Take in what was said, begin what may begin, and append what is to be recorded."""
        said, self._said = self._said, []
        for note in said:
            note(progress)
        if self._cancel is not None:
            progress.cancel(self._cancel)
        if progress.cancel_requested:
            for attempt in list(progress.running.values()):
                self._end_attempt(progress, attempt)
        progress.beat(now_ms())
        if isinstance(self._hands, Shards):
            self._hands.look()
        if not self._drains:
            for order in progress.begin(now_ms(), MOST_RUNNING - len(progress.running)):
                self._begin(progress, order)
        if self._asking is None and not self._hands_over:
            asked = progress.asks(now_ms(), 0 if self._drains else MOST_RUNNING - len(progress.running))
            if asked:
                self._asking = asyncio.create_task(self._ask_pools(asked))
        for order in progress.posts():
            self._posts.begin(order)
        if self._may_append(progress):
            batch, claims = progress.take_batch(MOST_EVENTS, MOST_BYTES), progress.claims()
            self._claimed_ms = now_ms()
            self._appending = asyncio.create_task(self._append(batch, claims))
        if self._appending is None or now_ms() >= self._shown_ms + SHOWS_MS:
            self._show(progress)

    async def _wait(self, progress: RunProgress) -> None:
        """Wait until something is said, or due."""
        began_with, asked_with = self._appending, self._asking
        if self._said or began_with is not None:
            self._news_ms = now_ms()
        due_ms = self._looks_ms(progress)
        if self._drains_since is not None:
            ends_ms = int((self._drains_since + DRAIN_PATIENCE).timestamp() * 1_000)
            due_ms = min(due_ms, ends_ms) if ends_ms > now_ms() else due_ms
        next_ms = None if self._drains else progress.next_ms()
        if next_ms is not None:
            due_ms = min(due_ms, next_ms)
        if began_with is None and not self._hands_over and progress.claims():
            due_ms = min(due_ms, self._claimed_ms + CLAIMS_AGAIN_MS)
        if isinstance(self._hands, Shards) and self._hands.due_ms is not None:
            due_ms = min(due_ms, self._hands.due_ms)
        if due_ms > now_ms():
            self._set_alarm(due_ms)
            await workflow.wait_condition(
                lambda: (
                    self._rang
                    or bool(self._said)
                    or (self._appending is None and (began_with is not None or self._stale))
                    or (self._asking is None and asked_with is not None)
                    or self._may_append(progress)
                    or self._may_hand_over
                    or (self._cancel is not None and not progress.cancel_requested)
                )
            )
        self._rang = False
        if now_ms() >= self._looks_ms(progress):
            self._news_ms = self._looked_ms = now_ms()
            self._stale = True

    def _looks_ms(self, progress: RunProgress) -> int:
        """Return when the rows are to be read though nobody has said that they changed."""
        due_ms = self._news_ms + LOOKS_AGAIN_MS
        if progress.foreign:
            due_ms = min(due_ms, self._looked_ms + FOREIGN_LOOKS_MS)
        word_ms = progress.look_ms()
        return due_ms if word_ms is None else min(due_ms, max(word_ms, self._looked_ms + LEAST_BETWEEN_LOOKS_MS))

    def _has_started(self, progress: RunProgress, said: AttemptStarted) -> None:
        attempt = progress.running.get(said.task_key)
        if attempt is not None and attempt.attempt_id == said.attempt_id and not attempt.started:
            waited = timedelta(milliseconds=max(0, said.started_at_ms - attempt.said_ms))
            workflow.metric_meter().create_histogram_timedelta(
                names.METRIC_ATTEMPT_WAIT_SECONDS, "Time until a worker begins an attempt."
            ).record(waited)
        progress.started(said, now_ms())

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
        self._hands.begin(
            PlacedOrder(
                order=order,
                task_queue=names.attempt_queue(order.tenant, order.workspace, asset.location, asset.queue),
                heartbeat_ms=asset.heartbeat_ms,
                limit_ms=limit // timedelta(milliseconds=1),
            )
        )

    def _note(self, report: AttemptReport) -> None:
        self._said.append(lambda progress: self._take_report(progress, report))

    def _take_report(self, progress: RunProgress, report: AttemptReport) -> None:
        silent_ms = progress.silent_ms(report)
        if silent_ms is None:
            progress.reported(report, now_ms())
        else:
            self._outlasting += 1
            self._keep(asyncio.create_task(self._outlast(report, silent_ms)))

    async def _outlast(self, report: AttemptReport, silent_ms: int) -> None:
        """Wait until a worker that is silent, and not dead, must have ended an attempt that has a slot of a pool."""
        await workflow.sleep(timedelta(milliseconds=silent_ms), summary=f"until no worker can be at {report.task_key}")
        self._outlasting -= 1
        self._said.append(lambda progress: progress.reported(report, now_ms()))

    def _hear(self, note: Callable[[RunProgress], None]) -> None:
        self._said.append(note)

    def _end_attempt(self, progress: RunProgress, attempt: Attempt) -> None:
        if attempt.order is not None:
            progress.never_began(attempt.key, attempt.attempt_id, now_ms())
        elif attempt.remote is not None:
            self._posts.end(attempt.attempt_id)
        else:
            self._hands.end(attempt.attempt_id)

    # A large run, which continues as new while its shards work.

    @property
    def _hands_over(self) -> bool:
        """Whether a large run is about to continue as new, and begins and appends nothing before it has."""
        return isinstance(self._hands, Shards) and self._is_long and workflow.all_handlers_finished()

    @property
    def _may_hand_over(self) -> bool:
        """Whether a large run may continue as new now: nothing that it waits for would be lost by it."""
        waits = self._appending is not None or self._said or self._not_taken or self._stale
        waits = waits or self._asking is not None or self._outlasting > 0
        return self._hands_over and not waits and isinstance(self._hands, Shards) and self._hands.has_sent_all

    def _may_append(self, progress: RunProgress) -> bool:
        if self._appending is not None or self._hands_over:
            return False
        return bool(progress.outbox) or (now_ms() >= self._claimed_ms + CLAIMS_AGAIN_MS and bool(progress.claims()))

    def _carried(self, progress: RunProgress, shards: Shards) -> CarriedRun:
        opened, open_shards, shard_of = shards.carried()
        return progress.carried(shard_of).model_copy(
            update={
                "shards_opened": opened,
                "shards": open_shards,
                "cancel": self._cancel,
                "cancel_recorded": self._cancel_recorded,
            }
        )

    def _go_on(self, loaded: LoadedRun, carried: CarriedRun) -> RunProgress:
        """Go on with what the run of the workflow before has handed over, on top of the rows."""
        shards = Shards(self._start, self._writer, self._note)
        attempts = {one.attempt_id: (one.key, one.shard_id) for one in carried.running if not one.waits}
        shards.go_on(carried.shards_opened, carried.shards, attempts)
        self._hand_to(shards)
        progress, dropped = RunProgress.going_on(
            loaded, self._start.tenant, self._start.workspace, carried, now_ms=now_ms()
        )
        for one in dropped:
            self._end_attempt(progress, one)
        return progress

    def _hand_to(self, shards: Shards) -> None:
        """Let shards make the attempts, and take in what they have told before the rows were read."""
        self._hands = shards
        early, self._early = self._early, []
        for said in early:
            shards.take_in(said)

    async def _ask_pools(self, asked: list[SlotsAsked]) -> None:
        """Tell pools what the run wants of them, and that it has given slots back."""
        order = AskPools(tenant=self._start.tenant, workspace=self._start.workspace, asked=asked)
        told = ", ".join(f"{one.pool}: {len(one.wanted) + one.more}" for one in asked)
        await self._insist(names.ASK_POOLS, order, None, f"slots wanted of {told}")
        self._asking = None

    async def _append(self, batch: list[Payload], claims: list[SlotClaim] | None = None) -> None:
        """Append payloads; those that were not taken as they are make the rows to be read again.

        `claims`: attempts that are made if the rows then have slots for them.
        """
        order = RecordOrder(
            tenant=self._start.tenant,
            workspace=self._start.workspace,
            request_id=new_uuid7(),
            events=[as_event(payload) for payload in batch],
            claims=claims or [],
        )
        recorded: Recorded = await self._insist(
            names.APPEND_RUN_EVENTS, order, Recorded, f"append {len(batch)} event(s)"
        )
        self._take_in(batch, recorded.not_taken)
        if recorded.may_begin:
            self._said.append(lambda progress: self._begin_confirmed(progress, recorded.may_begin))
        self._appending = None

    def _begin_confirmed(self, progress: RunProgress, attempt_ids: list[str]) -> None:
        for order in progress.confirmed(attempt_ids):
            self._begin(progress, order)

    def _take_in(self, batch: list[Payload], not_taken: list[NotTaken]) -> None:
        missed = {one.index for one in not_taken}
        taken = [payload for index, payload in enumerate(batch) if index not in missed]
        if self._progress is not None and self._progress.recorded(taken):
            self._stale = True
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
                if self._progress is not None:
                    self._show(self._progress)
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
        # One that has never worked on the run knows of no attempt: another one had begun them, and is gone.
        return await self._end(loaded.state, counts, untold=self._progress is None)

    async def _end(self, state: str, counts: dict[str, int], *, untold: bool = False) -> RunEnded:
        self._cancel_recorded = True
        if isinstance(self._hands, Shards):
            await self._hands.close()
        await workflow.wait_condition(workflow.all_handlers_finished)
        await self._note_seals(state, untold=untold)
        launcher = names.run_launcher_id(self._start.tenant, self._start.workspace)
        with contextlib.suppress(ApplicationError):
            # One that does not run has nobody waiting.
            await workflow.get_external_workflow_handle(launcher).signal(names.WAKE_SIGNAL)
        await self._tell_backfill()
        workflow.metric_meter().create_counter(names.METRIC_RUNS, "Runs, by the state that they have come to.").add(
            1, {"state": state}
        )
        told = ", ".join(f"{count} {name}" for name, count in counts.items())
        workflow.set_current_details(
            f"Run **{self._start.run_id}**: {state}\n\n{told}"
            + ("" if self._trouble is None else f"\n\n{self._trouble}")
        )
        return RunEnded(run_id=self._start.run_id, state=state, tasks=counts)

    async def _note_seals(self, state: str, *, untold: bool) -> None:
        """Have what was sealed noted, and with `untold` what nobody tells; of a run that succeeded, its ends tell."""
        if state == SUCCEEDED or not workflow.patched(SEALS_NOTED):
            return
        order = NoteOrder(
            tenant=self._start.tenant, workspace=self._start.workspace, run_id=self._start.run_id, untold=untold
        )
        await self._insist(names.NOTE_SEALS, order, SealsNoted, "what was sealed and no end tells")

    async def _tell_backfill(self) -> None:
        """Tell the backfill of which the run makes a chunk that it has ended; one that is not told looks by itself."""
        if self._backfill_id is None or not workflow.patched(BACKFILL_TOLD):
            return
        evaluator = names.backfill_evaluator_id(self._start.tenant, self._start.workspace, self._backfill_id)
        with contextlib.suppress(ApplicationError):
            await workflow.get_external_workflow_handle(evaluator).signal(names.WAKE_SIGNAL)

    # What is shown.

    @property
    def _is_long(self) -> bool:
        info = workflow.info()
        if info.get_current_history_length() >= DRAIN_EVENTS:
            return True
        # Each word of a worker over HTTP has the rows read, which are long in a run of many tasks.
        is_told = self._progress is not None and self._progress.is_over_http
        return is_told and info.get_current_history_size() >= DRAIN_BYTES

    @property
    def _drains(self) -> bool:
        if isinstance(self._hands, Shards):
            return self._hands_over
        if not self._is_long:
            return False
        length = workflow.info().get_current_history_length()
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

    def _show(self, progress: RunProgress) -> None:
        self._shown_ms = now_ms()
        workflow.set_current_details(self._described(progress))

    def _described(self, progress: RunProgress) -> str:
        counts = progress.counts
        lines = [
            f"Run **{self._start.run_id}** of `{self._start.tenant}/{self._start.workspace}`: {self._phase(progress)}",
            "",
            "| " + " | ".join(counts) + " |",
            "|" + " --- |" * len(counts),
            "| " + " | ".join(str(count) for count in counts.values()) + " |",
            "",
        ]
        lines += [
            f"- `{one.task_key}`, attempt {one.attempt}, since {format_ms(one.since_ms)}, by {one.worker_id}"
            for one in longest_running(progress)
        ]
        lines += [f"- waits: {line}" for line in waits_for(progress, MOST_RUNNING)[:10]]
        if self._trouble is not None:
            lines += ["", self._trouble]
        return "\n".join(lines)

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
