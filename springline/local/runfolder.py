"""A fresh folder for each run of the stack, and clean-up after runs that were killed before they could do it.

Layout: `{root}/runs/{time}-{pid}-{random}/` with `owner.lock` (held while the run lives) and `children.json`
(the processes that it started). A folder whose lock is free belongs to a run that has ended.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import IO

from springline.local.cache import Say

_CHILDREN = "children.json"
_LOCK = "owner.lock"
_KEPT = "kept"


class RunFolder:
    """The folder of one run: created fresh, locked while the run lives, removed at its end unless kept."""

    def __init__(self, root: Path, say: Say) -> None:
        runs = root / "runs"
        runs.mkdir(parents=True, exist_ok=True)
        sweep(runs, say)
        name = f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}-{secrets.token_hex(2)}"
        self.path = runs / name
        # Lock it before it is moved among the runs, so that no other process sweeps it as dead.
        preparing = root / f".{name}"
        preparing.mkdir()
        self._lock: IO[str] = (preparing / _LOCK).open("w")
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        preparing.rename(self.path)

    def record_children(self, pids: dict[str, int]) -> None:
        """Record the process groups of this run, so that a later sweep can end them."""
        write_children(self.path, pids)

    def close(self, *, keep: bool) -> None:
        """End the run: remove the folder, or keep it for a person to look at and never sweep it."""
        if keep:
            (self.path / _KEPT).touch()
        else:
            shutil.rmtree(self.path, ignore_errors=True)
        self._lock.close()


def sweep(runs: Path, say: Say) -> None:
    """Clean up after runs whose process is gone: end their children and remove their folders."""
    for folder in sorted(runs.iterdir()):
        if (folder / _KEPT).exists():
            continue
        try:
            lock = (folder / _LOCK).open("r+")
        except FileNotFoundError:
            # A living run always has its lock: this one was killed while it removed its folder.
            shutil.rmtree(folder, ignore_errors=True)
            continue
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            end_children(folder, say)
            say(f"clearing up after an earlier run that was cut off: {folder}")
            shutil.rmtree(folder, ignore_errors=True)


def start_mark(pid: int) -> str | None:
    """Return a mark that tells this process from a later one with the same id, None if it is gone."""
    with contextlib.suppress(OSError, IndexError):
        stat = Path(f"/proc/{pid}/stat").read_text("utf-8")
        # Field 22, the start time in clock ticks, counted after the command, which may contain blanks (proc(5)).
        return stat.rpartition(")")[2].split()[19]
    if Path("/proc/self").exists():
        return None
    said = subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return said.stdout.strip() or None


def write_children(folder: Path, pids: dict[str, int]) -> None:
    """Record in `folder` the running process groups."""
    entries = {name: {"pid": pid, "started": start_mark(pid)} for name, pid in pids.items()}
    draft = folder / f"{_CHILDREN}.new"
    draft.write_text(json.dumps(entries), "utf-8")
    draft.replace(folder / _CHILDREN)


def end_children(folder: Path, say: Say) -> None:
    """End the process groups that are recorded in `folder` and still run."""
    try:
        entries = json.loads((folder / _CHILDREN).read_text("utf-8"))
    except (OSError, ValueError):
        return
    for name, entry in entries.items():
        pid, mark = entry["pid"], entry["started"]
        if mark is not None and start_mark(pid) == mark:
            say(f"ending {name} (pid {pid}), which an earlier run left behind")
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)
