"""The activities of a commit: each one step of the protocol, idempotent and safe to run twice at once.

They share a process memory per table (`springline.commit.table.CommitTable`); on another worker, or after a restart,
a step reads what it needs from storage.
"""

from __future__ import annotations

from activities.interceptor import step
from activities.metrics import count_committed, count_round
from springline import names
from springline.caches import Recent
from springline.commit.complete import finalize, write_log, write_marker
from springline.commit.registry import Registry, RegistryMemory
from springline.commit.reserve import reserve
from springline.commit.table import CommitTable, TableMemory
from springline.delta.messages import (
    CommitStep,
    FinalizeOutcome,
    LogOutcome,
    MarkerOutcome,
    RoundOrder,
    RoundResult,
    TableRef,
)
from springline.paths import Scope
from springline.storage.port import ObjectStore
from springline.storage.scoped import ScopedStore

TABLES_REMEMBERED = 1_000
"""Cached tables. Their cache is bounded in bytes, over all tables (`TableMemory`)."""


class CommitActivities:
    """The commit steps over one store. `store` is the whole bucket; each table sees its workspace only."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._registered = RegistryMemory()
        self._memory = TableMemory()
        self._tables: Recent[CommitTable] = Recent(TABLES_REMEMBERED)

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
        return await write_log(await self._table(step.table), step)

    @step(names.WRITE_MARKER, names.METRIC_STEP_SECONDS, outlasts=True)
    async def write_marker(self, step: CommitStep) -> MarkerOutcome:
        """Write the idempotency markers of all members; their answers are fixed from here on."""
        outcome = await write_marker(await self._table(step.table), step)
        if outcome.kind == "written":
            count_committed(outcome.members, outcome.mode.value)
        return outcome

    @step(names.FINALIZE, names.METRIC_STEP_SECONDS, bounded=True, outlasts=True)
    async def finalize(self, step: CommitStep) -> FinalizeOutcome:
        """Clear the reservation from the coordinator."""
        return await finalize(await self._table(step.table), step)

    async def _reserve(self, order: RoundOrder) -> RoundResult:
        result = await reserve(await self._table(order.table), order)
        count_round(result)
        return result

    async def _table(self, ref: TableRef) -> CommitTable:
        table = self._tables.get(ref)
        if table is None:
            scope = Scope(ref.tenant, ref.workspace)
            store = ScopedStore(self._store, scope)
            registry = Registry(store, self._registered, scope.prefix)
            root = await registry.root_of(ref.table_id)
            table = CommitTable(store, ref.table_id, root, memory=self._memory, owner=f"{scope.prefix}{ref.table_id}")
            self._tables.put(ref, table)
        return table
