"""LedgerWorkflow: the one sequencer of a workspace's ledger (docs/protocol.md#ledger-rounds).

    callers --update "append"--> queue --+
    callers --update "ingest"--> queue --+--> round --> admit | admit_foreign --> append + fold --> publish --> answers
              timer of what is deferred -+
    rebuild --update "switch"--> before the next round: switch_state --> the workspace is opened again

The run opens the workspace once, finishes rounds that others left, then works in rounds, and ends when no request waits
and no caller comes for a moment; the next caller starts another. All state that matters is in storage, so no run hands
anything to the next.
"""

from __future__ import annotations

import asyncio
import contextlib
from datetime import timedelta

from temporalio import workflow
from temporalio.exceptions import ApplicationError

with workflow.unsafe.imports_passed_through():
    from springline import names
    from springline.sequencer.messages import WorkspaceRef
    from workflows.failures import ENDS_THE_RUN
    from workflows.ledger_messages import (
        AppendBatch,
        AppendBatchResult,
        IngestBatch,
        IngestBatchResult,
        LedgerResult,
        LedgerStart,
        LedgerStatus,
        SwitchOutcome,
        SwitchRequest,
        describe,
    )
    from workflows.ledger_queue import append_ticket, ingest_ticket, switch_ticket
    from workflows.ledger_rounds import Rounds
    from workflows.ledger_steps import show_in_search
    from workflows.lifecycle import SHORT, finish_though_cancelled, now_ms

MAX_QUEUE = 20_000
MAX_QUEUE_BYTES = 8 << 20
MAX_QUEUE_PATHS = 50_000
MAX_SWITCHES = 4
DRAIN_EVENTS, OLDER_DRAIN_EVENTS = 1_000, 3_000
"""History events after which a run takes no more requests and ends: another worker replays them after a kill, while
everybody waits who has something to record. The server suggests an end at 4,096."""
LEAST_PATIENCE, MOST_PATIENCE = timedelta(seconds=1), timedelta(seconds=3)
"""How long a run waits for callers to come back before it ends: twice the time of a round."""


@workflow.defn(name=names.LEDGER_WORKFLOW, failure_exception_types=ENDS_THE_RUN)
class LedgerWorkflow:
    """Sequences the events of one workspace."""

    @workflow.init
    def __init__(self, start: LedgerStart) -> None:
        self._workspace = WorkspaceRef(tenant=start.tenant, workspace=start.workspace)
        self._rounds = Rounds(self._workspace, start.garbage_interval, self._show)
        self._called = False
        self._cancelled = False
        self._is_full = False
        self._patience = LEAST_PATIENCE
        self._start_appends = [self._rounds.enqueue(append_ticket(request)) for request in start.requests]
        self._start_ingests = [self._rounds.enqueue_ingest(ingest_ticket(request)) for request in start.ingest]

    @workflow.run
    async def run(self, start: LedgerStart) -> LedgerResult:
        """Work in rounds until nothing waits; return the outcomes of the start's requests.

        A cancellation loses no event: the run admits no more requests, finishes those it has, and ends.
        """
        show_in_search(self._workspace)
        return await finish_though_cancelled(asyncio.create_task(self._work()), self._drain)

    async def _work(self) -> LedgerResult:
        rounds = self._rounds
        while True:
            rounds.requeue_deferred()
            self._is_full = self._is_full or (_length() >= DRAIN_EVENTS and workflow.patched(SHORT))
            if rounds.to_do:
                began = workflow.now()
                await rounds.step()
                self._patience = min(MOST_PATIENCE, max(LEAST_PATIENCE, 2 * (workflow.now() - began)))
            elif await self._somebody_comes():
                continue
            elif rounds.wakes:
                await workflow.wait_condition(lambda: rounds.to_do or not rounds.wakes)
            elif workflow.all_handlers_finished() and not rounds.to_do:
                break
            else:
                await workflow.wait_condition(lambda: rounds.to_do or workflow.all_handlers_finished())
        rounds.phase("done: nothing waits")
        return LedgerResult(
            outcomes=[ticket.answer.result() for ticket in self._start_appends],
            ingested=[ticket.answer.result() for ticket in self._start_ingests],
        )

    @workflow.update(name=names.APPEND_UPDATE, description="Append events; each request is answered by itself")
    async def append(self, batch: AppendBatch) -> AppendBatchResult:
        """Queue the requests and wait for all their outcomes."""
        self._called = True
        tickets = [self._rounds.enqueue(append_ticket(request)) for request in batch.requests]
        return AppendBatchResult(outcomes=[await ticket.answer for ticket in tickets])

    @append.validator
    def _may_append(self, batch: AppendBatch) -> None:
        self._take_no_more_than(
            len(self._rounds.appends) + len(batch.requests) <= MAX_QUEUE
            and self._rounds.appends.size <= MAX_QUEUE_BYTES
        )

    @workflow.update(name=names.INGEST_UPDATE, description="Take in foreign events by their ledger paths")
    async def ingest(self, batch: IngestBatch) -> IngestBatchResult:
        """Queue the requests and wait for all their outcomes."""
        self._called = True
        tickets = [self._rounds.enqueue_ingest(ingest_ticket(request)) for request in batch.requests]
        return IngestBatchResult(outcomes=[await ticket.answer for ticket in tickets])

    @ingest.validator
    def _may_ingest(self, batch: IngestBatch) -> None:
        self._take_no_more_than(self._rounds.ingests.units <= MAX_QUEUE_PATHS)

    @workflow.update(name=names.SWITCH_UPDATE, description="Publish the state that a rebuild came to")
    async def switch(self, request: SwitchRequest) -> SwitchOutcome:
        """Queue the switch, which has its turn before all rounds, and wait for its outcome."""
        self._called = True
        return await self._rounds.switches.put(switch_ticket(request.switch)).answer

    @switch.validator
    def _may_switch(self, request: SwitchRequest) -> None:
        self._take_no_more_than(len(self._rounds.switches) < MAX_SWITCHES)

    @workflow.signal(name=names.LOADING_SIGNAL, description="How far a step is that loads the state, for people")
    def loading(self, text: str) -> None:
        """Show the progress of loading, until the next phase."""
        self._rounds.progress.loading = text
        self._show()

    @workflow.query(name=names.STATUS_QUERY, description="What this workspace's sequencer is doing and has done")
    def status(self) -> LedgerStatus:
        """Return lag, rate, the head, recent rounds, recovered rounds and deferred events."""
        return self._rounds.status(draining=self._draining)

    def _take_no_more_than(self, fits: bool) -> None:
        if self._draining:
            raise ApplicationError(
                "this run is full and drains; send the same requests again in a moment", type=names.ROLLING_OVER
            )
        if not fits:
            waiting = len(self._rounds.appends) + len(self._rounds.ingests) + len(self._rounds.switches)
            raise ApplicationError(
                f"{waiting} requests already wait for this ledger; send the same requests again later",
                type=names.ROLLING_OVER,
            )

    def _drain(self) -> None:
        self._cancelled = True

    @property
    def _draining(self) -> bool:
        suggested = workflow.info().is_continue_as_new_suggested()
        return self._cancelled or self._is_full or suggested or _length() >= OLDER_DRAIN_EVENTS

    async def _somebody_comes(self) -> bool:
        """With nothing to do, wait a moment for a caller, or for a deferred event; False if it is time to end.

        A run that was started for its own requests only ends at once, because its starter waits for the result.
        """
        rounds = self._rounds
        due_ms = rounds.deferred.wait_ms(now_ms())
        if self._draining or (due_ms is None and not self._called):
            return False
        if due_ms is None:
            rounds.phase("resting: nothing waits; the run ends unless somebody comes")
        else:
            rounds.phase(f"waiting for {len(rounds.deferred)} deferred event(s) to be due")
        with contextlib.suppress(TimeoutError):
            await workflow.wait_condition(
                lambda: rounds.waits or self._draining,
                timeout=self._patience if due_ms is None else timedelta(milliseconds=due_ms),
                timeout_summary="resting until the next request" if due_ms is None else "until a deferred event is due",
            )
        rounds.requeue_deferred()
        return rounds.waits

    def _show(self) -> None:
        workflow.set_current_details(describe(self._workspace, self.status(), self._rounds.progress.rows))


def _length() -> int:
    return workflow.info().get_current_history_length()
