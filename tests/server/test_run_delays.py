"""What a death costs a run: of one of our workers, and of a worker of users."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import time
from pathlib import Path
from random import Random

import pytest

from tests.server.cluster import until
from tests.server.run_chaos import BEGIN, RunChaos, pipeline

CHAIN = 30
HEARTBEAT_S = 3.0
WORKER_COSTS_S = 3.0
"""The most that a dead worker of ours costs, on a quiet machine."""
BUSY = 3.0
"""How much longer it may take beside other tests."""


def chain() -> str:
    """Return a pipeline whose tasks begin one after the other."""
    tasks = ["\n@made\ndef t0(context: Context) -> None:\n    begin(context)\n"]
    tasks += [
        f"@asset(heartbeat='3s', deps=[t{number - 1}])\ndef t{number}(context: Context) -> None:\n    begin(context)\n"
        for number in range(1, CHAIN)
    ]
    return BEGIN + "\n".join(tasks)


SLOW = (
    BEGIN
    + """
@made
def slow(context: Context) -> None:
    begin(context)
    time.sleep(3600 if context.attempt == 1 else 0)
"""
)


@pytest.mark.parametrize("kills", [2, pytest.param(50, marks=[pytest.mark.full, pytest.mark.timeout(1_800)])])
async def test_a_killed_worker_of_ours_delays_a_run_by_seconds(kills: int, tmp_path: Path) -> None:
    dice = Random(5)
    async with pipeline(tmp_path, 5, chain(), users=1) as chaos:
        usual = sorted(await hops(chaos, await chaos.start(0)))
        delays = []
        for number in range(1, kills + 1):
            run_id = await chaos.start(number)
            await chaos.begun(run_id, executions=dice.randint(2, CHAIN // 2))
            await asyncio.to_thread(chaos.kill, "worker")
            delays.append(max(await hops(chaos, run_id)) - usual[len(usual) // 2])
            chaos.revive()
            await chaos.cluster.ready(*chaos.cluster.workers)
        delays.sort()
        print(
            f"a hop takes {usual[len(usual) // 2]:.2f} s; {kills} kills of one of two workers delay a run by "
            f"{delays[len(delays) // 2]:.2f} s (median), {delays[-1]:.2f} s at most"
        )
        await chaos.ended(within_s=240)
        await chaos.check()
    assert delays[-1] < WORKER_COSTS_S * BUSY


async def hops(chaos: RunChaos, run_id: str) -> list[float]:
    """Wait until a run has executed everything, and return the seconds between its executions."""
    await chaos.begun(run_id, executions=CHAIN)
    at_s = [one.at_s for one in chaos.executions() if one.run_id == run_id]
    return [after - before for before, after in itertools.pairwise(at_s)]


async def test_the_task_of_a_killed_worker_of_users_starts_again(tmp_path: Path) -> None:
    async with pipeline(tmp_path, 6, SLOW, users=1) as chaos:
        run_id = await chaos.start(0)
        await chaos.begun(run_id)
        (victim,) = chaos.user_workers
        chaos.users = 2
        chaos.revive()
        log = chaos.folder / "users.log"

        async def both_work() -> bool:
            return log.read_text().count("attempts at once") == 2

        await until(both_work, "the second worker works")
        assert victim.pid is not None
        killed_s = time.monotonic()
        os.kill(victim.pid, signal.SIGKILL)
        await chaos.begun(run_id, executions=2)
        took = chaos.executions()[-1].at_s - killed_s
        print(f"a task with a heartbeat of {HEARTBEAT_S:g} s started again {took:.2f} s after its worker was killed")
        await chaos.ended(within_s=240)
        await chaos.check()
    assert took < (HEARTBEAT_S + 5) * BUSY
