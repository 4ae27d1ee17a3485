"""What a caller process makes of the ledger's workflow: how it starts it, what shares a batch, what is not known."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest
from pydantic import BaseModel
from temporalio.client import Client, WithStartWorkflowOperation, WorkflowUpdateFailedError
from temporalio.common import TypedSearchAttributes
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError, RPCStatusCode

from entrypoints.temporal_ledger import TemporalLedgerGateway
from springline import names
from springline.errors import Code, Refused
from springline.ledger.request import (
    MAX_ROUND_BYTES,
    AppendOutcome,
    AppendRequest,
    IngestOutcome,
    IngestRequest,
    NewEvent,
)
from springline.paths import Scope
from springline.sequencer.coalescer import FULL_APPEND_BYTES, LedgerCoalescer
from workflows.ledger_messages import AppendBatch, AppendBatchResult, IngestBatch, IngestBatchResult, LedgerStart

SCOPE = Scope("acme", "prod")


def request(number: int, *, size: int = 0) -> AppendRequest:
    data = {"type": "run_cancel_requested", "run_id": f"run-{number}", "requested_by": "x" * size}
    return AppendRequest(request_id=f"01946b1c-0000-7000-8000-{number:012d}", events=[NewEvent(data=data)])


class FakeClient:
    """A Temporal client whose updates end as `script` says, then succeed."""

    def __init__(self, *script: BaseException) -> None:
        self.script = list(script)
        self.batches: list[BaseModel] = []
        self.operations: list[WithStartWorkflowOperation[Any, Any]] = []

    async def execute_update_with_start_workflow(
        self,
        update: str,
        arg: BaseModel,
        *,
        start_workflow_operation: Any,
        id: str,
        result_type: type,
        rpc_timeout: Any,
    ) -> BaseModel:
        self.batches.append(arg)
        self.operations.append(start_workflow_operation)
        await asyncio.sleep(0)
        if self.script:
            raise self.script.pop(0)
        if isinstance(arg, IngestBatch):
            assert (update, result_type) == (names.INGEST_UPDATE, IngestBatchResult)
            return IngestBatchResult(outcomes=[IngestOutcome(known=len(one.event_paths)) for one in arg.requests])
        assert isinstance(arg, AppendBatch)
        assert (update, result_type) == (names.APPEND_UPDATE, AppendBatchResult)
        return AppendBatchResult(outcomes=[AppendOutcome(request_id=one.request_id) for one in arg.requests])


def ledger(client: FakeClient, **options: Any) -> LedgerCoalescer:
    return LedgerCoalescer(TemporalLedgerGateway(cast(Client, client), garbage_interval=7), **options)


async def test_the_workflow_is_started_under_the_workspaces_id_with_all_that_finds_it() -> None:
    client = FakeClient()
    await ledger(client).append(SCOPE, request(1))
    (start,) = (operation._start_workflow_input for operation in client.operations)
    assert start.id == "ledger/acme/prod"
    assert start.workflow == names.LEDGER_WORKFLOW
    assert start.task_queue == names.LEDGER_QUEUE
    assert start.args == [LedgerStart(tenant="acme", workspace="prod", garbage_interval=7)]
    assert isinstance(start.search_attributes, TypedSearchAttributes)
    assert {pair.key.name for pair in start.search_attributes} == {names.SEARCH_TENANT, names.SEARCH_WORKSPACE}
    assert "acme/prod" in (start.static_summary or "")


async def test_many_appends_share_batches_that_no_message_is_too_small_for() -> None:
    client = FakeClient()
    requests = [request(number, size=FULL_APPEND_BYTES // 3) for number in range(7)]
    outcomes = await asyncio.gather(*(ledger_.append(SCOPE, one) for ledger_ in [ledger(client)] for one in requests))
    assert [outcome.request_id for outcome in outcomes] == [one.request_id for one in requests]
    sizes = [len(batch.requests) for batch in client.batches if isinstance(batch, AppendBatch)]
    assert sum(sizes) == 7
    assert max(sizes) == 2


async def test_a_full_round_of_events_comes_back_in_one_message_after_a_run_ended() -> None:
    """What is turned away together is sent again together: as much as a message may hold, and no more."""
    client = FakeClient(*[WorkflowUpdateFailedError(ApplicationError("full", type=names.ROLLING_OVER))] * 5)
    ledger_ = ledger(client)
    requests = [request(number) for number in range(2_500)]
    outcomes = await asyncio.gather(*(ledger_.append(SCOPE, one) for one in requests))
    assert all(outcome.refusal is None for outcome in outcomes)


async def test_events_that_fit_no_round_are_refused_at_once() -> None:
    client = FakeClient()
    outcome = await ledger(client).append(SCOPE, request(1, size=MAX_ROUND_BYTES))
    assert outcome.refusal is not None
    assert outcome.refusal.code is Code.PAYLOAD_TOO_LARGE
    assert client.batches == []


async def test_without_an_answer_in_time_the_caller_is_told_to_repeat_the_same_request() -> None:
    client = FakeClient(*[RPCError("down", RPCStatusCode.UNAVAILABLE, b"")] * 1000)
    with pytest.raises(Refused) as caught:
        await ledger(client, deadline_s=0.05).append(SCOPE, request(1))
    refusal = caught.value.refusal
    assert refusal.code is Code.UNAVAILABLE
    assert refusal.value == request(1).request_id
    assert "same request" in (refusal.remedy or "")
    with pytest.raises(Refused):
        await ledger(client, deadline_s=0.05).ingest(SCOPE, IngestRequest(event_paths=["a"]))


async def test_foreign_events_are_asked_for_again_until_there_is_an_answer() -> None:
    client = FakeClient(RPCError("down", RPCStatusCode.UNAVAILABLE, b""))
    outcome = await ledger(client).ingest(SCOPE, IngestRequest(event_paths=["a", "b"]))
    assert outcome.known == 2
    assert len(client.batches) == 2


async def test_a_spoilt_request_is_refused_alone() -> None:
    class Picky(FakeClient):
        async def execute_update_with_start_workflow(self, update: str, arg: BaseModel, **kwargs: Any) -> BaseModel:
            assert isinstance(arg, AppendBatch)
            if any(one.request_id == request(3).request_id for one in arg.requests):
                raise WorkflowUpdateFailedError(ApplicationError("Failed decoding arguments", type="RuntimeError"))
            return await super().execute_update_with_start_workflow(update, arg, **kwargs)

    ledger_ = ledger(Picky())
    answers = await asyncio.gather(
        *(ledger_.append(SCOPE, request(number)) for number in range(6)), return_exceptions=True
    )
    refused = [number for number, answer in enumerate(answers) if isinstance(answer, Refused)]
    assert refused == [3]
    assert [answer.request_id for answer in answers if isinstance(answer, AppendOutcome)] == [
        request(number).request_id for number in range(6) if number != 3
    ]
