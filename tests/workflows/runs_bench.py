"""A workspace with deployed assets, its launcher and runs, and a worker of users that does as it is told."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Awaitable, Callable
from typing import Any

import uuid_utils
from temporalio import activity
from temporalio.client import Client
from temporalio.service import RPCError
from temporalio.worker import Worker

from entrypoints.temporal_runs import TemporalRunStarts
from springline import names
from springline.control.runs.messages import (
    AttemptEnded,
    AttemptOrder,
    AttemptsStarted,
    AttemptStarted,
    CancelAsked,
    RunDoing,
    RunEnded,
)
from springline.deployed.deploying import deploy
from springline.ledger.identifiers import run_id_of_key
from springline.ledger.request import AppendRequest, NewEvent
from springline.published.reader import PublishedReader
from springline.ulids import new_ulid
from tests.support.definitions import part
from tests.workflows.faults import Faults
from tests.workflows.ledger_bench import LedgerBench
from tests.workflows.runs import until

LOCATION = "flights"
Act = Callable[[AttemptOrder], Awaitable[AttemptEnded]]


def now_ms() -> int:
    return int(time.time() * 1_000)


def succeeded(**more: Any) -> AttemptEnded:
    return AttemptEnded(outcome="succeeded", worker_id="w-1", started_at_ms=now_ms(), ended_at_ms=now_ms(), **more)


def failed(message: str = "no luck", category: Any = "USER_CODE", **more: Any) -> AttemptEnded:
    return AttemptEnded(
        outcome="failed",
        worker_id="w-1",
        started_at_ms=now_ms(),
        ended_at_ms=now_ms(),
        category=category,
        message=message,
        **more,
    )


class RunsBench(LedgerBench):
    """A workspace in memory, the workflows of its ledger and runs, and a worker of users.

    `acts`: what an attempt of a task does, by its key; without one it succeeds at once. `orders`: all that came.
    """

    def __init__(self, client: Client, faults: Faults, max_cached_workflows: int) -> None:
        super().__init__(client, faults, max_cached_workflows)
        self.acts: dict[str, Act] = {}
        self.orders: list[AttemptOrder] = []
        self.starts = TemporalRunStarts(client)
        self.reader = PublishedReader(self.objects)
        self.manifest_id = ""
        self._users: Worker | None = None
        self._started: set[str] = set()

    async def open(self) -> None:
        await super().open()
        queue = names.attempt_queue(self.scope.tenant, self.scope.workspace, LOCATION)
        self._users = Worker(self.client, task_queue=queue, activities=[self._run_attempt])
        await self._users.__aenter__()

    async def end(self) -> None:
        """Leave nothing running."""
        for run_id in self._started:
            with contextlib.suppress(RPCError):
                await self.run_handle(run_id).terminate("the test has ended")
        with contextlib.suppress(RPCError):
            await self.client.get_workflow_handle(self.launcher_id).terminate("the test has ended")
        if self._users is not None:
            await self._users.__aexit__(None, None, None)
        await super().end()

    @activity.defn(name=names.RUN_ATTEMPT)
    async def _run_attempt(self, order: AttemptOrder) -> AttemptEnded:
        self.orders.append(order)
        act = self.acts.get(order.task_key)
        return succeeded() if act is None else await act(order)

    async def say_started(self, order: AttemptOrder) -> None:
        """Tell the run that a worker has begun an attempt."""
        started = AttemptStarted(
            task_key=order.task_key,
            attempt=order.attempt,
            attempt_id=order.attempt_id,
            worker_id="w-1",
            started_at_ms=now_ms(),
        )
        handle = self.run_handle(order.run_id)
        await handle.signal(names.ATTEMPTS_STARTED_SIGNAL, AttemptsStarted(attempts=[started]))

    async def note_histories(self) -> None:
        """Remember the histories of launcher and runs, so that they can be recorded."""
        for handle in (self.client.get_workflow_handle(self.launcher_id), *map(self.run_handle, sorted(self._started))):
            with contextlib.suppress(RPCError):
                self.other_histories.append(await handle.fetch_history())

    # Definitions and requests.

    async def deploy(self, *assets: dict[str, Any]) -> None:
        numbers = iter(range(100))
        outcome = await deploy(self.store, part(LOCATION, *assets), lambda: new_ulid(None, now_ms(), 7 + next(numbers)))
        assert outcome.manifest_id is not None
        self.manifest_id = outcome.manifest_id

    def request_of(self, run_key: str, *assets: str, **more: Any) -> AppendRequest:
        data = {
            "type": "run_requested",
            "run_key": run_key,
            "request_fingerprint": "f",
            "asset_selection": list(assets),
            "trigger_source_ref": {"type": "manual", "user_id": "tester", "request_id": run_key},
            "code_version": self.manifest_id,
            **more,
        }
        return AppendRequest(request_id=str(uuid_utils.uuid7()), events=[NewEvent(data=data)])

    async def request(self, run_key: str, *assets: str, **more: Any) -> str:
        """Record a request for a run, and return the run's id."""
        await self.append_one(self.request_of(run_key, *assets, **more))
        run_id = run_id_of_key(self.scope.tenant, self.scope.workspace, run_key, b"")
        self._started.add(run_id)
        return run_id

    async def launch(self, run_key: str, *assets: str, **more: Any) -> str:
        """Request a run; the ledger tells the launcher."""
        return await self.request(run_key, *assets, **more)

    # What becomes of them.

    @property
    def launcher_id(self) -> str:
        return names.run_launcher_id(self.scope.tenant, self.scope.workspace)

    def run_handle(self, run_id: str) -> Any:
        workflow_id = names.run_workflow_id(self.scope.tenant, self.scope.workspace, run_id)
        return self.client.get_workflow_handle(workflow_id, result_type=RunEnded)

    async def run_ended(self, run_id: str) -> RunEnded:
        """Wait for the end of a run's workflow."""

        async def is_there() -> bool:
            with contextlib.suppress(RPCError):
                await self.run_handle(run_id).describe()
                return True
            return False

        await until(is_there, f"run {run_id} has a workflow")

        async def has_ended() -> bool:
            described = await self.run_handle(run_id).describe()
            return described.close_time is not None

        # The test server answers a long poll of 20 s without an event.
        await until(has_ended, f"run {run_id} has ended")
        ended: RunEnded = await self.run_handle(run_id).result()
        return ended

    async def hold(self, held: bool) -> None:
        """Hold the workspace, or let it go on."""
        data = {
            "type": "springline_hold_changed",
            "change_id": str(uuid_utils.uuid7()),
            "held": held,
            "changed_by": "tester",
        }
        await self.append_one(AppendRequest(request_id=str(uuid_utils.uuid7()), events=[NewEvent(data=data)]))

    async def cancel(self, run_id: str) -> None:
        """Cancel a run, as the API does first."""
        asked = CancelAsked(requested_by="tester", reason="enough")
        await self.run_handle(run_id).execute_update(names.CANCEL_UPDATE, asked)

    async def doing(self, run_id: str) -> RunDoing:
        """Return what a run says of itself."""
        status: RunDoing = await self.run_handle(run_id).query(names.STATUS_QUERY, result_type=RunDoing)
        return status

    async def run_state(self, run_id: str) -> str | None:
        """Return the state of a run's row, None without one."""
        return next((str(run["state"]) for run in await self.rows("runs") if run["run_id"] == run_id), None)

    async def rows(self, table: str, *prefix: str) -> list[dict[str, Any]]:
        """Return rows of the published state by column."""
        snapshot = await self.reader.snapshot(self.scope, [table])
        rows = snapshot[table]
        found = rows.below(prefix) if prefix else list(rows)
        return [dict(zip([column.name for column in rows.table.columns], row, strict=True)) for row in found]
