"""Attempts: what may begin, what an attempt may report, and how it ends in a cancelled run."""

from __future__ import annotations

from typing import Any

import pytest

from springline.errors import Code
from springline.ledger.request import NewEvent
from tests.control.ledger import APPLIED, DUPLICATE, START_MS, Ledger, outcomes
from tests.control.payloads import (
    cancelled,
    completed,
    dispatched,
    finished,
    heartbeat,
    output,
    planned,
    started,
    triggered,
)


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
    assert refusal.remedy


@pytest.mark.parametrize("report", [started, heartbeat, finished, completed, output])
def test_a_report_of_a_task_that_does_not_exist_is_refused(ledger: Ledger, report: Any) -> None:
    refused(ledger, report(task="c"), "task_key", "no task 'c'")
    refused(ledger, report(run="x"), "task_key", "no task 'a'")


@pytest.mark.parametrize("report", [started, heartbeat, finished, completed, output, dispatched])
def test_attempts_count_from_one(ledger: Ledger, report: Any) -> None:
    refusal = ledger.refused(report(attempt=0))
    assert (refusal.code, refusal.field, refusal.value) == (Code.INVALID_REQUEST, "events[0].data.attempt", 0)


def test_a_blocked_task_does_not_start(ledger: Ledger) -> None:
    refused(ledger, started("b"), "task_key", "waits for others")
    ledger.append(started("a"), finished(task="a"), started("b"))
    assert ledger.task("b") == "RUNNING"


@pytest.mark.parametrize("end", ["succeeded", "skipped", "cancelled"])
def test_a_task_that_has_ended_does_not_start_again(ledger: Ledger, end: str) -> None:
    ledger.append(started(), finished(end))
    for report in (started(attempt=2), heartbeat(), finished(attempt=2), dispatched(attempt=2)):
        refused(ledger, report, "task_key", f"has ended: {end.upper()}")


def test_an_attempt_that_waits_to_be_repeated_does_not_start_again(ledger: Ledger) -> None:
    """The fold would let it run a second time, with its end used up (docs/events.md#w7)."""
    ledger.append(dispatched(), finished("failed"))
    assert ledger.task() == "RETRY_WAIT"
    refused(ledger, started(), "attempt", "attempt 1 of task 'a' has ended")
    ledger.append(started(attempt=2), finished(attempt=2))
    assert ledger.task() == "SUCCEEDED"


def test_an_attempt_that_has_been_overtaken_is_told_so(ledger: Ledger) -> None:
    ledger.append(started(), started(attempt=2))
    refused(ledger, NewEvent(data=started(), idempotency_key="mine"), "attempt", "attempt 2")  # type: ignore[arg-type]
    refused(ledger, heartbeat(), "attempt", "attempt 2 is the latest")
    refused(ledger, finished(), "attempt", "attempt 2 is the latest")


def test_an_attempt_has_one_id(ledger: Ledger) -> None:
    ledger.append(dispatched())
    refused(ledger, started(attempt_id="other"), "attempt_id", "has the id")
    ledger.append(started())
    refused(ledger, heartbeat(attempt_id="other"), "attempt_id", "has the id")
    refused(ledger, finished(attempt_id="other"), "attempt_id", "has the id")


def test_an_end_before_the_start_is_refused_so_that_it_comes_again_behind_it(ledger: Ledger) -> None:
    """The fold would pass over it, and the start behind it would run for ever (docs/events.md#order-9)."""
    refused(ledger, finished(), "attempt", "no attempt has begun")
    ledger.append(started(), finished())
    assert ledger.task() == "SUCCEEDED"


def test_the_same_report_again_is_a_duplicate_also_when_the_task_has_ended(ledger: Ledger) -> None:
    first = ledger.append(started(), finished())
    second = ledger.append(started(), completed())
    assert [event.event_id for event in second] == [event.event_id for event in first]
    assert [event.outcome for event in second] == [DUPLICATE, DUPLICATE]
    assert second[1].event_type == "TaskFinished"


def test_a_heartbeat_without_a_time_gets_the_events(ledger: Ledger) -> None:
    """Without one all heartbeats of an attempt share a key, and only the first would count (docs/events.md#w21)."""
    ledger.append(started())
    for _ in range(2):
        (told,) = ledger.append(heartbeat())
        assert told.outcome is APPLIED
    row = ledger.state.task("r", "a")
    assert row is not None
    assert row.last_heartbeat_at == ledger.now_ms - 1_000
    assert told.idempotency_key.endswith(f":{ledger.now_ms - 1_000}")


def test_a_heartbeat_keeps_the_time_it_says_unless_it_lies_in_the_future(ledger: Ledger) -> None:
    ledger.append(started())
    assert ledger.now_ms == START_MS + 2_000
    ledger.append(heartbeat(heartbeat_at="2025-01-15T10:05:02.000999Z"))
    refusal = ledger.refused(heartbeat(heartbeat_at="2025-01-15T10:05:03.001Z"))
    assert (refusal.code, refusal.field) == (Code.INVALID_REQUEST, "events[0].data.heartbeat_at")
    assert ledger.refused(heartbeat(progress_pct=101)).field == "events[0].data.progress_pct"


@pytest.mark.parametrize("report", [finished, completed])
def test_a_failure_with_attempts_left_ends_the_task_of_a_cancelled_run(ledger: Ledger, report: Any) -> None:
    """The fold would let it wait for another attempt, and the run could succeed although cancelled.

    See docs/events.md#w16.
    """
    ledger.append(started())
    ledger.append(cancelled())
    failure, end = ledger.append(report("failed", error={"category": "TIMEOUT", "message": "m"}))
    assert outcomes([failure, end])[1] == ("TaskFinished", APPLIED, True)
    assert end.idempotency_key == f"cancel_req:r:finish:{failure.event_id}"
    assert ledger.events[-1].causation_id == failure.event_id
    assert (ledger.task(), ledger.run()) == ("CANCELLED", "CANCELLED")


@pytest.mark.parametrize(
    ("outcome", "error", "state"),
    [
        ("succeeded", None, "SUCCEEDED"),
        ("cancelled", None, "CANCELLED"),
        ("failed", {"category": "CONFIGURATION", "message": "m"}, "FAILED"),
    ],
)
def test_other_ends_in_a_cancelled_run_need_no_completion(
    ledger: Ledger, outcome: str, error: dict[str, str] | None, state: str
) -> None:
    ledger.append(started(), cancelled())
    (only,) = ledger.append(finished(outcome, **_error(error)))
    assert (only.completed, ledger.task()) == (False, state)
    assert ledger.run() == "CANCELLED"


def test_a_failure_in_a_run_that_goes_on_waits_for_its_next_attempt(ledger: Ledger) -> None:
    ledger.append(started())
    (only,) = ledger.append(finished("failed"))
    assert (only.completed, ledger.task()) == (False, "RETRY_WAIT")


def test_no_attempt_begins_in_a_cancelled_run(ledger: Ledger) -> None:
    ledger.append(started())
    ledger.append(cancelled())
    refused(ledger, started(attempt=2), "run_id", "is cancelled")
    refused(ledger, dispatched(attempt=2), "run_id", "is cancelled")


def test_an_end_whose_key_was_used_is_told_apart_from_a_repeated_one(ledger: Ledger) -> None:
    """Another writer let the attempt run again after its end (docs/events.md#w7): a second end under the key would be
    lost.
    """
    ledger.append(dispatched(), started(), finished("failed"))
    ledger.foreign(started(), key="again")
    assert ledger.task() == "RUNNING"
    refusal = ledger.refused(finished())
    assert (refusal.code, refusal.field) == (Code.KEY_REUSED, "events[0].idempotency_key")
    ledger.append(NewEvent(data=finished(), idempotency_key="end-again"))
    assert ledger.task() == "SUCCEEDED"


def test_a_start_whose_key_was_used_for_another_task_is_told_apart(ledger: Ledger) -> None:
    ledger.foreign(started("b:1", run="r:a"), key="started:r:a:1")
    ledger.foreign(triggered("other"), key="started:r:a:2")
    refusal = ledger.refused(started(attempt=2))
    assert (refusal.code, refusal.field) == (Code.KEY_REUSED, "events[0].idempotency_key")
    ledger.append(NewEvent(data=started(attempt=2), idempotency_key="mine"))
    assert ledger.task() == "RUNNING"


def test_an_output_becomes_visible_once_and_for_a_success_only(ledger: Ledger) -> None:
    ledger.append(started())
    refused(ledger, output(), "task_key", "is RUNNING")
    ledger.append(completed(output_visibility={"visibility_state": "pending"}))
    refused(ledger, output(attempt=2), "attempt", "attempt 1 is the latest")
    refused(ledger, output(attempt_id="other"), "attempt_id", "has the id")
    ledger.append(output("visible"))
    refused(ledger, output("failed"), "visibility_state", "VISIBLE for good")
    (again,) = ledger.append(output("visible"))
    assert again.outcome is DUPLICATE


def _error(error: dict[str, str] | None) -> dict[str, Any]:
    return {} if error is None else {"error": error}
