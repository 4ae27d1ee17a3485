"""What operators can see of backfills and sensors: chunks by what became of them, and what has stood still."""

from __future__ import annotations

from typing import Any

from activities.backfills import BackfillActivities
from activities.repair import RepairActivities
from springline import names
from springline.control.backfills.messages import EvaluateBackfillOrder
from springline.control.repair import RepairLookOrder
from springline.storage.port import ObjectStore
from tests.activities.metrics import Metrics
from tests.backfills.place import Place as Backfilled
from tests.backfills.place import place_with
from tests.control.payloads import hold, started
from tests.explaining.test_sensors import HOOK, Sensed
from tests.support.definitions import asset, part
from tests.support.local_api import ACME
from tests.support.local_ledger import now_ms
from tests.support.local_repairs import LocalWorkflows

WHOSE = {"tenant": ACME.tenant, "workspace": ACME.workspace}
HOUR = 3_600_000
T6: dict[str, Any] = {"start": "2024-01-01", "end": "2024-01-06", "chunk_size": 2, "max_concurrent_runs": 2}


class Looks:
    """Looks of Repair at a workspace, and what each has shown."""

    def __init__(self, store: ObjectStore) -> None:
        self._activities = RepairActivities(store, LocalWorkflows())
        self._metrics = Metrics()

    async def shows(self, at_ms: int, *metrics: str) -> list[float]:
        """Look as if it were an instant, and return what metrics have then."""
        order = RepairLookOrder(**WHOSE, now_ms=at_ms)
        await self._metrics.environment().run(self._activities.look_for_repairs, order)
        return [self._metrics.of(metric, **WHOSE)[-1] for metric in metrics]


async def evaluated(place: Backfilled, metrics: Metrics, backfill_id: str) -> None:
    activities = BackfillActivities(place.store, place.ledger)
    order = EvaluateBackfillOrder(**WHOSE, backfill_id=backfill_id, now_ms=now_ms())
    await metrics.environment().run(activities.evaluate_backfill, order)


async def test_chunks_are_counted_when_they_are_planned_and_by_how_they_end() -> None:
    place, metrics = await place_with(), Metrics()
    place.failing = {"raw[2024-01-03]"}
    name = (await place.create(**T6)).backfill_id
    for _ in range(4):
        await evaluated(place, metrics, name)
        await place.run_all()
    await evaluated(place, metrics, name)
    counts = {
        step: sum(metrics.of(names.METRIC_BACKFILL_CHUNKS, step=step)) for step in ("planned", "succeeded", "failed")
    }
    assert counts == {"planned": 3, "succeeded": 2, "failed": 1}


async def test_a_backfill_that_stands_still_is_shown_with_its_oldest_chunk() -> None:
    place = await place_with()
    looks = Looks(place.store)
    moved = (names.METRIC_BACKFILL_OPEN_CHUNKS, names.METRIC_BACKFILL_OLDEST_CHUNK, names.METRIC_BACKFILL_MOVED)
    at_ms = now_ms()
    assert await looks.shows(at_ms, *moved) == [0, at_ms / 1e3, at_ms / 1e3]
    name = (await place.create(**T6)).backfill_id
    await place.settled(name)
    await place.launch()
    planned_ms = max(row["planned_at"] for row in await place.rows("x_chunks"))
    at_ms = planned_ms + 60_000
    assert await looks.shows(at_ms, *moved) == [2, planned_ms / 1e3, at_ms / 1e3]
    # Nobody makes anything for an hour: the last thing that happened was the plan of its runs.
    at_ms = planned_ms + HOUR
    count, oldest, still = await looks.shows(at_ms, *moved)
    assert (count, oldest) == (2, planned_ms / 1e3)
    assert planned_ms / 1e3 <= still < planned_ms / 1e3 + 60
    (task,) = [one for one in await place.rows("tasks") if one["task_key"] == "raw[2024-01-03]"]
    await place.append(started(task["task_key"], run=task["run_id"]))
    assert (await looks.shows(at_ms, *moved))[2] == at_ms / 1e3


async def test_a_backfill_that_is_paused_or_held_does_not_stand_still() -> None:
    place = await place_with()
    looks = Looks(place.store)
    name = (await place.create(**T6)).backfill_id
    at_ms = now_ms() + HOUR
    assert (await looks.shows(at_ms, names.METRIC_BACKFILL_MOVED))[0] < at_ms / 1e3 - 3_000
    await place.backfills.pause(name, "ann")
    assert await looks.shows(at_ms, names.METRIC_BACKFILL_MOVED) == [at_ms / 1e3]
    await place.backfills.resume(name, "ann")
    assert (await looks.shows(at_ms, names.METRIC_BACKFILL_MOVED))[0] < at_ms / 1e3 - 3_000
    await place.append(hold())
    assert await looks.shows(at_ms, names.METRIC_BACKFILL_MOVED) == [at_ms / 1e3]


async def test_messages_that_wait_and_sensors_that_are_late_are_shown() -> None:
    place = Sensed()
    await place.deploy(part("flights", asset("raw"), sensors=[HOOK]))
    looks = Looks(place.store)
    waits = (names.METRIC_SENSOR_MESSAGES, names.METRIC_SENSOR_OLDEST_MESSAGE, names.METRIC_SENSOR_ON_TIME)
    at_ms = now_ms()
    assert await looks.shows(at_ms, *waits) == [0, at_ms / 1e3, at_ms / 1e3]
    for message_id in ("m2", "m1"):
        await place.sensors.push("hook", message_id, {})
    first_ms = min(row["received_at"] for row in await place.rows("x_messages"))
    at_ms = first_ms + 60_000
    assert await looks.shows(at_ms, *waits) == [2, first_ms / 1e3, at_ms / 1e3]
    count, oldest, on_time = await looks.shows(first_ms + HOUR, *waits)
    # An evaluation may take a minute, and a minute later it is late.
    assert (count, oldest, on_time) == (2, first_ms / 1e3, (first_ms + 120_000) / 1e3)
    await place.sensors.change("hook", "paused", "ann")
    at_ms = first_ms + HOUR
    assert await looks.shows(at_ms, *waits) == [2, at_ms / 1e3, at_ms / 1e3]
