"""A workspace whose assets are made over HTTP: a worker that notes what is posted, and the API that it calls back."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import httpx
from temporalio.client import Client

from entrypoints.temporal_ledger import TemporalLedgerGateway
from entrypoints.temporal_runs import TemporalRuns
from springline.api.app import create_app
from springline.api.tokens import make_token
from springline.commit.coalescer import CommitCoalescer
from springline.definitions.urls import AllowedUrls
from springline.runs.posting import AttemptPoster
from springline.sequencer.coalescer import LedgerCoalescer
from tests.support.local_api import SECRET, TASK_TOKENS, local_deps
from tests.support.local_sequencer import LocalSequencer
from tests.workflows.faults import Faults
from tests.workflows.runs_bench import RunsBench

URL = "http://127.0.0.1:9/tasks"
API = "http://api.test"

Envelope = dict[str, Any]


class HttpBench(RunsBench):
    """Runs whose attempts are posted to `URL`.

    `envelopes`: what was posted, in order. `statuses`: what the next posts are answered, 202 when they are used up; 0:
    the worker gets the envelope and its answer is lost; -1: it is not reached at all.
    """

    def __init__(self, client: Client, faults: Faults, max_cached_workflows: int) -> None:
        super().__init__(client, faults, max_cached_workflows)
        self.envelopes: list[Envelope] = []
        self.statuses: list[int] = []
        self._news = asyncio.Condition()
        self._ledger = LedgerCoalescer(TemporalLedgerGateway(client, garbage_interval=0))
        sequencer = LocalSequencer(self.objects)
        deps = local_deps(self.objects, sequencer, CommitCoalescer(sequencer, deadline_s=5.0))
        app = create_app(replace(deps, ledger=self._ledger, runs=TemporalRuns(client)))
        self.api = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=API)

    async def start_worker(self, **settings: Any) -> None:
        poster = AttemptPoster(
            AllowedUrls([URL]), TASK_TOKENS, API, time.time, transport=httpx.MockTransport(self._take)
        )
        await super().start_worker(**{"poster": poster, **settings})

    async def end(self) -> None:
        await super().end()
        await self.api.aclose()
        await self._ledger.aclose()

    async def _take(self, request: httpx.Request) -> httpx.Response:
        status = self.statuses.pop(0) if self.statuses else 202
        if status >= 0:
            async with self._news:
                self.envelopes.append(json.loads(request.content))
                self._news.notify_all()
        if status <= 0:
            raise httpx.ConnectError("refused")
        return httpx.Response(status, text="as it was told to")

    async def posted(self, number: int) -> Envelope:
        """Wait for the envelope of this number, from 1, and return it."""
        async with self._news:
            await asyncio.wait_for(self._news.wait_for(lambda: len(self.envelopes) >= number), 240)
        return self.envelopes[number - 1]

    async def call(self, envelope: Envelope, what: str, **more: Any) -> httpx.Response:
        """Call back about the attempt of an envelope."""
        body = {"attempt": envelope["attempt"], "attemptId": envelope["attemptId"], "workerId": "w-1", **more}
        return await self.api.post(
            f"/api/v1/tasks/{envelope['taskId']}/{what}",
            json=body,
            headers={"Authorization": f"Bearer {envelope['taskToken']}"},
        )

    async def called(self, envelope: Envelope, what: str, **more: Any) -> dict[str, Any]:
        """Call back, and return the answer, which must be a good one."""
        answer = await self.call(envelope, what, **more)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    async def attempts_of(self, run_id: str, task: str) -> list[tuple[int, str, str | None]]:
        """Return number, outcome and category of the attempts of a task that have ended."""
        rows: Sequence[dict[str, Any]] = await self.rows("x_attempts", run_id, task)
        return sorted((one["attempt"], one["outcome"], one["category"]) for one in rows)

    def users_token(self) -> str:
        """Return a token of a user of the workspace."""
        return make_token(SECRET, self.scope, subject="tester")
