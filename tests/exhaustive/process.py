"""One run of a table's sequencer with its worker, without Temporal: the real activities in the workflow's order.

What Temporal adds is here in its barest form: a step that failed in passing is tried again with the same input,
and when the worker dies, `revives` says whether another worker goes on with the same run or nobody does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from temporalio.exceptions import ApplicationError

from activities.commit import CommitActivities
from springline.delta.messages import (
    CommitOutcome,
    CommitRequest,
    CommitResult,
    CommitStep,
    LogOutcome,
    MarkerOutcome,
    RoundOrder,
    RoundResult,
)
from springline.errors import Refusal
from springline.storage.faults import FaultyStore, ProcessDied
from tests.activities.environment import StepEnvironment
from tests.exhaustive.world import NOW_MS, REF, Asked, uuid7

STEP_ATTEMPTS = 30
ROUNDS = 30


class Stuck(Exception):
    """A step fails for ever, or a request finds no end."""


@dataclass
class Call:
    """A request as its client sees it: `call` and `ret` in storage operations; no `ret`: never answered."""

    asked: Asked
    call: int
    ret: int | None = None
    result: CommitResult | None = None
    refusal: Refusal | None = None


@dataclass
class Journal:
    """All calls of a history, on one clock."""

    now: int = 0
    calls: list[Call] = field(default_factory=list)

    def tick(self) -> int:
        """Return the next instant."""
        self.now += 1
        return self.now


class Process:
    """A sequencer run named `name`; `number` keeps its round ids apart from everybody else's.

    `cold`: every step runs on a worker that remembers nothing.
    """

    def __init__(
        self,
        store: FaultyStore,
        journal: Journal,
        name: str,
        number: int,
        *,
        revives: bool = False,
        cold: bool = False,
    ) -> None:
        self.name = name
        self._store = store
        self._journal = journal
        self._number = number
        self._revives = revives
        self._cold = cold
        self._workers = 0
        self._rounds = 0
        self._env = StepEnvironment()
        self._activities = self._worker()

    async def commit(self, asked: Sequence[Asked]) -> None:
        """Commit the requests in rounds until all are answered, and finalize. Raises `ProcessDied`, `Stuck`."""
        calls = {one.request.idempotency_key: Call(one, self._journal.tick()) for one in asked}
        self._journal.calls.extend(calls.values())
        waiting = {one.request.idempotency_key: one.request for one in asked}
        finished: CommitStep | None = None
        step: CommitStep | None = None
        for _ in range(ROUNDS):
            if not waiting:
                break
            finished_before, finished = finished, None
            order = self._order(list(waiting.values()), finished_before)
            result: RoundResult = await self._run(
                "reserve" if finished_before is None else "finalize_and_reserve", order
            )
            for outcome in result.outcomes:
                waiting.pop(outcome.idempotency_key)
                self._answer(calls[outcome.idempotency_key], outcome)
            if result.redo:
                finished = finished_before
                continue
            if result.reservation is None:
                continue
            reservation = result.reservation
            step = reservation.step_of(REF)
            log: LogOutcome = await self._run("write_log", step)
            if log.kind != "logged":
                continue
            step = step.model_copy(update={"version": log.version, "coordinator_version": log.coordinator_version})
            marked: MarkerOutcome = await self._run("write_marker", step)
            if marked.kind != "written":
                continue
            answer = CommitResult(version=step.version, delta_log_path=marked.delta_log_path)
            for key in reservation.keys:
                if waiting.pop(key, None) is not None:
                    self._answer(calls[key], CommitOutcome(idempotency_key=key, result=answer))
            finished = step
        else:
            raise Stuck(f"{self.name}: {len(waiting)} requests unanswered after {ROUNDS} rounds")
        if finished is not None:
            await self._run("finalize", step)

    def _order(self, requests: list[CommitRequest], finished: CommitStep | None) -> RoundOrder:
        self._rounds += 1
        return RoundOrder(
            table=REF,
            round_id=uuid7(self._number * 0x1000 + self._rounds),
            now_ms=NOW_MS + self._number,
            requests=requests,
            finished=finished,
        )

    def _answer(self, call: Call, outcome: CommitOutcome) -> None:
        call.ret = self._journal.tick()
        call.result, call.refusal = outcome.result, outcome.refusal

    async def _run(self, step: str, given: RoundOrder | CommitStep | None) -> Any:
        """Run one step as Temporal does: again while it fails in passing, elsewhere when its worker dies."""
        for _ in range(STEP_ATTEMPTS):
            if self._cold:
                self._activities = CommitActivities(self._store.actor(self._actor))
            try:
                return await self._env.run(getattr(self._activities, step), given)
            except ApplicationError as error:
                if error.non_retryable:
                    raise Stuck(f"{self.name}: {error.type}: {error}") from error
            except ProcessDied:
                if not self._revives:
                    raise
                self._activities = self._worker()
        raise Stuck(f"{self.name}: a step failed {STEP_ATTEMPTS} times")

    def _worker(self) -> CommitActivities:
        self._workers += 1
        self._actor = self.name if self._workers == 1 else f"{self.name}+{self._workers}"
        return CommitActivities(self._store.actor(self._actor))
