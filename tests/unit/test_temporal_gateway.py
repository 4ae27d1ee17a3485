"""What the gateway makes of Temporal's answers: who tries again, how, and who is refused."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest
from temporalio.client import (
    Client,
    WithStartWorkflowOperation,
    WorkflowUpdateFailedError,
    WorkflowUpdateRPCTimeoutOrCancelledError,
)
from temporalio.common import TypedSearchAttributes
from temporalio.exceptions import ApplicationError, TerminatedError, WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from entrypoints.temporal import TemporalCommitGateway
from springline import names
from springline.commit.coalescer import Coalescer
from springline.delta.request import CommitRequest, CommitResult, Mode, Outcome
from springline.errors import Code, Refusal
from springline.paths import Scope
from springline.requests.gateway import BatchRefused, TryAgain
from workflows.messages import BatchResult, CommitBatch, CommitStart

SCOPE = Scope("acme", "prod")
TABLE = "01946b1c-0000-7000-8000-0000000000aa"


def request(number: int) -> CommitRequest:
    return CommitRequest(
        idempotency_key=f"01946b1c-0000-7000-8000-{number:012d}",
        mode=Mode.APPEND,
        read_version=0,
        staged_path=f"s/{number}",
        staged_version="1",
    )


class FakeClient:
    """A Temporal client whose updates end as `script` says, then succeed."""

    def __init__(self, *script: BaseException) -> None:
        self.script = list(script)
        self.ids: list[str] = []
        self.operations: list[WithStartWorkflowOperation[Any, Any]] = []
        self.names: list[str] = []

    async def execute_update_with_start_workflow(
        self,
        update: str,
        arg: CommitBatch,
        *,
        start_workflow_operation: WithStartWorkflowOperation[Any, Any],
        id: str,
        result_type: type,
        rpc_timeout: Any,
    ) -> BatchResult:
        self.ids.append(id)
        self.names.append(update)
        self.operations.append(start_workflow_operation)
        assert result_type is BatchResult
        if self.script:
            raise self.script.pop(0)
        return BatchResult(
            outcomes=[
                Outcome(
                    idempotency_key=asked.idempotency_key,
                    result=CommitResult(version=1, delta_log_path="t/_delta_log/1.json"),
                )
                for asked in arg.requests
            ]
        )


def gateway(client: FakeClient, **options: Any) -> TemporalCommitGateway:
    return TemporalCommitGateway(cast(Client, client), **options)


def update_failed(cause: BaseException) -> WorkflowUpdateFailedError:
    return WorkflowUpdateFailedError(cause)


def rpc(status: RPCStatusCode) -> RPCError:
    return RPCError(f"the server says {status.name}", status, b"")


AGAIN: list[tuple[BaseException, bool]] = [
    (update_failed(ApplicationError("full", type=names.ROLLING_OVER)), False),
    (update_failed(ApplicationError("ended", type="AcceptedUpdateCompletedWorkflow", non_retryable=True)), False),
    (update_failed(TerminatedError("by an operator")), False),
    (WorkflowUpdateRPCTimeoutOrCancelledError(), True),
    (WorkflowAlreadyStartedError("id", "type"), False),
    (RuntimeError("Failed client connect"), False),
    (rpc(RPCStatusCode.RESOURCE_EXHAUSTED), False),
    (rpc(RPCStatusCode.NOT_FOUND), False),
    (rpc(RPCStatusCode.FAILED_PRECONDITION), False),
    (rpc(RPCStatusCode.UNAVAILABLE), True),
    (rpc(RPCStatusCode.DEADLINE_EXCEEDED), True),
    (rpc(RPCStatusCode.ABORTED), True),
    (rpc(RPCStatusCode.INTERNAL), True),
    (rpc(RPCStatusCode.UNKNOWN), True),
]


@pytest.mark.parametrize(("error", "in_doubt"), AGAIN, ids=lambda value: str(value)[:40])
async def test_what_passes_is_tried_again(error: BaseException, in_doubt: bool) -> None:
    with pytest.raises(TryAgain) as caught:
        await gateway(FakeClient(error)).commit(SCOPE, TABLE, [request(1)], batch_id="b")
    assert caught.value.in_doubt is in_doubt


@pytest.mark.parametrize(("error", "in_doubt"), AGAIN, ids=lambda value: str(value)[:40])
async def test_through_the_coalescer_nobody_notices(error: BaseException, in_doubt: bool) -> None:
    client = FakeClient(error)
    coalescer = Coalescer(gateway(client), deadline_s=5)
    outcomes = await asyncio.gather(*(coalescer.commit(SCOPE, TABLE, request(n)) for n in range(3)))
    assert all(outcome.result is not None for outcome in outcomes)
    assert len(client.ids) == 2
    assert (client.ids[0] == client.ids[1]) is in_doubt, "a batch in doubt is joined by its update id"
    assert client.operations[0] is not client.operations[1], "a start operation can be used once"
    await coalescer.aclose()


CARRIED = Refusal(code=Code.INVALID_REQUEST, message="no", field="requests", remedy="correct it")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (
            update_failed(ApplicationError("no", CARRIED.model_dump(mode="json"), type="INVALID_REQUEST")),
            Code.INVALID_REQUEST,
        ),
        (update_failed(ApplicationError("Failed decoding arguments", type="RuntimeError")), Code.UNAVAILABLE),
        (rpc(RPCStatusCode.INVALID_ARGUMENT), Code.UNAVAILABLE),
        (rpc(RPCStatusCode.PERMISSION_DENIED), Code.UNAVAILABLE),
        (rpc(RPCStatusCode.UNAUTHENTICATED), Code.UNAVAILABLE),
    ],
    ids=lambda value: str(value)[:40],
)
async def test_what_stays_is_refused(error: BaseException, code: Code) -> None:
    with pytest.raises(BatchRefused) as caught:
        await gateway(FakeClient(error)).commit(SCOPE, TABLE, [request(1)], batch_id="b")
    assert caught.value.refusal.code is code
    assert caught.value.refusal.remedy


async def test_an_attempt_that_hangs_ends_and_is_in_doubt() -> None:
    class Hanging(FakeClient):
        async def execute_update_with_start_workflow(self, *args: Any, **kwargs: Any) -> BatchResult:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError as error:
                # What the SDK makes of a cancelled call.
                raise WorkflowUpdateRPCTimeoutOrCancelledError() from error
            raise AssertionError("unreachable")

    with pytest.raises(TryAgain) as caught:
        await gateway(Hanging(), attempt_s=0.01).commit(SCOPE, TABLE, [request(1)], batch_id="b")
    assert caught.value.in_doubt


async def test_the_workflow_is_started_under_the_tables_id_with_all_that_finds_it() -> None:
    client = FakeClient()
    await gateway(client, checkpoint_interval=7).commit(SCOPE, TABLE, [request(1)], batch_id="b")
    (start,) = (operation._start_workflow_input for operation in client.operations)
    assert client.names == [names.COMMIT_UPDATE]
    assert client.ids == ["b"]
    assert start.id == f"commit/acme/prod/{TABLE}"
    assert start.workflow == names.COMMIT_WORKFLOW
    assert start.task_queue == names.COMMIT_QUEUE
    assert start.args == [CommitStart(tenant="acme", workspace="prod", table_id=TABLE, checkpoint_interval=7)]
    assert isinstance(start.search_attributes, TypedSearchAttributes)
    assert {pair.key.name for pair in start.search_attributes} == {
        names.SEARCH_TENANT,
        names.SEARCH_WORKSPACE,
        names.SEARCH_TABLE,
    }
    assert TABLE in (start.static_summary or "")
