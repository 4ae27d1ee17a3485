"""One table, its workflow and a worker: what the tests of CommitWorkflow work with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson
import uuid_utils
from temporalio.client import Client, WithStartWorkflowOperation
from temporalio.common import WorkflowIDConflictPolicy

from springline import names, paths
from springline.commit.table import Held, Table
from springline.delta.request import CommitRequest, CommitResult, Mode, Outcome
from springline.storage.port import IfAbsent, Stored
from springline.storage.scoped import ScopedStore
from tests.support.rows import SCOPE, adding, create_rows_table
from tests.workflows.faults import Faults
from tests.workflows.runs import WorkflowBench
from workflows.messages import BatchResult, CommitBatch, CommitStart, CommitStatus
from workflows.search import table_attributes


class Bench(WorkflowBench):
    """A table in memory, its workflow, faults for its activities, and a worker."""

    def __init__(self, client: Client, faults: Faults, max_cached_workflows: int) -> None:
        self.table_id = str(uuid_utils.uuid7())
        workflow_id = names.commit_workflow_id(SCOPE.tenant, SCOPE.workspace, self.table_id)
        super().__init__(client, faults, max_cached_workflows, workflow_id)
        self.store = ScopedStore(self.objects, SCOPE)
        self.table = Table(self.store, self.table_id, paths.new_table_root(self.table_id, SCOPE))

    async def open(self) -> None:
        await create_rows_table(self.objects, f"rows-{self.table_id}", self.table_id)
        await self.start_worker()

    async def use_table(self, properties: Mapping[str, str]) -> None:
        """Go on with another table, which has these properties."""
        self.table_id = str(uuid_utils.uuid7())
        self.workflow_id = names.commit_workflow_id(SCOPE.tenant, SCOPE.workspace, self.table_id)
        self.table = Table(self.store, self.table_id, paths.new_table_root(self.table_id, SCOPE))
        await create_rows_table(self.objects, f"rows-{self.table_id}", self.table_id, properties)

    # Requests.

    async def stage(
        self, name: str, *, mode: Mode = Mode.APPEND, read_version: int = 0, key: str | None = None
    ) -> CommitRequest:
        """Stage a payload that adds the file `name`."""
        return await self.stage_bytes(adding(name), mode=mode, read_version=read_version, key=key)

    async def stage_bytes(
        self, data: bytes, *, mode: Mode = Mode.APPEND, read_version: int = 0, key: str | None = None
    ) -> CommitRequest:
        path = paths.delta_staged(self.table_id, str(uuid_utils.uuid7()))
        stored = await self.store.put(path, data, IfAbsent())
        assert isinstance(stored, Stored)
        return CommitRequest(
            idempotency_key=key or str(uuid_utils.uuid7()),
            mode=mode,
            read_version=read_version,
            staged_path=path,
            staged_version=stored.version,
        )

    async def stage_strict(self, name: str, read_version: int) -> CommitRequest:
        return await self.stage(name, mode=Mode.STRICT, read_version=read_version)

    # The workflow.

    def start_input(self, **fields: Any) -> CommitStart:
        fields = {"checkpoint_interval": 0, **fields}
        return CommitStart(tenant=SCOPE.tenant, workspace=SCOPE.workspace, table_id=self.table_id, **fields)

    async def commit(self, *requests: CommitRequest, start: CommitStart | None = None) -> list[Outcome]:
        """Send the requests as one update, starting the workflow if it rests."""
        operation: WithStartWorkflowOperation[Any, Any] = WithStartWorkflowOperation(
            names.COMMIT_WORKFLOW,
            start or self.start_input(),
            id=self.workflow_id,
            task_queue=names.COMMIT_QUEUE,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            search_attributes=table_attributes(SCOPE.tenant, SCOPE.workspace, self.table_id),
        )
        try:
            result: BatchResult = await self.client.execute_update_with_start_workflow(
                names.COMMIT_UPDATE,
                CommitBatch(requests=list(requests)),
                start_workflow_operation=operation,
                result_type=BatchResult,
            )
        finally:
            await self.note_run()
        return result.outcomes

    async def commit_one(self, request: CommitRequest) -> CommitResult:
        """Commit one request that must succeed."""
        (outcome,) = await self.commit(request)
        assert outcome.result is not None, outcome
        return outcome.result

    async def finished(self) -> BatchResult:
        """Wait for the end of the run that exists now."""
        await self.note_run()
        handle = self.client.get_workflow_handle(self.workflow_id, result_type=BatchResult)
        result: BatchResult = await handle.result()
        return result

    async def status(self, run_id: str | None = None) -> CommitStatus:
        """Return what a run says of itself, by default the latest."""
        handle = self.client.get_workflow_handle(self.workflow_id, run_id=run_id)
        status: CommitStatus = await handle.query(names.STATUS_QUERY, result_type=CommitStatus)
        return status

    # Storage.

    async def coordinator(self) -> Held:
        held = await self.table.read_coordinator()
        assert held is not None
        return held

    async def inflight_is_null(self) -> bool:
        return (await self.coordinator()).state.inflight is None

    async def is_reserved(self) -> bool:
        return not await self.inflight_is_null()

    async def waiting(self, count: int) -> bool:
        return (await self.status()).waiting == count

    def log(self, version: int) -> list[dict[str, Any]]:
        """Return the actions of a version."""
        stored = self.objects.objects[SCOPE.full(paths.delta_log(self.table.root, version))]
        return [orjson.loads(line) for line in stored.data.splitlines()]

    def added(self, version: int) -> list[str]:
        """Return the files that a version adds, in order."""
        return [action["add"]["path"] for action in self.log(version) if "add" in action]

    async def put_log(self, version: int, data: bytes) -> None:
        """Write a version as somebody else would."""
        stored = await self.store.put(paths.delta_log(self.table.root, version), data, IfAbsent())
        assert isinstance(stored, Stored)

    async def delete(self, path: str) -> None:
        relative = paths.relative_path(path)
        stored = await self.store.get(relative)
        assert stored is not None
        assert await self.store.delete(relative, if_version=stored.version)


def versions(outcomes: Sequence[Outcome]) -> list[int | None]:
    """Return the version of each outcome, None for refusals."""
    return [None if outcome.result is None else outcome.result.version for outcome in outcomes]
