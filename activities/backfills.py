"""The activities of backfills: a pass over one, and a request of who has the Temporal CLI.

Both are safe to repeat and to run twice at once: a chunk has its name from backfill and position, a backfill its id
from its request.
"""

from __future__ import annotations

from activities.interceptor import ledger_asked, step
from activities.metrics import count_chunks
from activities.runs import OPERATOR
from springline import names
from springline.backfills.changing import Backfills, ChangedBackfill, NothingStale
from springline.backfills.evaluating import BackfillPasses
from springline.backfills.keys import KeyLists
from springline.backfills.requests import parsed_backfill
from springline.control.admission.cases import invalid
from springline.control.backfills.messages import (
    NOTHING_STALE,
    BackfillRequestAnswer,
    BackfillRequestOrder,
    EvaluateBackfillOrder,
    EvaluatedBackfill,
)
from springline.deployed.reading import ManifestReader
from springline.paths import Scope
from springline.published.reader import PublishedReader
from springline.runs.launching import RunLedger
from springline.storage.port import ObjectStore


class BackfillActivities:
    """Steps of backfills over one store. `store` is the whole bucket; `ledger` appends."""

    def __init__(self, store: ObjectStore, ledger: RunLedger) -> None:
        self._store = store
        self._ledger = ledger
        self._reader = PublishedReader(store)
        self._manifests = ManifestReader()
        self._passes = BackfillPasses(store, self._reader, self._manifests, KeyLists(store), ledger)

    @step(names.EVALUATE_BACKFILL, names.METRIC_RUN_STEP_SECONDS, outlasts=True)
    async def evaluate_backfill(self, order: EvaluateBackfillOrder) -> EvaluatedBackfill:
        """Record which chunks have ended, plan the next ones, and end the backfill if nothing is left."""
        with ledger_asked():
            done = await self._passes.evaluate(Scope(order.tenant, order.workspace), order.backfill_id, order.now_ms)
        count_chunks(done)
        return done

    @step(names.REQUEST_BACKFILL, names.METRIC_RUN_STEP_SECONDS, bounded=True, shown=True)
    async def request_backfill(self, order: BackfillRequestOrder) -> BackfillRequestAnswer:
        """Do what the API does for a verb of backfills."""
        scope = Scope(order.tenant, order.workspace)
        backfills = Backfills(
            self._store, self._reader, self._manifests, self._ledger, scope, now_ms=lambda: order.now_ms
        )
        found = await self._done(backfills, order)
        if isinstance(found, NothingStale):
            return BackfillRequestAnswer(
                backfill_id="",
                state=NOTHING_STALE,
                total_partitions=0,
                chunks=0,
                stale_revision=found.stale.revision,
                stale_partitions=0,
            )
        return BackfillRequestAnswer(
            backfill_id=found.backfill_id,
            state=found.state,
            total_partitions=found.total,
            chunks=found.chunks,
            replayed=found.replayed,
            stale_revision=None if found.stale is None else found.stale.revision,
            stale_partitions=None if found.stale is None else found.stale.partitions,
        )

    @staticmethod
    async def _done(backfills: Backfills, order: BackfillRequestOrder) -> ChangedBackfill | NothingStale:
        request_id = order.name if order.request_id is None else order.request_id
        if order.verb == "create":
            return await backfills.create(parsed_backfill(order.asked), request_id, OPERATOR)
        if not order.backfill_id:
            raise invalid("backfill_id", order.backfill_id, f"must be given to {order.verb}", "Name the backfill.")
        match order.verb:
            case "pause":
                return await backfills.pause(order.backfill_id, OPERATOR)
            case "resume":
                return await backfills.resume(order.backfill_id, OPERATOR)
            case "cancel":
                return await backfills.cancel(order.backfill_id, OPERATOR)
            case "retry-failed":
                return await backfills.retry_failed(order.backfill_id, request_id, OPERATOR)
