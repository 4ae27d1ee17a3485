"""The runbook on backfills, followed on real processes where the evaluator was terminated by hand."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from springline import names
from tests.server.runbook import RUNBOOKS, SCOPE, follow
from tests.server.test_runbooks_runs import springline, temporal, wait_until
from tests.support.forked_stack import ForkedStack

PAGE = RUNBOOKS / "backfill-stalled.md"
PIPELINE = """
import time

from springline.sdk import asset, daily

@asset(partitions=daily(start="2024-01-01"))
def slow() -> None:
    time.sleep(60)

@asset(partitions=daily(start="2024-01-01"))
def raw() -> None: ...
"""
QUICK = ("raw", "--from", "2024-01-01", "--to", "2024-01-12", "--chunk-size", "3")


def test_a_backfill_without_an_evaluator_is_found_brought_back_and_ended(tmp_path: Path) -> None:
    folder = tmp_path / "operator"
    folder.mkdir()
    (folder / "days.py").write_text(PIPELINE)
    with ForkedStack(tmp_path / "stack", scope=SCOPE, workers=1) as stack:
        springline(stack, "deploy", str(folder / "days.py"))
        created = springline(stack, "backfill", "create", "slow", "--all", "--chunk-size", "1", "--key", "s")
        name = created["backfill_id"]
        evaluator = names.backfill_evaluator_id(SCOPE.tenant, SCOPE.workspace, name)

        def running() -> bool:
            chunks = springline(stack, "backfill", "show", name)["chunks"]
            return [chunk.get("run_state") for chunk in chunks] == ["RUNNING", "RUNNING"]

        wait_until(running)
        temporal(stack, "workflow", "terminate", "--workflow-id", evaluator)
        query = f"WorkflowId = '{evaluator}' AND ExecutionStatus = 'Running'"
        wait_until(lambda: "Total: 0" in temporal(stack, "workflow", "count", "--query", query))
        follow(PAGE, stack, folder, BACKFILL=name)

        def over() -> bool:
            found = springline(stack, "backfill", "show", name)
            return bool(found["backfill"]["state"] == "CANCELLED" and found["progress"]["chunks_running"] == 0)

        wait_until(over)
        planned = Counter(chunk["chunk_id"] for chunk in springline(stack, "backfill", "show", name)["chunks"])
        assert set(planned.values()) == {1}


def test_its_names_are_ours() -> None:
    text = PAGE.read_text("utf-8")
    for name in (names.BACKFILL_EVALUATOR, names.RUNS_QUEUE, f"--signal-name {names.WAKE_SIGNAL}"):
        assert name in text
    assert names.backfill_evaluator_id("$TENANT", "$WORKSPACE", "$BACKFILL") in text
