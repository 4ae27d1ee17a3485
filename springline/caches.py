"""Caches of a process: values bounded by weight, and answers that may be a moment old."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Recent(Generic[V]):
    """The most recently used values by name, bounded in number and in total weight."""

    def __init__(self, entries: int, weight: float = float("inf")) -> None:
        self._entries = entries
        self._weight_limit = weight
        self._weight = 0
        self._values: OrderedDict[Hashable, tuple[V, int]] = OrderedDict()

    def get(self, name: Hashable) -> V | None:
        """Return the value under `name`, or None."""
        held = self._values.get(name)
        if held is None:
            return None
        self._values.move_to_end(name)
        return held[0]

    def put(self, name: Hashable, value: V, weight: int = 1) -> None:
        """Cache `value`, and evict the least recently used ones."""
        self.drop(name)
        self._values[name] = (value, weight)
        self._weight += weight
        while len(self._values) > self._entries or self._weight > self._weight_limit:
            _, (_, dropped) = self._values.popitem(last=False)
            self._weight -= dropped

    @property
    def weight(self) -> int:
        """The weight of all cached values."""
        return self._weight

    def drop(self, name: Hashable) -> None:
        """Forget `name`."""
        held = self._values.pop(name, None)
        if held is not None:
            self._weight -= held[1]


class Shelf(Generic[V]):
    """One owner's part of a shared `Recent`: equal names of two owners are different entries."""

    def __init__(self, shared: Recent[V], owner: str) -> None:
        self._shared = shared
        self._owner = owner

    def get(self, name: Hashable) -> V | None:
        """Return the value under `name`, or None."""
        return self._shared.get((self._owner, name))

    def put(self, name: Hashable, value: V, weight: int = 1) -> None:
        """Cache `value`; the least recently used ones of any owner may be evicted."""
        self._shared.put((self._owner, name), value, weight)

    def drop(self, name: Hashable) -> None:
        """Forget `name`."""
        self._shared.drop((self._owner, name))


@dataclass(slots=True)
class _Asked(Generic[V]):
    answer: asyncio.Task[V]
    old_at: float = float("inf")
    """When the answer becomes too old, by the loop's clock in seconds; never while it is awaited."""


class Brief(Generic[K, V]):
    """Caches the answers of `ask` for `seconds`; concurrent callers share one call.

    No answer is kept longer, so memory is bounded by the calls within `seconds`. A failure is raised to all
    callers that waited for it and is not cached. For one event loop.
    """

    def __init__(self, ask: Callable[[K], Awaitable[V]], seconds: float) -> None:
        self._ask = ask
        self._seconds = seconds
        self._asked: dict[K, _Asked[V]] = {}

    async def get(self, key: K) -> V:
        """Return an answer that is at most `seconds` old. Raises the errors of `ask`."""
        loop = asyncio.get_running_loop()
        asked = self._asked.get(key)
        if asked is None or asked.old_at <= loop.time():
            asked = self._asked[key] = _Asked(loop.create_task(_asking(self._ask(key))))
            asked.answer.add_done_callback(partial(self._answered, key, asked))
        # A caller that is cancelled must not cancel the call for the others.
        return await asyncio.shield(asked.answer)

    @property
    def held(self) -> int:
        """How many answers are cached or awaited."""
        return len(self._asked)

    def _answered(self, key: K, asked: _Asked[V], _task: asyncio.Task[V]) -> None:
        if asked.answer.cancelled() or asked.answer.exception() is not None:
            self._forget(key, asked)
            return
        loop = asyncio.get_running_loop()
        asked.old_at = loop.time() + self._seconds
        loop.call_later(self._seconds, self._forget, key, asked)

    def _forget(self, key: K, asked: _Asked[V]) -> None:
        if self._asked.get(key) is asked:
            del self._asked[key]


async def _asking(answer: Awaitable[V]) -> V:
    return await answer
