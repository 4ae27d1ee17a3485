"""Telling how far the loading of a large state is: with every heartbeat, and now and then to the workflow itself."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

from temporalio import activity
from temporalio.client import Client
from temporalio.service import RPCError

from springline import names

TOLD_EVERY_S = 2.0
"""A signal is an event in the workflow's history: they are few."""


class Loading:
    """What the heartbeats of one step carry. `progress` returns how far loading is, None while nothing is loaded."""

    def __init__(self, progress: Callable[[], str | None]) -> None:
        self._progress = progress
        self._told_at = time.monotonic()
        self._telling: asyncio.Task[None] | None = None

    def details(self) -> Sequence[object]:
        """Return what the next heartbeat carries; tell the workflow, if loading takes long."""
        text = self._progress()
        if text is None:
            return ()
        now = time.monotonic()
        if now - self._told_at >= TOLD_EVERY_S and (self._telling is None or self._telling.done()):
            self._told_at = now
            try:
                client = activity.client()
            except RuntimeError:
                return (text,)  # Not run by a worker.
            self._telling = asyncio.create_task(_tell(client, text))
        return (text,)


async def _tell(client: Client, text: str) -> None:
    """Tell the workflow; it is for people, and nothing rests on it."""
    info = activity.info()
    if info.workflow_id is None:
        return
    try:
        await client.get_workflow_handle(info.workflow_id, run_id=info.workflow_run_id).signal(
            names.LOADING_SIGNAL, text
        )
    except RPCError as error:
        activity.logger.info("the workflow was not told how far loading is: %s", error)
