"""Attempts that were given up by the server and come to life later, past the commits that followed.

See docs/protocol.md#rule-1.

A worker that hangs misses its heartbeats; the server starts a second attempt, and the table goes on. Whenever the
first attempt wakes up, on a process that remembers or on one that does not, it changes nothing.
"""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from temporalio.service import RPCError

from entrypoints.temporal import TemporalCommitGateway
from springline import names
from springline.commit.coalescer import CommitCoalescer
from tests.support.rows import SCOPE
from tests.workflows.bench import Bench, versions
from tests.workflows.faults import held_until, nothing
from tests.workflows.runs import until

STEPS = (names.RESERVE, names.WRITE_LOG, names.WRITE_MARKER, names.FINALIZE, names.FINALIZE_AND_RESERVE)


@pytest.mark.not_recorded
@pytest.mark.parametrize("memory", ["warm", "cold"])
@pytest.mark.parametrize("step", STEPS)
async def test_zombie(step: str, memory: str, bench: Bench) -> None:
    bench.faults.cold = memory == "cold"
    wake, ended = asyncio.Event(), asyncio.Event()

    async def has_ended() -> None:
        ended.set()

    bench.faults.before(step, lambda: held_until(wake))
    bench.faults.after(step, nothing)
    bench.faults.after(step, has_ended)
    requests = [await bench.stage_strict("one", 0), await bench.stage("two"), await bench.stage("three")]
    outcomes = await bench.commit(*requests)
    assert versions(outcomes) == [1, 2, 2]
    await bench.finished()
    if step in (names.FINALIZE, names.FINALIZE_AND_RESERVE):
        assert not ended.is_set()
    successor = await bench.stage_strict("successor", 2)
    assert (await bench.commit_one(successor)).version == 3
    await bench.finished()

    before = dict(bench.objects.objects)
    wake.set()
    async with asyncio.timeout(240):
        await ended.wait()
    assert dict(bench.objects.objects) == before
    replays = await bench.commit(*requests, successor)
    assert versions(replays) == [1, 2, 2, 3]
    assert (await bench.commit_one(await bench.stage_strict("last", 3))).version == 4
    assert [bench.added(version) for version in (1, 2, 3, 4)] == [["one"], ["two", "three"], ["successor"], ["last"]]


@pytest.mark.parametrize("step", STEPS[:3])
async def test_a_run_that_an_operator_terminates_takes_no_commit_with_it(step: str, bench: Bench) -> None:
    wake = asyncio.Event()
    bench.faults.before(step, lambda: held_until(wake))
    coalescer = CommitCoalescer(TemporalCommitGateway(bench.client, checkpoint_interval=0))
    request = await bench.stage("file")
    commit = asyncio.create_task(coalescer.commit(SCOPE, bench.table_id, request))
    await until(lambda: runs_step(bench, step), f"{step} is under way")
    await bench.note_run()
    await bench.handle.terminate("by an operator")
    outcome = await commit
    wake.set()
    assert versions([outcome]) == [1]
    assert bench.added(1) == ["file"]
    await coalescer.aclose()
    (again,) = await bench.commit(request)
    assert again.replayed
    assert again.result == outcome.result
    assert await bench.inflight_is_null()


@pytest.mark.parametrize("step", STEPS)
async def test_a_cancelled_run_finishes_what_it_has_and_takes_no_more(step: str, bench: Bench) -> None:
    wake = asyncio.Event()
    bench.faults.before(step, lambda: held_until(wake))
    coalescer = CommitCoalescer(TemporalCommitGateway(bench.client, checkpoint_interval=0))
    commit = asyncio.create_task(bench.commit(await bench.stage_strict("one", 0), await bench.stage("two")))
    await until(lambda: runs_step(bench, step), f"{step} is under way")
    await bench.note_run()
    await bench.handle.cancel()
    await until(lambda: is_draining(bench), "the run has heard of it")
    later = asyncio.create_task(coalescer.commit(SCOPE, bench.table_id, await bench.stage("later")))
    await until(lambda: was_sent_again(coalescer), "a request that comes now is told to come again")
    wake.set()
    assert versions(await commit) == [1, 2]
    assert versions([await later]) == [3]
    await coalescer.aclose()
    await bench.finished()
    assert [bench.added(version) for version in (1, 2, 3)] == [["one"], ["two"], ["later"]]
    assert len(bench.run_ids) == 2
    assert await bench.marks_cancellation(bench.run_ids[0])
    assert await bench.inflight_is_null()


async def is_draining(bench: Bench) -> bool:
    return (await bench.status()).draining


async def was_sent_again(coalescer: CommitCoalescer) -> bool:
    return coalescer.counts.retries > 0


async def runs_step(bench: Bench, step: str) -> bool:
    with contextlib.suppress(RPCError):
        description = await bench.handle.describe()
        return any(one.activity_type.name == step for one in description.raw_description.pending_activities)
    return False
