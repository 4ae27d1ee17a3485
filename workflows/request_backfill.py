"""RequestBackfillWorkflow: all verbs of backfills, for who has the Temporal CLI and no token."""

from __future__ import annotations

from temporalio import workflow
from temporalio.exceptions import ActivityError

with workflow.unsafe.imports_passed_through():
    from springline import names
    from springline.control.backfills.messages import (
        BackfillRequestAnswer,
        BackfillRequestOrder,
        BackfillRequestStart,
    )
    from springline.sequencer.messages import WorkspaceRef
    from workflows.failures import ENDS_THE_RUN, fail_with_cause
    from workflows.ledger_steps import show_in_search
    from workflows.lifecycle import fresh_ulid, now_ms
    from workflows.run_steps import run_step


@workflow.defn(name=names.REQUEST_BACKFILL_WORKFLOW, failure_exception_types=ENDS_THE_RUN)
class RequestBackfillWorkflow:
    """Creates, pauses, resumes, cancels or repeats a backfill, and ends with what it is then.

    A refusal fails it with an error whose type is the refusal's code and whose detail is the refusal.
    """

    @workflow.run
    async def run(self, start: BackfillRequestStart) -> BackfillRequestAnswer:
        """Return the backfill. Retries make no second one: the request has its id before the first."""
        show_in_search(WorkspaceRef(tenant=start.tenant, workspace=start.workspace))
        place = f"`{start.tenant}/{start.workspace}`"
        order = BackfillRequestOrder(**start.model_dump(), name=fresh_ulid(), now_ms=now_ms())
        try:
            found = await run_step(
                names.REQUEST_BACKFILL, order, BackfillRequestAnswer, f"{start.verb}: judge the request, and record it"
            )
        except ActivityError as error:
            workflow.set_current_details(f"`{start.verb}` of a backfill of {place} was refused: {error.cause or error}")
            fail_with_cause(error)
        if not found.backfill_id:
            workflow.set_current_details(f"Nothing of the selection is stale in {place}: there is no backfill")
            return found
        workflow.set_current_details(
            f"Backfill **{found.backfill_id}** of {place}: {found.state}\n\n"
            f"- {found.total_partitions} partitions, {found.chunks} runs"
        )
        return found
