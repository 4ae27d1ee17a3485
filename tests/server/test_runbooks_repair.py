"""The runbook on repairs, followed where a run's workflow, the launcher and Repair itself were terminated by hand."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

import entrypoints.runs
from entrypoints.doctor import temporal_findings
from springline import names
from springline.control.repair import SETTLED_MS
from springline.local.stack import EmbeddedStack
from tests.server.runbook import ROOT, RUNBOOKS, SCOPE, environment_of, follow
from tests.server.test_runbooks_runs import springline, temporal, wait_until
from tests.support.forked_stack import ForkedStack

PAGE = RUNBOOKS / "repair.md"
PIPELINE = """
from springline.sdk import asset

@asset
def names() -> None: ...

@asset(deps=[names])
def report() -> None: ...
"""


def test_what_was_terminated_by_hand_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "operator"
    folder.mkdir()
    file = folder / "flights.py"
    file.write_text(PIPELINE)
    with ForkedStack(tmp_path / "stack", scope=SCOPE, workers=1) as stack:
        springline(stack, "deploy", str(file))
        run = springline(stack, "run", "start", "*report")["run_id"]
        wait_until(lambda: "DISPATCHED" in json.dumps(springline(stack, "run", "show", run)))
        queue = names.attempt_queue(SCOPE.tenant, SCOPE.workspace, "flights")
        wait_until(lambda: wrong_in(stack, monkeypatch) == [f"pipeline runs {queue}"])
        at = springline(stack, "run", "show", run)["run"]["triggered_at"]
        wait_until(lambda: (datetime.now(UTC) - datetime.fromisoformat(at)).total_seconds() > SETTLED_MS / 1_000)
        # Repair first: it would bring the others back.
        for workflow in (
            names.repair_workflow_id(SCOPE.tenant, SCOPE.workspace),
            names.run_launcher_id(SCOPE.tenant, SCOPE.workspace),
            names.run_workflow_id(SCOPE.tenant, SCOPE.workspace, run),
        ):
            terminate(stack, workflow)
        with working(stack, file, folder / "work.log"):
            follow(PAGE, stack, folder, RUN=run)
        attempts = springline(stack, "run", "show", run)["tasks"]
        assert {one["task_key"]: (one["state"], one["attempt"]) for one in attempts} == {
            "names": ("SUCCEEDED", 2),
            "report": ("SUCCEEDED", 1),
        }


def test_its_names_are_ours() -> None:
    text = PAGE.read_text("utf-8")
    assert names.repair_workflow_id("$TENANT", "$WORKSPACE") in text
    assert names.run_launcher_id("$TENANT", "$WORKSPACE") in text
    for name in (f"--type {names.REPAIR_WORKFLOW}", names.RUNS_QUEUE, f"--signal-name {names.WAKE_SIGNAL}"):
        assert name in text


def wrong_in(stack: EmbeddedStack, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the names of what doctor finds wrong in Temporal, attempts that have waited for no time included."""
    monkeypatch.setattr(entrypoints.runs, "ATTEMPT_WAITS_S", 0.0)
    for name, value in stack.child_environment().items():
        if name.startswith("TEMPORAL_"):
            monkeypatch.setenv(name, value)
    return [one.name for one in asyncio.run(temporal_findings()) if one.ok is False]


def terminate(stack: EmbeddedStack, workflow: str) -> None:
    """Terminate a workflow, and return when lists do not show it as open."""
    temporal(stack, "workflow", "terminate", "--workflow-id", workflow)
    query = f"WorkflowId = '{workflow}' AND ExecutionStatus = 'Running'"
    wait_until(lambda: "Total: 0" in temporal(stack, "workflow", "count", "--query", query))


@contextlib.contextmanager
def working(stack: EmbeddedStack, file: Path, log: Path) -> Iterator[None]:
    """Run a worker of users on a file."""
    place = ["--tenant", SCOPE.tenant, "--workspace", SCOPE.workspace]
    command = [sys.executable, "-m", "springline.cli", "work", str(file), *place]
    with log.open("w") as said:
        worker = subprocess.Popen(command, env=environment_of(stack), cwd=ROOT, stdout=said, stderr=said)
    try:
        yield
    finally:
        worker.terminate()
        deadline = time.monotonic() + 120
        while worker.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        worker.kill()
        worker.wait()
