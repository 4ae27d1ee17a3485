"""The rounds of a LedgerWorkflow: opening the workspace, admitting requests, making rounds visible, and failures.

A round is kept once its record is created, and visible once the pointer has moved. After every setback (another
publisher was faster, or has the round's number) and every final failure, the run opens the workspace again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import TypeVar

from temporalio import workflow
from temporalio.exceptions import ActivityError

with workflow.unsafe.imports_passed_through():
    from springline import names
    from springline.errors import Refusal, Refused
    from springline.keys import check_key
    from springline.ledger.request import (
        AppendOutcome,
        IngestOutcome,
        IngestRequest,
        VisibilityStatus,
        ingest_out_of_bounds,
        too_heavy,
    )
    from springline.sequencer.messages import Head, Opened, WorkspaceRef
    from workflows.failures import (
        HALVINGS,
        ledger_refusal,
        no_id_left,
        one_may_be_the_cause,
        outpaced,
        passes,
        refusal_of_one,
        unknown_effect,
    )
    from workflows.ledger_messages import MAX_BATCH_PATHS, LedgerStatus, SwitchOutcome
    from workflows.ledger_progress import Accepted, Progress, found_pending
    from workflows.ledger_queue import (
        AppendTicket,
        Deferred,
        IngestTicket,
        Queue,
        Ticket,
        append_queue,
        ingest_queue,
        ingest_ticket,
        switch_queue,
    )
    from workflows.ledger_steps import (
        admit,
        admit_foreign,
        make_visible,
        open_ledger,
        start_garbage_collection,
        switch_state,
    )
    from workflows.ledger_wakes import Wakes
    from workflows.lifecycle import fresh_ulid, now_ms

Q = TypeVar("Q")
A = TypeVar("A")

MAX_SETBACKS = 10
"""Setbacks in a row without a visible round, after which callers get a refusal: another publisher is faster."""
FIRST_PAUSE, MAX_PAUSE = timedelta(milliseconds=50), timedelta(seconds=2)


class Rounds:
    """The waiting requests, the rounds that are kept and not visible, and the head below them.

    `show` is called with each phase. `garbage_interval`: publishes between two garbage collections, 0 for none.
    """

    def __init__(self, workspace: WorkspaceRef, garbage_interval: int, show: Callable[[], None]) -> None:
        self.appends = append_queue()
        self.ingests = ingest_queue()
        self.switches = switch_queue()
        self.deferred = Deferred()
        self.progress = Progress()
        self.accepted: dict[int, Accepted] = {}
        self.last_head: Head | None = None
        self._workspace = workspace
        self._garbage_interval = garbage_interval
        self._wakes = Wakes(workspace)
        self._show = show
        self._head: Head | None = None
        self._next_round = 1
        self._opened = False
        self._foreign: list[IngestTicket] = []
        self._closes_foreign = self._more_foreign = False
        self._ingests_next = False
        self._setbacks = 0
        self._halvings = 0
        self._looks_again = False

    @property
    def waits(self) -> bool:
        """Whether any request waits."""
        return bool(self.appends) or bool(self.ingests) or bool(self.switches)

    @property
    def wakes(self) -> bool:
        """Whether somebody is being told of what visible rounds have changed."""
        return self._wakes.under_way

    @property
    def to_do(self) -> bool:
        """Whether there is work: a request, a round that is kept, or the first opening."""
        return self.waits or bool(self.accepted) or self._closes_foreign or not self._opened or self._looks_again

    def status(self, *, draining: bool) -> LedgerStatus:
        """Return the answer of the query `status`."""
        progress, head, accepted = self.progress, self.last_head, list(self.accepted.values())
        return LedgerStatus(
            phase=progress.phase,
            loading=progress.loading,
            waiting_requests=len(self.appends) + len(self.ingests) + len(self.switches),
            waiting_events=self.appends.units,
            waiting_paths=self.ingests.units,
            lag_events=sum(one.round.events for one in accepted),
            lag_since_ms=min((one.since_ms for one in accepted), default=None),
            events_per_second=progress.events_per_second,
            head_manifest_id=head and head.manifest_id,
            head_revision=head and head.manifest_revision,
            head_events=head.events if head else 0,
            watermark=head and head.last_event_id,
            digest=progress.digest,
            rounds=progress.rounds,
            appended=progress.appended,
            replayed=progress.replayed,
            refused=progress.refused,
            refused_events=progress.refused_events,
            ingested=progress.ingested,
            setbacks=progress.setbacks,
            switched=progress.switched,
            recent_rounds=list(progress.recent),
            retried=list(progress.retried),
            deferred=self.deferred.shown(),
            damaged=list(progress.damaged),
            failure=progress.failure,
            draining=draining,
        )

    def enqueue(self, ticket: AppendTicket) -> AppendTicket:
        """Queue an append request, or refuse it at once if no round can take it."""
        try:
            check_key(ticket.request.request_id, field="request_id")
        except Refused as error:
            self._refuse_appends([ticket], error.refusal)
            return ticket
        refusal = too_heavy(ticket.request)
        if refusal is None:
            self.appends.put(ticket)
        else:
            self._refuse_appends([ticket], refusal)
        return ticket

    def enqueue_ingest(self, ticket: IngestTicket) -> IngestTicket:
        """Queue a request for foreign events, or refuse it at once if no message can hold it."""
        refusal = ingest_out_of_bounds(ticket.request)
        if refusal is None:
            return self.ingests.put(ticket)
        self._refuse_ingests([ticket], refusal)
        return ticket

    def requeue_deferred(self) -> None:
        """Queue the deferred events that are due."""
        for request in _ingest_requests(self.deferred.take_due(now_ms())):
            self.ingests.put(ingest_ticket(request))

    def phase(self, phase: str) -> None:
        """Show the current phase."""
        self.progress.phase, self.progress.loading = phase, None
        self._show()

    async def step(self) -> None:
        """Do the next step: publish a rebuilt state, open the workspace, or a round.

        A switch needs nothing of the published state, and is tried even if that cannot be opened.
        """
        if self.switches:
            await self._switch()
        elif self._head is None:
            await self._open()
        elif self.waits or self._closes_foreign:
            await self._round(self._head)
        else:
            # Only the store can tell the fate of a round that is left here.
            self._head = None

    # Opening.

    async def _open(self) -> None:
        """Open the workspace, and finish its pending rounds, in order."""
        self.phase("opening: reading the published state and looking for rounds that are not in it")
        self._opened = True
        try:
            opened = await open_ledger(self._workspace)
            self.progress.note_attempts(names.OPEN_LEDGER, None, opened.attempt)
            self._head = self.last_head = opened.head
            self._next_round = opened.next_round
            self._looks_again = False
            self._sort_out_accepted(opened)
            for pending in opened.pending:
                if self._head is None or not await self._finish(self.accepted[pending.number], self._head):
                    return
        except ActivityError as error:
            self._give_up(self._failed(error))
            # Wait for passing faults; damage stays until an operator repairs it.
            self._looks_again = self._looks_again and passes(error)
            return
        self._take_in(opened)

    def _take_in(self, opened: Opened) -> None:
        """Queue the events that the reference published since our last revision, before all other requests."""
        self.ingests.drop(lambda ticket: ticket in self._foreign)
        self._foreign = [ingest_ticket(request) for request in _ingest_requests(opened.foreign_paths)]
        self.ingests.put_back(self._foreign)
        self._closes_foreign = bool(opened.head.foreign) and not self._foreign
        self._more_foreign = opened.more_foreign

    def _sort_out_accepted(self, opened: Opened) -> None:
        """Answer for rounds that are visible meanwhile; keep only those that are pending."""
        pending = {one.number: one for one in opened.pending}
        for number in list(self.accepted):
            if number <= opened.head.rounds_folded:
                self.accepted.pop(number).tell(VisibilityStatus.VISIBLE, opened.head)
            elif number not in pending:
                # The record is gone: only an operator deletes one. The requests are judged again.
                lost = self.accepted.pop(number)
                self.appends.put_back(ticket for ticket, _ in lost.appends)
                self.ingests.put_back(ticket for ticket, _ in lost.ingests)
        for number, one in pending.items():
            self.accepted.setdefault(number, found_pending(one, now_ms()))

    # Rounds.

    async def _round(self, head: Head) -> None:
        """Take waiting requests, appends and ingests in turn, and make their round visible."""
        foreign = self._closes_foreign or any(not ticket.answer.done() for ticket in self._foreign)
        self._ingests_next = foreign or (bool(self.ingests) and (self._ingests_next or not self.appends))
        accepted = await (self._admit_ingests(head) if self._ingests_next else self._admit_appends(head))
        self._ingests_next = not self._ingests_next
        if accepted is None:
            return
        self.accepted[accepted.round.number] = accepted
        self._next_round = accepted.round.number + 1
        try:
            await self._finish(accepted, head)
        except ActivityError as error:
            self._failed(error)
            self.accepted.pop(accepted.round.number).tell(VisibilityStatus.PERSISTED_NOT_VISIBLE)

    async def _admit_appends(self, head: Head) -> Accepted | None:
        """Admit a round of append requests; return it if it has accepted events."""
        tickets = self.appends.take()
        self.phase(f"judging {len(tickets)} request(s)")
        try:
            first_event_id = fresh_ulid(head.last_event_id)
        except ValueError as error:
            self._refuse_appends(tickets, no_id_left(str(error)))
            return None
        try:
            admitted = await admit(self._workspace, head, self._next_round, tickets, first_event_id)
        except ActivityError as error:
            refusal = self._not_admitted(tickets, error)
            if not self._halved(self.appends, tickets, error):
                self._refuse_appends(tickets, refusal)
            return None
        self._taken_together(tickets)
        self.progress.note_attempts(names.ADMIT, self._next_round, admitted.attempt)
        if admitted.kind == "taken":
            self.appends.put_back(tickets)
            await self._set_back()
            return None
        waiting = []
        for ticket, answer in zip(tickets, admitted.answers, strict=True):
            if admitted.round is None or answer.refusal is not None or answer.replayed:
                ticket.settle(answer)
            else:
                waiting.append((ticket, answer))
            self.progress.note_answer(answer)
        return None if admitted.round is None else Accepted(admitted.round, now_ms(), appends=waiting)

    async def _admit_ingests(self, head: Head) -> Accepted | None:
        """Admit foreign events; return their round if any is accepted."""
        tickets = self.ingests.take()
        self._closes_foreign = False
        self.phase(f"looking at {sum(ticket.units for ticket in tickets)} foreign event(s)")
        try:
            admitted = await admit_foreign(self._workspace, head, self._next_round, tickets)
        except ActivityError as error:
            refusal = self._not_admitted(tickets, error)
            if not self._halved(self.ingests, tickets, error):
                self._refuse_ingests(tickets, refusal)
            return None
        self._taken_together(tickets)
        self.progress.note_attempts(names.ADMIT_FOREIGN, self._next_round, admitted.attempt)
        if admitted.kind == "taken":
            self.ingests.put_back(tickets)
            await self._set_back()
            return None
        waiting = list(zip(tickets, admitted.foreign_answers, strict=True))
        for ticket, answer in waiting:
            self.deferred.note(answer.deferred)
            self.progress.ingested += answer.accepted
            if admitted.round is None:
                ticket.settle(answer)
        return None if admitted.round is None else Accepted(admitted.round, now_ms(), ingests=waiting)

    async def _finish(self, accepted: Accepted, before: Head) -> bool:
        """Make a kept round visible; False if another publisher was faster."""
        head = await make_visible(self._workspace, before, accepted, self.progress, self.phase)
        if head is None:
            await self._set_back()
            return False
        self._setbacks = 0
        self._head = self.last_head = head
        self.accepted.pop(accepted.round.number)
        if self._more_foreign and all(ticket.answer.done() for ticket in self._foreign):
            self._head, self._opened = None, False
        self.phase(f"round {accepted.round.number} is visible and answered")
        self._wakes.add(accepted)
        await self._collect_garbage_after(before, head)
        return True

    async def _collect_garbage_after(self, before: Head, head: Head) -> None:
        """Start a garbage collection off the path each time the manifest passes a multiple of the interval."""
        interval = self._garbage_interval
        if interval and int(head.manifest_id) // interval != int(before.manifest_id) // interval:
            await start_garbage_collection(self._workspace)

    # Rebuilt states.

    async def _switch(self) -> None:
        """Publish the result of a rebuild, in as many steps as it needs; then the workspace is opened again."""
        (ticket,) = self.switches.take()
        self.phase(f"switching in the state of the rebuild {ticket.request.plan.work_id}")
        self._opened = False
        folded, lost = 0, 0
        while True:
            try:
                state = await switch_state(self._workspace, ticket.request)
            except ActivityError as error:
                ticket.settle(SwitchOutcome(refusal=self._failed(error)))
                return
            self._head = None
            self.progress.note_attempts(names.SWITCH_STATE, None, state.attempt)
            if state.kind == "lost":
                lost += 1
                if lost > MAX_SETBACKS:
                    ticket.settle(SwitchOutcome(refusal=outpaced(self._workspace)))
                    return
                await workflow.sleep(min(MAX_PAUSE, FIRST_PAUSE * 2**lost), summary="another publisher was faster")
                continue
            assert state.switched is not None
            folded += state.switched.folded
            if not state.more:
                self.progress.switched += 1
                ticket.settle(SwitchOutcome(switched=state.switched.model_copy(update={"folded": folded})))
                return
            self.phase(f"catching up: {folded} event(s) are folded and visible")

    # Failures.

    async def _set_back(self) -> None:
        """Open again, after a growing pause; refuse the callers' requests after too many setbacks in a row."""
        self._head = None
        self._setbacks += 1
        self.progress.setbacks += 1
        if self._setbacks > MAX_SETBACKS:
            self._setbacks = 0
            refusal = outpaced(self._workspace)
            self.progress.failure = refusal.message
            self._give_up(refusal)
        elif self._setbacks > 1:
            self.phase("pausing: another publisher was faster")
            pause = min(MAX_PAUSE, FIRST_PAUSE * 2**self._setbacks)
            await workflow.sleep(pause, summary="another publisher was faster")

    def _failed(self, error: ActivityError) -> Refusal:
        """Record a step that failed for good; the workspace is opened again before the next round."""
        refusal = ledger_refusal(error, self._workspace)
        workflow.logger.error("a step of the ledger failed for good: %s", refusal.message)
        self.progress.failure = refusal.message
        self._head = None
        return refusal

    def _not_admitted(self, tickets: Sequence[object], error: ActivityError) -> Refusal:
        """Return the refusal of requests whose round could not be admitted.

        If a record may exist all the same, the run opens the workspace again before it ends.
        """
        self._looks_again = self._looks_again or unknown_effect(error)
        refusal = self._failed(error)
        return refusal_of_one(refusal, error) if len(tickets) == 1 else refusal

    def _halved(self, queue: Queue[Q, A], tickets: list[Ticket[Q, A]], error: ActivityError) -> bool:
        """Queue the requests of a failed round in two halves, to find the one that makes it fail.

        False if that is known, or was tried too often in a row.
        """
        if len(tickets) == 1 or self._halvings >= HALVINGS or not one_may_be_the_cause(error):
            return False
        self._halvings += 1
        workflow.logger.warning("a round of %s requests failed and is halved", len(tickets))
        queue.put_back_halved(tickets)
        return True

    def _taken_together(self, tickets: list[Ticket[Q, A]]) -> None:
        """Record requests that were judged together: none of them makes others fail."""
        if all(ticket.apart is None for ticket in tickets):
            self._halvings = 0
        for ticket in tickets:
            ticket.apart = None

    def _give_up(self, refusal: Refusal) -> None:
        """Answer all callers, because the ledger cannot go on now. The next request makes the run try again."""
        for accepted in self.accepted.values():
            accepted.tell(VisibilityStatus.PERSISTED_NOT_VISIBLE)
        self.accepted.clear()
        self._refuse_appends(self.appends.take_all(), refusal)
        self._refuse_ingests(self.ingests.take_all(), refusal)

    def _refuse_appends(self, tickets: list[AppendTicket], refusal: Refusal) -> None:
        for ticket in tickets:
            answer = AppendOutcome(request_id=ticket.request.request_id, refusal=refusal)
            self.progress.note_answer(answer)
            ticket.settle(answer)

    def _refuse_ingests(self, tickets: list[IngestTicket], refusal: Refusal) -> None:
        for ticket in tickets:
            ticket.settle(IngestOutcome(refusal=refusal))


def _ingest_requests(paths: list[str]) -> list[IngestRequest]:
    """Split paths into requests of a round each."""
    return [
        IngestRequest(event_paths=paths[first : first + MAX_BATCH_PATHS])
        for first in range(0, len(paths), MAX_BATCH_PATHS)
    ]
