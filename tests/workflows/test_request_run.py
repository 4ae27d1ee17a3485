"""Asking for a run by Temporal alone: judged as over HTTP, once for each key, refused by field."""

from __future__ import annotations

from typing import Any

import pytest
from temporalio.client import WorkflowFailureError
from temporalio.exceptions import ApplicationError

from springline.errors import Code, Refusal
from tests.support.definitions import asset
from tests.workflows.runs_bench import RunsBench

pytestmark = pytest.mark.usefixtures("long_patience")


async def refusal(runs: RunsBench, **asked: Any) -> Refusal:
    with pytest.raises(WorkflowFailureError) as failed:
        await runs.ask(**asked)
    cause = failed.value.cause
    assert isinstance(cause, ApplicationError)
    found = Refusal.model_validate(cause.details[0])
    assert (cause.type, cause.non_retryable) == (found.code.value, True)
    return found


async def test_a_run_is_asked_for_and_made(runs: RunsBench) -> None:
    await runs.deploy(asset("raw"), asset("clean", "raw"))
    answer = await runs.ask(select=["*clean"], labels={"team": "sales"}, priority=3)
    assert answer.run_id is not None
    assert answer.run_key.startswith("api:")
    assert (answer.manifest_id, answer.tasks, answer.replayed) == (runs.manifest_id, 2, False)
    assert (await runs.run_ended(answer.run_id)).tasks == {"SUCCEEDED": 2}


async def test_a_key_stands_for_one_request(runs: RunsBench) -> None:
    await runs.deploy(asset("raw"))
    first = await runs.ask(select=["raw"], run_key="nightly")
    again = await runs.ask(select=["raw"], run_key="nightly")
    assert (again.run_id, again.replayed) == (first.run_id, True)
    found = await refusal(runs, select=["raw"], run_key="nightly", config={"rows": 1})
    assert (found.code, found.field) == (Code.KEY_REUSED, "run_key")
    assert first.run_id is not None
    await runs.run_ended(first.run_id)
    assert len(await runs.rows("runs")) == 1


@pytest.mark.parametrize(
    ("asked", "code", "field", "said"),
    [
        ({}, Code.INVALID_REQUEST, "select", "is missing"),
        ({"select": "raw"}, Code.INVALID_REQUEST, "select", "list"),
        ({"select": ["nothing"]}, Code.INVALID_REQUEST, "select", "nothing"),
        ({"select": ["raw"], "key": "x"}, Code.INVALID_REQUEST, "key", "is not a field"),
        ({"select": ["raw"], "priority": 101}, Code.INVALID_REQUEST, "priority", "100"),
        ({"select": ["raw"], "run_key": "sched:x"}, Code.INVALID_REQUEST, "run_key", ""),
        ({"select": ["raw"], "workspace": "NO"}, Code.INVALID_REQUEST, "workspace", ""),
        ({"select": ["raw"], "workspace": "empty"}, Code.NOT_FOUND, "manifest", "nothing is deployed"),
    ],
    ids=["missing", "type", "asset", "unknown", "bound", "reserved", "scope", "undeployed"],
)
@pytest.mark.not_recorded
async def test_what_cannot_be_asked_is_refused_by_field(
    runs: RunsBench, asked: dict[str, Any], code: Code, field: str, said: str
) -> None:
    await runs.deploy(asset("raw"))
    found = await refusal(runs, **asked)
    assert (found.code, found.field) == (code, field)
    assert said in found.message
    assert found.remedy
    assert await runs.rows("runs") == []


@pytest.mark.not_recorded
async def test_an_input_without_a_workspace_fails_at_once(runs: RunsBench) -> None:
    with pytest.raises(WorkflowFailureError) as failed:
        await runs.ask(workspace=None, select=["raw"])
    assert "workspace" in str(failed.value.cause)
