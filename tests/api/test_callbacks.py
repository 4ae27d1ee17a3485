"""What workers over HTTP call back: every error of the table, tokens for one attempt, repeats; and timers."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any

import httpx
import jwt
import pytest

from springline.api.app import create_app
from springline.errors import Code
from springline.errors import refused as refusal
from springline.ledger.identifiers import attempt_id, callback_task_id, dispatch_id
from springline.ledger.request import AppendRequest
from springline.paths import Scope
from springline.runs.task_tokens import AUDIENCE, ISSUER, TaskClaims, TaskTokens
from tests.api.conftest import V1, World, fresh
from tests.api.test_manifests import body as location
from tests.api.test_manifests import deployed
from tests.api.test_run_requests import start
from tests.control.payloads import cancelled, dispatched, started
from tests.support.definitions import asset
from tests.support.local_api import ACME, RIVAL, SECRET, TASK_TOKENS, WORKERS

URL = f"{WORKERS}/raw"
PIPELINE = location("flights", asset("raw", url=URL, retries=1, code_version="7"), asset("after", "raw"))
TIMERS = "/internal/timers/fired"


@dataclass
class Attempt:
    """An attempt as its worker knows it, from the envelope."""

    world: World
    run_id: str
    task_key: str = "raw"
    number: int = 1
    worker: str = "w-1"
    scope: Scope = ACME

    @property
    def attempt_id(self) -> str:
        return attempt_id(dispatch_id(self.run_id, self.task_key, self.number))

    @property
    def task_id(self) -> str:
        return callback_task_id(self.run_id, self.task_key)

    def claims(self, **more: Any) -> TaskClaims:
        return replace(TaskClaims(self.scope, self.task_id, self.run_id, self.number, self.attempt_id), **more)

    def token(self, *, now_s: int | None = None, ttl_s: int = 3600, **more: Any) -> str:
        now_s = int(time.time()) if now_s is None else now_s
        return TASK_TOKENS.make(self.claims(**more), now_s=now_s, expires_s=now_s + ttl_s)

    @property
    def who(self) -> dict[str, Any]:
        return {"attempt": self.number, "attemptId": self.attempt_id, "workerId": self.worker}

    async def call(
        self, what: str, token: str | None = None, task_id: str | None = None, **more: Any
    ) -> httpx.Response:
        url = f"{V1}/tasks/{task_id or self.task_id}/{what}"
        headers = {"Authorization": f"Bearer {token or self.token()}"}
        return await self.world.client.post(url, json=self.who | more, headers=headers)

    async def ok(self, what: str, **more: Any) -> dict[str, Any]:
        answer = await self.call(what, **more)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    async def dispatch(self) -> None:
        await self.world.appended(dispatched(self.task_key, self.number, self.run_id))

    async def task(self) -> dict[str, Any]:
        answer = await self.world.client.get(f"{V1}/runs/{self.run_id}")
        found: dict[str, Any] = next(one for one in answer.json()["tasks"] if one["task_key"] == self.task_key)
        return found

    def events(self, kind: str) -> list[dict[str, Any]]:
        """Return the payloads of a type that went to the ledger from callbacks."""
        return [
            event.data
            for request in self.world.ledger.requests
            if isinstance(request, AppendRequest) and request.mode == "each"
            for event in request.events
            if event.data["type"] == kind
        ]


@pytest.fixture
async def attempt(world: World) -> Attempt:
    """The first attempt of a run, dispatched."""
    await deployed(world, PIPELINE)
    made = Attempt(world, (await start(world, select=["*"]))["run_id"])
    await made.dispatch()
    return made


async def refused(
    attempt: Attempt, what: str, status: int, error: str, /, *, writes: bool = False, **more: Any
) -> dict[str, Any]:
    """Call back what must be refused; return the body."""
    before = attempt.world.snapshot()
    answer = await attempt.call(what, **more)
    assert answer.status_code == status, answer.text
    found: dict[str, Any] = answer.json()
    assert found["error"] == error, found
    assert found["message"], found
    assert found["remedy"], found
    assert found["requestId"] == answer.headers["X-Request-Id"]
    assert writes or attempt.world.snapshot() == before, "a refused callback wrote something"
    return found


CALLS: list[tuple[str, dict[str, Any]]] = [
    ("started", {}),
    ("heartbeat", {}),
    ("completed", {"outcome": "SUCCEEDED"}),
]
ANY_CALL = pytest.mark.parametrize(("what", "more"), CALLS, ids=[name for name, _ in CALLS])


async def test_an_attempt_is_told_from_its_start_to_its_end(attempt: Attempt) -> None:
    said = await attempt.ok("started", startedAt="2025-01-15T10:00:00Z", traceparent="00-1")
    assert (said["acknowledged"], said["serverTime"].endswith("Z")) == (True, True)
    assert (await attempt.task())["state"] == "RUNNING"
    (event,) = attempt.events("task_started")
    assert event["worker_id"] == "w-1"
    assert event["springline"] == {"started_at": "2025-01-15T10:00:00Z", "location": "flights"}
    beat = await attempt.ok("heartbeat", progressPct=40, message="reading", heartbeatAt="2001-01-01T00:00:00Z")
    assert beat["shouldCancel"] is False
    # The worker's clock decides nothing.
    assert (await attempt.task())["last_heartbeat_at"] > "2025"
    answer = await attempt.call(
        "completed",
        outcome="SUCCEEDED",
        completedAt="2025-01-15T10:00:50Z",
        output={
            "materializationId": "mat_1",
            "rowCount": 3,
            "byteSize": 2**40,
            "outputPath": "raw/part-0.parquet",
            "deltaTable": "raw",
            "deltaVersion": 7,
            "deltaPartition": "d",
        },
        metrics={"cpuTimeMs": 5, "peakMemoryBytes": 7, "ioReadBytes": 1, "ioWriteBytes": 2},
        partialProgress={"done": [1, 2]},
        cancelledDuringPhase="none",
    )
    assert (answer.status_code, answer.headers["Idempotency-Replayed"]) == (200, "false")
    assert answer.json()["finalState"] == "SUCCEEDED"
    task = await attempt.task()
    assert (task["state"], task["materialization_id"], task["delta_table"], task["delta_version"]) == (
        "SUCCEEDED",
        "mat_1",
        "raw",
        7,
    )
    assert task["output_visibility_state"] == "visible"
    (end,) = attempt.events("task_completion_recorded")
    assert end["partial_progress_json"] == '{"done":[1,2]}'
    assert (end["asset_key"], end["code_version"]) == ("raw", "7")
    assert end["springline"] == {"ended_at": "2025-01-15T10:00:50Z"}
    assert attempt.world.runs.woken == [attempt.run_id] * 2


async def test_snake_case_is_taken_as_well_as_camel_case(attempt: Attempt) -> None:
    token = attempt.token()
    who = {"attempt": 1, "attempt_id": attempt.attempt_id, "worker_id": "w-1"}
    for what, more in (
        ("started", {"started_at": "2025-01-15T10:00:00Z"}),
        ("heartbeat", {"progress_pct": 1}),
        ("completed", {"outcome": "SUCCEEDED", "result": {"row_count": 3, "output_visibility_state": "PENDING"}}),
    ):
        answer = await attempt.world.client.post(
            f"{V1}/tasks/{attempt.task_id}/{what}", json=who | more, headers={"Authorization": f"Bearer {token}"}
        )
        assert answer.status_code == 200, answer.text
    (end,) = attempt.events("task_completion_recorded")
    assert end["output"]["rowCount"] == 3


async def test_an_end_brings_the_start_along_that_was_not_told(attempt: Attempt) -> None:
    await attempt.ok("completed", outcome="SUCCEEDED")
    task = await attempt.task()
    assert (task["state"], task["materialization_id"]) == ("SUCCEEDED", attempt.attempt_id)
    assert "started_at" in task


async def test_what_is_newer_than_the_row_is_the_sequencers_to_judge(attempt: Attempt) -> None:
    attempt.world.ledger.holds_back = True
    answer = await attempt.call("started")
    assert answer.status_code == 200
    assert (await attempt.call("completed", outcome="SUCCEEDED")).status_code == 200
    attempt.world.ledger.holds_back = False
    assert (await attempt.ok("completed", outcome="SUCCEEDED"))["finalState"] == "SUCCEEDED"
    assert (await attempt.task())["state"] == "SUCCEEDED"


# Repeats.


@ANY_CALL
async def test_a_repeat_is_answered_as_one(attempt: Attempt, what: str, more: dict[str, Any]) -> None:
    first = await attempt.call(what, **more)
    again = await attempt.call(what, **more)
    assert (first.status_code, again.status_code) == (200, 200)
    if what != "heartbeat":
        assert [one.headers["Idempotency-Replayed"] for one in (first, again)] == ["false", "true"]
    drop = {"serverTime"}
    assert {k: v for k, v in first.json().items() if k not in drop} == {
        k: v for k, v in again.json().items() if k not in drop
    }


async def test_a_failure_is_repeated_while_another_attempt_waits(attempt: Attempt) -> None:
    error = {"category": "USER_CODE", "message": "no"}
    assert (await attempt.ok("completed", outcome="FAILED", error=error))["finalState"] == "FAILED"
    assert (await attempt.task())["state"] == "RETRY_WAIT"
    again = await attempt.call("completed", outcome="FAILED", error=error)
    assert (again.status_code, again.headers["Idempotency-Replayed"]) == (200, "true")


async def test_the_first_worker_that_starts_an_attempt_owns_it(attempt: Attempt) -> None:
    await attempt.ok("started")
    other = replace(attempt, worker="w-2")
    found = await refused(other, "started", 409, "attempt_taken", writes=True)
    assert (found["field"], found["value"]) == ("workerId", "w-2")
    assert (await attempt.call("started")).headers["Idempotency-Replayed"] == "true"


async def test_a_pending_output_becomes_visible_later(attempt: Attempt) -> None:
    await attempt.ok("completed", outcome="SUCCEEDED", output={"outputVisibilityState": "PENDING"})
    assert (await attempt.task())["output_visibility_state"] == "pending"
    await attempt.ok("completed", outcome="SUCCEEDED", output={"outputVisibilityState": "PENDING"})
    later = {"outputVisibilityState": "VISIBLE", "publishedAt": "2025-01-15T10:00:54.5Z"}
    answer = await attempt.call("completed", outcome="SUCCEEDED", output=later)
    assert (answer.status_code, answer.headers["Idempotency-Replayed"]) == (200, "false")
    task = await attempt.task()
    assert (task["output_visibility_state"], task["published_at"]) == ("visible", "2025-01-15T10:00:54.500Z")
    # A final one stays.
    answer = await attempt.call("completed", outcome="SUCCEEDED", output={"outputVisibilityState": "FAILED"})
    assert answer.headers["Idempotency-Replayed"] == "true"
    assert (await attempt.task())["output_visibility_state"] == "visible"


# The budget of retries is the asset's, whoever records the failure.


@pytest.mark.parametrize(
    ("error", "state"),
    [
        ({"category": "USER_CODE", "message": "no"}, "RETRY_WAIT"),
        ({"category": "TIMEOUT", "message": "slow"}, "RETRY_WAIT"),
        ({"category": "INFRASTRUCTURE", "message": "disk"}, "RETRY_WAIT"),
        ({"category": "DATA_QUALITY", "message": "nulls"}, "FAILED"),
        ({"category": "DATA_QUALITY", "message": "nulls", "retryable": True}, "RETRY_WAIT"),
        ({"category": "USER_CODE", "message": "no", "retryable": False}, "FAILED"),
        ({"category": "CONFIGURATION", "message": "no"}, "FAILED"),
        (None, "RETRY_WAIT"),
    ],
)
async def test_a_first_failure(attempt: Attempt, error: dict[str, Any] | None, state: str) -> None:
    await attempt.ok("completed", outcome="FAILED", **({} if error is None else {"error": error}))
    assert (await attempt.task())["state"] == state


async def test_the_budget_ends_the_task_and_losses_do_not_use_it(attempt: Attempt) -> None:
    for number, category in enumerate(("INFRASTRUCTURE", "USER_CODE", "INFRASTRUCTURE"), start=1):
        attempt.number = number
        if number > 1:
            await attempt.dispatch()
        await attempt.ok("completed", outcome="FAILED", error={"category": category, "message": "no"})
        assert (await attempt.task())["state"] == "RETRY_WAIT"
    attempt.number = 4
    await attempt.dispatch()
    await attempt.ok("completed", outcome="FAILED", error={"category": "USER_CODE", "message": "no"})
    assert (await attempt.task())["state"] == "FAILED"


async def test_long_texts_are_cut_as_those_of_other_workers(attempt: Attempt) -> None:
    error = {"category": "USER_CODE", "message": "x" * 5_000, "stackTrace": "y" * 50_000}
    await attempt.ok("completed", outcome="FAILED", error=error)
    (end,) = attempt.events("task_completion_recorded")
    assert (len(end["error"]["message"]), len(end["error"]["stackTrace"])) == (1_000, 8_000)


# The table of errors, in its order.


@ANY_CALL
@pytest.mark.parametrize(
    ("bad", "field"),
    [
        ({"attempt": 0}, "attempt"),
        ({"attempt": "1"}, "attempt"),
        ({"attemptId": ""}, "attemptId"),
        ({"workerId": "two\nlines"}, "workerId"),
        ({"workerId": "w" * 201}, "workerId"),
        ({"strange": 1}, "strange"),
    ],
)
async def test_what_every_callback_must_have(
    attempt: Attempt, what: str, more: dict[str, Any], bad: dict[str, Any], field: str
) -> None:
    assert (await refused(attempt, what, 400, "invalid_argument", **more | bad))["field"] == field


@pytest.mark.parametrize(
    ("what", "bad", "field"),
    [
        ("heartbeat", {"progressPct": 101}, "progressPct"),
        ("heartbeat", {"heartbeatAt": "yesterday"}, "heartbeatAt"),
        ("started", {"startedAt": "2025-13-01T00:00:00Z"}, "startedAt"),
        ("completed", {}, "outcome"),
        ("completed", {"outcome": "DONE"}, "outcome"),
        ("completed", {"outcome": "FAILED", "error": {"category": "OTHER", "message": "x"}}, "error.category"),
        ("completed", {"outcome": "FAILED", "error": {"category": "TIMEOUT"}}, "error.message"),
        ("completed", {"outcome": "SUCCEEDED", "output": {"rowCount": -1}}, "output.rowCount"),
        ("completed", {"outcome": "SUCCEEDED", "output": {"deltaVersion": 2**63}}, "output.deltaVersion"),
        ("completed", {"outcome": "SUCCEEDED", "output": {"deltaTable": "t" * 2_000}}, "output.deltaTable"),
        ("completed", {"outcome": "SUCCEEDED", "partialProgress": {"x": 0.5}}, "partialProgress"),
        ("completed", {"outcome": "SUCCEEDED", "partialProgress": {"x": "x" * 20_000}}, "partialProgress"),
    ],
)
async def test_what_single_callbacks_must_have(attempt: Attempt, what: str, bad: dict[str, Any], field: str) -> None:
    assert (await refused(attempt, what, 400, "invalid_argument", **bad))["field"] == field


async def test_a_result_that_is_too_large_is_refused(attempt: Attempt) -> None:
    error = {"category": "USER_CODE", "message": "m" * 100_000, "stackTrace": "å" * 100_000}
    found = await refused(attempt, "completed", 413, "payload_too_large", outcome="FAILED", error=error)
    assert found["field"] == "body"
    assert (await attempt.task())["state"] == "DISPATCHED"


@ANY_CALL
async def test_a_task_that_is_not_there(world: World, what: str, more: dict[str, Any]) -> None:
    await refused(Attempt(world, "run_x"), what, 404, "task_not_found", **more)


@ANY_CALL
async def test_tokens_that_are_not_this_attempts(attempt: Attempt, what: str, more: dict[str, Any]) -> None:
    now = int(time.time())
    other_run = Attempt(attempt.world, (await start(attempt.world, select=["*"], run_key="other"))["run_id"])
    await other_run.dispatch()
    strangers = TaskTokens("another secret of somebody, of 32 bytes or more")
    of_another_key = strangers.make(attempt.claims(), now_s=now, expires_s=now + 60)
    unsigned = jwt.encode({"aud": AUDIENCE, "iss": ISSUER}, "", algorithm="none")
    claims = {"taskId": attempt.task_id, "aud": AUDIENCE, "iss": ISSUER, "exp": now + 60}
    for token, message in {
        attempt.token(now_s=now - 7_200): "expired",
        attempt.token(now_s=now + 3_600): "no token of an attempt",
        of_another_key: "no token of an attempt",
        unsigned: "no token of an attempt",
        "x.y.z": "no token of an attempt",
        attempt.world.token(): "no token of an attempt",
        jwt.encode(claims, SECRET, algorithm="HS256"): "no token of an attempt",
        other_run.token(): "task_id_mismatch",
        attempt.token(run_id=other_run.run_id): "run_id_mismatch",
        attempt.token(attempt=2): "attempt_mismatch",
        attempt.token(attempt_id="att_x"): "attempt_id_mismatch",
    }.items():
        found = await refused(attempt, what, 401, "invalid_token", token=token, **more)
        assert message in found["message"], (message, found)
        assert token not in str(found)
    # A token of the same names in another workspace finds nothing there.
    assert attempt.scope != RIVAL
    await refused(attempt, what, 404, "task_not_found", token=attempt.token(scope=RIVAL), **more)
    # The other way round: the token of an attempt opens nothing else.
    headers = {"Authorization": f"Bearer {attempt.token()}"}
    for method, url in (("GET", f"{V1}/runs"), ("POST", f"{V1}/ledger/events"), ("POST", TIMERS)):
        answer = await attempt.world.client.request(method, url, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (401, "INVALID_TOKEN")


@ANY_CALL
async def test_without_a_token(attempt: Attempt, what: str, more: dict[str, Any]) -> None:
    for headers in ({"Authorization": ""}, {"Authorization": "Basic eA=="}):
        answer = await attempt.world.client.post(
            f"{V1}/tasks/{attempt.task_id}/{what}", json=attempt.who | more, headers=headers
        )
        assert (answer.status_code, answer.json()["error"]) == (401, "invalid_token")
        assert answer.json()["code"] == "MISSING_TOKEN"


async def test_an_api_without_a_secret_takes_no_callbacks(attempt: Attempt) -> None:
    app = create_app(replace(attempt.world.deps, task_tokens=None, metrics=fresh()))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://api.test") as client:
        url = f"{V1}/tasks/{attempt.task_id}/started"
        answer = await client.post(url, json=attempt.who, headers={"Authorization": f"Bearer {attempt.token()}"})
    assert answer.status_code == 401
    assert answer.json()["field"] == "SPRINGLINE_TASK_SECRET"


@ANY_CALL
async def test_a_task_that_has_ended(attempt: Attempt, what: str, more: dict[str, Any]) -> None:
    await attempt.ok("completed", outcome="FAILED", error={"category": "CONFIGURATION", "message": "no"})
    status, error = (410, "task_expired") if what == "heartbeat" else (409, "task_already_terminal")
    found = await refused(attempt, what, status, error, **more)
    assert found["state"] == "FAILED"


@ANY_CALL
async def test_an_attempt_that_has_ended_while_another_follows(
    attempt: Attempt, what: str, more: dict[str, Any]
) -> None:
    await attempt.ok("completed", outcome="FAILED")
    found = await refused(attempt, what, 409, "attempt_already_completed", **more)
    assert (found["state"], found["expectedAttempt"]) == ("RETRY_WAIT", 1)


@ANY_CALL
async def test_an_older_attempt_is_told_so_and_not_that_its_token_is_wrong(
    attempt: Attempt, what: str, more: dict[str, Any]
) -> None:
    await attempt.ok("completed", outcome="FAILED")
    second = replace(attempt, number=2)
    await second.dispatch()
    found = await refused(attempt, what, 409, "attempt_mismatch", **more)
    assert {name: found[name] for name in found if name.startswith(("expected", "received"))} == {
        "expectedAttempt": 2,
        "receivedAttempt": 1,
        "expectedAttemptId": second.attempt_id,
        "receivedAttemptId": attempt.attempt_id,
    }
    assert (await second.task())["state"] == "DISPATCHED"


@ANY_CALL
async def test_another_attempt_of_the_same_number(attempt: Attempt, what: str, more: dict[str, Any]) -> None:
    run_id = (await start(attempt.world, select=["*"], run_key="other"))["run_id"]
    await attempt.world.appended(started("raw", 1, run_id, attempt_id="att_of_another_cluster"))
    found = await refused(replace(attempt, run_id=run_id), what, 409, "attempt_id_mismatch", **more)
    assert found["expectedAttemptId"] == "att_of_another_cluster"


async def test_a_cancelled_run_stops_its_attempts_with_the_next_heartbeat(attempt: Attempt) -> None:
    await attempt.ok("started")
    await attempt.world.appended(cancelled(attempt.run_id))
    assert (await refused(attempt, "started", 409, "task_already_terminal"))["state"] == "CANCELLED"
    beat = await attempt.ok("heartbeat")
    assert (beat["shouldCancel"], beat["cancelReason"]) == (True, "user_requested")
    assert (await attempt.ok("completed", outcome="CANCELLED"))["finalState"] == "CANCELLED"
    assert (await attempt.task())["state"] == "CANCELLED"
    again = await attempt.call("completed", outcome="CANCELLED")
    assert (again.status_code, again.headers["Idempotency-Replayed"]) == (200, "true")


async def test_a_failure_in_a_cancelled_run_is_repeated_as_any_other(attempt: Attempt) -> None:
    await attempt.ok("started")
    await attempt.world.appended(cancelled(attempt.run_id))
    error = {"category": "USER_CODE", "message": "stopped"}
    for replayed in ("false", "true"):
        answer = await attempt.call("completed", outcome="FAILED", error=error)
        assert (answer.status_code, answer.headers["Idempotency-Replayed"]) == (200, replayed)
    assert (await attempt.task())["state"] == "CANCELLED"


async def test_an_attempt_that_had_not_started_when_its_run_was_cancelled(attempt: Attempt) -> None:
    await attempt.world.appended(cancelled(attempt.run_id))
    assert (await refused(attempt, "started", 409, "task_already_terminal"))["state"] == "CANCELLED"
    assert (await refused(attempt, "heartbeat", 410, "task_expired"))["state"] == "CANCELLED"


async def test_a_success_that_comes_before_the_end_of_a_cancelled_attempt_counts(attempt: Attempt) -> None:
    await attempt.ok("started")
    await attempt.world.appended(cancelled(attempt.run_id))
    await attempt.ok("completed", outcome="SUCCEEDED")
    assert (await attempt.task())["state"] == "SUCCEEDED"


async def test_ids_with_slashes_and_percent_signs(world: World) -> None:
    key = "raw[2024/01 å%2F]"
    plan = {"type": "plan_created", "run_id": "r/1", "plan_id": "p", "tasks": [{"key": key, "depends_on": []}]}
    trigger = {"type": "manual", "user_id": "ada"}
    begun = {"type": "run_triggered", "run_id": "r/1", "plan_id": "p", "trigger": trigger, "root_assets": []}
    await world.appended(begun, plan)
    attempt = Attempt(world, "r/1", key)
    await attempt.dispatch()
    for what, more in CALLS:
        await attempt.ok(what, **more)
    (task,) = (await world.client.get(f"{V1}/runs/r%2F1")).json()["tasks"]
    assert (task["task_key"], task["state"]) == (key, "SUCCEEDED")


async def test_a_store_that_does_not_answer_is_503(attempt: Attempt, monkeypatch: pytest.MonkeyPatch) -> None:
    async def unavailable(*_: Any) -> None:
        raise refusal(Code.UNAVAILABLE, "no answer", remedy="Again.")

    monkeypatch.setattr(attempt.world.ledger, "append", unavailable)
    found = await refused(attempt, "started", 503, "unavailable")
    assert found["code"] == "UNAVAILABLE"


# Deploys.


async def test_a_url_that_no_operator_allows_is_not_deployed(world: World) -> None:
    for url, remedy in (
        ("https://elsewhere.example.com/raw", "SPRINGLINE_HTTP_WORKERS"),
        ("https://workers.example.com/other", "SPRINGLINE_HTTP_WORKERS"),
        ("https://workers.example.com/tasks-of-others", "SPRINGLINE_HTTP_WORKERS"),
        ("https://workers.example.com:8443/tasks", "SPRINGLINE_HTTP_WORKERS"),
        ("http://workers.example.com/tasks", "SPRINGLINE_HTTP_WORKERS"),
    ):
        before = world.snapshot()
        answer = await world.client.post(f"{V1}/manifests", json=location("a", asset("b"), asset("raw", url=url)))
        assert answer.status_code == 400, answer.text
        found = answer.json()
        assert (found["field"], found["value"]) == ("assets[1].url", url)
        assert remedy in found["remedy"]
        assert world.snapshot() == before


async def test_without_a_secret_nothing_over_http_is_deployed(world: World) -> None:
    app = create_app(replace(world.deps, task_tokens=None, metrics=fresh()))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://api.test") as client:
        answer = await client.post(f"{V1}/manifests", json=PIPELINE, headers=world.bearer())
    assert (answer.status_code, answer.json()["field"]) == (400, "assets[0].url")
    assert "SPRINGLINE_TASK_SECRET" in answer.json()["remedy"]


# Timers.


@pytest.mark.parametrize("name", ["timerId", "timer_id"])
async def test_a_timer_of_a_foreign_system_is_fired_once(world: World, name: str) -> None:
    timer_id = "timer:retry:r:a:1:1736935240"
    for _ in range(2):
        answer = await world.client.post(TIMERS, json={name: timer_id, "attempt": 1, "fireAt": "2025-01-15T10:00:40Z"})
        assert (answer.status_code, answer.json()) == (200, {"acknowledged": True, "effectiveOnce": True})
    (timer,) = (await world.client.get(f"{V1}/timers")).json()["items"]
    assert (timer["timer_id"], timer["state"], timer["timer_type"]) == (timer_id, "FIRED", "RETRY")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "timerId"),
        ({"timerId": ""}, "timerId"),
        ({"timerId": "timer:retry:r:a:1:1", "attempt": 0}, "attempt"),
        ({"timerId": "timer:retry:r:a:1:1", "timerType": "retry"}, "timerType"),
        ({"timerId": "timer:retry:r:a:1:1", "fireAt": "now"}, "fireAt"),
        ({"timerId": "mine"}, "timerType"),
        ({"timerId": "timer:retry:r:a:1:1", "strange": 1}, "strange"),
    ],
)
async def test_a_timer_that_says_too_little(world: World, body: dict[str, Any], field: str) -> None:
    before = world.snapshot()
    answer = await world.client.post(TIMERS, json=body)
    assert answer.status_code == 400, answer.text
    assert answer.json()["field"] == field
    assert world.snapshot() == before


async def test_a_timer_that_nobody_knows_is_a_conflict(world: World) -> None:
    answer = await world.client.post(TIMERS, json={"timerId": "mine", "timerType": "RETRY"})
    assert (answer.status_code, answer.json()["field"]) == (409, "timerId")


async def test_timers_need_a_token_that_may_write(world: World) -> None:
    assert (await world.client.post(TIMERS, json={"timerId": "x"}, headers={"Authorization": ""})).status_code == 401
    answer = await world.client.post(TIMERS, json={"timerId": "x"}, headers=world.bearer(scopes=["read"]))
    assert (answer.status_code, answer.json()["code"]) == (403, "FORBIDDEN")
