"""SensorWorkflow: one sensor, evaluated one time after the other.

    wake, message, update "evaluate", or time
        --> look_at_sensor: rows, what is due; a ready-made sensor is evaluated there. Left out by a poll after one
            that found nothing, while nobody has told of a change
        --> evaluate_sensor on the code location's queue, for a function of users. One that finds nothing is a try of
            this activity, and Temporal makes the next one when it is due: this workflow only hears of the last
        --> record_evaluation: whole or not at all; not for a poll that found nothing, which is no event

All decisions are in `springline.control.sensors`, and what is decided is in the ledger: a workflow that is lost costs
an early poll at most (docs/protocol.md#sensors). A slow, crashing or hanging function holds up its own sensor alone.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta

from temporalio import workflow
from temporalio.exceptions import ActivityError, ApplicationError, CancelledError, TimeoutType
from temporalio.exceptions import TimeoutError as ActivityTimeout

with workflow.unsafe.imports_passed_through():
    from springline import names
    from springline.control.sensors.messages import (
        MOST_DECISIONS,
        EvaluationAnswer,
        EvaluationOrder,
        EvaluationOutcome,
        PollSeries,
        SensorAsked,
        SensorDecision,
        SensorDoing,
        SensorDone,
        SensorLook,
        SensorLookOrder,
        SensorRecordOrder,
        SensorStart,
        SensorView,
    )
    from springline.control.sensors.polling import (
        after_quiet,
        next_evaluation,
        nothing_found,
        owes_summary,
        series_of,
        surely_made,
    )
    from springline.sequencer.messages import WorkspaceRef
    from workflows.callers import Callers
    from workflows.failures import ENDS_THE_RUN
    from workflows.ledger_steps import show_in_search
    from workflows.lifecycle import finish_though_cancelled, history_is_long, now_ms, sleep_until
    from workflows.policies import ATTEMPT_ONCE, polls
    from workflows.run_steps import run_step

LONGEST = timedelta(minutes=5)
"""After so long the sensor looks by itself: a wake-up that was lost costs no more than that."""
MOST_UNCOUNTED = 20
"""So many polls that found nothing are made without a look, which counts them in the metrics."""
HELD_LOOKS = timedelta(minutes=1)
"""While the workspace is held: a wake-up at its end that was lost costs no more than that."""
PAUSE = timedelta(seconds=2)
"""Before a pass that failed is repeated."""
GRACE = timedelta(seconds=30)
"""How much longer than its timeout an evaluation may take: the worker itself ends it, and says so."""
WORKER_SILENT = timedelta(seconds=10)
"""A worker of users that gives no sign of life for so long is gone."""
NOBODY_TAKES = timedelta(minutes=1)
"""An evaluation that no worker takes for so long is asked for anew, on what the rows say then."""
QUIET = "quiet-polls"
"""The patch that lets sensors replay of which older code recorded, and looked at, what had found nothing."""
DIRECT = "polls-without-a-look"
"""The patch that lets sensors replay which looked before each poll."""
SERIES = "polls-by-tries"
"""The patch that lets sensors replay which heard of each poll."""


@workflow.defn(name=names.SENSOR_WORKFLOW, failure_exception_types=ENDS_THE_RUN)
class SensorWorkflow:
    """Evaluates one sensor; its id keeps one workflow for each."""

    @workflow.init
    def __init__(self, start: SensorStart) -> None:
        self._start = start
        self._memory = start.memory
        self._decisions = list(start.decisions)
        self._evaluations = start.evaluations
        self._asked: Callers[SensorAsked, SensorDecision] = Callers()
        self._woken = True
        self._cancelled = False
        self._look = SensorLook()
        self._began_ms: int | None = None
        self._behind: int | None = None
        self._lag_ms: int | None = None
        self._nobody = False
        self._late_ms = list(start.late_ms)
        self._looked_ms = 0
        self._rested = False
        self._series: PollSeries | None = None
        self._series_ms = 0
        self._trouble: str | None = None

    @workflow.run
    async def run(self, start: SensorStart) -> None:
        """Evaluate until the sensor has left its file. A cancellation ends it, after what is under way."""
        show_in_search(WorkspaceRef(tenant=start.tenant, workspace=start.workspace))
        await finish_though_cancelled(asyncio.create_task(self._work()), self._drain)

    async def _work(self) -> None:
        while not self._cancelled or self._asked:
            if self._asked:
                await self._asked.answer_first(self._answer)
            elif not await self._pass():
                return
            elif history_is_long():
                await workflow.wait_condition(workflow.all_handlers_finished)
                if not self._asked:
                    workflow.continue_as_new(self._handed_on())
        await workflow.wait_condition(workflow.all_handlers_finished)

    @workflow.signal(name=names.WAKE_SIGNAL, description="The sensor was changed, deployed, or got a message")
    def wake(self) -> None:
        """Look at the rows now."""
        self._woken = True

    @workflow.update(name=names.EVALUATE_UPDATE, description="Evaluate now, or say what an evaluation would come to")
    async def evaluate(self, asked: SensorAsked) -> SensorDecision:
        """Evaluate the sensor now; answered with what that came to, or with `dry_run` would."""
        return await self._asked.wait(asked)

    @evaluate.validator
    def _may_ask(self, asked: SensorAsked) -> None:
        self._asked.check(is_ending=self._cancelled)

    @workflow.query(name=names.STATUS_QUERY, description="What the sensor is doing, and what it has decided")
    def status(self) -> SensorDoing:
        """Return counts, what it waits for, and the last decisions."""
        view = self._look.view
        return SensorDoing(
            sensor_id=self._start.sensor_id,
            evaluations=self._evaluations,
            next_ms=self._look.next_ms if self._series is None else self._series_ms,
            every_ms=None if self._series is None else self._series.every_ms,
            evaluating_since_ms=self._began_ms,
            waits=self._waits(),
            failures=self._memory.failures,
            polls=self._memory.polls,
            backlog=0 if view is None else view.backlog,
            behind=self._behind,
            lag_ms=self._lag_ms,
            decisions=self._decisions,
            trouble=self._trouble,
        )

    async def _pass(self) -> bool:
        """Look once, evaluate if that is due, and sleep else; False if there is no such sensor."""
        known = None if self._woken else self._known()
        self._woken = False
        try:
            look = await self._looked(None) if known is None else known
            if look.view is None:
                await workflow.wait_condition(workflow.all_handlers_finished)
                return bool(self._asked or self._woken)
            if look.due or look.done is not None:
                decision = await self._evaluated(look, dry_run=False)
                if decision is not None and self._rests(look, decision):
                    await self._sleep(self._pause())
                return True
        except ActivityError as error:
            self._trouble = str(error.cause or error)
            workflow.logger.error("a pass failed: %s", self._trouble)
            await self._sleep(PAUSE)
            return True
        self._trouble = None
        self._show()
        await self._sleep(self._pause())
        return True

    async def _answer(self, asked: SensorAsked) -> SensorDecision:
        """Evaluate for a caller. Raises `ApplicationError` if there is nothing to evaluate, and `ActivityError`."""
        look = await self._looked(asked)
        if look.view is None or not look.due:
            why = look.gone or look.waits or "there is nothing to evaluate"
            raise ApplicationError(why, type=names.INVALID_REQUEST, non_retryable=True)
        decision = await self._evaluated(look, dry_run=asked.dry_run)
        assert decision is not None, "only a series ends without a decision, and nobody is answered with one"
        return decision

    async def _looked(self, asked: SensorAsked | None) -> SensorLook:
        start = self._start
        order = SensorLookOrder(
            tenant=start.tenant,
            workspace=start.workspace,
            sensor_id=start.sensor_id,
            now_ms=now_ms(),
            memory=self._memory,
            asked=asked,
            late_ms=self._late_ms,
        )
        self._rested = False
        look = await run_step(names.LOOK_AT_SENSOR, order, SensorLook, "read where the sensor stands")
        self._late_ms = []
        self._looked_ms = order.now_ms
        if asked is None or not asked.dry_run:
            self._look = look
            oldest = None if look.view is None else look.view.oldest_ms
            if oldest is not None:
                self._lag_ms = max(0, now_ms() - oldest)
        return look

    async def _evaluated(self, look: SensorLook, *, dry_run: bool) -> SensorDecision | None:
        """Evaluate and record; return what that came to, None for a series of polls that was ended between two.

        Raises `ActivityError` of our own steps.
        """
        done = look.done if look.done is not None else await self._of_code(look, dry_run=dry_run)
        if done is None:
            return None
        if dry_run:
            return done.decision
        decision = done.decision
        self._memory, self._behind = done.memory, done.behind
        self._nobody = decision.outcome is EvaluationOutcome.NO_WORKER
        self._evaluations += 1 + len(done.earlier)
        self._decisions = [*self._decisions, *done.earlier][-MOST_DECISIONS:]
        if decision.late_ms is not None and not (look.view is not None and look.view.backlog):
            self._lag_ms = decision.late_ms
        if decision.outcome not in (EvaluationOutcome.NOTHING, EvaluationOutcome.NO_WORKER):
            self._decisions = [*self._decisions, decision][-MOST_DECISIONS:]
        self._trouble = None
        self._show()
        if decision.outcome is EvaluationOutcome.CHANGED:
            # Somebody else has evaluated or changed it; if the rows do not say so yet, they will in a moment.
            await self._sleep(timedelta(milliseconds=500))
        return decision

    async def _of_code(self, look: SensorLook, *, dry_run: bool) -> SensorDone | None:
        """Have the function called by a worker of its code location, and record what it found.

        None for a series of polls that was ended between two.
        """
        view = look.view
        assert look.order is not None
        assert view is not None
        assert look.task_queue is not None
        began_ms, due_ms = now_ms(), look.due_ms
        series = None if dry_run or due_ms is None else self._series_from(view, began_ms)
        order = look.order.model_copy(update={"due_ms": due_ms, "series": series})
        if series is None:
            self._began_ms = began_ms
        try:
            answer = await self._called(order, look.task_queue, dry_run=dry_run)
        except ActivityError as error:
            cause = error.cause
            waited = isinstance(cause, ActivityTimeout) and cause.type is TimeoutType.SCHEDULE_TO_START
            if series is not None:
                self._heard_nothing_of(series, began_ms, NOBODY_TAKES if waited else timedelta(0))
            if waited:
                message = f"no worker of code location {view.location} has taken it: start one, `springline work FILE`"
                nobody = SensorDecision(at_ms=began_ms, outcome=EvaluationOutcome.NO_WORKER, message=message)
                return SensorDone(decision=nobody, memory=self._memory)
            if series is not None and isinstance(cause, CancelledError):
                return None
            answer = EvaluationAnswer(
                error=f"the worker that evaluated it is gone: {cause or error}",
                category="INFRASTRUCTURE",
                reason_code="WORKER_LOST",
                counts=False,
            )
        finally:
            self._began_ms = None
        if answer.polled is not None:
            polled = answer.polled
            self._count_quiet(polled.quiet, began_ms, polled.began_ms)
            began_ms, due_ms = polled.began_ms, polled.due_ms
        found = None if dry_run else nothing_found(view, answer, self._memory, began_ms)
        if found is not None and workflow.patched(QUIET):
            late_ms = None if due_ms is None else max(0, began_ms - due_ms)
            self._late_ms.append(late_ms)
            decision = found.decision.model_copy(update={"late_ms": late_ms})
            return SensorDone(decision=decision, memory=found.memory, behind=answer.behind)
        record = SensorRecordOrder(
            tenant=self._start.tenant,
            workspace=self._start.workspace,
            view=view,
            answer=answer,
            began_ms=began_ms,
            now_ms=now_ms(),
            due_ms=due_ms,
            memory=self._memory,
            dry_run=dry_run,
            # What they say is with the worker, and in the ledger.
            further=[one.model_copy(update={"payload": None}) for one in look.order.further[: len(answer.further)]],
        )
        return await run_step(names.RECORD_EVALUATION, record, SensorDone, "record what it found")

    def _series_from(self, view: SensorView, began_ms: int) -> PollSeries | None:
        """Return the polls that are made without this workflow, None for none."""
        ends_ms = self._looked_ms + LONGEST // timedelta(milliseconds=1)
        most = MOST_UNCOUNTED + 1 - len(self._late_ms)
        series = series_of(view, self._memory, begins_ms=began_ms, ends_ms=ends_ms, most=most)
        return series if series is not None and workflow.patched(SERIES) else None

    async def _called(self, order: EvaluationOrder, task_queue: str, *, dry_run: bool) -> EvaluationAnswer:
        """Have the function called, again and again in a series; what happens meanwhile ends that.

        Raises `ActivityError`.
        """
        series = order.series
        handle: workflow.ActivityHandle[EvaluationAnswer] = workflow.start_activity(
            names.EVALUATE_SENSOR,
            order,
            task_queue=task_queue,
            result_type=EvaluationAnswer,
            schedule_to_start_timeout=NOBODY_TAKES,
            start_to_close_timeout=timedelta(milliseconds=order.timeout_ms) + GRACE,
            heartbeat_timeout=WORKER_SILENT,
            retry_policy=ATTEMPT_ONCE if series is None else polls(series.most),
            # A poll that has begun is not ended with its series: what it finds counts.
            cancellation_type=workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
            summary="call its function" + (" (dry run)" if dry_run else ""),
        )
        if series is None:
            return await handle
        self._series, self._series_ms = series, now_ms()
        self._show()
        try:
            await workflow.wait_condition(lambda: handle.done() or self._woken or self._cancelled or bool(self._asked))
            if not handle.done():
                handle.cancel()
            return await handle
        except ActivityError as error:
            cause = error.cause
            if isinstance(cause, ApplicationError) and cause.type == names.FOUND_NOTHING and cause.details:
                return EvaluationAnswer.model_validate(cause.details[0])
            raise
        finally:
            self._series = None

    def _heard_nothing_of(self, series: PollSeries, first_ms: int, silent: timedelta) -> None:
        """Count the polls of a series that nobody tells of."""
        quiet = surely_made(series, first_ms, now_ms() - silent // timedelta(milliseconds=1))
        self._count_quiet(quiet, first_ms, first_ms + max(0, quiet - 1) * series.every_ms)

    def _count_quiet(self, quiet: int, first_ms: int, last_ms: int) -> None:
        """Count polls that found nothing, before the one that is told of."""
        self._memory = after_quiet(self._memory, quiet, first_ms, last_ms)
        self._evaluations += quiet
        self._late_ms += [None] * quiet

    def _rests(self, look: SensorLook, decision: SensorDecision) -> bool:
        """Say whether a poll found nothing, so that the rows are as they were, and the next one is known and later."""
        view, now = look.view, now_ms()
        if decision.outcome is not EvaluationOutcome.NOTHING or view is None or self._woken:
            return False
        following = next_evaluation(view, self._memory, now)
        if following.due_ms is None or following.is_due(now) or owes_summary(view, self._memory, now):
            return False
        if not workflow.patched(QUIET):
            return False
        # Of what the look has found, what is to be called stays as it was.
        self._look = look.model_copy(update={"due": False, "due_ms": following.due_ms, "next_ms": following.due_ms})
        self._rested = True
        return True

    def _known(self) -> SensorLook | None:
        """Return what the last look has found, where a poll is due by that and nothing was found there last time."""
        look, now = self._look, now_ms()
        is_due = self._rested and look.order is not None and look.due_ms is not None and look.due_ms <= now
        if (
            not is_due
            or len(self._late_ms) > MOST_UNCOUNTED
            or now - self._looked_ms >= LONGEST / timedelta(milliseconds=1)
        ):
            return None
        if look.view is None or owes_summary(look.view, self._memory, now) or not workflow.patched(DIRECT):
            return None
        return look.model_copy(update={"due": True})

    def _pause(self) -> timedelta:
        look = self._look
        pause = HELD_LOOKS if look.view is not None and look.view.held else LONGEST
        if look.next_ms is None:
            return pause
        return min(pause, timedelta(milliseconds=max(1, look.next_ms - now_ms())))

    async def _sleep(self, pause: timedelta) -> None:
        await sleep_until(
            lambda: self._woken or self._cancelled or bool(self._asked), pause, "until the next evaluation"
        )

    def _handed_on(self) -> SensorStart:
        return self._start.model_copy(
            update={
                "memory": self._memory,
                "decisions": self._decisions,
                "evaluations": self._evaluations,
                "late_ms": self._late_ms,
            }
        )

    def _drain(self) -> None:
        self._cancelled = True

    def _waits(self) -> str | None:
        if self._nobody:
            return "no worker of its code location takes evaluations"
        return self._look.waits

    def _show(self) -> None:
        start, view, memory = self._start, self._look.view, self._memory
        lines = [f"Sensor `{start.sensor_id}` of `{start.tenant}/{start.workspace}`: {self._evaluations} evaluations"]
        if view is not None:
            lines.append(f"- cursor `{view.cursor}`" if view.cursor is not None else "- no cursor")
            lines.append(f"- {view.backlog} message(s) wait" if view.backlog else "- nothing waits")
        if self._waits() is not None:
            lines.append(f"- {self._waits()}")
        if memory.failures:
            lines.append(f"- {memory.failures} evaluation(s) in a row have failed")
        lines += [f"- {one.outcome}: {one.run_count} run(s) {one.message or ''}" for one in self._decisions[-5:]]
        workflow.set_current_details("\n".join(line[:500] for line in lines))
