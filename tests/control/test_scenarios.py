"""Histories of other writers that end wrong, appended through admission: they end in states that can move."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from springline.errors import Code
from springline.ledger.request import AppendOutcome
from tests.control.finishing import finish_everything
from tests.control.invariants import check_invariants
from tests.control.ledger import APPLIED, DUPLICATE, Ledger, request, snapshot
from tests.support.event_samples import LEDGERS, bodies_of

GOLDEN = Path(__file__).parents[1] / "golden"
SCENARIOS = sorted(path.stem for path in (GOLDEN / "scenarios").glob("*.json"))


def appended(name: str) -> tuple[Ledger, list[AppendOutcome]]:
    """Append a scenario's payloads one by one, in the order of their ids."""
    history = json.loads((GOLDEN / "scenarios" / f"{name}.json").read_text())["events"]
    bodies = sorted((event["body"] for event in history), key=lambda body: str(body["event_id"]))
    ledger = Ledger()
    answers = [ledger.round(request(body["data"]))[0] for body in bodies]
    return ledger, answers


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_scenario_can_move_on_to_its_end(name: str) -> None:
    ledger, _ = appended(name)
    check_invariants(ledger.state)
    finish_everything(ledger)
    assert snapshot(ledger.state) == snapshot(ledger.refolded())


def test_a_plan_behind_a_cancellation() -> None:
    ledger, answers = appended("cancel-before-plan")
    assert (ledger.run(), ledger.task("a"), ledger.task("b")) == ("CANCELLED", "CANCELLED", "CANCELLED")
    assert [event.completed for event in answers[-1].events] == [False, True]


def test_a_plan_without_tasks() -> None:
    ledger, answers = appended("empty-plan")
    assert answers[-1].refusal is not None
    assert answers[-1].refusal.field == "events[0].data.tasks"
    assert ledger.run() == "TRIGGERED"


def test_a_schedule_enabled_again() -> None:
    ledger, _ = appended("schedule-reenable")
    row = ledger.state.schedule("s1")
    assert row is not None
    assert row.enabled


def test_a_stale_evaluation() -> None:
    ledger, answers = appended("sensor-stale")
    assert [answer.refusal is None for answer in answers] == [True, True, False, True, True]
    assert answers[2].refusal is not None
    assert answers[2].refusal.code is Code.EVENT_CONFLICT
    assert (ledger.state.run_key("ks"), ledger.state.run_key("ks2") is not None) == (None, True)


def test_a_run_key_with_several_fingerprints() -> None:
    ledger, answers = appended("run-key-conflict")
    assert [answer.events[0].outcome for answer in answers] == [APPLIED, APPLIED, DUPLICATE, APPLIED]
    row = ledger.state.run_key("k")
    assert row is not None
    assert row.request_fingerprint == "f1"


def test_an_end_that_comes_again() -> None:
    ledger, answers = appended("retry-timer")
    assert Counter(event.outcome for answer in answers for event in answer.events)[DUPLICATE] == 1
    assert ledger.task("a") == "SUCCEEDED"


@pytest.mark.parametrize("name", LEDGERS)
def test_a_long_history_appended_event_by_event_can_move_on_to_its_end(name: str) -> None:
    """In the order of ids, which in `late` and `shuffled-duplicates` is not the order in which things happened."""
    bodies = {json.loads(body)["event_id"]: json.loads(body) for body in bodies_of(name)}
    ledger = Ledger()
    refused: Counter[str] = Counter()
    for _, body in sorted(bodies.items()):
        (answer,) = ledger.round(request(body["data"]))
        refused[body["data"]["type"]] += answer.refusal is not None
    check_invariants(ledger.state)
    if name == "plain":
        # The tick names its definition by the id that it had there, which is another here.
        assert +refused == {"unknown": 1, "task_heartbeat": 2, "backfill_state_changed": 1, "schedule_ticked": 1}
    finish_everything(ledger)
    check_invariants(ledger.state)
    assert snapshot(ledger.state) == snapshot(ledger.refolded())
