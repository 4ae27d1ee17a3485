"""Passes over backfills: chunks in order and under their limit, ends, cancellation, two at once, damage."""

from __future__ import annotations

import asyncio
import json
import tracemalloc
from typing import Any

import pytest

from springline.control.runs.planning import RunOrigin, unplanned_run_events
from springline.errors import Refused
from springline.ledger.envelope import as_event
from springline.ledger.nested import ManualTrigger
from springline.published.reader import PublishedReader
from tests.backfills.place import DAILY, Place, place_with
from tests.control.payloads import backfill, chunk, hold
from tests.support.definitions import asset
from tests.support.local_api import ACME

T10: dict[str, Any] = {"start": "2024-01-01", "end": "2024-01-25", "chunk_size": 10, "max_concurrent_runs": 2}


@pytest.fixture
async def place() -> Place:
    return await place_with()


async def states(place: Place, backfill_id: str) -> tuple[str, list[str | None]]:
    chunks = sorted(
        (row for row in await place.rows("x_chunks") if row["backfill_id"] == backfill_id),
        key=lambda row: int(row["chunk_index"]),
    )
    return (await place.row(backfill_id))["state"], [chunk["outcome"] for chunk in chunks]


async def test_t10_three_chunks_a_failure_and_a_child_of_exactly_what_failed(place: Place) -> None:
    place.failing = {"raw[2024-01-13]"}
    created = await place.create(**T10)
    assert (created.total, created.chunks, created.replayed) == (25, 3, False)
    first = await place.settled(created.backfill_id)
    assert (first.planned, first.progress.chunks_running) == (0, 2) or first.planned == 2
    assert await states(place, created.backfill_id) == ("RUNNING", [None, None])
    # A pause is a position: what runs goes on, and nothing lies behind it.
    await place.backfills.pause(created.backfill_id, "tester")
    await place.run_all()
    await place.settled(created.backfill_id)
    assert await states(place, created.backfill_id) == ("PAUSED", ["SUCCEEDED", "FAILED"])
    await place.backfills.resume(created.backfill_id, "tester")
    over = await place.finish(created.backfill_id)
    assert over.state == "FAILED"
    assert await states(place, created.backfill_id) == ("FAILED", ["SUCCEEDED", "FAILED", "SUCCEEDED"])
    far = await place.progress(created.backfill_id)
    assert (far.total, far.done, far.failed, far.skipped, far.running, far.waiting) == (25, 24, 1, 0, 0, 0)
    made = await place.made()
    assert set(made.values()) == {1}
    assert sorted(made) == [f"raw[2024-01-{day:02}]" for day in range(1, 26)]

    place.failing = set()
    child = await place.backfills.retry_failed(created.backfill_id, "again")
    assert (child.total, child.chunks) == (1, 1)
    assert (await place.row(child.backfill_id))["parent_backfill_id"] == created.backfill_id
    assert (await place.finish(child.backfill_id)).state == "SUCCEEDED"
    assert (await place.made())["raw[2024-01-13]"] == 2
    assert sum((await place.made()).values()) == 26


async def test_the_newest_come_first_if_that_is_asked_for(place: Place) -> None:
    created = await place.create(start="2024-01-01", end="2024-01-05", chunk_size=2, order="newest_first")
    await place.finish(created.backfill_id)
    chunks = {row["chunk_index"]: json.loads(row["partition_keys"]) for row in await place.rows("backfill_chunks")}
    assert chunks == {0: ["2024-01-05", "2024-01-04"], 1: ["2024-01-03", "2024-01-02"], 2: ["2024-01-01"]}


async def test_a_partition_is_done_when_all_its_assets_are() -> None:
    place = await place_with(asset("raw", partitions=DAILY), asset("clean", "raw", partitions=DAILY))
    place.failing = {"raw[2024-01-02]", "clean[2024-01-03]"}
    created = await place.create(select=["*clean"], start="2024-01-01", end="2024-01-04", chunk_size=4)
    assert (await place.finish(created.backfill_id)).state == "FAILED"
    (chunk,) = await place.rows("x_chunks")
    assert (json.loads(chunk["failed"]), chunk["skipped"], chunk["done"]) == (["2024-01-02", "2024-01-03"], None, 2)


async def test_passes_at_once_and_on_old_rows_plan_each_chunk_once(place: Place) -> None:
    created = await place.create(start="2024-01-01", end="2024-02-10", chunk_size=3, max_concurrent_runs=3)
    stale = await _frozen(place)
    for _ in range(100):
        if created.backfill_id and (await place.settled(created.backfill_id)).is_over:
            break
        await place.run_all()
        await asyncio.gather(
            place.evaluate(created.backfill_id),
            place.evaluate(created.backfill_id, reader=PublishedReader(place.store)),
            place.evaluate(created.backfill_id, reader=stale),
        )
        running = [row for row in await place.rows("x_chunks") if row["outcome"] is None]
        assert len(running) <= 3
        stale = await _frozen(place)
    assert (await place.row(created.backfill_id))["state"] == "SUCCEEDED"
    assert set((await place.made()).values()) == {1}
    assert len(await place.made()) == 41
    assert await place.rows("run_key_conflicts") == []


async def _frozen(place: Place) -> PublishedReader:
    """Return a reader that goes on seeing what there is now: an evaluator that was held up."""
    snapshot = await place.reader.snapshot(ACME, [table for table in _ALL])

    class Frozen(PublishedReader):
        async def snapshot(self, scope: Any, names: Any) -> Any:
            return snapshot

    return Frozen(place.store)


_ALL = (
    *("backfills", "backfill_chunks", "x_chunks", "x_definitions", "x_holds", "runs", "run_key_index", "x_run_keys"),
    *("x_runs", "tasks"),
)


async def test_a_cancelled_backfill_ends_its_runs_begun_or_not(place: Place) -> None:
    created = await place.create(start="2024-01-01", end="2024-01-30", chunk_size=5, max_concurrent_runs=2)
    await place.settled(created.backfill_id)
    await place.launch()
    begun = len(await place.rows("runs"))
    assert begun == 2
    await place.backfills.cancel(created.backfill_id, "tester")
    with pytest.raises(Refused, match="have not ended: what is not done is unknown"):
        await place.backfills.retry_failed(created.backfill_id, "too soon")
    over = await place.settled(created.backfill_id)
    assert (over.state, over.is_over) == ("CANCELLED", True)
    assert await states(place, created.backfill_id) == ("CANCELLED", ["CANCELLED", "CANCELLED"])
    assert {run["state"] for run in await place.rows("runs")} == {"CANCELLED"}

    unbegun = await place.create("r2", start="2024-01-01", end="2024-01-30", chunk_size=5)
    await place.settled(unbegun.backfill_id)
    await place.backfills.cancel(unbegun.backfill_id, "tester")
    assert (await place.settled(unbegun.backfill_id)).is_over
    runs = await place.rows("runs")
    assert len(runs) == 4
    assert {run["state"] for run in runs} == {"CANCELLED"}
    await place.launch()
    assert len(await place.rows("tasks")) == 10, "what was cancelled before it began has no tasks"


async def test_a_held_workspace_plans_nothing_and_goes_on_behind_the_hold(place: Place) -> None:
    created = await place.create(start="2024-01-01", end="2024-01-04", chunk_size=2)
    await place.append(hold(True, "h1"))
    found = await place.settled(created.backfill_id)
    assert (found.held, found.progress.chunks_planned) == (True, 0)
    await place.append(hold(False, "h2"))
    assert (await place.finish(created.backfill_id)).state == "SUCCEEDED"


async def test_what_is_of_another_system_or_missing_is_left_alone(place: Place) -> None:
    await place.append(backfill(), chunk())
    assert (await place.evaluate("b")).state is None
    assert (await place.evaluate("bf_nobody")).state is None


async def test_a_run_that_cannot_be_planned_fails_its_chunk_and_no_other(place: Place) -> None:
    created = await place.create(start="2024-01-01", end="2024-01-04", chunk_size=2)
    await place.settled(created.backfill_id)
    request = (await place.rows("run_key_index"))[0]
    origin = RunOrigin(request["run_id"], request["run_key"], ManualTrigger("x"), ["raw"], request["code_version"])
    await place.append(*(as_event(one) for one in unplanned_run_events(origin, "PLAN_TOO_LARGE", "too large")))
    assert (await place.finish(created.backfill_id)).state == "FAILED"
    chunks = await place.rows("x_chunks")
    assert [(chunk["outcome"], chunk["reason_code"]) for chunk in chunks] == [
        ("FAILED", "PLAN_TOO_LARGE"),
        ("SUCCEEDED", None),
    ]


async def test_long_lists_are_pages_in_the_store_and_damage_is_named(place: Place) -> None:
    await place.deploy(asset("raw", partitions={"kind": "hourly", "start": "2024-01-01T00"}))
    days = [f"2024-{month:02}-{day:02}" for month in range(1, 10) for day in range(1, 29)]
    keys = [f"{day}T{hour:02}" for day in days for hour in range(24)]
    created = await place.create(partitions=keys[::-1], chunk_size=500, max_concurrent_runs=1)
    assert created.total == len(keys) == 6_048
    row = await place.row(created.backfill_id)
    assert list(json.loads(row["partition_selector"])["filters"]) == ["springline.keys"]
    await place.settled(created.backfill_id)
    (chunk,) = await place.rows("backfill_chunks")
    assert json.loads(chunk["partition_keys"]) == keys[:500]
    pages = {path: one.data for path, one in place.store.objects.items() if "/backfills/keys/" in path}
    assert len(pages) == 3
    for path in pages:
        place.store.seed(path, b"[]")
    await place.run_all()
    stands = await place.settled(created.backfill_id)
    assert "does not have the hash" in (stands.aside or "")
    for path, data in pages.items():
        place.store.seed(path, data)
    await place.settled(created.backfill_id)
    assert [json.loads(chunk["partition_keys"])[0] for chunk in await place.rows("backfill_chunks")] == [
        keys[0],
        keys[500],
    ]


async def test_a_million_partitions_take_no_memory() -> None:
    place = await place_with(asset("raw", partitions={"kind": "hourly", "start": "1900-01-01T00"}))
    created = await place.create(start="1900-01-01T00", end="2014-01-29T15", chunk_size=500, max_concurrent_runs=4)
    assert created.total == 1_000_000
    await place.settled(created.backfill_id)
    await place.backfills.pause(created.backfill_id, "tester")
    tracemalloc.start()
    try:
        await place.backfills.resume(created.backfill_id, "tester")
        await place.evaluate(created.backfill_id)
        await place.progress(created.backfill_id)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 8_000_000
