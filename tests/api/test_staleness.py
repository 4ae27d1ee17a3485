"""Which partitions are stale, over HTTP: pages, filters, counts by asset, and what is refused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.api.conftest import V1, World, assert_refused
from tests.api.test_manifests import body as location
from tests.api.test_manifests import deployed
from tests.support.definitions import asset
from tests.support.local_api import RIVAL

TODAY = datetime.now(UTC)
START = (TODAY - timedelta(days=70)).strftime("%Y-%m-%d")
DAYS = {"kind": "daily", "start": START}
PIPELINE = location("flights", asset("raw", partitions=DAYS, code_version="1"), asset("report", "raw"))


async def made(world: World, key: str, *partitions: str | None, version: str = "1") -> str:
    """Let a run make partitions of an asset; return its id."""
    body: dict[str, Any] = {"select": [key], "partitions": [one for one in partitions if one is not None]}
    answer = await world.client.post(f"{V1}/runs", json=body)
    assert answer.status_code == 201, answer.text
    run_id: str = answer.json()["run_id"]
    for one in partitions:
        task = key if one is None else f"{key}[{one}]"
        attempt = {"run_id": run_id, "task_key": task, "attempt": 1, "attempt_id": f"att-{task}", "worker_id": "w"}
        sent = {name: attempt[name] for name in ("run_id", "task_key", "attempt", "attempt_id")}
        end = {"outcome": "succeeded", "asset_key": key, "partition_key": one, "code_version": version}
        await world.appended(
            {"type": "dispatch_requested", "dispatch_id": f"dispatch:{run_id}:{task}:1", **sent},
            {"type": "task_started", **attempt},
            {"type": "task_finished", **attempt, **{name: value for name, value in end.items() if value is not None}},
        )
    return run_id


def day(ago: int) -> str:
    return (TODAY - timedelta(days=ago)).strftime("%Y-%m-%d")


async def get(world: World, path: str, **parameters: Any) -> dict[str, Any]:
    answer = await world.client.get(f"{V1}/{path}", params=parameters)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def test_partitions_stand_as_they_were_made(world: World) -> None:
    await deployed(world, PIPELINE)
    run_id = await made(world, "raw", day(1), day(3))
    found = await get(world, "assets/raw/partitions", latest=True, limit=4)
    assert (found["asset"], found["partitions"], len(found["items"])) == ("raw", 71, 4)
    states = [(one["partition_key"], one["state"], one["stale"]) for one in found["items"]]
    assert states == [
        (day(0), "OPEN", False),
        (day(1), "CURRENT", False),
        (day(2), "NEVER_MATERIALIZED", True),
        (day(3), "CURRENT", False),
    ]
    one = found["items"][1]
    assert (one["run_id"], one["code_version"], one["last_attempt"]["outcome"]) == (run_id, "1", "succeeded")
    assert one["materialized_at"] is not None
    assert found["items"][2]["stale_since"].startswith(day(1))


async def test_pages_follow_each_other_in_both_directions(world: World) -> None:
    await deployed(world, PIPELINE)
    await made(world, "raw", day(5))
    for latest in (False, True):
        keys: list[str] = []
        cursor: dict[str, str] = {}
        while True:
            page = await get(world, "assets/raw/partitions", latest=latest, limit=30, **cursor)
            keys += [one["partition_key"] for one in page["items"]]
            if page["next_cursor"] is None:
                break
            cursor = {"cursor": page["next_cursor"]}
        assert keys == [day(ago) for ago in (range(71) if latest else range(70, -1, -1))]
    fresh = await get(world, "assets/raw/partitions", stale=False)
    assert [one["partition_key"] for one in fresh["items"]] == [day(5), day(0)]


async def test_changed_code_and_upstream_are_told(world: World) -> None:
    await deployed(world, PIPELINE)
    await made(world, "raw", *(day(ago) for ago in range(1, 71)))
    await made(world, "report", None)
    (whole,) = (await get(world, "assets/report/partitions"))["items"]
    assert (whole["partition_key"], whole["state"]) == (None, "CURRENT")
    await made(world, "raw", day(2))
    (whole,) = (await get(world, "assets/report/partitions"))["items"]
    assert (whole["state"], whole["upstream"]) == ("UPSTREAM_CHANGED", "raw")
    changed = location("flights", asset("raw", partitions=DAYS, code_version="2"), asset("report", "raw"))
    await deployed(world, changed)
    found = await get(world, "staleness")
    assert [(one["asset"], one["partitions"], one["stale"], one["states"]) for one in found["items"]] == [
        ("raw", 71, 70, {"OPEN": 1, "CODE_CHANGED": 70}),
        ("report", 1, 1, {"UPSTREAM_CHANGED": 1}),
    ]
    few = await get(world, "staleness", select="raw", last=10)
    assert [(one["counted"], one["stale"]) for one in few["items"]] == [(10, 9)]


async def test_assets_are_counted_in_pages(world: World) -> None:
    await deployed(world, PIPELINE)
    first = await get(world, "staleness", limit=1)
    second = await get(world, "staleness", limit=1, cursor=first["next_cursor"])
    assert [page["items"][0]["asset"] for page in (first, second)] == ["raw", "report"]
    assert second["next_cursor"] is None


async def test_nothing_deployed_has_nothing_stale(world: World) -> None:
    found = await get(world, "staleness")
    assert (found["items"], found["manifest_id"]) == ([], None)
    assert_refused(await world.client.get(f"{V1}/assets/raw/partitions"), 404, "NOT_FOUND", "key")


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("assets/raw/partitions?cursor=abc", "cursor"),
        ("assets/raw/partitions?limit=0", "limit"),
        ("assets/raw/partitions?stale=maybe", "stale"),
        ("staleness?select=rax", "select"),
        ("staleness?last=10001", "last"),
    ],
)
async def test_what_is_wrong_is_named(world: World, path: str, field: str) -> None:
    await deployed(world, PIPELINE)
    assert_refused(await world.client.get(f"{V1}/{path}"), 400, "INVALID_REQUEST", field)


async def test_another_workspace_sees_nothing(world: World) -> None:
    await deployed(world, PIPELINE)
    rival = world.bearer(RIVAL)
    assert (await world.client.get(f"{V1}/staleness", headers=rival)).json()["items"] == []
    assert (await world.client.get(f"{V1}/assets/raw/partitions", headers=rival)).status_code == 404
