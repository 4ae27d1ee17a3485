"""A folder that keeps a stack between its starts: secret, ports, tokens, Temporal's database, the local store.

It has one owner at a time: a stack that runs in it holds `owner.lock`, which has the process's id. Facts for the next
start are in `dev.json`, which only the user can read (mode 0600).
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
from pathlib import Path
from typing import IO, Any

from springline.local.cache import Say
from springline.local.run import ToolMisconfigured
from springline.local.runfolder import end_children, write_children

_LOCK = "owner.lock"
_MEMORY = "dev.json"
_OURS = (_MEMORY, "bin", "children.json", "env.sh", "logs", "store", "temporal.db*", "temporal.toml")
"""The files of a stack, which a fresh start removes; it leaves all other files in the folder alone."""


class HomeFolder:
    """The permanent folder of one stack; `fresh` removes what earlier stacks left in it.

    Raises `ToolMisconfigured` if another stack runs in it, and `OSError` if it cannot be used.
    """

    def __init__(self, path: Path, say: Say, *, fresh: bool = False) -> None:
        self.path = path
        path.mkdir(parents=True, exist_ok=True)
        self._lock: IO[str] = (path / _LOCK).open("a+")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._lock.seek(0)
            pid = self._lock.read().strip()
            self._lock.close()
            raise ToolMisconfigured(
                f"a stack runs in {path} already (process {pid or 'unknown'})",
                f"Work with that one (`source {path / 'env.sh'}`), end it, or give another folder with --folder.",
            ) from None
        self._lock.seek(0)
        self._lock.truncate()
        self._lock.write(f"{os.getpid()}\n")
        self._lock.flush()
        end_children(path, say)
        if fresh:
            self._clear()
        self.is_new = not (path / _MEMORY).exists()
        self.memory: dict[str, Any] = self._remembered(say)

    def remember(self, **facts: Any) -> None:
        """Store facts for the next start."""
        self.memory.update(facts)
        draft = self.path / f"{_MEMORY}.new"
        draft.unlink(missing_ok=True)
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as handle:
            json.dump(self.memory, handle, indent=2)
        draft.replace(self.path / _MEMORY)

    def record_children(self, pids: dict[str, int]) -> None:
        """Record the running process groups, so that the next stack in this folder can end them."""
        write_children(self.path, pids)

    def close(self, *, keep: bool) -> None:
        """Release the folder; everything in it stays, with `keep` and without."""
        self._lock.close()

    def _remembered(self, say: Say) -> dict[str, Any]:
        try:
            found = json.loads((self.path / _MEMORY).read_text("utf-8"))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            say(f"{self.path / _MEMORY} cannot be read ({error}): ports and tokens are made anew")
            return {}
        return found if isinstance(found, dict) else {}

    def _clear(self) -> None:
        for pattern in _OURS:
            for found in self.path.glob(pattern):
                if found.is_dir() and not found.is_symlink():
                    shutil.rmtree(found)
                else:
                    with contextlib.suppress(FileNotFoundError):
                        found.unlink()
