"""A pool while workers of users, our workers, the API and Temporal are killed: never more run than it has slots.

What runs is counted by an observer of its own: each function holds a connection to it for as long as it runs, which the
kernel closes when the process dies.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random

import pytest
from temporalio.service import RPCError

from springline import names
from springline.local.stack import TEMPORAL
from tests.server.appends import Stopwatch
from tests.server.run_chaos import BEGIN, RunChaos, pipeline
from tests.server.test_run_kills import Record
from tests.support.rows import SCOPE

SLOTS = 3
SOCKET = "observer.sock"
FLOW = (
    BEGIN
    + f"""
import socket
from springline.sdk import pool

warehouse = pool("warehouse", slots={SLOTS})

def load(context, seconds):
    begin(context)
    with socket.socket(socket.AF_UNIX) as observed:
        observed.connect(str(Path(__file__).parent / {SOCKET!r}))
        time.sleep(seconds)

@asset(heartbeat="3s", retries=8, retry_delay="200ms", pool=warehouse)
def first(context: Context) -> None:
    load(context, 0.6)

@asset(heartbeat="3s", retries=8, retry_delay="200ms", pool="warehouse", deps=[first])
def second(context: Context) -> None:
    load(context, 0.9)
    if context.attempt == 1 and context.run_id < "run_c":
        raise RuntimeError("the first attempt fails")

@asset(heartbeat="3s", retries=8, deps=[first])
def beside(context: Context) -> None:
    begin(context)
"""
)


class Observer:
    """Counts the functions that run: now, at most at once, and in all."""

    def __init__(self) -> None:
        self.now = self.most = self.seen = 0

    @contextlib.asynccontextmanager
    async def watching(self, folder: Path) -> AsyncIterator[None]:
        server = await asyncio.start_unix_server(self._watch, folder / SOCKET)
        async with server:
            yield

    async def _watch(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.now += 1
        self.seen += 1
        self.most = max(self.most, self.now)
        with contextlib.suppress(OSError):
            await reader.read()
        self.now -= 1
        writer.close()


async def test_runs_share_three_slots_under_kills(tmp_path: Path, record_property: Record) -> None:
    await share(tmp_path, seed=2, runs=15, seconds=12, every_s=1.5, record=record_property)


@pytest.mark.full
@pytest.mark.timeout(900)
async def test_fifty_runs_share_three_slots_under_kills(tmp_path: Path, record_property: Record) -> None:
    await share(tmp_path, seed=1, runs=50, seconds=15, every_s=1.5, record=record_property)


@pytest.mark.full
@pytest.mark.timeout(900)
async def test_a_pool_after_temporal_has_lost_everything(tmp_path: Path) -> None:
    """Functions go on for a moment when their workflows are gone: their slots are not given meanwhile."""
    observer = Observer()
    async with pipeline(tmp_path, 7, FLOW) as chaos, observer.watching(chaos.folder):
        await asyncio.gather(*(chaos.start(number) for number in range(12)))
        await chaos.begun(chaos.runs[0])
        await chaos.wipe()
        watch = Stopwatch()
        # Runs that had ended before have no workflow any more: their rows say that they have.
        while [row["state"] for row in await chaos.rows("runs")] != ["SUCCEEDED"] * 12:
            assert watch.seconds < 600, await chaos.told()
            await asyncio.sleep(0.5)
        print(
            f"12 runs ended {watch.seconds:.1f} s after Temporal had lost everything; at most {observer.most} at once"
        )
        assert observer.most <= SLOTS
        assert observer.seen >= 24
        await chaos.check()


@pytest.mark.full
@pytest.mark.timeout(3_600)
@pytest.mark.parametrize("seed", range(20, 24))
async def test_many_runs_share_three_slots_under_kills(seed: int, tmp_path: Path, record_property: Record) -> None:
    await share(tmp_path, seed=seed, runs=150, seconds=240, every_s=4, record=record_property)


async def share(folder: Path, *, seed: int, runs: int, seconds: float, every_s: float, record: Record) -> None:
    observer = Observer()
    async with pipeline(folder, seed, FLOW) as chaos, observer.watching(chaos.folder):
        killing = asyncio.create_task(chaos.kill_at_random(seconds, every_s))
        losing = asyncio.create_task(lose(chaos, Random(seed), seconds))
        for number in range(runs):
            await chaos.start(number)
            await asyncio.sleep(seconds / runs / 2)
        await asyncio.gather(killing, losing)
        await asyncio.to_thread(chaos.kill, "worker")
        took = await chaos.ended(within_s=240 + 5 * runs)
        print(
            f"{runs} runs, {SLOTS} slots, {chaos.kills.total()} kills ({dict(chaos.kills)}): at most {observer.most} "
            f"of {observer.seen} attempts at once, all ended {took:.1f} s after the last kill"
        )
        record("explored", f"a pool of {SLOTS} under {chaos.kills.total()} kills: {observer.seen} attempts")
        # Few runs, killed again and again, need not fill all slots at any moment.
        assert 2 <= observer.most <= SLOTS
        assert observer.seen >= 2 * runs
        assert {row["state"] for row in await chaos.rows("runs")} == {"SUCCEEDED"}
        await chaos.check()


async def lose(chaos: RunChaos, dice: Random, seconds: float) -> None:
    """Terminate the pool's workflow again and again, that of a run now and then, and kill Temporal."""
    pool = names.pool_workflow_id(SCOPE.tenant, SCOPE.workspace, "warehouse")
    for number in range(int(seconds / 3)):
        await asyncio.sleep(3)
        with contextlib.suppress(RPCError):
            await chaos.appends.client.get_workflow_handle(pool).terminate("by mistake")
            chaos.kills["pool"] += 1
        if number % 3 == 2:
            # While it is away, heartbeats are missed, and functions go on.
            await asyncio.to_thread(chaos.kill, TEMPORAL)
        if number % 3 == 1:
            await chaos.terminate(dice.choice(chaos.runs))
            chaos.kills["run"] += 1
