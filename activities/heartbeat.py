"""Heartbeats from a timer: a killed worker is noticed within the heartbeat timeout, not the activity's."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from temporalio import activity

INTERVAL_S = 0.4


@asynccontextmanager
async def heartbeating(
    interval_s: float = INTERVAL_S, *, each: Callable[[], None] | None = None
) -> AsyncIterator[None]:
    """Heartbeat every `interval_s` seconds while the body runs, and call `each` with every beat."""
    task = asyncio.create_task(_beat(interval_s, each))
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def _beat(interval_s: float, each: Callable[[], None] | None) -> None:
    while True:
        await asyncio.sleep(interval_s)
        activity.heartbeat()
        if each is not None:
            each()
