"""How a sequencer's run is cancelled: it takes no more, finishes what it has, and ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from temporalio import workflow

MARKED = "cancellation-marked"
"""The patch by which a run that was cancelled before marks existed is told apart, and goes on without one."""

R = TypeVar("R")


async def finish_though_cancelled(work: asyncio.Task[R], drain: Callable[[], None]) -> R:
    """Return what `work` comes to; a cancellation of the run calls `drain` and leaves the work alone.

    It also leaves a marker in the history. A workflow task that leaves nothing behind is joined with the next one
    when the run is replayed. One activation then brings the cancellation and an update that came after it, in the
    order of the SDK: updates are judged first, and a run that ought to take no more would take one.
    """
    while not work.done():
        try:
            await asyncio.shield(work)
        except asyncio.CancelledError:
            drain()
            workflow.patched(MARKED)
    return work.result()
