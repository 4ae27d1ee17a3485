"""Every fault at every storage operation of the real commit code, whatever comes after (docs/protocol.md#rule-1)."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

import pytest

from tests.exhaustive.histories import After, Histories, Plan, Scenario
from tests.exhaustive.plans import every_fault, every_fault_at_every_instant, every_interleaving
from tests.exhaustive.scenarios import ALONE, ALONE_WITH_EVENTS, CONTENDERS, WITH_EVENTS, sampled
from tests.exhaustive.world import World
from tests.support import virtual_time

Record = Callable[[str, object], None]
Explore = Callable[[Histories], Coroutine[Any, Any, None]]

PAIRS = ALONE[:2]
SWITCHED = [scenario for scenario in CONTENDERS if not scenario.cold and scenario.before is None]


def explore(scenario: Scenario, record: Record, how: Explore, *, content_tokens: bool = False) -> None:
    """Run `how` over the histories of `scenario` and record how many there were."""

    async def run() -> Histories:
        histories = Histories(await World.create(content_tokens=content_tokens), scenario)
        await how(histories)
        return histories

    tally = virtual_time.run(run()).tally
    assert tally.histories
    record(
        "explored", f"commit code, exhaustively: {tally.histories} histories checked, {tally.endings} different endings"
    )


def named(scenario: Scenario) -> str:
    return scenario.name.replace(" ", "-").replace(",", "")


@pytest.mark.parametrize("scenario", sampled(ALONE), ids=named)
def test_every_fault_of_one_run(scenario: Scenario, record_property: Record) -> None:
    explore(scenario, record_property, lambda h: every_fault(h, Plan()))


@pytest.mark.proof
@pytest.mark.parametrize("scenario", ALONE, ids=named)
def test_every_fault_with_reads_the_other_way_round(scenario: Scenario, record_property: Record) -> None:
    explore(scenario, record_property, lambda h: every_fault(h, Plan(newest_first=True)), content_tokens=True)


@pytest.mark.proof
@pytest.mark.parametrize("scenario", PAIRS, ids=named)
def test_every_pair_of_faults(scenario: Scenario, record_property: Record) -> None:
    explore(scenario, record_property, lambda h: every_fault(h, Plan(), faults=2))


@pytest.mark.parametrize("scenario", sampled(ALONE_WITH_EVENTS), ids=named)
def test_every_fault_around_an_event(scenario: Scenario, record_property: Record) -> None:
    explore(scenario, record_property, every_fault_at_every_instant)


@pytest.mark.parametrize("scenario", sampled(CONTENDERS), ids=named)
def test_every_fault_of_two_contenders(scenario: Scenario, record_property: Record) -> None:
    explore(scenario, record_property, lambda h: every_fault(h, Plan()))


@pytest.mark.proof
@pytest.mark.parametrize("scenario", CONTENDERS[:1], ids=named)
def test_every_fault_after_every_switch(scenario: Scenario, record_property: Record) -> None:
    explore(
        scenario,
        record_property,
        lambda h: every_interleaving(h, switches=1, plan=Plan(newest_first=True), faults=True),
    )


@pytest.mark.full
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("scenario", SWITCHED, ids=named)
def test_every_fault_after_every_two_switches(scenario: Scenario, record_property: Record) -> None:
    for newest_first in (False, True):
        how = partial(every_interleaving, switches=2, plan=Plan(newest_first=newest_first), faults=True)
        explore(scenario, record_property, how)


@pytest.mark.full
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("scenario", [s for s in ALONE if s not in PAIRS], ids=named)
def test_every_pair_of_faults_of_larger_runs(scenario: Scenario, record_property: Record) -> None:
    explore(scenario, record_property, lambda h: every_fault(h, Plan(), faults=2))


@pytest.mark.full
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("scenario", WITH_EVENTS, ids=named)
def test_every_fault_of_contenders_around_an_event(scenario: Scenario, record_property: Record) -> None:
    explore(scenario, record_property, every_fault_at_every_instant)


@pytest.mark.full
@pytest.mark.timeout(3600)
def test_three_faults_of_one_append(record_property: Record) -> None:
    afters = (After.SAME_CALLER, After.NOBODY)
    explore(ALONE[0], record_property, lambda h: every_fault(h, Plan(), faults=3, afters=afters))
