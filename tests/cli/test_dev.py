"""`springline dev`: the stack in the foreground; what dies is started again, and Ctrl-C leaves nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from springline.cli.dev import watch
from springline.local.run import ToolFailed
from springline.local.runfolder import start_mark
from springline.local.stack import EmbeddedStack
from springline.paths import Scope
from tests.cli.conftest import Cli

ROOT = Path(__file__).parents[2]
WAIT_SECONDS = 90.0


def wait_for(what: Callable[[], bool], process: subprocess.Popen[str], log: Path) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not what():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.1)


def test_it_runs_until_interrupted_and_restarts_a_killed_worker(tmp_path: Path) -> None:
    out, log = tmp_path / "out.json", tmp_path / "err.txt"
    command = [sys.executable, "-m", "entrypoints.cli", "dev", "--folder", str(tmp_path / "run")]
    with out.open("w") as stdout, log.open("w") as stderr:
        process = subprocess.Popen(command, stdout=stdout, stderr=stderr, text=True, cwd=ROOT, start_new_session=True)
    try:
        wait_for(lambda: "Ctrl-C ends it" in log.read_text(), process, log)
        document = json.loads(out.read_text())
        for name, value in document["environment"].items():
            assert f"export {name}={value}\n" in log.read_text()
        environment = os.environ | document["environment"]

        def springline(*arguments: str) -> subprocess.CompletedProcess[str]:
            return subprocess.run(
                [sys.executable, "-m", "entrypoints.cli", *arguments],
                capture_output=True,
                text=True,
                check=False,
                cwd=ROOT,
                env=environment,
            )

        doctor = springline("doctor")
        assert doctor.returncode == 0, doctor.stdout
        children = json.loads((Path(document["folder"]) / "children.json").read_text())
        os.kill(children["worker-1"]["pid"], signal.SIGKILL)
        wait_for(lambda: "worker-1 ended with code -9; starting it again" in log.read_text(), process, log)
        made = springline("table", "create", "flights", "--schema", '[{"name":"x","type":"long"}]')
        assert made.returncode == 0, made.stderr
        children = json.loads((Path(document["folder"]) / "children.json").read_text())
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0, log.read_text()
        for child in children.values():
            assert start_mark(child["pid"]) != child["started"]
        assert not Path(document["folder"]).exists()
        with pytest.raises(httpx.TransportError):
            httpx.get(document["api"])
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


class Stub(EmbeddedStack):
    """A stack whose worker dies at the given moments; nothing of it is real but what `watch` sees."""

    def __init__(self, folder: Path, deaths: list[float]) -> None:
        super().__init__(folder, scope=Scope("acme", "dev"))
        self.now = 0.0
        self.deaths = deaths
        self.starts: list[tuple[str, float]] = []

    def dead_children(self) -> dict[str, int]:
        if self.deaths and self.now >= self.deaths[0]:
            self.deaths.pop(0)
            return {"worker-1": -9}
        return {}

    def start_child(self, name: str, *, wait: bool = True) -> None:
        self.starts.append((name, self.now))

    def pause(self, seconds: float) -> None:
        if self.now > 100:
            raise KeyboardInterrupt
        self.now += seconds


def test_whatever_dies_now_and_then_is_started_again(tmp_path: Path) -> None:
    stack = Stub(tmp_path, [2.0, 20.0, 40.0])
    with pytest.raises(KeyboardInterrupt):
        watch(stack, pause=stack.pause, clock=lambda: stack.now)
    assert stack.starts == [("worker-1", 2.0), ("worker-1", 20.0), ("worker-1", 40.0)]


def test_what_dies_right_after_its_start_is_given_up(tmp_path: Path) -> None:
    stack = Stub(tmp_path, [2.0, 4.0])
    stack.child = lambda name: _Dead()  # type: ignore[method-assign, assignment, return-value]
    with pytest.raises(ToolFailed, match=r"worker-1 ended with code -9 again:\nwhy it died"):
        watch(stack, pause=stack.pause, clock=lambda: stack.now)
    assert stack.starts == [("worker-1", 2.0)]


class _Dead:
    def log_tail(self) -> str:
        return "why it died"


def test_a_program_that_is_not_there_is_bad_input(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPRINGLINE_TEMPORAL_CLI", str(tmp_path / "missing"))
    ended = cli("dev", "--folder", str(tmp_path / "run"))
    assert (ended.code, ended.error["code"]) == (2, "INVALID_REQUEST")
    assert "SPRINGLINE_TEMPORAL_CLI" in ended.error["message"]


@pytest.mark.parametrize(("arguments", "field"), [(["--tenant", "A"], "tenant"), (["--workers", "0"], "--workers")])
def test_bad_options_are_bad_input(arguments: list[str], field: str, cli: Cli) -> None:
    ended = cli("dev", *arguments)
    assert (ended.code, ended.error["field"]) == (2, field)
