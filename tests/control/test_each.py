"""Requests `each`: their events are taken as requests of one event would be, one after the other in their round."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from random import Random
from typing import Any
from weakref import WeakKeyDictionary

import pytest
from hypothesis import given
from hypothesis import strategies as st

from springline.bounds import MAX_JSON_NUMBER
from springline.control.admission import round as admission_round
from springline.control.admission.round import RoundVerdict, _Round
from springline.errors import Code, Refusal, Refused
from springline.ledger.request import (
    REFUSED_BYTES,
    AppendedEvent,
    AppendMode,
    AppendOutcome,
    AppendRequest,
    EventOutcome,
    NewEvent,
    RefusedAppend,
)
from springline.projection.config import FoldConfig
from springline.projection.fold.loop import advance_frontier, fold_event
from springline.projection.state import State
from springline.ulids import RANDOM_BITS, new_ulid, ulid_time_ms
from tests.control import payloads as p
from tests.control.ledger import APPLIED, DUPLICATE, START_MS, Ledger, each, outcomes, request, snapshot
from tests.control.payloads import cancelled, evaluated, finished, planned, requested, started, triggered
from tests.control.strategies import next_moves

DAY_MS = 86_400_000


def refused(answer: AppendOutcome) -> list[tuple[int, Code, str | None]]:
    """Return place, code and field of each refused event."""
    return [(one.index, one.code, one.field) for one in answer.refused]


def failed(asked: AppendRequest, index: int | None, error: Exception) -> Refusal:
    """Refuse an event, or the only one of a request, that met an unforeseen error."""
    return Refusal(code=Code.REQUEST_FAILED, message=f"events[{index or 0}]: {error!r}", field=f"events[{index or 0}]")


# Each event by itself.


def test_a_refused_event_takes_no_other_with_it() -> None:
    ledger = Ledger()
    (answer,) = ledger.round(each(triggered(), started(), planned(a=""), started("none"), started()))
    assert answer.refusal is None
    assert refused(answer) == [
        (1, Code.EVENT_CONFLICT, "events[1].data.task_key"),
        (3, Code.EVENT_CONFLICT, "events[3].data.task_key"),
    ]
    assert [event.event_type for event in answer.events] == ["RunTriggered", "PlanCreated", "TaskStarted"]
    assert [event.event_id for event in answer.events] == [event.event_id for event in ledger.events]
    told = [one.event_type if isinstance(one, AppendedEvent) else one.index for one in answer.results]
    assert told == ["RunTriggered", 1, "PlanCreated", 3, "TaskStarted"]
    assert snapshot(ledger.state) == snapshot(ledger.refolded())


@pytest.mark.parametrize(
    ("bad", "code", "field"),
    [
        (NewEvent(data={}), Code.INVALID_REQUEST, "events[1].data.type"),
        (NewEvent(data={"type": "no such type"}), Code.INVALID_REQUEST, "events[1].data.type"),
        (NewEvent(data=started(attempt=1.5)), Code.INVALID_REQUEST, "events[1].data.attempt"),  # type: ignore[arg-type]
        (NewEvent(data=triggered(run="a\0")), Code.INVALID_REQUEST, "events[1].data.run_id"),
        (NewEvent(data=triggered(run="\ud800")), Code.INVALID_REQUEST, "events[1].data.run_id"),
        (NewEvent(data=triggered("x"), idempotency_key=""), Code.INVALID_REQUEST, "events[1].idempotency_key"),
        (NewEvent(data=triggered("x"), idempotency_key="run:y"), Code.INVALID_REQUEST, "events[1].idempotency_key"),
        (NewEvent(data=cancelled(reason="x" * 300_000)), Code.PAYLOAD_TOO_LARGE, "events[1].data"),
        (NewEvent(data=finished()), Code.EVENT_CONFLICT, "events[1].data.task_key"),
    ],
    ids=lambda value: value.data.get("type", "nothing") if isinstance(value, NewEvent) else "",
)
def test_whatever_is_wrong_with_an_event_is_its_own_affair(bad: NewEvent, code: Code, field: str) -> None:
    ledger = Ledger()
    (answer,) = ledger.round(each(triggered(), bad, triggered("s")))
    assert refused(answer) == [(1, code, field)]
    assert answer.refused[0].remedy
    assert [event.outcome for event in answer.events] == [APPLIED, APPLIED]
    assert len(answer.refused[0].model_dump_json().encode()) <= REFUSED_BYTES


@pytest.mark.parametrize("count", [0, 501])
def test_a_wrong_number_of_events_refuses_the_whole(count: int) -> None:
    events = [NewEvent(data=triggered(f"r{n}")) for n in range(count)]
    (answer,) = Ledger().round(AppendRequest.model_construct(request_id="q", events=events, mode=AppendMode.EACH))
    assert answer.refusal is not None
    assert (answer.refusal.code, answer.refusal.field) == (Code.INVALID_REQUEST, "events")
    assert (answer.events, answer.refused, answer.results) == ([], [], [])


def test_an_event_may_count_on_those_before_it_and_on_none_behind_it() -> None:
    """A tick whose run request comes behind is completed at once: the request might be refused."""
    tick, request_of_tick = p.tick(), requested("sched:s:1736935200", source=p.of_tick())
    whole, by_itself = Ledger(), Ledger()
    (of_whole,) = whole.round(request(tick, request_of_tick))
    assert outcomes(of_whole.events) == [("ScheduleTicked", APPLIED, False), ("RunRequested", APPLIED, False)]
    (of_each,) = by_itself.round(each(tick, request_of_tick))
    assert outcomes(of_each.events) == [
        ("ScheduleTicked", APPLIED, False),
        ("RunRequested", DUPLICATE, False),
        ("RunRequested", APPLIED, True),
    ]
    wrong = requested("another", source=p.of_tick())
    (answer,) = Ledger().round(each(tick, wrong))
    assert refused(answer) == [(1, Code.EVENT_CONFLICT, "events[1].data.run_key")]
    assert outcomes(answer.events) == [("ScheduleTicked", APPLIED, False), ("RunRequested", APPLIED, True)]


def test_completions_stand_behind_all_that_was_asked_for() -> None:
    ledger = Ledger()
    (answer,) = ledger.round(each(triggered(), cancelled(), planned(a=""), started(), triggered("s")))
    assert outcomes(answer.events) == [
        ("RunTriggered", APPLIED, False),
        ("RunCancelRequested", APPLIED, False),
        ("PlanCreated", APPLIED, False),
        ("RunTriggered", APPLIED, False),
        ("RunCancelRequested", APPLIED, True),
    ]
    assert refused(answer) == [(3, Code.EVENT_CONFLICT, "events[3].data.task_key")]
    kinds = [event.event_type for event in ledger.events]
    assert kinds == ["RunTriggered", "RunCancelRequested", "PlanCreated", "RunCancelRequested", "RunTriggered"]


def test_an_event_whose_completion_is_refused_leaves_nothing_and_its_id_to_the_next() -> None:
    ledger = Ledger()
    ledger.append(triggered("mine", run_key="taken"))
    asked = evaluated(run_requests=[p.run_request("free"), p.run_request("taken")])
    (answer,) = ledger.round(each(triggered("r"), asked, triggered("s")))
    assert refused(answer) == [(1, Code.EVENT_CONFLICT, "events[1].data.run_requests[1].run_key")]
    assert [event.event_type for event in answer.events] == ["RunTriggered", "RunTriggered"]
    assert ledger.state.evaluation("e1") is None
    assert ledger.state.run_key("free") is None
    assert snapshot(ledger.state) == snapshot(ledger.refolded())


@pytest.mark.parametrize("halfway", [False, True], ids=["before it is folded", "when it is folded in part"])
def test_an_error_nobody_foresaw_refuses_the_one_event(halfway: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(state: State, event: Any) -> EventOutcome:
        if event.event_type == "PlanCreated":
            if halfway:
                fold_event(state, event)
            raise KeyError("x")
        return fold_event(state, event)

    monkeypatch.setattr(admission_round, "fold_event", failing)
    ledger = Ledger()
    verdict = ledger.judge([each(triggered(), planned(a=""), triggered("s"))], on_error=failed)
    (answer,) = verdict.answers
    assert refused(answer) == [(1, Code.REQUEST_FAILED, "events[1]")]
    assert [one.event.data.run_id for one in verdict.events] == ["r", "s"]  # type: ignore[union-attr]
    assert ledger.state.tasks_of("r") == {}
    assert ledger.state.last_event_id == verdict.events[-1].event_id
    with pytest.raises(KeyError):
        Ledger().judge([each(triggered(), planned(a=""))])


def test_a_request_of_which_nothing_is_taken_changes_nothing() -> None:
    ledger = Ledger(FoldConfig("acme", "prod", retention_days=1))
    ledger.append(triggered(), cancelled())
    ledger.now_ms += 2 * DAY_MS
    before = snapshot(ledger.state)
    verdict = ledger.judge([each(planned(a=""), {"type": "nothing"})])
    assert verdict.events == []
    assert len(verdict.answers[0].refused) == 2
    assert ledger.state.changes() == {}
    assert snapshot(ledger.state) == before


def test_many_refused_events_cost_no_more_than_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    """An event that is refused before it is folded has nothing folded again, with retention too."""
    folds = 0

    def counted(state: State, event: Any) -> EventOutcome:
        nonlocal folds
        folds += 1
        return fold_event(state, event)

    monkeypatch.setattr(admission_round, "fold_event", counted)
    ledger = Ledger(FoldConfig("acme", "prod", retention_days=1))
    (answer,) = ledger.round(each(*(one for n in range(250) for one in (triggered(f"r{n}"), finished(run=f"r{n}")))))
    assert (len(answer.events), len(answer.refused)) == (250, 250)
    assert folds == 250


# What an answer says of a refused event is bounded.


texts = st.text(st.characters(codec="utf-8"), max_size=1_500) | st.sampled_from(
    ["\x01" * 900, "\U0001f600" * 500, '"' * 999]
)


@given(
    texts,
    texts | st.none(),
    texts | st.none(),
    texts | st.none() | st.integers(-MAX_JSON_NUMBER, MAX_JSON_NUMBER) | st.lists(texts, max_size=3),
)
def test_a_refused_event_takes_a_bounded_part_of_an_answer(
    message: str, field: str | None, remedy: str | None, value: Any
) -> None:
    longest = max(Code, key=len)
    refusal = Refusal(code=longest, message=message, field=field, remedy=remedy, value=value)
    told = RefusedAppend.of(499, refusal)
    assert len(told.model_dump_json().encode()) <= REFUSED_BYTES
    assert (told.code, told.index) == (longest, 499)
    assert (told.field is None, told.remedy is None) == (field is None, remedy is None)
    for cut, whole in ((told.message, refusal.message), (told.field, refusal.field), (told.remedy, refusal.remedy)):
        assert cut == whole or (cut is not None and (whole or "").startswith(cut.removesuffix("...")))


def test_what_fits_is_told_in_full() -> None:
    ledger = Ledger()
    (whole,) = ledger.round(request(finished()))
    (by_itself,) = ledger.round(each(finished(), number=1))
    assert whole.refusal is not None
    (told,) = by_itself.refused
    assert told.model_dump(exclude={"index"}) == whole.refusal.model_dump()
    with pytest.raises(Refused, match="has no task"):
        raise Refused(told)


# As requests of one event each.

ROUNDS = 12
WALKS = 60


class Twins:
    """Two ledgers with one history: what one is asked for `each`, the other is asked for event by event."""

    def __init__(self, random: Random, seen: Counter[str]) -> None:
        self.random = random
        self.seen = seen
        days = random.choice((None, None, 1, 5))
        config = FoldConfig("acme", "prod") if days is None else FoldConfig("acme", "prod", retention_days=days)
        self.first, self.second = Ledger(config), Ledger(config)

    def play(self) -> None:
        """Play a round with both, and compare."""
        asked = [self._request(number) for number in range(self.random.randint(1, 3))]
        split = [[one] if one.mode is AppendMode.ALL else [request(event) for event in one.events] for one in asked]
        first_event_id = self._first_event_id()
        verdict = self.first.judge(asked, first_event_id=first_event_id, on_error=failed)
        alone = self.second.judge(
            [one for some in split for one in some], first_event_id=first_event_id, on_error=failed
        )
        self._compare(asked, verdict, alone)
        for ledger, judged in ((self.first, verdict), (self.second, alone)):
            ledger.state.accept()
            ledger.events += [one.event for one in judged.events]
            ledger.now_ms += 1_000
        assert snapshot(self.first.state) == snapshot(self.second.state)
        assert snapshot(self.first.state) == snapshot(self.first.refolded())

    def _compare(self, asked: list[AppendRequest], verdict: RoundVerdict, alone: RoundVerdict) -> None:
        written = [[(one.event_id, one.body, one.outcome) for one in found.events] for found in (verdict, alone)]
        assert written[0] == written[1]
        told = {one.event_id for answer in verdict.answers for one in answer.events if one.outcome is not DUPLICATE}
        assert told == {one.event_id for one in verdict.events}
        assert self.first.state.changes() == self.second.state.changes()
        answers = iter(alone.answers)
        for one, answer in zip(asked, verdict.answers, strict=True):
            if one.mode is AppendMode.ALL:
                assert answer == next(answers)
                self.seen["taken whole"] += answer.refusal is None
                continue
            by_event = [next(answers) for _ in one.events]
            taken = [single.events for single in by_event if single.refusal is None]
            assert answer.refusal is None
            assert answer.events == [some[0] for some in taken] + [event for some in taken for event in some[1:]]
            assert answer.refused == [
                RefusedAppend.of(place, placed(single.refusal, place))
                for place, single in enumerate(by_event)
                if single.refusal is not None
            ]
            assert len(answer.results) == len(one.events)
            self._note(answer)

    def _note(self, answer: AppendOutcome) -> None:
        self.seen.update(event.outcome.value for event in answer.events)
        self.seen.update(refusal.code.value for refusal in answer.refused)
        self.seen["completed"] += any(event.completed for event in answer.events)
        self.seen["taken in part"] += bool(answer.events and answer.refused)
        self.seen["nothing taken"] += not answer.events

    def _request(self, number: int) -> AppendRequest:
        """Return a request of what the state could take next, and of what is just wrong."""
        random, mode = self.random, self.random.choice((AppendMode.EACH, AppendMode.EACH, AppendMode.ALL))
        moves = [*next_moves(self.first.state), *MORE]
        events = [random.choice(moves) for _ in range(random.randint(1, 8 if mode is AppendMode.EACH else 3))]
        return request(*(self._keyed(event) for event in events), number=number, mode=mode)

    def _keyed(self, data: dict[str, Any]) -> NewEvent:
        key = self.random.choice((None, None, None, None, "mine", "run:r1", "started:r1:a:1"))
        return NewEvent(data=data, idempotency_key=key)

    def _first_event_id(self) -> str:
        """Return the id of the round's first event; often the randomness of ids ends within the round."""
        self.first.now_ms = self.second.now_ms = self.first.now_ms + self.random.choice((0, 0, 0, 2, 31)) * DAY_MS
        bits = (1 << RANDOM_BITS) - self.random.randint(1, 6) if self.random.random() < 0.5 else 7
        return new_ulid(self.first.state.last_event_id or None, self.first.now_ms, bits)


MORE: list[dict[str, Any]] = [
    {"type": "something_new"},
    {"type": "task_started", "attempt": 0.5},
    triggered("r:1"),
    planned("r1", a="a"),
    planned("nowhere", a=""),
    finished(run="nowhere"),
    p.heartbeat(run="r1", heartbeat_at="2999-01-01T00:00:00Z"),
    p.timer(),
    p.tick(1_736_935_400),
    requested("sched:s:1736935400", source=p.of_tick(1_736_935_400)),
    requested("k1", "g"),
    evaluated("e4", run_requests=[p.run_request("k4"), p.run_request("r1")]),
]
"""What is wrong by itself, or comes too early, or asks for what comes behind it; a timer meets an error of ours."""


def placed(refusal: Refusal, place: int) -> Refusal:
    """Return the refusal of a request's only event as that of its event at `place`."""
    return Refusal.model_validate_json(refusal.model_dump_json().replace("events[0]", f"events[{place}]"))


def walk(seed: int, seen: Counter[str]) -> None:
    twins = Twins(Random(seed), seen)
    for _ in range(ROUNDS):
        twins.play()


@pytest.fixture
def faults(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have every timer meet an error after its fold, and now and then an event while retention deletes."""
    calls: WeakKeyDictionary[State, int] = WeakKeyDictionary()

    def folding(state: State, event: Any) -> EventOutcome:
        outcome = fold_event(state, event)
        if event.event_type == "TimerRequested":
            raise KeyError("a fault of ours")
        return outcome

    def advancing(state: State, event_id: str) -> None:
        calls[state] = calls.get(state, 0) + 1
        if calls[state] % 11 == 0:
            state.frontier_ms = ulid_time_ms(event_id)
            raise KeyError("a fault of ours")
        advance_frontier(state, event_id)

    monkeypatch.setattr(admission_round, "fold_event", folding)
    monkeypatch.setattr(admission_round, "advance_frontier", advancing)


@pytest.mark.usefixtures("faults")
def test_each_is_as_if_every_event_came_alone(record_property: Callable[[str, object], None]) -> None:
    seen: Counter[str] = Counter()
    for seed in range(WALKS):
        walk(seed, seen)
    wanted = {"taken whole", "taken in part", "nothing taken", "completed", "applied", "duplicate"}
    wanted |= {"INVALID_REQUEST", "EVENT_CONFLICT", "KEY_REUSED", "REQUEST_FAILED"}
    assert {name for name in wanted if seen[name] >= 10} == wanted, seen
    record_property("explored", f"requests `each` against requests of one event: {WALKS} walks checked")


TAKE_BACK, ANSWER_EACH = _Round._take_back_to, _Round._answer_each


def nothing_back(self: _Round, accepted: int, *, surely: bool = False) -> None:
    """Leave what a refused event had folded."""


def all_back(self: _Round, accepted: int, *, surely: bool = False) -> None:
    """Take back what was accepted before the refused event, too."""
    TAKE_BACK(self, 0, surely=surely)


def only_forgotten(self: _Round, accepted: int, *, surely: bool = False) -> None:
    """Forget the events of the refused one, and leave the state."""
    del self._events[accepted:]


def trusting(self: _Round, accepted: int, *, surely: bool = False) -> None:
    """Take an event that failed in the midst of its fold for one that was not folded."""
    TAKE_BACK(self, accepted)


def not_folded_again(self: _Round) -> None:
    """Forget that events accepted before are rolled back as well."""
    self._state.rollback()


def frontier_stays(self: _Round, requests: Sequence[AppendRequest]) -> RoundVerdict:
    """Leave the frontier where an event has moved it that is not written."""
    answers = [self._answer(one) for one in requests]
    if not self._events:
        self._state.rollback()
    return RoundVerdict(answers, self._events)


def looking_ahead(self: _Round, asked: AppendRequest) -> AppendOutcome:
    """Count on the events behind, as in a request that is taken whole."""
    asking = [NewEvent(data=event.data) for event in asked.events if event.data["type"] == "run_requested"]
    behind = [admission_round._draft(event, "", self._now_ms) for event in asking]
    taking = _Round._take_one

    def take_one(self: _Round, draft: Any, at: str, later: Any) -> Any:
        return taking(self, draft, at, behind)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_Round, "_take_one", take_one)
        return ANSWER_EACH(self, asked)


MUTANTS: list[tuple[str, Callable[..., Any]]] = [
    ("_take_back_to", nothing_back),
    ("_take_back_to", all_back),
    ("_take_back_to", only_forgotten),
    ("_take_back_to", trusting),
    ("_fold_again", not_folded_again),
    ("judge", frontier_stays),
    ("_answer_each", looking_ahead),
]


@pytest.mark.usefixtures("faults")
@pytest.mark.parametrize(("name", "mutant"), MUTANTS, ids=[mutant.__name__ for _, mutant in MUTANTS])
def test_without_one_step_an_event_is_not_as_if_it_came_alone(
    name: str, mutant: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_Round, name, mutant)
    for seed in range(WALKS):
        try:
            walk(seed, Counter())
        except (AssertionError, ValueError):
            return
    raise AssertionError(f"{WALKS} walks with `{mutant.__name__}` noticed nothing")


def test_what_retention_ends_is_gone_for_each_event() -> None:
    """A refused event moves the frontier as far as the next one will, and no further."""
    ledger = Ledger(FoldConfig("acme", "prod", retention_days=1))
    ledger.append(triggered(), cancelled())
    ledger.now_ms = START_MS + 31 * DAY_MS
    (answer,) = ledger.round(each(planned(a=""), triggered(), planned(a="")))
    assert refused(answer) == [(0, Code.EVENT_CONFLICT, "events[0].data.run_id")]
    assert [event.outcome for event in answer.events] == [APPLIED, APPLIED]
    assert snapshot(ledger.state) == snapshot(ledger.refolded())
