"""Repair: sees to it that nothing of a workspace stands still because whoever was to act on it is gone.

    wake, update "repair", or time --> look_for_repairs, which also decides --> make_repairs --> report

All decisions are in `springline.control.repair`. It never ends by itself, and has nothing to lose but its back-off:
workers bring it back (docs/protocol.md#repair).
"""

from __future__ import annotations

import asyncio
from datetime import timedelta

from temporalio import workflow
from temporalio.exceptions import ActivityError

with workflow.unsafe.imports_passed_through():
    from springline import names
    from springline.control.repair import (
        LOOKS_MS,
        RepairAsked,
        RepairLook,
        RepairLookOrder,
        RepairOrder,
        RepairReport,
        RepairsMade,
        RepairStart,
        RepairStatus,
        RepairTry,
        next_look_ms,
        remembered,
        report_of,
    )
    from springline.sequencer.messages import WorkspaceRef
    from workflows.callers import Callers
    from workflows.failures import ENDS_THE_RUN
    from workflows.ledger_steps import show_in_search
    from workflows.lifecycle import finish_though_cancelled, history_is_long, now_ms, sleep_until
    from workflows.run_steps import run_step


@workflow.defn(name=names.REPAIR_WORKFLOW, failure_exception_types=ENDS_THE_RUN)
class Repair:
    """Looks after one workspace; its id keeps one workflow for each."""

    @workflow.init
    def __init__(self, start: RepairStart) -> None:
        self._start = start
        self._tried: list[RepairTry] = list(start.tried)
        self._made = dict(start.made)
        self._idle_passes = start.idle_passes
        self._asked: Callers[RepairAsked, RepairReport] = Callers()
        self._wakes = False
        # Who starts it for a dry run must not have anything changed at once; who wants it at once wakes it.
        self._next_ms = now_ms() + LOOKS_MS
        self._passes = 0
        self._last: RepairReport | None = None
        self._trouble: str | None = None
        self._cancelled = False

    @workflow.run
    async def run(self, start: RepairStart) -> None:
        """Look again and again. A cancellation ends it, after the pass that is under way."""
        show_in_search(WorkspaceRef(tenant=start.tenant, workspace=start.workspace))
        await finish_though_cancelled(asyncio.create_task(self._work()), self._drain)

    async def _work(self) -> None:
        while not self._cancelled or self._asked:
            if self._asked:
                await self._asked.answer_first(lambda asked: self._pass(dry_run=asked.dry_run))
                continue
            if self._wakes or now_ms() >= self._next_ms:
                await self._pass_by_itself()
                continue
            if history_is_long():
                await workflow.wait_condition(workflow.all_handlers_finished)
                if not self._asked:
                    workflow.continue_as_new(self._handed_on())
                continue
            await self._rest()
        await workflow.wait_condition(workflow.all_handlers_finished)

    @workflow.signal(name=names.WAKE_SIGNAL, description="Look at the workspace now")
    def wake(self) -> None:
        """Look now, and each minute while there is open work."""
        self._wakes, self._idle_passes = True, 0

    @workflow.update(name=names.REPAIR_UPDATE, description="Look at the workspace now, and say what is repaired")
    async def repair(self, asked: RepairAsked) -> RepairReport:
        """Make a pass, or with `dry_run` only say what it would do; answered with its report."""
        return await self._asked.wait(asked)

    @repair.validator
    def _may_ask(self, asked: RepairAsked) -> None:
        self._asked.check(is_ending=self._cancelled)

    @workflow.query(name=names.STATUS_QUERY, description="What was found and repaired, and when it looks again")
    def status(self) -> RepairStatus:
        """Return the last pass, and counts of all."""
        return RepairStatus(
            passes=self._passes, made=self._made, next_ms=self._next_ms, last=self._last, trouble=self._trouble
        )

    async def _rest(self) -> None:
        wait_ms = self._next_ms - now_ms()
        await sleep_until(
            lambda: self._wakes or self._cancelled or bool(self._asked),
            timedelta(milliseconds=max(1, wait_ms)),
            "until the next look",
        )

    async def _pass_by_itself(self) -> None:
        self._wakes = False
        try:
            await self._pass(dry_run=False)
        except ActivityError as error:
            self._trouble = str(error.cause or error)
            workflow.logger.error("a pass failed: %s", self._trouble)
            self._idle_passes += 1
            self._next_ms = now_ms() + next_look_ms(is_busy=False, is_hurried=False, idle_passes=self._idle_passes)
        self._show()

    async def _pass(self, *, dry_run: bool) -> RepairReport:
        """Look, decide, and unless it is a dry run, repair. Raises `ActivityError`."""
        tenant, workspace, tried = self._start.tenant, self._start.workspace, self._tried
        look = await run_step(
            names.LOOK_FOR_REPAIRS,
            RepairLookOrder(tenant=tenant, workspace=workspace, now_ms=now_ms(), tried=tried),
            RepairLook,
            "look at rows, rounds and workflows" + (" (dry run)" if dry_run else ""),
        )
        at_ms, plan = now_ms(), look.plan
        if dry_run:
            return report_of(look, tried, at_ms, None)
        made = RepairsMade()
        if plan.due:
            made = await run_step(
                names.MAKE_REPAIRS,
                RepairOrder(tenant=tenant, workspace=workspace, repairs=plan.due),
                RepairsMade,
                f"{len(plan.due)} repair(s): {', '.join(sorted({one.finding.kind for one in plan.due}))}",
            )
        for place, one in enumerate(plan.due):
            if place not in made.failed:
                self._made[one.finding.kind] = self._made.get(one.finding.kind, 0) + 1
        self._tried = remembered(look.findings, tried, plan.due, at_ms)
        self._passes += 1
        self._trouble = None
        self._last = report_of(look, tried, at_ms, made)
        is_busy = bool(look.active or look.waiting or look.schedules or look.findings)
        self._idle_passes = 0 if is_busy else self._idle_passes + 1
        is_hurried = bool(plan.left or look.unsettled)
        self._next_ms = now_ms() + next_look_ms(is_busy=is_busy, is_hurried=is_hurried, idle_passes=self._idle_passes)
        self._show()
        return self._last

    def _handed_on(self) -> RepairStart:
        return self._start.model_copy(
            update={"tried": self._tried, "made": self._made, "idle_passes": self._idle_passes}
        )

    def _drain(self) -> None:
        self._cancelled = True

    def _show(self) -> None:
        made = ", ".join(f"{count} {kind}" for kind, count in sorted(self._made.items())) or "none"
        lines = [f"Repairs of `{self._start.tenant}/{self._start.workspace}`: {made}"]
        if self._last is not None:
            lines += ["", f"Last look: {self._last.active_runs} active run(s), {len(self._last.items)} finding(s)"]
            lines += [f"- {one.kind} `{one.subject}`: {one.why}" for one in self._last.items[:10]]
        if self._trouble is not None:
            lines += ["", self._trouble]
        workflow.set_current_details("\n".join(lines))
