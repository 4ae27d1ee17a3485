"""The activity of schedules: decide on what is due, and append it.

Safe to repeat and to run twice at once: an instant's tick has its name from schedule and instant.
"""

from __future__ import annotations

from functools import partial

from activities.interceptor import ledger_asked, step
from activities.metrics import count_ticks, note_pass
from springline import names
from springline.control.schedules.messages import EvaluatedSchedules, EvaluateOrder
from springline.deployed.reading import ManifestReader
from springline.paths import Scope
from springline.published.reader import PublishedReader
from springline.runs.launching import RunLedger
from springline.schedules.evaluating import evaluate
from springline.storage.port import ObjectStore


class ScheduleActivities:
    """Steps of schedules over one store, which is the whole bucket. `ledger` appends; `worker`: this process."""

    def __init__(self, store: ObjectStore, ledger: RunLedger, worker: str = "") -> None:
        self._worker = worker
        self._store = store
        self._ledger = ledger
        self._reader = PublishedReader(store)
        self._manifests = ManifestReader()

    @step(names.EVALUATE_SCHEDULES, names.METRIC_RUN_STEP_SECONDS, outlasts=True)
    async def evaluate_schedules(self, order: EvaluateOrder) -> EvaluatedSchedules:
        """Decide on the instants that are due, and append their ticks and the requests for their runs."""
        scope = Scope(order.tenant, order.workspace)
        with ledger_asked():
            evaluated = await evaluate(
                self._store,
                self._reader,
                self._manifests,
                self._ledger,
                scope,
                order.now_ms,
                note=partial(count_ticks, now_ms=order.now_ms),
            )
        note_pass(order, self._worker)
        return evaluated.model_copy(update={"worker": self._worker})
