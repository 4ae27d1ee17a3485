"""CommitWorkflow: the one sequencer of a table (docs/protocol.md#commit-rounds).

    callers --update "commit"--> queue --> round --> reserve -> write_log -> write_marker --> answers
                                                                                    |
                                     finalize_and_reserve of the next round  <------+----> finalize

A round commits exactly one version. Answers go out once the markers are written; the reservation is cleared
together with the next one if more work comes within the linger, else alone. The run ends when no request waits,
nothing is in flight and no caller comes for a moment; the next caller starts another. All state that matters is in
storage, so no run hands anything to the next.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from dataclasses import dataclass
from datetime import timedelta

from temporalio import workflow
from temporalio.exceptions import ActivityError, ApplicationError

with workflow.unsafe.imports_passed_through():
    from springline import names
    from springline.bounds import shortened
    from springline.delta.messages import (
        CommitMode,
        CommitOutcome,
        CommitRequest,
        CommitResult,
        CommitStep,
        FinalizeOutcome,
        LogKind,
        LogOutcome,
        MarkerOutcome,
        Reservation,
        RoundOrder,
        RoundResult,
        SettledReservation,
        TableRef,
        fitting,
        out_of_bounds,
        settled_by,
    )
    from springline.errors import Refusal
    from workflows.commit_messages import (
        BatchResult,
        CommitBatch,
        CommitStart,
        CommitStatus,
        RetriedStep,
        RoundSummary,
        describe,
    )
    from workflows.commit_steps import run_step, show_in_search, start_checkpoint
    from workflows.failures import (
        ENDS_THE_RUN,
        HALVINGS,
        one_may_be_the_cause,
        passes,
        refusal_of,
        refusal_of_one,
        unknown_effect,
    )
    from workflows.lifecycle import finish_though_cancelled, new_uuid7, now_ms

MAX_ROUND_CANDIDATES = 500
MAX_QUEUE = 20_000
DRAIN_EVENTS = 3_000
"""History events after which a run takes no more requests and ends (the server suggests that at 4,096)."""
LEAST_PATIENCE, MOST_PATIENCE = timedelta(seconds=1), timedelta(seconds=3)
"""How long a run waits for callers to come back, before it clears the reservation of a busy table and before it ends.

Twice the time of a round, because on a loaded machine callers take longer, too, and ending too early makes more work.
A Temporal server whose timers are not tuned also fires shorter ones only after a second.
"""
WRITE_INTERVAL = timedelta(seconds=1)
"""If the store throttles writes to one name (GCS: about one a second), rounds begin at this distance."""
RECENT_ROUNDS = 20


@dataclass(slots=True)
class Ticket:
    """A request in the queue and the future its caller waits on."""

    request: CommitRequest
    answer: asyncio.Future[CommitOutcome]
    apart: object | None = None
    """A mark shared by the tickets of a halved round that failed: they are tried apart from all others."""

    @property
    def key(self) -> str:
        """Return the request's idempotency key."""
        return self.request.idempotency_key


@workflow.defn(name=names.COMMIT_WORKFLOW, failure_exception_types=ENDS_THE_RUN)
class CommitWorkflow:
    """Sequences the commits of one table."""

    @workflow.init
    def __init__(self, start: CommitStart) -> None:
        self._table = TableRef(tenant=start.tenant, workspace=start.workspace, table_id=start.table_id)
        self._table_name = start.table_name
        self._checkpoint_interval = start.checkpoint_interval
        self._queue: deque[Ticket] = deque()
        self._finished: CommitStep | None = None
        self._busy = False
        self._paced = False
        self._tick: asyncio.Task[None] | None = None
        self._called = False
        self._patience = LEAST_PATIENCE
        self._status = CommitStatus(phase="waiting for requests", waiting=0)
        self._recent: deque[RoundSummary] = deque(maxlen=RECENT_ROUNDS)
        self._recovered: deque[SettledReservation] = deque(maxlen=RECENT_ROUNDS)
        self._retried: deque[RetriedStep] = deque(maxlen=RECENT_ROUNDS)
        self._rounds = self._committed = self._replayed = self._refused = 0
        self._inflight: Reservation | None = None
        self._latest: int | None = None
        self._cancelled = False
        self._failure: str | None = None
        self._halvings = 0
        self._unsettled = False
        self._start_tickets = [self._enqueue(request) for request in start.requests]

    @workflow.run
    async def run(self, start: CommitStart) -> BatchResult:
        """Work in rounds until nothing waits and nothing is in flight; return the outcomes of the start's requests.

        A cancellation loses no commit: the run admits no more requests, finishes those it has, and ends.
        """
        show_in_search(self._table)
        return await finish_though_cancelled(asyncio.create_task(self._work()), self._drain)

    async def _work(self) -> BatchResult:
        while True:
            if self._finished is not None and not self._queue:
                await self._linger()
            if self._queue:
                await self._round()
            elif self._finished is not None:
                await self._finalize()
            elif self._unsettled:
                await self._settle()
            elif await self._rest():
                self._busy = True
            elif workflow.all_handlers_finished() and not self._queue:
                break
            else:
                await workflow.wait_condition(lambda: bool(self._queue) or workflow.all_handlers_finished())
        self._phase("done: nothing waits and nothing is in flight")
        return BatchResult(outcomes=fitting([ticket.answer.result() for ticket in self._start_tickets]))

    @workflow.update(name=names.COMMIT_UPDATE, description="Commit staged payloads; each request is answered by itself")
    async def commit(self, batch: CommitBatch) -> BatchResult:
        """Queue the requests and wait for all their outcomes."""
        self._called = True
        tickets = [self._enqueue(request) for request in batch.requests]
        return BatchResult(outcomes=fitting([await ticket.answer for ticket in tickets]))

    @commit.validator
    def _admit(self, batch: CommitBatch) -> None:
        if self._draining:
            raise ApplicationError(
                "this run is full and drains; send the same requests again in a moment",
                type=names.ROLLING_OVER,
            )
        if len(self._queue) + len(batch.requests) > MAX_QUEUE:
            raise ApplicationError(
                f"{len(self._queue)} requests already wait for this table; send the same requests again later",
                type=names.ROLLING_OVER,
            )

    @workflow.query(name=names.STATUS_QUERY, description="What this table's sequencer is doing and has done")
    def status(self) -> CommitStatus:
        """Return counts, the reservation in flight, recent rounds and what was recovered."""
        inflight = self._inflight
        return CommitStatus(
            phase=self._status.phase,
            waiting=len(self._queue),
            latest_version=self._latest,
            inflight_version=inflight.version if inflight else None,
            inflight_members=len(inflight.keys) if inflight else 0,
            rounds=self._rounds,
            committed=self._committed,
            replayed=self._replayed,
            refused=self._refused,
            recent_rounds=list(self._recent),
            recovered=list(self._recovered),
            retried=list(self._retried),
            draining=self._draining,
            failure=self._failure,
        )

    def _drain(self) -> None:
        self._cancelled = True

    @property
    def _draining(self) -> bool:
        info = workflow.info()
        return (
            self._cancelled or info.is_continue_as_new_suggested() or info.get_current_history_length() >= DRAIN_EVENTS
        )

    def _enqueue(self, request: CommitRequest) -> Ticket:
        """Queue a request, or refuse it at once if it does not fit into a batch."""
        ticket = Ticket(request, asyncio.get_running_loop().create_future())
        refusal = out_of_bounds(request)
        if refusal is None:
            self._queue.append(ticket)
        else:
            self._answer(ticket, CommitOutcome(idempotency_key=shortened(ticket.key) or "", refusal=refusal))
        return ticket

    async def _linger(self) -> None:
        """With the queue empty and a reservation to clear, wait a moment for more requests if the table is busy.

        The answers are out already, so no caller waits for this write; a round that comes in time saves one.
        """
        if (
            self._called
            and (self._busy or self._paced)
            and not await self._somebody_comes(
                "lingering: answers are out, the next round may share the write that clears this one"
            )
        ):
            self._busy = False

    async def _rest(self) -> bool:
        """With nothing to do, wait a moment for a caller to come back; False if none came.

        A run that was started for its own requests only ends at once, because its starter waits for the result.
        """
        return self._called and await self._somebody_comes(
            "resting: nothing waits and nothing is in flight; the run ends unless somebody comes"
        )

    async def _somebody_comes(self, phase: str) -> bool:
        """Wait for a request; False if none came. Returns at once if the run takes no more requests."""
        if self._queue or self._draining:
            return bool(self._queue)
        self._phase(phase)
        with contextlib.suppress(TimeoutError):
            await workflow.wait_condition(
                lambda: bool(self._queue) or self._draining,
                timeout=self._patience,
                timeout_summary=phase.partition(":")[0] + " until the next request",
            )
        return bool(self._queue)

    async def _round(self) -> None:
        """Take waiting requests, commit one version of them, and answer."""
        await self._pace()
        began = workflow.now()
        tickets = self._take()
        order = RoundOrder(
            table=self._table,
            round_id=new_uuid7(),
            now_ms=now_ms(),
            requests=[ticket.request for ticket in tickets.values()],
            finished=self._finished,
        )
        self._phase(f"reserving a version for {len(tickets)} waiting request(s)")
        try:
            result = await self._reserve(order)
        except ActivityError as error:
            self._not_begun(tickets, error)
            return
        self._begun(tickets)
        self._note_pace(result.paced)
        self._note_attempts(names.RESERVE, result.reservation.version if result.reservation else None, result.attempt)
        self._recovered.extend(result.settled)
        for outcome in result.outcomes:
            self._answer(tickets.pop(outcome.idempotency_key), outcome)
        if result.redo:
            self._put_back(tickets)
            return
        self._finished = None
        self._inflight = result.reservation
        if result.reservation is None:
            self._put_back(tickets)
            return
        members = {key: tickets.pop(key) for key in result.reservation.keys if key in tickets}
        self._put_back(tickets)
        try:
            await self._commit_reserved(result.reservation, members, result.checkpoint_interval)
        except ActivityError as error:
            self._fail(members, refusal_of(error, self._table))
        finally:
            self._inflight = None
        self._patience = min(MOST_PATIENCE, max(LEAST_PATIENCE, 2 * (workflow.now() - began)))

    async def _commit_reserved(
        self, reservation: Reservation, members: dict[str, Ticket], own_interval: int | None
    ) -> None:
        step = reservation.step_of(self._table)
        self._phase(f"writing version {step.version} for {len(reservation.keys)} request(s)")
        summary = f"version {step.version}: the log file, from here on it is committed"
        log = await run_step(names.WRITE_LOG, step, LogOutcome, summary)
        self._note_attempts(names.WRITE_LOG, log.version, log.attempt)
        if log.kind is not LogKind.LOGGED:
            self._recovered.append(_ended(reservation, log))
            self._put_back(members)
            return
        step = step.model_copy(update={"version": log.version, "coordinator_version": log.coordinator_version})
        summary = f"version {step.version}: {len(reservation.keys)} idempotency marker(s), then the answers"
        markers = await run_step(names.WRITE_MARKER, step, MarkerOutcome, summary)
        self._note_attempts(names.WRITE_MARKER, step.version, markers.attempt)
        if markers.kind == "superseded":
            self._put_back(members)
            return
        self._finished = step
        before = self._latest
        self._latest = step.version
        self._rounds += 1
        self._busy = self._busy or len(reservation.keys) > 1 or bool(self._queue)
        mode = next(iter(members.values())).request.mode.value if members else CommitMode.APPEND.value
        self._recent.append(
            RoundSummary(
                version=step.version, members=len(reservation.keys), mode=mode, commit_id=reservation.commit_id
            )
        )
        result = CommitResult(version=step.version, delta_log_path=markers.delta_log_path)
        for key, ticket in members.items():
            self._answer(ticket, CommitOutcome(idempotency_key=key, result=result))
        self._phase(f"version {step.version} committed and answered")
        await self._checkpoint_after(before, step.version, own_interval)

    async def _reserve(self, order: RoundOrder) -> RoundResult:
        finished = order.finished
        count = len(order.requests)
        if finished is None:
            what = f"reserve a version for {count} request(s)"
            return await run_step(names.RESERVE, order, RoundResult, what, bounded=True)
        summary = f"finalize version {finished.version} and reserve the next for {count} request(s)"
        return await run_step(names.FINALIZE_AND_RESERVE, order, RoundResult, summary, bounded=True)

    async def _finalize(self) -> None:
        finished = self._finished
        assert finished is not None
        self._phase(f"finalizing version {finished.version}")
        try:
            summary = f"version {finished.version}: clear the reservation"
            outcome = await run_step(names.FINALIZE, finished, FinalizeOutcome, summary)
            self._note_pace(outcome.paced)
            self._note_attempts(names.FINALIZE, finished.version, outcome.attempt)
            self._busy = self._busy or bool(self._queue)
        except ActivityError as error:
            if passes(error):
                # Finish the reservation, however long it takes; later requests get a round of their own.
                self._failure = refusal_of(error, self._table).message
                return
            workflow.logger.error("version %s stays in flight: %s", finished.version, error.cause or error)
        self._finished = None

    async def _pace(self) -> None:
        """If the store throttles, begin rounds at the distance at which it accepts their writes.

        All requests that wait when a round begins are in it. The distance is from beginning to beginning, however long
        a round takes; the activity corrects deviations by delaying its write.
        """
        if not self._paced:
            return
        if self._tick is not None and not self._tick.done():
            self._phase("pacing: the store takes about one write a second to one name")
            await self._tick
        self._start_tick()

    def _note_pace(self, paced: bool) -> None:
        """Record whether the last write of the coordinator was paced by the store."""
        if paced and not self._paced:
            self._start_tick()
        self._paced = paced

    def _start_tick(self) -> None:
        summary = "the store takes one write a second to one name"
        self._tick = asyncio.create_task(workflow.sleep(WRITE_INTERVAL, summary=summary))

    def _note_attempts(self, step: str, version: int | None, attempts: int) -> None:
        """Remember a step that survived a crash or a fault, so that a recovered commit explains itself."""
        if attempts > 1:
            self._retried.append(RetriedStep(step=step, version=version, attempts=attempts))

    def _take(self) -> dict[str, Ticket]:
        """Take the round's candidates in order; of two requests with the same key the second stays in the queue.

        Tickets that are tried apart share a round with no others.
        """
        taken: dict[str, Ticket] = {}
        left: deque[Ticket] = deque()
        apart = self._queue[0].apart
        while self._queue:
            ticket = self._queue.popleft()
            if len(taken) >= MAX_ROUND_CANDIDATES or ticket.key in taken or (taken and ticket.apart is not apart):
                left.append(ticket)
            else:
                taken[ticket.key] = ticket
        self._queue = left
        return taken

    def _put_back(self, tickets: dict[str, Ticket]) -> None:
        self._queue.extendleft(reversed(tickets.values()))

    def _answer(self, ticket: Ticket, outcome: CommitOutcome) -> None:
        if outcome.refusal is not None:
            self._refused += 1
        elif outcome.replayed:
            self._replayed += 1
        else:
            self._committed += 1
        if not ticket.answer.done():
            ticket.answer.set_result(outcome)

    def _not_begun(self, tickets: dict[str, Ticket], error: ActivityError) -> None:
        """Answer the callers of a round that could not be begun, or first find the request that makes it fail.

        After a fault of the store a version may be reserved all the same: the next round finds out, and without one,
        this run does.
        """
        self._unsettled = self._unsettled or unknown_effect(error)
        refusal = refusal_of(error, self._table)
        self._failure = refusal.message
        if len(tickets) == 1 or self._halvings >= HALVINGS or not one_may_be_the_cause(error):
            self._fail(tickets, refusal_of_one(refusal, error) if len(tickets) == 1 else refusal)
            return
        self._halvings += 1
        waiting = list(tickets.values())
        middle = len(waiting) // 2
        for half in (waiting[:middle], waiting[middle:]):
            group = object()
            for ticket in half:
                ticket.apart = group
        workflow.logger.warning("a round of %s request(s) failed and is halved: %s", len(waiting), self._failure)
        self._put_back(tickets)

    def _begun(self, tickets: dict[str, Ticket]) -> None:
        """Record a round that could be begun: none of its requests makes others fail."""
        self._failure = None
        self._unsettled = False
        if all(ticket.apart is None for ticket in tickets.values()):
            self._halvings = 0
        for ticket in tickets.values():
            ticket.apart = None

    async def _settle(self) -> None:
        """Finish the reservation of a round with an unclear outcome, as far as possible now."""
        self._phase("finding out whether a version is reserved: the last round ended without an answer")
        order = RoundOrder(
            table=self._table,
            round_id=new_uuid7(),
            now_ms=now_ms(),
            requests=[],
        )
        try:
            result = await run_step(names.RESERVE, order, RoundResult, "finish what may be reserved", bounded=True)
        except ActivityError as error:
            self._failure = refusal_of(error, self._table).message
            # A run that drains ends: the next run finds the reservation, if there is one, and finishes it.
            self._unsettled = passes(error) and not self._draining
            return
        self._recovered.extend(result.settled)
        self._begun({})

    def _fail(self, tickets: dict[str, Ticket], refusal: Refusal) -> None:
        """Answer requests whose step failed for good; the table goes on with the next."""
        workflow.logger.error("a commit step failed for good: %s", refusal.message)
        for ticket in tickets.values():
            self._answer(ticket, CommitOutcome(idempotency_key=ticket.key, refusal=refusal))

    async def _checkpoint_after(self, before: int | None, version: int, own_interval: int | None) -> None:
        """Start a checkpoint off the commit path each time the version passes a multiple of the interval.

        The table's own interval (`delta.checkpointInterval`) goes before the service's, unless that writes none.
        """
        interval = (own_interval or self._checkpoint_interval) if self._checkpoint_interval else 0
        passed = version - 1 if before is None else before
        if interval == 0 or version // interval == max(passed, 0) // interval:
            return
        await start_checkpoint(self._table, self._table_name, version)

    def _phase(self, phase: str) -> None:
        self._status = CommitStatus(phase=phase, waiting=len(self._queue))
        workflow.set_current_details(describe(self._table, self._table_name, self.status()))


def _ended(reservation: Reservation, log: LogOutcome) -> SettledReservation:
    """Describe a reservation of ours that did not become a commit; its requests go back into the queue."""
    return SettledReservation(
        kind=settled_by(log.kind),
        commit_id=reservation.commit_id,
        version=log.version,
        members=len(reservation.keys),
    )
