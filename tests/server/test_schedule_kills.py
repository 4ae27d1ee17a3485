"""A schedule of every second while our workers, the API and the Temporal server are killed again and again.

Every instant is on record once, as a run or with the reason why not, and every run was made
(docs/protocol.md#schedules).
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from springline.projection.schema import FINISHED_RUN
from tests.server.appends import Stopwatch
from tests.server.run_chaos import BEGIN, RunChaos, pipeline

Record = Callable[[str, object], None]
FLOW = (
    BEGIN
    + """
from springline.sdk import schedule

@made
def beat(context: Context) -> None:
    begin(context)

every_second = schedule("every_second", every="1s", select=beat, max_catchup_ticks=5)
"""
)


async def test_every_second_is_on_record_once_under_kills(tmp_path: Path, record_property: Record) -> None:
    await beats(tmp_path, seed=3, seconds=15, every_s=2.5, record=record_property)


@pytest.mark.full
@pytest.mark.timeout(3_600)
@pytest.mark.parametrize("seed", range(20, 24))
async def test_every_second_is_on_record_once_under_many_kills(
    seed: int, tmp_path: Path, record_property: Record
) -> None:
    await beats(tmp_path, seed=seed, seconds=240, every_s=4, record=record_property)


async def beats(folder: Path, *, seed: int, seconds: float, every_s: float, record: Record) -> None:
    """Let a schedule fire while everything is killed, pause it, and compare what is on record with the clock."""
    async with pipeline(folder, seed, FLOW, users=1) as chaos:
        await ticks_of(chaos, at_least=2)
        await chaos.kill_at_random(seconds, every_s)
        chaos.revive()
        await asyncio.to_thread(chaos.post, "/api/v1/schedules/every_second/pause")
        ticks = await ticks_of(chaos, at_least=2)
        runs = await runs_have_ended(chaos, within_s=300)
        instants: Counter[int] = Counter()
        for tick in ticks:
            instants.update(covered(tick))
        first, last = min(instants), max(instants)
        assert sorted(instants) == list(range(first, last + 1)), "an instant has no record"
        assert set(instants.values()) == {1}, "an instant is on record twice"
        statuses = Counter(json.loads(tick["status"])["status"] for tick in ticks)
        triggered = {tick["run_key"] for tick in ticks if tick["run_key"] is not None}
        assert {run["run_key"] for run in runs} == triggered, "one run for each tick that asked for one"
        assert {run["state"] for run in runs} == {"SUCCEEDED"}
        assert {one.run_id for one in chaos.executions()} == {run["run_id"] for run in runs}
        print(f"{last - first + 1} seconds, {dict(statuses)} under {chaos.kills.total()} kills ({dict(chaos.kills)})")
        record("explored", f"schedules under kills: {chaos.kills.total()} kills, {len(instants)} instants")


def covered(tick: dict[str, Any]) -> range:
    """Return the seconds that a tick stands for."""
    span = str(tick["tick_id"]).rpartition(":")[2]
    first, _, last = span.partition("-")
    return range(int(first), int(last or first) + 1)


async def ticks_of(chaos: RunChaos, *, at_least: int) -> list[dict[str, Any]]:
    watch = Stopwatch()
    while len(found := await chaos.rows("schedule_ticks")) < at_least:
        assert watch.seconds < 300, f"{len(found)} ticks"
        await asyncio.sleep(0.1)
    return found


async def runs_have_ended(chaos: RunChaos, within_s: float) -> list[dict[str, Any]]:
    watch = Stopwatch()
    while True:
        asked, runs = await chaos.rows("run_key_index"), await chaos.rows("runs")
        if len(runs) == len(asked) and all(run["state"] in FINISHED_RUN for run in runs):
            return runs
        assert watch.seconds < within_s, (
            f"not ended: {[run['run_key'] for run in runs if run['state'] not in FINISHED_RUN]}"
        )
        chaos.revive()
        await asyncio.sleep(0.2)


def test_a_range_is_read_from_its_id() -> None:
    assert list(covered({"tick_id": "s:5-7"})) == [5, 6, 7]
    assert list(covered({"tick_id": "s:5"})) == [5]
