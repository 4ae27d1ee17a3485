"""Commits through CommitWorkflow: it implements the domain's ports."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from temporalio.client import (
    Client,
    WithStartWorkflowOperation,
)
from temporalio.common import WorkflowIDConflictPolicy

from entrypoints.table_names import TABLE_NAME_MEMO, NameOf, NameSearch
from entrypoints.updates import ATTEMPT_S, STATUS_SECONDS, Lane, query_status, send_batch
from springline import names
from springline.caches import Brief
from springline.delta.messages import CommitOutcome, CommitRequest
from springline.errors import Code, Refusal
from springline.paths import Scope
from workflows.commit_messages import ABOUT, BatchResult, CommitBatch, CommitStart, CommitStatus
from workflows.lifecycle import table_attributes
from workflows.policies import WORKFLOW_TASK_TIMEOUT


class TemporalCommitGateway:
    """The port `CommitGateway` by update-with-start: the workflow id of a table is its one sequencer.

    `checkpoint_interval`, versions between checkpoints, is passed to workflows that this gateway starts. `name_of`
    returns a table's name, to show to people.
    """

    def __init__(
        self,
        client: Client,
        *,
        checkpoint_interval: int = 100,
        attempt_s: float = ATTEMPT_S,
        name_of: NameOf | None = None,
    ) -> None:
        self._client = client
        self._name_of = name_of
        self._search = NameSearch()
        self._checkpoint_interval = checkpoint_interval
        self._attempt_s = attempt_s
        self._statuses = Brief(self._query_status, STATUS_SECONDS)

    async def commit(
        self, scope: Scope, table_id: str, requests: Sequence[CommitRequest], *, batch_id: str
    ) -> list[CommitOutcome]:
        """Send one batch to the table's workflow, starting it if it is not running.

        `batch_id` is the update's id: a repeated batch joins the first if that is still under way. Raises `TryAgain`
        and `BatchRefused` as the port says.
        """
        name = None if self._name_of is None else await self._name_of(scope, table_id)
        batch = CommitBatch(requests=list(requests))

        async def send(search_name: str | None) -> BatchResult:
            return await send_batch(
                self._client,
                names.COMMIT_UPDATE,
                batch,
                self._start(scope, table_id, name, search_name),
                lane=Lane(f"table {table_id}", _not_taken),
                batch_id=batch_id,
                result_type=BatchResult,
                attempt_s=self._attempt_s,
            )

        return (await self._search.with_name(name, send)).outcomes

    async def status(self, scope: Scope, table_id: str) -> dict[str, Any] | None:
        """Return the answer of the query `status` if the table's workflow runs and a worker answers, else None.

        Sends at most one query in `STATUS_SECONDS` for each table.
        """
        return await self._statuses.get((scope, table_id))

    async def _query_status(self, table: tuple[Scope, str]) -> dict[str, Any] | None:
        scope, table_id = table
        workflow_id = names.commit_workflow_id(scope.tenant, scope.workspace, table_id)
        status = await query_status(self._client, workflow_id, CommitStatus)
        return None if status is None else status.model_dump(mode="json")

    def _start(
        self, scope: Scope, table_id: str, name: str | None, search_name: str | None
    ) -> WithStartWorkflowOperation[Any, Any]:
        """Return the start half of an update-with-start; it can be used once."""
        return WithStartWorkflowOperation(
            names.COMMIT_WORKFLOW,
            CommitStart(
                tenant=scope.tenant,
                workspace=scope.workspace,
                table_id=table_id,
                checkpoint_interval=self._checkpoint_interval,
                table_name=name,
            ),
            id=names.commit_workflow_id(scope.tenant, scope.workspace, table_id),
            task_queue=names.COMMIT_QUEUE,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            search_attributes=table_attributes(scope.tenant, scope.workspace, table_id, search_name),
            memo=None if name is None else {TABLE_NAME_MEMO: name},
            task_timeout=WORKFLOW_TASK_TIMEOUT,
            static_summary=f"commits of table {table_id if name is None else f'{name} ({table_id})'}",
            static_details=ABOUT,
        )


def _not_taken(reason: str) -> Refusal:
    return Refusal(
        code=Code.UNAVAILABLE,
        message=f"Temporal does not take the commit: {reason}",
        remedy="Run `springline doctor` to see what is wrong with Temporal, then send the same key again.",
    )
