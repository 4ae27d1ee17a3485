"""Attempts over HTTP by Temporal: posted once recorded, told by callbacks, ended by the run where nobody else does."""

from __future__ import annotations

import asyncio
import contextlib
import itertools

import pytest
from temporalio.service import RPCError

import workflows.run as run_module
from springline import names
from springline.control.runs import remote as remote_module
from springline.ledger.identifiers import callback_task_id, dispatch_id, dispatch_task_id
from tests.support.definitions import asset
from tests.workflows.http_bench import URL, HttpBench
from tests.workflows.runs import until
from tests.workflows.test_run_shards import chain_of, wide

pytestmark = pytest.mark.usefixtures("long_patience")


async def test_an_attempt_is_posted_and_its_worker_says_the_rest(http: HttpBench) -> None:
    await http.deploy(asset("raw", url=URL, code_version="7"), asset("clean", "raw"))
    run_id = await http.launch("k", "raw", "clean")
    envelope = await http.posted(1)
    token, expires = envelope.pop("taskToken"), envelope.pop("tokenExpiresAt")
    assert token.count(".") == 2
    assert expires.endswith("Z")
    assert envelope == {
        "tenantId": "acme",
        "workspaceId": http.scope.workspace,
        "taskId": callback_task_id(run_id, "raw"),
        "taskKey": "raw",
        "runId": run_id,
        "attempt": 1,
        "attemptId": envelope["attemptId"],
        "dispatchId": dispatch_id(run_id, "raw", 1),
        "executionLocationId": "flights",
        "heartbeatTimeoutSec": 60,
        "workerQueue": "flights",
        "callbackBaseUrl": "http://api.test",
        "payload": {
            "assetKey": "raw",
            "codeVersion": "7",
            "manifestId": http.manifest_id,
            "scope": run_id,
            "timeoutMs": 86_400_000,
            "config": {},
        },
    }
    # It was recorded before it was posted.
    (task, _) = sorted(await http.rows("tasks", run_id), key=lambda one: one["task_key"], reverse=True)
    assert (task["state"], task["attempt_id"]) == ("DISPATCHED", envelope["attemptId"])

    async def is_acknowledged() -> bool:
        return [one["cloud_task_id"] for one in await http.rows("dispatch_outbox")] == [
            dispatch_task_id(dispatch_id(run_id, "raw", 1))
        ]

    await until(is_acknowledged, "the dispatch is acknowledged")
    envelope["taskToken"] = token
    started = await http.called(envelope, "started")
    assert started["acknowledged"]
    beat = await http.called(envelope, "heartbeat", progressPct=50, message="half")
    assert (beat["shouldCancel"], "cancelReason" in beat) == (False, False)
    done = await http.called(
        envelope, "completed", outcome="SUCCEEDED", output={"rowCount": 3, "deltaTable": "raw", "deltaVersion": 7}
    )
    assert done["finalState"] == "SUCCEEDED"
    ended = await http.run_ended(run_id)
    assert (ended.state, ended.tasks) == ("SUCCEEDED", {"SUCCEEDED": 2})
    assert [order.task_key for order in http.orders] == ["clean"]
    tasks = {one["task_key"]: one for one in await http.rows("tasks", run_id)}
    assert (tasks["raw"]["output_visibility_state"], tasks["raw"]["delta_table"]) == ("VISIBLE", "raw")
    attempts = await http.rows("x_attempts", run_id, "raw")
    assert [(one["attempt"], one["outcome"], one["worker_id"]) for one in attempts] == [(1, "SUCCEEDED", "w-1")]
    assert await http.rows("dispatch_outbox") == []
    assert await http.rows("x_notes") == []


async def test_a_worker_that_is_not_there_is_asked_until_it_is(http: HttpBench) -> None:
    http.statuses = [-1, 503, 429]
    await http.deploy(asset("raw", url=URL))
    run_id = await http.launch("k", "raw")
    envelope = await http.posted(3)
    assert [one["attemptId"] for one in http.envelopes] == [envelope["attemptId"]] * 3
    await http.called(envelope, "completed", outcome="SUCCEEDED")
    assert (await http.run_ended(run_id)).state == "SUCCEEDED"
    assert await http.attempts_of(run_id, "raw") == [(1, "SUCCEEDED", None)]


async def test_a_worker_that_refuses_ends_the_attempt_with_what_it_said(http: HttpBench) -> None:
    http.statuses = [422]
    await http.deploy(asset("raw", url=URL, retries=5), asset("clean", "raw"))
    run_id = await http.launch("k", "raw", "clean")
    ended = await http.run_ended(run_id)
    assert (ended.state, ended.tasks) == ("FAILED", {"FAILED": 1, "SKIPPED": 1})
    (attempt,) = await http.rows("x_attempts", run_id, "raw")
    assert (attempt["category"], attempt["reason_code"]) == ("CONFIGURATION", "dispatch_refused")
    assert attempt["error_message"] == f"its worker does not take it: {URL} answered 422: as it was told to"


async def test_a_url_that_is_not_allowed_any_more_gets_nothing(http: HttpBench) -> None:
    await http.deploy(asset("raw", url="http://127.0.0.1:9/other"))
    run_id = await http.launch("k", "raw")
    assert (await http.run_ended(run_id)).state == "FAILED"
    (attempt,) = await http.rows("x_attempts", run_id, "raw")
    assert attempt["error_message"].startswith("http://127.0.0.1:9/other is not among the URLs that are allowed")
    assert http.envelopes == []


async def test_a_failure_is_tried_again_as_often_and_as_soon_as_the_asset_says(http: HttpBench) -> None:
    await http.deploy(asset("raw", url=URL, retries=1, retry_delay_ms=50))
    run_id = await http.launch("k", "raw")
    first = await http.posted(1)
    error = {"category": "USER_CODE", "message": "no luck"}
    await http.called(first, "started")
    await http.called(first, "completed", outcome="FAILED", error=error)
    second = await http.posted(2)
    assert second["attempt"] == 2
    await http.called(second, "completed", outcome="FAILED", error=error)
    assert (await http.run_ended(run_id)).state == "FAILED"
    assert await http.attempts_of(run_id, "raw") == [(1, "FAILED", "USER_CODE"), (2, "FAILED", "USER_CODE")]
    assert {timer["state"] for timer in await http.rows("timers")} == {"FIRED"}


async def test_a_silent_worker_loses_its_attempt_and_what_it_says_later_changes_nothing(http: HttpBench) -> None:
    await http.deploy(asset("raw", url=URL, heartbeat_ms=3_000))
    run_id = await http.launch("k", "raw")
    first = await http.posted(1)
    await http.called(first, "started")
    second = await http.posted(2)
    assert (second["attempt"], second["attemptId"] != first["attemptId"]) == (2, True)
    late = await http.call(first, "completed", outcome="SUCCEEDED")
    assert (late.status_code, late.json()["error"]) == (409, "attempt_mismatch")
    assert (await http.call(first, "heartbeat")).status_code == 409
    await http.called(second, "completed", outcome="SUCCEEDED")
    assert (await http.call(first, "heartbeat")).status_code == 410
    assert (await http.run_ended(run_id)).state == "SUCCEEDED"
    assert await http.attempts_of(run_id, "raw") == [(1, "FAILED", "INFRASTRUCTURE"), (2, "SUCCEEDED", None)]
    assert await http.rows("x_notes") == []


async def test_a_worker_that_takes_an_attempt_and_never_starts_it_loses_it(http: HttpBench) -> None:
    await http.deploy(asset("raw", url=URL, heartbeat_ms=3_000))
    run_id = await http.launch("k", "raw")
    await http.posted(1)
    second = await http.posted(2)
    await http.called(second, "completed", outcome="SUCCEEDED")
    assert (await http.run_ended(run_id)).state == "SUCCEEDED"
    (lost, _) = sorted(await http.rows("x_attempts", run_id, "raw"), key=lambda one: one["attempt"])
    assert lost["error_message"] == "its worker did not say that it had started it for 3s"


async def test_an_attempt_that_takes_too_long_ends_though_its_worker_lives(http: HttpBench) -> None:
    await http.deploy(asset("raw", url=URL, heartbeat_ms=4_000, timeout_ms=4_000))
    run_id = await http.launch("k", "raw")
    envelope = await http.posted(1)
    await http.called(envelope, "started")

    while (beat := await http.call(envelope, "heartbeat")).status_code == 200:  # noqa: ASYNC110
        # As often as a worker would.
        await asyncio.sleep(0.3)
    assert beat.status_code == 410
    assert (await http.run_ended(run_id)).state == "FAILED"
    assert await http.attempts_of(run_id, "raw") == [(1, "FAILED", "TIMEOUT")]


async def test_a_cancellation_is_told_with_the_next_heartbeat(http: HttpBench) -> None:
    await http.deploy(asset("raw", url=URL), asset("other", url=URL), asset("clean", "raw"))
    run_id = await http.launch("k", "raw", "other", "clean")
    await http.posted(2)
    by_task = {one["taskKey"]: one for one in http.envelopes}
    await http.called(by_task["raw"], "started")
    await http.cancel(run_id)
    beat = await http.called(by_task["raw"], "heartbeat")
    assert (beat["shouldCancel"], beat["cancelReason"]) == (True, "user_requested")
    never = await http.call(by_task["other"], "started")
    assert (never.status_code, never.json()["state"]) == (409, "CANCELLED")
    await http.called(by_task["raw"], "completed", outcome="CANCELLED")
    ended = await http.run_ended(run_id)
    assert (ended.state, ended.tasks) == ("CANCELLED", {"CANCELLED": 3})
    assert await http.attempts_of(run_id, "raw") == [(1, "CANCELLED", "CANCELLED")]


@pytest.mark.not_recorded
async def test_a_worker_that_does_not_stop_is_not_waited_for(http: HttpBench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_module, "CANCEL_GRACE_MS", 1_000)
    # Long enough for one heartbeat after the cancellation, however slow the machine.
    await http.deploy(asset("raw", url=URL, heartbeat_ms=4_000))
    run_id = await http.launch("k", "raw")
    envelope = await http.posted(1)
    await http.called(envelope, "started")
    await http.cancel(run_id)

    assert (await http.called(envelope, "heartbeat"))["shouldCancel"]
    ended = await http.run_ended(run_id)
    assert (await http.call(envelope, "heartbeat")).status_code == 410
    assert (ended.state, ended.tasks) == ("CANCELLED", {"CANCELLED": 1})


async def test_a_run_that_lost_its_workflow_goes_on_with_the_attempt_as_it_is(http: HttpBench) -> None:
    await http.deploy(asset("raw", url=URL), asset("other", url=URL))
    run_id = await http.launch("k", "raw", "other")
    await http.posted(2)
    by_task = {one["taskKey"]: one for one in http.envelopes}
    await http.called(by_task["raw"], "started")
    await http.run_handle(run_id).terminate("lost")
    await http.starts.start(http.scope, run_id)
    # What has not started is posted again: it may never have been.
    again = await http.posted(3)
    assert {name: one for name, one in again.items() if not name.startswith("token") and name != "taskToken"} == {
        name: one for name, one in by_task["other"].items() if not name.startswith("token") and name != "taskToken"
    }
    for envelope in by_task.values():
        await http.called(envelope, "completed", outcome="SUCCEEDED")
    assert (await http.run_ended(run_id)).state == "SUCCEEDED"
    assert await http.attempts_of(run_id, "raw") == [(1, "SUCCEEDED", None)]
    assert await http.attempts_of(run_id, "other") == [(1, "SUCCEEDED", None)]


async def test_an_answer_that_was_lost_posts_the_attempt_twice_and_runs_it_once(http: HttpBench) -> None:
    http.statuses = [0]
    await http.deploy(asset("raw", url=URL))
    run_id = await http.launch("k", "raw")
    first = await http.posted(1)
    await http.called(first, "started", workerId="w-1")
    other = await http.call(first, "started", workerId="w-2")
    assert (other.status_code, other.json()["error"]) == (409, "attempt_taken")
    again = await http.call(first, "started", workerId="w-1")
    assert (again.status_code, again.headers["Idempotency-Replayed"]) == (200, "true")
    await http.called(first, "completed", outcome="SUCCEEDED")
    assert (await http.run_ended(run_id)).state == "SUCCEEDED"


async def test_nothing_is_posted_while_the_workspace_is_held(http: HttpBench) -> None:
    await http.deploy(asset("raw", url=URL), asset("clean", "raw", url=URL))
    run_id = await http.launch("k", "raw", "clean")
    first = await http.posted(1)
    await http.hold(True)
    await http.called(first, "completed", outcome="SUCCEEDED")

    async def waits() -> bool:
        return (await http.doing(run_id)).tasks == {"SUCCEEDED": 1, "READY": 1}

    await until(waits, "the run waits")
    assert len(http.envelopes) == 1
    await http.hold(False)
    second = await http.posted(2)
    await http.called(second, "completed", outcome="SUCCEEDED")
    assert (await http.run_ended(run_id)).state == "SUCCEEDED"


async def test_what_is_not_recorded_is_not_posted(http: HttpBench) -> None:
    release = asyncio.Event()
    http.faults.hold(names.APPEND_RUN_EVENTS, release)
    await http.deploy(asset("raw", url=URL))
    run_id = await http.launch("k", "raw")

    async def waits() -> bool:
        with contextlib.suppress(RPCError):
            return (await http.doing(run_id)).running == ["raw"]
        return False

    await until(waits, "the run has begun the attempt")
    assert http.envelopes == []
    release.set()
    envelope = await http.posted(1)
    (task,) = await http.rows("tasks", run_id)
    assert task["state"] == "DISPATCHED"
    await http.called(envelope, "completed", outcome="SUCCEEDED")
    assert (await http.run_ended(run_id)).state == "SUCCEEDED"


@pytest.mark.not_recorded
async def test_a_long_run_continues_as_new_while_a_worker_works(
    http: HttpBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_module, "DRAIN_EVENTS", 40)
    keys = [f"t{number}" for number in range(12)]
    chain = [asset(key, before) for before, key in itertools.pairwise(keys)]
    await http.deploy(asset("slow", url=URL), asset("t0"), *chain)
    run_id = await http.launch("k", "slow", *keys)
    envelope = await http.posted(1)
    await http.called(envelope, "started")
    first = (await http.run_handle(run_id).describe()).run_id

    async def are_made() -> bool:
        tasks = {one["task_key"]: one["state"] for one in await http.rows("tasks", run_id)}
        return all(tasks[key] == "SUCCEEDED" for key in keys)

    async def has_continued() -> bool:
        return bool((await http.run_handle(run_id).describe()).run_id != first)

    await until(are_made, "all other tasks have ended")
    await until(has_continued, "it has continued as new")
    await http.called(envelope, "completed", outcome="SUCCEEDED")

    async def has_ended() -> bool:
        return await http.run_state(run_id) == "SUCCEEDED"

    await until(has_ended, "the run ends")
    assert len(http.envelopes) == 1
    assert await http.attempts_of(run_id, "slow") == [(1, "SUCCEEDED", None)]


@pytest.mark.not_recorded
@pytest.mark.usefixtures("small")
async def test_a_large_run_continues_as_new_while_workers_work(http: HttpBench) -> None:
    remote = [asset(f"h{number}", url=URL) for number in range(4)]
    assets = wide(20)
    await http.deploy(*assets, *remote, asset("last", *(one["key"] for one in remote)))
    run_id = await http.launch("k", "last", *(one["key"] for one in (*assets, *remote)))
    await http.posted(4)
    by_task = {one["taskKey"]: one for one in http.envelopes}
    assert len(by_task) == 4
    await http.called(by_task["h0"], "started")

    async def are_made() -> bool:
        states = [one["state"] for one in await http.rows("tasks", run_id) if one["task_key"].startswith("a")]
        return states == ["SUCCEEDED"] * 20

    await until(are_made, "all tasks of workers on queues have ended")
    for envelope in by_task.values():
        await http.called(envelope, "completed", outcome="SUCCEEDED")
    ended = await http.run_ended(run_id)
    assert (ended.state, ended.tasks) == ("SUCCEEDED", {"SUCCEEDED": 25})
    assert len(await chain_of(http, run_id)) > 1, "it has continued as new"
    for envelope in by_task.values():
        assert await http.attempts_of(run_id, envelope["taskKey"]) == [(1, "SUCCEEDED", None)]


@pytest.mark.not_recorded
async def test_what_is_posted_has_a_slot_of_its_pool(http: HttpBench) -> None:
    await http.deploy(asset("raw", url=URL, pool="warehouse"), pools={"warehouse": 1})
    runs = [await http.launch("first", "raw")]
    first = await http.posted(1)
    runs.append(await http.launch("second", "raw"))

    async def waits() -> bool:
        with contextlib.suppress(RPCError):
            return (await http.doing(runs[1])).waits_for == ["raw waits for pool warehouse (1 of 1 taken)"]
        return False

    await until(waits, "the second run waits")
    await http.called(first, "started")
    await http.called(first, "completed", outcome="SUCCEEDED", output={})
    second = await http.posted(2)
    assert second["runId"] == runs[1]
    await http.called(second, "started")
    await http.called(second, "completed", outcome="SUCCEEDED", output={})
    for run_id in runs:
        assert (await http.run_ended(run_id)).state == "SUCCEEDED"
