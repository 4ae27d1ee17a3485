"""The three crash windows between the steps of a commit, each survived by a retry of the activity.

After `reserve`, after `write_log` and after `write_marker`: the effect is there, and the attempt fails or its result
never arrives. The request is committed once, and three replays get the same answer.
"""

from __future__ import annotations

import pytest

from springline import names
from springline.delta.messages import CommitMode
from tests.workflows.bench import Bench
from tests.workflows.faults import Step, raises, result_is_lost
from tests.workflows.runs import Attempt

COMMIT = [names.RESERVE, names.WRITE_LOG, names.WRITE_MARKER, names.FINALIZE]
WINDOWS = COMMIT[:3]
FAILURES = {"raises": raises, "result-lost": result_is_lost}


@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize("mode", CommitMode)
@pytest.mark.parametrize("window", WINDOWS)
async def test_window(window: str, mode: CommitMode, failure: str, bench: Bench) -> None:
    await survive(bench, window, mode, FAILURES[failure])


@pytest.mark.parametrize("window", [*WINDOWS, names.FINALIZE])
async def test_window_survived_by_another_worker(window: str, bench: Bench) -> None:
    bench.faults.cold = True
    await survive(bench, window, CommitMode.STRICT, raises)


async def survive(bench: Bench, window: str, mode: CommitMode, failure: Step) -> None:
    request = await bench.stage("file", mode=mode)
    bench.faults.after(window, failure)
    answer = await bench.commit_one(request)
    assert answer.version == 1
    assert answer.delta_log_path == bench.table.log_path(1)

    replays = []
    for _ in range(3):
        (outcome,) = await bench.commit(request)
        assert await bench.inflight_is_null()
        assert outcome.replayed
        replays.append(outcome.result)
    assert replays == [answer] * 3

    assert bench.added(1) == ["file"]
    assert (await bench.coordinator()).state.latest_version == 1
    await bench.finished()
    first = bench.run_ids[0]
    told = await bench.status(first)
    assert [(one.step, one.attempts) for one in told.retried] == [(window, 2)]
    assert f"`{window}` of version 1: attempt 2 succeeded" in await bench.current_details(first)
    attempts = await bench.attempts()
    assert Attempt(window, 2) in attempts
    assert [one for one in attempts if one.attempt > 1] == [Attempt(window, 2)]
