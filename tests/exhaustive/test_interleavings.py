"""Every interleaving of two contenders' storage operations with at most three switches, on the real commit code."""

from __future__ import annotations

import pytest

from tests.exhaustive.histories import Histories, Plan, Scenario
from tests.exhaustive.plans import every_interleaving
from tests.exhaustive.scenarios import BY_NAME, CONTENDERS, WITH_EVENTS, sampled
from tests.exhaustive.test_crash_windows import Record, explore, named
from tests.exhaustive.world import World
from tests.support import virtual_time

THREE_SWITCHES = [BY_NAME["other keys, append"]]
"""Where leaving out a guard shows after three switches only (see `mutants.py`); elsewhere two are enough."""


@pytest.mark.proof
@pytest.mark.timeout(900)
@pytest.mark.parametrize("scenario", THREE_SWITCHES, ids=named)
def test_three_switches(scenario: Scenario, record_property: Record) -> None:
    explore(scenario, record_property, lambda h: every_interleaving(h, switches=3))


@pytest.mark.proof
@pytest.mark.parametrize("scenario", CONTENDERS, ids=named)
def test_two_switches_with_reads_the_other_way_round(scenario: Scenario, record_property: Record) -> None:
    plan = Plan(newest_first=True)
    explore(scenario, record_property, lambda h: every_interleaving(h, switches=2, plan=plan), content_tokens=True)


@pytest.mark.parametrize("scenario", sampled([s for s in CONTENDERS if s not in THREE_SWITCHES]), ids=named)
def test_two_switches(scenario: Scenario, record_property: Record) -> None:
    explore(scenario, record_property, lambda h: every_interleaving(h, switches=2))


@pytest.mark.parametrize("scenario", sampled(WITH_EVENTS), ids=named)
def test_one_switch_and_an_event(scenario: Scenario, record_property: Record) -> None:
    explore(scenario, record_property, lambda h: every_interleaving(h, switches=1))


@pytest.mark.full
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("newest_first", [False, True], ids=["in-order", "reversed"])
@pytest.mark.parametrize("scenario", CONTENDERS, ids=named)
def test_three_switches_of_everybody(scenario: Scenario, newest_first: bool, record_property: Record) -> None:
    plan = Plan(newest_first=newest_first)
    explore(scenario, record_property, lambda h: every_interleaving(h, switches=3, plan=plan))


@pytest.mark.full
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("newest_first", [False, True], ids=["in-order", "reversed"])
@pytest.mark.parametrize("scenario", WITH_EVENTS, ids=named)
def test_two_switches_and_an_event(scenario: Scenario, newest_first: bool, record_property: Record) -> None:
    plan = Plan(newest_first=newest_first)
    explore(scenario, record_property, lambda h: every_interleaving(h, switches=2, plan=plan))


def test_contenders_really_meet() -> None:
    """Interleavings in which nobody notices the other would show nothing."""

    async def answers(name: str) -> set[tuple[object, ...]]:
        histories = Histories(await World.create(), BY_NAME[name])
        found: set[tuple[object, ...]] = set()
        for switch in range(1, 14):
            ended = await histories.check(Plan(switches=(switch,)))
            if ended is not None:
                found.add(
                    tuple(
                        call.result.version if call.result else call.refusal and call.refusal.code.value
                        for call in ended.journal.calls
                    )
                )
        return found

    assert virtual_time.run(answers("other keys, append")) == {(1, 2), (2, 1)}
    assert virtual_time.run(answers("same key, append")) == {(1, 1)}
    assert virtual_time.run(answers("other keys, strict")) == {
        (1, "STALE_READ_VERSION"),
        ("STALE_READ_VERSION", 1),
    }
    assert virtual_time.run(answers("same key, other payload, append")) == {(1, "KEY_REUSED"), ("KEY_REUSED", 1)}
    assert virtual_time.run(answers("same rows written twice")) == {(1, 1)}
    assert virtual_time.run(answers("same key, other rows")) == {(1, "KEY_REUSED"), ("KEY_REUSED", 1)}
