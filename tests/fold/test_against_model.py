"""The fold against a second, slow and literal one, over adversarial ledgers, with and without retention."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from springline.ledger.request import EventOutcome
from springline.projection.fold.loop import fold_all, fold_event
from tests.fold.support import differences, empty_state, events_of, model_tables, tables_of
from tests.support.ledgers import Object, adversarial_ledger, bodies_of, ledgers

MODES = [(None, 0.02), (None, 200.0), (0, 200.0), (5, 200.0), (40, 200.0)]
"""Days of retention, and days of history."""

TYPES = 25


@settings(max_examples=60, deadline=None)
@given(ledger=ledgers(), retention_days=st.sampled_from([None, 0, 5]))
def test_a_short_ledger_folds_as_in_the_model(ledger: list[Object], retention_days: int | None) -> None:
    bodies = bodies_of(ledger)
    state = empty_state(retention_days)
    fold_all(state, events_of(bodies))
    assert differences(tables_of(state), model_tables(bodies, retention_days)) == []


def explore(seeds: range) -> Counter[str]:
    """Compare both folds over ledgers from seeds in all modes; return how often what was met."""
    met: Counter[str] = Counter()
    for seed in seeds:
        rnd = Random(seed)
        retention_days, days = MODES[seed % len(MODES)]
        bodies = bodies_of(adversarial_ledger(rnd, rnd.randrange(20, 250), days))
        state = empty_state(retention_days)
        for event in events_of(bodies):
            outcome = fold_event(state, event)
            met["events"] += 1
            if event.data is not None:
                met[f"{type(event.data).__name__} {outcome.value}"] += 1
        folded = tables_of(state)
        assert differences(folded, model_tables(bodies, retention_days)) == [], f"seed {seed}"
        met["ledgers"] += 1
        met["rows"] += sum(map(len, folded.values()))
    return met


def check(met: Counter[str], record_property: Callable[[str, object], None]) -> None:
    assert len([name for name in met if name.endswith(f" {EventOutcome.APPLIED.value}")]) == TYPES
    record_property("explored", f"fold = model: {met['ledgers']} ledgers, {met['events']} events, {met['rows']} rows")


def test_ledgers_fold_as_in_the_model(record_property: Callable[[str, object], None]) -> None:
    check(explore(range(200)), record_property)


@pytest.mark.full
def test_many_ledgers_fold_as_in_the_model(record_property: Callable[[str, object], None]) -> None:
    check(explore(range(1_000, 4_000)), record_property)
