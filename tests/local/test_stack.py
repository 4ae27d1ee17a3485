"""The embedded stack with a real Temporal development server."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import jwt
import pytest

from springline.local.binaries import temporal_cli
from springline.local.ports import LOOPBACK
from springline.local.run import ToolFailed, output_of
from springline.local.runfolder import start_mark
from springline.local.stack import TEMPORAL, EmbeddedStack
from springline.paths import Scope

SCOPE = Scope("acme", "dev")

HOLDER = """
import sys, time
from pathlib import Path
from springline.local.processes import signals_unwind
from springline.local.stack import EmbeddedStack
from springline.paths import Scope
with signals_unwind(), EmbeddedStack(Path(sys.argv[1]), scope=Scope("acme", "dev"), workers=0, api=False) as stack:
    print(stack.child("temporal").pid, stack.folder, flush=True)
    time.sleep(60)
"""


def silent(_line: str) -> None:
    return


def only_temporal(root: Path, *, keep: bool = False) -> EmbeddedStack:
    return EmbeddedStack(root, scope=SCOPE, workers=0, api=False, say=silent, keep=keep)


def temporal_says(stack: EmbeddedStack, *words: str) -> str:
    said = output_of([temporal_cli(), *words, "--address", stack.temporal_address], env=stack.child_environment())
    assert said is not None
    return said


def start_workflow(stack: EmbeddedStack, workflow_id: str) -> None:
    temporal_says(stack, "workflow", "start", "--type", "T", "--task-queue", "q", "--workflow-id", workflow_id)


def test_the_server_keeps_its_state_over_a_kill_and_loses_it_when_wiped(tmp_path: Path) -> None:
    with only_temporal(tmp_path) as stack:
        assert "SERVING" in temporal_says(stack, "operator", "cluster", "health")
        assert httpx.get(stack.web_ui_url).status_code == 200
        start_workflow(stack, "w")
        stack.kill(TEMPORAL)
        assert stack.dead_children() == {TEMPORAL: -signal.SIGKILL}
        stack.start_child(TEMPORAL)
        assert stack.dead_children() == {}
        assert '"w"' in temporal_says(stack, "workflow", "list", "-o", "json")
        stack.wipe_temporal()
        assert '"w"' not in temporal_says(stack, "workflow", "list", "-o", "json")
        folder, address = stack.folder, stack.temporal_address
    assert not folder.exists()
    with socket.socket() as probe:
        assert probe.connect_ex((LOOPBACK, int(address.rpartition(":")[2]))) != 0


def test_two_stacks_run_side_by_side_with_secrets_of_their_own(tmp_path: Path) -> None:
    with only_temporal(tmp_path) as one, only_temporal(tmp_path) as other:
        assert one.folder != other.folder
        assert one.temporal_address != other.temporal_address
        secret = one.child_environment()["SPRINGLINE_JWT_SECRET"]
        claims = jwt.decode(one.token(), secret, algorithms=["HS256"], audience="springline")
        assert (claims["tenant"], claims["workspace"]) == (SCOPE.tenant, SCOPE.workspace)
        with pytest.raises(jwt.InvalidSignatureError):
            jwt.decode(other.token(), secret, algorithms=["HS256"], audience="springline")


def test_the_users_own_settings_do_not_reach_the_children(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEMPORAL_ADDRESS", "production.example:7233")
    monkeypatch.setenv("TEMPORAL_API_KEY", "secret")
    monkeypatch.setenv("SPRINGLINE_STORE_URL", "gs://production")
    monkeypatch.chdir(tmp_path)
    with only_temporal(Path("relative")) as stack:
        env = stack.child_environment()
        assert env["TEMPORAL_ADDRESS"] == stack.temporal_address
        assert env["SPRINGLINE_STORE_URL"] == (stack.folder / "store").as_uri()
        assert "TEMPORAL_API_KEY" not in env


def test_a_run_after_a_killed_one_works_and_nothing_of_the_first_is_left(tmp_path: Path) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    with holder:
        assert holder.stdout is not None
        pid, _, folder = holder.stdout.readline().strip().partition(" ")
        holder.kill()
    with only_temporal(tmp_path):
        deadline = time.monotonic() + 10
        while start_mark(int(pid)) is not None and time.monotonic() < deadline:
            time.sleep(0.05)
        assert start_mark(int(pid)) is None
        assert not Path(folder).exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_nothing_is_left_when_the_owner_is_asked_to_end(number: signal.Signals, tmp_path: Path) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    with holder:
        assert holder.stdout is not None
        pid, _, folder = holder.stdout.readline().strip().partition(" ")
        holder.send_signal(number)
    assert holder.returncode == 128 + number
    assert start_mark(int(pid)) is None
    assert not Path(folder).exists()


def test_a_server_that_cannot_start_is_reported_with_its_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "temporal"
    program.write_text("#!/bin/sh\necho the disk is full >&2\nexit 3\n")
    program.chmod(0o755)
    monkeypatch.setenv("SPRINGLINE_TEMPORAL_CLI", str(program))
    stack = only_temporal(tmp_path)
    with pytest.raises(ToolFailed, match=r"temporal ended with code 3 before it was ready:\s+the disk is full"):
        stack.start()
    assert stack.stop() == {}


async def test_a_stack_can_be_used_from_asynchronous_code(tmp_path: Path) -> None:
    async with only_temporal(tmp_path, keep=True) as stack:
        async with httpx.AsyncClient() as client:
            assert (await client.get(stack.web_ui_url)).status_code == 200
        folder = stack.folder
    assert (folder / "temporal.db").is_file()
