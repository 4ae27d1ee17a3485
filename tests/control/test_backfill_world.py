"""A backfill under every misfortune, by seeds, and rules without which chunks are lost, doubled or out of place."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from springline.backfills import evaluating
from springline.control.admission import automation
from springline.control.admission.cases import Write
from springline.control.backfills import deciding
from tests.control.backfill_world import BackfillWorld
from tests.support.one_thread import one_thread

__all__ = ["one_thread"]
pytestmark = pytest.mark.usefixtures("one_thread")

SEEDS = 120
FULL_SEEDS = 6_000
Mutant = Callable[[pytest.MonkeyPatch], None]


async def lived(seed: int) -> BackfillWorld:
    dice = random.Random(seed)
    world = BackfillWorld(dice)
    await world.live(dice.choice((10, 40, 120)))
    world.check()
    return world


def live_through(seeds: Sequence[int]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for seed in seeds:
        try:
            counts += asyncio.run(lived(seed)).counts
        except Exception as error:
            raise AssertionError(f"seed {seed}: {error!r}") from error
    return counts


@pytest.mark.proof
@pytest.mark.parametrize("first", range(0, SEEDS, 40))
def test_no_chunk_is_lost_doubled_or_behind_a_pause(first: int) -> None:
    counts = live_through(range(first, first + 40))
    assert counts["chunks"] > 80
    assert min(counts[name] for name in ("refused", "killed", "old rows")) > 10, "misfortunes that hurt nobody"


@pytest.mark.full
@pytest.mark.timeout(3_600)
@pytest.mark.parametrize("first", range(SEEDS, FULL_SEEDS, 840))
def test_no_chunk_is_lost_doubled_or_behind_a_pause_by_many_seeds(first: int) -> None:
    live_through(range(first, first + 840))


def _chunks_of_a_paused_one(patch: pytest.MonkeyPatch) -> None:
    original = automation.admit_chunk
    rules = [
        replace(rule, admit=lambda state, case: _planned_anyhow(original, state, case))
        if rule.admit is original
        else rule
        for rule in automation.RULES
    ]
    from springline.control.admission import round as judging

    for rule in rules:
        patch.setitem(judging.RULES, rule.payload, rule)


def _planned_anyhow(original: Any, state: Any, case: Any) -> Any:
    if state.chunk(case.data.chunk_id) is None:
        return Write(case.data)
    return original(state, case)


def _limit_is_not_kept(patch: pytest.MonkeyPatch) -> None:
    original = deciding.chunks_to_plan
    patch.setattr(evaluating, "chunks_to_plan", lambda view: original(replace(view, limit=view.limit + 1)))


def _places_are_of_what_is_left(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(deciding, "places_of", lambda index, size, total, order: range(min(size, total - index * size)))


def _requests_come_alone(patch: pytest.MonkeyPatch) -> None:
    original = deciding.planned_chunk
    patch.setattr(evaluating, "planned_chunk", lambda view, index, keys: original(view, index, keys)[:1])
    patch.setattr(evaluating, "missing_requests", lambda view: [])


def _failures_are_forgotten(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(deciding, "FAILED", "never")


def _the_end_is_early(patch: pytest.MonkeyPatch) -> None:
    original = deciding.end_of
    patch.setattr(evaluating, "end_of", lambda view: original(replace(view, open=())))


def _the_last_chunk_is_left_out(patch: pytest.MonkeyPatch) -> None:
    original = deciding.chunks_to_plan
    patch.setattr(
        evaluating, "chunks_to_plan", lambda view: [index for index in original(view) if index + 1 < view.chunks]
    )
    patch.setattr(evaluating, "end_of", lambda view: deciding.end_of(replace(view, planned=view.planned + 1)))


MUTANTS: Sequence[Mutant] = (
    _limit_is_not_kept,
    _places_are_of_what_is_left,
    _requests_come_alone,
    _failures_are_forgotten,
    _the_end_is_early,
    _the_last_chunk_is_left_out,
    _chunks_of_a_paused_one,
)


@pytest.mark.proof
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda one: one.__name__.strip("_"))
def test_without_a_rule_it_goes_wrong(mutant: Mutant, monkeypatch: pytest.MonkeyPatch) -> None:
    mutant(monkeypatch)
    with pytest.raises(AssertionError):
        live_through(range(60))
