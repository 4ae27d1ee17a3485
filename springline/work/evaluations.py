"""From an order to what a sensor's function found: a process for the function, with the limits that attempts have.

Evaluations have processes of their own beside those of attempts: neither waits for the other. One that hangs has one
process until its time is over; then the process is ended. While all are busy, further ones are started.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from itertools import count
from typing import Final

from springline.control.sensors.messages import AskedRun, EvaluationAnswer, EvaluationOrder
from springline.work.frames import Evaluation, Made
from springline.work.pool import PipelineNotLoaded, ProcessPool
from springline.work.process import JobEnd, StopReason

log = logging.getLogger("springline.sensor")

MOST_PROCESSES: Final = 8
"""Processes of one worker that evaluate sensors, as long as none of them takes long."""
MOST_AT_ONCE: Final = 32
"""Sensors of one worker that are evaluated at once: those that take long, or hang, hold up no others."""
TOGETHER_S: Final = 1.0
"""Of several messages none is begun after so long: what was found is to be on record soon."""
_MOST_FOUND: Final = 256 * 1024
"""Characters of JSON of what was found on several messages: an answer lies in Temporal."""
GRACE_S: Final = 2.0
"""How long a function may take to end when its time is over."""
_SIGKILL: Final = -9


class EvaluationMaker:
    """Evaluates the sensors of one code location: those of `sensors`, as `pool` has loaded them."""

    def __init__(self, pool: ProcessPool, *, location: str, sensors: set[str]) -> None:
        self._pool = pool
        self._location = location
        self._sensors = sensors
        self._numbers = count(1)

    async def evaluate(self, order: EvaluationOrder, stop: asyncio.Event) -> EvaluationAnswer:
        """Evaluate a sensor; raises nothing that comes of it. It ends early when `stop` is set.

        It goes on with the order's further messages, until one fails, or the time or the size of one answer is used up.
        """
        began_s = time.monotonic()
        first = last = await self._evaluated(order, stop)
        further: list[EvaluationAnswer] = []
        size = _size_of(first)
        for message in order.further:
            if last.error is not None or stop.is_set() or time.monotonic() - began_s >= TOGETHER_S:
                break
            order = order.model_copy(
                update={
                    "message": message,
                    "cursor": order.cursor if last.cursor is None else last.cursor,
                    "evaluated_ms": time.time_ns() // 1_000_000,
                }
            )
            last = await self._evaluated(order, stop)
            size += _size_of(last)
            if size > _MOST_FOUND or (stop.is_set() and last.error is not None):
                # It waits on, and is evaluated again.
                break
            further.append(last)
        return first.model_copy(update={"further": further}) if further else first

    async def _evaluated(self, order: EvaluationOrder, stop: asyncio.Event) -> EvaluationAnswer:
        if order.location != self._location or order.sensor_id not in self._sensors:
            return _failure(
                f"this worker of {self._location} lacks the sensor {order.sensor_id} of {order.location}: deploy and "
                "start workers of the same file",
                "SENSOR_MISSING",
            )
        try:
            async with self._pool.process() as process:
                end = await process.evaluate(
                    Evaluation(
                        next(self._numbers),
                        order.sensor_id,
                        order.cursor,
                        order.evaluated_ms,
                        None if order.message is None else order.message.model_dump(),
                    ),
                    stop=stop,
                    timeout_s=order.timeout_ms / 1_000,
                    grace_s=GRACE_S,
                    printed=lambda line: log.info("%s: %s", order.sensor_id, line),
                )
        except PipelineNotLoaded as error:
            return _failure(f"{error}. Start workers of the file that was deployed", "PIPELINE_NOT_LOADED")
        answer = _answer(order, end)
        if answer.error is not None:
            log.warning("sensor %s: %s", order.sensor_id, answer.error)
        return answer


def _size_of(answer: EvaluationAnswer) -> int:
    return len(answer.model_dump_json())


def _answer(order: EvaluationOrder, end: JobEnd) -> EvaluationAnswer:
    made = end.made
    if end.stopped is StopReason.TIMEOUT and (made is None or made.interrupted):
        seconds = order.timeout_ms / 1_000
        return EvaluationAnswer(
            error=f"it took longer than its timeout, {seconds:g} s", category="TIMEOUT", reason_code="TIMEOUT"
        )
    if end.stopped is StopReason.CANCELLED and (made is None or made.interrupted):
        return _failure("its worker was told to end", "WORKER_STOPPED")
    if made is None:
        assert end.ended is not None
        if end.ended.code == _SIGKILL:
            return _failure(
                f"its process {end.ended} from outside: mostly by the kernel, when memory runs out", "PROCESS_KILLED"
            )
        return EvaluationAnswer(
            error=f"its process {end.ended} while its function ran; what it printed is in the worker's log",
            category="USER_CODE",
            reason_code="PROCESS_ENDED",
        )
    if made.category is not None:
        return _raised(made)
    assert end.output is not None
    plain = json.loads(end.output)
    return EvaluationAnswer(
        requests=[AskedRun.model_validate(one) for one in plain["requests"]],
        cursor=plain["cursor"],
        skip_reason=plain["skip_reason"],
    )


def _raised(made: Made) -> EvaluationAnswer:
    return EvaluationAnswer.model_validate(
        {
            "error": made.message or "it failed",
            "category": made.category,
            "reason_code": made.reason_code or made.category,
            "stack_trace": made.stack_trace,
            "counts": made.category != "INFRASTRUCTURE",
        }
    )


def _failure(message: str, reason_code: str) -> EvaluationAnswer:
    return EvaluationAnswer(error=message, category="INFRASTRUCTURE", reason_code=reason_code, counts=False)
