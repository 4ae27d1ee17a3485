"""Whom a round of the ledger wakes."""

from __future__ import annotations

from typing import Any, cast

from activities.runs import RunActivities
from springline.control.runs.messages import WakeOrder
from tests.activities.environment import StepEnvironment
from tests.backfills.place import place_with
from tests.control.payloads import hold
from tests.schedules.test_evaluating import Place
from tests.support.definitions import asset, part
from tests.support.local_api import ACME
from tests.support.local_repairs import LocalWorkflows

SENSORS = [{"sensor_id": name, "kind": "push"} for name in ("files", "hook")]


async def woken(place: Any, woken: str = "sensor", **what: Any) -> list[str]:
    """Return the sensors, or others, that are woken by a round which has changed `what`."""
    workflows = LocalWorkflows()
    steps = RunActivities(place.store, cast(Any, None), cast(Any, workflows), cast(Any, None))
    order = WakeOrder(tenant=ACME.tenant, workspace=ACME.workspace, looks=True, schedules=True, **what)
    await StepEnvironment().run(steps.wake_runs, order)
    return [subject for kind, subject in workflows.done if kind == woken]


async def test_a_hold_wakes_the_runs_under_way_when_it_begins_and_when_it_ends() -> None:
    place = await place_with()
    await place.create(start="2024-01-01", end="2024-01-03", chunk_size=1, max_concurrent_runs=9)
    await place.settled((await place.rows("backfills"))[0]["backfill_id"])
    await place.launch()
    assert len(place.started) == 3
    assert await woken(place, "wake", hold=True, run_ids=place.started[:1]) == [
        *place.started[:1],
        *sorted(place.started[1:]),
    ]
    assert await woken(place, "wake", run_ids=["other"]) == ["other"]


async def test_the_end_of_a_hold_wakes_every_sensor_once() -> None:
    place = Place()
    await place.append(hold())
    assert await woken(place, hold=True) == [], "nothing is deployed"
    await place.deploy(part("flights", asset("raw"), sensors=SENSORS))
    assert await woken(place, hold=True, sensors=["hook"]) == ["hook"], "the hold has begun"
    await place.append(hold(False, "h2"))
    assert await woken(place, hold=True, sensors=["hook"]) == ["hook", "files"]
    assert await woken(place, sensors=["files"]) == ["files"], "an order of a build that did not tell of holds"
