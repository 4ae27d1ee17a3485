"""Where a run stands, and what it does next: decisions over its tasks, without a clock, a store or Temporal.

A run goes ahead of its rows: what its workers tell counts at once, and the events that record it follow. The rows stay
the truth. Whenever an event was not taken as it was meant, `RunProgress.overlaid` begins anew from them, with the
attempts that still run.
"""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import chain, islice
from typing import Any, Final

import msgspec

from springline.control.runs.attempts import DEFAULT_GRACE_MS, Attempt, AttemptEvents, end_apart, said_apart
from springline.control.runs.ends import ENDED_APART, METADATA, completion, metadata_detail, unseen_end
from springline.control.runs.graph import GraphTask, TaskGraph
from springline.control.runs.messages import (
    AttemptEnded,
    AttemptOrder,
    AttemptReport,
    AttemptStarted,
    CancelAsked,
    CarriedAttempt,
    CarriedRun,
    LoadedAsset,
    LoadedRun,
    SlotClaim,
    SlotsAsked,
    SlotsGranted,
    SlotWanted,
)
from springline.control.runs.pools import RunSlots
from springline.control.runs.remote import DEFAULT_HTTP_TIMEOUT_MS, Remote, is_open
from springline.control.runs.retries import INFRASTRUCTURE, may_try_again, pause_ms
from springline.ledger.envelope import as_event, payload_from
from springline.ledger.events import (
    AttemptNoted,
    DispatchEnqueued,
    DispatchRequested,
    Payload,
    RunCancelRequested,
    TaskCompletionRecorded,
    TaskStarted,
    TimerRequested,
)
from springline.ledger.identifiers import dispatch_id
from springline.ledger.nested import ErrorCategory
from springline.ledger.timestamps import NS_PER_MS, parse_timestamp
from springline.projection.schema import (
    DISPATCHED,
    READY,
    RETRY_WAIT,
    RUNNING,
)

_BEATS: Final = 3
NOTICES_MS: Final = 6_000
"""A worker that is alive learns within this that an attempt is not wanted any more: by its next heartbeat, which may
wait for a connection."""
LEDGER_BEAT_MS: Final = 30_000
"""An attempt of which the ledger has heard nothing for so long, or a third of its time limit, has a heartbeat there."""


class RunProgress:
    """A run under way.

    Args:
        loaded: the run as its rows have it.
        tenant: the run's tenant.
        workspace: its workspace.
        writer: makes ids of attempts differ from those of any other workflow of the run.

    Attributes:
        running: the attempts under way, by task.
        is_over_http: whether an asset of the run is made over HTTP.
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
        self._slots = RunSlots()
        self._told_whole: set[str] = set()
        self._dropped: dict[str, int] = {}
        self._cancelled_ms: int | None = None
        self._loaded = loaded
        self._tenant, self._workspace = tenant, workspace
        self._writer = writer
        self.is_over_http = any(asset.url is not None for asset in loaded.assets)
        self._graph = TaskGraph(loaded)
        self._events = AttemptEvents(loaded.run_id)

    # What there is to see.

    @property
    def counts(self) -> dict[str, int]:
        """How many tasks are in each state."""
        return self._graph.counts

    @property
    def is_over(self) -> bool:
        """Whether every task has ended and every event about them is appended."""
        return not self.running and not self.outbox and self._graph.is_over

    @property
    def final_state(self) -> str:
        """The run's state once every task has ended (docs/events.md#fold-run-counters)."""
        return self._graph.final_state

    def next_ms(self) -> int | None:
        """Return the instant at which the next retry or heartbeat is due, None if none is."""
        retries = [] if self.cancel_requested or self.held else self._retries()
        beats = [one.said_ms + self._beat_ms(one) for one in self.running.values() if one.started and not one.remote]
        asks_ms = self._slots.repeats_ms()
        return min([*retries, *beats, *([] if asks_ms is None else [asks_ms])], default=None)

    def waits_for(self, most: int) -> list[str]:
        """Return what tasks wait for that could begin if they had a slot of their pool, in words; so many of them."""
        if not self._graph.has_pools:
            return []
        in_line = (self._graph[key] for key, one in self.running.items() if one.order is not None)
        found = islice(chain(in_line, self._graph.lacks_leave.values()), most)
        return [f"{task.key} {self._slots.words(task.asset.pool or '')}" for task in found]

    @property
    def retries(self) -> list[tuple[str, int | None]]:
        """The tasks that wait for another attempt, and until when; None: it begins at once."""
        return [(task.key, task.retry_at_ms) for task in self._graph.waiting.values()]

    def look_ms(self) -> int | None:
        """Return when the rows are to be read because an attempt over HTTP may have ended, None if none may."""
        if not self.is_over_http:
            return None
        due = [one.remote.due_ms(self._cancelled_ms) for one in self.running.values() if one.remote is not None]
        return min((one for one in due if one is not None), default=None)

    @property
    def is_bound(self) -> bool:
        """Whether an attempt is under way that ends with the workflow; those over HTTP go on without it."""
        return any(one.remote is None for one in self.running.values())

    def asset_of(self, key: str) -> LoadedAsset:
        """Return the asset that a task makes."""
        return self._graph[key].asset

    # What is done.

    def take_up(self, now_ms: int, keys: Collection[str] | None = None) -> None:
        """Take over a run that another workflow has left: its attempts under way have ended, as infrastructure has.

        `keys`: take over the attempts of these tasks only.
        """
        for task in self._graph.tasks:
            if keys is not None and task.key not in keys:
                continue
            self.foreign.discard(task.key)
            if task.is_under_way and task.key not in self.running:
                if task.is_remote:
                    self._adopt(task, now_ms)
                elif keys is None and task.asset.pool is not None:
                    # Its worker may not know yet that the workflow is gone: until it must, the slot is in use.
                    self.foreign.add(task.key)
                else:
                    self._lose(task, "the workflow of the run that had begun this attempt is gone", now_ms)

    def begin(self, now_ms: int, room: int) -> list[AttemptOrder]:
        """Begin attempts of what is ready, at most `room`; the most urgent first, then as planned.

        Those of a pool are dispatched alone, if they have leave: `confirmed` returns them when they may be made. Those
        over HTTP are in `posts` once their dispatch is recorded.
        """
        if self.cancel_requested or self.held:
            return []
        self._end_waits(now_ms)
        for key, number in sorted(self._slots.granted):
            waits = self._graph.get(key)
            if waits is None or waits.place not in self._graph.lacks_leave or number != waits.attempt + 1:
                continue
            if self._room(room) <= 0:
                break
            self._order(waits, now_ms)
            room -= 1
        room = self._room(room)
        begun: list[AttemptOrder] = []
        while len(begun) < room and (task := self._graph.next_ready()) is not None:
            begun.append(self._order(task, now_ms))
        return [order for order in begun if order.url is None]

    def recorded(self, taken: Sequence[Payload]) -> bool:
        """Note payloads that are in the ledger; say whether the rows must be read to know what they came to.

        An end gives its slot back; a dispatch over HTTP may be posted.
        """
        for payload in taken:
            if isinstance(payload, TaskCompletionRecorded):
                self._release(self._graph[payload.task_key])
            elif isinstance(payload, DispatchRequested) and self.is_over_http:
                one = self._own(payload.task_key, payload.attempt_id)
                if one is not None and one.remote is not None:
                    one.remote.recorded = True
        # A cancellation ends an attempt that has not started; what workers have started is known to the rows.
        cancels = any(isinstance(payload, RunCancelRequested) for payload in taken)
        return cancels and any(one.remote is not None for one in self.running.values())

    def posts(self) -> list[AttemptOrder]:
        """Return the attempts over HTTP that are to be posted now, each once."""
        orders: list[AttemptOrder] = []
        for one in self.running.values() if self.is_over_http else ():
            remote = one.remote
            if remote is None or one.order is not None or self.cancel_requested:
                continue
            if remote.recorded and remote.order is not None:
                orders.append(remote.order)
                remote.order = None
        return orders

    def granted(self, told: SlotsGranted) -> None:
        """Take in what a pool tells: leave for attempts, or that it does not know what the run wants."""
        self._slots.take(told)

    def asks(self, now_ms: int, room: int) -> list[SlotsAsked]:
        """Return what the run has to tell its pools now; it counts as told. `room`: how many attempts may begin."""
        if not self._graph.has_pools:
            return []
        wanted: dict[str, list[SlotWanted]] = {}
        waiting = [self._graph[key] for key, one in self.running.items() if one.order is not None]
        if not self.cancel_requested and not self.held:
            waiting += heapq.nsmallest(self._room(room), self._graph.lacks_leave.values(), key=lambda one: one.rank)
        for task in waiting:
            pool, key = task.asset.pool, task.key
            number = task.attempt + (task.state == READY)
            assert pool is not None
            since_ms = self._slots.since_ms(key, number, task.loaded.ready_ms, now_ms)
            priority = task.asset.priority
            want = SlotWanted(task_key=key, attempt=number, priority=priority, since_ms=since_ms)
            wanted.setdefault(pool, []).append(want)
        return self._slots.asks(self.run_id, self._loaded.priority, wanted, now_ms)

    def claims(self) -> list[SlotClaim]:
        """Return the attempts that wait for their slots: their dispatches are on record, or about to be."""
        if not self._graph.has_pools:
            return []
        return [
            SlotClaim(pool=self._graph[key].asset.pool or "", task_key=key, attempt_id=one.attempt_id)
            for key, one in self.running.items()
            if one.order is not None
        ]

    def confirmed(self, attempt_ids: Collection[str]) -> list[AttemptOrder]:
        """Return what is to be made now, because it has its slot; nothing of a cancelled run.

        What is over HTTP is in `posts` then.
        """
        orders = []
        for one in self.running.values():
            if one.order is not None and one.attempt_id in attempt_ids and not self.cancel_requested:
                if one.remote is None:
                    orders.append(one.order)
                one.order = None
                task = self._graph[one.key]
                self._graph.move(task, RUNNING)
                self._slots.begins(task.asset.pool or "", one.key, one.number)
        return orders

    def silent_ms(self, report: AttemptReport) -> int | None:
        """Return how long an attempt may still run that is reported as lost, because its worker is silent.

        None if that does not matter: only a slot of a pool is kept for it.
        """
        if not report.silent or self._graph[report.task_key].asset.pool is None:
            return None
        attempt = self._own(report.task_key, report.attempt_id)
        return NOTICES_MS + (DEFAULT_GRACE_MS if attempt is None else attempt.grace_ms)

    def taken(self, key: str, attempt_id: str, now_ms: int) -> None:
        """Note that a worker over HTTP has taken an attempt."""
        attempt = self._own(key, attempt_id)
        if attempt is None or attempt.remote is None:
            return
        if attempt.remote.heard_ms is None:
            attempt.remote.heard_ms = now_ms
        self.outbox.append(self._events.enqueued(attempt))

    def not_taken(self, key: str, attempt_id: str, message: str, now_ms: int, *, final: bool) -> None:
        """Note that an attempt could not be posted. `final`: its worker refuses it, and would again."""
        attempt = self._own(key, attempt_id)
        if attempt is None or attempt.started:
            return
        del self.running[key]
        task = self._graph[key]
        if not final:
            self._lose(task, message, now_ms)
            return
        said = unseen_end("CONFIGURATION", message, now_ms, reason_code="dispatch_refused")
        self._end(task, attempt.number, attempt_id, said, now_ms, seen=False)

    def started(self, said: AttemptStarted, now_ms: int) -> None:
        """Note that a worker has begun an attempt; one that has ended, or was never ordered, is passed over."""
        attempt = self._own(said.task_key, said.attempt_id)
        if attempt is None or attempt.started:
            return
        attempt.started, attempt.worker_id, attempt.said_ms = True, said.worker_id, now_ms
        attempt.grace_ms = said.grace_ms
        attempt.began_ms = said.started_at_ms
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
        self._end(self._graph[key], attempt.number, attempt_id, said, now_ms)

    def reported(self, report: AttemptReport, now_ms: int) -> None:
        """Note what came of an attempt."""
        if report.ended is not None:
            self.ended(report.task_key, report.attempt_id, report.ended, now_ms)
        elif report.lost is not None:
            self.lost(report.task_key, report.attempt_id, report.lost, now_ms)
        else:
            self.never_began(report.task_key, report.attempt_id, now_ms)

    def lost(self, key: str, attempt_id: str, message: str, now_ms: int) -> None:
        """Note that an attempt ended without a word of its worker."""
        attempt = self._taken_off(key, attempt_id)
        if attempt is None:
            number = self._number_of(key, attempt_id)
            self._append_note(key, number, attempt_id, {"outcome": "failed", "message": message})
            return
        self._lose(self._graph[key], message, now_ms, attempt.worker_id)

    def never_began(self, key: str, attempt_id: str, now_ms: int) -> None:
        """Note that an attempt was cancelled before a worker took it."""
        said = unseen_end("CANCELLED", "the run was cancelled before a worker took this attempt", now_ms)
        attempt = self._taken_off(key, attempt_id)
        if attempt is None:
            # Its dispatch may be recorded: nobody should have to wonder what became of it.
            self._note(key, attempt_id, said)
            return
        self._end(self._graph[key], attempt.number, attempt_id, said, now_ms)

    def cancel(self, asked: CancelAsked) -> None:
        """Cancel the run, once: nothing of it begins any more; what runs is for the caller to cancel."""
        if self.cancel_requested:
            return
        self.cancel_requested = True
        for one in self.running.values():
            unseen = one.order is None and one.remote is None and not one.started
            if unseen and self._graph[one.key].asset.pool is not None:
                # A worker may have begun it. What is dispatched alone would be cancelled on record, and its slot free.
                self.outbox.append(self._start(one, one.said_ms))
        self.outbox.append(self._events.cancel(asked))
        self._graph.cancel_waiting()

    def beat(self, now_ms: int) -> None:
        """Tell the ledger of attempts that it has not heard of for long."""
        for one in self.running.values():
            if one.started and one.remote is None and one.said_ms + self._beat_ms(one) <= now_ms:
                one.said_ms = now_ms
                self.outbox.append(self._events.heartbeat(one, now_ms))

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
        fresh._told_whole, fresh._dropped = self._told_whole, self._dropped
        fresh._slots = self._slots
        for payload in not_taken:
            if isinstance(payload, TaskCompletionRecorded):
                fresh._end_again(payload)
        fresh._cancelled_ms = self._cancelled_ms
        return fresh, fresh._take_over(self.outbox, self.running.values(), now_ms)

    def carried(self, shard_of: Mapping[str, str]) -> CarriedRun:
        """Return what a workflow hands to its next run; `shard_of`: the shard of each attempt under way, by its id."""
        return CarriedRun(
            writer=self._writer,
            shards_opened=0,
            running=[
                CarriedAttempt(
                    key=one.key,
                    number=one.number,
                    attempt_id=one.attempt_id,
                    said_ms=one.said_ms,
                    worker_id=one.worker_id,
                    started=one.started,
                    shard_id="" if one.order is not None else shard_of[one.attempt_id],
                    waits=one.order is not None,
                    grace_ms=one.grace_ms,
                )
                for one in self.running.values()
                if one.remote is None
            ],
            outbox=[as_event(payload) for payload in self.outbox],
            told_whole=sorted(self._told_whole),
            dropped=self._dropped,
        )

    @staticmethod
    def going_on(
        loaded: LoadedRun, tenant: str, workspace: str, carried: CarriedRun, *, now_ms: int
    ) -> tuple[RunProgress, list[Attempt]]:
        """Go on with what a run of the workflow has handed to the next, on top of the rows; returns as `overlaid`."""
        fresh = RunProgress(loaded, tenant, workspace, carried.writer)
        fresh._told_whole, fresh._dropped = set(carried.told_whole), dict(carried.dropped)
        running = [
            Attempt(
                one.key,
                one.number,
                one.attempt_id,
                one.said_ms,
                one.worker_id,
                one.started,
                fresh._order_of(fresh._graph[one.key], one.number, one.attempt_id) if one.waits else None,
                one.grace_ms,
            )
            for one in carried.running
        ]
        return fresh, fresh._take_over([payload_from(one) for one in carried.outbox], running, now_ms)

    def _take_over(self, outbox: Iterable[Payload], running: Iterable[Attempt], now_ms: int) -> list[Attempt]:
        """Take over what waits to be appended, and attempts under way; return those that are not the task's own."""
        for payload in outbox:
            self._say_again(payload)
        dropped = [one for one in running if not self._goes_on(one, now_ms) and not self._is_still_to_come(one)]
        self._dropped = self._dropped | {one.attempt_id: one.number for one in dropped}
        if self.cancel_requested and self._cancelled_ms is None:
            self._cancelled_ms = now_ms
        for one in dropped:
            if one.remote is not None:
                self._wait_for_retry(one, now_ms)
                # Its end is on record by somebody else.
                self._release(self._graph[one.key])
        for task in self._graph.tasks:
            if not task.is_under_way or task.key in self.running:
                continue
            if task.is_remote:
                self._adopt(task, now_ms)
            elif task.attempt_id == self.attempt_id_of(task.key, task.attempt):
                self._lose(task, "the attempt's end was lost", now_ms)
            else:
                self.foreign.add(task.key)
        self._reap(now_ms)
        return dropped

    def attempt_id_of(self, key: str, number: int) -> str:
        """Return the id of this workflow's attempt of a task."""
        text = f"attempt:{dispatch_id(self.run_id, key, number)}:{self._writer}"
        return f"att_{hashlib.sha256(text.encode()).hexdigest()[:24]}"

    # Steps.

    def _release(self, task: GraphTask) -> None:
        pool = task.asset.pool
        if pool is not None:
            self._slots.released(pool)

    def _room(self, room: int) -> int:
        """Return how many attempts may begin, by the caller's room and the limit of the run."""
        most = self._loaded.most_running
        return max(0, room if most is None else min(room, most - len(self.running) - len(self.foreign)))

    def _own(self, key: str, attempt_id: str) -> Attempt | None:
        """Return an attempt that is under way; None if it is not the task's own any more."""
        attempt = self.running.get(key)
        return None if attempt is None or attempt.attempt_id != attempt_id else attempt

    def _taken_off(self, key: str, attempt_id: str) -> Attempt | None:
        """Take an attempt off those under way; None if it is not the task's own any more."""
        attempt = self._own(key, attempt_id)
        return None if attempt is None else self.running.pop(key)

    def _beat_ms(self, one: Attempt) -> int:
        return min(self._graph[one.key].loaded.heartbeat_sec * 1_000 // _BEATS, LEDGER_BEAT_MS)

    def _retries(self) -> list[int]:
        return [task.retry_at_ms or 0 for task in self._graph.waiting.values()]

    def _end_waits(self, now_ms: int) -> None:
        for _, task in sorted(self._graph.waiting.items()):
            if (task.retry_at_ms or 0) <= now_ms:
                if task.retry_at_ms is not None:
                    self.outbox.append(self._events.timer_fired(task, task.retry_at_ms))
                self._graph.move(task, READY)

    def _order(self, task: GraphTask, now_ms: int) -> AttemptOrder:
        key, asset = task.key, task.asset
        number = task.attempt + 1
        own = self.attempt_id_of(key, number)
        waits = asset.pool is not None
        self._graph.move(task, DISPATCHED if waits else RUNNING)
        task.attempt, task.attempt_id, task.retry_at_ms = number, own, None
        order = self._order_of(task, number, own)
        self.running[key] = Attempt(
            key,
            number,
            own,
            now_ms,
            order=order if waits else None,
            remote=None if asset.url is None else self._remote(asset, order),
        )
        self.outbox.append(self._events.dispatch(order, asset.queue or asset.location))
        return order

    def _order_of(self, task: GraphTask, number: int, own: str) -> AttemptOrder:
        """Return what a worker is to be told of an attempt."""
        loaded = task.loaded
        asset = task.asset
        return AttemptOrder(
            tenant=self._tenant,
            workspace=self._workspace,
            run_id=self.run_id,
            task_key=loaded.key,
            asset_key=loaded.asset,
            partition_key=loaded.partition,
            attempt=number,
            attempt_id=own,
            scope=self._loaded.scope,
            manifest_id=self._loaded.manifest_id,
            location=asset.location,
            config=self._loaded.config,
            inputs=self._graph.inputs(task, self._loaded.scope),
            keeps_output=self._graph.keeps_output(task),
            timeout_ms=asset.timeout_ms,
            url=asset.url,
            heartbeat_ms=None if asset.url is None else asset.heartbeat_ms,
            code_version=None if asset.url is None else asset.code_version,
            memory_bytes=asset.memory_bytes,
        )

    def _start(self, attempt: Attempt, started_at_ms: int) -> TaskStarted:
        attempt.started = True
        return self._events.start(attempt, started_at_ms, self.asset_of(attempt.key).location)

    def _lose(self, task: GraphTask, message: str, now_ms: int, worker_id: str | None = None) -> None:
        said = unseen_end(INFRASTRUCTURE, message, now_ms, reason_code="attempt_lost", worker_id=worker_id)
        assert task.attempt_id is not None
        self._end(task, task.attempt, task.attempt_id, said, now_ms, seen=False)

    def _end(
        self, task: GraphTask, number: int, attempt_id: str, said: AttemptEnded, now_ms: int, *, seen: bool = True
    ) -> None:
        asset = task.asset
        failed = said.outcome == "failed"
        if failed and said.category != INFRASTRUCTURE:
            task.failures += 1
        again = failed and self._may_try_again(task, number, said, asset)
        task.retry_at_ms = None
        end = self._events.end(task, number, attempt_id, said)
        payload = completion(end, said, again=again, seen=seen)
        if said.metadata:
            # Before the end: if the workflow is lost between the two, there is an attempt without an end, and not an
            # end without what its function told.
            self.outbox.append(
                self._events.noted(task.key, number, attempt_id, METADATA, metadata_detail(said.metadata))
            )
        self.outbox.append(payload)
        if again and not self.cancel_requested:
            self._wait(task, said, now_ms)
        self._graph.settle(task, payload, cancelled=self.cancel_requested)

    def _wait(self, task: GraphTask, said: AttemptEnded, now_ms: int) -> None:
        """Let a task wait for its next attempt, and record the timer."""
        retry_delay_ms = task.asset.retry_delay_ms
        delay_ms = pause_ms(said, task.attempt - task.failures, task.failures, retry_delay_ms)
        task.retry_at_ms = now_ms + delay_ms if delay_ms else None
        if task.retry_at_ms is not None:
            self.outbox.append(self._events.timer(task, task.retry_at_ms))

    def _may_try_again(self, task: GraphTask, number: int, said: AttemptEnded, asset: LoadedAsset) -> bool:
        return number < task.loaded.max_attempts and may_try_again(said, task.failures, asset.retries)

    # Beginning anew.

    def _is_next(self, task: GraphTask, number: int) -> bool:
        """Say whether a task may have an attempt of this number now."""
        due = task.state in (READY, RETRY_WAIT) and not task.open_needs and not self.cancel_requested
        return due and number == task.attempt + 1

    def _is_still_to_come(self, one: Attempt) -> bool:
        """Say whether an attempt that waits for its slot is not on record: its dispatch was refused, as in a hold."""
        return one.order is not None and self._is_next(self._graph[one.key], one.number)

    def _goes_on(self, one: Attempt, now_ms: int) -> bool:
        """Take an attempt over that is under way; False if it is not the task's own any more."""
        task = self._graph[one.key]
        if one.remote is not None:
            if not task.is_open(one.number, one.attempt_id):
                return False
            if is_open(task.loaded) and task.loaded.attempt_id == one.attempt_id:
                one.remote.read(task.loaded, now_ms)
                one.started, one.began_ms = task.loaded.state == RUNNING, one.remote.started_ms
            self.running[one.key] = one
            return True
        if self._is_still_to_come(one):
            return False
        if self._is_next(task, one.number):
            # Its dispatch was refused, as while the workspace is held. Its start says it all.
            task.attempt, task.attempt_id, one.started = one.number, one.attempt_id, False
        elif task.is_open(one.number, one.attempt_id):
            one.started = task.state == RUNNING
        else:
            return False
        self._graph.move(task, RUNNING if one.order is None else DISPATCHED)
        task.retry_at_ms = None
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
                self._graph.cancel_waiting()
        elif isinstance(payload, DispatchRequested):
            task = self._graph[payload.task_key]
            if self._is_next(task, payload.attempt) and not self.held:
                self._graph.move(task, DISPATCHED)
                task.attempt, task.attempt_id = payload.attempt, payload.attempt_id
                self.outbox.append(payload)
        elif isinstance(payload, TaskStarted):
            task = self._graph[payload.task_key]
            is_next = self._is_next(task, payload.attempt)
            if is_next or task.is_open(payload.attempt, payload.attempt_id):
                self._graph.move(task, RUNNING)
                task.attempt, task.attempt_id = payload.attempt, payload.attempt_id
                self.outbox.append(payload)
        elif isinstance(payload, TaskCompletionRecorded):
            self._end_again(payload)
        elif isinstance(payload, TimerRequested):
            task = self._graph[payload.task_key or ""]
            if task.state == RETRY_WAIT and task.attempt == payload.attempt:
                task.retry_at_ms = parse_timestamp(payload.fire_at) // NS_PER_MS
                self.outbox.append(payload)
        elif isinstance(payload, AttemptNoted | DispatchEnqueued):
            self.outbox.append(payload)

    def _end_again(self, end: TaskCompletionRecorded) -> None:
        """Append an end again: as it is, or behind the start that it lacks, once; else as a note."""
        task = self._graph[end.task_key]
        if task.is_remote and not task.is_open(end.attempt, end.attempt_id):
            # Its worker has said itself how it ended, or a cancellation has ended it.
            return
        if end.attempt_id in self._told_whole and task.attempt < end.attempt:
            self._note_end(end)
            return
        if self._is_next(task, end.attempt):
            self._told_whole.add(end.attempt_id)
            self._graph.move(task, RUNNING)
            task.attempt, task.attempt_id = end.attempt, end.attempt_id
            self.outbox.append(self._events.start_before(end))
        if task.is_open(end.attempt, end.attempt_id):
            task.failures += end.outcome == "failed" and (end.error is None or end.error.category != INFRASTRUCTURE)
            self.outbox.append(end)
            self._graph.settle(task, end, cancelled=self.cancel_requested)
        else:
            self._note_end(end)

    # Attempts over HTTP.

    def _remote(self, asset: LoadedAsset, order: AttemptOrder) -> Remote:
        return Remote(asset.heartbeat_ms, asset.timeout_ms or DEFAULT_HTTP_TIMEOUT_MS, order)

    def _adopt(self, task: GraphTask, now_ms: int) -> None:
        """Go on with an attempt that the rows have, whichever workflow of the run has dispatched it.

        Its worker knows of none of them. One that has not started is posted again: it may never have been.
        """
        assert task.attempt_id is not None
        order = self._order_of(task, task.attempt, task.attempt_id)
        remote = self._remote(task.asset, order)
        if is_open(task.loaded) and task.loaded.attempt_id == task.attempt_id:
            remote.read(task.loaded, now_ms)
        if remote.heard_ms is not None:
            # Whoever was to hear it may have been away.
            remote.heard_ms = now_ms
        started = remote.started_ms is not None
        # Whether it was posted or stood in line: one that had its slot has it still.
        waits = not started and task.asset.pool is not None
        self.running[task.key] = Attempt(
            *(task.key, task.attempt, task.attempt_id, now_ms),
            started=started,
            began_ms=remote.started_ms,
            order=order if waits else None,
            remote=remote,
        )

    def _reap(self, now_ms: int) -> None:
        """End the attempts whose workers are silent, take too long or do not stop, as the rows have just said."""
        for key, one in list(self.running.items()):
            said = None if one.remote is None else one.remote.ended(now_ms, self._cancelled_ms)
            if said is not None:
                del self.running[key]
                self._end(self._graph[key], one.number, one.attempt_id, said, now_ms, seen=False)

    def _wait_for_retry(self, one: Attempt, now_ms: int) -> None:
        """Let the task of an attempt that its worker has failed wait as its asset has it, from now on."""
        task = self._graph[one.key]
        if task.state != RETRY_WAIT or (task.attempt, task.attempt_id) != (one.number, one.attempt_id):
            return
        category: ErrorCategory = INFRASTRUCTURE if task.retry_at_ms is None else "USER_CODE"
        self._wait(task, unseen_end(category, None, now_ms), now_ms)

    def _note_end(self, end: TaskCompletionRecorded) -> None:
        self._append_note(end.task_key, end.attempt, end.attempt_id, end_apart(end))

    def _note(self, key: str, attempt_id: str, said: AttemptEnded) -> None:
        number = self._number_of(key, attempt_id)
        if said.metadata:
            self.outbox.append(self._events.noted(key, number, attempt_id, METADATA, metadata_detail(said.metadata)))
        self._append_note(key, number, attempt_id, said_apart(said))

    def _number_of(self, key: str, attempt_id: str) -> int:
        """Return the number of an attempt that is not the task's own any more; that of the task if it is not known."""
        last = max(self._graph[key].attempt, 1)
        known = self._dropped.pop(attempt_id, None)
        own = (number for number in range(last, 0, -1) if self.attempt_id_of(key, number) == attempt_id)
        # One that was lost, as with its shard, may tell its end when others have followed it.
        return known if known is not None else next(own, last)

    def _append_note(self, key: str, number: int, attempt_id: str, detail: dict[str, Any]) -> None:
        self.outbox.append(self._events.noted(key, number, attempt_id, ENDED_APART, detail))
