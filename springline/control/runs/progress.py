"""Where a run stands, and what it does next: decisions over its tasks, without a clock, a store or Temporal.

A run goes ahead of its rows: what its workers tell counts at once, and the events that record it follow. The rows stay
the truth. Whenever an event was not taken as it was meant, `RunProgress.overlaid` begins anew from them, with the
attempts that still run.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from springline.control.runs.ends import completion, short_message
from springline.control.runs.messages import (
    AttemptEnded,
    AttemptOrder,
    AttemptStarted,
    CancelAsked,
    LoadedAsset,
    LoadedRun,
    LoadedTask,
    TakenInput,
    TakenOutput,
)
from springline.control.runs.retries import INFRASTRUCTURE, may_try_again, pause_ms
from springline.ledger.events import (
    AttemptNoted,
    DispatchRequested,
    Payload,
    RunCancelRequested,
    TaskCompletionRecorded,
    TaskHeartbeat,
    TaskStarted,
    TimerFired,
    TimerRequested,
)
from springline.ledger.identifiers import dispatch_id, retry_timer_id
from springline.ledger.timestamps import NS_PER_MS, format_ms, parse_timestamp
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

_UNSEEN_WORKER: Final = "springline"
"""The worker in events about attempts that no worker has answered for."""
_BEATS: Final = 3
LEDGER_BEAT_MS: Final = 30_000
"""An attempt of which the ledger has heard nothing for so long, or a third of its time limit, has a heartbeat there."""


@dataclass(slots=True)
class Attempt:
    """An attempt under way. `started`: its start is recorded, or waits to be. `said_ms`: when the ledger last heard."""

    key: str
    number: int
    attempt_id: str
    said_ms: int
    worker_id: str | None = None
    started: bool = False


@dataclass(slots=True)
class _Task:
    """A task, ahead of its row. `open_needs`: how many of those that it needs have not succeeded."""

    loaded: LoadedTask
    state: str
    attempt: int
    attempt_id: str | None
    failures: int
    retry_at_ms: int | None
    open_needs: int
    dependents: list[int] = field(default_factory=list)


class RunProgress:
    """A run under way.

    Args:
        loaded: the run as its rows have it.
        tenant: the run's tenant.
        workspace: its workspace.
        writer: makes ids of attempts differ from those of any other workflow of the run.

    Attributes:
        running: the attempts under way, by task.
        foreign: tasks with an attempt that another workflow of the run has recorded.
        outbox: payloads that wait to be appended, in order.
    """

    def __init__(self, loaded: LoadedRun, tenant: str, workspace: str, writer: str) -> None:
        self.run_id = loaded.run_id
        self.cancel_requested = loaded.cancel_requested
        self.held = loaded.held
        self.running: dict[str, Attempt] = {}
        self.foreign: set[str] = set()
        self.outbox: list[Payload] = []
        self._told_whole: set[str] = set()
        self._dropped: dict[str, int] = {}
        self._loaded = loaded
        self._tenant, self._workspace = tenant, workspace
        self._writer = writer
        self._assets = {asset.key: asset for asset in loaded.assets}
        self._tasks = [
            _Task(one, one.state, one.attempt, one.attempt_id, one.failures, one.retry_at_ms, 0) for one in loaded.tasks
        ]
        self._by_key = {task.loaded.key: task for task in self._tasks}
        for place, task in enumerate(self._tasks):
            for need in task.loaded.needs:
                self._tasks[need].dependents.append(place)
                task.open_needs += self._tasks[need].state != SUCCEEDED
        used = {task.loaded.asset for task in self._tasks}
        self._taken = {argument.asset for key in used for argument in self._assets[key].arguments}

    # What there is to see.

    @property
    def counts(self) -> dict[str, int]:
        """How many tasks are in each state."""
        return dict(Counter(task.state for task in self._tasks))

    @property
    def is_over(self) -> bool:
        """Whether every task has ended and every event about them is appended."""
        return not self.running and not self.outbox and all(task.state in FINISHED_TASK for task in self._tasks)

    @property
    def final_state(self) -> str:
        """The run's state once every task has ended (docs/events.md#fold-run-counters)."""
        states = {task.state for task in self._tasks}
        return CANCELLED if CANCELLED in states else FAILED if FAILED in states else SUCCEEDED

    def next_ms(self) -> int | None:
        """Return the instant at which the next retry or heartbeat is due, None if none is."""
        retries = [] if self.cancel_requested or self.held else self._retries()
        beats = [one.said_ms + self._beat_ms(one) for one in self.running.values() if one.started]
        return min([*retries, *beats], default=None)

    def asset_of(self, key: str) -> LoadedAsset:
        """Return the asset that a task makes."""
        return self._assets[self._by_key[key].loaded.asset]

    # What is done.

    def take_up(self, now_ms: int, keys: Collection[str] | None = None) -> None:
        """Take over a run that another workflow has left: its attempts under way have ended, as infrastructure has.

        `keys`: take over the attempts of these tasks only.
        """
        for task in self._tasks:
            if keys is not None and task.loaded.key not in keys:
                continue
            self.foreign.discard(task.loaded.key)
            if task.state in (DISPATCHED, RUNNING) and task.loaded.key not in self.running:
                self._lose(task, "the workflow of the run that had begun this attempt is gone", now_ms)

    def begin(self, now_ms: int, room: int) -> list[AttemptOrder]:
        """Begin attempts of what is ready, at most `room`; the most urgent first, then as planned."""
        if self.cancel_requested or self.held:
            return []
        self._end_waits(now_ms)
        if room <= 0:
            return []
        ready = [task for task in self._tasks if task.state == READY and task.loaded.key not in self.foreign]
        ready.sort(key=lambda task: -self._assets[task.loaded.asset].priority)
        return [self._order(task, now_ms) for task in ready[:room]]

    def started(self, said: AttemptStarted, now_ms: int) -> None:
        """Note that a worker has begun an attempt; one that has ended, or was never ordered, is passed over."""
        attempt = self.running.get(said.task_key)
        if attempt is None or attempt.attempt_id != said.attempt_id or attempt.started:
            return
        attempt.started, attempt.worker_id, attempt.said_ms = True, said.worker_id, now_ms
        self.outbox.append(self._start(attempt, said.started_at_ms))

    def ended(self, key: str, attempt_id: str, said: AttemptEnded, now_ms: int) -> None:
        """Note how an attempt has ended; one that is not the task's own any more is noted all the same."""
        attempt = self._taken_off(key, attempt_id)
        if attempt is None:
            self._note(key, attempt_id, said)
            return
        if not attempt.started:
            attempt.worker_id = said.worker_id
            self.outbox.append(self._start(attempt, said.started_at_ms))
        self._end(self._by_key[key], attempt.number, attempt_id, said, now_ms)

    def lost(self, key: str, attempt_id: str, message: str, now_ms: int) -> None:
        """Note that an attempt ended without a word of its worker."""
        attempt = self._taken_off(key, attempt_id)
        if attempt is None:
            number = self._number_of(key, attempt_id)
            self._append_note(key, number, attempt_id, {"outcome": "failed", "message": message})
            return
        self._lose(self._by_key[key], message, now_ms, attempt.worker_id)

    def never_began(self, key: str, attempt_id: str, now_ms: int) -> None:
        """Note that an attempt was cancelled before a worker took it."""
        said = AttemptEnded(
            outcome="cancelled",
            worker_id=_UNSEEN_WORKER,
            started_at_ms=now_ms,
            ended_at_ms=now_ms,
            category="CANCELLED",
            message="the run was cancelled before a worker took this attempt",
        )
        attempt = self._taken_off(key, attempt_id)
        if attempt is None:
            # Its dispatch may be recorded: nobody should have to wonder what became of it.
            self._note(key, attempt_id, said)
            return
        self._end(self._by_key[key], attempt.number, attempt_id, said, now_ms)

    def cancel(self, asked: CancelAsked) -> None:
        """Cancel the run, once: nothing of it begins any more; what runs is for the caller to cancel."""
        if self.cancel_requested:
            return
        self.cancel_requested = True
        member = None if asked.reason_code is None else {"reason_code": asked.reason_code}
        self.outbox.append(
            RunCancelRequested(
                run_id=self.run_id, requested_by=asked.requested_by, reason=asked.reason, springline=member
            )
        )
        self._cancel_waiting()

    def beat(self, now_ms: int) -> None:
        """Tell the ledger of attempts that it has not heard of for long."""
        for one in self.running.values():
            if one.started and one.said_ms + self._beat_ms(one) <= now_ms:
                one.said_ms = now_ms
                self.outbox.append(
                    TaskHeartbeat(
                        run_id=self.run_id,
                        task_key=one.key,
                        attempt=one.number,
                        attempt_id=one.attempt_id,
                        worker_id=one.worker_id or _UNSEEN_WORKER,
                        heartbeat_at=format_ms(now_ms),
                    )
                )

    def take_batch(self, most_events: int, most_bytes: int) -> list[Payload]:
        """Take the next payloads to append out of the outbox, as many as fit one append.

        Two attempts of a task are never in one: if the first is another workflow's, the second must not be recorded.
        """
        size = 0
        begun: dict[str, int] = {}
        batch: list[Payload] = []
        for payload in self.outbox[:most_events]:
            if isinstance(payload, DispatchRequested | TaskStarted) and (
                begun.setdefault(payload.task_key, payload.attempt) != payload.attempt
            ):
                break
            size += len(msgspec.json.encode(payload))
            if size > most_bytes and batch:
                break
            batch.append(payload)
        del self.outbox[: len(batch)]
        return batch

    def overlaid(
        self, loaded: LoadedRun, not_taken: Sequence[Payload], now_ms: int
    ) -> tuple[RunProgress, list[Attempt]]:
        """Begin anew from the rows, with the attempts under way and what waits to be appended.

        Args:
            loaded: the rows; no append is under way.
            not_taken: payloads that were refused, or repeated others. The end of an attempt among them becomes a note.
            now_ms: now.

        Returns: the new progress, and attempts that are the task's own no more: they are to be cancelled.
        """
        fresh = RunProgress(loaded, self._tenant, self._workspace, self._writer)
        fresh._told_whole = self._told_whole
        for payload in not_taken:
            if isinstance(payload, TaskCompletionRecorded):
                fresh._end_again(payload)
        for payload in self.outbox:
            fresh._say_again(payload)
        dropped = [one for one in self.running.values() if not fresh._goes_on(one)]
        fresh._dropped = self._dropped | {one.attempt_id: one.number for one in dropped}
        for task in fresh._tasks:
            if task.state not in (DISPATCHED, RUNNING) or task.loaded.key in fresh.running:
                continue
            if task.attempt_id == self.attempt_id_of(task.loaded.key, task.attempt):
                fresh._lose(task, "the attempt's end was lost", now_ms)
            else:
                fresh.foreign.add(task.loaded.key)
        return fresh, dropped

    def attempt_id_of(self, key: str, number: int) -> str:
        """Return the id of this workflow's attempt of a task."""
        text = f"attempt:{dispatch_id(self.run_id, key, number)}:{self._writer}"
        return f"att_{hashlib.sha256(text.encode()).hexdigest()[:24]}"

    # Steps.

    def _taken_off(self, key: str, attempt_id: str) -> Attempt | None:
        """Take an attempt off those under way; None if it is not the task's own any more."""
        attempt = self.running.get(key)
        if attempt is None or attempt.attempt_id != attempt_id:
            return None
        return self.running.pop(key)

    def _beat_ms(self, one: Attempt) -> int:
        return min(self._by_key[one.key].loaded.heartbeat_sec * 1_000 // _BEATS, LEDGER_BEAT_MS)

    def _retries(self) -> list[int]:
        return [
            task.retry_at_ms or 0
            for task in self._tasks
            if task.state == RETRY_WAIT and task.loaded.key not in self.foreign
        ]

    def _end_waits(self, now_ms: int) -> None:
        for task in self._tasks:
            if task.state == RETRY_WAIT and (task.retry_at_ms or 0) <= now_ms:
                if task.retry_at_ms is not None:
                    self.outbox.append(
                        TimerFired(
                            timer_id=self._timer_id(task, task.retry_at_ms),
                            timer_type="retry",
                            run_id=self.run_id,
                            task_key=task.loaded.key,
                            attempt=task.attempt,
                        )
                    )
                task.state = READY

    def _order(self, task: _Task, now_ms: int) -> AttemptOrder:
        key, loaded = task.loaded.key, task.loaded
        asset = self._assets[loaded.asset]
        number = task.attempt + 1
        own = self.attempt_id_of(key, number)
        task.state, task.attempt, task.attempt_id, task.retry_at_ms = RUNNING, number, own, None
        self.running[key] = Attempt(key, number, own, now_ms)
        self.outbox.append(
            DispatchRequested(
                run_id=self.run_id,
                task_key=key,
                attempt=number,
                attempt_id=own,
                dispatch_id=dispatch_id(self.run_id, key, number),
                worker_queue=asset.queue or asset.location,
                springline={"location": asset.location},
            )
        )
        return AttemptOrder(
            tenant=self._tenant,
            workspace=self._workspace,
            run_id=self.run_id,
            task_key=key,
            asset_key=loaded.asset,
            partition_key=loaded.partition,
            attempt=number,
            attempt_id=own,
            scope=self._loaded.scope,
            manifest_id=self._loaded.manifest_id,
            location=asset.location,
            config=self._loaded.config,
            inputs=self._inputs(task, asset),
            keeps_output=loaded.asset in self._taken,
            timeout_ms=asset.timeout_ms,
        )

    def _inputs(self, task: _Task, asset: LoadedAsset) -> list[TakenInput]:
        needed = [self._tasks[place] for place in task.loaded.needs]
        before = {one.argument: one.outputs for one in task.loaded.inherited}
        return [
            TakenInput(
                argument=one.argument,
                many=one.many,
                outputs=[
                    TakenOutput(
                        task_key=up.loaded.key,
                        attempt_id=up.attempt_id,
                        scope=self._loaded.scope,
                        partition_key=up.loaded.partition,
                    )
                    for up in needed
                    if up.loaded.asset == one.asset and up.attempt_id is not None
                ]
                + before.get(one.argument, []),
            )
            for one in asset.arguments
        ]

    def _start(self, attempt: Attempt, started_at_ms: int) -> TaskStarted:
        attempt.started = True
        return TaskStarted(
            run_id=self.run_id,
            task_key=attempt.key,
            attempt=attempt.number,
            attempt_id=attempt.attempt_id,
            worker_id=attempt.worker_id or _UNSEEN_WORKER,
            springline={"started_at": format_ms(started_at_ms), "location": self.asset_of(attempt.key).location},
        )

    def _lose(self, task: _Task, message: str, now_ms: int, worker_id: str | None = None) -> None:
        said = AttemptEnded(
            outcome="failed",
            worker_id=worker_id or _UNSEEN_WORKER,
            started_at_ms=now_ms,
            ended_at_ms=now_ms,
            category=INFRASTRUCTURE,
            message=message,
            reason_code="attempt_lost",
        )
        assert task.attempt_id is not None
        self._end(task, task.attempt, task.attempt_id, said, now_ms, seen=False)

    def _end(
        self, task: _Task, number: int, attempt_id: str, said: AttemptEnded, now_ms: int, *, seen: bool = True
    ) -> None:
        asset = self._assets[task.loaded.asset]
        failed = said.outcome == "failed"
        if failed and said.category != INFRASTRUCTURE:
            task.failures += 1
        again = failed and self._may_try_again(task, number, said, asset)
        task.retry_at_ms = None
        payload = completion(
            TaskCompletionRecorded(
                run_id=self.run_id,
                task_key=task.loaded.key,
                attempt=number,
                attempt_id=attempt_id,
                worker_id=said.worker_id,
                outcome=said.outcome,
                asset_key=task.loaded.asset,
                partition_key=task.loaded.partition,
                code_version=asset.code_version,
            ),
            said,
            again=again,
            seen=seen,
        )
        self.outbox.append(payload)
        if again and not self.cancel_requested:
            delay_ms = pause_ms(said, number - task.failures, task.failures, asset.retry_delay_ms)
            task.retry_at_ms = now_ms + delay_ms if delay_ms else None
        if task.retry_at_ms is not None:
            self.outbox.append(
                TimerRequested(
                    timer_id=self._timer_id(task, task.retry_at_ms),
                    timer_type="retry",
                    fire_at=format_ms(task.retry_at_ms),
                    run_id=self.run_id,
                    task_key=task.loaded.key,
                    attempt=number,
                )
            )
        self._settle(task, payload)

    def _may_try_again(self, task: _Task, number: int, said: AttemptEnded, asset: LoadedAsset) -> bool:
        return number < task.loaded.max_attempts and may_try_again(said, task.failures, asset.retries)

    def _settle(self, task: _Task, end: TaskCompletionRecorded) -> None:
        """Move a task, and those that wait for it, as the fold will (docs/events.md#fold-tasks)."""
        if end.outcome == "succeeded":
            task.state = SUCCEEDED
            for place in task.dependents:
                after = self._tasks[place]
                after.open_needs -= 1
                if after.open_needs == 0 and after.state == BLOCKED:
                    after.state = READY
            return
        if end.outcome == "failed":
            again = end.error is not None and end.error.is_retryable
            if again and not self.cancel_requested:
                task.state = RETRY_WAIT
                return
            task.state = CANCELLED if again else FAILED
        else:
            task.state = CANCELLED if end.outcome == "cancelled" else SKIPPED
        passed_on = CANCELLED if task.state == CANCELLED else SKIPPED
        waiting = [task]
        while waiting:
            for place in waiting.pop().dependents:
                after = self._tasks[place]
                if after.state not in FINISHED_TASK:
                    after.state = passed_on
                    waiting.append(after)

    def _cancel_waiting(self) -> None:
        for task in self._tasks:
            if task.state not in FINISHED_TASK and task.state not in (RUNNING, DISPATCHED):
                task.state = CANCELLED

    def _timer_id(self, task: _Task, at_ms: int) -> str:
        return retry_timer_id(self.run_id, task.loaded.key, task.attempt, at_ms // 1_000)

    # Beginning anew.

    def _is_next(self, task: _Task, number: int) -> bool:
        """Say whether a task may have an attempt of this number now."""
        due = task.state in (READY, RETRY_WAIT) and not task.open_needs and not self.cancel_requested
        return due and number == task.attempt + 1

    def _is_open(self, task: _Task, number: int, attempt_id: str) -> bool:
        """Say whether an attempt is the task's own, and has not ended."""
        return task.state in (DISPATCHED, RUNNING) and (task.attempt, task.attempt_id) == (number, attempt_id)

    def _goes_on(self, one: Attempt) -> bool:
        """Take an attempt over that is under way; False if it is not the task's own any more."""
        task = self._by_key[one.key]
        if self._is_next(task, one.number):
            # Its dispatch was refused, as while the workspace is held. Its start says it all.
            task.attempt, task.attempt_id, one.started = one.number, one.attempt_id, False
        elif self._is_open(task, one.number, one.attempt_id):
            one.started = task.state == RUNNING
        else:
            return False
        task.state, task.retry_at_ms = RUNNING, None
        self.running[one.key] = one
        if one.worker_id is not None and not one.started:
            self.outbox.append(self._start(one, one.said_ms))
        return True

    def _say_again(self, payload: Payload) -> None:
        """Take over a payload that waits to be appended, if it still says something."""
        if isinstance(payload, RunCancelRequested):
            if not self.cancel_requested:
                self.cancel_requested = True
                self.outbox.append(payload)
                self._cancel_waiting()
        elif isinstance(payload, DispatchRequested):
            task = self._by_key[payload.task_key]
            if self._is_next(task, payload.attempt) and not self.held:
                task.state, task.attempt, task.attempt_id = DISPATCHED, payload.attempt, payload.attempt_id
                self.outbox.append(payload)
        elif isinstance(payload, TaskStarted):
            task = self._by_key[payload.task_key]
            is_next = self._is_next(task, payload.attempt)
            if is_next or self._is_open(task, payload.attempt, payload.attempt_id):
                task.state, task.attempt, task.attempt_id = RUNNING, payload.attempt, payload.attempt_id
                self.outbox.append(payload)
        elif isinstance(payload, TaskCompletionRecorded):
            self._end_again(payload)
        elif isinstance(payload, TimerRequested):
            task = self._by_key[payload.task_key or ""]
            if task.state == RETRY_WAIT and task.attempt == payload.attempt:
                task.retry_at_ms = parse_timestamp(payload.fire_at) // NS_PER_MS
                self.outbox.append(payload)
        elif isinstance(payload, AttemptNoted):
            self.outbox.append(payload)

    def _end_again(self, end: TaskCompletionRecorded) -> None:
        """Append an end again: as it is, or behind the start that it lacks, once; else as a note."""
        task = self._by_key[end.task_key]
        if end.attempt_id in self._told_whole and task.attempt < end.attempt:
            self._note_end(end)
            return
        if self._is_next(task, end.attempt):
            self._told_whole.add(end.attempt_id)
            task.state, task.attempt, task.attempt_id = RUNNING, end.attempt, end.attempt_id
            self.outbox.append(
                TaskStarted(
                    run_id=self.run_id,
                    task_key=end.task_key,
                    attempt=end.attempt,
                    attempt_id=end.attempt_id,
                    worker_id=end.worker_id,
                )
            )
        if self._is_open(task, end.attempt, end.attempt_id):
            task.failures += end.outcome == "failed" and (end.error is None or end.error.category != INFRASTRUCTURE)
            self.outbox.append(end)
            self._settle(task, end)
        else:
            self._note_end(end)

    def _note_end(self, end: TaskCompletionRecorded) -> None:
        detail = {"outcome": end.outcome, "worker_id": end.worker_id}
        if end.error_message is not None:
            detail["message"] = end.error_message
        self._append_note(end.task_key, end.attempt, end.attempt_id, detail)

    def _note(self, key: str, attempt_id: str, said: AttemptEnded) -> None:
        detail = {"outcome": str(said.outcome), "worker_id": said.worker_id}
        if said.message is not None:
            detail["message"] = short_message(said.message)
        self._append_note(key, self._number_of(key, attempt_id), attempt_id, detail)

    def _number_of(self, key: str, attempt_id: str) -> int:
        """Return the number of an attempt that is not the task's own any more; that of the task if it is not known."""
        return self._dropped.pop(attempt_id, max(self._by_key[key].attempt, 1))

    def _append_note(self, key: str, number: int, attempt_id: str, detail: dict[str, Any]) -> None:
        self.outbox.append(
            AttemptNoted(
                run_id=self.run_id,
                task_key=key,
                attempt=number,
                attempt_id=attempt_id,
                note="ended_apart",
                detail=detail,
            )
        )


def as_event(payload: Payload) -> dict[str, Any]:
    """Return a payload as the data of an event to append."""
    plain: dict[str, Any] = msgspec.to_builtins(payload)
    return plain
