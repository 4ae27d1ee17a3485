"""What a caller process makes of a rebuild's workflow: how it is started, what is told of it, why one ended."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

import pytest
from pydantic import BaseModel
from temporalio.api.common.v1 import ActivityType, Payloads
from temporalio.api.enums.v1 import EventType, PendingActivityState
from temporalio.api.failure.v1 import Failure
from temporalio.api.history.v1 import (
    ActivityTaskCompletedEventAttributes,
    ActivityTaskScheduledEventAttributes,
    HistoryEvent,
)
from temporalio.api.workflow.v1 import PendingActivityInfo
from temporalio.client import (
    Client,
    WorkflowExecutionStatus,
    WorkflowFailureError,
    WorkflowQueryFailedError,
)
from temporalio.common import SearchAttributePair, TypedSearchAttributes, WorkflowIDConflictPolicy
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.converter import DataConverter
from temporalio.exceptions import (
    ApplicationError,
    CancelledError,
    TerminatedError,
    TimeoutError,
    WorkflowAlreadyStartedError,
)
from temporalio.service import RPCError, RPCStatusCode

from entrypoints.rebuild_history import MOST_BAD
from entrypoints.temporal_rebuild import TemporalRebuilds
from springline import names
from springline.errors import Code, Refusal, Refused
from springline.ledger.request import RefusalReason
from springline.paths import Scope
from springline.rebuild.messages import (
    BadEvent,
    PartRead,
    RebuildMode,
    RebuildPlan,
    RebuildRequest,
    RunStatus,
    ShardFolded,
    ShardsPlanned,
)
from workflows.rebuild_messages import RebuildProgress, RebuildResult, RebuildStart
from workflows.search import REBUILD_PERCENT_KEY, REBUILD_PHASE_KEY

SCOPE = Scope("acme", "prod")
WORKFLOW_ID = "rebuild/acme/prod"
RUN_ID = "01a21988-83fc-7ba9-9da3-803c749572d6"
BEGAN = datetime(2026, 2, 21, tzinfo=UTC)
REQUEST = RebuildRequest(rebuild_manifest_path="state/orchestration/rebuilds/one.json", mode=RebuildMode.FULL)
RESULT = RebuildResult(events_processed=2, visibility_status="visible", mode="full")
INCOMPLETE = Refusal(code=Code.LEDGER_INCOMPLETE, message="1 is missing", field="f", value="v", remedy="Restore it.")
DOWN = RPCError("connection refused", RPCStatusCode.UNAVAILABLE, b"")


def refusing(refusal: Refusal) -> ApplicationError:
    return ApplicationError(refusal.message, refusal.model_dump(mode="json"), type=refusal.code.value)


class FakeTemporal:
    """A Temporal client and the handle of its one rebuild. What is an exception is raised."""

    data_converter = pydantic_data_converter

    def __init__(self, status: WorkflowExecutionStatus = WorkflowExecutionStatus.RUNNING) -> None:
        self.status: WorkflowExecutionStatus | BaseException = status
        self.starts: list[tuple[str, BaseModel, dict[str, Any]]] = []
        self.started: BaseException | None = None
        self.outcome: RebuildResult | BaseException | None = None
        self.progress: RebuildProgress | BaseException = RebuildProgress(phase="folding", mode="full", percent=61.0)
        self.pending: list[PendingActivityInfo] = []
        self.history: list[HistoryEvent] = []
        self.cancelled: list[str | None] = []
        self.cancelling: BaseException | None = None
        self.asked: list[str | None] = []
        self.id = WORKFLOW_ID
        self.first_execution_run_id = RUN_ID

    async def start_workflow(self, workflow: str, start: BaseModel, **options: Any) -> FakeTemporal:
        self.starts.append((workflow, start, options))
        if self.started is not None:
            raise self.started
        return self

    def get_workflow_handle(self, workflow_id: str, *, run_id: str | None, result_type: type) -> FakeTemporal:
        assert (workflow_id, result_type) == (WORKFLOW_ID, RebuildResult)
        self.asked.append(run_id)
        return self

    async def describe(self, *, rpc_timeout: object) -> SimpleNamespace:
        if isinstance(self.status, BaseException):
            raise self.status
        has_ended = self.status is not WorkflowExecutionStatus.RUNNING
        return SimpleNamespace(
            id=WORKFLOW_ID,
            run_id=RUN_ID,
            status=self.status,
            start_time=BEGAN,
            close_time=BEGAN if has_ended else None,
            typed_search_attributes=TypedSearchAttributes(
                [
                    SearchAttributePair(REBUILD_PHASE_KEY, "reading"),
                    SearchAttributePair(REBUILD_PERCENT_KEY, 12.0),
                ]
            ),
            raw_description=SimpleNamespace(pending_activities=self.pending),
        )

    async def query(self, name: str, *, result_type: type, rpc_timeout: object) -> RebuildProgress:
        assert (name, result_type) == (names.PROGRESS_QUERY, RebuildProgress)
        if isinstance(self.progress, BaseException):
            raise self.progress
        return self.progress

    async def result(self, *, rpc_timeout: object) -> RebuildResult:
        if self.outcome is None:
            await asyncio.Event().wait()
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        assert self.outcome is not None
        return self.outcome

    async def cancel(self, *, rpc_timeout: object) -> None:
        if self.cancelling is not None:
            raise self.cancelling
        self.cancelled.append(self.asked[-1])

    async def fetch_history_events(self, *, rpc_timeout: object) -> AsyncIterator[HistoryEvent]:
        for event in self.history:
            yield event


def rebuilds(temporal: FakeTemporal) -> TemporalRebuilds:
    return TemporalRebuilds(cast(Client, temporal))


def failed(cause: BaseException, status: WorkflowExecutionStatus = WorkflowExecutionStatus.FAILED) -> FakeTemporal:
    temporal = FakeTemporal(status)
    temporal.outcome = WorkflowFailureError(cause=cause)
    return temporal


async def refusal_of_run(temporal: FakeTemporal) -> Refusal:
    """Return why a run has no result; whoever waits for it and whoever looks at it are told the same."""
    with pytest.raises(Refused) as caught:
        await rebuilds(temporal).result(SCOPE, RUN_ID, 5.0)
    view = await rebuilds(temporal).view(SCOPE)
    assert view is not None
    assert view.failure == caught.value.refusal
    assert view.result is None
    return caught.value.refusal


async def test_it_is_started_under_the_workspaces_id_with_all_that_finds_it() -> None:
    temporal = FakeTemporal()
    asked = REQUEST.model_copy(update={"allow_missing": True})
    assert await rebuilds(temporal).start(SCOPE, asked) == RUN_ID
    ((workflow, start, options),) = temporal.starts
    assert workflow == names.REBUILD_WORKFLOW
    assert start == RebuildStart(
        tenant="acme",
        workspace="prod",
        rebuild_manifest_path=REQUEST.rebuild_manifest_path,
        mode="full",
        allow_missing=True,
    )
    assert (options["id"], options["task_queue"]) == (WORKFLOW_ID, names.REBUILD_QUEUE)
    assert options["id_conflict_policy"] is WorkflowIDConflictPolicy.FAIL
    found_by = {pair.key.name: pair.value for pair in options["search_attributes"]}
    assert found_by == {names.SEARCH_TENANT: "acme", names.SEARCH_WORKSPACE: "prod"}
    assert options["static_summary"] == "rebuild of acme/prod, mode full"
    assert "Readers see the old state" in options["static_details"]


async def test_a_second_one_is_refused_and_told_workflow_and_run_of_the_first() -> None:
    temporal = FakeTemporal()
    temporal.started = WorkflowAlreadyStartedError(WORKFLOW_ID, names.REBUILD_WORKFLOW, run_id=RUN_ID)
    with pytest.raises(Refused) as caught:
        await rebuilds(temporal).start(SCOPE, REQUEST)
    refusal = caught.value.refusal
    assert (refusal.code, refusal.exit_code, refusal.value) == (Code.REBUILD_UNDER_WAY, 3, RUN_ID)
    assert f"workflow {WORKFLOW_ID}, run {RUN_ID}" in refusal.message
    assert "springline rebuild watch" in (refusal.remedy or "")
    assert WORKFLOW_ID in (refusal.remedy or "")


async def test_a_result_is_waited_for_no_longer_than_asked() -> None:
    temporal = FakeTemporal()
    assert await rebuilds(temporal).result(SCOPE, RUN_ID, 0.02) is None
    temporal.outcome = RESULT
    assert await rebuilds(temporal).result(SCOPE, RUN_ID, 5.0) == RESULT.model_dump(mode="json")
    assert temporal.asked == [RUN_ID, RUN_ID]


@pytest.mark.parametrize(
    ("cause", "status", "word"),
    [
        (CancelledError("cancelled"), WorkflowExecutionStatus.CANCELED, "cancelled"),
        (TerminatedError("terminated"), WorkflowExecutionStatus.TERMINATED, "terminated"),
    ],
)
async def test_one_that_somebody_ended_says_so(
    cause: BaseException, status: WorkflowExecutionStatus, word: str
) -> None:
    temporal = failed(cause, status)
    refusal = await refusal_of_run(temporal)
    assert (refusal.code, refusal.exit_code) == (Code.REBUILD_CANCELLED, 3)
    assert refusal.message == f"the rebuild was {word}; nothing was published"
    assert "same manifest" in (refusal.remedy or "")
    view = await rebuilds(temporal).view(SCOPE)
    assert view is not None
    assert (view.status.value, view.ended) == (word, True)


async def test_its_own_refusal_is_told_as_it_is() -> None:
    refusal = INCOMPLETE.model_copy(update={"code": Code.REBUILD_MANIFEST_NOT_FOUND})
    assert await refusal_of_run(failed(refusing(refusal))) == refusal


@pytest.mark.parametrize(
    ("type_", "code", "field", "remedy"),
    [
        ("ValidationError", Code.INVALID_REQUEST, "input", "rebuild_manifest_path"),
        (names.STORE_MISCONFIGURED, Code.STORE_MISCONFIGURED, "store", "springline doctor"),
        (names.INVARIANT_VIOLATED, Code.STORED_DAMAGED, "store", "Nothing was published"),
    ],
)
async def test_a_failure_that_is_no_refusal_gets_a_remedy(type_: str, code: Code, field: str, remedy: str) -> None:
    refusal = await refusal_of_run(failed(ApplicationError("it is so", type=type_)))
    assert (refusal.code, refusal.message, refusal.field) == (code, "it is so", field)
    assert remedy in (refusal.remedy or "")


async def test_one_that_took_too_long_may_be_started_again() -> None:
    cause = TimeoutError("workflow timed out", type=None, last_heartbeat_details=[])
    refusal = await refusal_of_run(failed(cause, WorkflowExecutionStatus.TIMED_OUT))
    assert (refusal.code, refusal.exit_code) == (Code.UNAVAILABLE, 4)
    assert "Start it again" in (refusal.remedy or "")


async def test_a_running_one_is_told_by_its_workflow_and_its_steps() -> None:
    temporal = FakeTemporal()
    heartbeat = await DataConverter.default.encode([640, 128])
    temporal.pending = [
        PendingActivityInfo(
            activity_type=ActivityType(name=names.READ_SLICE),
            attempt=3,
            state=PendingActivityState.PENDING_ACTIVITY_STATE_STARTED,
            heartbeat_details=Payloads(payloads=heartbeat),
            last_failure=Failure(message="the store is away"),
        ),
        PendingActivityInfo(
            activity_type=ActivityType(name=names.READ_SLICE),
            attempt=1,
            state=PendingActivityState.PENDING_ACTIVITY_STATE_SCHEDULED,
        ),
    ]
    view = await rebuilds(temporal).view(SCOPE)
    assert view is not None
    assert (view.workflow_id, view.run_id, view.status) == (WORKFLOW_ID, RUN_ID, RunStatus.RUNNING)
    assert (view.started_at, view.ended_at, view.ended) == (BEGAN, None, False)
    assert view.progress is not None
    assert (view.progress["phase"], view.progress["percent"]) == ("folding", 61.0)
    assert [step.model_dump() for step in view.steps] == [
        {"name": "read_slice", "attempt": 3, "started": True, "reported": [640, 128]}
        | {"last_failure": "the store is away"},
        {"name": "read_slice", "attempt": 1, "started": False, "reported": [], "last_failure": None},
    ]
    # What was described is what is asked: another run may have begun meanwhile.
    assert temporal.asked == [None, RUN_ID]


@pytest.mark.parametrize("silence", [RPCError("no poller", RPCStatusCode.DEADLINE_EXCEEDED, b""), DOWN])
@pytest.mark.parametrize("status", [WorkflowExecutionStatus.RUNNING, WorkflowExecutionStatus.COMPLETED])
async def test_without_any_worker_it_is_told_by_what_the_server_keeps(
    silence: RPCError, status: WorkflowExecutionStatus
) -> None:
    temporal = FakeTemporal(status)
    temporal.progress, temporal.outcome = silence, RESULT
    view = await rebuilds(temporal).view(SCOPE)
    assert view is not None
    assert view.progress is None
    assert (view.phase, view.percent) == ("reading", 12.0)
    assert view.result == (RESULT.model_dump(mode="json") if view.ended else None)


async def test_a_query_that_fails_in_the_workflow_hides_nothing_else() -> None:
    temporal = FakeTemporal()
    temporal.progress = WorkflowQueryFailedError("not yet")
    view = await rebuilds(temporal).view(SCOPE)
    assert view is not None
    assert (view.status, view.progress, view.phase) == (RunStatus.RUNNING, None, "reading")


@pytest.mark.parametrize("status", list(WorkflowExecutionStatus))
async def test_every_status_of_temporal_has_a_word(status: WorkflowExecutionStatus) -> None:
    temporal = FakeTemporal(status)
    temporal.outcome = RESULT
    view = await rebuilds(temporal).view(SCOPE)
    assert view is not None
    goes_on = status in (WorkflowExecutionStatus.RUNNING, WorkflowExecutionStatus.CONTINUED_AS_NEW)
    assert view.ended is not goes_on


@pytest.mark.parametrize("status", [RPCStatusCode.NOT_FOUND, RPCStatusCode.INVALID_ARGUMENT])
async def test_a_run_that_nobody_knows_is_none(status: RPCStatusCode) -> None:
    temporal = FakeTemporal()
    temporal.status = RPCError("no such run", status, b"")
    assert await rebuilds(temporal).view(SCOPE, "nonsense") is None
    assert await rebuilds(temporal).cancel(SCOPE) is None


async def test_the_one_that_runs_is_cancelled_and_no_other() -> None:
    temporal = FakeTemporal()
    view = await rebuilds(temporal).cancel(SCOPE)
    assert view is not None
    assert view.run_id == RUN_ID
    assert temporal.cancelled == [RUN_ID]
    ended = FakeTemporal(WorkflowExecutionStatus.COMPLETED)
    ended.outcome = RESULT
    assert await rebuilds(ended).cancel(SCOPE) is None
    assert ended.cancelled == []


async def test_one_that_ended_before_it_could_be_cancelled_is_none() -> None:
    temporal = FakeTemporal()
    temporal.cancelling = RPCError("workflow execution already completed", RPCStatusCode.NOT_FOUND, b"")
    assert await rebuilds(temporal).cancel(SCOPE) is None
    temporal.cancelling = DOWN
    with pytest.raises(Refused) as caught:
        await rebuilds(temporal).cancel(SCOPE)
    assert caught.value.refusal.code is Code.UNAVAILABLE


@pytest.mark.parametrize("error", [DOWN, RuntimeError("Failed client connect")])
async def test_temporal_that_is_away_is_told_of_by_every_call(error: BaseException) -> None:
    temporal = FakeTemporal()
    temporal.started = temporal.status = temporal.outcome = error
    port = rebuilds(temporal)
    for call in (port.start(SCOPE, REQUEST), port.result(SCOPE, RUN_ID, 5.0), port.view(SCOPE), port.cancel(SCOPE)):
        with pytest.raises(Refused) as caught:
            await call
        refusal = caught.value.refusal
        assert (refusal.code, refusal.exit_code) == (Code.UNAVAILABLE, 4)
        assert "springline doctor" in (refusal.remedy or "")


# What the steps of a refused one have found.


def bad(path: str, reason: RefusalReason = RefusalReason.MISSING) -> BadEvent:
    return BadEvent(path=path, reason=reason, message="so it is")


async def history(*steps: tuple[str, BaseModel]) -> list[HistoryEvent]:
    """Return a history in which all steps are scheduled, and then end in reverse order."""
    scheduled = [
        HistoryEvent(
            event_id=number,
            event_type=EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED,
            activity_task_scheduled_event_attributes=ActivityTaskScheduledEventAttributes(
                activity_type=ActivityType(name=name)
            ),
        )
        for number, (name, _) in enumerate(steps, 5)
    ]
    ended = [
        HistoryEvent(
            event_id=100 + number,
            event_type=EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED,
            activity_task_completed_event_attributes=ActivityTaskCompletedEventAttributes(
                scheduled_event_id=number,
                result=Payloads(payloads=await pydantic_data_converter.encode([answer])),
            ),
        )
        for number, (_, answer) in enumerate(steps, 5)
    ]
    return [HistoryEvent(event_id=1), *scheduled, *reversed(ended)]


PLAN = RebuildPlan(work_id="0" * 26, slices=2, segments=1, listed=9, shards=1)


async def test_a_refused_one_names_what_is_missing_damaged_or_not_listed_without_any_worker() -> None:
    temporal = failed(refusing(INCOMPLETE))
    temporal.progress = RPCError("no poller", RPCStatusCode.DEADLINE_EXCEEDED, b"")
    temporal.history = await history(
        (names.PLAN_REBUILD, PLAN),
        (names.READ_SLICE, PartRead(number=0, events=3, missing=1, bad=[bad("a")])),
        (names.READ_SLICE, PartRead(number=1, events=3)),
        (names.SCAN_SEGMENT, PartRead(number=0, events=3, damaged=1, bad=[bad("b", RefusalReason.OTHER_BODY)])),
        (names.PLAN_SHARDS, ShardsPlanned(split="x", events=9, gap_count=2, gaps=["01A", "01B"])),
        (names.FOLD_SHARD, ShardFolded(number=0, events=9, damaged=1, bad=[bad("c", RefusalReason.OTHER_BODY)])),
    )
    view = await rebuilds(temporal).view(SCOPE)
    assert view is not None
    assert view.failure == INCOMPLETE
    assert {one.path: one.reason for one in view.missing_or_damaged} == {
        "a": RefusalReason.MISSING,
        "b": RefusalReason.OTHER_BODY,
        "c": RefusalReason.OTHER_BODY,
    }
    assert view.accepted_and_not_listed == ["01A", "01B"]


async def test_no_more_is_named_than_an_answer_should_hold() -> None:
    temporal = failed(refusing(INCOMPLETE))
    parts = [
        (names.READ_SLICE, PartRead(number=number, events=0, missing=400, bad=[bad(f"{number}")] * 400))
        for number in range(3)
    ]
    temporal.history = await history(*parts)
    view = await rebuilds(temporal).view(SCOPE)
    assert view is not None
    assert len(view.missing_or_damaged) == MOST_BAD


async def test_no_history_is_read_for_any_other_end() -> None:
    temporal = failed(refusing(INCOMPLETE.model_copy(update={"code": Code.INVALID_REQUEST})))
    temporal.history = await history((names.READ_SLICE, PartRead(number=0, events=0, missing=1, bad=[bad("a")])))
    view = await rebuilds(temporal).view(SCOPE)
    assert view is not None
    assert view.missing_or_damaged == []
