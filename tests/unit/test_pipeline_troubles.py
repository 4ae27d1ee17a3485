"""What `springline doctor` finds in Temporal about pipelines' runs: attempts without a worker are no stuck workflow."""

from __future__ import annotations

from temporalio.api.enums.v1 import PendingActivityState
from temporalio.api.workflow.v1 import PendingActivityInfo
from temporalio.api.workflowservice.v1 import DescribeWorkflowExecutionResponse

from entrypoints.doctor import queue_findings, run_finding
from entrypoints.runs import ATTEMPT_WAITS_S, Trouble, WaitingQueue, is_unserved, waiting_queues
from springline import names
from springline.cli.findings import FindingState

NOW_S = 1_000_000.0
SCHEDULED = PendingActivityState.PENDING_ACTIVITY_STATE_SCHEDULED
STARTED = PendingActivityState.PENDING_ACTIVITY_STATE_STARTED


def pending(name: str, queue: str, waited_s: float, state: int = SCHEDULED) -> DescribeWorkflowExecutionResponse:
    activity = PendingActivityInfo(state=PendingActivityState.ValueType(state), attempt=1)
    activity.activity_type.name = name
    activity.scheduled_time.FromNanoseconds(int((NOW_S - waited_s) * 1e9))
    activity.activity_options.task_queue.name = queue
    return DescribeWorkflowExecutionResponse(pending_activities=[activity])


def test_attempts_that_wait_are_counted_by_queue() -> None:
    described = [
        pending(names.RUN_ATTEMPT, "b", ATTEMPT_WAITS_S + 5),
        pending(names.RUN_ATTEMPT, "b", ATTEMPT_WAITS_S + 9),
        pending(names.RUN_ATTEMPT, "a", ATTEMPT_WAITS_S + 1),
        pending(names.RUN_ATTEMPT, "young", ATTEMPT_WAITS_S - 1),
        pending(names.RUN_ATTEMPT, "made", ATTEMPT_WAITS_S + 9, STARTED),
        pending(names.LOAD_RUN, names.RUNS_QUEUE, ATTEMPT_WAITS_S + 9),
    ]
    assert waiting_queues(described, NOW_S) == [
        WaitingQueue("a", 1, ATTEMPT_WAITS_S + 1),
        WaitingQueue("b", 2, ATTEMPT_WAITS_S + 9),
    ]


def test_a_run_whose_attempts_wait_for_users_workers_is_served() -> None:
    """Else a build with workers of its own would lose its runs to another one, and doctor would call them stuck."""
    assert not is_unserved(pending(names.RUN_ATTEMPT, "b", 60), NOW_S, 3)
    assert is_unserved(pending(names.LOAD_RUN, names.RUNS_QUEUE, 60), NOW_S, 3)


def test_a_queue_without_a_worker_is_told_with_its_remedy_and_a_busy_one_is_not() -> None:
    (found,) = queue_findings([(WaitingQueue("a", 2, 61.0), False), (WaitingQueue("b", 3, 99.0), True)])
    assert (found.name, found.state) == ("pipeline runs a", FindingState.UNREACHABLE)
    assert found.what == "2 attempt(s) have waited for up to 61 s, and no worker polls a"
    assert "springline work" in str(found.remedy)


def test_a_run_whose_workflow_task_fails_is_wrong() -> None:
    found = run_finding([Trouble("run/a/b/c", "r", "its workflow task fails, attempt 7")], [], name="pipeline runs")
    assert (found.name, found.state) == ("pipeline runs", FindingState.WRONG)
    assert "run/a/b/c" in found.what
