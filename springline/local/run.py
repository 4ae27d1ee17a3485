"""Run a tool to its end: keeps its output for the error message, and reports progress while it takes long."""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from springline.errors import SpringlineError
from springline.local.cache import Say

LIFE_SIGN_SECONDS = 20.0
_TAIL_LINES = 15


class ToolFailed(SpringlineError):
    """A tool is not available or has failed; the message says which, why and what to do."""


class ToolMisconfigured(ToolFailed):
    """A configured tool or folder is wrong, and trying again would fail again. `remedy`: what to do."""

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(f"{problem}. {remedy}")
        self.problem = problem
        self.remedy = remedy


def run_tool(
    command: Sequence[str | Path], *, what: str, say: Say, env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> None:
    """Run `command`; report every 20 seconds that `what` is still under way.

    Raises `ToolFailed` with the end of the output if it cannot be started or ends with another code than 0.
    """
    started = time.monotonic()
    with tempfile.TemporaryFile() as output:
        try:
            process = subprocess.Popen(
                [str(part) for part in command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=None if env is None else dict(env),
                cwd=cwd,
            )
        except OSError as error:
            raise ToolFailed(f"{what}: {command[0]} cannot be started: {error}") from error
        try:
            while True:
                try:
                    code = process.wait(LIFE_SIGN_SECONDS)
                    break
                except subprocess.TimeoutExpired:
                    say(f"{what}: still at it after {time.monotonic() - started:.0f} s")
        except BaseException:
            process.kill()
            process.wait()
            raise
        if code != 0:
            output.seek(0)
            tail = output.read().decode(errors="replace").splitlines()[-_TAIL_LINES:]
            raise ToolFailed(f"{what}: {Path(command[0]).name} ended with code {code}:\n" + "\n".join(tail))


def output_of(command: Sequence[str | Path], *, env: Mapping[str, str] | None = None) -> str | None:
    """Return what a quick command prints (both streams), or None if it cannot be run, fails or hangs."""
    try:
        done = subprocess.run(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=30,
            check=False,
            text=True,
            errors="replace",
            env=None if env is None else dict(env),
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None
