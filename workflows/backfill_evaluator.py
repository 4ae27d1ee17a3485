"""BackfillEvaluator: one backfill, from its first chunk to the end of its last.

There is one for each backfill, so that one that is long, slow or damaged holds up no other, and ends with it.
"""

from __future__ import annotations

from datetime import timedelta

from temporalio import workflow
from temporalio.exceptions import ActivityError

with workflow.unsafe.imports_passed_through():
    from springline import names
    from springline.control.backfills.messages import BackfillStart, EvaluateBackfillOrder, EvaluatedBackfill
    from springline.control.backfills.telling import bar, span_text
    from springline.ledger.timestamps import format_ms
    from springline.sequencer.messages import WorkspaceRef
    from workflows.failures import ENDS_THE_RUN
    from workflows.ledger_steps import show_in_search
    from workflows.lifecycle import history_is_long, now_ms, sleep_until
    from workflows.run_steps import run_step

LOOKS_AGAIN = timedelta(minutes=1)
"""After so long the evaluator looks by itself: a wake-up that was lost costs no more than that."""
PAUSED_LOOKS = timedelta(minutes=5)
"""And of a backfill that is paused."""
PAUSE = timedelta(seconds=2)
"""Before a pass that failed is repeated."""


@workflow.defn(name=names.BACKFILL_EVALUATOR, failure_exception_types=ENDS_THE_RUN)
class BackfillEvaluator:
    """Plans the chunks of one backfill, records their ends, and ends it.

    It has no state of its own: where the backfill stands follows from what the ledger has on record
    (docs/protocol.md#backfills).
    """

    @workflow.init
    def __init__(self, start: BackfillStart) -> None:
        self._start = start
        self._woken = True
        self._passes = 0
        self._planned = self._ended = 0
        self._last = EvaluatedBackfill()
        self._trouble: str | None = None

    @workflow.run
    async def run(self, start: BackfillStart) -> str | None:
        """Work until the backfill is over, and return the state to which it has come; None if there is none."""
        show_in_search(WorkspaceRef(tenant=start.tenant, workspace=start.workspace))
        while True:
            self._woken = False
            done = await self._pass()
            if history_is_long():
                await workflow.wait_condition(workflow.all_handlers_finished)
                workflow.continue_as_new(start)
            if done and (self._last.is_over or self._last.state is None) and not self._woken:
                return self._last.state
            if not self._woken:
                await self._sleep(done)

    @workflow.signal(name=names.WAKE_SIGNAL, description="A run of a chunk has ended, or the backfill was changed")
    def wake(self) -> None:
        """Look at the backfill at once."""
        self._woken = True

    @workflow.query(name=names.STATUS_QUERY, description="How far the backfill is, and when the evaluator looks again")
    def status(self) -> dict[str, object]:
        """Return what the last pass came to, and counts of this run of the evaluator."""
        return {
            "passes": self._passes,
            "planned": self._planned,
            "ended": self._ended,
            "trouble": self._trouble,
            **self._last.model_dump(mode="json"),
        }

    async def _pass(self) -> bool:
        """Do what is due; False if that failed."""
        start = self._start
        order = EvaluateBackfillOrder(
            tenant=start.tenant, workspace=start.workspace, backfill_id=start.backfill_id, now_ms=now_ms()
        )
        self._passes += 1
        try:
            self._last = await run_step(
                names.EVALUATE_BACKFILL, order, EvaluatedBackfill, "record ended chunks, plan the next ones"
            )
        except ActivityError as error:
            self._trouble = str(error.cause or error)
            workflow.logger.error("a pass failed: %s", self._trouble)
            self._show()
            return False
        self._trouble = self._last.aside
        self._planned += self._last.planned
        self._ended += self._last.ended
        self._show()
        return True

    async def _sleep(self, done: bool) -> None:
        """Sleep until the next look that was named, or a wake-up."""
        pause = LOOKS_AGAIN if self._last.state != "PAUSED" or self._last.progress.chunks_running else PAUSED_LOOKS
        if not done:
            pause = PAUSE
        elif self._last.next_ms is not None:
            pause = min(pause, timedelta(milliseconds=max(0, self._last.next_ms - now_ms())))
        if not pause:
            return
        await sleep_until(lambda: self._woken, pause, "until a run of a chunk has ended")

    def _show(self) -> None:
        """Tell people how far the backfill is."""
        start, last = self._start, self._last
        far = last.progress
        lines = [
            f"Backfill **{start.backfill_id}** of `{start.tenant}/{start.workspace}`: "
            + (last.state or "there is none of ours")
            + (", held" if last.held else ""),
            "",
            f"`{bar(far)}`",
            "",
            f"- {far.done} done, {far.failed} failed, {far.skipped} skipped, {far.running} running, {far.waiting} "
            f"waiting, of {far.total} partitions",
            f"- {far.chunks_ended} of {far.chunks} chunks ended, {far.chunks_running} running",
            f"- left: {span_text(far.remaining_ms)}, at {far.rate_5m / 1_000:g} partitions/s",
        ]
        if far.oldest_running_ms is not None:
            lines.append(f"- the oldest running chunk was planned at {format_ms(far.oldest_running_ms)}")
        if self._trouble is not None:
            lines += ["", self._trouble]
        workflow.set_current_details("\n".join(lines))
