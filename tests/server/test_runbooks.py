"""The runbooks are followed to the letter on an embedded stack, in the trouble that they are for."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from uuid_utils import uuid7

from springline import names
from springline.commit.registry import Registry
from springline.commit.reserve import reserve
from springline.commit.staging import stage
from springline.commit.table import CommitTable
from springline.commit.tables import create_table
from springline.delta.messages import CommitRequest
from springline.delta.table_request import CreateTable
from springline.exits import EXIT_INTERRUPTED
from springline.local.binaries import temporal_cli
from springline.local.ports import LOOPBACK
from springline.local.stack import EmbeddedStack
from springline.storage.scoped import ScopedStore
from springline.storage.url import open_store
from tests.cli.conftest import payload
from tests.judging.committing import order_of
from tests.server import (
    test_runbooks_backfills,
    test_runbooks_deploy,
    test_runbooks_failover,
    test_runbooks_ledger,
    test_runbooks_repair,
    test_runbooks_runs,
    test_runbooks_schedules,
    test_runbooks_sensors,
)
from tests.server.runbook import ROOT, RUNBOOKS, SCOPE, blocks_of, follow, matches
from tests.support.forked_commands import forked_commands
from tests.support.forked_stack import ForkedStack

STUCK = RUNBOOKS / "stuck-commit.md"
TEMPORAL_CLI = RUNBOOKS / "temporal-cli.md"


@pytest.fixture
def stack(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[EmbeddedStack]:
    with ForkedStack(tmp_path / "stack", scope=SCOPE, workers=request.param) as running:
        yield running


@pytest.mark.parametrize("stack", [0], indirect=True)
def test_a_stuck_commit_is_found_and_brought_to_its_end(stack: EmbeddedStack, tmp_path: Path) -> None:
    """No worker is left, a caller waits, and the process that reserved a version for him is dead."""
    table_id, request = asyncio.run(leave_a_reservation(stack.store_url))
    start_the_callers_workflow(stack, table_id, request)
    folder = tmp_path / "operator"
    folder.mkdir()
    printed = follow(STUCK, stack, folder, TABLE="flights", KEY=request.idempotency_key)
    (recovered,) = printed["3. Complete or abandon what is in flight"]
    assert orjson.loads(recovered)["done"] == [
        {
            "kind": "completed",
            "commit_id": request.idempotency_key,
            "version": 1,
            "keys": [request.idempotency_key],
        }
    ]
    answered = printed["4. Bring the workers back"][-1]
    assert '"replayed":true' in answered
    assert '"version":1' in answered


async def leave_a_reservation(store_url: str) -> tuple[str, CommitRequest]:
    """Create a table, stage a payload and reserve a version for it, as a process does that dies right then."""
    whole = open_store(store_url)
    store = ScopedStore(whole, SCOPE)
    spec = CreateTable(name="flights", columns=[{"name": "id", "type": "long"}])
    now_ms = time.time_ns() // 1_000_000
    entry = await create_table(store, SCOPE, spec, str(uuid7()), now_ms)
    key = str(uuid7())
    staged = await stage(store, entry.table_id, key, payload().encode())
    request = CommitRequest(idempotency_key=key, read_version=0, staged_path=staged.path, staged_version=staged.version)
    table = CommitTable(store, entry.table_id, await Registry(store).root_of(entry.table_id))
    result = await reserve(table, order_of(table, request, now_ms=now_ms))
    assert result.reservation is not None
    await whole.aclose()
    return entry.table_id, request


def start_the_callers_workflow(stack: EmbeddedStack, table_id: str, request: CommitRequest) -> None:
    """Start the table's workflow with the waiting request, and return when a search finds it."""
    workflow_id = names.commit_workflow_id(SCOPE.tenant, SCOPE.workspace, table_id)
    start = {
        "tenant": SCOPE.tenant,
        "workspace": SCOPE.workspace,
        "table_id": table_id,
        "requests": [request.model_dump(mode="json")],
    }
    temporal(
        stack,
        *("workflow", "start", "--type", names.COMMIT_WORKFLOW, "--task-queue", names.COMMIT_QUEUE),
        *("--workflow-id", workflow_id, "--input", orjson.dumps(start).decode()),
    )
    deadline = time.monotonic() + 120
    while "Total: 1" not in temporal(stack, "workflow", "count", "--query", f"WorkflowId = '{workflow_id}'"):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def temporal(stack: EmbeddedStack, *arguments: str) -> str:
    return subprocess.run(
        [str(temporal_cli()), *arguments],
        capture_output=True,
        text=True,
        check=True,
        env=stack.child_environment(),
    ).stdout


@pytest.mark.parametrize("stack", [1], indirect=True)
def test_the_temporal_cli_does_all_that_its_page_says(stack: EmbeddedStack, tmp_path: Path) -> None:
    folder = tmp_path / "operator"
    folder.mkdir()
    file = folder / "report.py"
    file.write_text("from springline.sdk import asset\n\n@asset\ndef report() -> None: ...\n")
    test_runbooks_runs.springline(stack, "deploy", str(file))
    follow(TEMPORAL_CLI, stack, folder, SELECTION="*report")


def test_every_runbook_is_followed_by_a_test() -> None:
    followed = {
        *(STUCK, TEMPORAL_CLI, test_runbooks_deploy.PAGE, test_runbooks_runs.PAGE, test_runbooks_repair.PAGE),
        test_runbooks_schedules.PAGE,
        *(test_runbooks_sensors.PAGE, test_runbooks_failover.LAG, test_runbooks_failover.FAILOVER),
        test_runbooks_backfills.PAGE,
        *test_runbooks_ledger.PAGES.values(),
    }
    assert set(RUNBOOKS.glob("*.md")) == {*followed, RUNBOOKS / "README.md"}
    for page in followed:
        assert blocks_of(page)
    assert not blocks_of(RUNBOOKS / "README.md")


def test_a_page_names_only_workflows_and_queues_that_exist() -> None:
    text = STUCK.read_text("utf-8") + TEMPORAL_CLI.read_text("utf-8")
    for name in (
        names.COMMIT_WORKFLOW,
        names.CREATE_TABLE_WORKFLOW,
        names.CHECKPOINT_WORKFLOW,
        names.REQUEST_RUN_WORKFLOW,
        names.RUNS_QUEUE,
        names.COMMIT_QUEUE,
        names.MAINTENANCE_QUEUE,
        *names.SEARCH_ATTRIBUTES,
    ):
        assert name in text


@pytest.mark.parametrize(
    ("said", "printed", "expected"),
    [
        ("a\n", "a\n", True),
        ("a\n", "a  \n", True),
        ("a\n", "a\nb\n", False),
        ("...\nb\n", "b\n", True),
        ("...\nb\n...\n", "a\na\nb\nc\n", True),
        ("...\nb\n", "a\nbb\n", False),
        ('{"x":"..."}\n', '{"x":"1.2"}\n', True),
        ("a...c\n", "a\nc\n", False),
        ("1+1\n", "11\n", False),
    ],
)
def test_what_a_page_says_is_printed_is_compared(said: str, printed: str, expected: bool) -> None:
    assert matches(said, printed) is expected


def test_a_forked_command_is_the_command(tmp_path: Path) -> None:
    """Pages are followed with it (`tests/support/forked_commands.py`): streams, exit codes, signals are the same."""

    def run(springline: str, arguments: str, **more: Any) -> subprocess.CompletedProcess[str]:
        command = f"{springline} {arguments}"
        return subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False, timeout=240, **more)

    with forked_commands(tmp_path) as forked:
        started = f'"{sys.executable}" -m springline.cli'
        environment = {**environment_without_ours(), "XDG_CONFIG_HOME": str(tmp_path), "SPRINGLINE_TENANT": "acme"}
        for arguments, given in (
            ("--version", ""),
            ("table list", ""),
            ("stage flights --payload -", "{}"),
            ("no", ""),
        ):
            one, other = (run(how, arguments, input=given, env=environment, cwd=ROOT) for how in (forked, started))
            assert (one.returncode, one.stdout, one.stderr) == (other.returncode, other.stdout, other.stderr)
        with socket.create_server((LOOPBACK, 0)) as api:
            url = f"http://{LOOPBACK}:{api.getsockname()[1]}"
            command = f"exec {forked} table list --api {url} --token x"
            waiting = subprocess.Popen(["bash", "-c", command], env=environment)
            # It asks, and nobody answers.
            api.accept()
            waiting.send_signal(signal.SIGINT)
            assert waiting.wait(120) == EXIT_INTERRUPTED


def environment_without_ours() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(("SPRINGLINE_", "TEMPORAL_"))}
