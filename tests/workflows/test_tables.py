"""CreateTableWorkflow and CheckpointWorkflow on a real (time-skipping) server, with faults of their activities."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from temporalio.api.enums.v1 import EventType
from temporalio.client import WorkflowFailureError, WorkflowHandle, WorkflowHistory
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.exceptions import ApplicationError
from temporalio.worker import Replayer

from activities.messages import TableRef
from activities.table_messages import CheckpointStart, TableKind, TableStart
from springline import names, paths
from springline.delta.checkpoints import CheckpointKind, CheckpointResult
from springline.delta.registry import TableEntry
from springline.delta.table_request import AdoptTable, CreateTable
from springline.errors import Code, Refusal
from tests.support.checksums import without_checksum
from tests.support.rows import SCOPE
from tests.workflows.bench import Bench
from tests.workflows.faults import Faults, raises, result_is_lost
from tests.workflows.runs import scrubbed, until
from workflows.search import SEARCH_TABLE_KEY, SEARCH_TENANT_KEY, SEARCH_WORKSPACE_KEY
from workflows.tables import CheckpointWorkflow, CreateTableWorkflow

COLUMNS = [{"name": "x", "type": "long"}]

pytestmark = pytest.mark.usefixtures("strict_replay")


def creation(name: str, **fields: Any) -> TableStart:
    spec = CreateTable(name=name, columns=COLUMNS, **fields)
    return TableStart(tenant=SCOPE.tenant, workspace=SCOPE.workspace, create=spec)


def adoption(name: str, location: str) -> TableStart:
    spec = AdoptTable(name=name, location=location)
    return TableStart(tenant=SCOPE.tenant, workspace=SCOPE.workspace, kind=TableKind.ADOPT, adopt=spec)


async def run(bench: Bench, start: TableStart) -> TableEntry:
    """Run the workflow to its end; check that its history replays, and save it if histories are recorded."""
    handle = await bench.client.start_workflow(
        names.CREATE_TABLE_WORKFLOW,
        start,
        id=names.create_table_workflow_id(SCOPE.tenant, SCOPE.workspace, start.name),
        task_queue=names.MAINTENANCE_QUEUE,
        result_type=TableEntry,
    )
    try:
        entry: TableEntry = await handle.result()
        return entry
    finally:
        await replayed(handle)


async def checkpoint(bench: Bench, table_id: str) -> CheckpointResult:
    table = TableRef(tenant=SCOPE.tenant, workspace=SCOPE.workspace, table_id=table_id)
    handle = await bench.client.start_workflow(
        names.CHECKPOINT_WORKFLOW,
        CheckpointStart(table=table, version=1),
        id=names.checkpoint_workflow_id(SCOPE.tenant, SCOPE.workspace, table_id),
        task_queue=names.MAINTENANCE_QUEUE,
        result_type=CheckpointResult,
    )
    try:
        result: CheckpointResult = await handle.result()
        return result
    finally:
        await replayed(handle)


async def replayed(handle: WorkflowHandle[Any, Any]) -> None:
    history = await handle.fetch_history()
    replayer = Replayer(workflows=[CreateTableWorkflow, CheckpointWorkflow], data_converter=pydantic_data_converter)
    await replayer.replay_workflow(history)
    folder = os.environ.get("SPRINGLINE_RECORD_HISTORIES")
    if folder:
        test = os.environ["PYTEST_CURRENT_TEST"].split("::")[-1].split(" ")[0].removeprefix("test_")
        kind = type_of(history)
        file = Path(folder) / f"{kind}--{test.replace('[', '--').replace(']', '')}.json"
        file.write_text(scrubbed(history) + "\n")


def type_of(history: WorkflowHistory) -> str:
    return str(history.events[0].workflow_execution_started_event_attributes.workflow_type.name)


async def refused(bench: Bench, start: TableStart) -> Refusal:
    with pytest.raises(WorkflowFailureError) as caught:
        await run(bench, start)
    cause = caught.value.cause
    assert isinstance(cause, ApplicationError)
    refusal = Refusal.model_validate(cause.details[0])
    assert cause.type == refusal.code.value
    assert cause.non_retryable
    assert refusal.message in str(cause)
    return refusal


def stored(bench: Bench) -> dict[str, bytes]:
    return {SCOPE.relative(path): one.data for path, one in bench.objects.objects.items()}


async def test_a_created_table_is_there_and_the_run_explains_itself(bench: Bench) -> None:
    entry = await run(bench, creation("flights", properties={"owner": "me"}))
    assert entry.name == "flights"
    assert entry.root == paths.new_table_root(entry.table_id, SCOPE)
    coordinator = paths.delta_coordinator(entry.table_id)
    assert without_checksum(stored(bench)[coordinator], coordinator) == b'{"latest_version":0,"inflight":null}'
    handle = bench.client.get_workflow_handle(names.create_table_workflow_id(SCOPE.tenant, SCOPE.workspace, "flights"))
    attributes = (await handle.describe()).typed_search_attributes
    assert attributes[SEARCH_TENANT_KEY] == SCOPE.tenant
    assert attributes[SEARCH_WORKSPACE_KEY] == SCOPE.workspace
    assert attributes[SEARCH_TABLE_KEY] == entry.table_id
    (scheduled,) = [
        event
        for event in (await handle.fetch_history()).events
        if event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED
    ]
    assert b"create flights" in scheduled.user_metadata.summary.data
    metadata = await handle.query("__temporal_workflow_metadata")
    assert entry.table_id in str(metadata)


@pytest.mark.parametrize("fault", [raises, result_is_lost])
async def test_an_attempt_that_is_lost_after_its_effect_is_repeated_with_the_same_id_and_time(
    bench: Bench, faults: Faults, fault: Callable[[], Awaitable[None]]
) -> None:
    faults.after(names.CREATE_TABLE, fault)
    entry = await run(bench, creation("flights", location="warehouse/flights"))
    entries = [path for path in stored(bench) if path.startswith("delta/tables/")]
    assert paths.table_entry(entry.table_id) in entries
    assert len([path for path in entries if b'"flights"' in stored(bench)[path]]) == 1


async def test_a_refusal_fails_the_run_with_its_code_and_details(bench: Bench) -> None:
    first = await run(bench, creation("flights", location="warehouse/flights"))
    before = stored(bench)
    taken = await refused(bench, creation("flights"))
    assert (taken.code, taken.field) == (Code.NAME_TAKEN, "name")
    assert first.table_id in taken.message
    assert (await refused(bench, creation("other", location="warehouse/flights"))).code is Code.ROOT_TAKEN
    assert (await refused(bench, adoption("other", "nowhere"))).code is Code.NOT_A_DELTA_TABLE
    feature = await refused(bench, creation("other", properties={"delta.enableRowTracking": "true"}))
    assert (feature.code, feature.value) == (Code.UNSUPPORTED_FEATURE, ["rowTracking"])
    wrong = creation("other").model_copy(update={"tenant": "Not A Tenant"})
    assert (await refused(bench, wrong)).field == "tenant"
    assert stored(bench) == before


async def test_adopting_a_folder(bench: Bench) -> None:
    origin = await run(bench, creation("origin", location="warehouse/origin"))
    log = stored(bench)[paths.delta_log(origin.root, 0)]
    bench.objects.seed(SCOPE.full(paths.delta_log("lake/copy", 0)), log)
    entry = await run(bench, adoption("copy", "lake/copy"))
    assert (entry.name, entry.root) == ("copy", "lake/copy")
    assert entry.table_id != origin.table_id


async def test_input_that_is_no_request_fails_the_run_at_once(bench: Bench) -> None:
    handle = await bench.client.start_workflow(
        names.CREATE_TABLE_WORKFLOW,
        {"tenant": SCOPE.tenant, "workspace": SCOPE.workspace, "kind": "adopt", "create": None},
        id="create-table/by-hand",
        task_queue=names.MAINTENANCE_QUEUE,
    )
    with pytest.raises(WorkflowFailureError) as caught:
        await handle.result()
    assert "adopt" in str(caught.value.cause)


async def test_a_checkpoint_is_written_once(bench: Bench) -> None:
    for name in ("a.parquet", "b.parquet"):
        await bench.commit_one(await bench.stage(name))
    result = await checkpoint(bench, bench.table_id)
    assert result.kind is CheckpointKind.WRITTEN
    assert paths.delta_checkpoint(bench.table.root, result.version) in stored(bench)
    assert (await checkpoint(bench, bench.table_id)).kind is CheckpointKind.CURRENT


async def test_a_checkpoint_of_no_table_is_refused(bench: Bench) -> None:
    with pytest.raises(WorkflowFailureError) as caught:
        await checkpoint(bench, "01946b1c-0000-7000-8000-0000000000aa")
    assert isinstance(caught.value.cause, ApplicationError)
    assert caught.value.cause.type == Code.TABLE_NOT_FOUND.value


async def test_a_commit_starts_a_checkpoint_off_its_path(bench: Bench) -> None:
    """One commit only: a busy table lingers on a timer, and this server strands a run that cancels one late."""
    request = await bench.stage("a.parquet")
    (outcome,) = await bench.commit(request, start=bench.start_input(checkpoint_interval=1))
    assert outcome.result is not None
    assert outcome.result.version == 1

    async def checkpointed() -> bool:
        return paths.delta_last_checkpoint(bench.table.root) in stored(bench)

    await until(checkpointed, "a checkpoint of version 1 with an interval of 1")
    assert paths.delta_checkpoint(bench.table.root, 1) in stored(bench)
