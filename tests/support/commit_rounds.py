"""The rounds of CommitWorkflow without Temporal: the real activities, called in the workflow's order."""

from __future__ import annotations

import uuid_utils
from temporalio.exceptions import ApplicationError

from activities.commit import CommitActivities
from springline import paths
from springline.commit.table import CommitTable
from springline.delta.messages import (
    CommitMode,
    CommitOutcome,
    CommitRequest,
    CommitResult,
    CommitStep,
    LogOutcome,
    RoundOrder,
    RoundResult,
    TableRef,
)
from springline.storage.port import IfAbsent, ObjectStore, Stored
from springline.storage.scoped import ScopedStore
from tests.activities.environment import StepEnvironment

NOW_MS = 1_736_900_000_000
MOST_ATTEMPTS = 5
"""A reservation that failed for a reason that passes is tried again with the same order, as Temporal does."""


class Rounds:
    """One process that commits to one table. A new instance knows only what is stored."""

    def __init__(
        self, store: ObjectStore, ref: TableRef, root: str | None = None, environment: StepEnvironment | None = None
    ) -> None:
        self.ref = ref
        self.store = ScopedStore(store, paths.Scope(ref.tenant, ref.workspace))
        self.activities = CommitActivities(store)
        self.table = CommitTable(self.store, ref.table_id, root or paths.default_table_root(ref.table_id))
        self.results: list[RoundResult] = []
        self._env = environment or StepEnvironment()

    async def commit(self, *requests: CommitRequest) -> list[CommitOutcome]:
        """Commit in rounds, each finalized with the next one's reservation, until all are answered."""
        waiting = {request.idempotency_key: request for request in requests}
        outcomes: dict[str, CommitOutcome] = {}
        finished: CommitStep | None = None
        while waiting:
            result = await self.reserve(list(waiting.values()), finished)
            for outcome in result.outcomes:
                outcomes[outcome.idempotency_key] = outcome
                del waiting[outcome.idempotency_key]
            if result.redo:
                continue
            finished = None
            if result.reservation is None:
                continue
            reservation = result.reservation
            step = reservation.step_of(self.ref)
            log: LogOutcome = await self._env.run(self.activities.write_log, step)
            if log.kind != "logged":
                continue
            step = step.model_copy(update={"version": log.version, "coordinator_version": log.coordinator_version})
            marked = await self._env.run(self.activities.write_marker, step)
            if marked.kind != "written":
                continue
            answer = CommitResult(version=step.version, delta_log_path=marked.delta_log_path)
            for key in reservation.keys:
                if waiting.pop(key, None) is not None:
                    outcomes[key] = CommitOutcome(idempotency_key=key, result=answer)
            finished = step
        if finished is not None:
            await self._env.run(self.activities.finalize, step)
        return [outcomes[request.idempotency_key] for request in requests]

    async def reserve(self, requests: list[CommitRequest], finished: CommitStep | None) -> RoundResult:
        """Run `reserve`, or `finalize_and_reserve` if a round is still to be finalized."""
        order = RoundOrder(
            table=self.ref, round_id=str(uuid_utils.uuid7()), now_ms=NOW_MS, requests=requests, finished=finished
        )
        activity = self.activities.reserve if finished is None else self.activities.finalize_and_reserve
        for attempt in range(1, MOST_ATTEMPTS + 1):
            try:
                result: RoundResult = await self._env.run(activity, order)
            except ApplicationError as error:
                if error.non_retryable or attempt == MOST_ATTEMPTS:
                    raise
            else:
                break
        self.results.append(result)
        return result

    async def stage(
        self, data: bytes, *, mode: CommitMode = CommitMode.APPEND, read_version: int = 0, key: str | None = None
    ) -> CommitRequest:
        """Stage a payload; return a request to commit it, under a new key unless one is given."""
        path = paths.delta_staged(self.ref.table_id, str(uuid_utils.uuid7()))
        stored = await self.store.put(path, data, IfAbsent())
        assert isinstance(stored, Stored)
        return CommitRequest(
            idempotency_key=key or str(uuid_utils.uuid7()),
            mode=mode,
            read_version=read_version,
            staged_path=path,
            staged_version=stored.version,
        )

    async def inflight_is_null(self) -> bool:
        """Say whether the coordinator holds no reservation."""
        held = await self.table.read_coordinator()
        return held is not None and held.state.inflight is None
