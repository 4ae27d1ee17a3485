"""The tasks of a run as they stand: what is ready, waits, runs and is over, without a look at all of them."""

from __future__ import annotations

import heapq
from collections import Counter
from dataclasses import dataclass, field

from springline.control.runs.messages import LoadedAsset, LoadedRun, LoadedTask, TakenInput, TakenOutput
from springline.ledger.events import TaskCompletionRecorded
from springline.projection.schema import (
    BLOCKED,
    CANCELLED,
    DISPATCHED,
    FAILED,
    FINISHED_TASK,
    READY,
    RETRY_WAIT,
    RUNNING,
    SKIPPED,
    SUCCEEDED,
)


@dataclass(slots=True)
class GraphTask:
    """A task, ahead of its row. `open_needs`: how many of those that it needs have not succeeded.

    `TaskGraph.move` alone changes `state`.
    """

    place: int
    loaded: LoadedTask
    asset: LoadedAsset
    state: str
    attempt: int
    attempt_id: str | None
    failures: int
    retry_at_ms: int | None
    open_needs: int = 0
    dependents: list[int] = field(default_factory=list)

    @property
    def key(self) -> str:
        """The task's key."""
        return self.loaded.key

    @property
    def is_remote(self) -> bool:
        """Whether its attempts are made over HTTP."""
        return self.asset.url is not None

    @property
    def is_under_way(self) -> bool:
        """Whether an attempt of it is dispatched or runs."""
        return self.state in (DISPATCHED, RUNNING)

    @property
    def rank(self) -> tuple[int, int]:
        """What orders the tasks that are ready: the most urgent first, then as planned."""
        return -self.asset.priority, self.place

    def is_open(self, number: int, attempt_id: str) -> bool:
        """Say whether an attempt is the task's own, and has not ended."""
        return self.is_under_way and (self.attempt, self.attempt_id) == (number, attempt_id)


class TaskGraph:
    """The tasks of a run, and how the end of one moves those that wait for it.

    Args:
        loaded: the run as its rows have it.

    Attributes:
        tasks: all of them, as planned.
        lacks_leave: the tasks that are ready, and wait for a slot of their pool; by place.
        waiting: the tasks that wait for another attempt, by place.
        has_pools: whether an asset of the run is in a pool.
    """

    def __init__(self, loaded: LoadedRun) -> None:
        assets = {asset.key: asset for asset in loaded.assets}
        self.tasks = [
            GraphTask(
                place, one, assets[one.asset], one.state, one.attempt, one.attempt_id, one.failures, one.retry_at_ms
            )
            for place, one in enumerate(loaded.tasks)
        ]
        self.has_pools = any(asset.pool is not None for asset in loaded.assets)
        # A run looks often, and may have thousands of tasks: no look goes over all of them.
        self._counts = Counter(task.state for task in self.tasks)
        ready = [task for task in self.tasks if task.state == READY]
        self._ready = [task.rank for task in ready if task.asset.pool is None]
        heapq.heapify(self._ready)
        self.lacks_leave = {task.place: task for task in ready if task.asset.pool is not None}
        self.waiting = {task.place: task for task in self.tasks if task.state == RETRY_WAIT}
        self._by_key = {task.key: task for task in self.tasks}
        for task in self.tasks:
            for need in task.loaded.needs:
                self.tasks[need].dependents.append(task.place)
                task.open_needs += self.tasks[need].state != SUCCEEDED
        used = {task.loaded.asset for task in self.tasks}
        self._taken = {argument.asset for key in used for argument in assets[key].arguments}

    def __getitem__(self, key: str) -> GraphTask:
        return self._by_key[key]

    def get(self, key: str) -> GraphTask | None:
        """Return the task of a key, None if the run has none."""
        return self._by_key.get(key)

    @property
    def counts(self) -> dict[str, int]:
        """How many tasks are in each state."""
        return {state: count for state, count in self._counts.items() if count}

    @property
    def is_over(self) -> bool:
        """Whether every task has ended."""
        return sum(self._counts[state] for state in FINISHED_TASK) == len(self.tasks)

    @property
    def final_state(self) -> str:
        """The run's state once every task has ended (docs/events.md#fold-run-counters)."""
        return CANCELLED if self._counts[CANCELLED] else FAILED if self._counts[FAILED] else SUCCEEDED

    def keeps_output(self, task: GraphTask) -> bool:
        """Say whether another task of the run takes what this one returns."""
        return task.loaded.asset in self._taken

    def inputs(self, task: GraphTask, scope: str) -> list[TakenInput]:
        """Return where each argument of a task comes from; `scope`: that of the outputs made by this run."""
        needed = [self.tasks[place] for place in task.loaded.needs]
        before = {one.argument: one.outputs for one in task.loaded.inherited}
        return [
            TakenInput(
                argument=one.argument,
                many=one.many,
                outputs=[
                    TakenOutput(
                        task_key=up.key,
                        attempt_id=up.attempt_id,
                        scope=scope,
                        partition_key=up.loaded.partition,
                    )
                    for up in needed
                    if up.loaded.asset == one.asset and up.attempt_id is not None
                ]
                + before.get(one.argument, []),
            )
            for one in task.asset.arguments
        ]

    def next_ready(self) -> GraphTask | None:
        """Take the most urgent task that is ready and needs no pool; None if there is none."""
        while self._ready:
            task = self.tasks[heapq.heappop(self._ready)[1]]
            if task.state == READY:
                return task
        return None

    def move(self, task: GraphTask, state: str) -> None:
        """Change a task's state; every change is made here, so that what is ready, waits and is over is known."""
        if task.state == state:
            return
        self._counts[task.state] -= 1
        self._counts[state] += 1
        self.waiting.pop(task.place, None)
        self.lacks_leave.pop(task.place, None)
        task.state = state
        if state == READY and task.asset.pool is not None:
            self.lacks_leave[task.place] = task
        elif state == READY:
            heapq.heappush(self._ready, task.rank)
        elif state == RETRY_WAIT:
            self.waiting[task.place] = task

    def settle(self, task: GraphTask, end: TaskCompletionRecorded, *, cancelled: bool) -> None:
        """Move a task, and those that wait for it, as the fold will (docs/events.md#fold-tasks).

        `cancelled`: the run's cancellation was asked for, so that nothing is tried again.
        """
        if end.outcome == "succeeded":
            self.move(task, SUCCEEDED)
            for place in task.dependents:
                after = self.tasks[place]
                after.open_needs -= 1
                if after.open_needs == 0 and after.state == BLOCKED:
                    self.move(after, READY)
            return
        if end.outcome == "failed":
            again = end.error is not None and end.error.is_retryable
            if again and not cancelled:
                self.move(task, RETRY_WAIT)
                return
            self.move(task, CANCELLED if again else FAILED)
        else:
            self.move(task, CANCELLED if end.outcome == "cancelled" else SKIPPED)
        passed_on = CANCELLED if task.state == CANCELLED else SKIPPED
        waiting = [task]
        while waiting:
            for place in waiting.pop().dependents:
                after = self.tasks[place]
                if after.state not in FINISHED_TASK:
                    self.move(after, passed_on)
                    waiting.append(after)

    def cancel_waiting(self) -> None:
        """Cancel what has neither ended nor begun."""
        for task in self.tasks:
            if task.state not in FINISHED_TASK and not task.is_under_way:
                self.move(task, CANCELLED)
