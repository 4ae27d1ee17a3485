"""Sensors under every misfortune: their real decisions, the real admission and fold, and everything else by dice.

Evaluators look, call a function, conclude and append, each when a die says so, with rows that may be old; each may be
gone after any of these steps; answers are lost, appends come late, twice or never, two evaluators are at work at once;
functions fail, operators pause, resume, set and reset cursors, senders push messages again and again, the workspace is
held. What is on record in the end is compared with the items that there were: an oracle that knows no cursor.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from springline.control.sensors import deciding, polling
from springline.control.sensors.messages import (
    AskedRun,
    EvaluationAnswer,
    SensorMemory,
    SensorView,
    WaitingMessage,
)
from springline.definitions.manifest import DefinedSensor
from springline.errors import Code
from springline.ledger.envelope import as_event
from springline.ledger.events import Payload, RunRequested, SensorChanged, SensorEvaluated
from springline.ledger.nested import EvalError, EvalSkippedStaleCursor, PushSource
from springline.ledger.request import AppendRequest, EventOutcome, NewEvent
from springline.sensors.reading import (
    TABLES,
    DeployedSensor,
    further_messages,
    sensor_view,
    view_and_messages,
)
from tests.control.ledger import Ledger

MANIFEST = "01JHMPDTN0000AQKFF00000001"


def deployed(sensor_id: str, kind: str = "poll", **more: Any) -> DeployedSensor:
    defined = DefinedSensor.model_validate({"sensor_id": sensor_id, "kind": kind, "select": ["a"], **more})
    return DeployedSensor(defined, "flights", MANIFEST)


def select(terms: Sequence[str]) -> list[str]:
    return sorted(terms)


@dataclass
class Source:
    """What a sensor watches. `keyed`: its requests have run keys; `configured`: and a config.

    `names_all`: it keeps no cursor, and asks for all that is there each time.
    """

    name: str
    keyed: bool
    configured: bool
    deployed: DeployedSensor
    names_all: bool = False
    items: list[str] = field(default_factory=list)

    def find(self, view: SensorView, dice: random.Random) -> EvaluationAnswer:
        """Call the function: it reads behind the cursor, as far as a die says."""
        at = 0 if self.names_all else int(view.cursor or 0)
        new = self.items if self.names_all else self.items[at : at + dice.randint(1, 4)]
        # Whether a request has a config is the item's own affair, whoever asks.
        requests = [
            AskedRun(
                run_key=item if self.keyed else None,
                partitions=[item],
                config={"item": item} if self.configured and hash_of(item) % 2 else {},
            )
            for item in new
        ]
        moves = bool(new) and not self.names_all
        return EvaluationAnswer(requests=requests, cursor=str(at + len(new)) if moves else None)


def hash_of(item: str) -> int:
    return sum(item.encode())


@dataclass
class Evaluator:
    """Somebody who evaluates one sensor after the other."""

    memory: dict[str, SensorMemory] = field(default_factory=dict)
    view: SensorView | None = None
    further: list[WaitingMessage] = field(default_factory=list)
    answer: EvaluationAnswer | None = None
    pending: list[list[Payload]] | None = None
    """The events of each evaluation that is made together with others."""
    then: SensorMemory | None = None


class SensorWorld:
    """A workspace with sensors; `dice` decide everything."""

    def __init__(self, dice: random.Random) -> None:
        self.dice = dice
        self.ledger = Ledger()
        self.calm = False
        self.evaluators = [Evaluator()]
        self.late: list[list[list[Payload]]] = []
        self.sources = [
            Source("keyed", True, False, deployed("keyed")),
            Source("configured", True, True, deployed("configured")),
            Source("keyless", False, False, deployed("keyless")),
            Source("naming", True, True, deployed("naming"), names_all=True),
        ]
        self.pushed: list[str] = []
        self.taken: set[str] = set()
        """Messages whose push was answered."""
        self.counts: Counter[str] = Counter()
        self._requests = 0
        self._items = 0
        self._hook = deployed("hook", "push")

    # What happens.

    def step(self) -> None:
        self.ledger.now_ms += self.dice.choice((1, 40, 900))
        actions: list[tuple[float, Any]] = [(6, self.look), (6, self.call), (6, self.conclude), (6, self.send)]
        if not self.calm:
            actions += [
                (2, self.arrive),
                (1.5, self.push),
                (0.7, self.send_late),
                (0.6, self.lose_evaluator),
                (3, self.second_evaluator),
                (0.6, self.operate),
                (0.15, self.hold),
            ]
        self.dice.choices([action for _, action in actions], [weight for weight, _ in actions])[0]()

    def arrive(self) -> None:
        source = self.dice.choice(self.sources)
        self._items += 1
        source.items.append(f"{source.name}-{self._items}")

    def push(self) -> None:
        """A sender pushes, or pushes again what it has pushed: it may have had no answer."""
        again = bool(self.pushed) and self.dice.random() < 0.4
        name = self.dice.choice(self.pushed) if again else f"m-{len(self.pushed)}"
        if not again:
            self.pushed.append(name)
        data = {"type": "springline_sensor_message", "sensor_id": "hook", "message_id": name, "payload": {"n": name}}
        self._raw(data)
        self.taken.add(name)

    def look(self) -> None:
        one = self.dice.choice(self.evaluators)
        if one.view is not None or one.pending is not None:
            return
        snapshot = self.ledger.published(TABLES)
        chosen = self.dice.choice([*(source.deployed for source in self.sources), self._hook])
        view, messages = view_and_messages(snapshot, chosen)
        memory = one.memory.get(view.sensor_id, SensorMemory())
        if polling.owes_summary(view, memory, self.ledger.now_ms) and view.kind != "push":
            found = deciding.summarised(view, memory, self.ledger.now_ms)
            one.view, one.pending, one.then = view, [found.events], found.memory
        elif polling.next_evaluation(view, memory, self.ledger.now_ms).due_ms is not None:
            # Time is by dice here: what no pause, hold or empty queue keeps back may be due.
            one.view, one.further = view, further_messages(messages)

    def call(self) -> None:
        one = self.dice.choice(self.evaluators)
        if one.view is None or one.answer is not None or one.pending is not None:
            return
        if one.view.message is not None:
            first, *others = [self._read(each) for each in (one.view.message, *self._as_many_as(one.further))]
            one.answer = first.model_copy(update={"further": others})
            return
        (source,) = [each for each in self.sources if each.name == one.view.sensor_id]
        one.answer = self._failure() or source.find(one.view, self.dice)

    def _as_many_as(self, further: list[WaitingMessage]) -> list[WaitingMessage]:
        return further[: self.dice.randint(0, len(further))]

    def _read(self, message: WaitingMessage) -> EvaluationAnswer:
        name = message.message_id
        asked = [AskedRun(run_key=name)] if hash_of(name) % 3 else []
        return self._failure() or EvaluationAnswer(requests=asked, cursor=name if hash_of(name) % 2 else None)

    def _failure(self) -> EvaluationAnswer | None:
        if self.calm or self.dice.random() >= 0.15:
            return None
        return EvaluationAnswer(error="no luck", category="USER_CODE", counts=self.dice.random() < 0.7)

    def conclude(self) -> None:
        one = self.dice.choice(self.evaluators)
        if one.view is None or one.answer is None or one.pending is not None:
            return
        memory = one.memory.get(one.view.sensor_id, SensorMemory())
        # As `asked_before` finds it in the published tables, which grow with each run here.
        firsts = map(self.ledger.state.first_request, deciding.run_keys_of(one.view, one.answer))
        before = {row.run_key: {row.request_fingerprint} for row in firsts if row is not None}
        made = deciding.conclude_each(one.view, one.further, one.answer, memory, self.ledger.now_ms, select, before)
        one.pending, one.then = [each.found.events for each in made if each.found.events], made[-1].found.memory
        self.counts["together"] += len(one.pending) > 1

    def send(self) -> None:
        one = self.dice.choice(self.evaluators)
        if one.pending is None or one.view is None:
            return
        if one.pending:
            self._append_together(one.pending)
            if not self.calm and self.dice.random() < 0.25:
                # The answer is lost: the same comes again, now or much later, with what was remembered before.
                self.late.append(one.pending)
                if self.dice.random() < 0.5:
                    return
        assert one.then is not None
        one.memory[one.view.sensor_id] = one.then
        one.view, one.answer, one.pending, one.then, one.further = None, None, None, None, []

    def send_late(self) -> None:
        if self.late:
            self._append_together(self.late.pop(self.dice.randrange(len(self.late))))

    def _append_together(self, pending: list[list[Payload]]) -> None:
        """Append all at once, or, if the ledger does not take that, one after the other as far as it does."""
        if self.append([event for events in pending for event in events]) is None or len(pending) == 1:
            return
        for events in pending:
            if self.append(events) is not None:
                return

    def lose_evaluator(self) -> None:
        gone = self.dice.choice(self.evaluators)
        self.evaluators.remove(gone)
        if gone.pending and self.dice.random() < 0.5:
            self.late.append(gone.pending)
        if not self.evaluators:
            self.evaluators.append(Evaluator())

    def second_evaluator(self) -> None:
        if len(self.evaluators) < 2:
            self.evaluators.append(Evaluator())

    def operate(self) -> None:
        name = self.dice.choice(["keyed", "configured", "keyless", "naming", "hook"])
        change = self.dice.choice(["paused", "resumed", "reset", "cursor_set"])
        if change in ("reset", "cursor_set") and name in ("keyless", "hook"):
            # Setting back one whose requests have no keys asks for runs again: operators mean that.
            return
        self._operate(name, change)

    def _operate(self, name: str, change: str) -> None:
        data: dict[str, Any] = {"type": "springline_sensor_changed", "sensor_id": name, "change": change}
        data |= {"change_id": f"c{self._requests}", "changed_by": "dice"}
        if change == "cursor_set":
            row = self.ledger.state.sensor(name)
            done = 0 if row is None or row.cursor is None else int(row.cursor)
            data["cursor"] = str(self.dice.randint(0, done))
        self._raw(data)

    def hold(self) -> None:
        self._hold(not self.ledger.state.is_held)

    def _hold(self, held: bool) -> None:
        data = {"type": "springline_hold_changed", "change_id": f"h{self._requests}", "held": held, "changed_by": "u"}
        self._raw(data)

    # The ledger.

    def append(self, events: Sequence[Payload]) -> Code | None:
        self._requests += 1
        request = AppendRequest(
            request_id=f"01946b1c-0000-7000-8000-{self._requests:012x}",
            events=[NewEvent(data=as_event(event)) for event in events],
        )
        (outcome,) = self.ledger.round(request)
        if outcome.refusal is None:
            self.counts["appended"] += 1
            if any(one.outcome is EventOutcome.DUPLICATE for one in outcome.events):
                self.counts["duplicates"] += 1
            return None
        self.counts["refused"] += 1
        assert outcome.refusal.code in (Code.EVENT_CONFLICT, Code.KEY_REUSED), outcome.refusal
        return outcome.refusal.code

    def _raw(self, data: dict[str, Any]) -> None:
        self._requests += 1
        request_id = f"01946b1c-0000-7000-8000-{self._requests:012x}"
        self.ledger.round(AppendRequest(request_id=request_id, events=[NewEvent(data=data)]))

    # The end.

    def live(self, misfortunes: int) -> None:
        """Let things happen, then only good ones until nothing is left."""
        for _ in range(misfortunes):
            self.step()
        self.calm = True
        self._hold(False)
        while self.late:
            self.send_late()
        for name in ("keyed", "configured", "keyless", "naming", "hook"):
            self._operate(name, "resumed")
        self.evaluators = [Evaluator()]
        for _ in range(4_000):
            if self._is_done():
                return
            self.step()
        raise AssertionError("the evaluator finds no end: " + ", ".join(self._left()))

    def _left(self) -> list[str]:
        snapshot = self.ledger.published(TABLES)
        left = [f"message {row[1]}" for row in snapshot["x_messages"]]
        for source in self.sources:
            view = sensor_view(snapshot, source.deployed)
            if source.names_all:
                asked = self.ledger.state.first_requests.rows
                left += [item for item in source.items if f"sensor:{source.name}:{item}" not in asked]
            elif int(view.cursor or 0) < len(source.items):
                left.append(f"{source.name} at {view.cursor} of {len(source.items)}")
        return left

    def _is_done(self) -> bool:
        return not self._left()

    def check(self) -> None:
        """Check what must hold however it went."""
        requests = [event.data for event in self.ledger.events if isinstance(event.data, RunRequested)]
        keys = Counter(one.run_key for one in requests)
        assert not list(self.ledger.state.rows("run_key_conflicts")), "one key, two requests"
        runs = {row.run_key: row for row in self.ledger.state.run_keys.rows.values()}
        asked: Counter[str] = Counter()
        for one in requests:
            if one.partition_selection and keys[one.run_key]:
                asked[one.partition_selection[0]] += 1
        evaluations = [event.data for event in self.ledger.events if isinstance(event.data, SensorEvaluated)]
        found = [run for one in evaluations for run in one.run_requests]
        told = Counter(item for run in found for item in run.partition_selection or ())
        for source in self.sources:
            for item in source.items:
                assert asked[item], f"{item} was lost"
                if source.names_all:
                    assert told[item] == 1, f"{item} is on record in {told[item]} evaluations"
                if source.keyed:
                    assert f"sensor:{source.name}:{item}" in runs, f"{item} has no run"
                else:
                    made = {one.run_key for one in requests if one.partition_selection == [item]}
                    assert len(made) == 1, f"{item} has {len(made)} runs"
        self._check_evaluations()

    def _check_evaluations(self) -> None:
        evaluations = [event.data for event in self.ledger.events if isinstance(event.data, SensorEvaluated)]
        assert not [one for one in evaluations if isinstance(one.status, EvalSkippedStaleCursor)]
        stale = [row for row in self.ledger.state.evaluations.rows.values() if "stale" in row.status]
        assert not stale, "recorded though another was first"
        by_version = Counter((one.sensor_id, one.expected_state_version) for one in evaluations)
        assert all(count == 1 for count in by_version.values()), "two evaluations of one state"
        cursors: dict[str, str | None] = {}
        paused: dict[str, bool] = {}
        for event in self.ledger.events:
            said = event.data
            if isinstance(said, SensorChanged) and said.change in ("paused", "resumed"):
                paused[said.sensor_id] = said.change == "paused"
            elif isinstance(said, SensorChanged):
                cursors[said.sensor_id] = said.cursor
            elif isinstance(said, SensorEvaluated):
                assert not paused.get(said.sensor_id), "evaluated while paused"
                assert said.cursor_before == cursors.get(said.sensor_id), "made on another cursor"
                cursors[said.sensor_id] = said.cursor_after
        answers: Counter[str] = Counter()
        for one in evaluations:
            if isinstance(one.trigger_source, PushSource):
                answers[one.trigger_source.message_id] += 1
                if isinstance(one.status, EvalError):
                    assert "given up" in one.status.message, "a message was lost without a reason"
                    self.counts["given up"] += 1
                else:
                    name = one.trigger_source.message_id
                    assert bool(one.run_requests) == bool(hash_of(name) % 3)
        assert answers.keys() == self.taken, "messages without an answer"
        assert all(count == 1 for count in answers.values()), "a message was answered twice"
        self.counts["evaluations"] += len(evaluations)
