"""Breadth-first exploration of the commit model, with the invariants I1-I8.

I1 dense log; I2 a key owns at most one version; I3 a marker names the version that holds its request; I4 the
coordinator's latest version never runs ahead of the log, and equals it in quiescence; I5 an answer never changes;
I6 a refused request is not in the log; I7 no write without precondition (the model has no other writes); I8
progress: with the faults stopped, a helper alone empties the coordinator and a caller alone gets its answer.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple

from tests.model.commit_model import Model
from tests.model.states import MISSING, Content, Coordinator, Proc, Scenario, State, marker_of

ALONE = 80
"""Steps within which a caller or a helper that runs alone must come to its end."""


@dataclass
class Report:
    """What an exploration found: a violation with the steps that lead to it, or none."""

    states: int = 0
    transitions: int = 0
    violation: str | None = None
    trace: list[str] = field(default_factory=list)
    answered: set[tuple[tuple[int, int], ...]] = field(default_factory=set)


class Broken(Exception):
    """An invariant does not hold; the message begins with its name."""


class Store(NamedTuple):
    """The part of a state that outlives everybody."""

    coordinator: Coordinator
    log: tuple[Content, ...]
    origins: tuple[int | tuple[int, int] | None, ...]
    markers: tuple[tuple[int, int, int], ...]
    staged: frozenset[int | tuple[int, int]]


def explore(scenario: Scenario, *, only: frozenset[str] | None = None, limit: int = 20_000_000) -> Report:
    """Visit every state of `scenario`; stop at the first violation (of the invariants in `only`, if given)."""
    model = Model(scenario)
    checks = Invariants(model)
    start = scenario.start()
    came_from: dict[State, tuple[State, str] | None] = {start: None}
    queue = deque([start])
    report = Report()
    while queue:
        state = queue.popleft()
        try:
            checks.check(state)
        except Broken as broken:
            if only is None or str(broken)[:2] in only:
                report.violation = str(broken)
                report.trace = trace(came_from, state)
                break
        for label, after in model.steps(state):
            report.transitions += 1
            if after not in came_from:
                came_from[after] = (state, label)
                queue.append(after)
        if all(p.pc == "done" for p in state.procs):
            report.answered.add(tuple(a for p in state.procs for a in p.answers))
        if len(came_from) > limit:
            raise AssertionError(f"more than {limit} states: the scenario is too large")
    report.states = len(came_from)
    return report


def trace(came_from: dict[State, tuple[State, str] | None], state: State) -> list[str]:
    steps: list[str] = []
    at = came_from[state]
    while at is not None:
        steps.append(at[1])
        at = came_from[at[0]]
    return steps[::-1]


class Invariants:
    """I1-I8, with the checks of the store and of solitary runs remembered."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.requests = model.requests
        self.sound: set[Store] = set()
        self.alone: set[tuple[Store, int, Proc]] = set()

    def check(self, state: State) -> None:
        """Raise `Broken` if `state` breaks an invariant."""
        store = Store(*state[:5])
        if store not in self.sound:
            self.check_store(state)
            self.check_helper(state)
            self.sound.add(store)
        for proc in state.procs:
            self.check_answers(state, proc)
        for i, proc in enumerate(state.procs):
            if proc.pc != "done" and (store, i, proc) not in self.alone:
                self.check_alone(state, i)

    def versions(self, state: State, payload: int) -> list[int]:
        return [v for v, content in enumerate(state.log) if payload in content.payloads]

    def check_store(self, state: State) -> None:
        if any(content.kind == "hole" for content in state.log):
            raise Broken("I1: the log has a hole")
        for request in self.requests:
            if len(self.versions(state, request.payload)) > 1:
                raise Broken(f"I2: payload {request.payload} of key {request.key} is committed twice")
        keys = [r.key for r in self.requests]
        for key in set(keys):
            payloads = {r.payload for r in self.requests if r.key == key}
            if sum(len(self.versions(state, p)) for p in payloads) > 1:
                raise Broken(f"I2: key {key} owns two versions")
        for key, payload, version in state.markers:
            if version not in self.versions(state, payload):
                raise Broken(f"I3: the marker of key {key} names version {version}, which is not its own")
        if state.coordinator.latest > len(state.log) - 1:
            raise Broken("I4: the coordinator is ahead of the log")

    def check_answers(self, state: State, proc: Proc) -> None:
        for member, answer in proc.answers:
            request = self.requests[member]
            if answer == MISSING:
                # Another caller may have staged the same bytes anew; this staged object commits no more.
                if request.staged in state.origins:
                    raise Broken(f"I6: staged object {request.staged} was called missing and is in the log")
            elif answer < 0:
                if self.versions(state, request.payload):
                    raise Broken(f"I6: payload {request.payload} of key {request.key} was refused and is in the log")
            elif marker_of(state, request.key) != (request.payload, answer):
                raise Broken(f"I5: key {request.key} was answered {answer}, its marker says otherwise")

    def check_helper(self, state: State) -> None:
        """A fresh process with nothing but the store completes whatever is in flight.

        See docs/protocol.md#rule-2, docs/protocol.md#rule-4.
        """
        calm = state._replace(procs=(Proc("look", ()),), under_way=(), crashes=0, lost=0, deletes=0, foreign=0)
        end = self.run_alone(calm, 0, "a helper")
        self.check_store(end)
        if end.coordinator.inflight is not None:
            raise Broken("I8: a helper leaves something in flight")
        for version, content in enumerate(end.log):
            ours = content.kind in ("one", "many")
            if ours and version > end.coordinator.latest:
                raise Broken(f"I4: version {version} is ours and the coordinator does not know it")
            for payload in content.payloads:
                if version not in [v for _, p, v in end.markers if p == payload]:
                    raise Broken(f"I3: payload {payload} in version {version} has no marker in quiescence")

    def check_alone(self, state: State, i: int) -> None:
        """Caller `i` alone comes to an answer, and the answer is right."""
        calm = state._replace(under_way=(), crashes=0, lost=0, deletes=0, foreign=0)
        end = self.run_alone(calm, i, f"caller {i}")
        self.check_store(end)
        if end.procs[i].todo:
            raise Broken(f"I8: caller {i} ends without an answer")
        self.check_answers(end, end.procs[i])
        self.check_legitimate(end, end.procs[i])

    def check_legitimate(self, state: State, proc: Proc) -> None:
        """A refusal has a reason: the key is used, the payload is gone, or the read version is old."""
        for member, answer in proc.answers:
            request = self.requests[member]
            if answer >= 0:
                continue
            marker = marker_of(state, request.key)
            used = marker is not None and marker[0] != request.payload
            stale = request.strict and request.read_version != len(state.log) - 1
            if not (used or stale or request.staged not in state.staged):
                raise Broken(f"I6: key {request.key} is refused without a reason")

    def run_alone(self, state: State, i: int, who: str) -> State:
        for _ in range(ALONE):
            proc = state.procs[i]
            if proc.pc == "done":
                return state
            self.alone.add((Store(*state[:5]), i, proc))
            ((_, state),) = self.model.step(state, i, proc)
        raise Broken(f"I8: {who} is not done after {ALONE} steps alone, at {state.procs[i].pc}")
