"""CreateTableWorkflow and CheckpointWorkflow: one activity each, with ids and times that retries repeat."""

from __future__ import annotations

from temporalio import workflow
from temporalio.exceptions import ActivityError

with workflow.unsafe.imports_passed_through():
    from activities.messages import CheckpointStart, TableKind, TableOrder, TableStart
    from springline import names
    from springline.delta.checkpoints import CheckpointKind, CheckpointResult
    from springline.delta.table_request import TableEntry
    from workflows.failures import ENDS_THE_RUN, fail_with_cause
    from workflows.lifecycle import SEARCH_TABLE_KEY, SEARCH_TENANT_KEY, SEARCH_WORKSPACE_KEY, new_uuid7, now_ms
    from workflows.policies import (
        CHECKPOINT_HEARTBEAT,
        CHECKPOINT_RETRY,
        CHECKPOINT_START_TO_CLOSE,
        COMMIT_HEARTBEAT,
        COMMIT_RETRY,
        COMMIT_START_TO_CLOSE,
    )


@workflow.defn(name=names.CREATE_TABLE_WORKFLOW, failure_exception_types=ENDS_THE_RUN)
class CreateTableWorkflow:
    """Creates a table, or adopts an existing Delta folder, and registers it under its name.

    Its id (`names.create_table_workflow_id`) keeps one creation per name under way. A refusal fails the run
    with an error whose type is the refusal's code and whose detail is the refusal.
    """

    @workflow.run
    async def run(self, start: TableStart) -> TableEntry:
        """Return the registry entry; the id in it is the table's, which need not be the one proposed here."""
        order = TableOrder(start=start, table_id=new_uuid7(), now_ms=now_ms())
        creating = start.kind is TableKind.CREATE
        _show_in_search(start.tenant, start.workspace, order.table_id)
        what = "Creating" if creating else "Adopting"
        workflow.set_current_details(
            f"{what} table **{start.name}** of `{start.tenant}/{start.workspace}`\n\nProposed id `{order.table_id}`"
        )
        try:
            entry: TableEntry = await workflow.execute_activity(
                names.CREATE_TABLE if creating else names.ADOPT_TABLE,
                order,
                result_type=TableEntry,
                start_to_close_timeout=COMMIT_START_TO_CLOSE,
                heartbeat_timeout=COMMIT_HEARTBEAT,
                retry_policy=COMMIT_RETRY,
                summary=f"{'create' if creating else 'adopt'} {start.name}: root claim, "
                f"{'version 0, ' if creating else ''}registry entry, coordinator, name claim",
            )
        except ActivityError as error:
            workflow.set_current_details(f"{what} table **{start.name}** failed: {error.cause or error}")
            fail_with_cause(error)
        if entry.table_id != order.table_id:
            _show_in_search(start.tenant, start.workspace, entry.table_id)
        workflow.set_current_details(
            f"Table **{entry.name}** of `{start.tenant}/{start.workspace}`\n\n"
            f"- id `{entry.table_id}`\n- root `{entry.root}`"
        )
        return entry


@workflow.defn(name=names.CHECKPOINT_WORKFLOW, failure_exception_types=ENDS_THE_RUN)
class CheckpointWorkflow:
    """Writes a checkpoint of a table's latest version. One at a time for each table, by its id."""

    @workflow.run
    async def run(self, start: CheckpointStart) -> CheckpointResult:
        """Return the result; a table that the library cannot checkpoint is no failure."""
        table = start.table
        _show_in_search(table.tenant, table.workspace, table.table_id)
        workflow.set_current_details(
            f"Checkpoint of table {'' if start.table_name is None else f'**{start.table_name}** '}`{table.table_id}` "
            f"of `{table.tenant}/{table.workspace}`, "
            f"due since version {start.version}"
        )
        try:
            result: CheckpointResult = await workflow.execute_activity(
                names.CHECKPOINT,
                start,
                result_type=CheckpointResult,
                start_to_close_timeout=CHECKPOINT_START_TO_CLOSE,
                heartbeat_timeout=CHECKPOINT_HEARTBEAT,
                retry_policy=CHECKPOINT_RETRY,
                summary=f"checkpoint, due since version {start.version}",
            )
        except ActivityError as error:
            fail_with_cause(error)
        about = "" if start.table_name is None else f"**{start.table_name}**: "
        workflow.set_current_details(about + _said(result))
        return result


def _said(result: CheckpointResult) -> str:
    if result.kind is CheckpointKind.WRITTEN:
        return f"Version {result.version} has a new checkpoint."
    if result.kind is CheckpointKind.CURRENT:
        return f"Version {result.version} is the latest and needs no new checkpoint."
    return f"No checkpoint at version {result.version}: {result.detail}"


def _show_in_search(tenant: str, workspace: str, table_id: str) -> None:
    workflow.upsert_search_attributes(
        [
            SEARCH_TENANT_KEY.value_set(tenant),
            SEARCH_WORKSPACE_KEY.value_set(workspace),
            SEARCH_TABLE_KEY.value_set(table_id),
        ]
    )
