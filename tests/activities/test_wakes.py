"""Whom a round of the ledger wakes."""

from __future__ import annotations

from typing import Any, cast

from activities.runs import RunActivities
from springline.control.runs.messages import WakeOrder
from tests.activities.environment import StepEnvironment
from tests.control.payloads import hold
from tests.schedules.test_evaluating import Place
from tests.support.definitions import asset, part
from tests.support.local_api import ACME
from tests.support.local_repairs import LocalWorkflows

SENSORS = [{"sensor_id": name, "kind": "push"} for name in ("files", "hook")]


async def woken(place: Place, **what: Any) -> list[str]:
    """Return the sensors that are woken by a round which has changed `what`."""
    workflows = LocalWorkflows()
    steps = RunActivities(place.store, cast(Any, None), cast(Any, workflows), cast(Any, None))
    order = WakeOrder(tenant=ACME.tenant, workspace=ACME.workspace, looks=True, schedules=True, **what)
    await StepEnvironment().run(steps.wake_runs, order)
    return [subject for kind, subject in workflows.done if kind == "sensor"]


async def test_the_end_of_a_hold_wakes_every_sensor_once() -> None:
    place = Place()
    await place.append(hold())
    assert await woken(place, hold=True) == [], "nothing is deployed"
    await place.deploy(part("flights", asset("raw"), sensors=SENSORS))
    assert await woken(place, hold=True, sensors=["hook"]) == ["hook"], "the hold has begun"
    await place.append(hold(False, "h2"))
    assert await woken(place, hold=True, sensors=["hook"]) == ["hook", "files"]
    assert await woken(place, sensors=["files"]) == ["files"], "an order of a build that did not tell of holds"
