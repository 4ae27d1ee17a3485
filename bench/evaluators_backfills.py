"""Backfills on the embedded stack: how fast chunks are planned, and a backfill of a million partitions.

No worker takes attempts. So the runs of the first chunks stay under way, as many as a workspace lets run at once, and
the chunks behind them wait, as those of every long backfill do; what is measured is planned on top of these.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import psutil

from bench.evaluators_stack import Say, TooSlow, token_of
from bench.measure import percentile
from entrypoints.connection import connect
from springline import names
from springline.client import Springline
from springline.client.http import ApiClient
from springline.ledger.timestamps import parse_timestamp
from springline.local.stack import EmbeddedStack, worker_name
from springline.paths import Scope

SCOPE: Final = Scope("bench", "backfills")
FIRST: Final = datetime(1900, 1, 1)
HOURS: Final = {
    "location": "bench",
    "assets": [{"key": "hours", "dependencies": [], "partitions": {"kind": "hourly", "start": f"{FIRST:%Y-%m-%dT%H}"}}],
}
"""More than a million of its partitions are complete."""
UNLIMITED: Final = 1_000
"""The most runs of a backfill at once that can be asked for."""
LOOKS: Final = 20
WAITS_S: Final = 240.0
NOTHING_MORE_S: Final = 3.0
"""So long nothing may be planned behind a pause."""
_POLL_S: Final = 0.02


@contextmanager
def backfilling(stack: EmbeddedStack, say: Say) -> Iterator[Backfilling]:
    """Deploy an asset of hours into a workspace of a stack, for backfills over it."""
    token = token_of(stack, SCOPE)
    api = ApiClient(stack.api_url, token, deadline_s=120)
    try:
        api.call("POST", "/api/v1/manifests", body=HOURS)
        with Springline(stack.api_url, token, deadline_s=300) as lake:
            yield Backfilling(stack, lake, api, say)
    finally:
        api.close()


@dataclass(slots=True)
class Backfilling:
    """Backfills of one workspace. `warm`: as many runs are under way as may be. `long_one`: one that is long."""

    stack: EmbeddedStack
    lake: Springline
    api: ApiClient
    say: Say
    warm: bool = False
    long_one: str | None = None

    def planning(self, backfills: int, chunks: int) -> float:
        """Return how many chunks are planned in a second: from the request for a backfill to the last in the ledger."""
        self._warm()
        took = 0.0
        for _ in range(backfills):
            backfill_id = self._created(chunks, at_once=UNLIMITED)
            self._wait_planned(backfill_id, chunks)
            took += self._span_s(backfill_id)
        return backfills * chunks / took

    def memory_mib(self, partitions: int, chunks: int) -> float:
        """Return by how much the worker grows, at most, while the first chunks of a long backfill are planned."""
        self._warm()
        worker = psutil.Process(self.stack.child(worker_name(1)).pid)
        before = worker.memory_info().rss
        sizes = [before]
        self._long_one(partitions, chunks, lambda: sizes.append(worker.memory_info().rss))
        return (max(sizes) - before) / 2**20

    def page_s(self, partitions: int, chunks: int) -> float:
        """Return the p99 of how long the page of a long backfill takes, after the first, in s."""
        backfill_id = self._long_one(partitions, chunks)
        took = []
        for _ in range(1 + LOOKS):
            began = time.perf_counter()
            found = self.lake.backfills.get(backfill_id)
            took.append(time.perf_counter() - began)
        if found["progress"]["total"] != partitions:
            raise TooSlow(f"the page of {backfill_id} has {found['progress']['total']:,} partitions")
        return percentile(took[1:], 0.99)

    def pause_s(self, partitions: int, times: int) -> float:
        """Pause a long backfill while its chunks are planned; return the longest until it is, in s."""
        self._warm()
        return max(asyncio.run(self._paused(self._created(partitions, at_once=UNLIMITED))) for _ in range(times))

    async def _paused(self, backfill_id: str) -> float:
        client = await connect(address=self.stack.temporal_address)
        evaluator = client.get_workflow_handle(names.backfill_evaluator_id(SCOPE.tenant, SCOPE.workspace, backfill_id))
        deadline = time.monotonic() + WAITS_S
        while not await asyncio.to_thread(self._chunks_planned, backfill_id):
            if time.monotonic() > deadline:
                raise TooSlow(f"no chunk of {backfill_id} is planned after {WAITS_S:g} s")
            await asyncio.sleep(_POLL_S)
        began = time.monotonic()
        await asyncio.to_thread(self.lake.backfills.pause, backfill_id)
        answered = time.monotonic() - began
        while True:
            said: dict[str, Any] = await evaluator.query(names.STATUS_QUERY)
            if said["state"] == "PAUSED":
                break
            if time.monotonic() - began > WAITS_S:
                raise TooSlow(f"{backfill_id} is {said['state']} {WAITS_S:g} s after the request to pause it")
            await asyncio.sleep(_POLL_S)
        took = time.monotonic() - began
        planned = await asyncio.to_thread(self._chunks_planned, backfill_id)
        await asyncio.sleep(NOTHING_MORE_S)
        later = await asyncio.to_thread(self._chunks_planned, backfill_id)
        if later != planned or said["progress"]["chunks_planned"] != planned:
            raise TooSlow(f"{later:,} chunks of {backfill_id} are planned, and {planned:,} were when it was paused")
        self.say(f"the pause is on record after {answered:.2f} s, seen after {took:.2f} s; {planned:,} chunks planned")
        return took

    def _warm(self) -> None:
        """Let as many runs be under way as a workspace has at once, and some more wait."""
        if self.warm:
            return
        self.say(f"{UNLIMITED // 2:,} runs are asked for, and as many begin as may be under way at once")
        self._wait_planned(self._created(UNLIMITED // 2, at_once=UNLIMITED), UNLIMITED // 2)
        deadline = time.monotonic() + WAITS_S
        begun = -1
        while (now := sum(1 for _ in self.lake.state.runs(state=["TRIGGERED", "RUNNING"]))) != begun or not begun:
            if time.monotonic() > deadline:
                raise TooSlow(f"runs begin to be under way still {WAITS_S:g} s after they were asked for")
            begun = now
            time.sleep(5)
        self.say(f"{begun} runs are under way")
        self.warm = True

    def _long_one(self, partitions: int, chunks: int, look: Callable[[], object] = lambda: None) -> str:
        """Return a backfill of so many partitions, of which so many chunks are planned; `look` is called meanwhile."""
        if self.long_one is None:
            size = max(1, min(100, partitions // (2 * chunks)))
            self.long_one = self._created(partitions, at_once=chunks, chunk_size=size)
            self._wait_planned(self.long_one, chunks, look)
        return self.long_one

    def _created(self, partitions: int, *, at_once: int, chunk_size: int = 1) -> str:
        last = FIRST + timedelta(hours=partitions - 1)
        made = self.lake.backfills.create(
            "hours",
            start=f"{FIRST:%Y-%m-%dT%H}",
            end=f"{last:%Y-%m-%dT%H}",
            chunk_size=chunk_size,
            max_concurrent_runs=at_once,
        )
        if made["total_partitions"] != partitions:
            raise TooSlow(f"a backfill of {partitions:,} partitions has {made['total_partitions']:,}")
        return str(made["backfill_id"])

    def _wait_planned(self, backfill_id: str, chunks: int, look: Callable[[], object] = lambda: None) -> None:
        deadline = time.monotonic() + WAITS_S
        while (planned := self._chunks_planned(backfill_id)) < chunks:
            look()
            if time.monotonic() > deadline:
                raise TooSlow(f"{planned:,} of {chunks:,} chunks of {backfill_id} are planned after {WAITS_S:g} s")
            time.sleep(1)
        look()

    def _chunks_planned(self, backfill_id: str) -> int:
        progress = self.lake.backfills.get(backfill_id)["progress"]
        return 0 if progress is None else int(progress["chunks_planned"])

    def _span_s(self, backfill_id: str) -> float:
        asked = parse_timestamp(self.lake.backfills.get(backfill_id)["backfill"]["created_at"])
        planned = [parse_timestamp(one["planned_at"]) for one in self.lake.backfills.chunks(backfill_id)]
        first, last = (min(planned) - asked) / 1e9, (max(planned) - asked) / 1e9
        self.say(f"{len(planned):,} chunks: the first {first:.2f} s after the request, the last {last:.2f} s after it")
        return last
