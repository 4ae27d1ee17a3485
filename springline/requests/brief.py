"""Answers that may be a moment old: asked for once, and shared by everybody who wants them meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


@dataclass(slots=True)
class _Asked(Generic[V]):
    answer: asyncio.Task[V]
    old_at: float = float("inf")
    """When the answer is too old, by the loop's clock in seconds; never while it is still awaited."""


class Brief(Generic[K, V]):
    """Remembers what `ask` answers for `seconds`, and asks once however many want to know.

    Nothing outlives its time, so memory is bounded by what can be asked within `seconds`. A failure is told to all
    who waited for it and is not remembered. For one event loop.
    """

    def __init__(self, ask: Callable[[K], Awaitable[V]], seconds: float) -> None:
        self._ask = ask
        self._seconds = seconds
        self._asked: dict[K, _Asked[V]] = {}

    async def get(self, key: K) -> V:
        """Return an answer that is at most `seconds` old. Raises what `ask` raises."""
        loop = asyncio.get_running_loop()
        asked = self._asked.get(key)
        if asked is None or asked.old_at <= loop.time():
            asked = self._asked[key] = _Asked(loop.create_task(_asking(self._ask(key))))
            asked.answer.add_done_callback(partial(self._answered, key, asked))
        # Whoever gives up waiting leaves the question to the others.
        return await asyncio.shield(asked.answer)

    @property
    def held(self) -> int:
        """How many answers are remembered or awaited."""
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
