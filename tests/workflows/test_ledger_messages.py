"""What LedgerWorkflow takes and tells: starts by hand, updates, status, details, attributes, garbage collection."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from temporalio.api.enums.v1 import EventType
from temporalio.client import Client, WorkflowFailureError, WorkflowUpdateFailedError
from temporalio.converter import DataConverter

from springline import names
from springline.errors import Code
from springline.ledger.request import AppendRequest
from tests.support.ledger_events import request, run_request, started, triggered
from tests.workflows.ledger_bench import LedgerBench, Rival
from tests.workflows.runs import until
from workflows.lifecycle import SEARCH_TENANT_KEY, SEARCH_WORKSPACE_KEY


def plain(ledger: LedgerBench) -> Client:
    """Return a client that sends plain JSON, as the Temporal CLI does."""
    config = ledger.client.config()
    config["data_converter"] = DataConverter.default
    return Client(**config)


async def start_by_hand(ledger: LedgerBench, document: dict[str, Any]) -> Any:
    """Start the workflow with a JSON document, like `temporal workflow start --input`, and return its result."""
    handle: Any = await plain(ledger).start_workflow(
        names.LEDGER_WORKFLOW, document, id=ledger.workflow_id, task_queue=names.LEDGER_QUEUE
    )
    ledger.run_ids.append(handle.first_execution_run_id)
    async with asyncio.timeout(240):
        return await handle.result()


def document(ledger: LedgerBench, *requests: AppendRequest, **fields: Any) -> dict[str, Any]:
    return {
        "tenant": ledger.scope.tenant,
        "workspace": ledger.scope.workspace,
        "requests": [one.model_dump(mode="json") for one in requests],
        **fields,
    }


# Starts by hand.


async def test_a_start_with_requests_and_paths_returns_their_outcomes(ledger: LedgerBench) -> None:
    path = await ledger.put_foreign("01JHF2Z8G00000000000000001", "foreign")
    result = await start_by_hand(
        ledger,
        document(ledger, run_request("run"), request(started("no", "a")), ingest=[{"event_paths": [path]}]),
    )
    first, second = result["outcomes"]
    assert first["visibility_status"] == "visible"
    assert second["refusal"]["code"]
    assert [(one["accepted"], one["visibility_status"]) for one in result["ingested"]] == [(1, "visible")]
    found = (await ledger.handle.describe()).typed_search_attributes
    assert [found[key] for key in (SEARCH_TENANT_KEY, SEARCH_WORKSPACE_KEY)] == [
        ledger.scope.tenant,
        ledger.scope.workspace,
    ]


@pytest.mark.not_recorded
async def test_a_start_with_an_id_that_is_no_key_is_told_so(ledger: LedgerBench) -> None:
    malformed = run_request("run").model_copy(update={"request_id": "no-uuid"})
    result = await start_by_hand(ledger, document(ledger, malformed, run_request("other")))
    first, second = result["outcomes"]
    assert first["refusal"]["code"] == Code.INVALID_KEY
    assert second["visibility_status"] == "visible"


@pytest.mark.parametrize(
    "spoiled",
    [
        {"workspace": None},
        {"requests": [{"request_id": "k"}]},
        {"requests": "all"},
        {"ingest": [{"event_paths": []}]},
        {"garbage_interval": -1},
    ],
    ids=lambda spoiled: next(iter(spoiled)),
)
async def test_an_input_that_is_no_start_fails_the_run_and_says_why(
    spoiled: dict[str, Any], ledger: LedgerBench
) -> None:
    with pytest.raises(WorkflowFailureError) as caught:
        await start_by_hand(ledger, document(ledger) | spoiled)
    assert next(iter(spoiled)) in str(caught.value.cause)


@pytest.mark.parametrize("spoiled", [{"tenant": "../etc"}, {"workspace": ""}], ids=["tenant", "workspace"])
async def test_a_workspace_that_cannot_be_is_refused_and_nothing_hangs(
    spoiled: dict[str, Any], ledger: LedgerBench
) -> None:
    result = await start_by_hand(ledger, document(ledger, run_request("run")) | spoiled)
    (outcome,) = result["outcomes"]
    assert outcome["refusal"]["code"] == Code.INVALID_REQUEST
    assert outcome["refusal"]["remedy"]


# Updates.


def small(number: int) -> dict[str, Any]:
    return request(*(triggered(f"run-{number}-{n}") for n in range(500))).model_dump(mode="json")


@pytest.mark.parametrize(
    "arguments",
    [{"requests": []}, {"requests": [{}]}, {"requests": [small(number) for number in range(6)]}, {}],
    ids=["none", "empty", "too many events", "nothing"],
)
async def test_an_update_that_is_no_batch_is_refused_and_the_run_goes_on(
    arguments: dict[str, Any], ledger: LedgerBench
) -> None:
    release = asyncio.Event()
    ledger.faults.hold(names.FOLD, release)
    good = asyncio.create_task(ledger.append_one(run_request("good")))
    await until(lambda: ledger.runs_step(names.FOLD), "the good request is folded")
    handle = plain(ledger).get_workflow_handle(ledger.workflow_id)
    with pytest.raises(WorkflowUpdateFailedError):
        await handle.execute_update(names.APPEND_UPDATE, arguments)
    with pytest.raises(WorkflowUpdateFailedError):
        await handle.execute_update(names.INGEST_UPDATE, {"requests": [{"event_paths": ["x"] * 5_001}]})
    release.set()
    await good
    await ledger.finished()


# What a run tells.


async def test_status_and_details_say_what_is_and_was_done(ledger: LedgerBench) -> None:
    release = asyncio.Event()
    asked = run_request("first")
    ledger.faults.hold(names.PUBLISH, release)
    first = asyncio.create_task(ledger.append_one(asked))
    await until(lambda: ledger.runs_step(names.PUBLISH), "the round is folded")
    status = await ledger.status()
    assert (status.lag_events, status.rounds, status.draining) == (2, 0, False)
    assert status.lag_since_ms is not None
    assert status.phase.startswith("round 1: publishing revision ")
    assert "**Lag:** 2 event(s) kept and not visible, the oldest since 2" in await ledger.current_details()
    others = asyncio.create_task(ledger.append(asked, request(started("no", "a"))))
    await until(lambda: ledger.waiting(2), "two more wait")
    assert (await ledger.status()).waiting_events == 3
    release.set()
    outcome = await first
    await others
    await ledger.finished()

    # A run that ended still answers, as long as its history is kept.
    status = await ledger.status()
    assert (status.appended, status.replayed, status.refused, status.rounds) == (1, 1, 1, 1)
    assert (status.waiting_requests, status.lag_events, status.lag_since_ms) == (0, 0, None)
    (round_,) = status.recent_rounds
    assert (round_.number, round_.kind, round_.events, round_.requests) == (1, "delta", 2, 1)
    assert round_.manifest_revision == status.head_revision == outcome.manifest_revision
    assert (status.head_events, status.watermark) == (2, outcome.events[-1].event_id)
    assert status.events_per_second > 0
    assert status.phase == "done: nothing waits"
    details = await ledger.current_details()
    assert f"**Ledger** of `{ledger.scope.tenant}/{ledger.scope.workspace}`" in details
    assert "| 1 | 2 | 1 | delta |" in details
    assert status.digest
    assert f"digest `{status.digest}`" in details
    assert "**Lag:** none" in details


async def test_each_activity_says_what_it_is_for(ledger: LedgerBench) -> None:
    await Rival(ledger).admit(run_request("left"))
    await ledger.append_one(run_request("run"))
    path = await ledger.put_foreign("01JHF2Z8G00000000000000001", "foreign")
    await ledger.ingest([path])
    await ledger.finished()
    summaries = [
        DataConverter.default.payload_converter.from_payload(event.user_metadata.summary, str)
        for event in (await ledger.history()).events
        if event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED
    ]
    shown = [summary.partition(", revision")[0].partition(" manifest")[0] for summary in summaries]
    assert shown == [
        "where the workspace stands",
        "round 1: write 2 event(s)",
        "round 1: fold 2 event(s)",
        "round 1: publish",
        "round 2: judge 1 request(s) of 2 event(s); once the record stands, they are kept",
        "tell the launcher of runs to look at everything",
        "round 2: write 2 event(s)",
        "round 2: fold 2 event(s)",
        "round 2: publish",
        "round 3: look at 1 foreign event(s)",
        "round 3: write 1 foreign event(s)",
        "round 3: fold 1 foreign event(s)",
        "round 3: publish",
    ]


async def test_a_garbage_collection_starts_at_the_interval_and_is_nobodys_burden(ledger: LedgerBench) -> None:
    start = ledger.start_input(garbage_interval=2)
    for number in range(3):
        await ledger.append(run_request(f"run-{number}"), start=start)
    await ledger.finished()
    initiated = [
        event.start_child_workflow_execution_initiated_event_attributes
        for run_id in ledger.run_ids
        for event in (await ledger.history(run_id)).events
        if event.event_type == EventType.EVENT_TYPE_START_CHILD_WORKFLOW_EXECUTION_INITIATED
    ]
    assert [one.workflow_type.name for one in initiated] == [names.GARBAGE_WORKFLOW]
    child = names.garbage_workflow_id(ledger.scope.tenant, ledger.scope.workspace)
    assert [one.workflow_id for one in initiated] == [child]
    await ledger.client.get_workflow_handle(child).terminate("the test has ended")
