"""Workers over HTTP on real processes: the example of the documentation, and one that the test plays itself."""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from springline.local.ports import LOOPBACK, free_ports
from springline.local.stack import EmbeddedStack
from springline.paths import Scope
from tests.api.conftest import V1
from tests.support.definitions import asset
from tests.support.forked_stack import ForkedStack

EXAMPLE = Path(__file__).parents[2] / "docs/examples/worker.py"
RUNS = f"{V1}/runs"
DEADLINE_S = 240
Json = dict[str, Any]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedStack]:
    root: Path = tmp_path_factory.mktemp("stack")
    with ForkedStack(root, scope=Scope("acme", "dev"), workers=1) as running:
        yield running


class User:
    """A user of the API, and of the workers' callbacks."""

    def __init__(self, stack: EmbeddedStack) -> None:
        self.client = httpx.Client(
            base_url=stack.api_url, headers={"Authorization": f"Bearer {stack.token()}"}, timeout=240
        )

    def deploy(self, location: str, *assets: Json) -> None:
        answer = self.client.post(f"{V1}/manifests", json={"location": location, "assets": list(assets)})
        assert answer.status_code in (200, 201), answer.text

    def start(self, *select: str, **config: Any) -> str:
        answer = self.client.post(RUNS, json={"select": list(select), "config": config})
        assert answer.status_code in (200, 201), answer.text
        return str(answer.json()["run_id"])

    def run(self, run_id: str) -> Json:
        found: Json = self.client.get(f"{RUNS}/{run_id}").json()
        return found

    def task(self, run_id: str, key: str) -> Json:
        return next(one for one in self.run(run_id)["tasks"] if one["task_key"] == key)

    def attempts(self, run_id: str, key: str) -> list[tuple[int, str, str | None]]:
        items = self.client.get(f"{RUNS}/{run_id}/attempts").json()["items"]
        return sorted(
            (one["attempt"], one["outcome"].upper(), one.get("category")) for one in items if one["task_key"] == key
        )

    def until(self, condition: Callable[[], bool], what: Callable[[], object]) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while not condition():
            assert time.monotonic() < deadline, what()
            time.sleep(0.05)

    def ended(self, run_id: str) -> str:
        def state() -> str:
            return str(self.run(run_id)["run"]["state"])

        self.until(lambda: state() not in ("TRIGGERED", "RUNNING"), lambda: self.run(run_id))
        return state()

    def call(self, envelope: Json, what: str, worker: str = "test", **more: Any) -> httpx.Response:
        who = {"attempt": envelope["attempt"], "attemptId": envelope["attemptId"], "workerId": worker}
        return httpx.post(
            f"{envelope['callbackBaseUrl']}{V1}/tasks/{envelope['taskId']}/{what}",
            json=who | more,
            headers={"Authorization": f"Bearer {envelope['taskToken']}"},
            timeout=240,
        )


@pytest.fixture
def user(stack: EmbeddedStack) -> Iterator[User]:
    made = User(stack)
    yield made
    made.client.close()


@contextmanager
def example(port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Run the example of the documentation."""
    process = subprocess.Popen([sys.executable, str(EXAMPLE), str(port)])
    try:
        yield process
    finally:
        process.kill()
        process.wait()


class Played:
    """A worker that the test plays: `envelopes` come in, and nothing happens unless the test makes it happen."""

    def __init__(self) -> None:
        self.envelopes: queue.Queue[Json] = queue.Queue()
        envelopes = self.envelopes

        class Door(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                envelopes.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(202)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer((LOOPBACK, 0), Door)
        self.url = f"http://{LOOPBACK}:{self._server.server_port}/attempts"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def next(self) -> Json:
        return self.envelopes.get(timeout=DEADLINE_S)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)


@pytest.fixture
def played() -> Iterator[Played]:
    made = Played()
    yield made
    made.close()


def test_the_example_makes_what_is_posted_to_it_and_waits_for_nobody(user: User) -> None:
    (port,) = free_ports(1)
    user.deploy(
        "example",
        asset("prices", url=f"http://{LOOPBACK}:{port}/"),
        asset("sums", "prices", url=f"http://{LOOPBACK}:{port}/"),
    )
    run_id = user.start("*sums")
    # The worker may come up later than the run.
    user.until(lambda: user.task(run_id, "prices")["state"] == "DISPATCHED", lambda: user.run(run_id))
    with example(port):
        assert user.ended(run_id) == "SUCCEEDED"
    assert user.attempts(run_id, "prices") == [(1, "SUCCEEDED", None)]
    assert user.task(run_id, "sums")["output_visibility_state"] == "visible"


def test_a_worker_that_dies_silently_loses_its_attempt_to_the_next_one(user: User) -> None:
    (port,) = free_ports(1)
    user.deploy("dies", asset("long", url=f"http://{LOOPBACK}:{port}/", heartbeat_ms=2_000))
    run_id = user.start("long", seconds=3)
    with example(port):
        user.until(lambda: user.task(run_id, "long")["state"] == "RUNNING", lambda: user.run(run_id))
    user.until(lambda: user.task(run_id, "long")["attempt"] == 2, lambda: user.run(run_id))
    with example(port):
        assert user.ended(run_id) == "SUCCEEDED"
    assert user.attempts(run_id, "long") == [(1, "FAILED", "INFRASTRUCTURE"), (2, "SUCCEEDED", None)]


def test_a_cancellation_reaches_the_example_with_its_next_heartbeat(user: User) -> None:
    (port,) = free_ports(1)
    user.deploy("cancelled", asset("endless", url=f"http://{LOOPBACK}:{port}/", heartbeat_ms=2_000))
    with example(port):
        run_id = user.start("endless", seconds=3_600)
        user.until(lambda: user.task(run_id, "endless")["state"] == "RUNNING", lambda: user.run(run_id))
        answer = user.client.post(f"{RUNS}/{run_id}/cancel", json={"reason": "enough"})
        assert answer.status_code in (200, 202), answer.text
        assert user.ended(run_id) == "CANCELLED"
    (attempt,) = user.client.get(f"{RUNS}/{run_id}/attempts").json()["items"]
    # Its worker has said so itself.
    assert attempt["worker_id"].startswith("worker-")
    assert attempt["outcome"] == "cancelled"


def test_an_envelope_that_comes_twice_is_run_once(user: User, played: Played, stack: EmbeddedStack) -> None:
    user.deploy("twice", asset("once", url=played.url))
    run_id = user.start("once")
    first = played.next()
    # The run's workflow is gone before anybody has started the attempt: the next one posts it again.
    user.until(lambda: user.task(run_id, "once")["state"] == "DISPATCHED", lambda: user.run(run_id))
    stack.wipe_temporal()
    second = played.next()
    assert (second["attemptId"], second["dispatchId"]) == (first["attemptId"], first["dispatchId"])
    assert user.call(first, "started", "one").status_code == 200
    other = user.call(second, "started", "two")
    assert (other.status_code, other.json()["error"]) == (409, "attempt_taken")
    assert user.call(first, "completed", "one", outcome="SUCCEEDED").status_code == 200
    assert user.ended(run_id) == "SUCCEEDED"
    assert user.attempts(run_id, "once") == [(1, "SUCCEEDED", None)]


def test_an_end_that_comes_after_a_retry_changes_nothing(user: User, played: Played) -> None:
    user.deploy("late", asset("slow", url=played.url, heartbeat_ms=1_000))
    run_id = user.start("slow")
    first = played.next()
    assert user.call(first, "started").status_code == 200
    second = played.next()
    assert second["attempt"] == 2
    assert user.call(second, "started").status_code == 200
    late = user.call(first, "completed", outcome="FAILED", error={"category": "USER_CODE", "message": "late"})
    assert (late.status_code, late.json()["error"], late.json()["expectedAttempt"]) == (409, "attempt_mismatch", 2)
    assert user.call(second, "completed", outcome="SUCCEEDED").status_code == 200
    again = user.call(first, "completed", outcome="FAILED")
    assert (again.status_code, again.json()["error"]) == (409, "task_already_terminal")
    assert user.ended(run_id) == "SUCCEEDED"
    assert user.attempts(run_id, "slow") == [(1, "FAILED", "INFRASTRUCTURE"), (2, "SUCCEEDED", None)]


def test_a_foreign_token_opens_no_attempt(user: User, played: Played) -> None:
    user.deploy("foreign", asset("mine", url=played.url))
    one, other = user.start("mine"), user.start("mine")
    envelopes = {envelope["runId"]: envelope for envelope in (played.next(), played.next())}
    mixed = envelopes[one] | {"taskToken": envelopes[other]["taskToken"]}
    answer = user.call(mixed, "completed", outcome="SUCCEEDED")
    assert (answer.status_code, answer.json()["error"]) == (401, "invalid_token")
    assert user.task(one, "mine")["state"] == "DISPATCHED"
    for envelope in envelopes.values():
        assert user.call(envelope, "completed", outcome="SUCCEEDED").status_code == 200
    assert [user.ended(run_id) for run_id in (one, other)] == ["SUCCEEDED"] * 2
