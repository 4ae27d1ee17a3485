from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from springline.local.processes import Child
from springline.local.run import ToolFailed
from springline.local.runfolder import start_mark

OBEDIENT = "import time; print('up', flush=True); time.sleep(60)"
STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"


@pytest.fixture
def child(tmp_path: Path) -> Iterator[Callable[[str], Child]]:
    made: list[Child] = []

    def make(program: str) -> Child:
        log = tmp_path / f"{len(made)}.log"
        made.append(
            Child("thing", [sys.executable, "-c", program], env={**os.environ, "WORD": "said"}, cwd=tmp_path, log=log)
        )
        return made[-1]

    yield make
    for one in made:
        one.kill()


def until(condition: Callable[[], bool], timeout_s: float = 120) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def test_a_child_gets_its_environment_folder_and_log(child: Callable[[str], Child], tmp_path: Path) -> None:
    one = child("import os; print(os.environ['WORD'], os.getcwd(), os.getpgrp() == os.getpid())")
    assert one.pid is None
    assert one.exit_code is None
    one.start()
    assert one.wait(120) == 0
    assert one.log_tail() == f"said {tmp_path} True"


def test_a_child_can_be_killed_and_started_again(child: Callable[[str], Child]) -> None:
    one = child(OBEDIENT)
    one.start()
    with pytest.raises(ToolFailed, match="already running"):
        one.start()
    until(lambda: "up" in one.log_tail())
    first = one.pid
    one.kill()
    assert one.exit_code == -signal.SIGKILL
    assert not one.running
    one.start()
    assert one.running
    assert one.pid != first
    until(lambda: one.log_tail() == "up")
    assert one.log.read_text().split() == ["up", "up"], "the log is kept; its tail is of the last start"


def test_a_child_that_ignores_the_request_to_end_is_killed(child: Callable[[str], Child]) -> None:
    one = child(STUBBORN)
    one.start()
    until(lambda: "up" in one.log_tail())
    assert one.stop(grace_s=0.2) == -signal.SIGKILL
    other = child(OBEDIENT)
    other.start()
    until(lambda: "up" in other.log_tail())
    assert other.stop(grace_s=20) == -signal.SIGTERM


def test_what_a_child_started_ends_with_it(child: Callable[[str], Child]) -> None:
    one = child(
        "import subprocess, sys, time; p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']);"
        "print(p.pid, flush=True); time.sleep(60)"
    )
    one.start()
    until(lambda: one.log_tail().isdigit())
    grandchild = int(one.log_tail())
    assert start_mark(grandchild) is not None
    one.kill()
    until(lambda: gone(grandchild))


def test_a_child_outlives_the_thread_that_started_it(child: Callable[[str], Child]) -> None:
    one = child(OBEDIENT)
    starter = threading.Thread(target=one.start)
    starter.start()
    starter.join()
    until(lambda: "up" in one.log_tail())
    # The kernel acts on the end of a thread at once; the child is given time to have died of it.
    with pytest.raises(subprocess.TimeoutExpired):
        one.wait(0.5)


PARENT = """
import sys
from pathlib import Path
from springline.local.processes import Child
import os
child = Child("thing", [sys.executable, "-c", "import time; time.sleep(60)"], env=os.environ, cwd=Path("."),
              log=Path(sys.argv[1]))
child.start()
print(child.pid, flush=True)
child.wait()
"""


def gone(pid: int) -> bool:
    """Whether the process has ended (a zombie whose new parent is slow to collect it has ended too)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


@pytest.mark.skipif(sys.platform != "linux", reason="the parent-death signal is Linux's; elsewhere the next run clears")
def test_a_child_dies_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(tmp_path / "log")], stdout=subprocess.PIPE, text=True, cwd=Path.cwd()
    )
    with parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert not gone(pid)
        parent.kill()
    until(lambda: gone(pid))


def test_a_program_that_is_not_there_is_reported_by_its_exit_code(tmp_path: Path) -> None:
    one = Child("thing", ["/nowhere/program"], env=os.environ, cwd=tmp_path, log=tmp_path / "log")
    one.start()
    assert one.wait(120) == 1
    assert "FileNotFoundError" in one.log_tail()
