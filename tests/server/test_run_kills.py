"""Runs while workers of users, our workers, the API and the Temporal server are killed again and again.

Every run ends, nothing is lost or doubled, and everything that ran is on record (docs/protocol.md#runs).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.server.cluster import Cluster
from tests.server.run_chaos import TASKS, RunChaos

Record = Callable[[str, object], None]


async def test_a_few_runs_under_kills(tmp_path: Path, record_property: Record) -> None:
    await chaos(tmp_path, seed=1, runs=4, seconds=12, every_s=1.5, record=record_property)


@pytest.mark.full
@pytest.mark.timeout(3_600)
@pytest.mark.parametrize("seed", range(10, 15))
async def test_many_runs_under_kills(seed: int, tmp_path: Path, record_property: Record) -> None:
    await chaos(tmp_path, seed=seed, runs=40, seconds=240, every_s=4, record=record_property)


async def chaos(
    folder: Path, *, seed: int, runs: int, seconds: float, every_s: float, record: Record
) -> None:
    """Start runs one after the other while everything is killed; cancel every fourth, take another's workflow away."""
    with Cluster(folder, api=True) as cluster:
        chaos = await RunChaos.open(cluster, seed)
        try:
            killing = asyncio.create_task(chaos.kill_at_random(seconds, every_s))
            asking = asyncio.create_task(ask(chaos, runs, seconds / 2))
            await asyncio.gather(killing, asking)
            took = await chaos.ended(within_s=120 + 5 * runs)
            executions = len(chaos.executions())
            print(
                f"{runs} runs of {TASKS} tasks under {chaos.kills.total()} kills ({dict(chaos.kills)}): {executions} "
                f"executions, all ended {took:.1f} s after the last kill"
            )
            record("explored", f"runs under kills: {chaos.kills.total()} kills, {executions} executions")
            assert chaos.kills.total() >= seconds / every_s / 3
            await chaos.check()
        finally:
            await chaos.aclose()


async def ask(chaos: RunChaos, runs: int, seconds: float) -> None:
    for number in range(runs):
        run_id = await chaos.start(number)
        if number % 4 == 1:
            await chaos.begun(run_id, executions=2)
            await chaos.cancel(run_id)
        elif number % 4 == 2:
            await chaos.begun(run_id, executions=2)
            await chaos.terminate(run_id)
        await asyncio.sleep(seconds / runs)
