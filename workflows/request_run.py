"""RequestRunWorkflow: asks for a run as `POST /runs` does, for who has the Temporal CLI and no token."""

from __future__ import annotations

from temporalio import workflow
from temporalio.exceptions import ActivityError

with workflow.unsafe.imports_passed_through():
    from springline import names
    from springline.control.runs.messages import RunRequestAnswer, RunRequestOrder, RunRequestStart
    from springline.sequencer.messages import WorkspaceRef
    from workflows.failures import ENDS_THE_RUN, fail_with_cause
    from workflows.ledger_steps import show_in_search
    from workflows.lifecycle import SEARCH_RUN_KEY, fresh_ulid
    from workflows.run_steps import run_step


@workflow.defn(name=names.REQUEST_RUN_WORKFLOW, failure_exception_types=ENDS_THE_RUN)
class RequestRunWorkflow:
    """Records one request for a run, and ends with the run's id; the run has a workflow of its own.

    A refusal fails it with an error whose type is the refusal's code and whose detail is the refusal.
    """

    @workflow.run
    async def run(self, start: RunRequestStart) -> RunRequestAnswer:
        """Return the run that is asked for. Retries make no second run: the request has its key before the first."""
        show_in_search(WorkspaceRef(tenant=start.tenant, workspace=start.workspace))
        place = f"`{start.tenant}/{start.workspace}`"
        try:
            found = await run_step(
                names.REQUEST_RUN,
                RunRequestOrder(tenant=start.tenant, workspace=start.workspace, asked=start.asked, name=fresh_ulid()),
                RunRequestAnswer,
                "judge the request, record it, tell the launcher",
            )
        except ActivityError as error:
            workflow.set_current_details(f"A run of {place} was asked for, and refused: {error.cause or error}")
            fail_with_cause(error)
        if found.run_id is not None:
            workflow.upsert_search_attributes([SEARCH_RUN_KEY.value_set(found.run_id)])
        workflow.set_current_details(
            f"Run **{found.run_id}** of {place} is asked for\n\n- key `{found.run_key}`\n- then {found.state}"
        )
        return found
