"""What tasks write to tables while their workers are killed: each task's rows are there once, of one attempt.

The rows are read by delta-rs from the folder, past everything of ours.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import deltalake
import pytest

from springline.client import Springline
from springline.control.runs.apart import SEALED
from springline.storage.scoped import ScopedStore
from springline.work.seals import read_seal
from tests.server.run_chaos import BEGIN, RunChaos, pipeline
from tests.support.rows import SCOPE

Record = Callable[[str, object], None]

APPENDS = 4
FLOW = (
    BEGIN
    + f"""
import uuid

APPENDS = {APPENDS}
again = dict(heartbeat="3s", retries=8, retry_delay="200ms")

def rows(context, nonce, part):
    return {{"run": [context.run_id] * 5, "task": [context.task_key] * 5, "nonce": [nonce] * 5, "part": [part] * 5}}

def append_all(context, *tables):
    begin(context)
    nonce = str(uuid.uuid4())
    # Every attempt writes other rows, and in another order.
    for part in range(APPENDS):
        for name in tables if context.attempt % 2 else reversed(tables):
            context.table(name).append(rows(context, nonce, part))
            time.sleep(0.02)

@asset(**again)
def first(context: Context) -> None:
    append_all(context, "left", "right")

@asset(**again)
def second(context: Context) -> None:
    append_all(context, "right", "left")
    if context.attempt == 1:
        raise RuntimeError("the first attempt fails")

@asset(deps=[first, second], **again)
def counted(context: Context) -> None:
    begin(context)
    table = context.table("counted", schema={{"run": ["x"], "n": [1]}})
    mine = {{"run": [context.run_id], "n": [1]}}
    merge = table.merge(mine, on="target.run = source.run").when_matched_update({{"n": "target.n + 100"}})
    merge.when_not_matched_insert_all().execute()
    table.update({{"n": "n + 10"}}, where=f"run = '{{context.run_id}}'")
    table.append({{"run": [context.run_id], "n": [-1]}})
    table.delete(f"run = '{{context.run_id}}' AND n = -1")
"""
)


async def test_each_tasks_rows_are_there_once_though_workers_are_killed(tmp_path: Path) -> None:
    async with pipeline(tmp_path, seed=3, flow=FLOW) as chaos:
        for number in range(3):
            await chaos.start(number)
            # Between the seal and the end of the attempt that has sealed.
            await sealed(chaos, 2 * number + 1)
            await asyncio.to_thread(chaos.kill, "user")
            await asyncio.to_thread(chaos.kill, "user")
            chaos.revive()
        took = await chaos.ended(within_s=300)
        await chaos.check()
        check_rows(chaos)
        print(f"3 runs of 3 tasks ended {took:.1f} s after the last of {chaos.kills.total()} kills")


async def test_what_is_sealed_in_a_cancelled_run_is_on_record_though_all_its_workers_are_killed(tmp_path: Path) -> None:
    async with pipeline(tmp_path, seed=6, flow=FLOW) as chaos:
        run = await chaos.start(0)
        await sealed(chaos, 1)
        for worker in chaos.user_workers:
            worker.kill()
        await chaos.cancel(run)
        await chaos.ended(within_s=300)
        await chaos.check()
        tasks = {row["task_key"]: row["state"] for row in await chaos.rows("tasks")}
        notes = await chaos.rows("x_notes")
        noted = {row["task_key"] for row in notes if row["note"] == SEALED or "succeeded" in (row["detail"] or "")}
        store = ScopedStore(chaos.appends.store, SCOPE)
        found = {key for key in tasks if await read_seal(store, run, key) is not None}
        assert found, "nothing was sealed"
        assert noted == {key for key in found if tasks[key] != "SUCCEEDED"}


async def test_attempts_that_overlap_write_once(tmp_path: Path) -> None:
    async with pipeline(tmp_path, seed=4, flow=FLOW, users=1) as chaos:
        run = await chaos.start(0)
        await chaos.begun(run, executions=2)
        (thought_dead,) = chaos.user_workers
        assert thought_dead.pid is not None
        # The functions go on; what they have staged waits for their worker, which gives no sign of life.
        os.kill(thought_dead.pid, signal.SIGSTOP)
        chaos.start_user_worker()
        await sealed(chaos, 2)
        os.kill(thought_dead.pid, signal.SIGCONT)
        await chaos.ended(within_s=300)
        await chaos.check()
        check_rows(chaos)
        assert len(chaos.executions()) > 3, "attempts have overlapped"


async def test_rows_are_there_once_though_temporal_loses_everything(tmp_path: Path) -> None:
    async with pipeline(tmp_path, seed=5, flow=FLOW) as chaos:
        run = await chaos.start(0)
        await sealed(chaos, 1)
        await chaos.wipe()
        await chaos.ended(within_s=300)
        await chaos.check()
        check_rows(chaos)
        assert {row["state"] for row in await chaos.rows("runs") if row["run_id"] == run} == {"SUCCEEDED"}


@pytest.mark.full
@pytest.mark.timeout(1_800)
@pytest.mark.parametrize("seed", range(20, 23))
async def test_rows_are_there_once_whatever_is_killed(seed: int, tmp_path: Path, record_property: Record) -> None:
    async with pipeline(tmp_path, seed, FLOW) as chaos:
        killing = asyncio.create_task(chaos.kill_at_random(120, 3))
        for number in range(20):
            await chaos.start(number)
            await asyncio.sleep(3)
        await killing
        await asyncio.to_thread(chaos.kill, "worker")
        await chaos.ended(within_s=300)
        await chaos.check()
        check_rows(chaos)
        record_property("explored", f"writes under kills: {chaos.kills.total()} kills")


async def sealed(chaos: RunChaos, count: int) -> None:
    """Wait until so many tasks are sealed."""
    while seals(chaos) < count:  # noqa: ASYNC110 - nobody tells
        await asyncio.sleep(0.01)


def seals(chaos: RunChaos) -> int:
    return len(list(chaos.cluster.store_folder.glob("tenant=*/workspace=*/effects/*/*.json")))


def check_rows(chaos: RunChaos) -> None:
    """Check that every task of every run has its rows of one attempt, all of them, and no other row is there."""
    wanted = {(run, task) for run in chaos.runs for task in ("first", "second")}
    nonces: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    for name in ("left", "right"):
        found: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
        for row in read(chaos, name):
            found[row["run"], row["task"]].append(row["part"])
            nonces[row["run"], row["task"]].add(row["nonce"])
        assert set(found) == wanted
        assert all(sorted(parts) == sorted([*range(APPENDS)] * 5) for parts in found.values()), found
    assert all(len(ones) == 1 for ones in nonces.values()), nonces
    assert sorted((row["run"], row["n"]) for row in read(chaos, "counted")) == sorted((run, 11) for run in chaos.runs)


def read(chaos: RunChaos, table: str) -> list[dict[str, Any]]:
    """Read the rows of a table from its folder."""
    with Springline(chaos.cluster.stack.api_url, chaos.cluster.stack.token()) as lake:
        location = lake.table(table).location
    rows: list[dict[str, Any]] = deltalake.DeltaTable(location.removeprefix("file://")).to_pyarrow_table().to_pylist()
    return rows
