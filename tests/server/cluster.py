"""A real Temporal development server, real worker processes and a table in a local folder."""

from __future__ import annotations

import asyncio
import itertools
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self, TypedDict

import httpx
import uuid_utils
from temporalio.client import Client

from entrypoints.connection import connect
from entrypoints.temporal import TemporalCommitGateway
from springline import names, paths
from springline.commit.coalescer import CommitCoalescer
from springline.commit.complete import Settled, settle
from springline.commit.staging import stage
from springline.commit.table import CommitTable
from springline.config import PREFIX
from springline.delta.messages import CommitMode, CommitOutcome, CommitRequest
from springline.local.ports import LOOPBACK, free_ports
from springline.local.processes import Child
from springline.local.stack import WORKER_READY_PATH
from springline.storage.local import LocalStore
from springline.storage.scoped import ScopedStore
from tests.support.forked_stack import ForkedStack
from tests.support.forks import ForkedChild
from tests.support.rows import SCOPE, create_rows_table, payload_of, read_rows

DEADLINE_S = 240.0
POLL_S = 0.01
WORKER = "worker"
KILLABLE = "tests.server.killable_worker"


class _Place(TypedDict):
    env: dict[str, str]
    cwd: Path
    log: Path


class Cluster:
    """The stack's Temporal server, whose workers the test starts, and the folder that they write to.

    With `api`, the HTTP API runs too; with `store_url`, another store than the folder is written to.
    """

    def __init__(
        self,
        folder: Path,
        *,
        api: bool = False,
        store_url: str | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = folder
        self.store_folder = folder / "store"
        self.orders = folder / "orders"
        self.orders.mkdir()
        self.stack = ForkedStack(
            folder / "runs",
            scope=SCOPE,
            workers=0,
            api=api,
            store_url=store_url or self.store_folder.as_uri(),
            environment=environment,
            say=lambda _line: None,
        )
        self.workers: list[Child] = []
        self._health: dict[str, int] = {}
        self.metrics_urls: dict[str, str] = {}
        """Where each worker shows its metrics, by name."""
        self._numbers = itertools.count(1)

    def __enter__(self) -> Self:
        self.stack.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for child in self.workers:
            child.stop(5)
        self.stack.stop()

    # Workers.

    def start_worker(self, *module: str, environment: Mapping[str, str] | None = None) -> Child:
        """Start a worker process, by default the product's own, with more in its environment; return at once."""
        name, place = self._place(environment)
        return self._started(Child(name, [sys.executable, "-m", *(module or (WORKER,))], **place))

    def fork_worker(self, module: str = WORKER, *, environment: Mapping[str, str] | None = None) -> Child:
        """Start a worker as `start_worker` does, but forked: sooner done, for tests that are not about its start."""
        name, place = self._place(environment)
        return self._started(ForkedChild(name, module, [], **place))

    def start_killable(self, *options: str) -> Child:
        """Start a worker that obeys the orders of this cluster. Many are needed, so it is forked."""
        name, place = self._place()
        return self._started(ForkedChild(name, KILLABLE, [str(self.orders), *options], **place))

    def _place(self, environment: Mapping[str, str] | None = None) -> tuple[str, _Place]:
        name = f"worker-{next(self._numbers)}"
        metrics, health = free_ports(2)
        env = {
            **self.stack.child_environment(),
            f"{PREFIX}METRICS_PORT": str(metrics),
            f"{PREFIX}HEALTH_PORT": str(health),
            **(environment or {}),
        }
        self._health[name] = health
        self.metrics_urls[name] = f"http://{LOOPBACK}:{metrics}/metrics"
        return name, {"env": env, "cwd": self.folder, "log": self.folder / f"{name}.log"}

    def _started(self, child: Child) -> Child:
        child.start()
        self.workers.append(child)
        return child

    async def ready(self, *children: Child) -> None:
        """Wait until the workers poll."""
        async with httpx.AsyncClient() as client:
            for child in children:
                url = f"http://{LOOPBACK}:{self._health[child.name]}{WORKER_READY_PATH}"

                async def answers(url: str = url, child: Child = child) -> bool:
                    assert child.exit_code is None, child.log_tail()
                    try:
                        return (await client.get(url)).is_success
                    except httpx.HTTPError:
                        return False

                await until(answers, f"{child.name} is ready")

    def order(self, activity: str, phase: str) -> None:
        """Have the next worker that writes in `activity` die `before` or `after` its write."""
        (self.orders / f"{activity}.{phase}").touch()

    async def a_death(self) -> Child:
        """Wait for a worker to die of an order; take it off the list."""
        found: list[Child] = []

        async def one_is_dead() -> bool:
            found[:] = [child for child in self.workers if child.exit_code is not None]
            return bool(found)

        await until(one_is_dead, "a worker dies as ordered")
        (dead,) = found
        self.workers.remove(dead)
        return dead

    # The table, as callers and readers see it.

    async def open(self) -> Ledger:
        """Connect, create a table, and return what this process knows of it."""
        client = await connect(address=self.stack.temporal_address)
        store = LocalStore(self.store_folder, fsync=False)
        table_id = str(uuid_utils.uuid7())
        entry = await create_rows_table(store, f"rows-{table_id}", table_id)
        return Ledger(self, client, store, table_id, entry.root)


class Ledger:
    """One table and everything this test committed to it: what must be there in the end, exactly once."""

    def __init__(self, cluster: Cluster, client: Client, store: LocalStore, table_id: str, root: str) -> None:
        self.cluster = cluster
        self.client = client
        self.store = store
        self.table_id = table_id
        self.root = root
        self.table = CommitTable(ScopedStore(store, SCOPE), table_id, root)
        self.answers: dict[str, tuple[CommitRequest, CommitOutcome]] = {}
        self.rows: dict[str, int] = {}
        self.interrupted: CommitRequest | None = None
        """A request whose caller never got an answer."""
        self._ids = itertools.count()
        self._coalescers: list[CommitCoalescer] = []

    @property
    def workflow_id(self) -> str:
        return names.commit_workflow_id(SCOPE.tenant, SCOPE.workspace, self.table_id)

    def caller(self) -> CommitCoalescer:
        """Return what one caller process has: a gateway and a coalescer of its own."""
        coalescer = CommitCoalescer(TemporalCommitGateway(self.client, checkpoint_interval=0), deadline_s=DEADLINE_S)
        self._coalescers.append(coalescer)
        return coalescer

    async def reconnect(self) -> None:
        """Connect to the server that is there now."""
        self.client = await connect(address=self.cluster.stack.temporal_address)

    async def request(self, *, mode: CommitMode = CommitMode.APPEND, read_version: int = 0) -> CommitRequest:
        """Write a file with one new row and stage its payload."""
        row = next(self._ids)
        payload = await payload_of(self.store, self.root, [row])
        key = str(uuid_utils.uuid7())
        staged = await stage(self.table.store, self.table_id, key, payload)
        self.rows[key] = row
        return CommitRequest(
            idempotency_key=key,
            mode=mode,
            read_version=read_version,
            staged_path=staged.path,
            staged_version=staged.version,
        )

    async def commit(self, caller: CommitCoalescer, request: CommitRequest) -> CommitOutcome:
        """Commit a request that must succeed, and note the answer."""
        outcome = await caller.commit(SCOPE, self.table_id, request)
        assert outcome.result is not None, outcome
        key = request.idempotency_key
        known = self.answers.get(key)
        assert known is None or known[1].result == outcome.result
        self.answers[key] = (request, outcome)
        return outcome

    async def latest(self) -> int:
        held = await self.table.read_coordinator()
        assert held is not None
        return held.state.latest_version

    async def is_reserved(self) -> bool:
        held = await self.table.read_coordinator()
        return held is not None and held.state.inflight is not None

    async def is_at_rest(self) -> bool:
        return not await self.is_reserved()

    async def settle(self) -> list[Settled]:
        """Settle from storage alone, as a process does that knows nothing else."""
        return await settle(CommitTable(ScopedStore(self.store, SCOPE), self.table_id, self.root))

    async def check(self) -> None:
        """Check that every row committed is there exactly once for another reader, and that answers stand."""
        await until(self.is_at_rest, "nothing is in flight")
        assert read_rows(self.cluster.store_folder, self.root) == Counter(
            (self.rows[key], "ours") for key in self.answers
        )
        caller = self.caller()
        known = list(self.answers.values())
        replays = await asyncio.gather(*(caller.commit(SCOPE, self.table_id, request) for request, _ in known))
        assert all(again.replayed for again in replays)
        assert [again.result for again in replays] == [outcome.result for _, outcome in known]
        log = self.cluster.store_folder / SCOPE.full(paths.delta_log_dir(self.root))
        versions = sorted(int(file.stem) for file in log.glob("*.json"))
        assert versions == list(range(len(versions)))

    async def aclose(self) -> None:
        for coalescer in self._coalescers:
            await coalescer.aclose()
        await self.store.aclose()


async def until(condition: Callable[[], Awaitable[bool]], what: str) -> None:
    """Return as soon as `condition` holds, which nobody announces; fails after a deadline."""
    try:
        async with asyncio.timeout(DEADLINE_S):
            while not await condition():  # noqa: ASYNC110
                await asyncio.sleep(POLL_S)
    except TimeoutError:
        raise AssertionError(f"not within {DEADLINE_S:g} s: {what}") from None


async def timed(awaitable: Awaitable[object]) -> float:
    """Await it; return how many seconds that took."""
    started = time.monotonic()
    await awaitable
    return time.monotonic() - started
