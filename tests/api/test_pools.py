"""Pools over HTTP: sizes, who has slots, who waits, and what a deploy refuses."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from tests.api.conftest import V1, World, assert_refused
from tests.api.test_manifests import MANIFESTS, deployed
from tests.api.test_run_requests import RUNS, shown, start
from tests.control.payloads import dispatched, finished, started
from tests.support.definitions import asset

POOLS = f"{V1}/pools"


def location(name: str, *assets: dict[str, Any], **pools: int) -> dict[str, Any]:
    declared = [{"name": pool, "slots": slots} for pool, slots in pools.items()]
    return {"location": name, "assets": list(assets), "pools": declared}


async def listed(world: World) -> dict[str, Any]:
    answer = await world.client.get(POOLS)
    assert answer.status_code == 200, answer.text
    return {one["pool"]: one for one in answer.json()["items"]}


async def test_the_least_number_that_is_declared_counts_unless_an_operator_has_set_one(world: World) -> None:
    await deployed(world, location("flights", asset("a", pool="warehouse"), warehouse=5))
    await deployed(world, location("shop", asset("b", pool="warehouse"), warehouse=3))
    (pool,) = (await listed(world)).values()
    assert (pool["slots"], pool["taken"], pool["waiting"], pool["set"]) == (3, 0, 0, None)
    assert pool["declared"] == [{"location": "flights", "slots": 5}, {"location": "shop", "slots": 3}]
    answer = await world.client.put(f"{POOLS}/warehouse", json={"slots": 8})
    assert (answer.status_code, answer.json()["slots"]) == (200, 8)
    assert answer.json()["set"]["set_by"] == "tester"
    assert (await world.client.put(f"{POOLS}/warehouse", json={"slots": 0})).json()["slots"] == 0
    assert (await world.client.put(f"{POOLS}/warehouse", json={"slots": None})).json()["slots"] == 3
    assert (await listed(world))["warehouse"]["set"] is None


async def test_who_has_slots_and_what_waits(world: World) -> None:
    await deployed(world, location("flights", asset("a", pool="warehouse"), asset("b", pool="warehouse"), warehouse=1))
    run = (await start(world, select=["*"]))["run_id"]
    assert (await shown(world, run))["waits_for"] == {
        "a": "waits for pool warehouse (0 of 1 taken)",
        "b": "waits for pool warehouse (0 of 1 taken)",
    }
    await world.appended(started("a", 1, run))
    assert (await shown(world, run))["waits_for"] == {"b": "waits for pool warehouse (1 of 1 taken)"}
    answer = await world.client.get(f"{POOLS}/warehouse")
    found = answer.json()
    assert (found["taken"], found["waiting"], found["waiting_runs"]) == (1, 1, [run])
    ((holder),) = found["holders"]
    assert (holder["run_id"], holder["task_key"], holder["attempt"], holder["state"]) == (run, "a", 1, "RUNNING")
    await world.appended(finished("succeeded", "a", 1, run))
    assert (await world.client.get(f"{POOLS}/warehouse")).json()["holders"] == []
    other = (await start(world, select=["a"]))["run_id"]
    assert (await world.client.get(f"{POOLS}/warehouse")).json()["waiting_runs"] == sorted([run, other])


async def test_what_was_cancelled_before_it_told_that_it_runs_has_its_slot_until_its_end_is_told(world: World) -> None:
    await deployed(world, location("flights", asset("a", pool="warehouse"), asset("b", pool="warehouse"), warehouse=1))
    run = (await start(world, select=["*"]))["run_id"]
    await world.appended(dispatched("a", 1, run))
    assert (await listed(world))["warehouse"]["taken"] == 1
    await world.appended({"type": "run_cancel_requested", "run_id": run, "requested_by": "ada"})
    assert {one["state"] for one in (await shown(world, run))["tasks"]} == {"CANCELLED"}
    found = (await world.client.get(f"{POOLS}/warehouse")).json()
    assert [(one["task_key"], one["state"]) for one in found["holders"]] == [("a", "CANCELLED")]
    own = dispatched("a", 1, run)["attempt_id"]
    note = {"type": "springline_attempt_noted", "run_id": run, "task_key": "a", "attempt": 1, "attempt_id": own}
    await world.appended(note | {"note": "metadata"})
    assert (await listed(world))["warehouse"]["taken"] == 1, "what its function told is no end"
    await world.appended(note | {"note": "ended_apart"})
    assert (await listed(world))["warehouse"]["taken"] == 0


async def test_a_pool_that_there_is_not(world: World) -> None:
    await deployed(world, location("flights", asset("a", pool="warehouse"), warehouse=1))
    odd = quote("warehouse/é", safe="")
    for answer in (
        await world.client.get(f"{POOLS}/warehose"),
        await world.client.put(f"{POOLS}/warehose", json={"slots": 1}),
        await world.client.get(f"{POOLS}/{odd}"),
    ):
        assert_refused(answer, 404, "NOT_FOUND", "pool", remedy="warehouse")
    before = world.snapshot()
    for slots in (-1, 10_001, 1.5, "3", True):
        assert_refused(
            await world.client.put(f"{POOLS}/warehouse", json={"slots": slots}), 400, "INVALID_REQUEST", "slots"
        )
    assert_refused(await world.client.put(f"{POOLS}/warehouse", json={}), 400, "INVALID_REQUEST", "slots")
    assert world.snapshot() == before


async def test_a_deploy_whose_pools_do_not_fit_is_refused_and_changes_nothing(world: World) -> None:
    before = world.snapshot()
    for body, field, remedy in (
        (location("f", asset("a", pool="warehouse")), "assets[0].pool", "pool('warehouse', slots=3)"),
        (location("f", asset("a", pool="warehose"), warehouse=1), "assets[0].pool", "Did you mean warehouse"),
        (location("f", warehouse=1), "pools", "beside the assets"),
        (location("f", asset("a"), **{"p*": 1}), "pools.0.name", ""),
        (location("f", asset("a"), p=0), "pools.0.slots", ""),
        ({**location("f", asset("a")), "pools": [{"name": "p", "slots": 1}] * 2}, "pools[1].name", "once"),
    ):
        assert_refused(await world.client.post(MANIFESTS, json=body), 400, "INVALID_REQUEST", field, remedy=remedy)
    assert world.snapshot() == before


async def test_a_deploy_that_changes_only_a_pool_is_one(world: World) -> None:
    first = await deployed(world, location("flights", asset("a", pool="p"), p=1))
    assert first["changes"]["pools"] == [{"name": "p", "before": None, "after": 1}]
    more = await deployed(world, location("flights", asset("a", pool="p"), p=2))
    assert (more["deployed"], more["changes"]["pools"]) == (True, [{"name": "p", "before": 1, "after": 2}])
    assert more["fingerprint"] != first["fingerprint"]
    none = await deployed(world, location("flights", asset("a")))
    assert none["changes"]["pools"] == [{"name": "p", "before": 2, "after": None}]
    latest = (await world.client.get(f"{MANIFESTS}/latest")).json()
    assert latest["pools"] == []
    assert await listed(world) == {}


async def test_a_run_may_be_bounded(world: World) -> None:
    await deployed(world, location("flights", asset("a")))
    run = (await start(world, select=["a"], max_concurrent_tasks=2))["run_id"]
    assert (await shown(world, run))["run"]["labels"] == {"springline/max_concurrent_tasks": "2"}
    for number in (0, 501, "2"):
        answer = await world.client.post(RUNS, json={"select": ["a"], "max_concurrent_tasks": number})
        assert_refused(answer, 400, "INVALID_REQUEST", "max_concurrent_tasks")
