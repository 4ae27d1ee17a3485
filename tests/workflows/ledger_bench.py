"""One workspace's ledger, its workflow and a worker: what the tests of LedgerWorkflow work with."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from typing import Any

import uuid_utils
from temporalio.client import Client, WithStartWorkflowOperation
from temporalio.common import WorkflowIDConflictPolicy

from springline import names
from springline.ledger.event_ids import new_event_id
from springline.ledger.request import AppendOutcome, AppendRequest, IngestOutcome, IngestRequest, VisibilityStatus
from springline.paths import ObjectPath, Scope
from springline.projection.config import FoldConfig
from springline.sequencer.messages import (
    AdmitOrder,
    FoldOrder,
    Head,
    Opened,
    OpenOrder,
    PendingRound,
    PublishOrder,
    RoundStep,
    WorkspaceRef,
)
from springline.sequencer.workspace import Sequencer
from springline.storage.scoped import ScopedStore
from tests.support.ledger_events import put_foreign, triggered
from tests.workflows.faults import Faults
from tests.workflows.runs import WorkflowBench
from workflows.ledger_messages import (
    AppendBatch,
    AppendBatchResult,
    IngestBatch,
    IngestBatchResult,
    LedgerResult,
    LedgerRound,
    LedgerStart,
    LedgerStatus,
)
from workflows.search import workspace_attributes


class LedgerBench(WorkflowBench):
    """A workspace in memory, the workflow of its ledger, faults for its activities, and a worker."""

    def __init__(self, client: Client, faults: Faults, max_cached_workflows: int) -> None:
        self.scope = Scope("acme", f"w-{uuid_utils.uuid7()}")
        workflow_id = names.ledger_workflow_id(self.scope.tenant, self.scope.workspace)
        super().__init__(client, faults, max_cached_workflows, workflow_id)
        self.workspace = WorkspaceRef(tenant=self.scope.tenant, workspace=self.scope.workspace)
        self.store = ScopedStore(self.objects, self.scope)

    async def open(self) -> None:
        await self.start_worker()

    # The workflow.

    def start_input(self, **fields: Any) -> LedgerStart:
        return LedgerStart(
            **{"tenant": self.scope.tenant, "workspace": self.scope.workspace, "garbage_interval": 0, **fields}
        )

    async def append(self, *requests: AppendRequest, start: LedgerStart | None = None) -> list[AppendOutcome]:
        """Send the requests as one update, starting the workflow if it rests."""
        batch = AppendBatch(requests=list(requests))
        result: AppendBatchResult = await self._update(names.APPEND_UPDATE, batch, AppendBatchResult, start)
        return result.outcomes

    async def append_one(self, request: AppendRequest) -> AppendOutcome:
        """Append the events of one request, which must be accepted and become visible."""
        (outcome,) = await self.append(request)
        assert outcome.refusal is None, outcome
        assert outcome.visibility_status is VisibilityStatus.VISIBLE
        return outcome

    async def ingest(self, *batches: Sequence[str], start: LedgerStart | None = None) -> list[IngestOutcome]:
        """Take in foreign events by their paths: one request for each argument, all in one update."""
        batch = IngestBatch(requests=[IngestRequest(event_paths=list(paths)) for paths in batches])
        result: IngestBatchResult = await self._update(names.INGEST_UPDATE, batch, IngestBatchResult, start)
        return result.outcomes

    async def _update(self, name: str, batch: Any, result_type: type, start: LedgerStart | None) -> Any:
        operation: WithStartWorkflowOperation[Any, Any] = WithStartWorkflowOperation(
            names.LEDGER_WORKFLOW,
            start or self.start_input(),
            id=self.workflow_id,
            task_queue=names.LEDGER_QUEUE,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            search_attributes=workspace_attributes(self.scope.tenant, self.scope.workspace),
        )
        try:
            return await self.client.execute_update_with_start_workflow(
                name, batch, start_workflow_operation=operation, result_type=result_type
            )
        finally:
            await self.note_run()

    async def finished(self) -> LedgerResult:
        """Wait for the end of the run that exists now."""
        await self.note_run()
        handle = self.client.get_workflow_handle(self.workflow_id, result_type=LedgerResult)
        result: LedgerResult = await handle.result()
        return result

    async def status(self, run_id: str | None = None) -> LedgerStatus:
        """Return what a run says of itself, by default the latest."""
        handle = self.client.get_workflow_handle(self.workflow_id, run_id=run_id)
        status: LedgerStatus = await handle.query(names.STATUS_QUERY, result_type=LedgerStatus)
        return status

    async def rounds(self) -> list[LedgerRound]:
        """Return the rounds of all runs, in order: between two requests a run may have ended."""
        return [one for run_id in self.run_ids for one in (await self.status(run_id)).recent_rounds]

    async def waiting(self, count: int) -> bool:
        return (await self.status()).waiting_requests == count

    # The workspace, as other processes see and change it.

    def process(self) -> Sequencer:
        """Return a sequencer that remembers nothing: another process of this workspace."""
        return Sequencer(self.store, FoldConfig(self.scope.tenant, self.scope.workspace))

    async def opened(self) -> Opened:
        """Return where the workspace stands, from storage alone."""
        return await self.process().open(OpenOrder(workspace=self.workspace))

    async def head(self) -> Head:
        return (await self.opened()).head

    async def put_foreign(self, event_id: str, run_id: str, *, body: bytes | None = None) -> ObjectPath:
        """Write the event that starts a run, as another implementation does."""
        return await put_foreign(self.objects, self.scope, event_id, triggered(run_id), body=body)


class Rival:
    """Another process that publishes to the same workspace, step by step."""

    _randomness = itertools.count(1)

    def __init__(self, bench: LedgerBench) -> None:
        self.bench = bench
        self.now_ms = int(time.time() * 1000)
        self.sequencer = bench.process()

    def ulid(self, after: str | None = None) -> str:
        return new_event_id(after, self.now_ms, next(self._randomness) << 40)

    async def admit(self, *requests: AppendRequest) -> tuple[Head, PendingRound, list[AppendOutcome]]:
        """Create a round's record, and go no further."""
        opened = await self.sequencer.open(OpenOrder(workspace=self.bench.workspace))
        order = AdmitOrder(
            workspace=self.bench.workspace,
            head=opened.head,
            round=opened.next_round,
            first_event_id=self.ulid(opened.head.last_event_id),
            now_ms=self.now_ms,
            writer="rival",
            requests=list(requests),
        )
        admitted = await self.sequencer.admit(order)
        assert admitted.round is not None
        return opened.head, admitted.round, admitted.answers

    async def finish(self, head: Head, pending: PendingRound) -> Head:
        """Make a round visible."""
        workspace = self.bench.workspace
        await self.sequencer.append(RoundStep(workspace=workspace, round=pending))
        revision = self.ulid()
        folded = await self.sequencer.fold(
            FoldOrder(
                workspace=workspace,
                head=head,
                round=pending,
                delta_id=self.ulid(),
                snapshot_id=self.ulid(),
                manifest_revision=revision,
                now_ms=self.now_ms,
            )
        )
        published = await self.sequencer.publish(
            PublishOrder(
                workspace=workspace,
                head=head,
                round=pending,
                folded=folded,
                manifest_revision=revision,
                now_ms=self.now_ms,
            )
        )
        assert published.kind == "visible"
        assert published.head is not None
        return published.head

    async def round(self, *requests: AppendRequest) -> list[AppendOutcome]:
        """Do a whole round."""
        head, pending, answers = await self.admit(*requests)
        await self.finish(head, pending)
        return answers
