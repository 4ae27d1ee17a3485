"""The demo, run as a person runs it: it proves itself right, leaves nothing behind, and can be cut off at any time."""

from __future__ import annotations

import math
import os
import re
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from springline.local.binaries import TEMPORAL_CLI_VARIABLE, temporal_cli
from springline.local.cache import CACHE_VARIABLE

MARK = "DEMO_TEST_MARK"
"""Everything that a demo starts inherits it, whatever process group it is in."""
ROWS = 2400
PER_COMMIT = 60
OPTIONS = {
    "--rows": ROWS,
    "--per-commit": PER_COMMIT,
    "--writers": 4,
    "--every": 1,
    "--task-seconds": 0.2,
    "--seed": 7,
}
SPREAD = 2389
"""Of the whole year, every 141st flight."""
TASKS = 12 * 4 + 1
FILES = 11
"""Months with flights that did not take off: among these rows there is none of October."""
CHUNKS = 4
BESIDE = FILES + 12
"""Tasks of the sensor's runs and the backfill's."""
FAILURES = 3
"""The first attempt of every fourth month to be loaded does not succeed."""
SOON_S = 60.0
UNDER_WAY_S = 300.0
WHOLE_RUN_S = 900.0

pytestmark = [
    pytest.mark.timeout(1_200),
    pytest.mark.skipif(sys.platform != "linux", reason="a dead parent takes its children along on Linux only"),
]


@dataclass
class Demo:
    """A place to run the demo in, apart from the user's own runs."""

    cache: Path
    mark: str
    environment: dict[str, str]

    @property
    def runs(self) -> list[Path]:
        """The folders of runs that are there, finished or not."""
        return sorted((self.cache / "demo" / "runs").glob("*"))

    def start(self) -> subprocess.Popen[str]:
        options = [str(word) for option in OPTIONS.items() for word in option]
        command = [sys.executable, "-m", "springline.demo", *options]
        return subprocess.Popen(
            command, env=self.environment, cwd=self.cache, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def processes(self) -> list[psutil.Process]:
        """Return what lives of all demos that were started here."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get(MARK) == self.mark and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except psutil.Error:
                continue
        return found


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Demo]:
    mark = uuid.uuid4().hex
    sources = str(Path(__file__).parents[2])
    environment = os.environ | {
        MARK: mark,
        CACHE_VARIABLE: str(tmp_path),
        TEMPORAL_CLI_VARIABLE: str(temporal_cli()),
        "PYTHONPATH": sources,
        # Wide enough that no line of the summary is broken.
        "COLUMNS": "250",
    }
    made = Demo(tmp_path, mark, environment)
    yield made
    for process in made.processes():
        process.kill()


def until(condition: Callable[[], bool], what: str, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        time.sleep(0.05)


def finish(process: subprocess.Popen[str]) -> str:
    said, _ = process.communicate(timeout=WHOLE_RUN_S)
    assert process.returncode == 0, said
    return said


def number_in(said: str, pattern: str) -> int:
    match = re.search(pattern, said)
    assert match is not None, said
    return int(match[1].replace(",", ""))


def test_it_proves_itself_right_right_after_a_run_that_was_cut_off(demo: Demo) -> None:
    first = demo.start()
    until(lambda: writes_under_way(demo) or first.poll() is not None, "the first run commits", UNDER_WAY_S)
    assert first.poll() is None, first.communicate()
    (cut_off,) = demo.runs
    first.kill()
    second = demo.start()
    first.communicate()
    until(lambda: not any(str(cut_off) in place_of(one) for one in demo.processes()), "the first is gone", SOON_S)
    said = finish(second)

    assert "clearing up after an earlier run" in said
    commits = math.ceil(ROWS / PER_COMMIT)
    assert number_in(said, r"commits +([\d,]+) acknowledged") == commits
    assert 1 <= number_in(said, r"versions +([\d,]+):") <= commits
    kills = number_in(said, r"kills +([\d,]+) times SIGKILL")
    assert kills >= 1
    assert sum(int(times) for times in re.findall(r"^ +(\d+)x", said, re.MULTILINE)) == kills
    assert number_in(said, r"killed +([\d,]+) times in") >= 1
    assert number_in(said, r"attempts +([\d,]+) on record") >= TASKS + BESIDE + FAILURES
    # Each of these first attempts fails, or is lost to a kill before it can.
    unsuccessful = re.findall(
        r"^ +([\d,]+) (?:failed by the pipeline's own code|lost with a worker)", said, re.MULTILINE
    )
    assert sum(int(times.replace(",", "")) for times in unsuccessful) >= FAILURES
    assert number_in(said, r"([\d,]+) succeeded") >= TASKS + BESIDE
    assert number_in(said, r"every-three-seconds: ([\d,]+) instants were due, each once") >= 1
    assert number_in(said, r"new_files: ([\d,]+) files came") == FILES
    assert number_in(said, r"looks asked for ([\d,]+) runs") == FILES
    assert number_in(said, r"12 months were due; (\d+) chunks of 3") == CHUNKS
    assert number_in(said, r"Each of (\d+) files was taken over by one run") == FILES
    assert number_in(said, r"([\d,]+) flights loaded, equal to the source row for row") == SPREAD
    assert re.search(r"^digest [0-9a-f]{32}: published, and folded offline", said, re.MULTILINE), said
    assert number_in(said, r"Equal: ([\d,]+) events, none lost, none twice") > 5 * TASKS
    assert number_in(said, r"([\d,]+) rows, equal to the source row for row") == ROWS
    assert number_in(said, r"Every one of ([\d,]+) keys is in the log exactly once") == commits
    assert "temporal workflow show" in said
    assert "springline explain" in said

    until(lambda: not demo.processes(), "nothing is left running", SOON_S)
    assert demo.runs == []
    print(f"{commits} commits, {kills} kills, after a run that was cut off")


def writes_under_way(demo: Demo) -> bool:
    return any(file.stat().st_size > 0 for run in demo.runs for file in run.glob("writer-*.jsonl"))


def place_of(process: psutil.Process) -> str:
    """Return the folder a process runs in: that of its demo's run."""
    try:
        return str(process.cwd())
    except psutil.Error:
        return ""
