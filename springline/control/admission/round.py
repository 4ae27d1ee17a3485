"""A round of requests: each judged on the state after those before it, each accepted as a whole or refused.

A request's events are first judged by themselves (`drafts_of`), in the API and in the round. The events of a request
`each` are judged like requests of one event each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from functools import partial
from hashlib import sha256
from typing import Any, Final, TypeVar

from springline.control.admission import automation, dispatch, ours, runs, tasks
from springline.control.admission.cases import (
    Case,
    Completion,
    Draft,
    EventRule,
    Repeats,
    Write,
    check_text,
    check_texts,
    conflict,
    given_key,
    invalid,
    key_in_use,
    repeated,
    too_large,
    value_at,
)
from springline.errors import Refusal, Refused
from springline.ledger.envelope import Event, InvalidPayload, compose_event, parse_event, payload_from
from springline.ledger.events import Payload, PlanCreated, by_payload, derived_key
from springline.ledger.member import MEMBER, typed_member
from springline.ledger.request import (
    MAX_REQUEST_EVENTS,
    AppendedEvent,
    AppendMode,
    AppendOutcome,
    AppendRequest,
    EventOutcome,
    NewEvent,
    RefusedAppend,
)
from springline.paths import canonical_ledger_event
from springline.projection.fold.loop import advance_frontier, fold_event
from springline.projection.schema import IDEMPOTENCY_KEYS
from springline.projection.state import State
from springline.ulids import nth_ulid, ulid_time_ms

MAX_EVENT_BYTES: Final = 256 * 1024
"""The longest accepted event, in bytes of canonical JSON."""
MAX_PLAN_EVENT_BYTES: Final = 8 * 1024 * 1024
"""The longest accepted plan: it is the one event that grows with its run."""

RULES: Final[dict[type, EventRule[Any]]] = by_payload(
    (*runs.RULES, *tasks.RULES, *dispatch.RULES, *automation.RULES, *ours.RULES)
)
"""The admission rule of each type of event."""

_RECORDED_AT: Final = IDEMPOTENCY_KEYS.index("recorded_at")
_EPOCH: Final = date(1970, 1, 1)


@dataclass(frozen=True, slots=True)
class ComposedEvent:
    """An event to write: its exact bytes, and its outcome in the fold."""

    event_id: str
    body: bytes
    sha256: str
    event: Event
    outcome: EventOutcome


@dataclass(frozen=True, slots=True)
class RoundVerdict:
    """The verdict on a round.

    `answers`, in the order of the requests, lack only fields that are known once the round is visible. `events`, by id,
    are those to write; the state holds them, pending.
    """

    answers: list[AppendOutcome] = field(default_factory=list)
    events: list[ComposedEvent] = field(default_factory=list)


OnError = Callable[[AppendRequest, int | None, Exception], Refusal]
"""Makes the refusal of the one request that met an unforeseen error, or raises the error again.

Of a request `each` it is the refusal of the one event at the given place.
"""

T = TypeVar("T")


def check_count(request: AppendRequest) -> None:
    """Raise `Refused` unless a request has as many events as one may have."""
    count = len(request.events)
    if not 1 <= count <= MAX_REQUEST_EVENTS:
        raise invalid("events", count, f"are {count}", f"Give 1 to {MAX_REQUEST_EVENTS} events.")


def drafts_of(request: AppendRequest, now_ms: int) -> list[Draft]:
    """Return a request's events, checked by themselves; raises `Refused` naming the first field that is wrong."""
    check_count(request)
    return [_draft(event, f"events[{index}]", now_ms) for index, event in enumerate(request.events)]


def _draft(event: NewEvent, field: str, now_ms: int) -> Draft:
    try:
        data = payload_from(event.data)
    except InvalidPayload as error:
        at = f"{field}.data.{error.path}" if error.path else f"{field}.data"
        raise invalid(at, value_at(event.data, error.path), error.problem, "Correct it, or leave it out.") from None
    check_texts(data, f"{field}.data")
    member = typed_member(data)
    if member is not None:
        check_texts(member, f"{field}.data.{MEMBER}")
    check = RULES[type(data)].check
    if check is not None:
        check(data, f"{field}.data", now_ms)
    for name in ("idempotency_key", "causation_id"):
        text: str | None = getattr(event, name)
        if text is not None:
            _check_free_text(text, f"{field}.{name}")
    key = event.idempotency_key
    return Draft(data, None if key is None else given_key(data, key, f"{field}.idempotency_key"), event.causation_id)


def _check_free_text(text: str, field: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise invalid(field, text, "holds half of a surrogate pair, which is no character", "Correct it.") from None
    check_text(text, field)


def judge_round(
    state: State,
    requests: Sequence[AppendRequest],
    *,
    first_event_id: str,
    now_ms: int,
    tenant: str,
    workspace: str,
    on_error: OnError | None = None,
) -> RoundVerdict:
    """Judge requests, and fold the events of those that are accepted.

    Args:
        state: tracking changes, and without pending ones. Afterwards exactly the verdict's events are pending in it.
        requests: in their order; the caller checks ids and markers, so no two may have the same request id.
        first_event_id: a canonical ULID above the state's last event; events get it and its successors, one by one.
        now_ms: the events' time, in milliseconds since 1970 UTC.
        tenant: the tenant's id.
        workspace: the workspace's id.
        on_error: makes the refusal of a request that meets an unforeseen error; by default the error is raised.

    Raises `ValueError` if the state does not track changes or belongs to another scope. After any error the state
    is unchanged.
    """
    if (state.config.tenant, state.config.workspace) != (tenant, workspace):
        raise ValueError(f"the state belongs to {state.config.tenant!r}, {state.config.workspace!r}")
    if not state.tracking:
        raise ValueError("the state keeps no changes that could be rolled back: set `tracking`")
    judged = _Round(state, first_event_id, now_ms, on_error)
    try:
        return judged.judge(requests)
    except BaseException:
        state.rollback()
        raise


class _Round:
    """A round under way."""

    def __init__(self, state: State, first_event_id: str, now_ms: int, on_error: OnError | None) -> None:
        self._state = state
        self._first_event_id = first_event_id
        self._now_ms = now_ms
        self._events: list[ComposedEvent] = []
        self._before = state.last_event_id
        self._on_error = on_error
        self._frontier_ms = state.frontier_ms
        """The frontier of retention after the last of the events."""

    def judge(self, requests: Sequence[AppendRequest]) -> RoundVerdict:
        """Judge all requests; see `judge_round`."""
        answers = [self._answer(request) for request in requests]
        if not self._events or self._state.frontier_ms != self._frontier_ms:
            self._fold_again()  # An event that is not written may have moved the frontier of retention.
        return RoundVerdict(answers, self._events)

    def _answer(self, request: AppendRequest) -> AppendOutcome:
        if request.mode is AppendMode.EACH:
            return self._answer_each(request)
        taken = self._all_or_none(request, None, lambda: self._take_all(drafts_of(request, self._now_ms)))
        if isinstance(taken, Refusal):
            return AppendOutcome(request_id=request.request_id, refusal=taken)
        asked, behind = taken
        return AppendOutcome(request_id=request.request_id, events=asked + behind)

    def _answer_each(self, request: AppendRequest) -> AppendOutcome:
        """Judge each event as if it were the only one of its request: none counts on one that comes behind it."""
        try:
            check_count(request)
        except Refused as error:
            return AppendOutcome(request_id=request.request_id, refusal=error.refusal)
        asked: list[AppendedEvent] = []
        behind: list[AppendedEvent] = []
        refused: list[RefusedAppend] = []
        for index, event in enumerate(request.events):
            taken = self._all_or_none(request, index, partial(self._take_alone, event, f"events[{index}]"))
            if isinstance(taken, Refusal):
                refused.append(RefusedAppend.of(index, taken))
            else:
                asked.append(taken[0])
                behind += taken[1]
        return AppendOutcome(request_id=request.request_id, events=asked + behind, refused=refused)

    def _all_or_none(self, request: AppendRequest, index: int | None, take: Callable[[], T]) -> T | Refusal:
        """Take events; if one is refused, undo those that were folded for it, and return the refusal."""
        accepted = len(self._events)
        try:
            return take()
        except Refused as error:
            self._take_back_to(accepted)
            return error.refusal
        except Exception as error:
            if self._on_error is None:
                raise
            refusal = self._on_error(request, index, error)
            self._take_back_to(accepted, surely=True)
            return refusal

    def _take_all(self, drafts: Sequence[Draft]) -> tuple[list[AppendedEvent], list[AppendedEvent]]:
        """Take a request's events, and return their answers and those of their completions."""
        asked: list[AppendedEvent] = []
        behind: list[AppendedEvent] = []
        for index, draft in enumerate(drafts):
            told, completions = self._take_one(draft, f"events[{index}]", drafts[index + 1 :])
            asked.append(told)
            behind += completions
        return asked, behind

    def _take_alone(self, event: NewEvent, at: str) -> tuple[AppendedEvent, list[AppendedEvent]]:
        """Take an event of a request `each`, checked by itself first, without a look at those behind it."""
        return self._take_one(_draft(event, at, self._now_ms), at, ())

    def _take_one(self, draft: Draft, at: str, later: Sequence[Draft]) -> tuple[AppendedEvent, list[AppendedEvent]]:
        """Take an event with its completions, and return their answers; `later`: those that count on being with it."""
        told, completions = self._take(draft, f"{at}.data", f"{at}.idempotency_key", later)
        return told, self._complete(completions, told.event_id)

    def _complete(self, completions: list[Completion], cause: str) -> list[AppendedEvent]:
        told = []
        for one in completions:
            event, more = self._take(Draft(one.data, one.key, cause), one.field, one.field, ())
            told.append(event.model_copy(update={"completed": True}))
            told += self._complete(more, event.event_id)
        return told

    def _take(
        self, draft: Draft, at: str, key_at: str, later: Sequence[Draft]
    ) -> tuple[AppendedEvent, list[Completion]]:
        """Judge an event, and fold it unless it repeats another; return its answer, and its completions."""
        state = self._state
        event_id = nth_ulid(self._first_event_id, len(self._events))
        if state.prunes:
            advance_frontier(state, event_id)  # As the fold does before this event: it deletes what is too old by then.
        rule = RULES[type(draft.data)]
        data = draft.data if rule.fill is None else rule.fill(draft.data, self._now_ms)
        key = draft.key
        if key is None:
            key = derived_key(data) if rule.key is None else rule.key(data, event_id)
        first = repeated(state, data, key, key_at)
        if first is not None:
            news = None if rule.missed is None else rule.missed(state, data)
            if news is not None:
                raise key_in_use(key_at, key, news)
            return self._told_again(first), []
        ruling = rule.admit(state, Case(data, key, event_id, self._now_ms, at, key_at, later))
        if isinstance(ruling, Repeats):
            return self._told_again(ruling), []
        return self._write(ruling, key, draft.causation_id, event_id, at)

    def _write(
        self, ruling: Write, key: str, causation_id: str | None, event_id: str, at: str
    ) -> tuple[AppendedEvent, list[Completion]]:
        body = self._compose(ruling.data, key, causation_id, event_id, at)
        event = parse_event(body)
        outcome = fold_event(self._state, event)
        if outcome is not EventOutcome.APPLIED and not ruling.may_be_refused:
            raise conflict(at, None, f"{event.event_type} changes nothing as things stand", "Read the state again.")
        self._events.append(ComposedEvent(event_id, body, sha256(body).hexdigest(), event, outcome))
        self._frontier_ms = self._state.frontier_ms
        told = self._told(event_id, event.event_type, key, outcome)
        return told, [] if ruling.behind is None else ruling.behind(self._state)

    def _compose(self, data: Payload, key: str, causation_id: str | None, event_id: str, at: str) -> bytes:
        config = self._state.config
        try:
            body = compose_event(
                data,
                event_id=event_id,
                timestamp_ms=self._now_ms,
                tenant=config.tenant,
                workspace=config.workspace,
                idempotency_key=key,
                causation_id=causation_id,
            )
        except InvalidPayload as error:
            raise invalid(at, None, error.problem, "Correct it.") from None
        most = MAX_PLAN_EVENT_BYTES if isinstance(data, PlanCreated) else MAX_EVENT_BYTES
        if len(body) > most:
            raise too_large(at, len(body), most)
        return body

    def _told_again(self, first: Repeats) -> AppendedEvent:
        return self._told(first.event_id, first.event_type, first.key, EventOutcome.DUPLICATE)

    def _told(self, event_id: str, event_type: str, key: str, outcome: EventOutcome) -> AppendedEvent:
        return AppendedEvent(
            event_id=event_id,
            event_type=event_type,
            idempotency_key=key,
            ledger_path=canonical_ledger_event(event_id, self._day_of(event_id, key)),
            outcome=outcome,
        )

    def _day_of(self, event_id: str, key: str) -> date:
        """Return the UTC day of an event's timestamp; the path has it only if the id has no time."""
        row = self._state.row(IDEMPOTENCY_KEYS.name, key) if ulid_time_ms(event_id) is None else None
        recorded_at = self._now_ms if row is None else int(row[_RECORDED_AT] or 0)
        return _EPOCH + timedelta(milliseconds=recorded_at)

    def _take_back_to(self, accepted: int, *, surely: bool = False) -> None:
        """Undo the folded events of what was refused; events accepted before it are folded again.

        Nothing is to undo if none was folded: the next event has the same id as the refused one, and finds deleted what
        that one did. `surely`: even if the state seems to have none of its events, because one may be folded in part.
        """
        del self._events[accepted:]
        last = self._events[-1].event_id if self._events else self._before
        if surely or self._state.last_event_id != last:
            self._fold_again()

    def _fold_again(self) -> None:
        """Bring the state to exactly the accepted events."""
        self._state.rollback()
        for one in self._events:
            fold_event(self._state, one.event)
        self._frontier_ms = self._state.frontier_ms
