from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from springline.local.runfolder import RunFolder, start_mark, sweep


def silent(_line: str) -> None:
    return


SLEEPER = [sys.executable, "-c", "import time; time.sleep(60)"]


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(SLEEPER, start_new_session=True) as process:
        yield process
        process.kill()


def abandoned(root: Path, children: dict[str, dict[str, object]]) -> Path:
    """A run whose process died: its lock is free and its children may live."""
    folder = root / "runs" / "20260101-000000-1-abcd"
    folder.mkdir(parents=True)
    (folder / "owner.lock").touch()
    (folder / "children.json").write_text(json.dumps(children))
    return folder


def test_each_run_has_a_fresh_folder_and_removes_it(tmp_path: Path) -> None:
    first, second = RunFolder(tmp_path, silent), RunFolder(tmp_path, silent)
    assert first.path != second.path
    assert first.path.is_dir()
    first.close(keep=False)
    assert not first.path.exists()
    second.close(keep=False)


def test_a_new_run_ends_what_a_dead_one_left(tmp_path: Path, sleeper: subprocess.Popen[bytes]) -> None:
    folder = abandoned(tmp_path, {"worker-1": {"pid": sleeper.pid, "started": start_mark(sleeper.pid)}})
    said: list[str] = []
    run = RunFolder(tmp_path, said.append)
    assert sleeper.wait(120) == -signal.SIGKILL
    assert not folder.exists()
    assert any("worker-1" in line for line in said)
    run.close(keep=False)


def test_a_process_that_got_the_same_id_later_is_left_alone(tmp_path: Path, sleeper: subprocess.Popen[bytes]) -> None:
    folder = abandoned(tmp_path, {"worker-1": {"pid": sleeper.pid, "started": "1"}})
    sweep(tmp_path / "runs", silent)
    assert not folder.exists()
    assert sleeper.poll() is None


def test_a_living_run_is_left_alone(tmp_path: Path, sleeper: subprocess.Popen[bytes]) -> None:
    living = RunFolder(tmp_path, silent)
    living.record_children({"worker-1": sleeper.pid})
    other = RunFolder(tmp_path, silent)
    assert living.path.is_dir()
    assert sleeper.poll() is None
    living.close(keep=False)
    other.close(keep=False)


def test_a_kept_folder_stays(tmp_path: Path) -> None:
    run = RunFolder(tmp_path, silent)
    (run.path / "temporal.log").touch()
    run.close(keep=True)
    RunFolder(tmp_path, silent).close(keep=False)
    assert (run.path / "temporal.log").exists()


def test_a_removal_that_was_cut_off_is_finished(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "half"
    (folder / "store").mkdir(parents=True)
    sweep(tmp_path / "runs", silent)
    assert not folder.exists()


def test_the_mark_tells_a_process_from_a_later_one(sleeper: subprocess.Popen[bytes]) -> None:
    mark = start_mark(sleeper.pid)
    assert mark is not None
    assert start_mark(sleeper.pid) == mark
    sleeper.kill()
    sleeper.wait()
    assert start_mark(sleeper.pid) is None
