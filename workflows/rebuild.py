"""RebuildWorkflow: rebuilds the projections of a workspace from listed events (docs/protocol.md#rebuild).

    plan_rebuild -> read_slice, scan_segment (side by side) -> plan_shards -> fold_shard (side by side) -> assemble
                 -> switch_in (full, catch-up) | compare (verify) -> write_report

Nothing is published before the one switch at the end, which the workspace's sequencer makes: a rebuild that fails or
is cancelled does not change the published state. Finished parts are in the work folder, whose name is derived
from the manifest, so a rebuild that is started again goes on from there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime

from temporalio import workflow
from temporalio.exceptions import ActivityError, ApplicationError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from springline import names
    from springline.errors import Code, Refusal
    from springline.rebuild.messages import (
        Assembled,
        AssembleOrder,
        BadEvent,
        Compared,
        CompareOrder,
        FoldShardOrder,
        PartOrder,
        PartRead,
        PlanOrder,
        RebuildMode,
        RebuildPlan,
        Reported,
        ReportOrder,
        ShardFolded,
        ShardsOrder,
        ShardsPlanned,
        Switched,
        SwitchOrder,
    )
    from springline.sequencer.messages import WorkspaceRef
    from workflows.failures import ENDS_THE_RUN
    from workflows.lifecycle import fresh_ulid, now_ms
    from workflows.rebuild_messages import (
        ASSEMBLING,
        CANCELLED,
        COMPARING,
        DONE,
        FAILED,
        FOLDING,
        PLANNING,
        READING,
        REPORTING,
        SPLITTING,
        SWITCHING,
        RebuildProgress,
        RebuildResult,
        RebuildStart,
        describe,
        percent_of,
    )
    from workflows.rebuild_steps import Shown, run_part

BAD_SHOWN = 100
NEXT = {
    RebuildMode.CATCH_UP: "Wait. Cancelling is safe at any time: nothing is published before the end.",
    RebuildMode.FULL: "Wait. Cancelling is safe at any time: nothing is published before the end.",
    RebuildMode.VERIFY: "Wait. A verification publishes nothing at all.",
}


@workflow.defn(name=names.REBUILD_WORKFLOW, failure_exception_types=ENDS_THE_RUN)
class RebuildWorkflow:
    """Rebuilds the projections of one workspace."""

    @workflow.init
    def __init__(self, start: RebuildStart) -> None:
        self._start = start
        self._workspace = WorkspaceRef(tenant=start.tenant, workspace=start.workspace)
        self._progress = RebuildProgress(phase=PLANNING, mode=start.mode, next_step="Wait.")
        self._shown = Shown()
        self._receipts: dict[int, str] = {}
        self._began: datetime | None = None
        self._phase_began: datetime | None = None

    @workflow.run
    async def run(self, start: RebuildStart) -> RebuildResult:
        """Do the rebuild and return its result; a refusal fails the run with a message that says what to do."""
        self._began = workflow.now()
        self._shown.begin(self._workspace, start.mode)
        try:
            return await self._rebuild(_mode(start.mode))
        except ApplicationError as error:
            self._stopped(error)
            raise
        except ActivityError as error:
            if is_cancelled_exception(error):
                self._cancelled()
                raise
            cause = error.cause
            if not isinstance(cause, ApplicationError):
                self._stopped(ApplicationError(str(cause or error), type=names.REBUILD_WORKFLOW))
                raise
            self._stopped(cause)
            raise ApplicationError(cause.message, *cause.details, type=cause.type, non_retryable=True) from error
        except asyncio.CancelledError:
            self._cancelled()
            raise

    @workflow.query(name=names.PROGRESS_QUERY, description="How far the rebuild is, and what it found")
    def progress(self) -> RebuildProgress:
        """Return the progress of the rebuild."""
        return self._progress

    async def _rebuild(self, mode: RebuildMode) -> RebuildResult:
        self._phase(PLANNING, 1)
        order = PlanOrder(
            workspace=self._workspace,
            rebuild_manifest_path=self._start.rebuild_manifest_path,
            mode=mode,
            now_ms=now_ms(),
        )
        plan = await run_part(names.PLAN_REBUILD, order, RebuildPlan, f"plan: read {order.rebuild_manifest_path}")
        self._update(
            work_id=plan.work_id,
            events_listed=plan.listed,
            skipped=plan.skipped,
            duplicates=plan.duplicate_paths,
            next_step=NEXT[mode],
        )
        self._note_attempt(plan.attempt)
        await self._read(plan)
        shards = await self._split(plan)
        self._check_complete(shards)
        if mode is RebuildMode.CATCH_UP:
            switched = await self._switch(
                SwitchOrder(
                    workspace=self._workspace,
                    plan=plan,
                    mode=mode,
                    split=shards.split,
                    allow_missing=self._start.allow_missing,
                )
            )
            return await self._finish(plan, mode, shards, None, switched, None)
        await self._fold(plan, shards.split)
        self._phase(ASSEMBLING, 1)
        assemble = AssembleOrder(
            workspace=self._workspace, plan=plan, split=shards.split, snapshot_id=fresh_ulid(), now_ms=now_ms()
        )
        base = await run_part(names.ASSEMBLE, assemble, Assembled, f"assemble {plan.shards} shard(s) into one base")
        self._note_attempt(base.attempt)
        if mode is RebuildMode.VERIFY:
            self._phase(COMPARING, 1)
            compare = CompareOrder(
                workspace=self._workspace, plan=plan, base_path=base.base_path, base_sha256=base.base_sha256
            )
            compared = await run_part(names.COMPARE, compare, Compared, "compare the published state with the rebuilt")
            self._note_attempt(compared.attempt)
            return await self._finish(plan, mode, shards, base, None, compared)
        switched = await self._switch(
            SwitchOrder(
                workspace=self._workspace,
                plan=plan,
                mode=mode,
                split=shards.split,
                base_path=base.base_path,
                base_sha256=base.base_sha256,
                allow_missing=self._start.allow_missing,
            )
        )
        return await self._finish(plan, mode, shards, base, switched, None)

    async def _read(self, plan: RebuildPlan) -> None:
        """Read all slices and listed segments, some at a time."""
        total = plan.slices + plan.segments
        self._phase(READING, total)

        async def read(number: int) -> None:
            order = PartOrder(workspace=self._workspace, plan=plan, number=number)
            if number < plan.slices:
                summary = f"slice {number + 1} of {plan.slices}: read and check its events"
                part = await run_part(names.READ_SLICE, order, PartRead, summary)
            else:
                order = order.model_copy(update={"number": number - plan.slices})
                summary = f"segment {order.number + 1} of {plan.segments}: read and check its events"
                part = await run_part(names.SCAN_SEGMENT, order, PartRead, summary)
            self._note_part(part)
            if part.receipt is not None:
                self._receipts[number] = part.receipt

        await self._side_by_side(read, total)

    async def _split(self, plan: RebuildPlan) -> ShardsPlanned:
        self._phase(SPLITTING, 1)
        order = ShardsOrder(workspace=self._workspace, plan=plan, receipts=self._receipts)
        shards = await run_part(names.PLAN_SHARDS, order, ShardsPlanned, f"split the fold into {plan.shards} shard(s)")
        self._note_attempt(shards.attempt)
        self._update(gaps=shards.gap_count)
        return shards

    async def _fold(self, plan: RebuildPlan, split: str) -> None:
        self._phase(FOLDING, plan.shards)

        async def fold(number: int) -> None:
            order = FoldShardOrder(workspace=self._workspace, plan=plan, split=split, number=number)
            summary = f"shard {number + 1} of {plan.shards}: fold its events in id order"
            shard = await run_part(names.FOLD_SHARD, order, ShardFolded, summary)
            self._note_attempt(shard.attempt)
            now = self._progress
            self._update(
                done=now.done + 1,
                duplicates=now.duplicates + shard.duplicates,
                damaged=now.damaged + shard.damaged,
                bad=_shown(now.bad, shard.bad),
                reused_parts=now.reused_parts + shard.reused,
            )

        await self._side_by_side(fold, plan.shards)
        self._check_complete(None)

    async def _switch(self, order: SwitchOrder) -> Switched:
        self._phase(SWITCHING, 1)
        summary = "hand the result to the workspace's sequencer, which moves the pointer"
        switched = await run_part(names.SWITCH_IN, order, Switched, summary)
        self._note_attempt(switched.attempt)
        return switched

    async def _finish(
        self,
        plan: RebuildPlan,
        mode: RebuildMode,
        shards: ShardsPlanned,
        base: Assembled | None,
        switched: Switched | None,
        compared: Compared | None,
    ) -> RebuildResult:
        self._phase(REPORTING, 1)
        now = self._progress
        seconds = self._seconds_since(self._began)
        result = RebuildResult(
            events_processed=base.events if base is not None else (switched.folded if switched else shards.events),
            manifest_id=switched.manifest_id if switched else None,
            manifest_revision=switched.manifest_revision if switched else None,
            visibility_status="visible" if switched else "not_published",
            mode=mode.value,
            events_skipped=plan.skipped,
            duplicates=now.duplicates,
            gap_count=shards.gap_count,
            missing=now.missing,
            damaged=now.damaged,
            later_events=switched.later_events if switched else 0,
            last_event_id=switched.last_event_id if switched else (base.last_event_id if base else plan.watermark),
            digest_before=compared.published_digest if compared else plan.digest_before,
            digest_after=switched.digest if switched else (compared.rebuilt_digest if compared else None),
            equal=compared.equal if compared else None,
            differences=sum(compared.counts.values()) if compared else 0,
            reused_parts=now.reused_parts,
            seconds=round(seconds, 3),
            timings=now.timings,
        )
        order = ReportOrder(
            workspace=self._workspace,
            plan=plan,
            name=f"{workflow.info().start_time:%Y%m%dT%H%M%S}-{workflow.info().run_id}",
            result=result.model_dump(mode="json"),
            rows=base.rows if base else {},
            compared=compared,
            bad=now.bad,
            gaps=shards.gaps,
        )
        reported = await run_part(names.WRITE_REPORT, order, Reported, "write the report")
        self._note_attempt(reported.attempt)
        result = result.model_copy(update={"report_path": reported.report_path})
        self._update(result=result, next_step=_after(result))
        self._phase(DONE, 1, done=1)
        return result

    def _check_complete(self, shards: ShardsPlanned | None) -> None:
        """Stop before anything is published if events are missing, damaged or not listed, unless that is allowed.

        A verification publishes nothing and goes on: missing events show as differences, and are counted.
        """
        now = self._progress
        is_only_looking = self._start.mode == RebuildMode.VERIFY.value
        if self._start.allow_missing or is_only_looking or not (now.missing or now.damaged or now.gaps):
            return
        first = [one.path for one in now.bad[:3]] or (shards.gaps[:3] if shards is not None else [])
        refusal = Refusal(
            code=Code.LEDGER_INCOMPLETE,
            message=(
                f"{now.missing} listed event(s) are missing, {now.damaged} are damaged and {now.gaps} accepted "
                f"event(s) are not listed; nothing was published. First: {', '.join(first)}"
            ),
            field="rebuild_manifest_path",
            value=self._start.rebuild_manifest_path,
            remedy=(
                "`springline rebuild explain` names them: `springline ledger restore` writes the objects that segments "
                "or round records still hold, `springline rebuild plan` lists all that is accepted. Then start again, "
                "or with allow_missing to publish a state without them."
            ),
        )
        raise ApplicationError(
            refusal.message, refusal.model_dump(mode="json"), type=refusal.code.value, non_retryable=True
        )

    async def _side_by_side(self, work: Callable[[int], Awaitable[None]], count: int) -> None:
        """Do `count` pieces of work, at most `concurrency` at a time; the first failure cancels the others."""
        numbers = iter(range(count))

        async def worker() -> None:
            for number in numbers:
                await work(number)

        workers = [asyncio.create_task(worker()) for _ in range(min(self._start.concurrency, count))]
        try:
            await asyncio.gather(*workers)
        except BaseException:
            for one in workers:
                one.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
            raise

    def _note_part(self, part: PartRead) -> None:
        now = self._progress
        self._note_attempt(part.attempt)
        self._update(
            done=now.done + 1,
            parts_done=now.parts_done + 1,
            reused_parts=now.reused_parts + part.reused,
            events=now.events + part.events,
            missing=now.missing + part.missing,
            damaged=now.damaged + part.damaged,
            bad=_shown(now.bad, part.bad),
            last_event_id=max(filter(None, (now.last_event_id, part.last_event_id)), default=None),
        )

    def _note_attempt(self, attempts: int) -> None:
        if attempts > 1:
            self._update(repeated_steps=self._progress.repeated_steps + 1)

    def _phase(self, phase: str, total: int, *, done: int = 0) -> None:
        timings = self._timings()
        self._phase_began = workflow.now()
        self._update(phase=phase, done=done, total=total, timings=timings)

    def _timings(self) -> dict[str, float]:
        """Return the seconds of all phases, up to now of the one that ends."""
        now = self._progress
        if self._phase_began is None:
            return now.timings
        return {**now.timings, now.phase: round(self._seconds_since(self._phase_began), 3)}

    def _update(self, **changes: object) -> None:
        """Change the progress, and the details and search attributes that show it."""
        now = self._progress.model_copy(update=changes)
        percent = now.percent if now.stopped_in else percent_of(now.phase, now.done, now.total)
        seconds = self._seconds_since(self._began)
        share_left = (100.0 - percent) / percent if percent > 5 and not now.stopped_in else None
        self._progress = now.model_copy(
            update={
                "percent": percent,
                "seconds": round(seconds, 1),
                "rate": round(now.events / seconds, 1) if seconds > 0 else 0.0,
                "seconds_left": round(seconds * share_left, 1) if share_left is not None else None,
            }
        )
        self._shown.show(now.phase, percent, now.failure_class)
        workflow.set_current_details(describe(self._workspace, self._start.rebuild_manifest_path, self._progress))

    def _seconds_since(self, began: datetime | None) -> float:
        return (workflow.now() - began).total_seconds() if began is not None else 0.0

    def _stopped(self, error: ApplicationError) -> None:
        self._stop(FAILED, error.type or FAILED, error.message, _remedy(error))

    def _cancelled(self) -> None:
        again = "Nothing was published. Start it again with the same manifest: finished parts are not repeated."
        self._stop(CANCELLED, Code.REBUILD_CANCELLED.value, "it was cancelled", again)

    def _stop(self, phase: str, failure_class: str, failure: str, next_step: str) -> None:
        self._update(
            phase=phase,
            stopped_in=self._progress.phase,
            timings=self._timings(),
            failure_class=failure_class,
            failure=failure,
            next_step=next_step,
        )


def _mode(text: str) -> RebuildMode:
    try:
        return RebuildMode(text)
    except ValueError:
        refusal = Refusal(
            code=Code.INVALID_REQUEST,
            message=f"mode {text[:100]!r} is none that a rebuild knows",
            field="mode",
            value=text[:100],
            remedy=f"Use one of {', '.join(mode.value for mode in RebuildMode)}.",
        )
        raise ApplicationError(
            refusal.message, refusal.model_dump(mode="json"), type=refusal.code.value, non_retryable=True
        ) from None


def _shown(known: list[BadEvent], new: list[BadEvent]) -> list[BadEvent]:
    return (known + new)[:BAD_SHOWN]


def _remedy(error: ApplicationError) -> str:
    if error.details and isinstance(error.details[0], dict) and error.details[0].get("remedy"):
        return str(error.details[0]["remedy"])
    return (
        "Mend what is said above and start the rebuild again with the same manifest: finished parts are not repeated."
    )


def _after(result: RebuildResult) -> str:
    if result.equal is True:
        return "Nothing: the published state is what its events say."
    if result.equal is False:
        return f"Read the report, then start a rebuild in mode `{RebuildMode.FULL.value}` to put it right."
    return "Nothing: it is published. `springline rebuild verify` proves that it is what its events say."
