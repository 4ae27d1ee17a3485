"""The demo's second part: appends a pipeline's events while it kills the worker, queries the state, folds again."""

from __future__ import annotations

import asyncio
import random
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import orjson
import uuid_utils

from springline import paths
from springline.client import Springline
from springline.ledger.request import AppendOutcome
from springline.local.demo.pipeline import History, Request, preparation
from springline.local.processes import module_command
from springline.local.run import ToolFailed
from springline.local.stack import EmbeddedStack
from springline.published.reader import read_published_head
from springline.storage.scoped import ScopedStore
from springline.storage.url import open_store

CALLERS = 6
MID_ROUND = "after a round was kept, before readers saw it"
IDLE = "between rounds"

RUNS_SQL = """
SELECT coalesce(labels->>'$.kind', '') AS kind, state, count(*) AS runs, sum(tasks_succeeded)::INT AS tasks_succeeded,
       max(completed_at - triggered_at) AS longest
FROM runs GROUP BY ALL ORDER BY runs DESC"""
TASKS_SQL = """
SELECT task_key, count(*) FILTER (state = 'SUCCEEDED') AS succeeded, count(*) FILTER (attempt > 1) AS tried_again,
       count(*) FILTER (state = 'CANCELLED') AS cancelled
FROM tasks GROUP BY task_key ORDER BY task_key"""


@dataclass
class LedgerRun:
    """The appended events and the resulting state. `problems` is empty if all is right."""

    requests: int = 0
    seconds: list[float] = field(default_factory=list)
    took_s: float = 0.0
    paths: list[str] = field(default_factory=list)
    kills: Counter[str] = field(default_factory=Counter)
    digest: str = ""
    offline: dict[str, Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


class _Killer(threading.Thread):
    """Kills the stack's worker about every `every_s` seconds, and notes whether it was in the middle of a round."""

    def __init__(self, stack: EmbeddedStack, every_s: float, seed: int) -> None:
        super().__init__(name="killer", daemon=True)
        self.kills: Counter[str] = Counter()
        self.failure: Exception | None = None
        self._stack, self._every_s = stack, every_s
        self._random = random.Random(seed)
        self._ended = threading.Event()

    def run(self) -> None:
        """Kill and restart until told to stop."""
        (worker,) = self._stack.worker_names
        try:
            while not self._ended.wait(self._random.uniform(0.5, 1.5) * self._every_s):
                self._stack.kill(worker)
                self.kills[MID_ROUND if asyncio.run(_is_mid_round(self._stack)) else IDLE] += 1
                self._stack.start_child(worker)
        except Exception as error:
            self.failure = error

    def stop(self) -> None:
        """Stop killing; returns when the worker is up."""
        self._ended.set()
        self.join()


async def _is_mid_round(stack: EmbeddedStack) -> bool:
    """Say whether the store holds a round that the published state does not."""
    store = open_store(stack.store_url)
    try:
        scoped = ScopedStore(store, stack.scope)
        head = await read_published_head(scoped)
        return await scoped.head(paths.orchestration_round(head.rounds_folded + 1)) is not None
    finally:
        await store.aclose()


def run_pipeline(
    stack: EmbeddedStack, *, nights: int, every_s: float, seed: int, progress: Callable[[int, int], None]
) -> LedgerRun:
    """Append a pipeline's history while killing the worker; then compare the published state with an offline fold.

    `progress` is called with the numbers of done and of all requests. Raises `ToolFailed` if it cannot go on.
    """
    history, done = History(stack.scope, seed), LedgerRun()
    killer = _Killer(stack, every_s, seed)
    began = time.monotonic()
    with Springline(stack.api_url, stack.token(), deadline_s=180) as lake:
        defined = [_append(lake, request, done).events[-1].event_id for request in preparation()]
        stories = [list(history.night(number, defined[-1])) for number in range(nights)]
        stories += [list(history.cancelled_run()), list(history.backfill())]
        total = sum(map(len, stories)) + done.requests

        def tell(story: Iterable[Request]) -> None:
            for request in story:
                _append(lake, request, done)
                progress(done.requests, total)

        progress(done.requests, total)
        killer.start()
        try:
            with ThreadPoolExecutor(CALLERS) as callers:
                for finished in [callers.submit(tell, story) for story in stories]:
                    finished.result()
        finally:
            killer.stop()
        if killer.failure is not None:
            raise ToolFailed(f"the worker did not come back: {killer.failure}")
        done.took_s, done.kills = time.monotonic() - began, killer.kills
        done.digest = lake.state.digest()["digest"]
        states = Counter(run["state"] for run in lake.state.runs())
    if states != {"SUCCEEDED": nights + 3, "CANCELLED": 1}:
        done.problems.append(f"runs should be {nights + 3} SUCCEEDED and 1 CANCELLED, and are {dict(states)}")
    _fold_offline(stack, done, seed)
    return done


def ask(stack: EmbeddedStack, sql: str) -> str:
    """Return what `springline query` prints of the published state, as a table."""
    return _cli(stack, "query", " ".join(sql.split()), *_where(stack), "--format", "table")


def _append(lake: Springline, request: Request, done: LedgerRun) -> AppendOutcome:
    """Append one request under an id of its own; send it again under the same id until the API answers it."""
    request_id = str(uuid_utils.uuid7())
    began = time.monotonic()
    outcome: AppendOutcome = lake.ledger.append(request, request_id=request_id)
    done.seconds.append(time.monotonic() - began)
    done.requests += 1
    done.paths += [event.ledger_path for event in outcome.events]
    strange = [event for event in outcome.events if event.outcome != "applied"]
    done.problems += [f"{event.event_type} {event.event_id} was {event.outcome.value}" for event in strange]
    return outcome


def _fold_offline(stack: EmbeddedStack, done: LedgerRun, seed: int) -> None:
    """Fold the acknowledged events in random order and batches, and compare."""
    listed, out = stack.folder / "events.json", stack.folder / "state.json.gz"
    listed.write_bytes(orjson.dumps({"event_paths": done.paths}))
    options = ("--batch", "100", "--order", f"random:{seed}")
    said = _cli(stack, "state", "fold", *_where(stack), "--manifest", str(listed), "--out", str(out), *options)
    done.offline = orjson.loads(said)
    if done.offline["events"] != len(set(done.paths)) or len(set(done.paths)) != len(done.paths):
        done.problems.append(f"{len(done.paths)} events were answered, {done.offline['events']} are there")
    if done.offline["digest"] != done.digest:
        done.problems.append(f"the published digest is {done.digest}, the folded one {done.offline['digest']}")


def _where(stack: EmbeddedStack) -> tuple[str, ...]:
    return ("--store", stack.store_url, "--tenant", stack.scope.tenant, "--workspace", stack.scope.workspace)


def _cli(stack: EmbeddedStack, *arguments: str) -> str:
    ended = subprocess.run(
        module_command("springline.cli", *arguments),
        env=stack.child_environment(),
        cwd=stack.folder,
        capture_output=True,
        text=True,
        check=False,
    )
    if ended.returncode != 0:
        raise ToolFailed(f"springline {' '.join(arguments[:2])} ended with code {ended.returncode}:\n{ended.stderr}")
    return ended.stdout
