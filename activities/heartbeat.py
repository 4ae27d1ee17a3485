"""Heartbeats from a timer: a killed worker is noticed within the heartbeat timeout, not the activity's."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from temporalio import activity

INTERVAL_S = 0.3


@asynccontextmanager
async def heartbeating(
    interval_s: float = INTERVAL_S,
    *,
    each: Callable[[], None] | None = None,
    details: Callable[[], Sequence[object]] | None = None,
) -> AsyncIterator[None]:
    """Heartbeat every `interval_s` seconds while the body runs, and call `each` with every beat.

    `details` returns what a beat carries: how far the work is, for people who look at the running activity.
    """
    task = asyncio.create_task(_beat(interval_s, each, details))
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def _beat(
    interval_s: float, each: Callable[[], None] | None, details: Callable[[], Sequence[object]] | None
) -> None:
    while True:
        await asyncio.sleep(interval_s)
        activity.heartbeat(*(details() if details is not None else ()))
        if each is not None:
            each()
