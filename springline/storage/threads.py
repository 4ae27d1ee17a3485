"""Blocking calls off the event loop, on a bounded number of threads."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


class Threads:
    """A pool of at most `size` threads; further calls wait for a free one."""

    def __init__(self, name: str, size: int) -> None:
        self._executor = ThreadPoolExecutor(max_workers=size, thread_name_prefix=name)

    async def run(self, call: Callable[[], T]) -> T:
        """Run `call` on a thread and return its result or raise its error.

        If the caller is cancelled, a call that has not begun never begins, and one that has is waited for
        before the cancellation goes on: no operation outlives its caller.
        """
        work = self._executor.submit(call)
        answer = asyncio.wrap_future(work)
        try:
            return await asyncio.shield(answer)
        except asyncio.CancelledError:
            if not work.cancel():
                await _ended(answer)
            raise

    async def aclose(self) -> None:
        """Wait for the calls under way and end the threads."""
        await asyncio.to_thread(self._executor.shutdown, wait=True)


async def _ended(answer: asyncio.Future[T]) -> None:
    """Wait for `answer` however often the waiting is cancelled, and take note of its error."""
    while not answer.done():
        try:
            await asyncio.wait([answer])
        except asyncio.CancelledError:
            continue
    if not answer.cancelled():
        answer.exception()
