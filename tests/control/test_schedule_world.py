"""Schedules under every misfortune, by thousands of seeds, and decisions without which something is lost or doubled."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from springline.control.admission import automation
from springline.control.schedules import deciding
from springline.control.schedules.deciding import Decided, ScheduleView
from springline.schedules import reading
from tests.control.schedule_world import ScheduleWorld

SEEDS = 200
FULL_SEEDS = 10_000
Mutant = Callable[[pytest.MonkeyPatch], None]


def lived(seed: int) -> ScheduleWorld:
    dice = random.Random(seed)
    world = ScheduleWorld(dice)
    world.live(dice.choice((20, 80, 200)))
    world.check()
    return world


def live_through(seeds: range) -> Counter[str]:
    counts: Counter[str] = Counter()
    for seed in seeds:
        try:
            counts += lived(seed).counts
        except Exception as error:
            raise AssertionError(f"seed {seed}: {error}") from error
    return counts


@pytest.mark.proof
@pytest.mark.parametrize("first", range(0, SEEDS, 50))
def test_every_instant_is_decided_on_once_and_none_is_lost(first: int) -> None:
    counts = live_through(range(first, first + 50))
    assert counts["ticks"] > 300
    assert counts["refused"] > 10, "misfortunes that hurt nobody prove nothing"


@pytest.mark.full
@pytest.mark.timeout(3_600)
@pytest.mark.parametrize("first", range(SEEDS, FULL_SEEDS, 700))
def test_every_instant_is_decided_on_once_and_none_is_lost_by_many_seeds(first: int) -> None:
    live_through(range(first, first + 700))


def _order_is_not_judged(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(automation, "_check_order", lambda *_args: None)


def _version_is_not_judged(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(automation, "_check_due", lambda *_args: None)


def _replaced_is_not_judged(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(automation, "_check_replaced", lambda *_args: None)


def _skipped_ticks_may_have_runs(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(automation, "_check_tick", lambda *_args: None)


def _an_edit_owes_nothing(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(deciding, "owed_at_edit", lambda *_args: Decided())


def _an_edit_trusts_its_clock(patch: pytest.MonkeyPatch) -> None:
    original = deciding.replaced

    def mutant(view: ScheduleView | None, version: Any, definition: Any, now_ms: int, plan: Any) -> Decided:
        seen = None if view is None else replace(view, evaluated_to=0, enabled=False, deleted=True)
        return original(seen, version, definition, now_ms, plan)

    patch.setattr(deciding, "replaced", mutant)


def _dropped_instants_leave_no_record(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(deciding._Deciding, "drop", lambda *_args: True)


def _skips_leave_no_record(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(deciding._Deciding, "_skip", lambda *_args: None)


def _any_tick_counts(patch: pytest.MonkeyPatch) -> None:
    """What is decided on is read from the last tick on record, by hand or not."""

    def mutant(_schedule_id: str, _own: Any, last: Any, since: int) -> int:
        return since if last is None else max(since, last.last_scheduled_for // 1_000)

    patch.setattr(reading, "_evaluated_to", mutant)


MUTANTS: tuple[Mutant, ...] = (
    _order_is_not_judged,
    _version_is_not_judged,
    _replaced_is_not_judged,
    _skipped_ticks_may_have_runs,
    _an_edit_owes_nothing,
    _an_edit_trusts_its_clock,
    _dropped_instants_leave_no_record,
    _skips_leave_no_record,
    _any_tick_counts,
)


@pytest.mark.proof
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.__name__.strip("_"))
def test_without_a_rule_something_is_lost_or_doubled(mutant: Mutant, monkeypatch: pytest.MonkeyPatch) -> None:
    mutant(monkeypatch)
    for seed in range(2_000):
        try:
            lived(seed)
        except AssertionError:
            return
    raise AssertionError("2,000 worlds without the rule lost and doubled nothing")
