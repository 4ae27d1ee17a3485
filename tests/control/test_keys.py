"""Keys that callers give: their own, and never those that belong to other events."""

from __future__ import annotations

import pytest

from springline.control.admission.round import RULES
from springline.errors import Code
from springline.ledger.envelope import payload_from
from springline.ledger.events import PAYLOAD_TYPES, derived_key
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
    output,
    planned,
    requested,
    schedule,
    sensor_change,
    sent,
    started,
    tick,
    timer,
    triggered,
)

ALL = [
    triggered(),
    planned(a=""),
    cancelled(),
    started(),
    heartbeat(),
    finished(),
    completed(),
    output(),
    dispatched(),
    sent(),
    timer("timer_requested"),
    timer("timer_enqueued"),
    timer("timer_fired"),
    schedule(),
    tick(),
    evaluated(),
    requested(),
    backfill(),
    chunk(),
    backfill_state("RUNNING", "PAUSED"),
    hold(),
    sensor_change(),
    message(),
    chunk_ended(),
    noted(),
]


def test_every_type_has_a_rule() -> None:
    assert {data["type"] for data in ALL} == set(PAYLOAD_TYPES)
    assert set(RULES) == set(PAYLOAD_TYPES.values())


@pytest.mark.parametrize("data", ALL, ids=lambda data: data["type"])
def test_a_key_that_belongs_to_another_event_is_refused(data: dict[str, object]) -> None:
    """It would be used up, and the event it belongs to could never come: a plan, say, or an end."""
    ledger = Ledger()
    for other in ALL:
        key = derived_key(payload_from(other))
        if key != derived_key(payload_from(data)):
            refusal = ledger.refused(NewEvent(data=data, idempotency_key=key))
            assert (refusal.code, refusal.field) == (Code.INVALID_REQUEST, "events[0].idempotency_key")
            assert refusal.value == key


def test_a_key_of_ones_own_is_taken_and_its_event_written_once() -> None:
    ledger = Ledger()
    (first,) = ledger.append(NewEvent(data=triggered(), idempotency_key="mine", causation_id="why"))
    (again,) = ledger.append(NewEvent(data=triggered("r2"), idempotency_key="mine"))
    assert (first.idempotency_key, first.outcome) == ("mine", APPLIED)
    assert again == first.model_copy(update={"outcome": DUPLICATE})
    assert [event.causation_id for event in ledger.events] == ["why"]


def test_a_key_that_was_used_by_another_type_of_event_is_refused() -> None:
    ledger = Ledger()
    ledger.append(NewEvent(data=triggered(), idempotency_key="mine"))
    refusal = ledger.refused(NewEvent(data=planned(a=""), idempotency_key="mine"))
    assert (refusal.code, refusal.field, refusal.value) == (Code.KEY_REUSED, "events[0].idempotency_key", "mine")
    assert "RunTriggered" in refusal.message


def test_the_key_that_follows_from_the_payload_may_be_given() -> None:
    ledger = Ledger()
    ledger.append(triggered(), NewEvent(data=planned(a=""), idempotency_key="plan:r"), started())
    (beat,) = ledger.append(NewEvent(data=heartbeat(), idempotency_key=derived_key(payload_from(heartbeat()))))
    assert beat.idempotency_key.endswith(str(ledger.now_ms - 1_000))


@pytest.mark.parametrize(
    ("key", "taken"),
    [
        ("cancel_req:r:plan:01JHMPDTN0000AQKFF00000001", True),
        ("cancel_req:r:finish:01JHMPDTN0000AQKFF00000001", True),
        ("cancel_req:r:plan:x", False),
        ("cancel_req:r:other:01JHMPDTN0000AQKFF00000001", False),
        ("cancel_req:r2:plan:01JHMPDTN0000AQKFF00000001", False),
        ("cancel_req:r2", False),
        ("cancel_requests are mine", True),
    ],
)
def test_keys_of_repairs_are_for_repairs(key: str, taken: bool) -> None:
    ledger = Ledger()
    ledger.append(triggered(), planned(a=""))
    event = NewEvent(data=cancelled(), idempotency_key=key)
    if taken:
        ledger.append(event)
    else:
        assert ledger.refused(event).field == "events[0].idempotency_key"
    assert ledger.refused(NewEvent(data=started(), idempotency_key="cancel_req:r:plan:x")).code is Code.INVALID_REQUEST


def test_an_event_that_another_writer_told_with_a_strange_type_counts_as_the_same() -> None:
    ledger = Ledger()
    table = "idempotency_keys"
    row = ("acme", "prod", "run:r", "evt-1", "LegacyUnknown", 1_736_985_600_000, "evt-1")
    ledger.state.load_rows(table, [row])
    (told,) = ledger.append(triggered())
    assert (told.event_id, told.event_type, told.outcome) == ("evt-1", "LegacyUnknown", DUPLICATE)
    assert told.ledger_path == "ledger/orchestration/2025-01-16/evt-1.json"
