"""Processes that need not import the product first: forked from one that has, and otherwise as fresh as any."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from springline.local.processes import Child

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["worker", "entrypoints.api", "springline.client.merging", "springline.storage.local"])
_PR_SET_PDEATHSIG = 1


class ForkedChild(Child):
    """A Python module that runs as `python -m MODULE ARGUMENTS` would, a second or two earlier."""

    def __init__(
        self, name: str, module: str, arguments: Sequence[str], *, env: Mapping[str, str], cwd: Path, log: Path
    ) -> None:
        super().__init__(name, [module, *arguments], env=env, cwd=cwd, log=log)

    def start(self) -> None:
        """Start the module; its output is appended to the log."""
        arguments = (self._command, self._env, str(self._cwd), str(self.log))
        process = CONTEXT.Process(target=_run, args=arguments, name=self.name)
        process.start()
        self._process = _Forked(process)  # type: ignore[assignment]


class _Forked:
    """What `Child` uses of `subprocess.Popen`."""

    def __init__(self, process: ForkServerProcess) -> None:
        self._process = process
        assert process.pid is not None
        self.pid = process.pid

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int | None:
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired(self._process.name, timeout or 0.0)
        return self._process.exitcode


def _run(command: list[str], env: dict[str, str], folder: str, log: str) -> None:
    if sys.platform == "linux":
        # The fork server ends with the test process, and this process with the fork server.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    os.setsid()
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(env)
    output = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    for stream in (1, 2):
        os.dup2(output, stream)
    sys.argv = command
    # It is not the module that was preloaded, but the program; `runpy` would warn of both.
    sys.modules.pop(command[0], None)
    runpy.run_module(command[0], run_name="__main__", alter_sys=True)
