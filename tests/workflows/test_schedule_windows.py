"""The evaluator of schedules and the launcher of runs die at each of their steps: no instant is doubled, none is lost.

A step is an activity. It dies before its effect, behind it, or so that its answer is lost; another worker goes on.
"""

from __future__ import annotations

import pytest

from springline import names
from springline.schedules.changing import switched
from tests.support.definitions import asset
from tests.workflows.faults import raises
from tests.workflows.runs import until
from tests.workflows.runs_bench import RunsBench
from tests.workflows.test_ledger_windows import FAILURES
from tests.workflows.test_schedules import EVERY_SECOND, change, check_without_gap, define, there_are, ticks

pytestmark = pytest.mark.usefixtures("long_patience")
OF_THE_LEDGER = [names.ADMIT, names.APPEND_EVENTS, names.FOLD, names.PUBLISH]
STEPS = [
    *(names.EVALUATE_SCHEDULES, names.LAUNCH_RUNS),
    *(pytest.param(step, marks=pytest.mark.full) for step in OF_THE_LEDGER),
]


@pytest.mark.parametrize("when", ["before", *FAILURES])
@pytest.mark.parametrize("step", STEPS)
async def test_a_step_that_dies_doubles_no_instant_and_loses_none(step: str, when: str, runs: RunsBench) -> None:
    await runs.deploy(asset("raw"))
    await define(runs, "often", EVERY_SECOND)
    await there_are(runs, 1)
    if when == "before":
        runs.faults.before(step, raises)
    else:
        runs.faults.after(step, FAILURES[when])
    await there_are(runs, 4)
    await change(runs, "often", switched("often", enabled=False))

    async def runs_have_ended() -> bool:
        found = await runs.rows("runs")
        asked = {one["run_key"] for one in await ticks(runs) if one["run_key"] is not None}
        return {run["run_key"] for run in found} == asked and {run["state"] for run in found} == {"SUCCEEDED"}

    await until(runs_have_ended, "there is one run for each instant, and it has ended")
    check_without_gap(await ticks(runs))
    assert runs.faults.unused == []
