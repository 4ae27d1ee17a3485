"""Events of our own types, the hold, and the member of payloads."""

from __future__ import annotations

from typing import Any

import pytest

from springline.errors import Code
from springline.ledger.request import NewEvent
from tests.control.ledger import APPLIED, DUPLICATE, Ledger
from tests.control.payloads import (
    backfill,
    backfill_state,
    cancelled,
    chunk,
    chunk_ended,
    completed,
    dispatched,
    evaluated,
    finished,
    heartbeat,
    hold,
    message,
    noted,
    planned,
    requested,
    schedule,
    sensor_change,
    started,
    tick,
    triggered,
)


def refused(ledger: Ledger, data: dict[str, Any], field: str, says: str, code: Code = Code.EVENT_CONFLICT) -> None:
    refusal = ledger.refused(NewEvent(data=data))
    assert (refusal.code, refusal.field) == (code, f"events[0].data.{field}" if field else "events[0].data")
    assert says in refusal.message


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()


def test_a_hold_begins_and_ends_once(ledger: Ledger) -> None:
    refused(ledger, hold(False), "held", "not held already")
    ledger.append(hold(reason="an incident"))
    refused(ledger, hold(change_id="h2"), "held", "is held already")
    (again,) = ledger.append(hold())
    assert again.outcome is DUPLICATE
    ledger.append(hold(False, "h2"))
    assert not ledger.state.is_held
    refusal = ledger.refused(hold())
    assert refusal.code is Code.KEY_REUSED, "a hold that is not in effect is not told to be done"
    assert "is not held" in refusal.message


def test_while_it_is_held_nothing_begins_and_what_runs_goes_on(ledger: Ledger) -> None:
    ledger.append(triggered(), planned(a="", b=""), started(), backfill(), schedule())
    ledger.append(hold())
    for begins in (triggered("r2"), dispatched("b"), tick(schedule_id="t"), chunk()):
        refusal = ledger.refused(NewEvent(data=begins))
        assert (refusal.code, refusal.field) == (Code.EVENT_CONFLICT, "events[0].data")
        assert "the workspace is held" in refusal.message
    goes_on = (heartbeat(), finished(), requested(), backfill("b2"), schedule(False), evaluated(), cancelled())
    assert all(event.outcome is APPLIED for event in ledger.append(*goes_on))
    ledger.append(hold(False, "h2"), triggered("r2"), tick(schedule_id="t"), chunk())


def test_a_sensor_is_paused_once_and_its_cursor_set_whenever_one_wants(ledger: Ledger) -> None:
    refused(ledger, sensor_change("resumed"), "change", "is not paused already")
    ledger.append(sensor_change(), sensor_change("cursor_set", "c2", cursor="7"), sensor_change("reset", "c3"))
    refused(ledger, sensor_change(change_id="c4"), "change", "is paused already")
    row = ledger.state.own_sensor("sn")
    assert row is not None
    assert (row.paused, row.cursor, row.cursor_event_id) == (True, None, row.row_version)
    refused(ledger, sensor_change("cursor_set", "c4"), "cursor", "is missing", Code.INVALID_REQUEST)
    refused(ledger, sensor_change("reset", "c4", cursor="7"), "cursor", "no meaning for reset", Code.INVALID_REQUEST)
    refused(ledger, sensor_change(sensor_id=".."), "sensor_id", "addressed", Code.INVALID_REQUEST)
    refused(ledger, sensor_change(sensor_id="a:b"), "sensor_id", "holds a colon", Code.INVALID_REQUEST)
    ledger.append(sensor_change("resumed", "c5"))
    assert ledger.refused(sensor_change()).code is Code.KEY_REUSED


def test_a_message_waits_until_it_is_evaluated_and_never_again(ledger: Ledger) -> None:
    push: dict[str, Any] = {"trigger_source": {"source": "push", "message_id": "m1"}}
    (first,) = ledger.append(message(payload={"a": [5, None]}))
    (again,) = ledger.append(NewEvent(data=message(), idempotency_key="mine"))
    assert (again.event_id, again.outcome) == (first.event_id, DUPLICATE)
    waiting = ledger.state.message("sn", "m1")
    assert waiting is not None
    assert waiting.payload == '{"a":[5,null]}'
    ledger.append(evaluated("e0", expected_state_version=9, trigger_source={"source": "push", "message_id": "m1"}))
    assert ledger.state.message("sn", "m1") is not None, "a stale evaluation is to be repeated"
    refused(ledger, message("m1") | {"sensor_id": "s:n"}, "sensor_id", "holds a colon", Code.INVALID_REQUEST)
    refusal = ledger.refused(evaluated("e1", **push))
    assert refusal.code is Code.KEY_REUSED, "the stale one used the key, and the message would wait for ever"
    ledger.append(NewEvent(data=evaluated("e1", **push), idempotency_key="second"))
    assert ledger.state.message("sn", "m1") is None
    ledger.append(evaluated("e2", trigger_source={"source": "push", "message_id": "m2"}))
    refused(ledger, message("m2"), "message_id", "was evaluated for message 'm2'")


def test_a_chunk_ends_once_and_counts_no_more_than_it_has(ledger: Ledger) -> None:
    refused(ledger, chunk_ended(), "chunk_id", "has no chunk")
    ledger.append(backfill(), chunk(partition_keys=["1", "2", "3"]))
    refused(ledger, chunk_ended(done=2, failed=["3"], skipped=["4"]), "done", "4 partitions are counted")
    refused(ledger, chunk_ended(chunk_id="x"), "chunk_id", "not that of backfill", Code.INVALID_REQUEST)
    refused(ledger, chunk_ended(keys_path="p"), "keys_sha256", "is missing", Code.INVALID_REQUEST)
    ledger.append(backfill_state("RUNNING", "PAUSED"), chunk_ended("failed", done=2, failed=["3"], reason_code="limit"))
    row = ledger.state.own_chunk("b:0")
    assert row is not None
    assert (row.outcome, row.done, row.failed, row.reason_code) == ("FAILED", 2, '["3"]', "limit")
    refusal = ledger.refused(NewEvent(data=chunk_ended(), idempotency_key="mine"))
    assert (refusal.field, "has ended: FAILED" in refusal.message) == ("events[0].data.chunk_id", True)


def test_an_attempt_of_a_known_run_is_noted_once_for_each_note(ledger: Ledger) -> None:
    refused(ledger, noted(), "run_id", "there is no run")
    ledger.append(triggered(), planned(a=""), noted(detail={"rows": 3}), noted("lost"))
    (again,) = ledger.append(NewEvent(data=noted(), idempotency_key="mine"))
    assert again.outcome is DUPLICATE
    refused(ledger, noted(attempt=0), "attempt", "counts from 1", Code.INVALID_REQUEST)
    refused(ledger, noted("a:b"), "note", "holds a colon", Code.INVALID_REQUEST)
    refused(ledger, noted(attempt_id="2:x"), "attempt_id", "holds a colon", Code.INVALID_REQUEST)
    assert len(ledger.state.notes.rows) == 2


def test_every_attempt_that_ends_is_kept(ledger: Ledger) -> None:
    error = {"category": "INFRASTRUCTURE", "message": "gone"}
    member = {
        "started_at": "2025-01-15T10:00:00.5+00:00",
        "reason_code": "lost",
        "tables": [{"table": "t", "version": 3}],
    }
    ledger.append(triggered(), planned(a=""), started())
    ledger.append(finished("failed", error=error, springline=member), started(attempt=2), completed(attempt=2))
    first, second = sorted(ledger.state.attempts.rows.values(), key=lambda row: row.attempt)
    assert (first.outcome, first.category, first.reason_code, first.error_message) == (
        "FAILED",
        "INFRASTRUCTURE",
        "lost",
        "gone",
    )
    assert (first.true_started_at, first.tables) == (1_736_935_200_500, '[{"table":"t","version":3}]')
    assert (second.attempt, second.outcome, second.category, second.error_message) == (2, "SUCCEEDED", None, None)
    assert first.started_at is not None
    assert first.ended_at > first.started_at


@pytest.mark.parametrize(
    ("data", "field", "says"),
    [
        (triggered(springline="x"), "springline", "not an object"),
        (triggered(springline={"confg": {}}), "springline.confg", "mend its name"),
        (triggered(springline={"config": {"a": "x" * 16_400}}), "springline", "at most 16384"),
        (triggered(springline={"effects_scope": ""}), "springline.effects_scope", "is empty"),
        (triggered(springline={"effects_scope": "a\0"}), "springline.effects_scope", "NUL"),
        (triggered(springline={"config": {"a": [0.5]}}), "springline.config.a[0]", "no canonical form"),
        (triggered(springline={"config": {"\ud800": 1}}), "springline.config", "surrogate"),
        (finished(springline={"tables": [{"table": "t"}]}), "springline.tables[0].version", "is missing"),
        (finished(springline={"tables": [{"table": "", "version": 1}]}), "", ""),
        (heartbeat(springline={}), "springline", "is no field of TaskHeartbeat"),
        (schedule(springline={"overlap": "maybe"}), "springline.overlap", "not one of"),
    ],
)
def test_a_member_is_refused_by_its_field(ledger: Ledger, data: dict[str, Any], field: str, says: str) -> None:
    if field:
        refused(ledger, data, field, says, Code.INVALID_REQUEST)
    else:
        ledger.append(triggered(), planned(a=""), started(), data)


def test_definitions_keep_their_settings(ledger: Ledger) -> None:
    ledger.append(schedule(springline={"dialect": "unix", "max_active_runs": 3}))
    row = ledger.state.definition("schedule", "s")
    assert row is not None
    assert row.settings == '{"dialect":"unix","max_active_runs":3}'
