"""The attempts of a large run, made by workflows beside it: its shards.

Activities end with the workflow that began them. A run of thousands of tasks continues as new now and then, and could
not while anything of it runs; so its shards begin the attempts, each as many as a history bears, and tell the run of
their ends by signals.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from temporalio import workflow
from temporalio.exceptions import ApplicationError, ChildWorkflowError, WorkflowAlreadyStartedError

with workflow.unsafe.imports_passed_through():
    from springline import names
    from springline.control.runs.messages import (
        AttemptReport,
        AttemptsBegun,
        AttemptsEnded,
        AttemptsToEnd,
        CarriedShard,
        PlacedOrder,
        RunStart,
        ShardStart,
    )
    from workflows.lifecycle import now_ms, run_attributes
    from workflows.policies import WORKFLOW_TASK_TIMEOUT

MOST_ORDERS = 500
"""Of one shard: each takes about six events of its history."""
MOST_TOGETHER, MOST_BYTES = 100, 256 * 1024
"""Orders of one signal."""
ASKS_AFTER_MS = 60_000
"""A shard with attempts that has said nothing for so long is asked whether it is there."""


@dataclass(slots=True)
class _Shard:
    """A shard that is open. `running`: its attempts, by id, with their tasks."""

    shard_id: str
    taken: int
    heard_ms: int
    running: dict[str, str] = field(default_factory=dict)


class Shards:
    """The attempts of a run in its shards, with the same calls as `run_attempts.AttemptsUnderWay`.

    `writer` is the run's. `report` is called with what came of each attempt.
    """

    def __init__(self, start: RunStart, writer: str, report: Callable[[AttemptReport], None]) -> None:
        self._start = start
        self._writer = writer
        self._report = report
        self._shards: dict[str, _Shard] = {}
        self._shard_of: dict[str, _Shard] = {}
        self._opened = 0
        self._orders: deque[PlacedOrder] = deque()
        self._to_tell: dict[str, AttemptsToEnd] = {}
        self._ending: set[str] = set()
        self._sending: asyncio.Task[None] | None = None
        self._watching: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        """Return how many attempts are under way, or about to be."""
        return len(self._shard_of) + len(self._orders)

    @property
    def has_sent_all(self) -> bool:
        """Whether every order and every cancellation is with its shard."""
        return self._sending is None

    @property
    def due_ms(self) -> int | None:
        """When a shard is to be asked whether it is there; None while none has attempts."""
        return min((one.heard_ms + ASKS_AFTER_MS for one in self._shards.values() if one.running), default=None)

    def begin(self, placed: PlacedOrder) -> None:
        """Begin an attempt."""
        self._orders.append(placed)
        self._send()

    def end(self, attempt_id: str) -> None:
        """Cancel an attempt, once; one that is not under way is passed over."""
        waiting = next((one for one in self._orders if one.order.attempt_id == attempt_id), None)
        if waiting is not None:
            self._orders.remove(waiting)
            self._report(AttemptReport(task_key=waiting.order.task_key, attempt_id=attempt_id))
            return
        shard = self._shard_of.get(attempt_id)
        if shard is None or attempt_id in self._ending:
            return
        self._ending.add(attempt_id)
        known = self._to_tell.get(shard.shard_id, AttemptsToEnd(attempt_ids=[]))
        if known.attempt_ids is not None:
            self._tell(shard.shard_id, AttemptsToEnd(attempt_ids=[*known.attempt_ids, attempt_id]))

    def take_in(self, said: AttemptsEnded) -> None:
        """Take in what a shard tells. One that is not of this run is told to end: another workflow had opened it."""
        for report in said.reports:
            shard = self._shard_of.get(report.attempt_id)
            if shard is not None and shard.shard_id == said.shard_id:
                self._forget(report.attempt_id, shard)
            self._report(report)
        self.hear(said.shard_id)
        teller = self._shards.get(said.shard_id)
        if teller is not None and teller.taken >= MOST_ORDERS and not teller.running:
            self._tell(teller.shard_id, AttemptsToEnd(attempt_ids=[], closes=True))

    def hear(self, shard_id: str) -> None:
        """Note that a shard is there."""
        shard = self._shards.get(shard_id)
        if shard is None:
            self._tell(shard_id, AttemptsToEnd(closes=True))
        else:
            shard.heard_ms = now_ms()

    def look(self) -> None:
        """Ask shards that have said nothing for long whether they are there."""
        for shard in list(self._shards.values()):
            if shard.running and shard.heard_ms + ASKS_AFTER_MS <= now_ms():
                shard.heard_ms = now_ms()
                self._tell(shard.shard_id, self._to_tell.get(shard.shard_id, AttemptsToEnd(attempt_ids=[])))

    async def close(self) -> None:
        """Let all shards end, once nothing of the run is under way."""
        for shard in self._shards.values():
            self._tell(shard.shard_id, AttemptsToEnd(attempt_ids=[], closes=True))
        if self._sending is not None:
            await self._sending

    # What a run hands to itself.

    def carried(self) -> tuple[int, list[CarriedShard], dict[str, str]]:
        """Return how many shards were opened, those that are open, and the shards of the attempts under way."""
        shards = [CarriedShard(shard_id=one.shard_id, taken=one.taken) for one in self._shards.values()]
        return self._opened, shards, {one: shard.shard_id for one, shard in self._shard_of.items()}

    def go_on(self, opened: int, shards: list[CarriedShard], attempts: dict[str, tuple[str, str]]) -> None:
        """Go on with the shards of the run of the workflow before. `attempts`: task and shard of each, by its id."""
        self._opened = opened
        for one in shards:
            self._shards[one.shard_id] = _Shard(one.shard_id, one.taken, now_ms())
        for attempt_id, (task_key, shard_id) in attempts.items():
            shard = self._shards[shard_id]
            shard.running[attempt_id] = task_key
            self._shard_of[attempt_id] = shard

    # Steps.

    def _tell(self, shard_id: str, said: AttemptsToEnd) -> None:
        self._to_tell[shard_id] = said
        self._send()

    def _send(self) -> None:
        if self._sending is None:
            self._sending = asyncio.create_task(self._send_all())

    async def _send_all(self) -> None:
        """Send what waits, one signal after the other, so that no cancellation overtakes its order."""
        while self._orders or self._to_tell:
            if self._to_tell:
                shard_id = next(iter(self._to_tell))
                said = self._to_tell.pop(shard_id)
                if not await self._signalled(shard_id, names.END_ATTEMPTS_SIGNAL, said):
                    self._lose(shard_id)
                elif said.closes:
                    self._shards.pop(shard_id, None)
            else:
                await self._send_orders(await self._open_shard())
        self._sending = None

    async def _send_orders(self, shard: _Shard) -> None:
        taken: list[PlacedOrder] = []
        size = 0
        while self._orders and len(taken) < min(MOST_TOGETHER, MOST_ORDERS - shard.taken):
            size += len(self._orders[0].model_dump_json())
            if size > MOST_BYTES and taken:
                break
            taken.append(self._orders.popleft())
        shard.taken += len(taken)
        for one in taken:
            # Its end may be told before this signal is known to have arrived.
            shard.running[one.order.attempt_id] = one.order.task_key
            self._shard_of[one.order.attempt_id] = shard
        said = AttemptsBegun(orders=taken)
        if taken and not await self._signalled(shard.shard_id, names.BEGIN_ATTEMPTS_SIGNAL, said):
            for one in reversed(taken):
                if one.order.attempt_id in shard.running:
                    self._forget(one.order.attempt_id, shard)
                    self._orders.appendleft(one)
            self._lose(shard.shard_id)

    async def _open_shard(self) -> _Shard:
        """Return a shard that takes orders."""
        last = next(reversed(self._shards.values()), None)
        if last is not None and last.taken < MOST_ORDERS:
            return last
        start = self._start
        while True:
            self._opened += 1
            shard_id = names.run_shard_id(start.tenant, start.workspace, start.run_id, self._writer, self._opened)
            try:
                child = await workflow.start_child_workflow(
                    names.RUN_SHARD_WORKFLOW,
                    ShardStart(
                        tenant=start.tenant, workspace=start.workspace, run_id=start.run_id, number=self._opened
                    ),
                    id=shard_id,
                    task_queue=names.RUNS_QUEUE,
                    parent_close_policy=workflow.ParentClosePolicy.ABANDON,
                    task_timeout=WORKFLOW_TASK_TIMEOUT,
                    search_attributes=run_attributes(start.tenant, start.workspace, start.run_id),
                    static_summary=f"shard {self._opened} of run {start.run_id}",
                )
            except WorkflowAlreadyStartedError:
                # Of a workflow that was reset: it ends by itself, and its number is used up.
                continue
            shard = self._shards[shard_id] = _Shard(shard_id, 0, now_ms())
            watching = asyncio.create_task(self._watch(shard_id, child))
            self._watching.add(watching)
            watching.add_done_callback(self._watching.discard)
            return shard

    async def _watch(self, shard_id: str, child: workflow.ChildWorkflowHandle[Any, Any]) -> None:
        """Notice the end of a shard, and at once that of one that an operator has terminated."""
        try:
            await child
        except ChildWorkflowError as error:
            workflow.logger.warning("%s has ended: %s", shard_id, error.cause or error)
        self._lose(shard_id)

    async def _signalled(self, shard_id: str, name: str, said: Any) -> bool:
        """Signal a shard; False if it is there no more."""
        try:
            await workflow.get_external_workflow_handle(shard_id).signal(name, said)
        except ApplicationError:
            return False
        return True

    def _lose(self, shard_id: str) -> None:
        """Note that a shard is there no more: what it had under way is lost with it."""
        shard = self._shards.pop(shard_id, None)
        self._to_tell.pop(shard_id, None)
        if shard is None:
            return
        for attempt_id, task_key in list(shard.running.items()):
            self._forget(attempt_id, shard)
            lost = f"the workflow that made this attempt, {shard_id}, is gone"
            self._report(AttemptReport(task_key=task_key, attempt_id=attempt_id, lost=lost, silent=True))

    def _forget(self, attempt_id: str, shard: _Shard) -> None:
        shard.running.pop(attempt_id, None)
        self._shard_of.pop(attempt_id, None)
        self._ending.discard(attempt_id)
