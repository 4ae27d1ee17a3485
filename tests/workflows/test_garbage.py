"""GarbageWorkflow on a real (time-skipping) server: what is superseded goes after the quarantine, all else stays."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

import pytest
from temporalio.client import WorkflowFailureError, WorkflowHandle
from temporalio.exceptions import ApplicationError
from temporalio.testing import WorkflowEnvironment

from springline import names
from springline.errors import Code
from springline.paths import orchestration_garbage_prefix
from springline.sequencer.garbage.sweep import QUARANTINE_MS
from springline.sequencer.messages import GarbageReport
from tests.support.ledger_events import run_request
from tests.workflows.faults import raises
from tests.workflows.ledger_bench import LedgerBench
from tests.workflows.runs import scrubbed, until
from workflows.ledger_messages import QUARANTINE_S, GarbageStart


async def start(ledger: LedgerBench, **fields: object) -> WorkflowHandle[object, GarbageReport]:
    document = {"tenant": ledger.scope.tenant, "workspace": ledger.scope.workspace, "keep_revisions": 1, **fields}
    return await ledger.client.start_workflow(
        names.GARBAGE_WORKFLOW,
        GarbageStart.model_validate(document),
        id=names.garbage_workflow_id(ledger.scope.tenant, ledger.scope.workspace),
        task_queue=names.MAINTENANCE_QUEUE,
        result_type=GarbageReport,
    )


async def record(handle: WorkflowHandle[object, GarbageReport], name: str) -> None:
    folder = os.environ.get("SPRINGLINE_RECORD_HISTORIES")
    if folder:
        file = Path(folder) / f"{names.GARBAGE_WORKFLOW}--{name}.json"
        file.write_text(scrubbed(await handle.fetch_history()) + "\n")


def test_the_workflow_waits_as_long_as_a_sweep_asks_for() -> None:
    assert QUARANTINE_S * 1000 == QUARANTINE_MS


async def test_what_is_superseded_goes_after_the_quarantine_and_the_state_stays(
    own_ledger: LedgerBench, own_environment: WorkflowEnvironment
) -> None:
    ledger = own_ledger
    for number in range(5):
        await ledger.append_one(run_request(f"run-{number}"))
    await ledger.finished()
    before, objects = await ledger.head(), len(ledger.objects.objects)
    ledger.faults.after(names.MARK_GARBAGE, raises)
    handle = await start(ledger)

    async def is_marked() -> bool:
        return any(orchestration_garbage_prefix() in path for path in ledger.objects.objects)

    async def is_waiting() -> bool:
        history = await handle.fetch_history()
        return any(event.HasField("timer_started_event_attributes") for event in history.events)

    await until(is_marked, "the garbage is marked")
    # Time that passes before the quarantine begins is none of it, and after a lost attempt the server skips no more.
    await until(is_waiting, "the quarantine has begun")
    assert len(ledger.objects.objects) == objects + 1, "nothing is deleted yet"
    await own_environment.sleep(timedelta(seconds=QUARANTINE_S + 60))
    report = await handle.result()
    assert report.deleted > 0
    assert len(ledger.objects.objects) == objects + 1 - report.deleted
    assert await ledger.head() == before
    again = await ledger.append_one(run_request("later"))
    assert again.events[0].event_id > (before.last_event_id or "")
    assert (await ledger.head()).events == before.events + 2
    await record(handle, "what_is_superseded_goes_after_the_quarantine_and_the_state_stays")


async def test_a_workspace_without_garbage_is_done_at_once(ledger: LedgerBench) -> None:
    handle = await start(ledger)
    report = await handle.result()
    assert (report.marked, report.deleted) == (0, 0)
    await record(handle, "a_workspace_without_garbage_is_done_at_once")


async def test_a_workspace_that_cannot_be_fails_the_run_and_says_why(ledger: LedgerBench) -> None:
    handle = await start(ledger, workspace="../etc")
    with pytest.raises(WorkflowFailureError) as caught:
        await handle.result()
    assert isinstance(caught.value.cause, ApplicationError)
    assert caught.value.cause.type == Code.INVALID_REQUEST
    await record(handle, "a_workspace_that_cannot_be_fails_the_run_and_says_why")
