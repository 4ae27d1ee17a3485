"""Runs: what may be triggered, planned and cancelled, and what is added so that a cancellation holds."""

from __future__ import annotations

import pytest

from springline.errors import Code
from springline.ledger.identifiers import run_id_of_key
from springline.ledger.request import NewEvent
from tests.control.ledger import APPLIED, DUPLICATE, Ledger, outcomes
from tests.control.payloads import cancelled, chunk, finished, planned, requested, started, triggered


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()


def test_a_run_is_triggered_planned_and_runs_to_its_end(ledger: Ledger) -> None:
    ledger.append(triggered(), planned(a="", b="a"))
    ledger.append(started("a"), finished(task="a"), started("b"), finished(task="b"))
    assert ledger.run() == "SUCCEEDED"


def test_a_run_is_triggered_once(ledger: Ledger) -> None:
    (first,) = ledger.append(triggered(run_key="k"))
    (second,) = ledger.append(triggered("other", run_key="k"))
    assert second == first.model_copy(update={"outcome": DUPLICATE})
    assert len(ledger.events) == 1
    refusal = ledger.refused(planned("other", a=""))
    assert (refusal.code, refusal.field, refusal.value) == (Code.EVENT_CONFLICT, "events[0].data.run_id", "other")
    assert "run_triggered first" in str(refusal.remedy)


def test_a_run_key_is_used_once_also_under_a_key_of_ones_own(ledger: Ledger) -> None:
    (first,) = ledger.append(triggered(run_key="k"))
    (second,) = ledger.append(NewEvent(data=triggered("other", run_key="k"), idempotency_key="mine"))
    assert (second.event_id, second.outcome) == (first.event_id, DUPLICATE)


def test_a_run_id_belongs_to_one_run(ledger: Ledger) -> None:
    ledger.append(triggered())
    refusal = ledger.refused(triggered(run_key="k"))
    assert (refusal.code, refusal.field) == (Code.EVENT_CONFLICT, "events[0].data.run_id")


def test_a_run_id_has_no_colon(ledger: Ledger) -> None:
    """Ids and keys join their parts with it: `started:a:b:c:1` could be task `b:c` of run `a`, or `c` of `a:b`."""
    refusal = ledger.refused(triggered("a:b"))
    assert (refusal.code, refusal.field, refusal.value) == (Code.INVALID_REQUEST, "events[0].data.run_id", "a:b")


def test_a_requested_run_is_triggered_under_its_own_id(ledger: Ledger) -> None:
    """Another run under its key would use the key up, and the requested run could never come."""
    ledger.append(requested("k"))
    refusal = ledger.refused(triggered("other", run_key="k"))
    own = run_id_of_key("acme", "prod", "k", b"")
    assert (refusal.code, refusal.field) == (Code.EVENT_CONFLICT, "events[0].data.run_key")
    assert own in refusal.message
    ledger.append(triggered(own, run_key="k"))
    assert ledger.run(own) == "TRIGGERED"


def test_a_run_without_run_key_does_not_use_up_the_key_of_a_requested_one(ledger: Ledger) -> None:
    ledger.append(requested("r"))
    refusal = ledger.refused(triggered("r"))
    assert (refusal.code, refusal.field) == (Code.EVENT_CONFLICT, "events[0].data.run_id")


def test_a_run_key_of_a_backfill_is_for_requested_runs(ledger: Ledger) -> None:
    refusal = ledger.refused(triggered(run_key=chunk()["run_key"]))
    assert (refusal.code, refusal.field) == (Code.EVENT_CONFLICT, "events[0].data.run_key")


def test_a_plan_is_written_once(ledger: Ledger) -> None:
    _, first = ledger.append(triggered(), planned(a=""))
    (second,) = ledger.append(planned(a="", b=""))
    assert (second.event_id, second.outcome) == (first.event_id, DUPLICATE)
    (third,) = ledger.append(NewEvent(data=planned(c=""), idempotency_key="mine"))
    assert (third.event_id, third.outcome) == (first.event_id, DUPLICATE)
    assert set(ledger.state.tasks_of("r")) == {"a"}


def test_a_plan_of_another_writer_under_its_own_key_is_not_replaced(ledger: Ledger) -> None:
    ledger.append(triggered())
    ledger.foreign(planned(a=""), key="theirs")
    refusal = ledger.refused(planned(b=""))
    assert (refusal.code, refusal.field) == (Code.EVENT_CONFLICT, "events[0].data.run_id")


def test_a_plan_for_a_cancelled_run_is_cancelled_at_once(ledger: Ledger) -> None:
    ledger.append(triggered())
    ledger.append(cancelled())
    assert ledger.run() == "CANCELLED"
    plan, cancel = ledger.append(planned(a="", b="a"))
    assert outcomes([plan, cancel]) == [
        ("PlanCreated", APPLIED, False),
        ("RunCancelRequested", APPLIED, True),
    ]
    assert cancel.idempotency_key == f"cancel_req:r:plan:{plan.event_id}"
    assert ledger.events[-1].causation_id == plan.event_id
    assert (ledger.run(), ledger.task("a"), ledger.task("b")) == ("CANCELLED", "CANCELLED", "CANCELLED")


def test_nothing_of_a_request_begins_between_a_plan_and_its_cancellation(ledger: Ledger) -> None:
    ledger.append(triggered(), cancelled())
    refusal = ledger.refused(planned(a=""), started())
    assert (refusal.code, refusal.field) == (Code.EVENT_CONFLICT, "events[1].data.task_key")


def test_what_is_added_stands_behind_what_was_asked_for_in_the_answer_but_not_in_the_ledger(ledger: Ledger) -> None:
    ledger.append(triggered(), cancelled())
    plan, other, cancel = ledger.append(planned(a=""), triggered("r2"))
    assert plan.event_id < cancel.event_id < other.event_id


def test_a_plan_that_another_writer_left_empty_can_be_made_good_under_a_new_key(ledger: Ledger) -> None:
    ledger.append(triggered())
    ledger.foreign(planned())
    assert ledger.run() == "RUNNING"
    refusal = ledger.refused(planned(a=""))
    assert (refusal.code, refusal.field) == (Code.KEY_REUSED, "events[0].idempotency_key")
    ledger.append(NewEvent(data=planned(a=""), idempotency_key="again"))
    ledger.append(started(), finished())
    assert ledger.run() == "SUCCEEDED"


def test_a_run_is_cancelled_once(ledger: Ledger) -> None:
    ledger.append(triggered(), planned(a="", b=""), started("a"))
    (first,) = ledger.append(cancelled())
    (second,) = ledger.append(cancelled(reason="again"))
    assert (second.event_id, second.outcome) == (first.event_id, DUPLICATE)
    assert (ledger.run(), ledger.task("a"), ledger.task("b")) == ("RUNNING", "RUNNING", "CANCELLED")


def test_only_a_run_that_exists_and_goes_on_is_cancelled(ledger: Ledger) -> None:
    assert ledger.refused(cancelled()).field == "events[0].data.run_id"
    ledger.append(triggered(), planned(a=""), started(), finished())
    refusal = ledger.refused(cancelled())
    assert (refusal.code, "SUCCEEDED" in refusal.message) == (Code.EVENT_CONFLICT, True)


def test_a_run_that_another_writer_planned_after_its_cancellation_is_cancelled_under_a_new_key(ledger: Ledger) -> None:
    ledger.append(triggered(), cancelled())
    plan = ledger.foreign(planned(a=""))
    assert (ledger.run(), ledger.task()) == ("RUNNING", "READY")
    assert ledger.refused(cancelled()).code is Code.KEY_REUSED
    assert ledger.refused(started()).field == "events[0].data.run_id"
    ledger.append(NewEvent(data=cancelled(), idempotency_key=f"cancel_req:r:plan:{plan}"))
    assert (ledger.run(), ledger.task()) == ("CANCELLED", "CANCELLED")
