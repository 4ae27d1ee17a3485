"""Reading a runbook and doing what it says: its `sh` blocks, in order, in one shell.

A `text` block after a `sh` block is what the block prints on standard output. There, a line that is just `...`
stands for any lines, and `...` within a line for any text.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from springline.local.binaries import temporal_cli
from springline.local.ports import free_ports
from springline.local.stack import EmbeddedStack
from springline.paths import Scope
from tests.support.forked_commands import forked_commands

ROOT = Path(__file__).parents[2]
RUNBOOKS = ROOT / "runbooks"
SCOPE = Scope("acme", "dev")
FENCED = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """Commands of a runbook, and what they are said to print (None: nothing is said)."""

    heading: str
    commands: str
    output: str | None


def blocks_of(page: Path) -> list[Block]:
    """Return the blocks of a runbook in order."""
    text = page.read_text("utf-8")
    found: list[Block] = []
    for match in FENCED.finditer(text):
        language, content = match.groups()
        heading = re.findall(r"^#+ (.*)$", text[: match.start()], re.MULTILINE)[-1]
        if language == "sh":
            found.append(Block(heading, content, None))
        elif language == "text":
            assert found and found[-1].output is None, f"{page.name}: output without commands under {heading!r}"
            found[-1] = Block(found[-1].heading, found[-1].commands, content)
        else:
            raise AssertionError(f"{page.name}: a block of {language} under {heading!r} is never run")
    return found


def matches(said: str, printed: str) -> bool:
    """Say whether `printed` is what a `text` block says."""
    pattern = ""
    for line in said.splitlines():
        if line.strip() == "...":
            pattern += r"(?:.*\n)*?"
        else:
            pattern += ".*".join(re.escape(part.rstrip()) for part in line.split("...")) + r"[ \t]*\n"
    return re.fullmatch(pattern, printed) is not None


@dataclass(frozen=True)
class Shell:
    """A shell in which an operator follows a runbook; `programs` is a folder for the commands on PATH."""

    programs: Path
    work: Path
    environment: Mapping[str, str]
    springline: str = f'"{sys.executable}" -m springline.cli'
    """What the command `springline` runs."""
    timeout_s: float = 420.0

    def follow(self, page: Path) -> list[tuple[Block, str]]:
        """Run every block of `page`, and return each with what it printed; raises `AssertionError` if one fails.

        One shell runs them all, so that variables last. Whatever was left running in it is ended.
        """
        blocks = blocks_of(page)
        marker = "=== end of block ==="
        script = "set -eu\n" + "".join(f"{block.commands}\necho '{marker}'\n" for block in blocks)
        out, err = self.work / "stdout", self.work / "stderr"
        with out.open("w") as stdout, err.open("w") as stderr:
            shell = subprocess.Popen(
                ["bash", "-c", script],
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                cwd=ROOT,
                env=self._environment(),
                start_new_session=True,
            )
            try:
                code = shell.wait(self.timeout_s)
            except subprocess.TimeoutExpired:
                code = None
            finally:
                _end_group(shell)
        printed = out.read_text("utf-8").split(f"{marker}\n")
        if code != 0:
            stopped = blocks[min(len(printed), len(blocks)) - 1]
            raise AssertionError(
                f"{page.name}, {stopped.heading!r}: code {code}\n{stopped.commands}\n{printed[-1]}\n"
                f"{err.read_text('utf-8')}"
            )
        return list(zip(blocks, printed, strict=False))

    def _environment(self) -> dict[str, str]:
        self.programs.mkdir(exist_ok=True)
        (self.programs / "temporal").symlink_to(temporal_cli())
        # A link to the interpreter would lose its virtual environment.
        self._program("python", f'"{sys.executable}"')
        self._program("springline", self.springline)
        path = os.pathsep.join([str(self.programs), self.environment.get("PATH", os.defpath)])
        return {**self.environment, "PATH": path}

    def _program(self, name: str, command: str) -> None:
        file = self.programs / name
        file.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
        file.chmod(0o755)


def _end_group(shell: subprocess.Popen[bytes]) -> None:
    """End the shell and what it started in the background: asked first, so that a worker can drain."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        deadline = time.monotonic() + 120
        try:
            os.killpg(shell.pid, number)
            while time.monotonic() < deadline:
                shell.poll()
                os.killpg(shell.pid, 0)
                time.sleep(0.05)
        except ProcessLookupError:
            return


def follow(page: Path, stack: EmbeddedStack, folder: Path, **variables: str) -> dict[str, list[str]]:
    """Do what `page` says; every output must be as it says. Return what was printed, by heading."""
    with forked_commands(folder) as springline:
        shell = Shell(folder / "programs", folder, environment_of(stack) | variables, springline)
        followed = shell.follow(page)
    printed: dict[str, list[str]] = {}
    for block, text in followed:
        printed.setdefault(block.heading, []).append(text)
        if block.output is not None:
            assert matches(block.output, text), (
                f"{block.heading}\n{block.commands}\nprinted:\n{text}\nnot:\n{block.output}"
            )
    assert sum(map(len, printed.values())) == len(blocks_of(page))
    return printed


def environment_of(stack: EmbeddedStack) -> dict[str, str]:
    metrics, health = free_ports(2)
    return {
        **stack.child_environment(),
        "SPRINGLINE_API_URL": stack.api_url,
        "SPRINGLINE_TOKEN": stack.token(),
        # For the worker that a page starts: the default ports may be in use on this machine.
        "SPRINGLINE_METRICS_PORT": str(metrics),
        "SPRINGLINE_HEALTH_PORT": str(health),
        "TENANT": SCOPE.tenant,
        "WORKSPACE": SCOPE.workspace,
        "PATH": os.environ.get("PATH", os.defpath),
    }
