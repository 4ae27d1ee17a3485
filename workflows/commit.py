"""CommitWorkflow: the one sequencer of a table (design 3.2).

    callers --update "commit"--> queue --> round --> reserve -> write_log -> write_marker --> answers
                                                                                    |
                                     finalize_and_reserve of the next round  <------+----> finalize

A round commits exactly one version. Answers go out once the markers are written; the reservation is cleared
together with the next one if more work comes within the linger, else alone. The run ends when nothing waits and
nothing is in flight; the next caller starts another. All state that matters is in storage, so no run hands
anything to the next.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from datetime import timedelta

from temporalio import workflow
from temporalio.exceptions import ActivityError, ApplicationError, WorkflowAlreadyStartedError

with workflow.unsafe.imports_passed_through():
    from pydantic import ValidationError

    from activities.messages import (
        CommitStep,
        FinalizeOutcome,
        FinishedRound,
        LogOutcome,
        MarkerOutcome,
        Reservation,
        RoundOrder,
        RoundResult,
        SettledReservation,
        TableRef,
    )
    from activities.table_messages import CheckpointStart
    from springline import names
    from springline.delta.request import CommitRequest, CommitResult, Mode, Outcome
    from workflows.commit_status import describe
    from workflows.failures import refusal_of
    from workflows.ids import new_uuid7
    from workflows.messages import BatchResult, CommitBatch, CommitStart, CommitStatus, RetriedStep, RoundSummary
    from workflows.policies import COMMIT_HEARTBEAT, COMMIT_RETRY, COMMIT_START_TO_CLOSE
    from workflows.search import SEARCH_TABLE_KEY, SEARCH_TENANT_KEY, SEARCH_WORKSPACE_KEY

MAX_ROUND_CANDIDATES = 500
MAX_QUEUE = 20_000
DRAIN_EVENTS = 3_000
"""Events after which a run takes no more requests and ends (the server's own suggestion comes at 4,096)."""
LINGER = timedelta(milliseconds=40)
"""How long a busy table's reservation may stay uncleared in the hope of sharing its write with the next round."""
WRITE_INTERVAL = timedelta(seconds=1)
"""Where the store throttles writes to one name (GCS: about one a second), rounds are paced to this."""
PACED_LINGER = timedelta(seconds=1)
THROTTLE_MEMORY_ROUNDS = 60
RECENT_ROUNDS = 20


@dataclass(slots=True)
class Ticket:
    """A request in the queue and the future its caller waits on."""

    request: CommitRequest
    answer: asyncio.Future[Outcome]

    @property
    def key(self) -> str:
        """Return the request's idempotency key."""
        return self.request.idempotency_key


@workflow.defn(name=names.COMMIT_WORKFLOW, failure_exception_types=[ValidationError])
class CommitWorkflow:
    """Sequences the commits of one table."""

    @workflow.init
    def __init__(self, start: CommitStart) -> None:
        self._table = TableRef(tenant=start.tenant, workspace=start.workspace, table_id=start.table_id)
        self._checkpoint_interval = start.checkpoint_interval
        self._queue: deque[Ticket] = deque()
        self._finished: FinishedRound | None = None
        self._busy = False
        self._throttle_memory = 0
        self._last_reserve = workflow.now()
        self._status = CommitStatus(phase="waiting for requests", waiting=0)
        self._recent: deque[RoundSummary] = deque(maxlen=RECENT_ROUNDS)
        self._recovered: deque[SettledReservation] = deque(maxlen=RECENT_ROUNDS)
        self._retried: deque[RetriedStep] = deque(maxlen=RECENT_ROUNDS)
        self._rounds = self._committed = self._replayed = self._refused = 0
        self._inflight: Reservation | None = None
        self._latest: int | None = None
        self._cancelled = False
        self._start_tickets = [self._enqueue(request) for request in start.requests]

    @workflow.run
    async def run(self, start: CommitStart) -> BatchResult:
        """Work in rounds until nothing waits and nothing is in flight; return the outcomes of the start's requests.

        A cancellation takes no commit with it: the run admits no more requests, finishes those it has, and ends.
        """
        self._show_in_search()
        work = asyncio.create_task(self._work())
        while not work.done():
            try:
                await asyncio.shield(work)
            except asyncio.CancelledError:
                self._cancelled = True
        return work.result()

    async def _work(self) -> BatchResult:
        while True:
            if not self._queue:
                await self._rest()
            if self._queue:
                await self._round()
            elif self._finished is not None:
                await self._finalize()
            elif workflow.all_handlers_finished():
                break
            else:
                await workflow.wait_condition(lambda: bool(self._queue) or workflow.all_handlers_finished())
        self._phase("done: nothing waits and nothing is in flight")
        return BatchResult(outcomes=[ticket.answer.result() for ticket in self._start_tickets])

    @workflow.update(name=names.COMMIT_UPDATE, description="Commit staged payloads; each request is answered by itself")
    async def commit(self, batch: CommitBatch) -> BatchResult:
        """Queue the requests and wait for all their outcomes."""
        tickets = [self._enqueue(request) for request in batch.requests]
        return BatchResult(outcomes=[await ticket.answer for ticket in tickets])

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
        )

    @property
    def _draining(self) -> bool:
        info = workflow.info()
        return (
            self._cancelled or info.is_continue_as_new_suggested() or info.get_current_history_length() >= DRAIN_EVENTS
        )

    def _enqueue(self, request: CommitRequest) -> Ticket:
        ticket = Ticket(request, asyncio.get_running_loop().create_future())
        self._queue.append(ticket)
        return ticket

    async def _rest(self) -> None:
        """With the queue empty and a reservation to clear, wait a moment for company if the table is busy.

        The answers are out already, so nobody waits for this write; a round that comes in time saves one.
        """
        if self._finished is None or not (self._busy or self._throttle_memory):
            return
        linger = PACED_LINGER if self._throttle_memory else LINGER
        self._phase("lingering: answers are out, the next round may share the write that clears this one")
        try:
            await workflow.wait_condition(
                lambda: bool(self._queue), timeout=linger, timeout_summary="linger for the next round"
            )
        except TimeoutError:
            self._busy = False

    async def _round(self) -> None:
        """Take what waits, commit one version of it, and answer."""
        await self._pace()
        tickets = self._take()
        order = RoundOrder(
            table=self._table,
            round_id=new_uuid7(),
            now_ms=int(workflow.now().timestamp() * 1000),
            requests=[ticket.request for ticket in tickets.values()],
            finished=self._finished,
        )
        self._phase(f"reserving a version for {len(tickets)} waiting request(s)")
        self._last_reserve = workflow.now()
        try:
            result = await self._reserve(order)
        except ActivityError as error:
            self._fail(tickets, error)
            return
        self._note_throttling(result.throttled)
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
            await self._commit_reserved(result.reservation, members)
        except ActivityError as error:
            self._fail(members, error)
        finally:
            self._inflight = None

    async def _commit_reserved(self, reservation: Reservation, members: dict[str, Ticket]) -> None:
        step = CommitStep(
            table=self._table,
            commit_id=reservation.commit_id,
            identity=reservation.identity,
            version=reservation.version,
            coordinator_version=reservation.coordinator_version,
        )
        self._phase(f"writing version {step.version} for {len(reservation.keys)} request(s)")
        log = await workflow.execute_activity(
            names.WRITE_LOG,
            step,
            result_type=LogOutcome,
            start_to_close_timeout=COMMIT_START_TO_CLOSE,
            heartbeat_timeout=COMMIT_HEARTBEAT,
            retry_policy=COMMIT_RETRY,
            summary=f"version {step.version}: the log file, from here on it is committed",
        )
        self._note_attempts(names.WRITE_LOG, log.version, log.attempt)
        if log.kind != "logged":
            self._recovered.append(_ended(reservation, log))
            self._put_back(members)
            return
        step = step.model_copy(update={"version": log.version, "coordinator_version": log.coordinator_version})
        markers = await workflow.execute_activity(
            names.WRITE_MARKER,
            step,
            result_type=MarkerOutcome,
            start_to_close_timeout=COMMIT_START_TO_CLOSE,
            heartbeat_timeout=COMMIT_HEARTBEAT,
            retry_policy=COMMIT_RETRY,
            summary=f"version {step.version}: {len(reservation.keys)} idempotency marker(s), then the answers",
        )
        self._note_attempts(names.WRITE_MARKER, step.version, markers.attempt)
        if markers.kind == "superseded":
            self._put_back(members)
            return
        self._finished = FinishedRound(
            commit_id=step.commit_id,
            identity=step.identity,
            version=step.version,
            coordinator_version=step.coordinator_version,
        )
        before = self._latest
        self._latest = step.version
        self._rounds += 1
        self._busy = self._busy or len(reservation.keys) > 1 or bool(self._queue)
        mode = next(iter(members.values())).request.mode.value if members else Mode.APPEND.value
        self._recent.append(
            RoundSummary(
                version=step.version, members=len(reservation.keys), mode=mode, commit_id=reservation.commit_id
            )
        )
        result = CommitResult(version=step.version, delta_log_path=markers.delta_log_path)
        for key, ticket in members.items():
            self._answer(ticket, Outcome(idempotency_key=key, result=result))
        self._phase(f"version {step.version} committed and answered")
        await self._checkpoint_after(before, step.version)

    async def _reserve(self, order: RoundOrder) -> RoundResult:
        finished = order.finished
        count = len(order.requests)
        result: RoundResult = await workflow.execute_activity(
            names.RESERVE if finished is None else names.FINALIZE_AND_RESERVE,
            order,
            result_type=RoundResult,
            start_to_close_timeout=COMMIT_START_TO_CLOSE,
            heartbeat_timeout=COMMIT_HEARTBEAT,
            retry_policy=COMMIT_RETRY,
            summary=f"reserve a version for {count} request(s)"
            if finished is None
            else f"finalize version {finished.version} and reserve the next for {count} request(s)",
        )
        return result

    async def _finalize(self) -> None:
        finished = self._finished
        assert finished is not None
        self._phase(f"finalizing version {finished.version}")
        try:
            outcome = await workflow.execute_activity(
                names.FINALIZE,
                CommitStep(
                    table=self._table,
                    commit_id=finished.commit_id,
                    identity=finished.identity,
                    version=finished.version,
                    coordinator_version=finished.coordinator_version,
                ),
                result_type=FinalizeOutcome,
                start_to_close_timeout=COMMIT_START_TO_CLOSE,
                heartbeat_timeout=COMMIT_HEARTBEAT,
                retry_policy=COMMIT_RETRY,
                summary=f"version {finished.version}: clear the reservation",
            )
            self._note_throttling(outcome.throttled)
            self._note_attempts(names.FINALIZE, finished.version, outcome.attempt)
            self._busy = self._busy or bool(self._queue)
        except ActivityError as error:
            workflow.logger.error("version %s stays in flight: %s", finished.version, error.cause or error)
        self._finished = None

    async def _pace(self) -> None:
        """Where the store throttles, form the round as late as its write can go out, with all who wait by then."""
        if not self._throttle_memory:
            return
        left = self._last_reserve + WRITE_INTERVAL - workflow.now()
        if left > timedelta(0):
            self._phase("pacing: the store takes about one write a second to one name")
            await workflow.sleep(left, summary="the store takes one write a second to one name")

    def _note_throttling(self, throttled: int) -> None:
        if throttled:
            self._throttle_memory = THROTTLE_MEMORY_ROUNDS
        elif self._throttle_memory:
            self._throttle_memory -= 1

    def _note_attempts(self, step: str, version: int | None, attempts: int) -> None:
        """Remember a step that survived a crash or a fault, so that a recovered commit explains itself."""
        if attempts > 1:
            self._retried.append(RetriedStep(step=step, version=version, attempts=attempts))

    def _take(self) -> dict[str, Ticket]:
        """Take the round's candidates in order; a key that is there twice leaves its second request waiting."""
        taken: dict[str, Ticket] = {}
        left: deque[Ticket] = deque()
        while self._queue:
            ticket = self._queue.popleft()
            if len(taken) >= MAX_ROUND_CANDIDATES or ticket.key in taken:
                left.append(ticket)
            else:
                taken[ticket.key] = ticket
        self._queue = left
        return taken

    def _put_back(self, tickets: dict[str, Ticket]) -> None:
        self._queue.extendleft(reversed(tickets.values()))

    def _answer(self, ticket: Ticket, outcome: Outcome) -> None:
        if outcome.refusal is not None:
            self._refused += 1
        elif outcome.replayed:
            self._replayed += 1
        else:
            self._committed += 1
        if not ticket.answer.done():
            ticket.answer.set_result(outcome)

    def _fail(self, tickets: dict[str, Ticket], error: ActivityError) -> None:
        """Answer requests whose step failed for good; the table goes on with the next."""
        refusal = refusal_of(error, self._table)
        workflow.logger.error("a commit step failed for good: %s", refusal.message)
        for ticket in tickets.values():
            self._answer(ticket, Outcome(idempotency_key=ticket.key, refusal=refusal))

    async def _checkpoint_after(self, before: int | None, version: int) -> None:
        """Start a checkpoint off the commit path each time the version passes a multiple of the interval."""
        interval = self._checkpoint_interval
        passed = version - 1 if before is None else before
        if interval == 0 or version // interval == max(passed, 0) // interval:
            return
        try:
            await workflow.start_child_workflow(
                names.CHECKPOINT_WORKFLOW,
                CheckpointStart(table=self._table, version=version),
                id=names.checkpoint_workflow_id(self._table.tenant, self._table.workspace, self._table.table_id),
                task_queue=names.MAINTENANCE_QUEUE,
                parent_close_policy=workflow.ParentClosePolicy.ABANDON,
                static_summary=f"checkpoint at version {version}",
            )
        except WorkflowAlreadyStartedError:
            workflow.logger.info("a checkpoint is still being written; version %s waits for the next", version)

    def _show_in_search(self) -> None:
        """Make a run that was started by hand findable like any other."""
        if workflow.info().typed_search_attributes.get(SEARCH_TABLE_KEY) is None:
            workflow.upsert_search_attributes(
                [
                    SEARCH_TENANT_KEY.value_set(self._table.tenant),
                    SEARCH_WORKSPACE_KEY.value_set(self._table.workspace),
                    SEARCH_TABLE_KEY.value_set(self._table.table_id),
                ]
            )

    def _phase(self, phase: str) -> None:
        self._status = CommitStatus(phase=phase, waiting=len(self._queue))
        workflow.set_current_details(describe(self._table, self.status()))


def _ended(reservation: Reservation, log: LogOutcome) -> SettledReservation:
    """Describe a reservation of ours that did not become a commit; its requests go back into the queue."""
    kind = "completed" if log.kind in ("logged", "superseded") else log.kind
    return SettledReservation(
        kind=kind, commit_id=reservation.commit_id, version=log.version, members=len(reservation.keys)
    )
