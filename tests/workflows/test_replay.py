"""Saved histories replay on today's code: what is running at a deploy goes on (docs/protocol.md#histories)."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from temporalio.client import WorkflowHistory
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import Replayer
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions
from temporalio.workflow import NondeterminismError

from springline.sequencer.messages import Appended, Folded
from tests.workflows.record_histories import FOLDER
from worker import PASSED_THROUGH
from workflows.backfill_evaluator import BackfillEvaluator
from workflows.commit import CommitWorkflow
from workflows.garbage import GarbageWorkflow
from workflows.ledger import LedgerWorkflow
from workflows.pool import PoolWorkflow
from workflows.rebuild import RebuildWorkflow
from workflows.repair import Repair
from workflows.request_backfill import RequestBackfillWorkflow
from workflows.request_run import RequestRunWorkflow
from workflows.run import RunWorkflow
from workflows.run_launcher import RunLauncher
from workflows.run_shard import RunShardWorkflow
from workflows.schedule_evaluator import ScheduleEvaluator
from workflows.sensor import SensorWorkflow
from workflows.tables import CheckpointWorkflow, CreateTableWorkflow

pytestmark = [pytest.mark.replays, pytest.mark.usefixtures("strict_replay")]
SAVED = sorted(FOLDER.glob("*.json"))


def replayer() -> Replayer:
    return Replayer(
        workflows=[
            CommitWorkflow,
            CreateTableWorkflow,
            CheckpointWorkflow,
            LedgerWorkflow,
            GarbageWorkflow,
            RebuildWorkflow,
            RunLauncher,
            RunWorkflow,
            RunShardWorkflow,
            ScheduleEvaluator,
            SensorWorkflow,
            BackfillEvaluator,
            RequestBackfillWorkflow,
            PoolWorkflow,
            RequestRunWorkflow,
            Repair,
        ],
        workflow_runner=SandboxedWorkflowRunner(
            restrictions=SandboxRestrictions.default.with_passthrough_modules(*PASSED_THROUGH)
        ),
        data_converter=pydantic_data_converter,
    )


def history_of(file: Path) -> WorkflowHistory:
    return WorkflowHistory.from_json(file.stem, file.read_text())


async def test_every_saved_history_replays() -> None:
    async def histories() -> AsyncIterator[WorkflowHistory]:
        for file in SAVED:
            yield history_of(file)

    results = await replayer().replay_workflows(histories(), raise_on_replay_failure=False)
    assert results.replay_failures == {}
    assert len(SAVED) > 40


def test_every_way_a_round_can_go_is_saved() -> None:
    text = "\n".join(file.read_text() for file in SAVED)
    for what in (
        '"name":"finalize_and_reserve"',
        '"name":"admit_foreign"',
        '"name":"sweep_garbage"',
        '"name":"LedgerWorkflow"',
        '"name":"RebuildWorkflow"',
        '"name":"RunWorkflow"',
        '"name":"RunLauncher"',
        '"name":"ScheduleEvaluator"',
        '"name":"PoolWorkflow"',
        '"name":"wake_runs"',
        '"name":"ask_pools"',
        '"name":"read_pool"',
        '"name":"load_run"',
        '"name":"Repair"',
        '"name":"make_repairs"',
        '"name":"request_run"',
        '"name":"switch_state"',
        '"name":"compare"',
        "EVENT_TYPE_WORKFLOW_EXECUTION_CANCEL_REQUESTED",
        '"attempt":2',
        "EVENT_TYPE_ACTIVITY_TASK_FAILED",
        "EVENT_TYPE_TIMER_FIRED",
        "EVENT_TYPE_START_CHILD_WORKFLOW_EXECUTION_INITIATED",
        "EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_COMPLETED",
        "EVENT_TYPE_WORKFLOW_EXECUTION_FAILED",
        "EVENT_TYPE_WORKFLOW_EXECUTION_TERMINATED",
        "EVENT_TYPE_UPSERT_WORKFLOW_SEARCH_ATTRIBUTES",
    ):
        assert what in text, what


def test_the_saved_histories_say_nothing_of_the_machine_that_made_them() -> None:
    for file in SAVED:
        assert "stackTrace" not in file.read_text()
        identities = {event_identity for event_identity in _identities(json.loads(file.read_text()))}
        assert identities <= {"springline-test", "test-server", ""}, file.name


def _identities(value: Any) -> list[str]:
    if isinstance(value, dict):
        own = [value["identity"]] if isinstance(value.get("identity"), str) else []
        return own + [one for inner in value.values() for one in _identities(inner)]
    if isinstance(value, list):
        return [one for inner in value for one in _identities(inner)]
    return []


@pytest.mark.parametrize("spoil", ["renamed activity", "missing activity"])
async def test_the_replayer_notices_a_changed_course(spoil: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The replay test can fail: a workflow that takes another course than the history is found out."""
    spoils: dict[str, Callable[[], None]] = {
        "renamed activity": lambda: monkeypatch.setattr("springline.names.WRITE_MARKER", "write_markers"),
        "missing activity": lambda: monkeypatch.setattr(CommitWorkflow, "_finalize", _nothing),
    }
    spoils[spoil]()
    (file,) = FOLDER.glob("a_helper_before_finalize_does_no_harm--1.json")
    with pytest.raises(NondeterminismError):
        await replayer().replay_workflow(history_of(file))


@pytest.mark.parametrize("spoil", ["renamed activity", "other order"])
async def test_the_replayer_notices_a_changed_course_of_the_ledger(spoil: str, monkeypatch: pytest.MonkeyPatch) -> None:
    spoils: dict[str, Callable[[], None]] = {
        "renamed activity": lambda: monkeypatch.setattr("springline.names.PUBLISH", "publish_round"),
        "other order": lambda: monkeypatch.setattr("workflows.ledger_steps.append_and_fold", _published_at_once),
    }
    spoils[spoil]()
    (file,) = FOLDER.glob("LedgerWorkflow--who_comes_during_a_round_shares_the_next--1.json")
    with pytest.raises(NondeterminismError):
        await replayer().replay_workflow(history_of(file))


async def _published_at_once(*_: object) -> tuple[Appended, Folded]:
    folded = Folded(kind="delta", manifest_id="0" * 20, manifest_sha256="", last_event_id=None, events=0, digest="")
    return Appended(events=0, written=0), folded


async def _nothing(workflow: CommitWorkflow) -> None:
    workflow._finished = None
