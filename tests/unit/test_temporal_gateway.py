"""What the gateway makes of Temporal's answers: who tries again, how, and who is refused."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import orjson
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

from entrypoints.table_names import names_by_registry
from entrypoints.temporal import TemporalCommitGateway
from springline import names, paths
from springline.batching import BatchRefused, TryAgain
from springline.commit.coalescer import CommitCoalescer
from springline.delta.messages import CommitMode, CommitOutcome, CommitRequest, CommitResult
from springline.delta.table_request import TableEntry
from springline.errors import Code, Refusal
from springline.paths import Scope
from springline.storage.faults import FaultyStore
from springline.storage.memory import MemoryStore
from workflows.commit_messages import BatchResult, CommitBatch, CommitStart
from workflows.lifecycle import SEARCH_TABLE_KEY, SEARCH_TABLE_NAME_KEY

SCOPE = Scope("acme", "prod")
TABLE = "01946b1c-0000-7000-8000-0000000000aa"


def request(number: int) -> CommitRequest:
    return CommitRequest(
        idempotency_key=f"01946b1c-0000-7000-8000-{number:012d}",
        mode=CommitMode.APPEND,
        read_version=0,
        staged_path=f"s/{number}",
        staged_version="1",
    )


class NoRuns:
    """A server that has no runs to look at."""

    async def describe_workflow_execution(self, _asked: Any, **_options: Any) -> None:
        raise RPCError("no such run", RPCStatusCode.NOT_FOUND, b"")


class FakeClient:
    """A Temporal client whose updates end as `script` says, then succeed."""

    namespace = "lake"
    workflow_service = NoRuns()

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
                CommitOutcome(
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
    coalescer = CommitCoalescer(gateway(client), deadline_s=5)
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


async def flights(_scope: Scope, _table_id: str) -> str | None:
    return "flights"


async def nameless(_scope: Scope, _table_id: str) -> str | None:
    return None


async def test_the_workflow_says_the_name_of_its_table_wherever_people_look() -> None:
    client = FakeClient()
    await gateway(client, name_of=flights).commit(SCOPE, TABLE, [request(1)], batch_id="b")
    await gateway(client, name_of=nameless).commit(SCOPE, TABLE, [request(1)], batch_id="b")
    start, without = (operation._start_workflow_input for operation in client.operations)
    assert isinstance(start.search_attributes, TypedSearchAttributes)
    assert start.search_attributes[SEARCH_TABLE_NAME_KEY] == "flights"
    assert start.search_attributes[SEARCH_TABLE_KEY] == TABLE
    assert start.memo == {"table_name": "flights"}
    assert start.static_summary == f"commits of table flights ({TABLE})"
    assert start.args[0].table_name == "flights"
    assert without.memo is None
    assert without.static_summary == f"commits of table {TABLE}"


async def test_a_namespace_without_the_attribute_takes_commits_all_the_same(caplog: pytest.LogCaptureFixture) -> None:
    lacking = RPCError(
        f"Namespace lake has no mapping defined for search attribute {names.SEARCH_TABLE_NAME}",
        RPCStatusCode.INVALID_ARGUMENT,
        b"",
    )
    client = FakeClient(lacking)
    named = gateway(client, name_of=flights)
    for _ in range(2):
        await named.commit(SCOPE, TABLE, [request(1)], batch_id="b")
    found = [operation._start_workflow_input.search_attributes for operation in client.operations]
    named_in = [one.get(SEARCH_TABLE_NAME_KEY) for one in found if isinstance(one, TypedSearchAttributes)]
    assert named_in == ["flights", None, None]
    assert names.SEARCH_TABLE_NAME in caplog.text


async def test_another_refusal_of_a_start_is_not_taken_for_that() -> None:
    client = FakeClient(RPCError("something else", RPCStatusCode.INVALID_ARGUMENT, b""))
    with pytest.raises(BatchRefused):
        await gateway(client, name_of=flights).commit(SCOPE, TABLE, [request(1)], batch_id="b")
    assert len(client.operations) == 1


async def test_names_come_from_the_registry_and_nothing_odd_in_it_stops_a_commit() -> None:
    store = FaultyStore(MemoryStore())
    name_of = names_by_registry(store)
    assert await name_of(SCOPE, TABLE) is None
    entry = TableEntry(table_id=TABLE, name="flights", root="x", created_at_ms=1)
    path = SCOPE.full(paths.table_entry(TABLE))
    for data in (b"{", orjson.dumps(entry.model_dump() | {"name": "x" * 5_000}), orjson.dumps({"table_id": 7})):
        odd = MemoryStore()
        odd.seed(path, data)
        assert await names_by_registry(odd)(SCOPE, TABLE) is None
    assert isinstance(store.inner, MemoryStore)
    store.inner.seed(path, orjson.dumps(entry.model_dump()))
    assert await name_of(SCOPE, TABLE) == "flights"
    asked = len(store.trace)
    assert await name_of(SCOPE, TABLE) == "flights"
    assert len(store.trace) == asked


TOO_LARGE = [
    RPCError("grpc: received message larger than max (5242880 vs. 4194304)", RPCStatusCode.RESOURCE_EXHAUSTED, b""),
    RPCError("Blob data size exceeds limit.", RPCStatusCode.INVALID_ARGUMENT, b""),
]


@pytest.mark.parametrize("error", TOO_LARGE, ids=str)
async def test_a_batch_that_is_too_large_for_temporal_is_refused_to_be_halved(error: RPCError) -> None:
    with pytest.raises(BatchRefused) as caught:
        await gateway(FakeClient(error)).commit(SCOPE, TABLE, [request(1)], batch_id="b")
    assert caught.value.refusal.code is Code.PAYLOAD_TOO_LARGE


@pytest.mark.parametrize("error", [RecursionError("deep"), UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogate")])
async def test_what_cannot_be_encoded_is_no_lost_connection(error: Exception) -> None:
    with pytest.raises(type(error)):
        await gateway(FakeClient(error)).commit(SCOPE, TABLE, [request(1)], batch_id="b")
