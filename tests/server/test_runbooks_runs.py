"""The runbook on runs, followed where a run has neither a workflow nor a worker, and then fails in part."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Collection
from pathlib import Path
from typing import Any

from springline import names
from springline.exits import EXIT_DONE
from springline.local.binaries import temporal_cli
from springline.local.stack import EmbeddedStack
from tests.server.runbook import ROOT, RUNBOOKS, SCOPE, environment_of, follow
from tests.support.forked_stack import ForkedStack

PAGE = RUNBOOKS / "run-stuck.md"

PIPELINE = """
from pathlib import Path
from springline.sdk import asset

@asset
def source() -> list[int]:
    return [1, 2]

@asset
def report(source: list[int]) -> None:
    mark = Path(__file__).with_name("corrected")
    if not mark.exists():
        mark.touch()
        raise ValueError(f"no rows but {source}")
"""
ABANDONED = """
from springline.sdk import asset

@asset
def old() -> None: ...
"""


def test_a_run_that_does_not_go_on_is_brought_to_its_end(tmp_path: Path) -> None:
    folder = tmp_path / "operator"
    folder.mkdir()
    (folder / "flights.py").write_text(PIPELINE)
    (folder / "abandoned.py").write_text(ABANDONED)
    with ForkedStack(tmp_path / "stack", scope=SCOPE, workers=1) as stack:
        for file in ("flights.py", "abandoned.py"):
            springline(stack, "deploy", str(folder / file))
        run = springline(stack, "run", "start", "*report")["run_id"]
        unwanted = springline(stack, "run", "start", "old")["run_id"]
        wait_until(lambda: "DISPATCHED" in json.dumps(springline(stack, "run", "show", run)))
        workflow = names.run_workflow_id(SCOPE.tenant, SCOPE.workspace, run)
        # Repair would bring it back while the page is read.
        repair = names.repair_workflow_id(SCOPE.tenant, SCOPE.workspace)
        for one in (repair, workflow):
            temporal(stack, "workflow", "terminate", "--workflow-id", one)
        query = f"WorkflowId = '{workflow}' AND ExecutionStatus = 'Running'"
        wait_until(lambda: "Total: 0" in temporal(stack, "workflow", "count", "--query", query))
        printed = follow(PAGE, stack, folder, RUN=run, UNWANTED=unwanted, FILE=str(folder / "flights.py"))
        (failed, _) = printed["5. Make again what failed"]
        assert "no rows but [1, 2]" in failed


def test_its_names_are_ours() -> None:
    text = PAGE.read_text("utf-8")
    assert names.RUNS_QUEUE in text
    assert names.run_launcher_id("$TENANT", "$WORKSPACE") in text
    assert names.run_workflow_id("$TENANT", "$WORKSPACE", "$RUN") in text
    assert names.attempt_queue("$TENANT", "$WORKSPACE", "$LOCATION", None) in text


def springline(stack: EmbeddedStack, *arguments: str, codes: Collection[int] = (EXIT_DONE,)) -> Any:
    """Return the document that a command prints; `codes`: with which it may end."""
    command = [sys.executable, "-m", "springline.cli", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment_of(stack), cwd=ROOT)
    assert done.returncode in codes, done.stderr
    return json.loads(done.stdout)


def temporal(stack: EmbeddedStack, *arguments: str) -> str:
    command = [str(temporal_cli()), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=stack.child_environment())
    return done.stdout


def wait_until(holds: Any) -> None:
    deadline = time.monotonic() + 240
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.1)
