"""Callers of an update that a workflow answers one after the other, between its own work."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from temporalio.exceptions import ActivityError, ApplicationError

from springline import names

MOST_ASKING = 20
"""Callers that wait at once."""

Asked = TypeVar("Asked")
Answer = TypeVar("Answer")


class Callers(Generic[Asked, Answer]):
    """Those who wait for an answer, in the order in which they came; true if there are any."""

    def __init__(self) -> None:
        self._waiting: list[tuple[Asked, asyncio.Future[Answer]]] = []

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def check(self, *, is_ending: bool) -> None:
        """Refuse another one, in the update's validator, if the workflow ends or many wait already."""
        if is_ending or len(self._waiting) >= MOST_ASKING:
            raise ApplicationError("it ends, or many wait already; ask again in a moment", type=names.ROLLING_OVER)

    async def wait(self, asked: Asked) -> Answer:
        """Wait for the answer, in the update's handler; raises the `ApplicationError` that it was answered with."""
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((asked, answer))
        return await answer

    async def answer_first(self, make: Callable[[Asked], Awaitable[Answer]]) -> None:
        """Answer the first one with what `make` returns, or with the error that it raises or that a step ended in."""
        asked, answer = self._waiting.pop(0)
        try:
            answer.set_result(await make(asked))
        except ApplicationError as error:
            answer.set_exception(error)
        except ActivityError as error:
            answer.set_exception(ApplicationError(str(error.cause or error), non_retryable=True))
