"""ScheduleEvaluator: one workspace's schedules, from the next instant that is due to the next."""

from __future__ import annotations

from datetime import timedelta

from temporalio import workflow
from temporalio.exceptions import ActivityError

with workflow.unsafe.imports_passed_through():
    from springline import names
    from springline.control.schedules.messages import DecidedInstant, EvaluatedSchedules, EvaluateOrder, EvaluatorStart
    from springline.sequencer.messages import WorkspaceRef
    from workflows.evaluator_messages import MOST_KEPT, schedules_text
    from workflows.failures import ENDS_THE_RUN
    from workflows.ledger_steps import show_in_search
    from workflows.lifecycle import history_is_long, now_ms, sleep_until
    from workflows.run_steps import run_step

LONGEST = timedelta(minutes=5)
"""After so long the evaluator looks by itself: a wake-up that was lost costs no more than that."""
PAUSE = timedelta(seconds=2)
"""Before a pass that failed is repeated."""


@workflow.defn(name=names.SCHEDULE_EVALUATOR, failure_exception_types=ENDS_THE_RUN)
class ScheduleEvaluator:
    """Decides on the instants of one workspace's schedules, and sleeps until the next one.

    It has no state of its own: what is due follows from what the ledger has on record (docs/protocol.md#schedules).
    """

    @workflow.init
    def __init__(self, start: EvaluatorStart) -> None:
        self._start = start
        self._woken = True
        self._passes = 0
        self._runs = self._skipped = 0
        self._last = EvaluatedSchedules()
        self._trouble: str | None = None
        self._worker = start.worker
        self._decided: list[DecidedInstant] = []

    @workflow.run
    async def run(self, start: EvaluatorStart) -> None:
        """Work until there is no schedule."""
        show_in_search(WorkspaceRef(tenant=start.tenant, workspace=start.workspace))
        while True:
            self._woken = False
            done = await self._pass()
            if history_is_long():
                await workflow.wait_condition(workflow.all_handlers_finished)
                workflow.continue_as_new(start.model_copy(update={"worker": self._worker}))
            if done and not self._last.schedules and not self._woken:
                return
            if not self._woken:
                await self._sleep(done)

    @workflow.signal(name=names.WAKE_SIGNAL, description="A schedule was defined, or a hold has begun or ended")
    def wake(self) -> None:
        """Look at everything at once."""
        self._woken = True

    @workflow.query(name=names.STATUS_QUERY, description="What the evaluator has decided, and when it looks again")
    def status(self) -> dict[str, int | str | list[str] | bool | None]:
        """Return counts of this run of the evaluator."""
        return {
            "passes": self._passes,
            "schedules": self._last.schedules,
            "runs": self._runs,
            "skipped": self._skipped,
            "next_ms": self._last.next_ms,
            "aside": self._last.aside,
            "held": self._last.held,
            "trouble": self._trouble,
            "worker": self._worker,
        }

    async def _pass(self) -> bool:
        """Decide on what is due; False if that failed."""
        start = self._start
        order = EvaluateOrder(tenant=start.tenant, workspace=start.workspace, now_ms=now_ms(), worker=self._worker)
        self._passes += 1
        try:
            self._last = await run_step(names.EVALUATE_SCHEDULES, order, EvaluatedSchedules, "decide on what is due")
        except ActivityError as error:
            self._trouble = str(error.cause or error)
            workflow.logger.error("a pass failed: %s", self._trouble)
            self._describe()
            return False
        self._trouble = None
        self._worker = self._last.worker
        self._runs += self._last.runs
        self._skipped += self._last.skipped
        self._decided = [*reversed(self._last.decided), *self._decided][:MOST_KEPT]
        self._describe()
        return True

    def _describe(self) -> None:
        counts = (
            f"Since this run began: {self._runs} runs asked for, {self._skipped} ticks skipped, {self._passes} passes, "
            f"the last at {workflow.now():%Y-%m-%d %H:%M:%S} UTC."
        )
        where = f"{self._start.tenant}/{self._start.workspace}"
        workflow.set_current_details(schedules_text(where, self._last, self._decided, counts, self._trouble))

    async def _sleep(self, done: bool) -> None:
        """Sleep until the instant that was named, or a wake-up."""
        pause = LONGEST if done else PAUSE
        if done and self._last.next_ms is not None:
            pause = min(pause, timedelta(milliseconds=max(0, self._last.next_ms - now_ms())))
        if not pause:
            return
        await sleep_until(lambda: self._woken, pause, "until the next instant is due")
