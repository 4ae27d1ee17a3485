"""Why a run, a task or an attempt stands as it does, over HTTP; and what a question must say."""

from __future__ import annotations

from typing import Any

import pytest

from springline.api.tokens import WRITE
from springline.control.runs.ends import UNSEEN_WORKER
from tests.api.conftest import V1, World, assert_refused
from tests.api.test_manifests import body as location
from tests.api.test_manifests import deployed
from tests.api.test_run_requests import start
from tests.control.payloads import dispatched, evaluated, finished, hold, noted, run_request, started
from tests.support.definitions import asset
from tests.support.local_api import RIVAL

EXPLAIN = f"{V1}/explain"
CHAIN = location("flights", asset("raw", retries=2), asset("clean", "raw"), asset("report", "clean"))
HOLD = hold(changed_by="ann", reason="moving")
REFUSES = {"error": {"category": "USER_CODE", "message": "no such file", "retryable": False}}
LOST = {"error": {"category": "INFRASTRUCTURE", "message": "its worker is gone", "retryable": True}}


async def told(world: World, subject: str, identity: str, **about: Any) -> dict[str, Any]:
    answer = await world.client.get(f"{EXPLAIN}/{subject}/{identity}", params=about)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def begun(world: World) -> str:
    await deployed(world, CHAIN)
    found = await start(world, select=["*"])
    return str(found["run_id"])


async def test_a_run_that_nobody_launches_is_found_by_its_key(world: World) -> None:
    await deployed(world, CHAIN)
    world.runs.launches = False
    asked = await start(world, select=["*"], run_key="mine")
    assert asked["state"] == "REQUESTED"
    found = await told(world, "run", "mine")
    assert found["verdict"] == "UNDER_WAY"
    assert "its launcher is told of it" in found["answer"]
    (request,) = found["decisions"]
    assert (request["event"], request["who"]) == ("run_requested", "user tester")
    await world.appended(HOLD)
    held = await told(world, "run", "mine")
    assert held["verdict"] == "HELD"
    assert "by ann" in held["answer"]
    assert [one["who"] for one in held["decisions"]] == ["user tester", "ann"]


async def test_a_run_tells_what_its_tasks_wait_for(world: World) -> None:
    run_id = await begun(world)
    found = await told(world, "run", run_id)
    assert found["verdict"] == "WAITS"
    assert "0 of 3 task(s) have ended" in found["answer"]
    assert [one.partition(":")[0] for one in found["waits_for"]] == ["raw"]
    blocked = await told(world, "task", run_id, task="report")
    assert blocked["verdict"] == "WAITS"
    assert "1 task(s) that it needs: clean (BLOCKED)" in blocked["answer"]
    assert blocked["next_steps"] == [f"springline explain task {run_id} clean"]
    await world.appended(dispatched("raw", 1, run_id))
    sent = await told(world, "task", run_id, task="raw")
    assert "attempt 1 was sent, and nobody has begun it" in sent["answer"]
    await world.appended(started("raw", 1, run_id))
    running = await told(world, "attempt", run_id, task="raw", attempt=1)
    assert (running["verdict"], running["identity"]) == ("UNDER_WAY", f"{run_id} raw 1")
    assert (await told(world, "run", run_id))["verdict"] == "UNDER_WAY"


async def test_a_hold_keeps_a_ready_task_waiting(world: World) -> None:
    run_id = await begun(world)
    await world.appended(HOLD)
    assert (await told(world, "task", run_id, task="raw"))["verdict"] == "HELD"
    assert (await told(world, "run", run_id))["verdict"] == "HELD"


async def test_a_failure_is_told_where_it_happened_and_where_it_led_to(world: World) -> None:
    run_id = await begun(world)
    await world.appended(started("raw", 1, run_id), finished("failed", "raw", 1, run_id, **LOST))
    waits = await told(world, "task", run_id, task="raw")
    assert "attempt 2 after a failure (its worker is gone)" in waits["answer"]
    await world.appended(started("raw", 2, run_id), finished("failed", "raw", 2, run_id, **REFUSES))
    task = await told(world, "task", run_id, task="raw")
    assert task["verdict"] == "FAILED"
    assert "no such file" in task["answer"]
    assert "1 attempt(s) were lost" in task["answer"]
    assert "It is FAILED with attempt 2 after " in task["answer"]
    # What its plan allows for attempts that are lost is no retry.
    assert "It used 0 of its 2 retries." in task["answer"]
    first = await told(world, "attempt", run_id, task="raw", attempt=1)
    assert (first["verdict"], "It is the first one." in first["answer"]) == ("FAILED", True)
    second = await told(world, "attempt", run_id, task="raw", attempt=2)
    assert "Attempt 1 ended FAILED (INFRASTRUCTURE), so there was this one." in second["answer"]
    assert {one["event"] for one in second["decisions"]} == {"task_started", "task_finished"}
    skipped = await told(world, "task", run_id, task="report")
    assert (skipped["verdict"], "clean is SKIPPED" in skipped["answer"]) == ("SKIPPED", True)
    run = await told(world, "run", run_id)
    assert run["verdict"] == "FAILED"
    assert f"springline run rerun {run_id} --failed" in run["next_steps"]
    assert any("worker" in one["who"] for one in run["decisions"])


async def test_a_task_without_retries_says_so(world: World) -> None:
    run_id = await begun(world)
    await world.appended(started("raw", 1, run_id), finished("succeeded", "raw", 1, run_id))
    await world.appended(started("clean", 1, run_id), finished("failed", "clean", 1, run_id, **REFUSES))
    answer = (await told(world, "task", run_id, task="clean"))["answer"]
    assert "no such file. It has no retries." in answer
    assert "at most" not in answer


async def test_what_is_asked_about_is_named_in_words(world: World) -> None:
    daily = {"kind": "daily", "start": "2024-01-01"}
    tell = asset("tell")
    await deployed(world, location("flights", asset("raw", partitions=daily), asset("report")) | {"tasks": [tell]})
    for path, field, said in (
        ("partition/raw?partition=nope", "partition", "has no partition 'nope' of asset raw"),
        ("partition/report?partition=x", "partition", "has no partition 'x' of asset report"),
        ("partition/tell", "asset", "'tell' is a task and makes no asset"),
    ):
        answer = await world.client.get(f"{EXPLAIN}/{path}")
        assert said in assert_refused(answer, 404, "NOT_FOUND", field)["message"]
    answer = await world.client.get(f"{EXPLAIN}/partition/raw")
    assert_refused(answer, 400, "INVALID_REQUEST", "partition")


async def test_what_no_end_of_an_attempt_tells_is_told_by_its_notes(world: World) -> None:
    run_id = await begun(world)
    await world.appended(dispatched("raw", 1, run_id))
    await world.appended({"type": "run_cancel_requested", "run_id": run_id, "requested_by": "ann"})
    unknown = await told(world, "attempt", run_id, task="raw", attempt=1)
    assert unknown["verdict"] == "CANCELLED"
    assert "nothing tells how it ended" in unknown["answer"]
    apart = noted("ended_apart", "raw", 1, run_id, detail={"outcome": "failed", "message": "no sign of life"})
    detail = {"worker_id": "w-1", "sealed_at": "2026-01-01T10:00:00Z", "writes": 2, "tables": [{"table": "days"}]}
    await world.appended(apart, noted("sealed", "raw", 1, run_id, detail=detail))
    shown = (await world.client.get(f"{V1}/runs/{run_id}")).json()
    assert [(one["task_key"], one["attempt"], one["note"]) for one in shown["notes"]] == [
        ("raw", 1, "ended_apart"),
        ("raw", 1, "sealed"),
    ]
    assert shown["notes"][1]["detail"] == detail
    for found in (
        await told(world, "attempt", run_id, task="raw", attempt=1),
        await told(world, "task", run_id, task="raw"),
    ):
        assert found["verdict"] == "CANCELLED"
        assert "it ended FAILED when it was not the task's own any more: no sign of life" in found["answer"]
        assert "worker w-1 sealed 2 write(s), to days: those that no version has yet" in found["answer"]
        assert f"`springline run rerun {run_id} --failed`" in found["answer"]


async def test_an_attempt_that_no_worker_has_answered_for_names_none(world: World) -> None:
    run_id = await begun(world)
    lost = finished("failed", "raw", 1, run_id, **LOST) | {"worker_id": UNSEEN_WORKER}
    await world.appended(started("raw", 1, run_id), lost)
    answer = (await told(world, "attempt", run_id, task="raw", attempt=1))["answer"]
    assert "No worker has told of it; it ended FAILED" in answer
    assert "Worker" not in answer


async def test_a_success_needs_no_next_step(world: World) -> None:
    run_id = await begun(world)
    for task in ("raw", "clean", "report"):
        await world.appended(started(task, 1, run_id), finished("succeeded", task, 1, run_id))
    run = await told(world, "run", run_id)
    assert (run["verdict"], run["next_steps"], run["waits_for"]) == ("DONE", [], [])
    assert (await told(world, "task", run_id, task="clean"))["verdict"] == "DONE"
    assert (await told(world, "attempt", run_id, task="clean", attempt=1))["verdict"] == "DONE"


async def test_a_cancellation_names_who_asked_for_it(world: World) -> None:
    run_id = await begun(world)
    cancel = {"type": "run_cancel_requested", "run_id": run_id, "requested_by": "ann", "reason": "wrong day"}
    await world.appended(cancel)
    found = await told(world, "run", run_id)
    assert found["verdict"] == "CANCELLED"
    assert "ann asked for that: wrong day" in found["answer"]
    task = await told(world, "task", run_id, task="raw")
    assert task["verdict"] == "CANCELLED"


async def test_a_schedule_is_explained_over_http(world: World) -> None:
    nightly = {"schedule_id": "nightly", "cron": "0 4 * * *", "select": ["*report"]}
    await deployed(world, CHAIN | {"schedules": [nightly]})
    found = await told(world, "schedule", "nightly", at="2199-01-01T04:00:00Z")
    assert found["verdict"] == "NOT_DUE"
    assert (await told(world, "schedule", "nightly", at="2024-01-01T05:00:00+01:00"))["verdict"] == "NO_INSTANT"


async def test_a_sensor_and_its_evaluation_are_explained_over_http(world: World) -> None:
    files = {"sensor_id": "files", "kind": "poll", "interval_seconds": 5, "select": ["raw"]}
    await deployed(world, CHAIN | {"sensors": [files]})
    await world.appended(evaluated("e1", sensor_id="files", run_requests=[run_request("sensor:files:a")]))
    sensor = await told(world, "sensor", "files")
    assert "asked for 1 run(s): sensor:files:a" in sensor["answer"]
    paused = await world.client.post(f"{V1}/sensors/files/pause")
    assert paused.json()["changed"] is True
    sensor = await told(world, "sensor", "files")
    assert (sensor["verdict"], "tester paused it" in sensor["answer"]) == ("OFF", True)
    found = await told(world, "evaluation", "e1")
    assert (found["verdict"], found["subject"]) == ("WAITS", "evaluation")


async def test_a_backfill_its_chunk_and_a_partition_are_explained_over_http(world: World) -> None:
    daily = {"kind": "daily", "start": "2024-01-01"}
    await deployed(world, location("flights", asset("raw", partitions=daily)))
    asked = {"select": ["raw"], "start": "2024-01-01", "end": "2024-01-04", "chunk_size": 2}
    created = await world.client.post(f"{V1}/backfills", json=asked)
    name = created.json()["backfill_id"]
    assert (await told(world, "backfill", name))["verdict"] == "UNDER_WAY"
    chunk = await told(world, "chunk", name, chunk=1)
    assert (chunk["verdict"], chunk["identity"]) == ("WAITS", f"{name} 1")
    partition = await told(world, "partition", "raw", partition="2024-01-03")
    assert (partition["identity"], partition["reason_code"]) == ("raw 2024-01-03", "NEVER_MATERIALIZED")
    assert f"Chunk 1 of backfill {name} (RUNNING) has it" in partition["answer"]


@pytest.mark.parametrize(
    ("path", "about", "field"),
    [
        ("chunk/bf", {"chunk": -1}, "chunk"),
        ("chunk/bf", {"chunk": "one"}, "chunk"),
        ("backfill/bf", {"chunk": 1}, "chunk"),
        ("sensor/files", {"partition": "x"}, "partition"),
        ("partition/raw", {"task": "x"}, "task"),
        ("run/{run}", {"task": "raw"}, "task"),
        ("task/{run}", {}, "task"),
        ("task/{run}", {"task": "raw", "at": "2025-01-01T00:00:00Z"}, "at"),
        ("attempt/{run}", {"task": "raw"}, "attempt"),
        ("attempt/{run}", {"task": "raw", "attempt": 0}, "attempt"),
        ("run/{run}", {"since": "yesterday"}, "since"),
        ("run/{run}", {"unknown": "x"}, "unknown"),
        ("table/{run}", {}, "subject"),
        ("schedule/nightly", {"at": "+9999-01-01T00:00:00Z"}, "at"),
    ],
)
async def test_a_question_that_cannot_be_answered_says_why(
    world: World, path: str, about: dict[str, Any], field: str
) -> None:
    run_id = await begun(world)
    answer = await world.client.get(f"{EXPLAIN}/{path.format(run=run_id)}", params=about)
    assert_refused(answer, 400, "INVALID_REQUEST", field)


async def test_what_is_not_there_is_not_found(world: World) -> None:
    run_id = await begun(world)
    for path, field in (
        ("run/other", "run_id"),
        ("schedule/other", "schedule_id"),
        ("sensor/other", "sensor_id"),
        ("evaluation/other", "eval_id"),
        ("backfill/other", "backfill_id"),
        ("chunk/other?chunk=0", "backfill_id"),
        ("partition/other", "asset"),
        ("partition/raw?partition=2024-01-01", "partition"),
        (f"task/{run_id}?task=other", "task"),
        (f"attempt/{run_id}?task=raw&attempt=2", "attempt"),
    ):
        answer = await world.client.get(f"{EXPLAIN}/{path}")
        assert_refused(answer, 404, "NOT_FOUND", field)


async def test_only_readers_of_the_workspace_are_answered(world: World) -> None:
    run_id = await begun(world)
    rival = await world.client.get(f"{EXPLAIN}/run/{run_id}", headers=world.bearer(RIVAL))
    assert_refused(rival, 404, "NOT_FOUND", "run_id")
    writer = await world.client.get(f"{EXPLAIN}/run/{run_id}", headers=world.bearer(scopes=(WRITE,)))
    assert writer.status_code == 403
