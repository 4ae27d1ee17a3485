"""What may be sent to workers, and timers that are not lost."""

from __future__ import annotations

from typing import Any

import pytest

from springline.errors import Code
from springline.ledger.request import EventOutcome, NewEvent
from tests.control.ledger import APPLIED, DUPLICATE, Ledger
from tests.control.payloads import cancelled, dispatched, finished, planned, sent, started, timer, triggered


@pytest.fixture
def ledger() -> Ledger:
    """A run with task `a` READY, and `b` BLOCKED by it."""
    ledger = Ledger()
    ledger.append(triggered(), planned(a="", b="a"))
    return ledger


def refused(ledger: Ledger, data: dict[str, Any], field: str, says: str) -> None:
    refusal = ledger.refused(data)
    assert (refusal.code, refusal.field) == (Code.EVENT_CONFLICT, f"events[0].data.{field}")
    assert says in refusal.message


def test_a_dispatch_is_asked_for_sent_and_over_when_the_attempt_begins(ledger: Ledger) -> None:
    ledger.append(dispatched(), sent(), started())
    assert ledger.state.dispatch("dispatch:r:a:1") is None
    (again,) = ledger.append(dispatched())
    assert again.outcome is DUPLICATE


def test_a_task_is_dispatched_when_it_is_due_and_not_before(ledger: Ledger) -> None:
    """The fold would take the row and leave the task where it is: nobody would dispatch it again.

    See docs/events.md#order-4, docs/events.md#order-5.
    """
    refused(ledger, dispatched("c"), "task_key", "no task 'c'")
    refused(ledger, dispatched("b"), "task_key", "waits for others")
    ledger.append(started(), finished())
    ledger.append(dispatched("b"))
    assert ledger.task("b") == "DISPATCHED"


def test_what_has_ended_or_is_cancelled_is_not_dispatched(ledger: Ledger) -> None:
    ledger.append(started("a"))
    ledger.append(cancelled())
    refused(ledger, dispatched("b"), "task_key", "has ended: CANCELLED")
    refused(ledger, dispatched("a", 2), "run_id", "is cancelled")
    ledger.append(finished())
    refused(ledger, dispatched("a", 2), "task_key", "has ended: SUCCEEDED")


def test_an_attempt_is_dispatched_before_it_begins_and_after_the_one_before_it_ended(ledger: Ledger) -> None:
    ledger.append(started())
    refused(ledger, dispatched(), "attempt", "has begun")
    refused(ledger, dispatched(attempt=2), "attempt", "is still running")
    ledger.append(finished("failed"))
    refused(ledger, dispatched(), "attempt", "has begun")
    ledger.append(dispatched(attempt=2))
    assert ledger.task() == "DISPATCHED"


def test_a_dispatch_has_the_id_of_its_attempt(ledger: Ledger) -> None:
    """A row under another id would never leave the outbox (docs/events.md#w37)."""
    refusal = ledger.refused(dispatched(dispatch_id="d"))
    assert (refusal.code, refusal.field) == (Code.INVALID_REQUEST, "events[0].data.dispatch_id")
    assert refusal.remedy == "Give dispatch:r:a:1."


def test_a_dispatch_that_would_change_nothing_is_refused(ledger: Ledger) -> None:
    ledger.append(dispatched())
    refusal = ledger.refused(NewEvent(data=dispatched(), idempotency_key="again"))
    assert (refusal.code, refusal.field) == (Code.EVENT_CONFLICT, "events[0].data")
    assert "changes nothing" in refusal.message


def test_a_dispatch_whose_key_another_writer_used_too_early_is_told_apart(ledger: Ledger) -> None:
    ledger.foreign(dispatched("b"))
    ledger.append(started(), finished())
    assert ledger.task("b") == "READY"
    assert ledger.refused(dispatched("b")).code is Code.KEY_REUSED
    ledger.append(NewEvent(data=dispatched("b"), idempotency_key="again"))
    assert ledger.task("b") == "DISPATCHED"


def test_news_of_a_dispatch_that_come_late_are_recorded_without_effect(ledger: Ledger) -> None:
    ledger.append(dispatched(), started())
    (told,) = ledger.append(sent())
    assert told.outcome is EventOutcome.NOT_APPLIED
    assert len(ledger.events) == 5
    nameless = {name: value for name, value in sent().items() if name not in ("run_id", "task_key", "attempt")}
    (told,) = ledger.append(nameless)
    assert told.outcome is EventOutcome.NOT_APPLIED


def test_news_of_a_dispatch_that_nobody_asked_for_are_refused(ledger: Ledger) -> None:
    """The fold would make a row of them, without the id of the attempt."""
    refused(ledger, sent(), "dispatch_id", "no dispatch 'dispatch:r:a:1' is under way")
    nameless = {name: value for name, value in sent().items() if name not in ("run_id", "task_key", "attempt")}
    refused(ledger, nameless, "dispatch_id", "is under way")
    assert ledger.state.dispatch("dispatch:r:a:1") is None


def test_news_of_a_dispatch_name_its_own_task(ledger: Ledger) -> None:
    ledger.append(dispatched())
    refused(ledger, sent(task_key="b"), "dispatch_id", "sends attempt 1 of task 'a'")
    ledger.append(sent())
    row = ledger.state.dispatch("dispatch:r:a:1")
    assert row is not None
    assert row.status == "CREATED"


def test_a_timer_is_asked_for_set_and_fired(ledger: Ledger) -> None:
    for kind in ("timer_requested", "timer_enqueued", "timer_fired"):
        (told,) = ledger.append(timer(kind))
        assert told.outcome is APPLIED
    row = ledger.state.timer("timer:retry:r:a:1:1736935240")
    assert row is not None
    assert row.state == "FIRED"


def test_a_timer_may_be_set_before_it_is_asked_for_if_its_id_says_what_it_is(ledger: Ledger) -> None:
    ledger.append(timer("timer_enqueued", "timer:cron:s:1736935240"))
    again = timer("timer_requested", "timer:cron:s:1736935240", timer_type="cron")
    (told,) = ledger.append(again)
    assert told.outcome is EventOutcome.NOT_APPLIED


@pytest.mark.parametrize("kind", ["timer_enqueued", "timer_fired"])
@pytest.mark.parametrize(
    "timer_id", ["t", "timer:retry:r:a:1:1736935240:retry_reschedule", "timer:cron:s:99999999999999"]
)
def test_news_of_a_timer_that_nobody_can_place_are_refused(ledger: Ledger, kind: str, timer_id: str) -> None:
    """The fold would pass over them, and the timer would stay unset, or never fire (docs/events.md#w35)."""
    assert ledger.refused(timer(kind, timer_id)).code is Code.EVENT_CONFLICT
    ledger.append(timer("timer_requested", timer_id), timer(kind, timer_id))
