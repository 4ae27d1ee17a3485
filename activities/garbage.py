"""The activities of a ledger's garbage collection: mark, and later sweep. They list; nothing on a hot path does."""

from __future__ import annotations

from temporalio import activity

from activities.failures import as_temporal_failures
from activities.heartbeat import heartbeating
from activities.ledger_metrics import count_marked, count_swept, timed_step
from springline import names
from springline.paths import Scope
from springline.sequencer.garbage import mark_garbage, sweep_garbage
from springline.sequencer.messages import GarbageOrder, GarbageReport, WorkspaceRef
from springline.storage.port import ObjectStore
from springline.storage.scoped import ScopedStore


class GarbageActivities:
    """The steps of a garbage collection over one store, which is the whole bucket."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    @activity.defn(name=names.MARK_GARBAGE)
    async def mark_garbage(self, order: GarbageOrder) -> GarbageReport:
        """Write down what the ledger's projections no longer need; nothing is deleted."""
        async with heartbeating():
            with as_temporal_failures(), timed_step(names.MARK_GARBAGE):
                report = await mark_garbage(self._scoped(order.workspace), order)
                count_marked(report)
                return report

    @activity.defn(name=names.SWEEP_GARBAGE)
    async def sweep_garbage(self, order: GarbageOrder) -> GarbageReport:
        """Delete what was marked long enough ago and is garbage still."""
        async with heartbeating():
            with as_temporal_failures(), timed_step(names.SWEEP_GARBAGE):
                report = await sweep_garbage(self._scoped(order.workspace), order)
                count_swept(report)
                return report

    def _scoped(self, ref: WorkspaceRef) -> ScopedStore:
        return ScopedStore(self._store, Scope(ref.tenant, ref.workspace))
