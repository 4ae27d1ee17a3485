"""Runs while workers of users, our workers, the API and the Temporal server are killed again and again.

Every run ends, nothing is lost or doubled, and everything that ran is on record (docs/protocol.md#run-existence).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from springline.control.runs.progress import LEDGER_BEAT_MS
from tests.server.run_chaos import TASKS, RunChaos, pipeline

Record = Callable[[str, object], None]


async def test_a_few_runs_under_kills(tmp_path: Path, record_property: Record) -> None:
    await chaos(tmp_path, seed=1, runs=4, seconds=12, every_s=1.5, record=record_property)


async def test_runs_come_back_after_temporal_has_lost_everything(tmp_path: Path) -> None:
    async with pipeline(tmp_path, seed=2) as chaos:
        first, second = await chaos.start(0), await chaos.start(1)
        await asyncio.gather(chaos.begun(first, executions=4), chaos.begun(second, executions=4))
        await chaos.wipe()
        # An attempt whose start is on record may still be at work elsewhere: for two heartbeats it is waited for.
        took = await chaos.ended(within_s=240 + 2 * LEDGER_BEAT_MS / 1_000)
        print(f"2 runs of {TASKS} tasks ended {took:.1f} s after Temporal had lost everything in the middle of them")
        await chaos.check()
        assert {row["state"] for row in await chaos.rows("runs")} == {"SUCCEEDED"}


@pytest.mark.full
@pytest.mark.timeout(3_600)
@pytest.mark.parametrize("seed", range(10, 15))
async def test_many_runs_under_kills(seed: int, tmp_path: Path, record_property: Record) -> None:
    await chaos(tmp_path, seed=seed, runs=40, seconds=240, every_s=4, record=record_property)


async def chaos(folder: Path, *, seed: int, runs: int, seconds: float, every_s: float, record: Record) -> None:
    """Start runs one after the other while everything is killed; cancel every fourth, take another's workflow away."""
    async with pipeline(folder, seed) as chaos:
        killing = asyncio.create_task(chaos.kill_at_random(seconds, every_s))
        asking = asyncio.create_task(ask(chaos, runs, seconds / 2))
        await asyncio.gather(killing, asking)
        # A new worker looks for runs without a workflow, as all of them do every few minutes.
        await asyncio.to_thread(chaos.kill, "worker")
        took = await chaos.ended(within_s=240 + 5 * runs)
        executions = len(chaos.executions())
        print(
            f"{runs} runs of {TASKS} tasks under {chaos.kills.total()} kills ({dict(chaos.kills)}): {executions} "
            f"executions, all ended {took:.1f} s after the last kill"
        )
        record("explored", f"runs under kills: {chaos.kills.total()} kills, {executions} executions")
        assert chaos.kills.total() >= seconds / every_s / 3
        await chaos.check()


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
