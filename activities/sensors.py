"""The activities of sensors: where one stands, and what an evaluation comes to; and that of users' workers, one call.

Safe to repeat and to run twice at once: what follows from the same state of a sensor has the same keys.
"""

from __future__ import annotations

import asyncio
import time

from temporalio import activity

from activities.attempts import told_to_stop
from activities.interceptor import ledger_asked, step
from activities.metrics import count_evaluation
from springline import names
from springline.control.sensors.messages import (
    EvaluationAnswer,
    EvaluationOrder,
    EvaluationOutcome,
    SensorDone,
    SensorLook,
    SensorLookOrder,
    SensorRecordOrder,
)
from springline.deployed.reading import ManifestReader
from springline.published.reader import PublishedReader
from springline.runs.launching import RunLedger
from springline.sensors.evaluating import SensorSteps
from springline.storage.port import ObjectStore
from springline.storage.together import beside
from springline.work.evaluations import EvaluationMaker

_BEAT_S = 1.0


class SensorActivities:
    """Steps of sensors over one store. `store` is the whole bucket; `ledger` appends."""

    def __init__(self, store: ObjectStore, ledger: RunLedger) -> None:
        self._steps = SensorSteps(store, PublishedReader(store), ManifestReader(), ledger)

    @step(names.LOOK_AT_SENSOR, names.METRIC_RUN_STEP_SECONDS, outlasts=True)
    async def look_at_sensor(self, order: SensorLookOrder) -> SensorLook:
        """Say what is to be done about a sensor now; a ready-made one is evaluated at once."""
        with ledger_asked():
            look = await self._steps.look(order, lambda: time.time_ns() // 1_000_000)
        for late_ms in order.late_ms:
            count_evaluation(EvaluationOutcome.NOTHING, late_ms)
        for decision in (order.polled, None if look.done is None else look.done.decision):
            if decision is not None:
                count_evaluation(decision.outcome, decision.late_ms)
        return look

    @step(names.RECORD_EVALUATION, names.METRIC_RUN_STEP_SECONDS, outlasts=True)
    async def record_evaluation(self, order: SensorRecordOrder) -> SensorDone:
        """Record what an evaluation found, whole or not at all."""
        with ledger_asked():
            done = await self._steps.record(order)
        if not order.dry_run:
            count_evaluation(done.decision.outcome, done.decision.late_ms)
        return done


class EvaluationActivities:
    """Evaluations of one code location's sensors, made by `maker`."""

    def __init__(self, maker: EvaluationMaker) -> None:
        self._maker = maker

    @activity.defn(name=names.EVALUATE_SENSOR)
    async def evaluate_sensor(self, order: EvaluationOrder) -> EvaluationAnswer:
        """Call a sensor's function once, and return what it found or why it failed; raises nothing of user code."""
        stop = asyncio.Event()
        async with beside(_beat()):
            return await told_to_stop(self._maker.evaluate(order, stop), stop)


async def _beat() -> None:
    # Most evaluations are over before: a heartbeat is a write in Temporal.
    while True:
        await asyncio.sleep(_BEAT_S)
        activity.heartbeat()
