"""How CommitWorkflow reaches out: its activities, all with the same limits and retries, checkpoints, search."""

from __future__ import annotations

from typing import TypeVar

from temporalio import workflow
from temporalio.exceptions import WorkflowAlreadyStartedError

with workflow.unsafe.imports_passed_through():
    from activities.messages import Message, TableRef
    from activities.table_messages import CheckpointStart
    from springline import names
    from workflows.policies import COMMIT_HEARTBEAT, COMMIT_RETRY, COMMIT_START_TO_CLOSE, WORKFLOW_TASK_TIMEOUT
    from workflows.search import SEARCH_TABLE_KEY, SEARCH_TENANT_KEY, SEARCH_WORKSPACE_KEY

R = TypeVar("R", bound=Message)


async def run_step(name: str, argument: Message, result_type: type[R], summary: str) -> R:
    """Run the commit activity `name`; `summary` is what the Web UI shows of it.

    Raises `ActivityError` when it failed for good; passing faults are tried again for as long as they last.
    """
    result: R = await workflow.execute_activity(
        name,
        argument,
        result_type=result_type,
        start_to_close_timeout=COMMIT_START_TO_CLOSE,
        heartbeat_timeout=COMMIT_HEARTBEAT,
        retry_policy=COMMIT_RETRY,
        summary=summary,
    )
    return result


async def start_checkpoint(table: TableRef, version: int) -> None:
    """Start a checkpoint of a table that goes on by itself, unless one is being written."""
    try:
        await workflow.start_child_workflow(
            names.CHECKPOINT_WORKFLOW,
            CheckpointStart(table=table, version=version),
            id=names.checkpoint_workflow_id(table.tenant, table.workspace, table.table_id),
            task_queue=names.MAINTENANCE_QUEUE,
            parent_close_policy=workflow.ParentClosePolicy.ABANDON,
            task_timeout=WORKFLOW_TASK_TIMEOUT,
            static_summary=f"checkpoint at version {version}",
        )
    except WorkflowAlreadyStartedError:
        workflow.logger.info("a checkpoint is still being written; version %s waits for the next", version)


def show_in_search(table: TableRef) -> None:
    """Make a run that was started by hand findable like any other."""
    if workflow.info().typed_search_attributes.get(SEARCH_TABLE_KEY) is None:
        workflow.upsert_search_attributes(
            [
                SEARCH_TENANT_KEY.value_set(table.tenant),
                SEARCH_WORKSPACE_KEY.value_set(table.workspace),
                SEARCH_TABLE_KEY.value_set(table.table_id),
            ]
        )
