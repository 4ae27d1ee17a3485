"""Calls of CommitWorkflow: its activities, all with the same limits and retries, checkpoints, search attributes."""

from __future__ import annotations

from typing import TypeVar

from temporalio import workflow
from temporalio.exceptions import WorkflowAlreadyStartedError

with workflow.unsafe.imports_passed_through():
    from activities.messages import CheckpointStart
    from springline import names
    from springline.delta.messages import CommitMessage, TableRef
    from workflows.lifecycle import (
        SEARCH_TABLE_KEY,
        SEARCH_TABLE_NAME_KEY,
        SEARCH_TENANT_KEY,
        SEARCH_WORKSPACE_KEY,
        table_attributes,
    )
    from workflows.policies import (
        BEFORE_RESERVED_RETRY,
        COMMIT_HEARTBEAT,
        COMMIT_RETRY,
        COMMIT_START_TO_CLOSE,
        WORKFLOW_TASK_TIMEOUT,
    )

R = TypeVar("R", bound=CommitMessage)


async def run_step(
    name: str, argument: CommitMessage, result_type: type[R], summary: str, *, bounded: bool = False
) -> R:
    """Run the commit activity `name`; the Web UI shows its `summary`.

    Raises `ActivityError` if it failed for good; passing faults are retried for as long as they last, with
    `bounded` for about a minute.
    """
    result: R = await workflow.execute_activity(
        name,
        argument,
        result_type=result_type,
        start_to_close_timeout=COMMIT_START_TO_CLOSE,
        heartbeat_timeout=COMMIT_HEARTBEAT,
        retry_policy=BEFORE_RESERVED_RETRY if bounded else COMMIT_RETRY,
        summary=summary,
    )
    return result


async def start_checkpoint(table: TableRef, name: str | None, version: int) -> None:
    """Start a checkpoint of a table that goes on by itself, unless one is being written.

    It is found by the table's `name` if this run is: then the server knows the search attribute.
    """
    searched = workflow.info().typed_search_attributes.get(SEARCH_TABLE_NAME_KEY)
    try:
        await workflow.start_child_workflow(
            names.CHECKPOINT_WORKFLOW,
            CheckpointStart(table=table, version=version, table_name=name),
            id=names.checkpoint_workflow_id(table.tenant, table.workspace, table.table_id),
            task_queue=names.MAINTENANCE_QUEUE,
            parent_close_policy=workflow.ParentClosePolicy.ABANDON,
            task_timeout=WORKFLOW_TASK_TIMEOUT,
            search_attributes=None
            if searched is None
            else table_attributes(table.tenant, table.workspace, table.table_id, searched),
            static_summary=f"checkpoint {'' if name is None else f'of {name} '}at version {version}",
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
