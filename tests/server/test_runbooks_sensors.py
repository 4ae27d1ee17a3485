"""The runbook on sensors, followed where one fails and its workflow is gone."""

from __future__ import annotations

from pathlib import Path

from springline import names
from tests.server.runbook import RUNBOOKS, SCOPE, follow
from tests.server.test_runbooks_runs import springline, temporal, wait_until
from tests.support.forked_stack import ForkedStack

PAGE = RUNBOOKS / "sensor-stuck.md"
PIPELINE = """
from springline.sdk import asset, table_sensor

@asset
def report() -> None: ...

prices = table_sensor("prices", table="no-such-table", select=report, every="1h")
"""
WORKFLOW = names.sensor_workflow_id(SCOPE.tenant, SCOPE.workspace, "prices")


def test_a_sensor_that_fails_without_a_workflow_is_brought_back(tmp_path: Path) -> None:
    folder = tmp_path / "operator"
    folder.mkdir()
    (folder / "prices.py").write_text(PIPELINE)
    with ForkedStack(tmp_path / "stack", scope=SCOPE, workers=1) as stack:
        springline(stack, "deploy", str(folder / "prices.py"))
        wait_until(lambda: len(springline(stack, "sensor", "history", "prices")["evaluations"]) > 0)
        temporal(stack, "workflow", "terminate", "--workflow-id", WORKFLOW)
        query = f"WorkflowId = '{WORKFLOW}' AND ExecutionStatus = 'Running'"
        wait_until(lambda: "Total: 0" in temporal(stack, "workflow", "count", "--query", query))
        follow(PAGE, stack, folder, SENSOR="prices")
        doing = springline(stack, "sensor", "show", "prices")["doing"]
        assert doing["decisions"][-1]["reason_code"] == "TABLE_NOT_FOUND"


def test_its_names_are_ours() -> None:
    text = PAGE.read_text("utf-8")
    for name in (names.SENSOR_WORKFLOW, names.RUNS_QUEUE, f"--signal-name {names.WAKE_SIGNAL}"):
        assert name in text
    assert names.sensor_workflow_id("$TENANT", "$WORKSPACE", "$SENSOR") in text
    assert f"{names.METRIC_SENSOR_LATE_SECONDS}_seconds" in text
    assert f"{names.METRIC_SENSOR_EVALUATIONS}_total" in text
