"""Posting attempts: what is sent, and what each answer of a worker comes to."""

from __future__ import annotations

import asyncio
import gzip
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from springline.control.runs.messages import AttemptOrder, Posted
from springline.definitions.urls import AllowedUrls
from springline.errors import Refused
from springline.runs.posting import AttemptPoster, WorkerNotReady
from springline.runs.task_tokens import AFTER_TIMEOUT_S, TaskTokens

URL = "https://workers.example.com/tasks"
NOW_S = 1_736_935_200
TOKENS = TaskTokens("a secret of the tests, 32 bytes or more")
ORDER = AttemptOrder(
    tenant="acme",
    workspace="prod",
    run_id="run_1",
    task_key="raw[2024-01-31]",
    asset_key="raw",
    partition_key="2024-01-31",
    attempt=2,
    attempt_id="att_1",
    scope="run_0",
    manifest_id="m",
    location="flights",
    config={"rows": 3},
    timeout_ms=600_000,
    heartbeat_ms=1_500,
    url=URL,
)


class Worker:
    """A worker that answers as it is told to; `seen` are the requests that it got."""

    def __init__(self, answer: httpx.Response | Exception) -> None:
        self.answer = answer
        self.seen: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.seen.append(request)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def poster(worker: Worker, **more: Any) -> AttemptPoster:
    settings: dict[str, Any] = {
        "allowed": AllowedUrls([URL]),
        "tokens": TOKENS,
        "callback_url": "https://springline.example.com/",
        "now_s": lambda: float(NOW_S),
    }
    return AttemptPoster(**settings | more, transport=httpx.MockTransport(worker))


async def test_an_envelope_names_the_attempt_and_brings_a_token_for_it() -> None:
    worker = Worker(httpx.Response(202))
    assert await poster(worker).post(ORDER) == Posted()
    (request,) = worker.seen
    assert (request.method, str(request.url)) == ("POST", URL)
    assert request.headers["Content-Type"] == "application/json"
    envelope = json.loads(request.content)
    assert envelope["partitionKey"] == "2024-01-31"
    assert envelope["heartbeatTimeoutSec"] == 2
    assert envelope["callbackBaseUrl"] == "https://springline.example.com"
    assert envelope["payload"] == {
        "assetKey": "raw",
        "manifestId": "m",
        "scope": "run_0",
        "timeoutMs": 600_000,
        "config": {"rows": 3},
    }
    expires_s = NOW_S + 600 + AFTER_TIMEOUT_S
    assert envelope["tokenExpiresAt"] == "2025-01-15T10:15:00Z"
    # It is of another time, so that it cannot be verified by today's clock; what it says can.
    with pytest.raises(Refused):
        TOKENS.verify(f"Bearer {envelope['taskToken']}")
    claims = json.loads(_decoded(envelope["taskToken"].split(".")[1]))
    assert claims["exp"] == expires_s
    assert (claims["taskId"], claims["attempt"], claims["attemptId"]) == (envelope["taskId"], 2, "att_1")
    assert (claims["tenantId"], claims["workspaceId"], claims["runId"]) == ("acme", "prod", "run_1")


def _decoded(text: str) -> bytes:
    import base64

    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


@pytest.mark.parametrize("status", [200, 202, 204, 409])
async def test_a_worker_that_has_it_has_taken_it(status: int) -> None:
    assert await poster(Worker(httpx.Response(status))).post(ORDER) == Posted()


@pytest.mark.parametrize(
    "answer",
    [
        *(httpx.Response(status, text="busy") for status in (408, 425, 429, 500, 502, 503, 599)),
        httpx.ConnectError("refused"),
        httpx.ReadTimeout("slow"),
        httpx.RemoteProtocolError("garbage"),
    ],
)
async def test_what_may_be_better_later_is_tried_again(answer: httpx.Response | Exception) -> None:
    with pytest.raises(WorkerNotReady, match=r"^https://workers\.example\.com/tasks "):
        await poster(Worker(answer)).post(ORDER)


@pytest.mark.parametrize("status", [301, 307, 400, 401, 403, 404, 410, 422])
async def test_what_a_worker_refuses_is_final_and_told_in_its_words(status: int) -> None:
    headers = {"Location": "http://169.254.169.254/"}
    worker = Worker(httpx.Response(status, text="no\nsuch asset" + "x" * 10_000, headers=headers))
    posted = await poster(worker).post(ORDER)
    assert posted.refused is not None
    assert f"answered {status}: no\\nsuch asset" in posted.refused
    assert len(posted.refused) < 500
    assert len(worker.seen) == 1, "a redirect leads nowhere"


class Body(httpx.AsyncByteStream):
    """The body of an answer, piece by piece; it may never end. `given`: bytes that were taken of it."""

    def __init__(self, pieces: list[bytes], *, ends: bool = True) -> None:
        self._pieces = pieces
        self._ends = ends
        self.given = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            self.given += len(piece)
            yield piece
        if not self._ends:
            await asyncio.Event().wait()


async def test_an_answer_that_says_it_is_compressed_is_not_unpacked() -> None:
    """It was asked for without: what it unpacks to has no bound, and what it is not must not hide its status."""
    bomb = gzip.compress(b"\0" * 1_000_000)
    for pieces in ([bomb], [b"no gzip at all"]):
        body = Body(pieces)
        answer = httpx.Response(400, stream=body, headers={"Content-Encoding": "gzip"})
        posted = await poster(Worker(answer)).post(ORDER)
        assert posted.refused is not None and "answered 400: its words are packed by gzip" in posted.refused
        assert body.given == 0


async def test_no_more_of_an_answer_is_read_than_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    long = Body([b"x" * 500] * 100)
    assert (await poster(Worker(httpx.Response(400, stream=long))).post(ORDER)).refused is not None
    assert long.given <= 2_500
    monkeypatch.setattr("springline.runs.posting.WITHIN_S", 0.01)
    endless = Body([b"slow"], ends=False)
    with pytest.raises(WorkerNotReady, match="no whole answer"):
        await poster(Worker(httpx.Response(400, stream=endless))).post(ORDER)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"allowed": AllowedUrls()}, "nothing is allowed"),
        ({"allowed": AllowedUrls(["https://other.example.com"])}, "is not among the URLs"),
        ({"tokens": None}, "SPRINGLINE_TASK_SECRET is not set"),
        ({"callback_url": None}, "SPRINGLINE_CALLBACK_URL is not set"),
    ],
)
async def test_what_is_not_configured_is_not_sent(more: dict[str, Any], said: str) -> None:
    worker = Worker(httpx.Response(202))
    posted = await poster(worker, **more).post(ORDER)
    assert said in str(posted.refused)
    assert worker.seen == []


def test_a_worker_that_posts_nothing_loads_nothing_for_it() -> None:
    """The HTTP client and the cryptography library are a twelfth of what a worker takes to start."""
    heavy = {"httpx", "rich", "jwt", "cryptography"}
    script = f"import sys, springline.runs.posting; print(sorted({heavy} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
