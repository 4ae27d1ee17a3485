"""A ledger that is appended to through admission, and by others past it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from springline.control.admission.round import OnError, RoundVerdict, judge_round
from springline.errors import Refusal
from springline.ledger.envelope import Event, compose_event, parse_event, payload_from
from springline.ledger.request import (
    AppendedEvent,
    AppendMode,
    AppendOutcome,
    AppendRequest,
    EventOutcome,
    NewEvent,
)
from springline.projection.config import FoldConfig
from springline.projection.fold.loop import fold_all, fold_event
from springline.projection.schema import TABLES, Row
from springline.projection.state import State
from springline.published.snapshot import Revision, StateSnapshot, TableRows
from springline.ulids import new_ulid

START_MS = 1_736_935_200_000
"""2025-01-15T10:00:00Z."""

_NO_REVISION = Revision("", "", None, None)

Asked = dict[str, Any] | NewEvent
APPLIED, DUPLICATE = EventOutcome.APPLIED, EventOutcome.DUPLICATE


def request(*events: Asked, number: int = 0, mode: AppendMode = AppendMode.ALL) -> AppendRequest:
    """Return a request of payloads, or of events with more than their payload."""
    listed = [event if isinstance(event, NewEvent) else NewEvent(data=event) for event in events]
    return AppendRequest(request_id=f"01946b1c-0000-7000-8000-{number:012x}", events=listed, mode=mode)


def each(*events: Asked, number: int = 0) -> AppendRequest:
    """Return a request whose events are taken each by itself."""
    return request(*events, number=number, mode=AppendMode.EACH)


class Ledger:
    """A workspace's events and the state they fold to."""

    def __init__(self, config: FoldConfig | None = None) -> None:
        self.config = config or FoldConfig("acme", "prod")
        self.state = State(self.config)
        self.state.tracking = True
        self.now_ms = START_MS
        self.events: list[Event] = []
        self._tables: dict[str, tuple[list[Row], TableRows]] = {}

    def judge(
        self, requests: Sequence[AppendRequest], *, first_event_id: str | None = None, on_error: OnError | None = None
    ) -> RoundVerdict:
        """Judge a round, and leave its events pending."""
        return judge_round(
            self.state,
            requests,
            first_event_id=first_event_id or self._next_id(),
            now_ms=self.now_ms,
            tenant=self.config.tenant,
            workspace=self.config.workspace,
            on_error=on_error,
        )

    def round(self, *requests: AppendRequest) -> list[AppendOutcome]:
        """Judge a round and accept it; a second later the next one may come."""
        verdict = self.judge(requests)
        self.state.accept()
        self.events += [one.event for one in verdict.events]
        self.now_ms += 1_000
        return verdict.answers

    def append(self, *events: Asked) -> list[AppendedEvent]:
        """Append one request that must be accepted."""
        (answer,) = self.round(request(*events))
        assert answer.refusal is None, answer.refusal
        return answer.events

    def refused(self, *events: Asked) -> Refusal:
        """Append one request that must be refused, with nothing changed by it."""
        before = snapshot(self.state)
        (answer,) = self.round(request(*events))
        assert answer.refusal is not None
        assert answer.events == []
        assert snapshot(self.state) == before
        return answer.refusal

    def foreign(self, data: dict[str, Any], key: str | None = None) -> str:
        """Fold an event of another writer, whatever comes of it; return its id."""
        event_id = self._next_id()
        body = compose_event(
            payload_from(data),
            event_id=event_id,
            timestamp_ms=self.now_ms,
            tenant=self.config.tenant,
            workspace=self.config.workspace,
            idempotency_key=key,
        )
        event = parse_event(body)
        fold_event(self.state, event)
        self.state.accept()
        self.events.append(event)
        self.now_ms += 1_000
        return event_id

    def refolded(self) -> State:
        """Return the in-order fold of all events, from nothing."""
        state = State(self.config)
        fold_all(state, self.events)
        return state

    def _next_id(self) -> str:
        return new_ulid(self.state.last_event_id or None, self.now_ms, 7)

    def published(self, names: Iterable[str]) -> StateSnapshot:
        """Return tables as those who read what is published have them: the product's own, not a likeness of them."""
        return StateSnapshot(_NO_REVISION, {name: self._table(name) for name in names})

    def _table(self, name: str) -> TableRows:
        rows = list(self.state.rows(name))
        known = self._tables.get(name)
        if known is None or known[0] != rows:
            known = self._tables[name] = rows, TableRows.of(TABLES[name], rows)
        return known[1]

    def task(self, key: str = "a", run: str = "r") -> str:
        """Return the state of a task."""
        row = self.state.task(run, key)
        assert row is not None
        return row.state

    def run(self, run: str = "r") -> str:
        """Return the state of a run."""
        row = self.state.run(run)
        assert row is not None
        return row.state


def snapshot(state: State) -> dict[str, Any]:
    """Return everything that a state is."""
    tables: dict[str, Any] = {name: sorted(state.rows(name), key=repr) for name in TABLES}
    return tables | {"last": state.last_event_id, "frontier": state.frontier_ms}


def outcomes(events: list[AppendedEvent]) -> list[tuple[str, EventOutcome, bool]]:
    """Return type, outcome and whether it was added, of each event."""
    return [(event.event_type, event.outcome, event.completed) for event in events]
