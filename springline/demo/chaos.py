"""Killing the worker at random points, and finding out from storage what it was doing."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections import Counter
from dataclasses import dataclass, field

from springline.commit.inspect import TableView, table_view
from springline.commit.table import CommitTable
from springline.local.stack import EmbeddedStack
from springline.storage.scoped import ScopedStore
from springline.storage.url import open_store

IDLE = "between commits"
AFTER_RESERVE = "after reserve, before the log"
AFTER_LOG = "after the log, before the markers"
AFTER_MARKER = "after the markers, before finalize"
WINDOWS = (AFTER_RESERVE, AFTER_LOG, AFTER_MARKER, IDLE)


@dataclass
class Kills:
    """Kills of the workers, and how long the table stood still after each, in seconds."""

    windows: Counter[str] = field(default_factory=Counter)
    pauses_s: list[float] = field(default_factory=list)

    @property
    def total(self) -> int:
        """Return the number of kills."""
        return sum(self.windows.values())


def window_of(view: TableView) -> str:
    """Return the crash window that the stored state shows: the last step of the commit in flight."""
    inflight = view.inflight
    if inflight is None:
        return IDLE
    if not inflight.log_written:
        return AFTER_RESERVE
    return AFTER_MARKER if inflight.markers_written == len(inflight.keys) else AFTER_LOG


class Chaos(threading.Thread):
    """Kills the stack's worker with SIGKILL every `every_s` seconds (on average) and starts it again at once."""

    def __init__(self, stack: EmbeddedStack, table_id: str, root: str, *, every_s: float, seed: int) -> None:
        super().__init__(name="chaos", daemon=True)
        self.kills = Kills()
        self.failure: Exception | None = None
        self._stack = stack
        self._table_id = table_id
        self._root = root
        self._every_s = every_s
        self._random = random.Random(seed)
        self._ended = threading.Event()

    def run(self) -> None:
        """Kill and restart until told to stop."""
        (worker,) = self._stack.worker_names
        try:
            while not self._ended.wait(self._random.uniform(0.5, 1.5) * self._every_s):
                self._stack.kill(worker)
                view = asyncio.run(self._look())
                self.kills.windows[window_of(view)] += 1
                self._stack.start_child(worker)
                self.kills.pauses_s.append(self._wait_for_progress(view.latest_version))
        except Exception as error:
            self.failure = error

    def stop(self) -> None:
        """Stop killing; returns when the worker is up."""
        self._ended.set()
        self.join()

    def _wait_for_progress(self, version: int) -> float:
        """Return the seconds from the worker being ready until the table has a newer version, 0 if stopped."""
        began = time.monotonic()
        while not self._ended.wait(0.02):
            if asyncio.run(self._look()).latest_version > version:
                return time.monotonic() - began
        return 0.0

    async def _look(self) -> TableView:
        store = open_store(self._stack.store_url)
        try:
            return await table_view(CommitTable(ScopedStore(store, self._stack.scope), self._table_id, self._root))
        finally:
            await store.aclose()
