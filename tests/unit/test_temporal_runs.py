"""What a caller process makes of the workflows of runs: how it calls them, and that no fault of theirs is its own."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, cast

import pytest
from pydantic import BaseModel
from temporalio.client import Client, WorkflowUpdateFailedError, WorkflowUpdateRPCTimeoutOrCancelledError
from temporalio.common import WorkflowIDConflictPolicy
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError, RPCStatusCode

from entrypoints.temporal_runs import TemporalRuns, TemporalRunStarts
from springline import names
from springline.control.runs.messages import CancelAsked, LaunchAsked, LauncherStart
from springline.paths import Scope
from workflows.policies import BRIEF_TASK_TIMEOUT, WORKFLOW_TASK_TIMEOUT

SCOPE = Scope("acme", "prod")
DOWN = RPCError("connection refused", RPCStatusCode.UNAVAILABLE, b"")
GONE = RPCError("workflow not found", RPCStatusCode.NOT_FOUND, b"")
FAULTS: list[Exception] = [
    DOWN,
    GONE,
    RuntimeError("Failed client connect"),
    WorkflowUpdateRPCTimeoutOrCancelledError(),
    WorkflowUpdateFailedError(ApplicationError("the run is ending")),
]


class FakeClient:
    """A Temporal client whose updates end with `fault`, if there is one, or never."""

    def __init__(self, fault: Exception | None = None, *, hangs: bool = False) -> None:
        self.fault = fault
        self.hangs = hangs
        self.updates: list[tuple[str, str, BaseModel]] = []
        self.starts: list[Any] = []

    async def execute_update_with_start_workflow(
        self, update: str, arg: BaseModel, *, start_workflow_operation: Any, rpc_timeout: Any
    ) -> None:
        self.starts.append(start_workflow_operation._start_workflow_input)
        await self.update(self.starts[-1].id, update, arg)

    async def start_workflow(self, workflow: str, **how: Any) -> None:
        self.starts.append((workflow, how))

    def get_workflow_handle(self, workflow_id: str) -> FakeHandle:
        return FakeHandle(self, workflow_id)

    async def update(self, workflow_id: str, update: str, arg: BaseModel) -> None:
        self.updates.append((workflow_id, update, arg))
        if self.hangs:
            await asyncio.Event().wait()
        if self.fault is not None:
            raise self.fault


class FakeHandle:
    def __init__(self, client: FakeClient, workflow_id: str) -> None:
        self._client = client
        self._id = workflow_id

    async def execute_update(self, update: str, arg: BaseModel, *, rpc_timeout: Any) -> None:
        await self._client.update(self._id, update, arg)


def runs(client: FakeClient, **options: float) -> TemporalRuns:
    return TemporalRuns(cast(Client, client), **options)


async def test_a_launch_starts_the_launcher_of_the_workspace_with_all_that_finds_it() -> None:
    client = FakeClient()
    await runs(client).launch(SCOPE, "k")
    assert client.updates == [("evaluator/runs/acme/prod", names.LAUNCH_UPDATE, LaunchAsked(run_keys=["k"]))]
    (start,) = client.starts
    assert start.workflow == names.RUN_LAUNCHER
    assert start.task_queue == names.RUNS_QUEUE
    assert start.task_timeout == BRIEF_TASK_TIMEOUT
    assert start.args == [LauncherStart(tenant="acme", workspace="prod")]
    assert {pair.key.name for pair in start.search_attributes} == {names.SEARCH_TENANT, names.SEARCH_WORKSPACE}


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_launch_that_fails_is_logged_and_no_error(fault: Exception, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "springline.temporal"):
        await runs(FakeClient(fault)).launch(SCOPE, "k")
    assert "runs of acme/prod" in caplog.text
    assert type(fault).__name__ in caplog.text


async def test_neither_waits_longer_than_it_may(caplog: pytest.LogCaptureFixture) -> None:
    client = FakeClient(hangs=True)
    with caplog.at_level(logging.WARNING, "springline.temporal"):
        await runs(client, launch_s=0.01).launch(SCOPE, "k")
        assert await runs(client, cancel_s=0.01).cancel(SCOPE, "run_1", "ada", None) is False
    assert caplog.text.count("TimeoutError") == 2


async def test_a_run_cancels_itself() -> None:
    client = FakeClient()
    assert await runs(client).cancel(SCOPE, "run_1", "ada", "wrong day") is True
    asked = CancelAsked(requested_by="ada", reason="wrong day", reason_code="USER_REQUEST")
    assert client.updates == [("run/acme/prod/run_1", names.CANCEL_UPDATE, asked)]


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_run_that_does_not_answer_is_left_to_the_caller(
    fault: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "springline.temporal"):
        assert await runs(FakeClient(fault)).cancel(SCOPE, "run_1", "ada", None) is False
    # A run without a workflow is nothing to worry about.
    assert ("run/acme/prod/run_1" in caplog.text) == (fault is not GONE)


async def test_a_run_that_is_looked_after_hears_nothing_if_it_is_executed() -> None:
    client = FakeClient()
    starts = TemporalRunStarts(cast(Client, client))
    await starts.start(SCOPE, "run_1")
    await starts.start_missing(SCOPE, "run_1")
    (woken, how), (missing, quiet) = client.starts
    assert (woken, missing) == (names.RUN_WORKFLOW, names.RUN_WORKFLOW)
    assert quiet["id_conflict_policy"] is WorkflowIDConflictPolicy.USE_EXISTING
    assert quiet["task_timeout"] == WORKFLOW_TASK_TIMEOUT, "a run may replay more events than a second is enough for"
    assert how.pop("start_signal") == names.WAKE_SIGNAL
    assert how == quiet
