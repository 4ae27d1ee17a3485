"""One workflow, its runs, a store in memory and a worker: what the tests of long-lived workflows work with."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

from temporalio.api.enums.v1 import EventType
from temporalio.api.sdk.v1 import WorkflowMetadata
from temporalio.client import Client, WorkflowHandle, WorkflowHistory
from temporalio.service import RPCError
from temporalio.worker import Worker

from springline import names
from springline.storage.faults import FaultyStore
from springline.storage.memory import MemoryStore
from tests.workflows.faults import Faults
from worker import build_workers

WITHOUT_CACHE = os.environ.get("SPRINGLINE_MAX_CACHED_WORKFLOWS") == "0"
"""Every task of a workflow is replayed from its beginning."""
DEADLINE_S = 400.0 if WITHOUT_CACHE else 240.0
POLL_S = 0.25 if WITHOUT_CACHE else 0.01
"""Whoever looks by a query has the whole run replayed without a cache."""


@dataclass(frozen=True)
class Attempt:
    """One activity of a history: its name and the attempt that brought its result."""

    activity: str
    attempt: int


class WorkflowBench:
    """A workflow by its id, faults for its activities, and a worker that can be stopped and started."""

    def __init__(self, client: Client, faults: Faults, max_cached_workflows: int, workflow_id: str) -> None:
        self.client = client
        self.faults = faults
        self.workflow_id = workflow_id
        self.objects = MemoryStore()
        self.faulty = FaultyStore(self.objects)
        """The store as the worker has it: its hook decides what becomes of the worker's operations."""
        self.run_ids: list[str] = []
        self.other_histories: list[WorkflowHistory] = []
        """Of runs of other workflows that the test started."""
        self._max_cached = max_cached_workflows
        self._workers = AsyncExitStack()

    async def start_worker(self, **settings: Any) -> None:
        workers: Sequence[Worker] = build_workers(
            self.client,
            self.faulty,
            queues=names.ALL_QUEUES,
            max_cached_workflows=self._max_cached,
            grace_s=1,
            **settings,
        )
        for worker in workers:
            await self._workers.enter_async_context(worker)

    async def stop_worker(self) -> None:
        await self._workers.aclose()

    async def end(self) -> None:
        """Leave nothing running, however the test ended."""
        with contextlib.suppress(RPCError):
            await self.handle.terminate("the test has ended")
        await self.stop_worker()

    async def note_run(self) -> None:
        """Remember the run that exists now, so that its history can be recorded."""
        run_id = (await self.handle.describe()).run_id
        if run_id not in self.run_ids:
            self.run_ids.append(run_id)

    @property
    def handle(self) -> WorkflowHandle[Any, Any]:
        return self.client.get_workflow_handle(self.workflow_id)

    async def current_details(self, run_id: str | None = None) -> str:
        """Return the Markdown that the Web UI shows of a run, by default the latest."""
        handle = self.client.get_workflow_handle(self.workflow_id, run_id=run_id)
        metadata: WorkflowMetadata = await handle.query("__temporal_workflow_metadata", result_type=WorkflowMetadata)
        return metadata.current_details

    async def history(self, run_id: str | None = None) -> WorkflowHistory:
        return await self.client.get_workflow_handle(self.workflow_id, run_id=run_id).fetch_history()

    async def marks_cancellation(self, run_id: str) -> bool:
        """Say whether the workflow task that brought a run's cancellation left a marker in its history."""
        events = (await self.history(run_id)).events
        kinds = [event.event_type for event in events]
        cancelled = kinds.index(EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CANCEL_REQUESTED)
        completed = kinds.index(EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED, cancelled)
        return kinds[completed + 1] == EventType.EVENT_TYPE_MARKER_RECORDED

    async def attempts(self) -> list[Attempt]:
        """Return the completed activities of all runs, in the order in which they were scheduled."""
        found: list[Attempt] = []
        for run_id in self.run_ids:
            events = (await self.history(run_id)).events
            names_by_id = {
                event.event_id: event.activity_task_scheduled_event_attributes.activity_type.name
                for event in events
                if event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED
            }
            started = {
                event.activity_task_started_event_attributes.scheduled_event_id: (
                    event.activity_task_started_event_attributes.attempt
                )
                for event in events
                if event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_STARTED
            }
            found += [Attempt(name, started[event_id]) for event_id, name in names_by_id.items() if event_id in started]
        return found

    async def runs_step(self, step: str) -> bool:
        """Say whether the activity `step` is under way."""
        with contextlib.suppress(RPCError):
            description = await self.handle.describe()
            return any(one.activity_type.name == step for one in description.raw_description.pending_activities)
        return False


async def until(condition: Callable[[], Awaitable[bool]], what: str) -> None:
    """Return as soon as `condition` holds, which nobody announces; fails after a deadline."""
    try:
        async with asyncio.timeout(DEADLINE_S):
            while not await condition():  # noqa: ASYNC110
                await asyncio.sleep(POLL_S)
    except TimeoutError:
        raise AssertionError(f"not within {DEADLINE_S:g} s: {what}") from None


def scrubbed(history: WorkflowHistory) -> str:
    """Return a history as JSON without what depends on the machine that made it: paths in stack traces."""
    data = json.loads(history.to_json())
    _scrub(data)
    return json.dumps(data, separators=(",", ":"), sort_keys=True)


def _scrub(value: Any) -> None:
    if isinstance(value, dict):
        value.pop("stackTrace", None)
        for one in value.values():
            _scrub(one)
    elif isinstance(value, list):
        for one in value:
            _scrub(one)
