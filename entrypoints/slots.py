"""Slots that the workers of several queues share: together they take no more than they can make.

A worker that took more would let activities wait while their time limits run, and other workers stand idle. Needs an
SDK whose heartbeats do not hold the interpreter's lock (1.32 or later): with older ones, slots in Python deadlock.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from dataclasses import dataclass

from temporalio.worker import (
    CustomSlotSupplier,
    SlotMarkUsedContext,
    SlotPermit,
    SlotReleaseContext,
    SlotReserveContext,
)


class _QueuesPermit(SlotPermit):
    """A slot in the hands of a queue's worker; `used` as soon as it has a task."""

    def __init__(self, queue: str) -> None:
        self.queue = queue
        self.used = False


@dataclass(frozen=True, slots=True, eq=False)
class _Waiting:
    queue: str
    loop: asyncio.AbstractEventLoop
    granted: asyncio.Future[_QueuesPermit]


class SharedSlots(CustomSlotSupplier):
    """So many slots, given to whoever has waited longest; at least one for each queue.

    A worker reserves a slot before it asks the server for a task, and a queue may be empty for long. So of slots
    without a task no queue has more than one: the others are there for the queues that have work.
    """

    def __init__(self, slots: int) -> None:
        self._free = slots
        self._lock = threading.Lock()
        self._asking: set[str] = set()
        """Queues that have a slot and no task for it yet."""
        self._waiting: list[_Waiting] = []

    async def reserve_slot(self, ctx: SlotReserveContext) -> SlotPermit:
        """Wait for a slot and take it."""
        loop = asyncio.get_running_loop()
        waiting = _Waiting(ctx.task_queue, loop, loop.create_future())
        with self._lock:
            self._waiting.append(waiting)
            self._hand_out()
        try:
            return await waiting.granted
        except asyncio.CancelledError:
            with self._lock:
                if waiting in self._waiting:
                    self._waiting.remove(waiting)
                    raise
            # It was handed out, and nobody takes it.
            self._take_back(_QueuesPermit(ctx.task_queue))
            raise

    def try_reserve_slot(self, ctx: SlotReserveContext) -> SlotPermit | None:
        """Take no slot for a task that comes without being asked for: these workers have no workflows."""
        return None

    def mark_slot_used(self, ctx: SlotMarkUsedContext) -> None:
        """Let the queue ask for another task."""
        permit = ctx.permit
        assert isinstance(permit, _QueuesPermit)
        with self._lock:
            permit.used = True
            self._asking.discard(permit.queue)
            self._hand_out()

    def release_slot(self, ctx: SlotReleaseContext) -> None:
        """Hand a slot on, from any thread."""
        permit = ctx.permit
        assert isinstance(permit, _QueuesPermit)
        self._take_back(permit)

    def _take_back(self, permit: _QueuesPermit) -> None:
        with self._lock:
            if not permit.used:
                self._asking.discard(permit.queue)
            self._free += 1
            self._hand_out()

    def _hand_out(self) -> None:
        for one in list(self._waiting):
            if not self._free:
                return
            if one.queue in self._asking:
                continue
            self._waiting.remove(one)
            self._free -= 1
            self._asking.add(one.queue)
            # A loop that is closed has nobody left who waits.
            with contextlib.suppress(RuntimeError):
                one.loop.call_soon_threadsafe(_grant, one.granted, _QueuesPermit(one.queue))


def _grant(granted: asyncio.Future[_QueuesPermit], permit: _QueuesPermit) -> None:
    if not granted.done():
        granted.set_result(permit)
