"""A workspace with deployed assets, its launcher and runs, and a worker of users that does as it is told."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Awaitable, Callable
from typing import Any

import uuid_utils
from temporalio import activity
from temporalio.api.sdk.v1 import WorkflowMetadata
from temporalio.client import Client, WorkflowHistory
from temporalio.service import RPCError
from temporalio.worker import Worker

from entrypoints.temporal_repair import TemporalRepairs
from entrypoints.temporal_runs import TemporalRunStarts
from springline import names
from springline.control.backfills.messages import BackfillRequestAnswer
from springline.control.repair import RepairReport, RepairStatus
from springline.control.runs.messages import (
    AttemptEnded,
    AttemptOrder,
    AttemptsStarted,
    AttemptStarted,
    CancelAsked,
    PoolDoing,
    RunDoing,
    RunEnded,
    RunRequestAnswer,
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


def children_of(history: WorkflowHistory) -> list[str]:
    """Return the ids of the workflows that one started."""
    initiated = (event.start_child_workflow_execution_initiated_event_attributes for event in history.events)
    return [one.workflow_id for one in initiated if one.workflow_id]


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
        self._pools: set[str] = set()
        self._backfills: set[str] = set()
        self._asked_repair = False

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
        for workflow_id in (self.evaluator_id, self.launcher_id, self.repair_id):
            with contextlib.suppress(RPCError):
                await self.client.get_workflow_handle(workflow_id).terminate("the test has ended")
        for backfill_id in self._backfills:
            with contextlib.suppress(RPCError):
                await self.backfill_handle(backfill_id).terminate("the test has ended")
        await self._end_begun()
        for pool in self._pools:
            with contextlib.suppress(RPCError):
                await self.pool_handle(pool).terminate("the test has ended")
        if self._users is not None:
            await self._users.__aexit__(None, None, None)
        await super().end()

    async def _end_begun(self) -> None:
        """End the workflows of runs that a backfill has asked for."""
        begun = await self.rows("runs") if self._backfills else []
        for run_id in {str(run["run_id"]) for run in begun} - self._started:
            with contextlib.suppress(RPCError):
                await self.run_handle(run_id).terminate("the test has ended")

    @activity.defn(name=names.RUN_ATTEMPT)
    async def _run_attempt(self, order: AttemptOrder) -> AttemptEnded:
        self.orders.append(order)
        act = self.acts.get(order.task_key)
        return succeeded() if act is None else await act(order)

    async def say_started(self, order: AttemptOrder, grace_ms: int = 10_000) -> None:
        """Tell the run that a worker has begun an attempt."""
        started = AttemptStarted(
            task_key=order.task_key,
            attempt=order.attempt,
            attempt_id=order.attempt_id,
            worker_id="w-1",
            started_at_ms=now_ms(),
            grace_ms=grace_ms,
        )
        handle = self.run_handle(order.run_id)
        await handle.signal(names.ATTEMPTS_STARTED_SIGNAL, AttemptsStarted(attempts=[started]))

    async def note_histories(self) -> None:
        """Remember the histories of launcher and runs, so that they can be recorded; of Repair if it was asked."""
        if self._asked_repair:
            self.other_histories.append(await self.client.get_workflow_handle(self.repair_id).fetch_history())
        singletons = map(self.client.get_workflow_handle, (self.launcher_id, self.evaluator_id))
        pools, runs = map(self.pool_handle, sorted(self._pools)), map(self.run_handle, sorted(self._started))
        backfills = map(self.backfill_handle, sorted(self._backfills))
        for handle in (*singletons, *runs, *pools, *backfills):
            with contextlib.suppress(RPCError):
                history = await handle.fetch_history()
                self.other_histories.append(history)
                for shard_id in children_of(history):
                    self.other_histories.append(await self.client.get_workflow_handle(shard_id).fetch_history())

    # Definitions and requests.

    async def deploy(self, *assets: dict[str, Any], pools: dict[str, int] | None = None) -> None:
        numbers = iter(range(100))
        self._pools |= set(pools or ())
        wanted = part(LOCATION, *assets, pools=pools)
        outcome = await deploy(self.store, wanted, lambda: new_ulid(None, now_ms(), 7 + next(numbers)))
        assert outcome.manifest_id is not None
        self.manifest_id = outcome.manifest_id

    async def ask(self, **asked: Any) -> RunRequestAnswer:
        """Ask for a run as an operator does by the Temporal CLI; the input is plain."""
        place = {"tenant": self.scope.tenant, "workspace": self.scope.workspace}
        handle = await self.client.start_workflow(
            names.REQUEST_RUN_WORKFLOW,
            place | asked,
            id=f"request-run/{uuid_utils.uuid7()}",
            task_queue=names.RUNS_QUEUE,
            result_type=RunRequestAnswer,
        )
        try:
            answer: RunRequestAnswer = await handle.result()
        finally:
            self.other_histories.append(await handle.fetch_history())
        if answer.run_id is not None:
            self._started.add(answer.run_id)
        return answer

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

    @property
    def evaluator_id(self) -> str:
        return names.schedule_evaluator_id(self.scope.tenant, self.scope.workspace)

    @property
    def repair_id(self) -> str:
        return names.repair_workflow_id(self.scope.tenant, self.scope.workspace)

    async def repair(self, *, dry_run: bool = False) -> RepairReport:
        """Have Repair make a pass."""
        self._asked_repair = True
        return await TemporalRepairs(self.client).run(self.scope, dry_run=dry_run)

    async def repair_status(self) -> RepairStatus:
        """Return what Repair says of itself."""
        status = await TemporalRepairs(self.client).status(self.scope)
        assert status is not None
        return status

    def run_handle(self, run_id: str) -> Any:
        workflow_id = names.run_workflow_id(self.scope.tenant, self.scope.workspace, run_id)
        return self.client.get_workflow_handle(workflow_id, result_type=RunEnded)

    def backfill_handle(self, backfill_id: str) -> Any:
        workflow_id = names.backfill_evaluator_id(self.scope.tenant, self.scope.workspace, backfill_id)
        return self.client.get_workflow_handle(workflow_id)

    async def ask_backfill(self, **asked: Any) -> BackfillRequestAnswer:
        """Do with a backfill what an operator does by the Temporal CLI; the input is plain."""
        handle = await self.client.start_workflow(
            names.REQUEST_BACKFILL_WORKFLOW,
            {"tenant": self.scope.tenant, "workspace": self.scope.workspace} | asked,
            id=f"request-backfill/{uuid_utils.uuid7()}",
            task_queue=names.RUNS_QUEUE,
            result_type=BackfillRequestAnswer,
        )
        try:
            answer: BackfillRequestAnswer = await handle.result()
        finally:
            self.other_histories.append(await handle.fetch_history())
        self._backfills.add(answer.backfill_id)
        return answer

    def pool_handle(self, pool: str) -> Any:
        return self.client.get_workflow_handle(names.pool_workflow_id(self.scope.tenant, self.scope.workspace, pool))

    async def pool_doing(self, pool: str) -> PoolDoing:
        """Return what a pool says of itself."""
        doing: PoolDoing = await self.pool_handle(pool).query(names.STATUS_QUERY, result_type=PoolDoing)
        return doing

    async def begun(self, run_id: str) -> Any:
        """Return the handle of a run's workflow, once there is one: a run is on record before it has a workflow."""
        handle = self.run_handle(run_id)

        async def is_there() -> bool:
            with contextlib.suppress(RPCError):
                await handle.describe()
                return True
            return False

        await until(is_there, f"run {run_id} has a workflow")
        return handle

    async def run_ended(self, run_id: str) -> RunEnded:
        """Wait for the end of a run's workflow."""
        handle = await self.begun(run_id)
        ended: RunEnded = await handle.result()
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
        await (await self.begun(run_id)).execute_update(names.CANCEL_UPDATE, asked)

    async def doing(self, run_id: str) -> RunDoing:
        """Return what a run says of itself."""
        status: RunDoing = await (await self.begun(run_id)).query(names.STATUS_QUERY, result_type=RunDoing)
        return status

    async def details_of(self, run_id: str) -> str:
        """Return what the Web UI shows of a run."""
        metadata: WorkflowMetadata = await (await self.begun(run_id)).query(
            "__temporal_workflow_metadata", result_type=WorkflowMetadata
        )
        return metadata.current_details

    async def run_state(self, run_id: str) -> str | None:
        """Return the state of a run's row, None without one."""
        return next((str(run["state"]) for run in await self.rows("runs") if run["run_id"] == run_id), None)

    async def rows(self, table: str, *prefix: str) -> list[dict[str, Any]]:
        """Return rows of the published state by column."""
        snapshot = await self.reader.snapshot(self.scope, [table])
        rows = snapshot[table]
        found = rows.below(prefix) if prefix else list(rows)
        return [dict(zip([column.name for column in rows.table.columns], row, strict=True)) for row in found]
