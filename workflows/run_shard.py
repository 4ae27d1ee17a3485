"""RunShardWorkflow: makes attempts of a large run, and tells the run of their ends (see `run_shards`)."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from temporalio import workflow
from temporalio.exceptions import ApplicationError

with workflow.unsafe.imports_passed_through():
    from springline import names
    from springline.control.runs.messages import (
        AttemptReport,
        AttemptsBegun,
        AttemptsEnded,
        AttemptsToEnd,
        ShardStart,
        ShardWaits,
    )
    from workflows.failures import ENDS_THE_RUN
    from workflows.lifecycle import finish_though_cancelled, now_ms
    from workflows.run_attempts import AttemptsUnderWay

MOST_BYTES = 256 * 1024
"""Of the reports of one signal."""
FEW = 8
GATHERED = timedelta(milliseconds=100)
"""With more attempts than `FEW` under way, a shard gathers ends for so long before it tells the run."""
PATIENCE = timedelta(minutes=5)
"""A shard that has heard nothing of its run for so long asks whether it is there."""
PAUSE = timedelta(seconds=10)
"""Between two tries to reach the run: one that is gone is brought back within minutes."""


@workflow.defn(name=names.RUN_SHARD_WORKFLOW, failure_exception_types=ENDS_THE_RUN)
class RunShardWorkflow:
    """Makes attempts of one run until it is told to close, or its run is gone."""

    @workflow.init
    def __init__(self, start: ShardStart) -> None:
        self._start = start
        self._run_id = names.run_workflow_id(start.tenant, start.workspace, start.run_id)
        self._reports: list[AttemptReport] = []
        self._attempts = AttemptsUnderWay(self._reports.append)
        self._taken = self._told = 0
        self._closes = False
        self._heard_ms = now_ms()

    @workflow.run
    async def run(self, start: ShardStart) -> None:
        """Work until all attempts have ended and the run knows it. To cancel a shard is to cancel its attempts."""
        await finish_though_cancelled(asyncio.create_task(self._work()), self._attempts.end_all)

    async def _work(self) -> None:
        watching = asyncio.create_task(self._watch())
        while not (self._closes and not self._attempts and not self._reports):
            await workflow.wait_condition(lambda: bool(self._reports) or (self._closes and not self._attempts))
            await self._tell()
            self._show()
        watching.cancel()

    @workflow.signal(name=names.BEGIN_ATTEMPTS_SIGNAL, description="Attempts to make")
    def begin_attempts(self, begun: AttemptsBegun) -> None:
        """Begin attempts."""
        self._heard_ms = now_ms()
        self._taken += len(begun.orders)
        for placed in begun.orders:
            self._attempts.begin(placed)
        self._show()

    @workflow.signal(name=names.END_ATTEMPTS_SIGNAL, description="Attempts to cancel; whether the shard ends then")
    def end_attempts(self, said: AttemptsToEnd) -> None:
        """Cancel attempts; with none named, all of them. Empty, it says that the run is there."""
        self._heard_ms = now_ms()
        self._closes = self._closes or said.closes
        if said.attempt_ids is None:
            self._attempts.end_all()
        for attempt_id in said.attempt_ids or ():
            self._attempts.end(attempt_id)

    async def _tell(self) -> None:
        """Tell the run what has ended."""
        if len(self._attempts) > FEW:
            await workflow.sleep(GATHERED, summary="ends are gathered")
        reports: list[AttemptReport] = []
        size = 0
        for report in self._reports:
            size += len(report.model_dump_json())
            if size > MOST_BYTES and reports:
                break
            reports.append(report)
        if not reports:
            return
        said = AttemptsEnded(shard_id=workflow.info().workflow_id, reports=reports)
        if await self._signalled(names.ATTEMPTS_ENDED_SIGNAL, said):
            del self._reports[: len(reports)]
            self._told += len(reports)
            self._heard_ms = now_ms()
        elif self._closes:
            # Nobody is left who wants to know: the run's rows say what became of it.
            self._reports.clear()
        else:
            await workflow.sleep(PAUSE, summary="the run has no workflow now")

    async def _watch(self) -> None:
        """Ask after the run when it has been silent; without it, end all attempts: it takes them for lost."""
        while True:
            left_ms = self._heard_ms + PATIENCE // timedelta(milliseconds=1) - now_ms()
            if left_ms > 0:
                await workflow.sleep(timedelta(milliseconds=left_ms), summary="until the run is asked after")
            elif await self._signalled(names.SHARD_WAITS_SIGNAL, ShardWaits(shard_id=workflow.info().workflow_id)):
                self._heard_ms = now_ms()
            else:
                workflow.logger.warning("%s is gone, and this shard ends with it", self._run_id)
                self._closes = True
                self._attempts.end_all()
                return

    async def _signalled(self, name: str, said: AttemptsEnded | ShardWaits) -> bool:
        try:
            await workflow.get_external_workflow_handle(self._run_id).signal(name, said)
        except ApplicationError:
            return False
        return True

    def _show(self) -> None:
        start = self._start
        workflow.set_current_details(
            f"Shard {start.number} of run **{start.run_id}** of `{start.tenant}/{start.workspace}`: "
            f"{len(self._attempts)} attempts under way, {self._told} of {self._taken} told to the run"
        )
