"""PoolWorkflow: the slots of one pool of a workspace, given to the attempts of all its runs.

All decisions are in `springline.control.runs.pools`. This module takes in what runs want, has the rows read, and tells
runs what they were given. It has no state that matters: runs repeat what they want, and the rows say who has a slot.
"""

from __future__ import annotations

import asyncio
import contextlib
from datetime import timedelta

from temporalio import workflow
from temporalio.exceptions import ActivityError, ApplicationError

with workflow.unsafe.imports_passed_through():
    from springline import names
    from springline.control.runs.messages import (
        GivenSlot,
        PoolDoing,
        PoolOrder,
        PoolRows,
        PoolStart,
        SlotHolder,
        SlotsAsked,
        SlotsGranted,
    )
    from springline.control.runs.pools import PoolSlots
    from springline.ledger.timestamps import format_ms
    from springline.sequencer.messages import WorkspaceRef
    from workflows.failures import ENDS_THE_RUN
    from workflows.ledger_steps import show_in_search
    from workflows.lifecycle import history_is_long, now_ms
    from workflows.run_steps import run_step

LOOKS = timedelta(seconds=5)
"""While somebody wants a slot, the rows are read this often, though nobody has said that they changed."""
IDLE = timedelta(seconds=60)
"""After so long without a message a pool of which nobody wants anything looks once more, and ends."""
PAUSE = timedelta(seconds=2)
"""Before a look that failed is repeated."""
_SHOWN = 20


@workflow.defn(name=names.POOL_WORKFLOW, failure_exception_types=ENDS_THE_RUN)
class PoolWorkflow:
    """Gives the slots of one pool; its id keeps one workflow for each pool."""

    @workflow.init
    def __init__(self, start: PoolStart) -> None:
        self._start = start
        self._pool = PoolSlots(start.pool, start.asked, start.given, start.turns, knows=start.continues)
        self._looks = True
        self._trouble: str | None = None

    @workflow.run
    async def run(self, start: PoolStart) -> None:
        """Work until nobody wants a slot."""
        show_in_search(WorkspaceRef(tenant=start.tenant, workspace=start.workspace))
        while True:
            if self._looks:
                await self._look()
                continue
            if history_is_long():
                await workflow.wait_condition(workflow.all_handlers_finished)
                workflow.continue_as_new(self._handed_over())
            idle = self._pool.is_idle
            try:
                await workflow.wait_condition(
                    lambda: self._looks, timeout=IDLE if idle else LOOKS, timeout_summary="until it looks by itself"
                )
            except TimeoutError:
                await self._look()
                if self._pool.is_idle and idle and not self._looks and workflow.all_handlers_finished():
                    return

    @workflow.signal(name=names.SLOTS_ASKED_SIGNAL, description="A run says which attempts it wants slots for")
    def slots_asked(self, asked: SlotsAsked) -> None:
        """Take in what a run wants, and look whether it can have it."""
        self._pool.ask(asked, now_ms())
        self._looks = True

    @workflow.query(name=names.STATUS_QUERY, description="Who has slots, since when, and who waits")
    def status(self) -> PoolDoing:
        """Return who has slots as of the last look, what was given since, and who waits."""
        pool = self._pool
        rows = pool.rows or PoolRows()
        return PoolDoing(
            pool=self._start.pool,
            slots=rows.slots,
            holders=rows.holders,
            given=list(pool.given.values()),
            waiting=pool.waiting,
            trouble=self._trouble,
        )

    async def _look(self) -> None:
        """Read the rows, and give what slots there are; a look that failed is repeated after a pause."""
        self._looks = False
        order = PoolOrder(
            tenant=self._start.tenant,
            workspace=self._start.workspace,
            pool=self._start.pool,
            asking=sorted(self._pool.asked),
        )
        try:
            rows = await run_step(names.READ_POOL, order, PoolRows, f"who has slots of {self._start.pool}")
        except ActivityError as error:
            self._trouble = f"{names.READ_POOL} failed: {error.cause or error}"
            workflow.logger.error("%s", self._trouble)
            self._looks = True
            await workflow.sleep(PAUSE, summary="a look failed")
        else:
            self._trouble = None
            told = self._pool.look(rows, now_ms())
            await asyncio.gather(*(self._tell(run_id, message) for run_id, message in told.items()))
        workflow.set_current_details(self._described())

    async def _tell(self, run_id: str, told: SlotsGranted) -> None:
        """Tell a run. One that has no workflow gets its slots again when it has one, and asks."""
        run = names.run_workflow_id(self._start.tenant, self._start.workspace, run_id)
        with contextlib.suppress(ApplicationError):
            await workflow.get_external_workflow_handle(run).signal(names.SLOTS_GRANTED_SIGNAL, told)

    def _handed_over(self) -> PoolStart:
        pool = self._pool
        return self._start.model_copy(
            update={
                "asked": list(pool.asked.values()),
                "given": list(pool.given.values()),
                "turns": pool.turns,
                "continues": True,
            }
        )

    def _described(self) -> str:
        doing = self.status()
        size = "has no limit" if doing.slots is None else f"{len(doing.holders)} of {doing.slots} slots taken"
        lines = [f"Pool **{doing.pool}** of `{self._start.tenant}/{self._start.workspace}`: {size}"]
        if doing.holders or doing.given:
            lines += ["", "| Has a slot | Run | Since |", "| --- | --- | --- |"]
            have: list[SlotHolder | GivenSlot] = [*doing.holders, *doing.given]
            lines += [
                f"| `{one.task_key}`, attempt {one.attempt} | `{one.run_id}` | {_instant(one.since_ms)} |"
                for one in have[:_SHOWN]
            ]
        if doing.waiting:
            lines += ["", "| Waits | Tasks | Since |", "| --- | --- | --- |"]
            lines += [f"| `{one.run_id}` | {one.tasks} | {_instant(one.since_ms)} |" for one in doing.waiting[:_SHOWN]]
        if self._trouble is not None:
            lines += ["", self._trouble]
        return "\n".join(lines)


def _instant(at_ms: int | None) -> str:
    return "" if at_ms is None else format_ms(at_ms)
