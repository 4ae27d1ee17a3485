"""The runbook on schedules, followed where the evaluator is gone."""

from __future__ import annotations

from pathlib import Path

from springline import names
from tests.server.runbook import RUNBOOKS, SCOPE, follow
from tests.server.test_runbooks_runs import springline, temporal, wait_until
from tests.support.forked_stack import ForkedStack

PAGE = RUNBOOKS / "schedule-drift.md"
PIPELINE = """
from springline.sdk import asset, schedule

@asset
def beat() -> None: ...

often = schedule("often", every="1s", select=beat)
"""
EVALUATOR = names.schedule_evaluator_id(SCOPE.tenant, SCOPE.workspace)


def test_a_schedule_without_an_evaluator_goes_on(tmp_path: Path) -> None:
    folder = tmp_path / "operator"
    folder.mkdir()
    (folder / "beats.py").write_text(PIPELINE)
    with ForkedStack(tmp_path / "stack", scope=SCOPE, workers=1) as stack:
        springline(stack, "deploy", str(folder / "beats.py"))
        wait_until(lambda: len(springline(stack, "schedule", "history", "often")["ticks"]) > 1)
        temporal(stack, "workflow", "terminate", "--workflow-id", EVALUATOR)
        query = f"WorkflowId = '{EVALUATOR}' AND ExecutionStatus = 'Running'"
        wait_until(lambda: "Total: 0" in temporal(stack, "workflow", "count", "--query", query))
        before = len(springline(stack, "schedule", "history", "often", "--limit", "1000")["ticks"])
        follow(PAGE, stack, folder, SCHEDULE="often")
        wait_until(lambda: len(springline(stack, "schedule", "history", "often", "--limit", "1000")["ticks"]) > before)
        ticks = springline(stack, "schedule", "history", "often", "--limit", "1000")["ticks"]
        instants = [tick["scheduled_for"] for tick in ticks if ":manual:" not in tick["tick_id"]]
        assert len(instants) == len(set(instants))


def test_its_names_are_ours() -> None:
    text = PAGE.read_text("utf-8")
    for name in (names.SCHEDULE_EVALUATOR, names.RUNS_QUEUE, f"--signal-name {names.WAKE_SIGNAL}"):
        assert name in text
    assert names.schedule_evaluator_id("$TENANT", "$WORKSPACE") in text
    assert f"{names.METRIC_SCHEDULE_LATE_SECONDS}_seconds" in text
