"""What CommitWorkflow takes and tells: starts by hand, updates and their validator, status, details, attributes."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import orjson
import pytest
from temporalio.api.enums.v1 import EventType
from temporalio.client import Client, WorkflowFailureError, WorkflowUpdateFailedError
from temporalio.converter import DataConverter
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError

from entrypoints.temporal import TemporalCommitGateway
from springline import names, paths
from springline.commit.coalescer import CommitCoalescer
from springline.delta.messages import CommitRequest
from springline.errors import Code
from springline.storage.faults import Decision, OperationKind, Outcome, on
from springline.storage.port import IfVersion
from tests.support.rows import SCOPE
from tests.workflows.bench import Bench, versions
from tests.workflows.runs import until
from workflows import commit as commit_module
from workflows.lifecycle import SEARCH_TABLE_KEY, SEARCH_TABLE_NAME_KEY, SEARCH_TENANT_KEY, SEARCH_WORKSPACE_KEY


def plain(bench: Bench) -> Client:
    """Return a client that sends plain JSON, as the Temporal CLI does."""
    config = bench.client.config()
    config["data_converter"] = DataConverter.default
    return Client(**config)


async def start_by_hand(bench: Bench, document: dict[str, Any]) -> Any:
    """Start the workflow with a JSON document, like `temporal workflow start --input`, and return its result."""
    handle: Any = await plain(bench).start_workflow(
        names.COMMIT_WORKFLOW, document, id=bench.workflow_id, task_queue=names.COMMIT_QUEUE
    )
    bench.run_ids.append(handle.first_execution_run_id)
    async with asyncio.timeout(240):
        return await handle.result()


def document(bench: Bench, *requests: CommitRequest, **fields: Any) -> dict[str, Any]:
    return {
        "tenant": SCOPE.tenant,
        "workspace": SCOPE.workspace,
        "table_id": bench.table_id,
        "requests": [request.model_dump(mode="json") for request in requests],
        **fields,
    }


# Starts by hand.


async def test_a_start_with_requests_commits_them_and_returns_their_outcomes(bench: Bench) -> None:
    append, strict = await bench.stage("append"), await bench.stage_strict("late", 0)
    result = await start_by_hand(bench, document(bench, append, strict))
    first, second = result["outcomes"]
    assert first["result"] == {"version": 1, "delta_log_path": bench.table.log_path(1)}
    assert second["refusal"]["code"] == Code.STALE_READ_VERSION
    description = await bench.handle.describe()
    found = description.typed_search_attributes
    assert [found[key] for key in (SEARCH_TENANT_KEY, SEARCH_WORKSPACE_KEY, SEARCH_TABLE_KEY)] == [
        SCOPE.tenant,
        SCOPE.workspace,
        bench.table_id,
    ]


async def test_a_start_without_requests_finalizes_nothing_and_ends(bench: Bench) -> None:
    assert (await start_by_hand(bench, document(bench)))["outcomes"] == []


@pytest.mark.parametrize(
    "spoiled",
    [
        {"table_id": None},
        {"requests": [{"idempotency_key": "k"}]},
        {"requests": "all"},
        {"checkpoint_interval": -1},
    ],
    ids=lambda spoiled: next(iter(spoiled)),
)
async def test_an_input_that_is_no_start_fails_the_run_and_says_why(spoiled: dict[str, Any], bench: Bench) -> None:
    with pytest.raises(WorkflowFailureError) as caught:
        await start_by_hand(bench, document(bench) | spoiled)
    assert next(iter(spoiled)) in str(caught.value.cause)


@pytest.mark.parametrize(
    ("spoiled", "code"),
    [
        ({"tenant": "../etc"}, Code.INVALID_REQUEST),
        ({"workspace": ""}, Code.INVALID_REQUEST),
        ({"table_id": "no-uuid"}, Code.TABLE_NOT_FOUND),
        ({"table_id": "01946b1c-0000-7000-8000-00000000dead"}, Code.TABLE_NOT_FOUND),
    ],
    ids=["tenant", "workspace", "no table id", "unknown table"],
)
async def test_a_table_that_cannot_be_is_refused_and_nothing_hangs(
    spoiled: dict[str, Any], code: Code, bench: Bench
) -> None:
    result = await start_by_hand(bench, document(bench, await bench.stage("file")) | spoiled)
    (outcome,) = result["outcomes"]
    assert outcome["refusal"]["code"] == code
    assert outcome["refusal"]["remedy"]


# Updates.


@pytest.mark.parametrize("arguments", [{"requests": []}, {"requests": [{}]}, {"requests": [{"mode": "fast"}]}, {}])
async def test_an_update_that_is_no_batch_is_refused_and_the_run_goes_on(
    arguments: dict[str, Any], bench: Bench
) -> None:
    release = asyncio.Event()
    bench.faults.hold(names.WRITE_LOG, release)
    good = asyncio.create_task(bench.commit(await bench.stage("good")))
    await until(bench.is_reserved, "the good request is reserved")
    with pytest.raises(WorkflowUpdateFailedError):
        await plain(bench).get_workflow_handle(bench.workflow_id).execute_update(names.COMMIT_UPDATE, arguments)
    release.set()
    assert versions(await good) == [1]
    await bench.finished()


# A run that drains waits for nobody, and where it does so is another place here than in production.
@pytest.mark.not_recorded
async def test_a_run_above_the_suggested_size_drains_and_the_next_one_takes_over(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Few enough that the first committed round passes it, and more than a run begins with.
    monkeypatch.setattr(commit_module, "DRAIN_EVENTS", 15)
    held, release = asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        held.set()
        await release.wait()

    bench.faults.before(names.FINALIZE_AND_RESERVE, hold)
    first = asyncio.create_task(bench.commit(await bench.stage_strict("one", 0), await bench.stage("two")))
    await held.wait()
    assert (await bench.status()).draining
    late = await bench.stage("late")
    with pytest.raises(WorkflowUpdateFailedError) as caught:
        await bench.commit(late)
    assert isinstance(caught.value.cause, ApplicationError)
    assert caught.value.cause.type == names.ROLLING_OVER

    coalescer = CommitCoalescer(TemporalCommitGateway(bench.client, checkpoint_interval=0))
    through_gateway = asyncio.create_task(coalescer.commit(SCOPE, bench.table_id, late))
    await until(lambda: _retried(coalescer), "the gateway was told to come again")
    release.set()
    assert versions(await first) == [1, 2]
    assert versions([await through_gateway]) == [3]
    await coalescer.aclose()
    await bench.finished()
    assert len(bench.run_ids) == 2
    assert [bench.added(version) for version in (1, 2, 3)] == [["one"], ["two"], ["late"]]


async def _retried(coalescer: CommitCoalescer) -> bool:
    return coalescer.counts.retries > 0


async def test_a_full_queue_is_told_to_callers_and_takes_what_fits(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commit_module, "MAX_QUEUE", 2)
    release = asyncio.Event()
    bench.faults.hold(names.WRITE_LOG, release)
    first = asyncio.create_task(bench.commit(await bench.stage("first")))
    await until(bench.is_reserved, "the first round is reserved")
    waiting = asyncio.create_task(bench.commit(await bench.stage("second")))
    await until(lambda: bench.waiting(1), "the second waits")
    with pytest.raises(WorkflowUpdateFailedError) as caught:
        await bench.commit(await bench.stage("third"), await bench.stage("fourth"))
    assert isinstance(caught.value.cause, ApplicationError)
    assert caught.value.cause.type == names.ROLLING_OVER
    assert "1 requests already wait" in caught.value.cause.message
    release.set()
    assert versions(await first) == [1]
    assert versions(await waiting) == [2]


# What a run tells.


async def test_status_and_details_say_what_is_and_was_done(bench: Bench) -> None:
    release = asyncio.Event()
    request = await bench.stage("first")
    bench.faults.hold(names.WRITE_MARKER, release)
    first = asyncio.create_task(bench.commit(request))
    await until(lambda: _is_logged(bench), "version 1 is written")
    status = await bench.status()
    assert (status.inflight_version, status.inflight_members, status.draining) == (1, 1, False)
    assert status.phase == "writing version 1 for 1 request(s)"
    assert "**Now:** writing version 1 for 1 request(s)" in await bench.current_details()
    others = asyncio.create_task(bench.commit(request, await bench.stage_strict("stale", 0)))
    await until(lambda: bench.waiting(2), "two more wait")
    release.set()
    await first
    await others
    await bench.finished()

    # A run that ended still answers, as long as its history is kept.
    status = await bench.status()
    assert (status.committed, status.replayed, status.refused, status.rounds) == (1, 1, 1, 1)
    assert [(one.version, one.members, one.mode) for one in status.recent_rounds] == [(1, 1, "append")]
    assert (status.latest_version, status.inflight_version, status.waiting) == (1, None, 0)
    assert status.phase == "done: nothing waits and nothing is in flight"
    details = await bench.current_details()
    assert f"**Table** `{bench.table_id}` of `acme/prod`" in details
    assert "| 1 | 1 | append |" in details


async def _is_logged(bench: Bench) -> bool:
    return bench.table.log_path(1) in {SCOPE.relative(path) for path in bench.objects.objects}


async def test_a_recovered_reservation_is_shown(bench: Bench) -> None:
    abandoned = await bench.stage_strict("first", 0)
    bench.faults.before(names.WRITE_LOG, lambda: bench.handle.terminate("killed by the test"))
    with pytest.raises((WorkflowUpdateFailedError, RPCError)):
        await bench.commit(abandoned)
    await bench.commit(await bench.stage("second"))
    await bench.finished()
    (recovered,) = (await bench.status()).recovered
    assert (recovered.version, recovered.members, recovered.commit_id) == (1, 1, abandoned.idempotency_key)
    assert "version 1, 1 request(s), completed" in await bench.current_details()


async def test_each_activity_says_what_it_is_for(bench: Bench) -> None:
    await bench.commit(await bench.stage_strict("one", 0), await bench.stage("two"))
    await bench.finished()
    summaries = [
        DataConverter.default.payload_converter.from_payload(event.user_metadata.summary, str)
        for event in (await bench.history()).events
        if event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED
    ]
    assert summaries == [
        "reserve a version for 2 request(s)",
        "version 1: the log file, from here on it is committed",
        "version 1: 1 idempotency marker(s), then the answers",
        "finalize version 1 and reserve the next for 1 request(s)",
        "version 2: the log file, from here on it is committed",
        "version 2: 1 idempotency marker(s), then the answers",
        "version 2: clear the reservation",
    ]


async def test_a_checkpoint_starts_at_the_interval_and_is_nobodys_burden(bench: Bench) -> None:
    start = bench.start_input(checkpoint_interval=2)
    requests = [await bench.stage_strict("one", 0), await bench.stage("two"), await bench.stage("two")]
    assert versions(await bench.commit(*requests, start=start)) == [1, 2, 3]
    await bench.finished()
    child = bench.client.get_workflow_handle(
        names.checkpoint_workflow_id(SCOPE.tenant, SCOPE.workspace, bench.table_id)
    )
    async with asyncio.timeout(240):
        result = await child.result()
    assert result["kind"] == "written"
    assert result["version"] in (2, 3)
    written = paths.delta_checkpoint(bench.table.root, result["version"])
    assert await bench.store.get(written) is not None
    started = [
        event.start_child_workflow_execution_initiated_event_attributes.workflow_type.name
        for event in (await bench.history()).events
        if event.event_type == EventType.EVENT_TYPE_START_CHILD_WORKFLOW_EXECUTION_INITIATED
    ]
    assert started == [names.CHECKPOINT_WORKFLOW]


@pytest.mark.parametrize(("service", "written"), [(100, True), (1, True), (0, False)])
async def test_a_tables_own_checkpoint_interval_goes_before_the_services(
    bench: Bench, service: int, written: bool
) -> None:
    """The table wants a checkpoint at each second version, whatever the service's interval, unless that is none."""
    await bench.use_table({"delta.checkpointInterval": "2"})
    requests = [await bench.stage_strict("one", 0), await bench.stage("two"), await bench.stage("two")]
    assert versions(await bench.commit(*requests, start=bench.start_input(checkpoint_interval=service))) == [1, 2, 3]
    await bench.finished()
    asked = [
        event.start_child_workflow_execution_initiated_event_attributes.input.payloads[0].data
        for event in (await bench.history()).events
        if event.event_type == EventType.EVENT_TYPE_START_CHILD_WORKFLOW_EXECUTION_INITIATED
    ]
    assert [orjson.loads(start)["version"] for start in asked] == ([2] if written else [])
    if written:
        child = bench.client.get_workflow_handle(
            names.checkpoint_workflow_id(SCOPE.tenant, SCOPE.workspace, bench.table_id)
        )
        async with asyncio.timeout(240):
            result = await child.result()
        assert result["kind"] == "written"
        assert await bench.store.get(paths.delta_checkpoint(bench.table.root, result["version"])) is not None


async def test_a_table_is_found_by_its_name_and_so_is_its_checkpoint(bench: Bench) -> None:
    async def name_of(_scope: paths.Scope, _table_id: str) -> str | None:
        return "flights"

    gateway = TemporalCommitGateway(bench.client, checkpoint_interval=1, name_of=name_of)
    (outcome,) = await gateway.commit(SCOPE, bench.table_id, [await bench.stage("one")], batch_id="b")
    assert outcome.result is not None
    child = bench.client.get_workflow_handle(
        names.checkpoint_workflow_id(SCOPE.tenant, SCOPE.workspace, bench.table_id)
    )
    async with asyncio.timeout(240):
        await child.result()
    run = bench.client.get_workflow_handle(bench.workflow_id)
    assert "**flights** `" in str(await run.query("__temporal_workflow_metadata"))
    assert "**flights**: " in str(await child.query("__temporal_workflow_metadata"))
    for handle in (run, child):
        found = (await handle.describe()).typed_search_attributes
        assert found[SEARCH_TABLE_NAME_KEY] == "flights"
        assert found[SEARCH_TABLE_KEY] == bench.table_id
    assert await (await run.describe()).memo_value("table_name") == "flights"
    await bench.finished()


# Failures for good, and a store that throttles.


async def test_a_damaged_coordinator_is_told_to_the_callers_and_the_table_recovers_with_it(bench: Bench) -> None:
    path = paths.delta_coordinator(bench.table_id)
    good = await bench.store.get(path)
    assert good is not None
    await bench.store.put(path, b"{", IfVersion(good.version))
    request = await bench.stage("file")
    (outcome,) = await bench.commit(request)
    assert outcome.refusal is not None
    assert outcome.refusal.code is Code.STORED_DAMAGED
    assert path in outcome.refusal.message
    assert "springline table recover" in (outcome.refusal.remedy or "")
    bad = await bench.store.get(path)
    assert bad is not None
    await bench.store.put(path, good.data, IfVersion(bad.version))
    assert (await bench.commit_one(request)).version == 1


async def test_the_ids_of_rounds_are_version_7_and_distinct(bench: Bench) -> None:
    requests = [await bench.stage(f"file-{number % 3}") for number in range(6)]
    assert versions(await bench.commit(*requests)) == [1, 1, 1, 2, 2, 2]
    rounds = [bench.log(version)[0]["commitInfo"]["springline"]["round_id"] for version in (1, 2)]
    assert [uuid.UUID(one).version for one in rounds] == [7, 7]
    assert rounds[0] < rounds[1]


async def test_a_store_that_throttles_is_written_to_once_a_second(bench: Bench) -> None:
    """The first swap of the coordinator is throttled: the rounds after it are paced, and their work shares them."""
    coordinator = paths.delta_coordinator(bench.table_id)
    bench.faulty.hook = on(
        lambda operation: operation.kind is OperationKind.PUT and operation.path == SCOPE.full(coordinator),
        Decision.FAIL_BEFORE,
    )
    assert (await bench.commit_one(await bench.stage("one"))).version == 1
    assert versions(await bench.commit(await bench.stage("two"), await bench.stage("three"))) == [2, 2]
    await bench.finished()
    assert len(bench.run_ids) == 1
    timers = [
        DataConverter.default.payload_converter.from_payload(event.user_metadata.summary, str)
        for event in (await bench.history()).events
        if event.event_type == EventType.EVENT_TYPE_TIMER_STARTED
    ]
    # From the refusal to the second round, and from the second round to a third that does not come.
    assert timers.count("the store takes one write a second to one name") == 2
    writes = [traced for traced in bench.faulty.trace if traced.operation.path == SCOPE.full(coordinator)]
    put = [traced.outcome for traced in writes if traced.operation.kind is OperationKind.PUT]
    # Throttled, reserve, finalize and reserve, finalize.
    assert put == [Outcome.RETRY, Outcome.STORED, Outcome.STORED, Outcome.STORED]
