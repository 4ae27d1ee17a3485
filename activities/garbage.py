"""The activities of a ledger's garbage collection: mark, and later sweep. They list; nothing on a hot path does."""

from __future__ import annotations

from activities.interceptor import step
from activities.metrics import count_marked, count_swept
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

    @step(names.MARK_GARBAGE, names.METRIC_LEDGER_STEP_SECONDS)
    async def mark_garbage(self, order: GarbageOrder) -> GarbageReport:
        """Mark the objects that the ledger's projections no longer need; delete nothing."""
        report = await mark_garbage(self._scoped(order.workspace), order)
        count_marked(report)
        return report

    @step(names.SWEEP_GARBAGE, names.METRIC_LEDGER_STEP_SECONDS)
    async def sweep_garbage(self, order: GarbageOrder) -> GarbageReport:
        """Delete objects that were marked long enough ago and are still garbage."""
        report = await sweep_garbage(self._scoped(order.workspace), order)
        count_swept(report)
        return report

    def _scoped(self, ref: WorkspaceRef) -> ScopedStore:
        return ScopedStore(self._store, Scope(ref.tenant, ref.workspace))
