"""Sensors without Temporal: the real steps, and functions of users in this process."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence

from springline.api.ports import Ledgers
from springline.control.sensors.messages import (
    EvaluationAnswer,
    EvaluationOrder,
    SensorAsked,
    SensorDecision,
    SensorDoing,
    SensorLookOrder,
    SensorMemory,
    SensorRecordOrder,
)
from springline.deployed.reading import ManifestReader
from springline.errors import Code, refused
from springline.paths import Scope
from springline.published.reader import PublishedReader
from springline.sensors.evaluating import SensorSteps
from springline.storage.port import ObjectStore


class LocalSensors:
    """The port `SensorWorkflows`. `acts`: what functions find, by sensor; `doing`: what workflows say of themselves."""

    def __init__(self, store: ObjectStore, ledger: Ledgers) -> None:
        self._steps = SensorSteps(store, PublishedReader(store), ManifestReader(), ledger)
        self.acts: dict[str, Callable[[EvaluationOrder], Awaitable[EvaluationAnswer]]] = {}
        self.doing: dict[str, SensorDoing] = {}
        self.woken: list[str] = []
        self.memories: dict[str, SensorMemory] = {}

    async def status(self, scope: Scope, sensor_id: str) -> SensorDoing | None:
        return self.doing.get(sensor_id)

    async def wake(self, scope: Scope, sensor_ids: Sequence[str]) -> None:
        self.woken += sensor_ids

    async def evaluate(self, scope: Scope, sensor_id: str, asked: SensorAsked) -> SensorDecision:
        order = SensorLookOrder(
            tenant=scope.tenant,
            workspace=scope.workspace,
            sensor_id=sensor_id,
            now_ms=now_ms(),
            memory=self.memories.get(sensor_id, SensorMemory()),
            asked=asked,
        )
        look = await self._steps.look(order, now_ms)
        if look.view is None or not look.due:
            raise refused(
                Code.EVENT_CONFLICT,
                f"sensor {sensor_id} cannot be evaluated now: {look.gone or look.waits}",
                field="sensor_id",
                value=sensor_id,
                remedy="Resume it.",
            )
        done = look.done
        if done is None:
            assert look.order is not None
            act = self.acts.get(sensor_id)
            answer = EvaluationAnswer() if act is None else await act(look.order)
            recorded = SensorRecordOrder(
                tenant=scope.tenant,
                workspace=scope.workspace,
                view=look.view,
                answer=answer,
                began_ms=now_ms(),
                now_ms=now_ms(),
                memory=order.memory,
                dry_run=asked.dry_run,
            )
            done = await self._steps.record(recorded)
        if not asked.dry_run:
            self.memories[sensor_id] = done.memory
        return done.decision


def now_ms() -> int:
    return time.time_ns() // 1_000_000
