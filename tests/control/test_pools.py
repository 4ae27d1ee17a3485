"""Pools, decided: who may begin by the rows, who is next, and what messages that are lost or late change of it."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from springline.control.runs import pools
from springline.control.runs.messages import PoolRows, SlotGrant, SlotHolder, SlotsAsked, SlotsGranted, SlotWanted
from springline.control.runs.pools import (
    ASKS_AGAIN_MS,
    FORGOTTEN_MS,
    GIVEN_MS,
    MOST_WANTED,
    PoolSlots,
    RunSlots,
    has_slot,
    waiting_words,
)
from springline.projection.schema import DISPATCHED, RUNNING


def holder(name: str, version: str, state: str = DISPATCHED) -> SlotHolder:
    return SlotHolder(run_id="r", task_key=name, attempt=1, attempt_id=name, state=state, version=version)


def want(key: str, attempt: int = 1, *, priority: int = 0, since_ms: int = 0) -> SlotWanted:
    return SlotWanted(task_key=key, attempt=attempt, priority=priority, since_ms=since_ms)


def asked(run_id: str, *wanted: SlotWanted, number: int = 1, priority: int = 0) -> SlotsAsked:
    return SlotsAsked(run_id=run_id, pool="p", number=number, priority=priority, wanted=list(wanted))


def given_of(told: dict[str, SlotsGranted]) -> list[tuple[str, str]]:
    return [(run_id, one.task_key) for run_id, message in told.items() for one in message.grants]


# Who may begin.


Life = tuple[tuple[str, int], ...]


def _lives(attempts: int) -> Iterator[Life]:
    """Yield every order in which attempts are dispatched, look at some revision since, and end."""
    events = [(what, number) for number in range(attempts) for what in ("dispatch", "look", "end")]
    for order in itertools.permutations(events):
        place = {event: at for at, event in enumerate(order)}
        if all(place["dispatch", one] < place["look", one] < place["end", one] for one in range(attempts)):
            yield order


@pytest.mark.parametrize("slots", [1, 2])
def test_however_old_the_rows_are_never_more_begin_than_there_are_slots(slots: int) -> None:
    """Every life of three attempts; each looks at every revision there was since its dispatch."""
    lives = 0
    for life in _lives(3):
        lives += 1
        revisions: list[dict[int, SlotHolder]] = [{}]
        since: dict[int, int] = {}
        begun: set[int] = set()
        begins: dict[int, int] = {}
        for what, number in life:
            now = dict(revisions[-1])
            if what == "dispatch":
                since[number] = len(revisions)
                now[number] = holder(str(number), f"{len(revisions):03}")
                revisions.append(now)
            elif what == "look":
                if any(has_slot(str(number), rows.values(), slots) for rows in revisions[since[number] :]):
                    begun.add(number)
                    begins[number] = len(revisions)
                    now[number] = now[number].model_copy(update={"state": RUNNING, "version": f"{len(revisions):03}"})
                    revisions.append(now)
            else:
                begun.discard(number)
                del now[number]
                revisions.append(now)
            assert len(begun) <= slots, life
    assert lives == 1_680


def test_an_attempt_that_is_not_on_record_has_no_slot_and_one_without_a_limit_has() -> None:
    rows = [holder("a", "001"), holder("b", "002"), holder("c", "003", RUNNING)]
    assert [has_slot(one, rows, 2) for one in "abcd"] == [True, False, False, False]
    assert [has_slot(one, rows, None) for one in "abcd"] == [True, True, False, False]
    assert not has_slot("a", rows, 0)
    # Two of one append have places of their own even if their versions were equal.
    same = [holder("a", "001"), holder("b", "001")]
    assert [has_slot(one, same, 1) for one in "ab"] == [True, False]


# Who is next.


def test_the_greatest_priority_is_first_then_runs_take_turns_the_oldest_wish_first() -> None:
    pool = PoolSlots("p", knows=True)
    pool.ask(asked("old", want("a", since_ms=1), want("b", since_ms=1), want("c", since_ms=1)), 10)
    pool.ask(asked("young", want("a", since_ms=5), want("b", since_ms=6)), 10)
    pool.ask(asked("urgent", want("a", since_ms=9), priority=5), 10)
    order = []
    taken: list[SlotHolder] = []
    for number in range(6):
        told = pool.look(PoolRows(slots=number + 1, holders=taken), 20 + number)
        ((run_id, key),) = given_of(told)
        order.append(run_id)
        taken.append(SlotHolder(run_id=run_id, task_key=key, attempt=1, attempt_id=f"{run_id}/{key}", state=RUNNING))
    assert order == ["urgent", "old", "young", "old", "young", "old"]
    assert pool.look(PoolRows(slots=9, holders=taken), 99) == {}
    assert pool.is_idle


def test_the_priority_of_an_asset_counts_behind_that_of_the_run() -> None:
    pool = PoolSlots("p", knows=True)
    pool.ask(asked("a", want("low"), want("high", priority=9, since_ms=8)), 10)
    pool.ask(asked("b", want("middle", priority=5)), 10)
    assert given_of(pool.look(PoolRows(slots=1), 20)) == [("a", "high")]
    assert given_of(pool.look(PoolRows(slots=2), 21)) == [("b", "middle")]


def test_a_run_with_a_thousand_tasks_does_not_hold_up_another() -> None:
    pool = PoolSlots("p", knows=True)
    pool.ask(asked("large", *(want(f"t{number:02}") for number in range(MOST_WANTED))), 0)
    assert len(given_of(pool.look(PoolRows(slots=3), 1))) == 3
    held = [SlotHolder(run_id="large", task_key=f"t{number:02}", attempt=1, state=RUNNING) for number in range(3)]
    pool.ask(asked("small", want("only", since_ms=5_000)), 5_000)
    assert not given_of(pool.look(PoolRows(slots=3, holders=held), 5_500))
    # Its last slot lies back longer than the other's wish; then it is the other's turn.
    assert given_of(pool.look(PoolRows(slots=3, holders=held[1:]), 6_000)) == [("large", "t03")]
    pool.given.clear()
    assert given_of(pool.look(PoolRows(slots=3, holders=held[1:]), 7_000)) == [("small", "only")]


def test_a_run_that_waits_hears_once_how_the_pool_stands() -> None:
    pool = PoolSlots("p", knows=True)
    pool.ask(asked("a", want("x")), 0)
    rows = PoolRows(slots=1, holders=[holder("other", "001", RUNNING)])
    assert pool.look(rows, 1) == {"a": SlotsGranted(pool="p", slots=1, taken=1)}
    assert pool.look(rows, 2) == {}
    pool.ask(asked("a", want("x"), number=2), 3)
    assert list(pool.look(rows, 4)) == ["a"]


def test_a_pool_without_a_limit_gives_everything_and_one_without_slots_nothing() -> None:
    for slots, count in ((None, 3), (0, 0)):
        pool = PoolSlots("p", knows=True)
        pool.ask(asked("a", want("x"), want("y"), want("z")), 0)
        assert len(given_of(pool.look(PoolRows(slots=slots), 1))) == count


def test_a_pool_that_shrinks_gives_nothing_until_it_has_emptied_itself() -> None:
    pool = PoolSlots("p", knows=True)
    pool.ask(asked("a", want("x")), 0)
    held = [holder(str(number), f"00{number}", RUNNING) for number in range(5)]
    for count in (5, 4, 3, 2):
        assert not given_of(pool.look(PoolRows(slots=2, holders=held[:count]), 1))
    assert given_of(pool.look(PoolRows(slots=2, holders=held[:1]), 1)) == [("a", "x")]


# What is lost, late or doubled.


def test_an_older_message_and_one_that_comes_twice_change_nothing() -> None:
    pool = PoolSlots("p", knows=True)
    pool.ask(asked("a", want("x"), number=5), 0)
    pool.ask(asked("a", want("y"), number=4), 1)
    pool.ask(asked("a", want("z"), number=5), 1)
    assert given_of(pool.look(PoolRows(slots=3), 2)) == [("a", "x")]


def test_what_a_run_does_not_want_any_more_is_free() -> None:
    pool = PoolSlots("p", knows=True)
    pool.ask(asked("a", want("x")), 0)
    pool.ask(asked("b", want("y", since_ms=5)), 0)
    assert given_of(pool.look(PoolRows(slots=1), 1)) == [("a", "x")]
    pool.ask(asked("a", number=2), 2)
    assert given_of(pool.look(PoolRows(slots=1), 3)) == [("b", "y")]


def test_a_run_whose_workflow_begins_anew_is_given_its_slots_again() -> None:
    pool = PoolSlots("p", knows=True)
    pool.ask(asked("a", want("x")), 0)
    assert given_of(pool.look(PoolRows(slots=1), 1)) == [("a", "x")]
    pool.ask(asked("a", want("x"), number=2), 2)
    assert given_of(pool.look(PoolRows(slots=1), 3)) == []
    pool.ask(asked("a", want("x"), number=3).model_copy(update={"anew": True}), 4)
    assert given_of(pool.look(PoolRows(slots=1), 5)) == [("a", "x")]


def test_a_slot_that_nobody_takes_is_taken_back_with_all_that_its_run_has_asked_for() -> None:
    pool = PoolSlots("p", knows=True)
    pool.ask(asked("gone", want("x"), want("y")), 0)
    assert given_of(pool.look(PoolRows(slots=1), 1)) == [("gone", "x")]
    pool.ask(asked("b", want("z")), 2)
    assert not given_of(pool.look(PoolRows(slots=1), GIVEN_MS))
    assert given_of(pool.look(PoolRows(slots=1), GIVEN_MS + 1)) == [("b", "z")]


def test_a_run_that_has_ended_or_is_silent_for_long_waits_no_more() -> None:
    full = [holder("other", "001", RUNNING)]
    pool = PoolSlots("p", knows=True)
    pool.ask(asked("a", want("x")), 0)
    pool.ask(asked("b", want("x")), 0)
    pool.look(PoolRows(slots=1, holders=full, over=["a"]), 1)
    assert [one.run_id for one in pool.waiting] == ["b"]
    pool.look(PoolRows(slots=1, holders=full), FORGOTTEN_MS)
    assert pool.is_idle


def test_a_pool_that_knows_nothing_asks_the_runs_that_are_ready() -> None:
    pool = PoolSlots("p")
    pool.ask(asked("a", want("x")), 0)
    told = pool.look(PoolRows(slots=1, ready=["a", "b"]), 1)
    assert (told["a"].asks_again, told["b"].asks_again) == (False, True)
    assert pool.look(PoolRows(slots=1, ready=["a", "b"]), 2) == {}


def test_what_is_handed_over_goes_on() -> None:
    pool = PoolSlots("p", knows=True)
    pool.ask(asked("a", want("x"), want("y")), 0)
    pool.ask(asked("b", want("x", since_ms=3)), 0)
    pool.look(PoolRows(slots=1), 10)
    after = PoolSlots("p", list(pool.asked.values()), list(pool.given.values()), pool.turns, knows=True)
    assert given_of(after.look(PoolRows(slots=2), 11)) == [("b", "x")]


# What a run has to do with it.


def test_a_run_tells_what_changed_repeats_it_and_is_quiet_in_between() -> None:
    slots = RunSlots()
    (first,) = slots.asks("r", 2, {"p": [want("x")]}, 1_000)
    assert (first.run_id, first.pool, first.priority, first.number) == ("r", "p", 2, 1_000)
    assert slots.asks("r", 2, {"p": [want("x")]}, 1_001) == []
    assert slots.repeats_ms() == 1_000 + ASKS_AGAIN_MS
    (more,) = slots.asks("r", 2, {"p": [want("x"), want("y")]}, 1_000)
    assert more.number == 1_001
    slots.begins("p", "x", 1)
    assert slots.asks("r", 2, {"p": [want("y")]}, 1_002) == []
    (again,) = slots.asks("r", 2, {"p": [want("y")]}, 1_000 + ASKS_AGAIN_MS)
    assert [one.task_key for one in again.wanted] == ["y"]
    (none,) = slots.asks("r", 2, {}, 99_999)
    assert none.wanted == []
    assert slots.repeats_ms() is None
    slots.released("p")
    assert len(slots.asks("r", 2, {}, 99_999)) == 1
    assert slots.asks("r", 2, {}, 99_999) == []


def test_a_run_names_so_many_and_tells_how_many_more_there_are() -> None:
    slots = RunSlots()
    (told,) = slots.asks("r", 0, {"p": [want(f"t{number}") for number in range(MOST_WANTED + 7)]}, 0)
    assert (len(told.wanted), told.more) == (MOST_WANTED, 7)


def test_a_pool_that_has_forgotten_is_told_again() -> None:
    slots = RunSlots()
    slots.asks("r", 0, {"p": [want("x")]}, 0)
    slots.take(SlotsGranted(pool="p", slots=3, taken=3, asks_again=True))
    assert len(slots.asks("r", 0, {"p": [want("x")]}, 1)) == 1
    assert slots.words("p") == "waits for pool p (3 of 3 taken)"
    assert waiting_words("q", None, 0) == "waits for pool q"


# All of it together: runs, a pool that is lost, messages that are lost, doubled and late, by dice.


@dataclass(eq=False)
class Run:
    """A run with tasks of one pool, as a list of what is left to begin; `slots` is the real bookkeeping."""

    run_id: str
    left: list[str]
    priority: int = 0
    slots: RunSlots = field(default_factory=RunSlots)
    line: dict[str, int] = field(default_factory=dict)


class Market:
    """Runs and one pool over rows; `dice` decide what is lost. The observer counts what runs."""

    def __init__(self, dice: random.Random, size: int) -> None:
        self.dice = dice
        self.size = self.largest = size
        self.now_ms = 0
        self.version = 0
        self.rows: dict[str, SlotHolder] = {}
        self.old: list[list[SlotHolder]] = [[]]
        self.runs = [
            Run(f"r{number}", [f"t{task}" for task in range(dice.randint(1, 4))], dice.choice((0, 0, 1)))
            for number in range(dice.randint(1, 5))
        ]
        self.pool = PoolSlots("p")
        self.mail: list[Callable[[], None]] = []
        self.running: set[str] = set()
        self.most = 0

    def post(self, message: Callable[[], None], *, calm: bool) -> None:
        if calm or self.dice.random() < 0.75:
            self.mail.append(message)
        if not calm and self.dice.random() < 0.2:
            self.mail.append(message)

    def changed(self) -> None:
        self.old.append(list(self.rows.values()))

    def step(self, *, calm: bool) -> None:
        self.now_ms += self.dice.choice((10, 500, 3_000))
        # Whoever has begun by a larger size goes on: until all have ended, that one counts.
        self.largest = max(self.size, self.largest if self.rows else 0)
        run = self.dice.choice(self.runs)
        action = self.dice.randrange(5 if calm else 7)
        if action == 0:
            waiting = [want(key, since_ms=0) for key in [*run.line, *run.left]]
            for message in run.slots.asks(run.run_id, run.priority, {"p": waiting} if waiting else {}, self.now_ms):
                self.post(lambda message=message: self.pool.ask(message, self.now_ms), calm=calm)  # type: ignore[misc]
        elif action == 1 and self.mail:
            self.mail.pop(self.dice.randrange(len(self.mail)))()
        elif action == 2:
            over = [one.run_id for one in self.runs if not one.left and not one.line and not self._holds(one)]
            ready = [one.run_id for one in self.runs if one.left]
            rows = PoolRows(slots=self.size, holders=self._seen(calm=calm), ready=ready, over=over)
            for run_id, told in self.pool.look(rows, self.now_ms).items():
                to = next(one for one in self.runs if one.run_id == run_id)
                self.post(lambda to=to, told=told: self._told(to, told), calm=calm)  # type: ignore[misc]
        elif action == 3 and run.line:
            key = self.dice.choice(sorted(run.line))
            name, since = f"{run.run_id}/{key}", run.line[key]
            seen = self.old[-1] if calm else self.dice.choice(self.old[since:])
            if has_slot(name, seen, self.size):
                del run.line[key]
                run.slots.begins("p", key, 1)
                self.running.add(name)
                self.most = max(self.most, len(self.running))
                assert len(self.running) <= self.largest, "more run than there are slots"
                self.version += 1
                self.rows[name] = self.rows[name].model_copy(update={"state": RUNNING, "version": f"{self.version:06}"})
                self.changed()
        elif action == 4 and self.running:
            name = self.dice.choice(sorted(self.running))
            self.running.discard(name)
            del self.rows[name]
            self.changed()
            next(one for one in self.runs if name.startswith(f"{one.run_id}/")).slots.released("p")
        elif action == 5:
            self.pool = PoolSlots("p")
        elif action == 6:
            self.size = self.dice.randint(1, 4)

    def _holds(self, run: Run) -> bool:
        return any(name.startswith(f"{run.run_id}/") for name in self.rows)

    def _seen(self, *, calm: bool) -> list[SlotHolder]:
        return self.old[-1] if calm else self.dice.choice(self.old[-4:])

    def _told(self, run: Run, told: SlotsGranted) -> None:
        run.slots.take(told)
        for key in list(run.left):
            if (key, 1) in run.slots.granted:
                run.left.remove(key)
                self.version += 1
                self.rows[f"{run.run_id}/{key}"] = SlotHolder(
                    run_id=run.run_id,
                    task_key=key,
                    attempt=1,
                    attempt_id=f"{run.run_id}/{key}",
                    state=DISPATCHED,
                    version=f"{self.version:06}",
                )
                self.changed()
                run.line[key] = len(self.old) - 1

    @property
    def over(self) -> bool:
        return not self.rows and not any(one.left or one.line for one in self.runs)


def lived(seed: int) -> Market:
    dice = random.Random(seed)
    market = Market(dice, dice.randint(1, 3))
    for _ in range(dice.choice((0, 60, 300))):
        market.step(calm=False)
    for _ in range(20_000):
        if market.over:
            break
        market.step(calm=True)
    assert market.over, "somebody waits for ever"
    return market


def test_whatever_is_lost_nobody_waits_for_ever_and_never_too_many_run() -> None:
    used = 0
    for seed in range(400):
        try:
            used += lived(seed).most
        except Exception as error:
            raise AssertionError(f"seed {seed}: {error}") from error
    assert used > 400


Mutant = Callable[[pytest.MonkeyPatch], None]


def _always_room(patch: pytest.MonkeyPatch) -> None:
    patch.setitem(globals(), "has_slot", lambda attempt_id, holders, slots: True)


def _first_come(patch: pytest.MonkeyPatch) -> None:
    def mutant(attempt_id: str, holders: list[SlotHolder], slots: int | None) -> bool:
        return slots is None or sum(one.state == RUNNING for one in holders) < slots

    patch.setitem(globals(), "has_slot", mutant)


def _keeps_what_is_given(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(pools, "GIVEN_MS", 1 << 60)


def _never_repeats(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(pools, "ASKS_AGAIN_MS", 1 << 60)


def _serves_the_last_run(patch: pytest.MonkeyPatch) -> None:
    def mutant(self: PoolSlots) -> tuple[str, SlotWanted] | None:
        found = [(run_id, left[0]) for run_id, one in self.asked.items() if (left := self._left(one))]
        return max(found, key=lambda one: one[0], default=None) if len(found) > 1 else None

    patch.setattr(PoolSlots, "_next", mutant)


MUTANTS: dict[str, Mutant] = {
    "there is always room": _always_room,
    "only what runs counts": _first_come,
    "what is given is never taken back": _keeps_what_is_given,
    "a run asks once": _never_repeats,
    "one run waits for others to ask": _serves_the_last_run,
}


@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutant_of_the_decisions_is_noticed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    MUTANTS[name](monkeypatch)
    for seed in range(400):
        try:
            lived(seed)
        except AssertionError:
            return
    raise AssertionError("nothing was noticed in 400 lives")


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 20)), min_size=1, max_size=12), st.integers(1, 3))
def test_nobody_of_equal_priority_starves_while_others_go_on_asking(wishes: list[tuple[int, int]], slots: int) -> None:
    """A run that waits is served before any that asks later gets a second slot, however many come."""
    pool = PoolSlots("p", knows=True)
    patient = 10
    pool.ask(asked("patient", want("x", since_ms=patient)), patient)
    held = [holder(str(number), f"{number:03}", RUNNING) for number in range(slots)]
    now, served = 100, False
    for number, (_, later) in enumerate(wishes):
        now += 10
        pool.ask(asked(f"new{number}", want("y", since_ms=now + later), want("z", since_ms=now + later)), now)
        told = pool.look(PoolRows(slots=slots, holders=held[1:]), now)
        grants = given_of(told)
        served = served or ("patient", "x") in grants
        assert served, "whoever waits longest is first"
        pool.given.clear()


def test_a_grant_names_the_attempt() -> None:
    pool = PoolSlots("p", knows=True)
    pool.ask(asked("a", want("x", 3)), 0)
    assert pool.look(PoolRows(slots=1), 1)["a"].grants == [SlotGrant(task_key="x", attempt=3)]


WISHES = st.lists(
    st.tuples(st.integers(0, 4), st.integers(0, 5), st.integers(-2, 2), st.integers(0, 30)), min_size=1, max_size=15
)


@given(WISHES, st.integers(0, 5), st.integers(0, 5))
def test_a_look_gives_what_is_free_to_who_wants_it_and_no_more(
    wishes: list[tuple[int, int, int, int]], slots: int, taken: int
) -> None:
    by_run: dict[int, dict[str, SlotWanted]] = {}
    for run, key, priority, since_ms in wishes:
        by_run.setdefault(run, {})[f"t{key}"] = want(f"t{key}", priority=priority, since_ms=since_ms)
    pool = PoolSlots("p", knows=True)
    for run, wanted in by_run.items():
        pool.ask(asked(f"r{run}", *wanted.values(), priority=run % 2), 50)
    held = [holder(str(number), f"{number:03}", RUNNING) for number in range(taken)]
    total = sum(map(len, by_run.values()))
    free = max(0, slots - taken)
    grants = given_of(pool.look(PoolRows(slots=slots, holders=held), 60))
    assert len(grants) == min(free, total) == len(set(grants))
    assert all(key in by_run[int(run[1:])] for run, key in grants)
    # Who was given something has at least the priority of whoever was not.
    ranks = {(f"r{run}", key): (run % 2, one.priority) for run, some in by_run.items() for key, one in some.items()}
    left = [rank for name, rank in ranks.items() if name not in grants]
    assert not grants or not left or min(ranks[name] for name in grants) >= max(left)
    assert given_of(pool.look(PoolRows(slots=slots, holders=held), 61)) == []
