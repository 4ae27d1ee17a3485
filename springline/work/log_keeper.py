"""Keeping what an attempt prints, in the store: in chunks, soon after it was printed, and never more than a bound.

A log that cannot be kept never fails an attempt: the worker's own log says so, and has the lines.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from springline.control.runs.messages import AttemptOrder
from springline.paths import ObjectPath, log_chunk
from springline.runs.attempt_logs import CHUNK_BYTES, LogLine, chunk_object
from springline.storage.port import ObjectStore, StoreError
from springline.storage.resolve import Other, put_once

log = logging.getLogger("springline.attempt")

FLUSH_S: Final = 2.0
"""How long a line waits for others before it is written."""
MOST_BYTES: Final = 4 * 1024 * 1024
"""Of one attempt, from its begin; of what follows, the last `LAST_BYTES` are kept."""
LAST_BYTES: Final = 64 * 1024
_LINE_BYTES: Final = 40
"""About what a line takes beside its text."""
_LAST_FLUSH_S: Final = 5.0
"""How long the end of an attempt waits for its log."""


class LogKeeper:
    """The log of one attempt. Belongs to the event loop that it is used in; nothing is written before the first line.

    `store` is the workspace's part; `now_ms` reads the clock.
    """

    def __init__(
        self,
        store: ObjectStore,
        order: AttemptOrder,
        worker_id: str,
        now_ms: Callable[[], int],
        flush_s: float = FLUSH_S,
    ) -> None:
        self._store = store
        self._order = order
        self._worker_id = worker_id
        self._now_ms = now_ms
        self._flush_s = flush_s
        self._waiting: deque[LogLine] = deque()
        self._waiting_bytes = 0
        self._kept_bytes = 0
        self._last: deque[LogLine] = deque()
        self._last_bytes = 0
        self._left_out = 0
        self._number = 1
        self._due = asyncio.Event()
        self._closing = False
        self._task: asyncio.Task[None] | None = None

    @property
    def chunks(self) -> int:
        """The number of the last chunk that the store has: all before it are there, too. 0: nothing is kept."""
        return self._number - 1

    def line(self, text: str) -> None:
        """Keep a line."""
        one = LogLine(self._now_ms(), text)
        size = _size(one)
        if self._kept_bytes + size > MOST_BYTES:
            self._keep_last(one, size)
            return
        self._kept_bytes += size
        self._add(one, size)

    def _add(self, one: LogLine, size: int) -> None:
        self._waiting.append(one)
        self._waiting_bytes += size
        if self._waiting_bytes >= CHUNK_BYTES:
            self._due.set()
        if self._task is None:
            self._task = asyncio.create_task(self._write())

    def _keep_last(self, one: LogLine, size: int) -> None:
        self._last.append(one)
        self._last_bytes += size
        while self._last_bytes > LAST_BYTES and len(self._last) > 1:
            self._last_bytes -= _size(self._last.popleft())
            self._left_out += 1

    async def aclose(self) -> None:
        """Write what is left, and stop: the attempt has ended. Waits some seconds at most."""
        if self._left_out:
            told = (
                f"... {self._left_out:,} lines are left out: {MOST_BYTES:,} bytes of an attempt are kept, and its end"
            )
            self._add(LogLine(self._last[0].at_ms, told), len(told))
        while self._last:
            one = self._last.popleft()
            self._add(one, _size(one))
        if self._task is None:
            return
        self._closing = True
        self._due.set()
        _, unfinished = await asyncio.wait({self._task}, timeout=_LAST_FLUSH_S)
        if unfinished:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._complain("the store has not answered in time")

    async def _write(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._flush_s):
                    await self._due.wait()
            self._due.clear()
            try:
                while self._waiting:
                    await self._write_chunk()
            except StoreError as error:
                # What waits stays, and is tried again with what comes.
                self._complain(str(error))
            if self._closing:
                return

    async def _write_chunk(self) -> None:
        lines: list[LogLine] = []
        size = 0
        for one in self._waiting:
            if lines and size + _size(one) > CHUNK_BYTES:
                break
            lines.append(one)
            size += _size(one)
        order = self._order

        def data() -> bytes:
            return chunk_object(order.run_id, order.task_key, order.attempt, self._number, self._worker_id, lines)

        # Another process may be making the same attempt, and write between our chunks.
        while isinstance(await put_once(self._store, self._path(), data()), Other):
            self._number += 1
        self._number += 1
        for one in lines:
            self._waiting.popleft()
            self._waiting_bytes -= _size(one)

    def _path(self) -> ObjectPath:
        return log_chunk(self._order.run_id, self._order.task_key, self._order.attempt, self._number)

    def _complain(self, why: str) -> None:
        order = self._order
        told = "%s %s#%d: %d lines of its log are not kept yet: %s"
        log.warning(told, order.run_id, order.task_key, order.attempt, len(self._waiting), why)


def _size(one: LogLine) -> int:
    return len(one.text.encode("utf-8", "replace")) + _LINE_BYTES
