"""Backfills over HTTP: asked for, tried, changed, listed, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from springline.api.automation import chunks_by_ends
from springline.projection.schema import TABLES
from springline.published.snapshot import Revision, StateSnapshot, TableRows
from tests.api.conftest import V1, World, assert_refused
from tests.api.test_manifests import body as location
from tests.api.test_manifests import deployed
from tests.api.test_staleness import made
from tests.published.rows import row
from tests.support.definitions import asset
from tests.support.local_api import RIVAL

BACKFILLS = f"{V1}/backfills"
DAILY = {"kind": "daily", "start": "2024-01-01"}
PIPELINE = location("flights", asset("raw", partitions=DAILY), asset("whole"))
RANGE: dict[str, Any] = {"select": ["raw"], "start": "2024-01-01", "end": "2024-01-25", "request_id": "r1"}


async def post(world: World, path: str = "", status: int = 200, **body: Any) -> dict[str, Any]:
    answer = await world.client.post(f"{BACKFILLS}{path}", json=body or None)
    assert answer.status_code == status, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def test_a_backfill_is_asked_for_once_and_found(world: World) -> None:
    await deployed(world, PIPELINE)
    answer = await world.client.post(BACKFILLS, json=RANGE)
    assert answer.status_code == 201
    asked = answer.json()
    assert asked == {
        "backfill_id": asked["backfill_id"],
        "state": "RUNNING",
        "total_partitions": 25,
        "chunks": 3,
        "assets": ["raw"],
        "stale": None,
        "first": [],
    }
    assert answer.headers["Location"] == f"{BACKFILLS}/{asked['backfill_id']}"
    again = await world.client.post(BACKFILLS, json=RANGE)
    assert (again.status_code, again.headers["Idempotency-Replayed"]) == (200, "true")
    assert again.json()["backfill_id"] == asked["backfill_id"]
    other = await world.client.post(BACKFILLS, json=RANGE | {"end": "2024-01-26"})
    assert_refused(other, 409, "KEY_REUSED", "request_id")
    shown = (await world.client.get(answer.headers["Location"])).json()
    assert shown["settings"]["order"] == "oldest_first"
    assert (shown["progress"]["total"], shown["progress"]["waiting"], shown["chunks"]) == (25, 25, [])
    (listed,) = (await world.client.get(BACKFILLS)).json()["items"]
    assert listed["progress"]["chunks"] == 3
    chunks = await world.client.get(f"{BACKFILLS}/{asked['backfill_id']}/chunks", params={"outcome": "failed"})
    assert chunks.json()["items"] == []


async def test_a_dry_run_writes_nothing(world: World) -> None:
    await deployed(world, PIPELINE)
    found = await post(world, **RANGE, dry_run=True, order="newest_first")
    assert (found["state"], found["total_partitions"], found["chunks"]) == ("PLANNED", 25, 3)
    assert found["first"][0] == "2024-01-25"
    assert (await world.client.get(BACKFILLS)).json()["items"] == []


async def test_it_is_paused_resumed_and_cancelled_and_nothing_failed_in_it(world: World) -> None:
    await deployed(world, PIPELINE)
    name = (await post(world, "", 201, **RANGE))["backfill_id"]
    assert_refused(await world.client.post(f"{BACKFILLS}/{name}/retry-failed"), 409, "EVENT_CONFLICT", "backfill_id")
    assert (await post(world, f"/{name}/pause"))["state"] == "PAUSED"
    assert (await post(world, f"/{name}/pause"))["state"] == "PAUSED"
    assert (await post(world, f"/{name}/resume"))["state"] == "RUNNING"
    assert (await post(world, f"/{name}/cancel"))["state"] == "CANCELLED"
    assert_refused(await world.client.post(f"{BACKFILLS}/{name}/resume"), 409, "EVENT_CONFLICT", "backfill_id")
    assert_refused(await world.client.post(f"{BACKFILLS}/{name}/retry-failed"), 409, "EVENT_CONFLICT", "backfill_id")
    for verb in ("pause", "resume", "cancel", "retry-failed"):
        assert_refused(await world.client.post(f"{BACKFILLS}/nobody/{verb}"), 404, "NOT_FOUND", "backfill_id")
    assert (await world.client.get(f"{BACKFILLS}/nobody/chunks")).status_code == 404


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"select": ["whole"], "all": True}, "select"),
        ({"select": ["raw"]}, "partitions"),
        ({"select": ["raw"], "partitions": ["1999-01-01"]}, "partitions"),
        ({"select": ["raw"], "start": "2024-01-01", "end": "9998-01-01"}, "end"),
        ({"select": ["raw"], "all": True, "chunk_size": 0}, "chunk_size"),
        ({"select": ["raw"], "all": True, "request_id": "a\nb"}, "request_id"),
        ({"select": ["raw"], "all": True, "request_id": ""}, "request_id"),
        ({"select": ["raw"], "all": "yes"}, "all"),
        ({"select": ["raw"], "stale": 1}, "stale"),
        ({"select": ["whole"], "stale": True}, "select"),
        ({"select": ["raw"], "stale": True, "reasons": ["OLD"]}, "reasons.0"),
        ({"select": ["raw"], "all": True, "reasons": ["CODE_CHANGED"]}, "reasons"),
    ],
)
async def test_what_cannot_be_is_refused_by_field(world: World, asked: dict[str, Any], field: str) -> None:
    await deployed(world, PIPELINE)
    answer = await world.client.post(BACKFILLS, json=asked)
    assert_refused(answer, 400, "INVALID_REQUEST", field)
    assert (await world.client.get(BACKFILLS)).json()["items"] == []


async def test_what_takes_no_run_without_a_config_is_not_backfilled(world: World) -> None:
    takes = {"model": "Settings", "fields": [{"name": "rows", "type": "int", "required": True}]}
    await deployed(world, location("flights", asset("raw", partitions=DAILY, config=takes), asset("whole")))
    answer = await world.client.post(BACKFILLS, json=RANGE)
    found = assert_refused(answer, 400, "INVALID_REQUEST", "select", value=["raw"], remedy="run start --config")
    assert "runs of a backfill have no config: config.rows is missing" in found["message"]
    assert (await world.client.get(BACKFILLS)).json()["items"] == []


WEEK = {"kind": "daily", "start": "2024-01-01", "end": "2024-01-08"}
OF_WEEK = location("flights", asset("raw", partitions=WEEK), asset("clean", "raw", partitions=WEEK), asset("whole"))
DAYS = [f"2024-01-0{number}" for number in range(1, 8)]
STALE: dict[str, Any] = {"select": ["raw*"], "stale": True, "request_id": "s1"}


async def test_what_is_stale_is_asked_for_once_and_told_with_its_revision(world: World) -> None:
    await deployed(world, OF_WEEK)
    await made(world, "raw", *DAYS[:4])
    tried = await post(world, **STALE, dry_run=True)
    assert (tried["state"], tried["total_partitions"], tried["assets"]) == ("PLANNED", 7, ["clean", "raw"])
    assert tried["stale"]["assets"] == [
        {"asset": "raw", "stale": 3, "states": {"NEVER_MATERIALIZED": 3}},
        {"asset": "clean", "stale": 7, "states": {"NEVER_MATERIALIZED": 7}},
    ]
    answer = await world.client.post(BACKFILLS, json=STALE)
    assert answer.status_code == 201
    found = answer.json()
    assert (found["total_partitions"], found["stale"]["partitions"], found["stale"]["assets"]) == (7, 10, [])
    assert answer.headers["Springline-Revision"] == found["stale"]["revision"] == tried["stale"]["revision"]
    await made(world, "raw", *DAYS[4:])
    again = await world.client.post(BACKFILLS, json=STALE)
    assert (again.status_code, again.json()) == (200, found)
    assert_refused(await world.client.post(BACKFILLS, json=STALE | {"end": DAYS[3]}), 409, "KEY_REUSED", "request_id")
    shown = (await world.client.get(answer.headers["Location"])).json()
    assert shown["backfill"]["partition_selector"] == {"type": "range", "start": DAYS[0], "end": DAYS[6]}
    assert (shown["settings"]["asked_by"], shown["settings"]["stale_partitions"]) == ("tester", 10)


async def test_nothing_stale_is_no_backfill(world: World) -> None:
    await deployed(world, OF_WEEK)
    await made(world, "raw", *DAYS)
    for dry_run in (False, True):
        found = await post(world, **STALE | {"select": ["raw"]}, dry_run=dry_run)
        assert (found["state"], found["backfill_id"], found["total_partitions"]) == ("NOTHING_STALE", None, 0)
        assert (found["stale"]["partitions"], found["assets"], found["first"]) == (0, [], [])
    assert (await world.client.get(BACKFILLS)).json()["items"] == []


async def test_nobody_sees_or_changes_the_backfill_of_another_tenant(world: World) -> None:
    await deployed(world, PIPELINE)
    name = (await post(world, "", 201, **RANGE))["backfill_id"]
    rival = world.bearer(RIVAL)
    assert (await world.client.get(f"{BACKFILLS}/{name}", headers=rival)).status_code == 404
    assert (await world.client.post(f"{BACKFILLS}/{name}/cancel", headers=rival)).status_code == 404
    reading = world.bearer(scopes=["read"])
    assert (await world.client.post(f"{BACKFILLS}/{name}/pause", headers=reading)).status_code == 403
    assert (await world.client.get(f"{BACKFILLS}/{name}", headers=reading)).status_code == 200


def test_the_chunks_of_a_page_and_their_runs_are_read_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page of 1,000 chunks read 2,000 rows one by one."""
    names = [f"bf:{number}" for number in range(5)]
    run_of = {"bf:0": "run-0", "bf:1": "run-1", "bf:2": "lost"}
    chunks = [row("backfill_chunks", chunk_id=one, backfill_id="bf", run_id=run_of.get(one)) for one in names[:-1]]
    ends = [row("x_chunks", chunk_id=one, backfill_id="bf", outcome="SUCCEEDED") for one in names]
    runs = [row("runs", run_id=f"run-{number}", state=state) for number, state in enumerate(("FAILED", "RUNNING"))]
    tables = {"backfill_chunks": chunks, "x_chunks": ends, "runs": runs}
    held = StateSnapshot(
        Revision("0" * 20, "", None, None), {one: TableRows.of(TABLES[one], rows) for one, rows in tables.items()}
    )
    monkeypatch.delattr(TableRows, "get")
    shown = chunks_by_ends(held, list(held["x_chunks"]))
    assert [one.get("chunk_id") for one in shown] == [*names[:-1], None]
    assert [one["run_state"] for one in shown] == ["FAILED", "RUNNING", None, None, None]
    assert {one["outcome"] for one in shown} == {"succeeded"}
