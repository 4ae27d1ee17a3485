"""Writing events: canonical bytes, derived keys, and payloads refused by the field."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import to_builtins

from springline.ledger import events as e
from springline.ledger.canonical import canonical_json
from springline.ledger.compose import InvalidPayload, compose_event, payload_from
from springline.ledger.envelope import parse_event
from springline.ledger.keys import derived_key
from springline.ledger.timestamps import NS_PER_MS
from tests.ledger.strategies import DATA, TEXT
from tests.support.event_samples import APPENDIX_A, FINISHED, LEDGERS, STARTED, bodies_of, text_of

PLACE: dict[str, Any] = {
    "event_id": "01JHMPFQ6G000AQKFF00000004",
    "timestamp_ms": 0,
    "tenant": "acme",
    "workspace": "prod",
}


def composed(value: dict[str, Any], **fields: Any) -> bytes:
    """Compose the event of a parsed body anew from its payload."""
    event = parse_event(text_of(value))
    return compose_event(
        payload_from(value["data"]),
        event_id=event.event_id,
        timestamp_ms=event.timestamp_ns // NS_PER_MS,
        tenant=event.tenant_id,
        workspace=event.workspace_id,
        causation_id=event.causation_id,
        **fields,
    )


@pytest.mark.parametrize("line", APPENDIX_A[:24], ids=range(1, 25))
def test_the_specifications_events_byte_for_byte(line: bytes) -> None:
    assert composed(json.loads(line)) == line


def test_the_specifications_events_are_canonical() -> None:
    assert len(APPENDIX_A) == 25
    for line in APPENDIX_A:
        assert canonical_json(json.loads(line)) == line


@pytest.mark.parametrize("ledger", LEDGERS)
def test_golden_ledgers_byte_for_byte(ledger: str) -> None:
    derived = 0
    for body in bodies_of(ledger):
        value = json.loads(body)
        if value["data"]["type"] != "unknown":
            assert composed(value, idempotency_key=value["idempotency_key"]) == body
            derived += composed(value) == body
    assert derived > 400


@given(DATA, st.integers(0, 253_402_300_799_999), TEXT, st.none() | TEXT, st.none() | TEXT)
def test_what_is_composed_is_read_again(
    data: dict[str, Any], timestamp_ms: int, tenant: str, key: str | None, causation_id: str | None
) -> None:
    payload = payload_from(data)
    body = compose_event(
        payload,
        event_id="01JHMPFQ6G000AQKFF00000004",
        timestamp_ms=timestamp_ms,
        tenant=tenant,
        workspace="prod",
        idempotency_key=key,
        causation_id=causation_id,
    )
    event = parse_event(body)
    value = json.loads(body)
    assert body == canonical_json(value) == text_of(value)
    assert event.data == payload
    assert event.idempotency_key == (derived_key(payload) if key is None else key)
    assert event.correlation_id == data.get("run_id") == value.get("correlation_id")
    assert (event.timestamp_ns, event.causation_id, event.event_version) == (timestamp_ms * NS_PER_MS, causation_id, 1)
    assert (event.tenant_id, event.source) == (tenant, f"arco-flow/{tenant}/prod")
    assert event.event_type == type(payload).__name__
    assert None not in value["data"].values()
    assert parse_event(text_of(value | {"data": data})).data == payload


def test_what_is_empty_is_left_out_and_defaults_are_written() -> None:
    triggered = {"type": "run_triggered", "run_id": "r", "plan_id": "p", "root_assets": [], "labels": {}}
    made = payload_from(triggered | {"trigger": {"type": "manual", "user_id": "u"}, "run_key": None})
    written = to_builtins(made)
    assert "labels" not in written
    assert "run_key" not in written
    planned = payload_from({"type": "plan_created", "run_id": "r", "plan_id": "p", "tasks": []})
    assert isinstance(planned, e.PlanCreated)
    planned.tasks.append(e.TaskDefinition("k", []))
    assert b'"heartbeat_timeout_sec":300,"key":"k","max_attempts":3,"requires_visible_output":false' in compose_event(
        planned, **PLACE
    )


def test_timestamps_are_brought_into_their_written_form() -> None:
    data = FINISHED | {"output": {"publishedAt": "2025-01-15 11:00:00.5+0100"}}
    payload = payload_from(data | {"output_visibility": {"visibility_state": "visible", "published_at": None}})
    assert isinstance(payload, e.TaskCompletionRecorded)
    assert payload.output == e.TaskOutput(published_at="2025-01-15T10:00:00.500Z")
    assert payload.output_visibility == e.CompletionVisibility("visible")


@pytest.mark.parametrize(
    ("data", "path", "problem"),
    [
        ({}, "type", "is missing"),
        (STARTED | {"type": "brand_new"}, "type", "is 'brand_new', not one of backfill_chunk_planned"),
        (STARTED | {"type": 1}, "type", "is 1, not a string"),
        (STARTED | {"wroker_id": "w"}, "wroker_id", "is no field here"),
        (STARTED | {"attempt": 1.0}, "attempt", "is 1.0, not an integer"),
        (STARTED | {"worker_id": "\ud800"}, "worker_id", "holds half of a surrogate pair"),
        (STARTED | {"task_key": None}, "task_key", "is null, not a string"),
        (FINISHED | {"output": {"row_count": 1}}, "output.row_count", "is no field here"),
        (FINISHED | {"output": {"rowCount": 2**64}}, "output.rowCount", "is 18446744073709551616, not from 0"),
        (FINISHED | {"output": {"publishedAt": "now"}}, "output.publishedAt", "'now' is no timestamp"),
        (
            {"type": "plan_created", "run_id": "r", "plan_id": "p", "tasks": [{"key": "k", "depends_on": ["a", 5]}]},
            "tasks[0].depends_on[1]",
            "is 5, not a string",
        ),
        (FINISHED | {"error": {"category": "TIMEOUT", "message": ["x" * 999]}}, "error.message", "is a list, not a"),
        (FINISHED | {"outcome": "x" * 999}, "outcome", "is '" + "x" * 79 + "..., not one of"),
    ],
    ids=lambda value: value if isinstance(value, str) and len(value) < 40 else "",
)
def test_payloads_are_refused_by_the_field(data: dict[str, Any], path: str, problem: str) -> None:
    with pytest.raises(InvalidPayload) as caught:
        payload_from(data)
    assert caught.value.path == path
    assert caught.value.problem.startswith(problem)


@pytest.mark.parametrize("data", [None, [], "x", 5])
def test_what_is_no_object_is_refused(data: Any) -> None:
    with pytest.raises(InvalidPayload, match="not an object") as caught:
        payload_from(data)
    assert caught.value.path == ""


@pytest.mark.parametrize(
    ("payload", "why"),
    [
        (e.TaskStarted("r", "t", -1, "a", "w"), "data.attempt: is -1"),
        (e.TaskStarted("r", "t", 2**32, "a", "w"), "data.attempt: is 4294967296"),
        (e.TaskStarted("\ud800", "t", 1, "a", "w"), "surrogates not allowed"),
        (e.TimerRequested("t", "cron", "soon"), "is no timestamp"),
        (e.TaskHeartbeat("r", "t", 1, "a", "w", "soon"), "is no timestamp"),
    ],
    ids=repr,
)
def test_nothing_is_written_that_cannot_be_read(payload: e.Payload, why: str) -> None:
    with pytest.raises(InvalidPayload, match=why):
        compose_event(payload, **PLACE)
