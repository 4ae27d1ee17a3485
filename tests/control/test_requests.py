"""What is wrong with an event by itself is refused by field, value and remedy."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from springline.control.admission.round import MAX_EVENT_BYTES
from springline.errors import Code
from springline.ledger.request import AppendRequest, NewEvent
from tests.control.ledger import Ledger, request
from tests.control.payloads import cancelled, finished, planned, requested, started, triggered

LONG = "x" * 1_025


def _with(name: str, value: object) -> dict[str, Any]:
    return {name: value}


@pytest.mark.parametrize(
    ("data", "path", "value"),
    [
        ({"type": "no_such_type"}, ".type", "no_such_type"),
        ({"type": "RunTriggered"}, ".type", "RunTriggered"),
        ({}, ".type", None),
        ({"type": 1}, ".type", 1),
        (started(attempt=-1), ".attempt", -1),
        (started(attempt=1.0), ".attempt", "1.0"),  # type: ignore[arg-type]
        (started(attempt=2**32), ".attempt", 2**32),
        (started(attempt="1"), ".attempt", "1"),  # type: ignore[arg-type]
        (started(attempt=True), ".attempt", True),
        (started(worker="w"), ".worker", "w"),
        (started(worker_id=None), ".worker_id", None),
        (finished(output={"rowCount": 0.5}), ".output.rowCount", "0.5"),
        (finished(metrics={"cpuTimeMs": 2**64}), ".metrics.cpuTimeMs", str(2**64)),
        (finished("done"), ".outcome", "done"),
        (finished(output={"publishedAt": "2025-01-15"}), ".output.publishedAt", "2025-01-15"),
        (finished(error_message="\ud800"), ".error_message", "\\ud800"),
        (finished(**_with("\udfff", 1)), ".\\udfff", 1),
        (triggered(labels={"a": 1}), ".labels.a", 1),
        (triggered(trigger={"type": "cron"}), ".trigger.schedule_id", None),
        (planned(a="") | {"tasks": [{"key": "a", "depends_on": [], "max_attempts": -1}]}, ".tasks[0].max_attempts", -1),
        (triggered(run=""), ".run_id", ""),
        (triggered(run="a\0b"), ".run_id", "a\\x00b"),
        (triggered(run=LONG), ".run_id", "x" * 120 + "..."),
        (triggered(run="é" * 513), ".run_id", "é" * 120 + "..."),
        (triggered(run_key=""), ".run_key", ""),
        (triggered(trigger={"type": "manual", "user_id": "\0"}), ".trigger.user_id", "\\x00"),
        (requested() | {"asset_selection": ["a", ""]}, ".asset_selection[1]", ""),
        (planned(a="") | {"tasks": [{"key": "a", "depends_on": [], "asset_key": ""}]}, ".tasks[0].asset_key", ""),
    ],
)
def test_a_payload_that_is_none_is_refused_by_its_field(data: dict[str, Any], path: str, value: Any) -> None:
    ledger = Ledger()
    ledger.append(triggered("other"))
    refusal = ledger.refused(cancelled("other"), triggered("x"), data)
    assert (refusal.code, refusal.field) == (Code.INVALID_REQUEST, f"events[2].data{path}")
    assert (refusal.value, type(refusal.value)) == (value, type(value))
    assert refusal.remedy
    assert path in refusal.message
    json.loads(refusal.model_dump_json())


@pytest.mark.parametrize("name", ["idempotency_key", "causation_id"])
@pytest.mark.parametrize("text", ["", LONG, "a\0", "\ud800"])
def test_a_key_or_cause_that_is_no_text_is_refused(name: str, text: str) -> None:
    refusal = Ledger().refused(NewEvent(data=triggered(), **{name: text}))
    assert (refusal.code, refusal.field) == (Code.INVALID_REQUEST, f"events[0].{name}")
    refusal.model_dump_json()


def test_the_longest_key_is_taken() -> None:
    (told,) = Ledger().append(NewEvent(data=triggered(), idempotency_key="x" * 1_024))
    assert told.idempotency_key == "x" * 1_024


@pytest.mark.parametrize("count", [0, 501])
def test_a_request_has_one_to_500_events(count: int) -> None:
    events = [NewEvent(data=triggered(f"r{n}")) for n in range(count)]
    (answer,) = Ledger().round(AppendRequest.model_construct(request_id="q", events=events))
    assert answer.refusal is not None
    assert (answer.refusal.code, answer.refusal.field) == (Code.INVALID_REQUEST, "events")
    assert answer.refusal.value == count


def test_500_events_are_taken_together() -> None:
    ledger = Ledger()
    assert len(ledger.append(*[triggered(f"r{n}") for n in range(500)])) == 500


@pytest.mark.parametrize("over", [False, True])
def test_an_event_has_256_kib_at_most(over: bool) -> None:
    ledger = Ledger()
    ledger.append(triggered())
    (told,) = ledger.append(cancelled(reason="ä"))
    ledger = Ledger()
    ledger.append(triggered())
    verdict = ledger.judge([request(cancelled(reason="ä"))])
    room = (MAX_EVENT_BYTES - len(verdict.events[0].body)) // 2
    ledger.state.rollback()
    reason = "ä" * (room + 1 + over)
    if over:
        refusal = ledger.refused(triggered("r2"), cancelled(reason=reason))
        assert (refusal.code, refusal.field) == (Code.PAYLOAD_TOO_LARGE, "events[1].data")
        assert isinstance(refusal.value, int)
        assert refusal.value > MAX_EVENT_BYTES
    else:
        ledger.append(triggered("r2"), cancelled(reason=reason))
    assert told.event_type == "RunCancelRequested"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters(), max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(st.sampled_from([triggered(), planned(a="", b="a"), finished(), requested()]), st.data())
def test_whatever_stands_in_a_payload_is_answered(data: dict[str, Any], draw: st.DataObject) -> None:
    changed = data | draw.draw(st.dictionaries(st.sampled_from(sorted(data)) | st.text(max_size=3), json_values))
    (answer,) = Ledger().round(request(changed))
    assert (answer.refusal is None) == bool(answer.events)
    json.loads(answer.model_dump_json())
