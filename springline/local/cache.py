"""The per-user cache of binaries: one folder per program and version, published whole or not at all.

Layout: `{root}/{name}/` is complete as soon as it exists (it arrives by one rename); `{root}/unfinished/` holds what
is being built; `{root}/locks/` holds one lock file per name, so that two processes never build the same program.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

CACHE_VARIABLE = "SPRINGLINE_CACHE_DIR"
"""Overrides the cache's folder; by default `springline` below the XDG cache folder."""

Say = Callable[[str], None]
"""Takes one line of progress for a person."""


def say_to_stderr(line: str) -> None:
    """Write one line of progress where a person sees it and a program's output stays clean."""
    print(f"springline: {line}", file=sys.stderr, flush=True)


def cache_root() -> Path:
    """Return the user's cache folder of Springline (XDG Base Directory rules), without creating it."""
    explicit = os.environ.get(CACHE_VARIABLE)
    if explicit:
        return Path(explicit).expanduser().absolute()
    xdg = os.environ.get("XDG_CACHE_HOME", "")
    base = Path(xdg) if Path(xdg).is_absolute() else Path.home() / ".cache"
    return base / "springline"


class Cache:
    """A folder of finished programs; `obtain` builds a missing one once for all processes."""

    def __init__(self, root: Path, say: Say = say_to_stderr) -> None:
        self.root = root
        self.say = say

    def path(self, name: str) -> Path:
        """Return the folder of `name`, which may not exist yet."""
        return self.root / name

    def obtain(self, name: str, build: Callable[[Path], None]) -> Path:
        """Return the folder of `name`, having `build` fill it if it does not exist.

        `build` gets an empty folder on the same file system and may fail with any exception: nothing is
        published then. While another process builds the same name, this one waits for its result.
        """
        final = self.path(name)
        if final.is_dir():
            return final
        with self._locked(name):
            if final.is_dir():
                return final
            started = time.monotonic()
            work = self._empty_work_folder(name)
            try:
                build(work)
                work.rename(final)
            finally:
                shutil.rmtree(work, ignore_errors=True)
            self.say(f"{name} ready after {time.monotonic() - started:.0f} s in {final}")
        return final

    def discard(self, name: str) -> None:
        """Remove a finished program that turned out to be unusable, so that `obtain` builds it again."""
        with self._locked(name):
            shutil.rmtree(self.path(name), ignore_errors=True)

    def _empty_work_folder(self, name: str) -> Path:
        works = self.root / "unfinished"
        works.mkdir(parents=True, exist_ok=True)
        # The lock is ours, so a process that died has left any folder of this name.
        for left_over in works.glob(f"{name}.*"):
            shutil.rmtree(left_over, ignore_errors=True)
        return Path(tempfile.mkdtemp(prefix=f"{name}.", dir=works))

    @contextmanager
    def _locked(self, name: str) -> Iterator[None]:
        locks = self.root / "locks"
        locks.mkdir(parents=True, exist_ok=True)
        with (locks / f"{name}.lock").open("w") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self.say(f"another process is preparing {name}; waiting for it")
                fcntl.flock(handle, fcntl.LOCK_EX)
            yield
