"""Each rule on the state is needed: without it, a walk of plausible events comes to a state that cannot move on."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import Any

import pytest

from springline.control.admission.cases import Case, Ruling, Write
from springline.control.admission.round import RULES
from springline.ledger import events as e
from springline.projection.state import State
from tests.control.finishing import finish_everything
from tests.control.invariants import check_invariants
from tests.control.ledger import Ledger, request
from tests.control.strategies import next_moves

WALKS = 400
STEPS = 60


def walk(random: Random, seen: set[str]) -> None:
    """Append plausible events, check what must hold after each, and bring everything to its end."""
    ledger = Ledger()
    for _ in range(STEPS):
        ledger.round(request(random.choice(next_moves(ledger.state))))
        check_invariants(ledger.state)
        seen.update(what_is_there(ledger.state))
    finish_everything(ledger)
    check_invariants(ledger.state)


def what_is_there(state: State) -> set[str]:
    """Return the states of all tasks and runs, and whether chunks have runs."""
    found = {task.state for family in state.families.of.values() for task in family.tasks.values()}
    found |= {f"run {family.run.state}" for family in state.families.of.values() if family.run}
    found |= {"tick with run" for tick in state.ticks.rows.values() if state.run(tick.run_id or "")}
    return found | {"chunk with run" for chunk in state.chunks.rows.values() if chunk.run_id}


def test_with_all_rules_every_walk_can_be_finished() -> None:
    seen: set[str] = set()
    for seed in range(60):
        walk(Random(seed), seen)
    tasks = {"BLOCKED", "READY", "DISPATCHED", "RUNNING", "RETRY_WAIT", "SUCCEEDED", "FAILED", "SKIPPED", "CANCELLED"}
    assert seen >= tasks | {"chunk with run", "tick with run"}
    assert seen >= {f"run {state}" for state in ("TRIGGERED", "RUNNING", "SUCCEEDED", "FAILED", "CANCELLED")}


def everything_goes(state: State, case: Case[Any]) -> Ruling:
    return Write(case.data, may_be_refused=True)


@pytest.mark.proof
@pytest.mark.parametrize(
    "kind",
    [
        e.RunTriggered,
        e.PlanCreated,
        e.TaskStarted,
        e.TaskFinished,
        e.TaskCompletionRecorded,
        e.DispatchRequested,
        e.DispatchEnqueued,
        e.ScheduleTicked,
        e.SensorEvaluated,
        e.RunRequested,
        e.BackfillChunkPlanned,
    ],
    ids=lambda kind: kind.__name__,
)
def test_without_one_rule_a_walk_gets_stuck(kind: type, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RULES, kind, replace(RULES[kind], admit=everything_goes))
    stuck = 0
    for seed in range(WALKS):
        try:
            walk(Random(seed), set())
        except AssertionError:
            stuck += 1
            break
    assert stuck, f"{WALKS} walks without the rule for {kind.__name__} all came to their end"
