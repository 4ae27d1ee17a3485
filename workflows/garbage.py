"""GarbageWorkflow: marks objects that the ledger's projections no longer need, and deletes them after a quarantine.

    mark_garbage --> durable timer --> sweep_garbage

Off every hot path: LedgerWorkflow starts one now and then, and so do operators. One at a time for each workspace, by
its id. An object is deleted only if it was marked and is still garbage, so that no reader of an old revision, and no
late attempt, finds its files gone.
"""

from __future__ import annotations

from datetime import timedelta

from temporalio import workflow
from temporalio.exceptions import ActivityError

with workflow.unsafe.imports_passed_through():
    from springline import names
    from springline.sequencer.messages import GarbageOrder, GarbageReport, WorkspaceRef
    from workflows.failures import ENDS_THE_RUN, fail_with_cause
    from workflows.ledger_messages import GarbageStart
    from workflows.ledger_steps import show_in_search
    from workflows.lifecycle import fresh_ulid, now_ms
    from workflows.policies import GARBAGE_HEARTBEAT, GARBAGE_RETRY, GARBAGE_START_TO_CLOSE


@workflow.defn(name=names.GARBAGE_WORKFLOW, failure_exception_types=ENDS_THE_RUN)
class GarbageWorkflow:
    """Marks the garbage of a workspace's ledger, waits, and deletes it."""

    @workflow.run
    async def run(self, start: GarbageStart) -> GarbageReport:
        """Return how much was marked and deleted. A cancellation while it waits leaves everything where it is."""
        workspace = WorkspaceRef(tenant=start.tenant, workspace=start.workspace)
        show_in_search(workspace)
        scope = f"`{start.tenant}/{start.workspace}`"
        order = GarbageOrder(
            workspace=workspace, now_ms=now_ms(), report_id=fresh_ulid(), keep_revisions=start.keep_revisions
        )
        workflow.set_current_details(f"Looking for garbage in the ledger of {scope}")
        marked = await _step(names.MARK_GARBAGE, order, f"mark what {start.keep_revisions} revisions do not need")
        if not marked.marked:
            workflow.set_current_details(f"There is no garbage in the ledger of {scope}.")
            return marked
        quarantine = timedelta(seconds=start.quarantine_s)
        workflow.set_current_details(
            f"{marked.marked} object(s) of {scope} are marked and will be looked at again at "
            f"{workflow.now() + quarantine:%Y-%m-%d %H:%M} UTC.\n\n- report `{marked.report_path}`"
        )
        await workflow.sleep(quarantine, summary=f"quarantine of {marked.marked} object(s)")
        sweep = order.model_copy(update={"now_ms": now_ms()})
        swept = await _step(names.SWEEP_GARBAGE, sweep, f"delete what of {marked.marked} object(s) is garbage still")
        workflow.set_current_details(
            f"{swept.deleted} of {marked.marked} object(s) of {scope} were deleted and {swept.emptied} emptied, "
            f"{swept.deleted_bytes} bytes; {swept.kept} were kept.\n\n- report `{swept.report_path}`"
        )
        return swept


async def _step(name: str, order: GarbageOrder, summary: str) -> GarbageReport:
    try:
        report: GarbageReport = await workflow.execute_activity(
            name,
            order,
            result_type=GarbageReport,
            start_to_close_timeout=GARBAGE_START_TO_CLOSE,
            heartbeat_timeout=GARBAGE_HEARTBEAT,
            retry_policy=GARBAGE_RETRY,
            summary=summary,
        )
    except ActivityError as error:
        fail_with_cause(error)
    return report
