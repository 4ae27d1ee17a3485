"""Work for the processor, away from the event loop."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from springline.storage.turns import processor_turns

T = TypeVar("T")


async def in_turn(work: Callable[[], T]) -> T:
    """As `in_thread`, for work that takes long and of which much goes on at once: one after the other."""
    async with processor_turns().turn():
        return await in_thread(work)


async def timed_in_thread(work: Callable[[], T]) -> tuple[T, float]:
    """As `in_thread`; return also how many seconds the work took, once it had its thread."""

    def timed() -> tuple[T, float]:
        began = time.perf_counter()
        result = work()
        return result, time.perf_counter() - began

    return await in_thread(timed)


async def in_thread(work: Callable[[], T]) -> T:
    """Run `work` in a thread and return its result.

    A thread cannot be stopped: if the caller is cancelled, the cancellation goes on only when `work` has ended, so
    that nobody else touches what it works on, and no lock is given up, before.
    """
    task = asyncio.ensure_future(asyncio.to_thread(_uncollected, work))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        while not task.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait([task])
        if not task.cancelled():
            task.exception()
        raise


def _uncollected(work: Callable[[], T]) -> T:
    """Do `work` while cyclic garbage waits.

    Such work makes many objects, keeps most of them and makes no cycles, and looking through them, and through the
    whole state beside them, again and again costs a tenth of its time.
    """
    collecting = gc.isenabled()
    gc.disable()
    try:
        return work()
    finally:
        if collecting:
            gc.enable()
