"""Rounds: requests whole or not at all, each on the state after those before it, and the state as the verdict says."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

import pytest

from springline.control.admission import round as admission_round
from springline.errors import Code
from springline.ledger.envelope import parse_event
from springline.ledger.request import AppendRequest, EventOutcome
from springline.projection.config import FoldConfig
from springline.projection.fold.loop import fold_event
from springline.projection.state import State
from springline.ulids import is_canonical_ulid, nth_ulid
from tests.control.ledger import APPLIED, DUPLICATE, START_MS, Ledger, request, snapshot
from tests.control.payloads import cancelled, finished, planned, started, triggered

DAY_MS = 86_400_000


def test_events_get_consecutive_ids_and_exact_bytes() -> None:
    ledger = Ledger()
    verdict = ledger.judge([request(triggered(), planned(a="")), request(started())])
    first = verdict.events[0].event_id
    assert is_canonical_ulid(first)
    assert [one.event_id for one in verdict.events] == [nth_ulid(first, n) for n in range(3)]
    for one in verdict.events:
        assert one.sha256 == sha256(one.body).hexdigest()
        assert parse_event(one.body) == one.event
        assert one.event.event_id == one.event_id
        assert one.event.timestamp == "2025-01-15T10:00:00Z"
        assert one.event.source == "arco-flow/acme/prod"
        assert one.outcome is APPLIED
    assert [one.event_id for answer in verdict.answers for one in answer.events] == [
        one.event_id for one in verdict.events
    ]
    told = verdict.answers[0].events[0]
    assert told.ledger_path == f"ledger/orchestration/2025-01-15/{first}.json"
    assert verdict.answers[0].manifest_id is None


def test_a_request_sees_those_before_it_and_none_that_was_refused() -> None:
    ledger = Ledger()
    bad = request(triggered("r2"), planned("r2", a=""), started(run="r2"), started("none", run="r2"), number=1)
    answers = ledger.round(
        request(triggered()),
        bad,
        request(planned(a=""), number=2),
        request(cancelled("r2"), number=3),
        request(started(), number=4),
    )
    assert [answer.refusal is None for answer in answers] == [True, False, True, False, True]
    assert answers[1].refusal is not None
    assert answers[1].refusal.field == "events[3].data.task_key"
    assert [answer.request_id[-1] for answer in answers] == list("01234")
    ids = [one.event_id for answer in answers for one in answer.events]
    assert ids == [nth_ulid(ids[0], n) for n in range(3)]
    assert ledger.state.run("r2") is None
    assert snapshot(ledger.state) == snapshot(ledger.refolded())


def test_the_last_request_refused_leaves_the_others_pending() -> None:
    ledger = Ledger()
    ledger.append(triggered("before"))
    before = snapshot(ledger.state)
    verdict = ledger.judge([request(triggered()), request(planned(a=""), started("none"), number=1)])
    assert [one.event_id for one in verdict.events] == [ledger.state.last_event_id]
    assert {name: len(found) for name, found in ledger.state.changes().items()} == {"runs": 1, "idempotency_keys": 1}
    ledger.state.rollback()
    assert snapshot(ledger.state) == before


def test_a_round_in_which_nothing_is_accepted_changes_nothing() -> None:
    ledger = Ledger()
    ledger.append(triggered())
    before = snapshot(ledger.state)
    verdict = ledger.judge([request(started()), request(triggered(), number=1), request(triggered("x:y"), number=2)])
    assert verdict.events == []
    assert [bool(answer.refusal) for answer in verdict.answers] == [True, False, True]
    assert verdict.answers[1].events[0].outcome is DUPLICATE
    assert ledger.state.changes() == {}
    assert snapshot(ledger.state) == before


def test_an_event_that_comes_twice_in_a_round_is_written_once() -> None:
    ledger = Ledger()
    one, two = ledger.round(request(triggered(), triggered()), request(triggered(), number=1))
    assert [event.outcome for event in one.events + two.events] == [APPLIED, DUPLICATE, DUPLICATE]
    assert len({event.event_id for event in one.events + two.events}) == 1
    assert len(ledger.events) == 1


def test_an_event_that_the_state_passes_over_is_refused_without_a_trace() -> None:
    """The fold has seen it by then: its id must be free again for the next event."""
    ledger = Ledger()
    ledger.append(triggered(), planned(a=""), started())
    ledger.foreign(triggered("x"), key="finished:r:a:1")
    answers = ledger.round(
        request({**started(), "task_key": "zz"}),
        request(triggered("y"), number=1),
    )
    assert [answer.refusal is None for answer in answers] == [False, True]
    assert snapshot(ledger.state) == snapshot(ledger.refolded())


def test_a_round_needs_a_state_that_can_be_taken_back() -> None:
    ledger = Ledger()
    ledger.state.tracking = False
    with pytest.raises(ValueError, match="tracking"):
        ledger.judge([request(triggered())])


def test_a_round_needs_the_state_of_its_scope() -> None:
    ledger = Ledger()
    ledger.config = FoldConfig("other", "prod")
    with pytest.raises(ValueError, match="belongs to 'acme', 'prod'"):
        ledger.judge([request(triggered())])


def test_whatever_goes_wrong_leaves_the_state_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = Ledger()
    ledger.append(triggered("before"))
    before = snapshot(ledger.state)

    def failing(state: State, event: Any) -> Any:
        if event.event_type == "PlanCreated":
            raise MemoryError
        return fold_event(state, event)

    monkeypatch.setattr(admission_round, "fold_event", failing)
    with pytest.raises(MemoryError):
        ledger.judge([request(triggered(), planned(a=""))])
    assert snapshot(ledger.state) == before


def test_what_retention_ends_with_an_event_is_gone_when_the_event_is_judged() -> None:
    """The fold prunes before it folds: a plan accepted on the run that this ends would make tasks without a run."""
    ledger = Ledger(FoldConfig("acme", "prod", retention_days=1))
    ledger.append(triggered(), cancelled())
    ledger.now_ms += 2 * DAY_MS
    assert ledger.state.run("r") is not None
    (answer,) = ledger.round(request(planned(a="")))
    assert answer.refusal is not None
    assert (answer.refusal.code, answer.refusal.field) == (Code.EVENT_CONFLICT, "events[0].data.run_id")
    assert ledger.state.run("r") is not None, "no event came, so nothing was pruned"
    ledger.append(triggered("other"))
    assert ledger.state.run("r") is None
    assert snapshot(ledger.state) == snapshot(ledger.refolded())


def test_duplicates_alone_prune_nothing() -> None:
    ledger = Ledger(FoldConfig("acme", "prod", retention_days=1))
    ledger.append(triggered(), cancelled())
    ledger.now_ms += 2 * DAY_MS
    before = snapshot(ledger.state)
    (answer,) = ledger.round(request(triggered()))
    assert answer.events[0].outcome is DUPLICATE
    assert snapshot(ledger.state) == before


def test_a_key_that_retention_has_freed_is_free() -> None:
    ledger = Ledger(FoldConfig("acme", "prod", retention_days=1))
    ledger.append(triggered(), cancelled())
    ledger.now_ms = START_MS + 31 * DAY_MS
    (told,) = ledger.append(triggered())
    assert told.outcome is APPLIED
    assert snapshot(ledger.state) == snapshot(ledger.refolded())


def test_many_refused_requests_cost_no_more_than_their_share(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each one refused in its middle has the accepted events folded again: 1,000 events are the most of a round."""
    ledger = Ledger()
    folds = 0

    def counted(state: State, event: Any) -> Any:
        nonlocal folds
        folds += 1
        return fold_event(state, event)

    monkeypatch.setattr(admission_round, "fold_event", counted)
    requests: list[AppendRequest] = []
    for number in range(200):
        requests.append(request(triggered(f"r{number}")))
        requests.append(request(triggered(f"x{number}"), finished(run=f"x{number}"), number=1))
    answers = ledger.round(*requests)
    assert sum(answer.refusal is None for answer in answers) == 200
    assert folds <= 400 + 200 * 201 // 2
    assert all(event.outcome is EventOutcome.APPLIED for answer in answers for event in answer.events)
