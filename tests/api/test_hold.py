"""The hold of a workspace over HTTP: what it stops, who set it, and what is refused."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.api.conftest import V1, World, assert_refused
from tests.api.test_manifests import deployed
from tests.api.test_run_requests import RUNS
from tests.support.definitions import asset

HOLD = f"{V1}/hold"


async def put(world: World, **body: Any) -> dict[str, Any]:
    answer = await world.client.put(HOLD, json=body)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def test_a_hold_is_set_once_shown_and_released_once(world: World) -> None:
    never = (await world.client.get(HOLD)).json()
    assert never == {"held": False, "reason": None, "changed_by": None, "changed_at": None}
    assert (await put(world, held=False))["changed"] is False
    first = await put(world, held=True, reason="the warehouse moves")
    assert (first["changed"], first["held"], first["reason"], first["changed_by"]) == (
        True,
        True,
        "the warehouse moves",
        "tester",
    )
    again = await put(world, held=True, reason="another")
    assert (again["changed"], again["reason"], again["changed_at"]) == (
        False,
        "the warehouse moves",
        first["changed_at"],
    )
    del first["changed"]
    assert (await world.client.get(HOLD)).json() == first
    released = await put(world, held=False)
    assert (released["changed"], released["held"], released["reason"]) == (True, False, None)


async def test_of_many_at_once_one_holds_and_none_fails(world: World) -> None:
    answers = await asyncio.gather(*(put(world, held=True) for _ in range(8)))
    assert sorted(one["changed"] for one in answers) == [False] * 7 + [True]
    assert all(one["held"] for one in answers)


async def test_what_is_asked_for_meanwhile_cannot_be_withdrawn_until_its_end(world: World) -> None:
    await deployed(world, {"location": "flights", "assets": [asset("raw")]})
    await put(world, held=True)
    run = (await world.client.post(RUNS, json={"select": ["raw"]})).json()["run_id"]
    refused = await world.client.post(f"{RUNS}/{run}/cancel", json={})
    assert refused.status_code == 409
    assert "springline hold release" in refused.json()["remedy"]
    await put(world, held=False)
    assert (await world.client.post(f"{RUNS}/{run}/cancel", json={})).status_code in (200, 202)


@pytest.mark.parametrize("below", ["", "/tasks", "/attempts", "/logs?task_key=raw"])
async def test_a_run_that_is_held_back_is_told_from_one_that_there_is_not(world: World, below: str) -> None:
    await deployed(world, {"location": "flights", "assets": [asset("raw")]})
    await put(world, held=True)
    run = (await world.client.post(RUNS, json={"select": ["raw"]})).json()["run_id"]
    told = await world.client.get(f"{RUNS}/{run}{below}")
    assert_refused(told, 404, "NOT_FOUND", "run_id", remedy="springline hold show")
    none = assert_refused(await world.client.get(f"{RUNS}/x{below}"), 404, "NOT_FOUND", "run_id")
    assert ("has not begun" in told.json()["message"], "has not begun" in none["message"]) == (True, False)


async def test_what_no_hold_can_be_is_refused_and_changes_nothing(world: World) -> None:
    for body, field in (
        ({}, "held"),
        ({"held": "yes"}, "held"),
        ({"held": True, "reason": ""}, "reason"),
        ({"held": True, "reason": "two\nlines"}, "reason"),
        ({"held": True, "reason": "x" * 1_001}, "reason"),
        ({"held": True, "until": "noon"}, "until"),
    ):
        assert_refused(await world.client.put(HOLD, json=body), 400, "INVALID_REQUEST", field)
    assert (await world.client.get(HOLD)).json()["changed_at"] is None
