"""Asynchronous stores for synchronous callers: one event loop on a thread of its own, which also works in notebooks."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from springline.client.engine import Place
from springline.storage.port import ObjectStore
from springline.storage.scoped import ScopedStore
from springline.storage.url import open_store

R = TypeVar("R")


class LoopThread:
    """Runs coroutines for callers that are not asynchronous, or whose own loop is busy."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="springline-client", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, R]) -> R:
        """Run `work` to its end and return its result."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def close(self) -> None:
        """Stop the loop and wait for its thread."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class Stores:
    """The stores behind a client's tables, opened when first used, and again in a forked process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process = os.getpid()
        self._loop: LoopThread | None = None
        self._stores: dict[str, ObjectStore] = {}

    def run(self, place: Place, work: Callable[[ObjectStore], Coroutine[Any, Any, R]]) -> R:
        """Run `work` with the store of a table's workspace and return its result."""
        with self._lock:
            if self._process != os.getpid():
                # The thread and connections belong to the parent: do not close them.
                self._process, self._loop, self._stores = os.getpid(), None, {}
            loop = self._loop = self._loop or LoopThread()
            store = self._stores.get(place.store_url)
            if store is None:
                store = self._stores[place.store_url] = open_store(place.store_url)
        return loop.run(work(ScopedStore(store, place.scope)))

    def close(self) -> None:
        """Close the stores that this process has opened."""
        if self._loop is None or self._process != os.getpid():
            return
        for store in self._stores.values():
            self._loop.run(store.aclose())
        self._stores.clear()
        self._loop.close()
        self._loop = None
