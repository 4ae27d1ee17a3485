"""The activities of sensors: where one stands, and what an evaluation comes to; and that of users' workers, one call.

Safe to repeat and to run twice at once: what follows from the same state of a sensor has the same keys.
"""

from __future__ import annotations

import asyncio
import time
from datetime import datetime, timedelta
from typing import Protocol

from temporalio import activity
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory

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
    SeriesPoll,
)
from springline.control.sensors.polling import pause_to_next_ms
from springline.deployed.reading import ManifestReader
from springline.published.reader import PublishedReader
from springline.runs.launching import RunLedger
from springline.sensors.evaluating import SensorSteps
from springline.storage.port import ObjectStore
from springline.storage.together import beside

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
            for decision in (*done.earlier, done.decision):
                count_evaluation(decision.outcome, decision.late_ms)
        return done


class Evaluates(Protocol):
    """Calls functions of sensors, as `springline.work.evaluations.EvaluationMaker` does."""

    async def evaluate(self, order: EvaluationOrder, stop: asyncio.Event) -> EvaluationAnswer:
        """Return what a sensor's function found or why it failed; it ends early when `stop` is set."""


class EvaluationActivities:
    """Evaluations of one code location's sensors, made by `maker`."""

    def __init__(self, maker: Evaluates) -> None:
        self._maker = maker

    @activity.defn(name=names.EVALUATE_SENSOR)
    async def evaluate_sensor(self, order: EvaluationOrder) -> EvaluationAnswer:
        """Call a sensor's function once, or for several messages in turn, and return what it found or why it failed.

        Raises nothing of user code. Of a series of polls this is one, and each one a try of this activity. One that
        found nothing, with another one behind it, raises `ApplicationError` (FOUND_NOTHING) with its answer, so that
        Temporal repeats it when the next is due: its workflow does not hear of it. A workflow that ends the series ends
        no poll that has begun.
        """
        stop = asyncio.Event()
        began_s = time.monotonic()
        async with beside(_beat()):
            if order.series is None:
                return await told_to_stop(self._maker.evaluate(order, stop), stop)
            try:
                answer = await told_to_stop(self._maker.evaluate(order, stop), stop, stops=_is_not_of_the_workflow)
            except Exception as error:
                # Nothing but a poll that found nothing is a try that others follow.
                raise ApplicationError(f"{type(error).__name__}: {error}", non_retryable=True) from error
        return _of_series(order, answer, time.monotonic() - began_s)


def _is_not_of_the_workflow() -> bool:
    details = activity.cancellation_details()
    return details is None or not details.cancel_requested


def _of_series(order: EvaluationOrder, answer: EvaluationAnswer, took_s: float) -> EvaluationAnswer:
    """Return a poll's answer with its place in the series; raises `ApplicationError` if another poll follows."""
    info = activity.info()
    began_ms = _ms(info.started_time)
    due_ms = order.due_ms if info.attempt == 1 else _ms(info.current_attempt_scheduled_time)
    told = answer.model_copy(update={"polled": SeriesPoll(quiet=info.attempt - 1, due_ms=due_ms, began_ms=began_ms)})
    pause_ms = pause_to_next_ms(order, answer, tries=info.attempt, began_ms=began_ms)
    if pause_ms is None:
        return told
    raise ApplicationError(
        f"it found nothing, and looks again {pause_ms / 1_000:g} s after it began",
        told,
        type=names.FOUND_NOTHING,
        next_retry_delay=timedelta(milliseconds=max(1, pause_ms - int(took_s * 1_000))),
        category=ApplicationErrorCategory.BENIGN,
    )


def _ms(at: datetime) -> int:
    return int(at.timestamp() * 1_000)


async def _beat() -> None:
    # Most evaluations are over before: a heartbeat is a write in Temporal.
    while True:
        await asyncio.sleep(_BEAT_S)
        activity.heartbeat()
