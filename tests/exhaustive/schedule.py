"""Who moves when: every storage operation of every process waits here until the history lets it go."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any

from springline.storage.faults import Decision, Operation

IDLE_S = 1e-6
"""Virtual seconds; less than any timer of the code, so that it passes only when nothing else can run."""
PAUSE_S = 0.1
"""Virtual seconds given to a process that waits for a timer of its own."""
MAX_STEPS = 2_000
DEADLY = frozenset({Decision.DIE_BEFORE, Decision.DIE_AFTER, Decision.DIE_LATE})


@dataclass
class Waiting:
    """An operation that waits for its turn."""

    operation: Operation
    turn: asyncio.Future[Decision]


@dataclass
class Schedule:
    """Runs processes one operation at a time.

    The first process moves until it is done or the step is in `switches`; then the next one that is not done
    goes on. `faults` decides operations by step, `events` happen right before a step. Steps count from 0.
    Operations that a process makes together take their turns in the order they were made, or the other way round
    with `newest_first`.
    """

    switches: frozenset[int] = frozenset()
    faults: Mapping[int, Decision] = field(default_factory=dict)
    events: Mapping[int, Callable[[], None]] = field(default_factory=dict)
    newest_first: bool = False
    steps: list[Operation] = field(default_factory=list)
    owners: list[str] = field(default_factory=list)
    useless: bool = False
    """A switch found nobody else to go on: the same history without it is counted already."""
    on_step: Callable[[], object] = lambda: None
    _waiting: dict[str, list[Waiting]] = field(default_factory=dict)
    _switched: set[int] = field(default_factory=set)

    async def hook(self, operation: Operation) -> Decision:
        """Hold `operation` until its turn; the hook of the `FaultyStore`."""
        turn: asyncio.Future[Decision] = asyncio.get_running_loop().create_future()
        queue = self._waiting.setdefault(operation.actor.partition("+")[0], [])
        queue.append(Waiting(operation, turn))
        return await turn

    async def run(self, processes: Mapping[str, Coroutine[Any, Any, None]]) -> dict[str, BaseException | None]:
        """Run all processes to their ends; return how each ended."""
        tasks = {name: asyncio.ensure_future(process) for name, process in processes.items()}
        order = list(tasks)
        current = order[0]
        await asyncio.sleep(IDLE_S)
        while not all(task.done() for task in tasks.values()):
            if tasks[current].done():
                current = self._next(order, current, tasks)
            elif len(self.steps) in self.switches - self._switched:
                self._switched.add(len(self.steps))
                following = self._next(order, current, tasks)
                self.useless |= following == current
                current = following
            queue = self._waiting.get(current)
            if not queue:
                await asyncio.sleep(PAUSE_S)
                continue
            if len(self.steps) > MAX_STEPS:
                raise AssertionError(f"no end after {MAX_STEPS} storage operations")
            self._let_go(queue.pop(-1 if self.newest_first else 0), current)
            await asyncio.sleep(IDLE_S)
        self.useless |= self._switched != self.switches
        return {name: task.exception() for name, task in tasks.items()}

    def _let_go(self, waiting: Waiting, owner: str) -> None:
        step = len(self.steps)
        event = self.events.get(step)
        if event is not None:
            event()
        self.steps.append(waiting.operation)
        self.owners.append(owner)
        self.on_step()
        decision = self.faults.get(step, Decision.PROCEED)
        waiting.turn.set_result(decision)
        if decision in DEADLY:
            # What else the process had under way dies with it.
            for other in self._waiting.pop(owner, ()):
                other.turn.set_result(Decision.DIE_BEFORE)

    def _next(self, order: list[str], current: str, tasks: Mapping[str, asyncio.Future[None]]) -> str:
        at = order.index(current)
        for name in order[at + 1 :] + order[: at + 1]:
            if not tasks[name].done():
                return name
        return current
