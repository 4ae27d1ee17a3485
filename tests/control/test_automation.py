"""Schedules, sensors and run requests."""

from __future__ import annotations

import pytest

from springline.errors import Code
from springline.ledger.events import RunRequested
from springline.ledger.identifiers import run_id_of_key
from springline.ledger.request import NewEvent
from springline.projection.config import FoldConfig
from tests.control.ledger import APPLIED, DUPLICATE, Ledger, outcomes
from tests.control.payloads import (
    cancelled,
    chunk,
    evaluated,
    of_sensor,
    of_tick,
    planned,
    requested,
    run_request,
    schedule,
    tick,
    triggered,
)


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()


def test_a_schedule_can_be_disabled_and_enabled_again(ledger: Ledger) -> None:
    """Under derived keys the second enabling would be taken for the first one, and swallowed (docs/events.md#w19)."""
    for enabled in (True, False, True):
        (told,) = ledger.append(schedule(enabled))
        assert told.outcome is APPLIED
        assert told.idempotency_key == f"sched_def_api:s:{told.event_id}"
    row = ledger.state.schedule("s")
    assert row is not None
    assert row.enabled


def test_a_derived_key_that_a_caller_gives_does_not_swallow_a_definition_either(ledger: Ledger) -> None:
    ledger.foreign(schedule(True))
    ledger.append(schedule(False))
    used = ledger.events[0].idempotency_key
    (told,) = ledger.append(NewEvent(data=schedule(True), idempotency_key=used))
    assert told.outcome is APPLIED
    assert told.idempotency_key == f"sched_def_api:s:{told.event_id}"


def test_a_definition_that_says_nothing_new_is_a_duplicate(ledger: Ledger) -> None:
    (first,) = ledger.append(schedule())
    (second,) = ledger.append(schedule())
    assert second == first.model_copy(update={"outcome": DUPLICATE})
    (third,) = ledger.append(NewEvent(data=schedule(), idempotency_key="mine"))
    assert (third.event_id, third.outcome) == (first.event_id, DUPLICATE)
    (fourth,) = ledger.append(schedule(code_version="v2"))
    assert fourth.outcome is APPLIED


def test_a_definition_that_repeats_one_of_another_writer_is_told_under_its_key(ledger: Ledger) -> None:
    event_id = ledger.foreign(schedule())
    (told,) = ledger.append(schedule())
    assert (told.event_id, told.outcome) == (event_id, DUPLICATE)
    assert told.idempotency_key.startswith("sched_def:s:")


def test_a_definition_keeps_the_key_it_is_given(ledger: Ledger) -> None:
    (first,) = ledger.append(NewEvent(data=schedule(), idempotency_key="sched_enable:s:1"))
    assert first.idempotency_key == "sched_enable:s:1"
    (second,) = ledger.append(NewEvent(data=schedule(False), idempotency_key="sched_enable:s:1"))
    assert (second.event_id, second.outcome) == (first.event_id, DUPLICATE)


def test_an_instant_is_decided_on_once(ledger: Ledger) -> None:
    first, _ = ledger.append(tick())
    (again,) = ledger.append(tick(run_key="other"))
    assert (again.event_id, again.outcome) == (first.event_id, DUPLICATE)
    refusal = ledger.refused(NewEvent(data=tick(run_key="other"), idempotency_key="mine"))
    assert (refusal.code, refusal.field) == (Code.EVENT_CONFLICT, "events[0].data.tick_id")


def test_a_tick_asks_for_its_own_run(ledger: Ledger) -> None:
    ledger.append(tick())
    refusal = ledger.refused(requested("other", source=of_tick()))
    assert (refusal.code, refusal.field) == (Code.EVENT_CONFLICT, "events[0].data.run_key")
    row = ledger.state.tick("s:1736935200")
    assert row is not None
    assert row.run_id == run_id_of_key("acme", "prod", "sched:s:1736935200", b"")


def test_the_run_that_a_tick_triggers_is_asked_for_behind_it(ledger: Ledger) -> None:
    """Without the request the tick would name a run for ever that nobody begins."""
    (defined,) = ledger.append(schedule(code_version="v1"))
    told = ledger.append(tick(definition_version=defined.event_id, partition_selection=["p"]))
    assert outcomes(told) == [("ScheduleTicked", APPLIED, False), ("RunRequested", APPLIED, True)]
    assert ledger.events[-1].causation_id == told[0].event_id
    asked = ledger.events[-1].data
    assert isinstance(asked, RunRequested)
    assert (asked.run_key, asked.request_fingerprint) == ("sched:s:1736935200", "f")
    assert (asked.asset_selection, asked.partition_selection, asked.code_version) == (["raw.a"], ["p"], "v1")
    asked_for, row = ledger.state.run_key("sched:s:1736935200"), ledger.state.tick("s:1736935200")
    assert asked_for is not None
    assert row is not None
    assert row.run_id == asked_for.run_id


def test_a_tick_by_an_older_definition_triggers_nothing(ledger: Ledger) -> None:
    """Unless a user wants it now; what was skipped or failed is recorded whatever came after."""
    (older,) = ledger.append(schedule(code_version="v1"))
    (newer,) = ledger.append(schedule(code_version="v1", springline={"overlap": "skip"}))
    assert newer.outcome is APPLIED, "a definition may differ in its member only"
    (again,) = ledger.append(schedule(code_version="v1", springline={"overlap": "skip"}))
    assert (again.outcome, again.event_id) == (DUPLICATE, newer.event_id)
    refusal = ledger.refused(tick(definition_version=older.event_id))
    assert (refusal.code, refusal.field) == (Code.EVENT_CONFLICT, "events[0].data.definition_version")
    ledger.append(tick(1, definition_version=older.event_id, status={"status": "skipped", "reason": "edited"}))
    ledger.append(tick(2, definition_version=older.event_id, tick_id="s:manual:2", run_key="sched:s:manual:2"))
    asked = ledger.events[-1].data
    assert isinstance(asked, RunRequested)
    assert asked.code_version is None, "another definition says nothing of today's code"
    ledger.append(tick(definition_version=newer.event_id))


def test_a_schedule_that_is_off_triggers_nothing(ledger: Ledger) -> None:
    (off,) = ledger.append(schedule(False))
    refusal = ledger.refused(tick(definition_version=off.event_id))
    assert (refusal.code, refusal.field) == (Code.EVENT_CONFLICT, "events[0].data.schedule_id")
    ledger.append(tick(definition_version=off.event_id, status={"status": "skipped", "reason": "off"}))


def test_a_tick_that_comes_with_its_request_gets_no_other(ledger: Ledger) -> None:
    told = ledger.append(tick(), requested("sched:s:1736935200", source=of_tick()))
    assert outcomes(told) == [("ScheduleTicked", APPLIED, False), ("RunRequested", APPLIED, False)]

    # That of another tick does not stand for it.
    told = ledger.append(tick(1_736_935_300), requested("sched:s:1736935200", "g", of_tick()))
    assert [(event.event_type, event.completed) for event in told][1:] == [
        ("RunRequested", False),
        ("RunRequested", True),
    ]


@pytest.mark.parametrize("status", [{"status": "skipped", "reason": "paused"}, {"status": "failed", "error": "e"}])
def test_a_tick_that_triggers_nothing_asks_for_nothing(ledger: Ledger, status: dict[str, str]) -> None:
    (told,) = ledger.append(tick(status=status))
    assert told.outcome is APPLIED
    assert ledger.state.run_key("sched:s:1736935200") is None


@pytest.mark.parametrize("missing", ["run_key", "request_fingerprint"])
def test_a_tick_that_triggers_says_which_run(ledger: Ledger, missing: str) -> None:
    data = {name: value for name, value in tick().items() if name != missing}
    refusal = ledger.refused(data)
    assert (refusal.code, refusal.field) == (Code.INVALID_REQUEST, f"events[0].data.{missing}")
    ledger.append(data | {"status": {"status": "skipped", "reason": "paused"}})


def test_a_tick_whose_run_could_not_come_is_refused_whole(ledger: Ledger) -> None:
    assert ledger.refused(triggered(run_key="sched:s:1736935200")).field == "events[0].data.run_key"
    ledger.foreign(triggered(run_key="sched:s:1736935200"))
    refusal = ledger.refused(tick())
    assert (refusal.code, refusal.field) == (Code.EVENT_CONFLICT, "events[0].data.run_key")
    assert ledger.state.tick("s:1736935200") is None


def test_an_evaluation_without_a_cursor_keeps_the_sensors(ledger: Ledger) -> None:
    """The fold would set it to nothing, and the sensor would begin anew (docs/events.md#w39)."""
    ledger.append(evaluated("e1"))
    assert ledger.events[-1].data.cursor_after is None  # type: ignore[union-attr]
    ledger.append(evaluated("e2", "c2"))
    ledger.append(evaluated("e3", status={"status": "error", "message": "m"}))
    row = ledger.state.sensor("sn")
    assert row is not None
    assert (row.cursor, row.state_version, row.last_eval_id) == ("c2", 3, "e3")
    ledger.append(evaluated("e4", "c4"))
    assert ledger.state.sensor("sn").cursor == "c4"  # type: ignore[union-attr]


def test_the_run_requests_of_an_evaluation_travel_behind_it(ledger: Ledger) -> None:
    told = ledger.append(
        evaluated(run_requests=[run_request("k1"), run_request("k2") | {"partition_selection": ["p"]}])
    )
    assert outcomes(told) == [
        ("SensorEvaluated", APPLIED, False),
        ("RunRequested", APPLIED, True),
        ("RunRequested", APPLIED, True),
    ]
    assert [event.causation_id for event in ledger.events] == [None, told[0].event_id, told[0].event_id]
    second = ledger.events[2].data
    assert (second.run_key, second.partition_selection) == ("k2", ["p"])  # type: ignore[union-attr]
    assert ledger.state.run_key("k1") is not None
    assert ledger.state.run_key("k2") is not None


def test_run_requests_that_the_request_has_itself_are_not_added(ledger: Ledger) -> None:
    told = ledger.append(
        evaluated(run_requests=[run_request("k1"), run_request("k2")]), requested("k1", source=of_sensor())
    )
    assert [(event.event_type, event.completed) for event in told] == [
        ("SensorEvaluated", False),
        ("RunRequested", False),
        ("RunRequested", True),
    ]


@pytest.mark.parametrize("other", [requested("k1"), requested("k1", "g", of_sensor())])
def test_a_request_of_another_source_or_for_something_else_does_not_stand_for_it(
    ledger: Ledger, other: dict[str, object]
) -> None:
    told = ledger.append(evaluated(run_requests=[run_request("k1")]), other)
    assert [event.event_type for event in told] == ["SensorEvaluated", "RunRequested", "RunRequested"]
    assert (told[2].completed, told[2].outcome) == (True, APPLIED)


def test_a_run_request_that_was_made_before_is_told_and_not_written_again(ledger: Ledger) -> None:
    (first,) = ledger.append(requested("k"))
    _, second = ledger.append(evaluated(run_requests=[run_request("k")]))
    assert (second.event_id, second.outcome, second.completed) == (first.event_id, DUPLICATE, True)


def test_a_stale_evaluation_is_recorded_and_asks_for_nothing(ledger: Ledger) -> None:
    ledger.append(evaluated("e1", "c1", expected_state_version=0))
    stale = evaluated("e2", "c2", expected_state_version=0, run_requests=[run_request("k")])
    (told,) = ledger.append(stale)
    assert told.outcome is APPLIED
    assert ledger.state.run_key("k") is None
    refusal = ledger.refused(requested("k", source=of_sensor("e2")))
    assert (refusal.code, refusal.field) == (Code.EVENT_CONFLICT, "events[0].data.trigger_source_ref.eval_id")
    assert refusal.value == "e2"
    assert ledger.state.sensor("sn").cursor == "c1"  # type: ignore[union-attr]


def test_a_stale_evaluation_together_with_its_request_is_refused_whole(ledger: Ledger) -> None:
    ledger.append(evaluated("e1", "c1"))
    stale = evaluated("e2", "c2", expected_state_version=0, run_requests=[run_request("k")])
    refusal = ledger.refused(stale, requested("k", source=of_sensor("e2")))
    assert refusal.field == "events[1].data.trigger_source_ref.eval_id"
    assert ledger.state.evaluation("e2") is None


def test_a_stale_evaluation_under_an_id_that_retention_has_freed_asks_for_nothing_either() -> None:
    """The sensor still names the id as its last one."""
    ledger = Ledger(FoldConfig("acme", "prod", retention_days=0))
    ledger.append(evaluated("e1", "c1"))
    ledger.now_ms += 31 * 86_400_000
    stale = evaluated("e1", "c2", expected_state_version=0, run_requests=[run_request("k")])
    (told,) = ledger.append(stale)
    assert told.outcome is APPLIED
    assert ledger.state.run_key("k") is None


def test_a_run_request_of_an_unknown_evaluation_is_refused(ledger: Ledger) -> None:
    """The fold would take it, and whether it came from a stale evaluation would never be known.

    See docs/events.md#order-28.
    """
    assert ledger.refused(requested("k", source=of_sensor())).code is Code.EVENT_CONFLICT
    ledger.append(evaluated())
    assert "has no evaluation 'e1'" in ledger.refused(requested("k", source=of_sensor("e1", "other"))).message
    ledger.append(requested("k", source=of_sensor()))


def test_an_evaluation_has_its_own_id_and_an_honest_status(ledger: Ledger) -> None:
    ledger.append(evaluated())
    other = evaluated(trigger_source={"source": "push", "message_id": "other"})
    assert ledger.refused(other).field == "events[0].data.eval_id"
    refusal = ledger.refused(evaluated("e2", status={"status": "skipped_stale_cursor"}))
    assert (refusal.code, refusal.field) == (Code.INVALID_REQUEST, "events[0].data.status")


def test_a_run_key_that_another_run_used_up_is_not_asked_for(ledger: Ledger) -> None:
    """The run it stands for has another id and could never be triggered (docs/events.md#w9)."""
    ledger.append(triggered(run_key="k"))
    refusal = ledger.refused(requested("k"))
    assert (refusal.code, refusal.field) == (Code.EVENT_CONFLICT, "events[0].data.run_key")
    refusal = ledger.refused(evaluated(run_requests=[run_request("j"), run_request("k")]))
    assert (refusal.code, refusal.field) == (Code.EVENT_CONFLICT, "events[0].data.run_requests[1].run_key")
    assert ledger.state.sensor("sn") is None


def test_a_run_that_was_triggered_under_its_own_id_may_be_asked_for_again(ledger: Ledger) -> None:
    own = run_id_of_key("acme", "prod", "k", b"")
    ledger.append(triggered(own, run_key="k"))
    (told,) = ledger.append(requested("k"))
    assert told.outcome is APPLIED


def test_a_run_key_asked_for_with_another_fingerprint_is_recorded_as_a_conflict(ledger: Ledger) -> None:
    ledger.append(requested("k", "f1"))
    ledger.append(requested("k", "f2"))
    assert ledger.state.count("run_key_conflicts") == 1


def test_run_keys_of_backfills_are_not_asked_for_by_others(ledger: Ledger) -> None:
    key = chunk()["run_key"]
    assert ledger.refused(requested(key)).field == "events[0].data.run_key"
    refusal = ledger.refused(evaluated(run_requests=[run_request(key)]))
    assert (refusal.code, refusal.field) == (Code.INVALID_REQUEST, "events[0].data.run_requests[0].run_key")
    refusal = ledger.refused(tick(run_key=key))
    assert (refusal.code, refusal.field) == (Code.INVALID_REQUEST, "events[0].data.run_key")


def test_run_keys_of_schedules_and_reruns_are_asked_for_by_them_alone(ledger: Ledger) -> None:
    for key in ("sched:s:1", "rerun:r:1"):
        assert ledger.refused(requested(key)).field == "events[0].data.run_key"
        assert ledger.refused(evaluated(run_requests=[run_request(key)])).code is Code.INVALID_REQUEST
    assert ledger.refused(tick(run_key="rerun:r:1")).field == "events[0].data.run_key"
    ledger.append(requested("rerun:r:1") | {"springline": {"parent_run_id": "r", "rerun": "failed"}})
    ledger.append(requested("sched:s:1", source=of_tick()))


def test_a_run_key_is_used_for_ever() -> None:
    """Retention removes the run and its key's row; a repeated request gets the old run's, and no second run."""
    ledger = Ledger(FoldConfig("acme", "prod", retention_days=1))
    (first,) = ledger.append(requested("k"))
    run_id = ledger.state.run_key("k").run_id  # type: ignore[union-attr]
    ledger.append(triggered(run_id, "k"), planned(run_id, a=""), cancelled(run_id))
    ledger.now_ms += 60 * 86_400_000
    ledger.append(schedule())
    assert ledger.state.run_key("k") is None
    assert ledger.refused(triggered(run_id, "k")).field == "events[0].data.run_key"
    (again,) = ledger.append(requested("k"))
    assert (again.event_id, again.outcome) == (first.event_id, DUPLICATE)
    assert ledger.state.run_key("k") is None
    refusal = ledger.refused(requested("k", "g"))
    assert (refusal.code, refusal.field) == (Code.EVENT_CONFLICT, "events[0].data.run_key")
