"""Sensors and backfills while our workers, users' workers, the API and the Temporal server are killed again and again.

Whatever came and whatever was asked for is made once, nothing is lost, and what was not made has its reason
(docs/protocol.md#sensors, docs/protocol.md#backfills).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.server.appends import Stopwatch
from tests.server.evaluator_chaos import EvaluatorChaos, days, flow
from tests.server.run_chaos import RunChaos, pipeline
from tests.server.test_schedule_kills import runs_have_ended

Record = Callable[[str, object], None]
CHUNK_SIZE = 3


async def test_each_number_message_file_and_day_is_made_once_under_kills(
    tmp_path: Path, record_property: Record
) -> None:
    async with pipeline(tmp_path, 5, flow(counters=1, asks_every=1, tables=False), users=1) as chaos:
        world = EvaluatorChaos(chaos, asks_every=1, tables=False)
        keys = days(0, 9)
        world.break_days(keys[4:5])
        await evaluations_of(chaos, at_least=1)
        asked = await world.backfill(keys, chunk_size=CHUNK_SIZE)
        await asyncio.gather(world.put_files(6, 1), world.push_messages(6, 0.5), chaos.kill_at_random(10, 2.5))
        chaos.revive()
        await world.settled(within_s=300)
        world.break_days([])
        await world.retry(asked)
        await world.settled(within_s=300)
        await finish(world, 1, keys[4:5], record_property)


@pytest.mark.full
@pytest.mark.timeout(3_600)
@pytest.mark.parametrize("seed", range(30, 35))
async def test_many_evaluations_and_backfills_under_many_kills(
    seed: int, tmp_path: Path, record_property: Record
) -> None:
    """Ten backfills, of which some are paused and some cancelled, and ten sensors; once Temporal loses everything."""
    counters, size = 8, 24
    async with pipeline(tmp_path, seed, flow(counters=counters, asks_every=25, tables=True), users=2) as chaos:
        world = EvaluatorChaos(chaos, asks_every=25, tables=True)
        broken = [days(number * size, size)[seed % size] for number in range(0, 10, 3)]
        world.break_days(broken)
        await evaluations_of(chaos, at_least=1)
        put, push = world.put_files(60, 3), world.push_messages(60, 3)
        coming = asyncio.gather(put, push, backfills(world, size))
        await chaos.kill_at_random(120, 4)
        chaos.revive()
        await chaos.wipe()
        await chaos.kill_at_random(120, 4)
        chaos.revive()
        await coming
        took = await world.settled(within_s=900)
        print(f"settled {took:.1f} s after the last kill")
        world.break_days([])
        for backfill_id in [one for one, keys in world.asked.items() if set(keys) & set(broken)]:
            if backfill_id not in world.cancelled:
                await world.retry(backfill_id)
        await world.settled(within_s=300)
        await finish(world, counters, broken, record_property)


async def backfills(world: EvaluatorChaos, size: int) -> None:
    """Ask for ten backfills; pause every fourth for a moment, and cancel every fourth."""
    for number in range(10):
        backfill_id = await world.backfill(days(number * size, size), chunk_size=4)
        await asyncio.sleep(2)
        if number % 4 == 1:
            await world.pause_for(backfill_id, 5)
        elif number % 4 == 2:
            await world.cancel(backfill_id)
        await asyncio.sleep(10)


async def finish(world: EvaluatorChaos, counters: int, broken: list[str], record: Record) -> None:
    """Stop the counters, wait for all runs, and judge."""
    chaos = world.chaos
    for place in range(counters):
        await asyncio.to_thread(chaos.post, f"/api/v1/sensors/counter-{place}/pause")
    await runs_have_ended(chaos, within_s=300)
    told = await world.check(broken)
    await chaos.check()
    print(told)
    record("explored", f"evaluators under kills: {told}")


async def evaluations_of(chaos: RunChaos, *, at_least: int) -> None:
    watch = Stopwatch()
    while len(found := await chaos.rows("sensor_evals")) < at_least:
        assert watch.seconds < 300, f"{len(found)} evaluations"
        await asyncio.sleep(0.1)
