"""Attempts over HTTP on their way to workers: one activity each, which Temporal tries until the worker is there."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from temporalio import workflow
from temporalio.exceptions import ActivityError, CancelledError

with workflow.unsafe.imports_passed_through():
    from springline import names
    from springline.control.runs.messages import AttemptOrder, Posted
    from springline.control.runs.progress import RunProgress
    from workflows.lifecycle import now_ms
    from workflows.policies import POST_RETRY, POST_START_TO_CLOSE, RUN_HEARTBEAT

Say = Callable[[Callable[[RunProgress], None]], None]


class Posts:
    """What a run is posting. `say` gets what is to be told to its progress."""

    def __init__(self, say: Say) -> None:
        self._say = say
        self._posts: dict[str, workflow.ActivityHandle[Posted]] = {}
        self._following: set[asyncio.Task[None]] = set()

    def begin(self, order: AttemptOrder) -> None:
        """Post an attempt, until its worker has taken it."""
        handle = workflow.start_activity(
            names.POST_ATTEMPT,
            order,
            task_queue=names.RUNS_QUEUE,
            result_type=Posted,
            start_to_close_timeout=POST_START_TO_CLOSE,
            heartbeat_timeout=RUN_HEARTBEAT,
            retry_policy=POST_RETRY,
            summary=f"post {order.task_key}, attempt {order.attempt}, to {order.url}",
        )
        self._posts[order.attempt_id] = handle
        following = asyncio.create_task(self._follow(order, handle))
        self._following.add(following)
        following.add_done_callback(self._following.discard)

    def end(self, attempt_id: str) -> None:
        """Post an attempt no more; one that is not on its way is passed over."""
        handle = self._posts.pop(attempt_id, None)
        if handle is not None:
            handle.cancel()

    async def _follow(self, order: AttemptOrder, handle: workflow.ActivityHandle[Posted]) -> None:
        """Wait until a worker has taken an attempt, or will not; of one that is posted no more nothing is said."""
        key, attempt_id = order.task_key, order.attempt_id
        try:
            posted = await handle
        except ActivityError as error:
            if not isinstance(error.cause, CancelledError):
                message = f"it could not be posted: {error.cause}"
                self._say(lambda progress: progress.not_taken(key, attempt_id, message, now_ms(), final=False))
        except CancelledError:
            workflow.logger.debug("%s is not posted any more", attempt_id)
        else:
            refused = posted.refused
            if refused is None:
                self._say(lambda progress: progress.taken(key, attempt_id, now_ms()))
            else:
                self._say(lambda progress: progress.not_taken(key, attempt_id, refused, now_ms(), final=True))
        finally:
            if self._posts.get(attempt_id) is handle:
                del self._posts[attempt_id]
