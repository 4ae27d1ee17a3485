"""The activities of a commit: each one step of the protocol, idempotent and safe to run twice at once.

They share a process memory per table (`springline.commit.table.Table`); on another worker, or after a restart,
a step reads what it needs from storage.
"""

from __future__ import annotations

from activities.interceptor import step
from activities.messages import (
    CommitStep,
    FinalizeOutcome,
    LogOutcome,
    MarkerOutcome,
    Reservation,
    RoundOrder,
    RoundResult,
    SettledReservation,
    TableRef,
)
from activities.metrics import count_committed, count_round
from springline import names
from springline.commit.finish import finalize, finish_markers
from springline.commit.log import LogKind, write_log
from springline.commit.registry import Registry, RegistryMemory
from springline.commit.reserve import Finished, ReserveResult, Round, reserve
from springline.commit.table import Reserved, Table, TableMemory
from springline.delta.request import Mode, fitting
from springline.paths import Scope
from springline.storage.port import ObjectStore
from springline.storage.scoped import ScopedStore

TABLES_REMEMBERED = 1_000
"""Tables at hand. What is known of them is bounded in bytes, over all of them (`TableMemory`)."""


class CommitActivities:
    """The commit steps over one store. `store` is the whole bucket; each table sees its workspace only."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._registered = RegistryMemory()
        self._memory = TableMemory()
        self._tables: dict[TableRef, Table] = {}

    @step(names.RESERVE, names.METRIC_STEP_SECONDS, bounded=True)
    async def reserve(self, order: RoundOrder) -> RoundResult:
        """Answer replays and refusals, and reserve the next version for the rest."""
        return await self._reserve(order)

    @step(names.FINALIZE_AND_RESERVE, names.METRIC_STEP_SECONDS, bounded=True)
    async def finalize_and_reserve(self, order: RoundOrder) -> RoundResult:
        """Finalize the round before and reserve for the next in one compare-and-swap."""
        return await self._reserve(order)

    @step(names.WRITE_LOG, names.METRIC_STEP_SECONDS, outlasts=True)
    async def write_log(self, step: CommitStep) -> LogOutcome:
        """Write the reservation's log file: the moment at which its requests are committed."""
        table = await self._table(step.table)
        reserved = await _reserved(table, step)
        if reserved is None:
            return LogOutcome(kind="superseded", version=step.version)
        result = await write_log(table, reserved.inflight, reserved.token, reserved.payload)
        if result.kind is LogKind.LOGGED:
            _remember(table, Reserved(result.inflight, result.token, reserved.payload))
        else:
            table.reservations.drop(step.commit_id)
        return LogOutcome(kind=result.kind.value, version=result.inflight.version, coordinator_version=result.token)

    @step(names.WRITE_MARKER, names.METRIC_STEP_SECONDS, outlasts=True)
    async def write_marker(self, step: CommitStep) -> MarkerOutcome:
        """Write the idempotency markers of all members; their answers are fixed from here on."""
        table = await self._table(step.table)
        reserved = await _reserved(table, step)
        if reserved is None:
            return MarkerOutcome(kind="superseded")
        inflight = reserved.inflight
        await finish_markers(table, inflight, inflight.staged_payload_sha256)
        count_committed(len(inflight.keys), (inflight.mode or Mode.STRICT).value)
        return MarkerOutcome(
            kind="written", delta_log_path=table.log_path(inflight.version), members=len(inflight.keys)
        )

    @step(names.FINALIZE, names.METRIC_STEP_SECONDS, bounded=True, outlasts=True)
    async def finalize(self, step: CommitStep) -> FinalizeOutcome:
        """Clear the reservation from the coordinator."""
        table = await self._table(step.table)
        before = table.throttled
        reserved = await _reserved(table, step)
        if reserved is not None:
            await finalize(table, reserved.inflight, reserved.token)
            table.reservations.drop(step.commit_id)
        return FinalizeOutcome(throttled=table.throttled - before, paced=table.pace.slow)

    async def _reserve(self, order: RoundOrder) -> RoundResult:
        table = await self._table(order.table)
        before = table.throttled
        finished = _finished(order)
        result = await reserve(table, Round(order.round_id, order.now_ms, order.requests), finished)
        if finished is not None:
            table.reservations.drop(finished.inflight_id)
        answer = _round_result(result, table.throttled - before, paced=table.pace.slow)
        count_round(answer)
        return answer

    async def _table(self, ref: TableRef) -> Table:
        table = self._tables.get(ref)
        if table is None:
            scope = Scope(ref.tenant, ref.workspace)
            store = ScopedStore(self._store, scope)
            registry = Registry(store, self._registered, scope.prefix)
            root = await registry.root_of(ref.table_id)
            table = Table(store, ref.table_id, root, memory=self._memory, owner=f"{scope.prefix}{ref.table_id}")
            if len(self._tables) >= TABLES_REMEMBERED:
                self._tables.pop(next(iter(self._tables)))
            self._tables[ref] = table
        return table


def _finished(order: RoundOrder) -> Finished | None:
    if order.finished is None:
        return None
    return Finished(order.finished.commit_id, order.finished.version, order.finished.coordinator_version)


def _remember(table: Table, reserved: Reserved) -> None:
    table.reservations.put(reserved.inflight.commit_id, reserved, weight=len(reserved.payload or b""))


async def _reserved(table: Table, step: CommitStep) -> Reserved | None:
    """Return the reservation of `step` from memory or from the coordinator; None if it is there no longer."""
    known = table.reservations.get(step.commit_id)
    if known is not None and (known.inflight.identity, known.inflight.version) == (step.identity, step.version):
        return known
    held = await table.read_coordinator()
    inflight = held.state.inflight if held else None
    if held is None or inflight is None or inflight.identity != step.identity:
        return None
    return Reserved(inflight, held.token, None)


def _round_result(result: ReserveResult, throttled: int, *, paced: bool) -> RoundResult:
    reserved = result.reserved
    return RoundResult(
        outcomes=fitting(list(result.outcomes.values())),
        deferred=result.deferred,
        reservation=reserved
        and Reservation(
            commit_id=reserved.inflight.commit_id,
            identity=reserved.inflight.identity,
            version=reserved.inflight.version,
            coordinator_version=reserved.token,
            keys=list(reserved.inflight.keys),
            resumed=result.resumed,
        ),
        redo=result.redo,
        checkpoint_interval=result.checkpoint_interval,
        settled=[
            SettledReservation(kind=one.kind.value, commit_id=one.commit_id, version=one.version, members=len(one.keys))
            for one in result.settled
        ],
        throttled=throttled,
        paced=paced,
    )
