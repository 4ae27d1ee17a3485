"""The activity of users' workers: one attempt. Its run hears of starts by signals, of the end by the result.

It heartbeats by itself and raises no errors of user code, so it does without `activities.interceptor`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final, TypeVar

from temporalio import activity
from temporalio.client import Client
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError, RPCStatusCode

from springline import names
from springline.control.runs.messages import AttemptEnded, AttemptOrder, AttemptsStarted, AttemptStarted
from springline.storage.together import beside
from springline.work.attempts import AttemptMaker, Watching

logger = logging.getLogger("springline.work")

HEARTBEAT_S: Final = 1.0
GROUPED_S: Final = 0.25
"""For how long a worker gathers what it has begun for one run, before it tells the run."""

R = TypeVar("R")
Tell = Callable[[str, AttemptsStarted], Awaitable[None]]
"""Tells a run, by its workflow id, what was begun."""


class StartSignals:
    """Starts of attempts, told to their runs: one signal for all that begin within `grouped_s` seconds."""

    def __init__(self, tell: Tell, grouped_s: float = GROUPED_S) -> None:
        self._tell = tell
        self._grouped_s = grouped_s
        self._waiting: dict[str, list[AttemptStarted]] = {}
        self._telling: set[asyncio.Task[None]] = set()

    def add(self, workflow_id: str, started: AttemptStarted) -> None:
        """Tell a run of a start, soon."""
        waiting = self._waiting.get(workflow_id)
        if waiting is not None:
            waiting.append(started)
            return
        self._waiting[workflow_id] = [started]
        task = asyncio.create_task(self._tell_soon(workflow_id))
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)

    def ended(self, workflow_id: str, attempt_id: str) -> None:
        """Tell nobody of a start that the end has overtaken: the end says it, too."""
        waiting = self._waiting.get(workflow_id, [])
        waiting[:] = [one for one in waiting if one.attempt_id != attempt_id]

    async def _tell_soon(self, workflow_id: str) -> None:
        await asyncio.sleep(self._grouped_s)
        started = AttemptsStarted(attempts=self._waiting.pop(workflow_id))
        if not started.attempts:
            return
        try:
            await self._tell(workflow_id, started)
        except RPCError as error:
            # The end of each attempt has its start, too: what is lost here is news a moment earlier.
            if error.status is not RPCStatusCode.NOT_FOUND:
                logger.warning("%s was not told of %d starts: %s", workflow_id, len(started.attempts), error)

    async def aclose(self) -> None:
        """Wait until everything is told."""
        await asyncio.gather(*self._telling, return_exceptions=True)


def signals_by(client: Client) -> Tell:
    """Return what signals the runs of a client's namespace."""

    async def tell(workflow_id: str, started: AttemptsStarted) -> None:
        await client.get_workflow_handle(workflow_id).signal(names.ATTEMPTS_STARTED_SIGNAL, started)

    return tell


class AttemptActivities:
    """Attempts of one code location, made by `maker`. `worker_id` is the worker's identity in Temporal."""

    def __init__(self, maker: AttemptMaker, starts: StartSignals, worker_id: str) -> None:
        self._maker = maker
        self._starts = starts
        self._worker_id = worker_id

    @activity.defn(name=names.RUN_ATTEMPT)
    async def run_attempt(self, order: AttemptOrder) -> AttemptEnded:
        """Make one attempt and return how it ended, an error of user code and a cancellation included.

        Cancelled by its run, or given up by Temporal, it tells its function to stop, and waits for that. Raises
        `ApplicationError` (WORKER_STOPPED) if this worker is going down and has ended it: another one may make it.
        """
        workflow_id = names.run_workflow_id(order.tenant, order.workspace, order.run_id)
        stop = asyncio.Event()
        progress: dict[str, float | str | None] = {}

        def started(at_ms: int) -> None:
            self._starts.add(
                workflow_id,
                AttemptStarted(
                    task_key=order.task_key,
                    attempt=order.attempt,
                    attempt_id=order.attempt_id,
                    worker_id=self._worker_id,
                    started_at_ms=at_ms,
                    grace_ms=int(self._maker.grace_s * 1_000),
                ),
            )

        def told(done: float, message: str | None) -> None:
            progress.update(progress=done, message=message)

        async with beside(_beat(progress)):
            ended = await told_to_stop(self._maker.make(order, stop, Watching(started, told)), stop)
            self._starts.ended(workflow_id, order.attempt_id)
        details = activity.cancellation_details()
        if ended.outcome == "cancelled" and details is not None and details.worker_shutdown:
            raise ApplicationError(
                f"worker {self._worker_id} was told to end, and has stopped {order.task_key}, attempt {order.attempt}",
                type=names.WORKER_STOPPED,
            )
        return ended


async def told_to_stop(
    work: Coroutine[Any, Any, R], stop: asyncio.Event, *, stops: Callable[[], bool] | None = None
) -> R:
    """Return what user code's work comes to; a cancellation of the activity sets `stop`, and does not cancel it.

    `stops` says of a cancellation whether it concerns work that has begun; without it each one does.
    """
    making = asyncio.create_task(work)
    while not making.done():
        try:
            await asyncio.shield(making)
        except asyncio.CancelledError:
            if making.cancelled():
                raise
            if stops is None or stops():
                stop.set()
    return making.result()


async def _beat(progress: dict[str, float | str | None]) -> None:
    limit = activity.info().heartbeat_timeout
    # An asset may ask for less patience than the usual ten seconds.
    pause_s = HEARTBEAT_S if limit is None else min(HEARTBEAT_S, limit.total_seconds() / 4)
    # A heartbeat is a write in Temporal, and many attempts are over before the first.
    while True:
        await asyncio.sleep(pause_s)
        activity.heartbeat(*([dict(progress)] if progress else []))
