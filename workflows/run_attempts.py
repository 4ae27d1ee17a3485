"""Attempts of tasks as activities of users' workers: begun, cancelled, and what came of each."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta

from temporalio import workflow
from temporalio.exceptions import ActivityError, CancelledError, TimeoutError, TimeoutType

with workflow.unsafe.imports_passed_through():
    from springline import names
    from springline.control.runs.messages import AttemptEnded, AttemptReport, PlacedOrder
    from workflows.policies import ATTEMPT_ONCE


class AttemptsUnderWay:
    """The attempts that this workflow makes. `report` is called with what came of each."""

    def __init__(self, report: Callable[[AttemptReport], None]) -> None:
        self._report = report
        self._handles: dict[str, workflow.ActivityHandle[AttemptEnded]] = {}
        self._following: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        """Return how many are under way."""
        return len(self._handles)

    def begin(self, placed: PlacedOrder) -> None:
        """Begin an attempt."""
        order = placed.order
        handle = workflow.start_activity(
            names.RUN_ATTEMPT,
            order,
            task_queue=placed.task_queue,
            result_type=AttemptEnded,
            start_to_close_timeout=timedelta(milliseconds=placed.limit_ms),
            heartbeat_timeout=timedelta(milliseconds=placed.heartbeat_ms),
            retry_policy=ATTEMPT_ONCE,
            cancellation_type=workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
            summary=f"{order.task_key}, attempt {order.attempt}",
        )
        self._handles[order.attempt_id] = handle
        following = asyncio.create_task(self._follow(placed, handle))
        self._following.add(following)
        following.add_done_callback(self._following.discard)

    def end(self, attempt_id: str) -> None:
        """Cancel an attempt; one that is not under way is passed over."""
        handle = self._handles.get(attempt_id)
        if handle is not None:
            handle.cancel()

    def end_all(self) -> None:
        """Cancel all attempts."""
        for handle in self._handles.values():
            handle.cancel()

    async def _follow(self, placed: PlacedOrder, handle: workflow.ActivityHandle[AttemptEnded]) -> None:
        """Wait for the end of an attempt, and say how it was."""
        order = placed.order
        ended, lost, silent = None, None, False
        try:
            ended = await handle
        except ActivityError as error:
            lost = _how_it_was_lost(error.cause, placed.heartbeat_ms)
            silent = isinstance(error.cause, TimeoutError)
        except CancelledError:
            pass
        finally:
            self._handles.pop(order.attempt_id, None)
        report = AttemptReport(
            task_key=order.task_key, attempt_id=order.attempt_id, ended=ended, lost=lost, silent=silent
        )
        self._report(report)


def _how_it_was_lost(cause: BaseException | None, heartbeat_ms: int) -> str | None:
    """Return how an attempt was lost of which its worker said nothing; None if it was cancelled before one took it."""
    if isinstance(cause, CancelledError):
        return None
    if isinstance(cause, TimeoutError) and cause.type is TimeoutType.START_TO_CLOSE:
        return "it took longer than its timeout, and its worker did not end it"
    if isinstance(cause, TimeoutError):
        return f"its worker gave no sign of life for {heartbeat_ms / 1_000:g} s"
    return f"its worker could not finish it: {cause}"
