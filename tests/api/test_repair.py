"""Repair over HTTP: looking at the workspace now, by whom, and what the last look came to."""

from __future__ import annotations

from typing import Any

from springline.control.repair import SETTLED_MS, RepairKind
from springline.repairing import OpenWorkflow
from tests.api.conftest import V1, World, assert_refused
from tests.api.test_manifests import body as location
from tests.api.test_manifests import deployed
from tests.api.test_run_requests import start
from tests.support.definitions import asset
from tests.support.local_api import RIVAL

REPAIR = f"{V1}/repair"


async def report(world: World, **body: Any) -> dict[str, Any]:
    answer = await world.client.post(REPAIR, json=body)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def begun(world: World) -> str:
    """Deploy an asset, and return a run of it, whose workflow is settled."""
    await deployed(world, location("flights", asset("names")))
    run_id: str = (await start(world, select=["names"]))["run_id"]
    rows = (await world.client.get(f"{V1}/runs/{run_id}")).json()["run"]
    assert rows["state"] == "RUNNING"
    world.repairs.now_ms = (world.repairs.now_ms or 0) + 2 * SETTLED_MS + 10**13
    return run_id


async def test_a_run_without_a_workflow_is_found_and_repaired(world: World) -> None:
    run_id = await begun(world)
    assert (await report(world))["items"] == []
    world.runs.started.clear()
    (item,) = (await report(world, dry_run=True))["items"]
    assert (item["kind"], item["subject"]) == (RepairKind.RUN_WITHOUT_WORKFLOW, run_id)
    assert world.runs.started == []
    await report(world)
    assert world.runs.started == [run_id]
    shown = (await world.client.get(REPAIR)).json()
    assert (shown["running"], shown["passes"], shown["last"]["items"][0]["subject"]) == (True, 2, run_id)


async def test_a_workflow_that_outlives_its_run_is_told(world: World) -> None:
    run_id = await begun(world)
    await world.client.post(f"{V1}/runs/{run_id}/cancel")
    world.repairs.workflows.open = [OpenWorkflow(run_id, "one", 1), OpenWorkflow("run_of_nobody", "two", 1)]
    found = {item["subject"]: item["why"] for item in (await report(world))["items"]}
    assert found == {
        run_id: "a workflow is open, and its run has ended",
        "run_of_nobody": "a workflow is open, and there is no such run",
    }
    assert sorted(world.repairs.workflows.done) == sorted([("wake", run_id), ("wake", "run_of_nobody")])


async def test_requests_without_a_run_are_launched(world: World) -> None:
    await deployed(world, location("flights", asset("names")))
    world.runs.launches = False
    assert (await start(world, select=["names"]))["state"] == "REQUESTED"
    world.repairs.now_ms = 10**13
    found = await report(world)
    assert (found["waiting_requests"], found["items"][0]["kind"]) == (1, RepairKind.REQUESTS_NOT_LAUNCHED)
    assert world.repairs.workflows.done == [("launcher", "")]


async def test_without_an_index_every_open_run_is_asked_for(world: World) -> None:
    run_id = await begun(world)
    world.repairs.workflows.open = None
    found = await report(world)
    assert world.repairs.workflows.asked == [run_id]
    assert found["trouble"] == ["workflows of ended runs were not looked for: there is no index"]


async def test_operators_alone_have_it_looked_at_and_each_their_own(world: World) -> None:
    await begun(world)
    answer = await world.client.post(REPAIR, json={}, headers=world.bearer(scopes=["read", "write"]))
    assert_refused(answer, 403, "FORBIDDEN", "scope", remedy="operate")
    assert (await world.client.get(REPAIR, headers=world.bearer(scopes=["read"]))).status_code == 200
    rival = await world.client.post(REPAIR, json={}, headers=world.bearer(RIVAL))
    assert (rival.json()["active_runs"], rival.json()["items"]) == (0, [])


async def test_a_body_that_is_none_is_refused(world: World) -> None:
    answer = await world.client.post(REPAIR, json={"dry_run": "perhaps"})
    assert_refused(answer, 400, "INVALID_REQUEST", "dry_run")
    answer = await world.client.post(REPAIR, json={"dryrun": True})
    assert_refused(answer, 400, "INVALID_REQUEST", "dryrun")
