"""Backfills: chunks that get their runs, and states that follow from each other."""

from __future__ import annotations

from typing import Any

import pytest

from springline.errors import Code
from springline.ledger.identifiers import run_id_of_key
from springline.ledger.request import NewEvent
from tests.control.ledger import DUPLICATE, Ledger
from tests.control.payloads import backfill, backfill_state, chunk, of_chunk, requested

RUN_KEY = "backfill:b:chunk:0"


@pytest.fixture
def ledger() -> Ledger:
    ledger = Ledger()
    ledger.append(backfill())
    return ledger


def refused(ledger: Ledger, data: dict[str, Any], field: str, says: str, code: Code = Code.EVENT_CONFLICT) -> None:
    refusal = ledger.refused(data)
    assert (refusal.code, refusal.field) == (code, f"events[0].data.{field}")
    assert says in refusal.message
    assert refusal.remedy


def test_a_chunk_is_planned_and_gets_its_run(ledger: Ledger) -> None:
    ledger.append(chunk(), requested(RUN_KEY, source=of_chunk()))
    row, whole = ledger.state.chunk("b:0"), ledger.state.backfill("b")
    assert row is not None
    assert whole is not None
    assert row.run_id == run_id_of_key("acme", "prod", RUN_KEY, b"")
    assert whole.planned_chunks == 1


def test_a_backfill_is_created_once(ledger: Ledger) -> None:
    (again,) = ledger.append(backfill(chunk_size=1))
    assert (again.event_id, again.outcome) == (ledger.events[0].event_id, DUPLICATE)
    (again,) = ledger.append(NewEvent(data=backfill(), idempotency_key="mine"))
    assert again.outcome is DUPLICATE
    refused(ledger, backfill(client_request_id="other"), "backfill_id", "exists already")


@pytest.mark.parametrize("name", ["chunk_size", "max_concurrent_runs"])
def test_a_backfill_that_could_do_nothing_is_refused(name: str) -> None:
    refused(Ledger(), backfill(**dict[str, Any]({name: 0})), name, "is 0", Code.INVALID_REQUEST)


def test_a_chunk_belongs_to_a_backfill_that_goes_on(ledger: Ledger) -> None:
    refused(ledger, chunk(backfill_id="x"), "backfill_id", "there is no backfill 'x'")
    ledger.append(chunk(), backfill_state("RUNNING", "PAUSED"))
    refused(ledger, chunk(1), "backfill_id", "is not running: PAUSED")
    ledger.append(backfill_state("PAUSED", "CANCELLED", 3))
    refused(ledger, chunk(1), "backfill_id", "has ended: CANCELLED")
    refused(ledger, requested(RUN_KEY, source=of_chunk()), "trigger_source_ref.backfill_id", "has ended: CANCELLED")


def test_a_chunk_is_planned_once(ledger: Ledger) -> None:
    (first,) = ledger.append(chunk())
    (again,) = ledger.append(chunk(partition_keys=["3"]))
    assert (again.event_id, again.outcome) == (first.event_id, DUPLICATE)
    refusal = ledger.refused(NewEvent(data=chunk(), idempotency_key="mine"))
    assert (refusal.code, refusal.field) == (Code.EVENT_CONFLICT, "events[0].data.chunk_index")


@pytest.mark.parametrize(
    ("wrong", "field", "says"),
    [
        ({"partition_keys": []}, "partition_keys", "is empty"),
        ({"chunk_id": "b:1"}, "chunk_id", "not that of backfill and index"),
        ({"run_key": "k"}, "run_key", "not that of backfill and index"),
    ],
)
def test_a_chunk_that_would_not_be_counted_or_run_is_refused(
    ledger: Ledger, wrong: dict[str, Any], field: str, says: str
) -> None:
    refused(ledger, chunk(**wrong), field, says, Code.INVALID_REQUEST)


def test_a_chunk_whose_run_key_was_used_would_never_get_its_run(ledger: Ledger) -> None:
    ledger.foreign(requested(RUN_KEY))
    refused(ledger, chunk(), "run_key", "was used")


def test_a_run_is_asked_for_by_the_chunk_that_has_its_key(ledger: Ledger) -> None:
    """Asked for before the chunk is planned, the chunk would never get its run (docs/events.md#w18)."""
    refused(ledger, requested(RUN_KEY, source=of_chunk()), "trigger_source_ref.chunk_id", "has no chunk 'b:0'")
    ledger.append(chunk())
    refused(ledger, requested("k", source=of_chunk()), "run_key", f"is '{RUN_KEY}'")
    refused(
        ledger,
        requested(RUN_KEY, source=of_chunk() | {"backfill_id": "x"}),
        "trigger_source_ref.chunk_id",
        "backfill 'x' has no chunk",
    )


LEGAL = [
    ("RUNNING", "PAUSED"),
    ("RUNNING", "SUCCEEDED"),
    ("RUNNING", "FAILED"),
    ("RUNNING", "CANCELLED"),
    ("PAUSED", "RUNNING"),
    ("PAUSED", "CANCELLED"),
    ("PENDING", "RUNNING"),
    ("PENDING", "CANCELLED"),
]
STATES = ["PENDING", "RUNNING", "PAUSED", "SUCCEEDED", "FAILED", "CANCELLED"]


def in_state(state: str) -> tuple[Ledger, int]:
    """Return a ledger whose backfill is in a state, and its state version."""
    ledger = Ledger()
    ledger.append(backfill())
    if state == "PENDING":  # The reference's events never lead there; only a stored row can say so.
        table = "backfills"
        (row,) = ledger.state.rows(table)
        ledger.state.load_rows(table, [tuple("PENDING" if value == "RUNNING" else value for value in row)])
        return ledger, 1
    if state == "RUNNING":
        return ledger, 1
    ledger.append(backfill_state("RUNNING", state))
    return ledger, 2


@pytest.mark.parametrize("from_state", STATES)
@pytest.mark.parametrize("to_state", STATES)
def test_states_follow_from_each_other_as_the_fold_has_it(from_state: str, to_state: str) -> None:
    ledger, version = in_state(from_state)
    change = backfill_state(from_state, to_state, version + 1)
    if (from_state, to_state) in LEGAL:
        ledger.append(change)
        assert ledger.state.backfill("b").state == to_state  # type: ignore[union-attr]
    else:
        refused(ledger, change, "to_state", f"is {from_state} does not become {to_state}")


def test_a_change_names_the_state_and_version_it_is_made_on(ledger: Ledger) -> None:
    refused(ledger, backfill_state("RUNNING", "PAUSED", backfill_id="x"), "backfill_id", "there is no backfill")
    refused(ledger, backfill_state("PAUSED", "RUNNING"), "from_state", "is RUNNING")
    refused(ledger, backfill_state("RUNNING", "PAUSED", 3), "state_version", "is 2")
    (first,) = ledger.append(backfill_state("RUNNING", "PAUSED"))
    (again,) = ledger.append(backfill_state("RUNNING", "PAUSED"))
    assert (again.event_id, again.outcome) == (first.event_id, DUPLICATE)
