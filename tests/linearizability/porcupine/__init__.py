"""Porcupine, built from the Go program in this folder: a second opinion on histories."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.linearizability.history import Operation, to_json

SOURCES = Path(__file__).parent


def porcupine(folder: Path) -> Path | None:
    """Build the program into `folder`; None without Go, which fails where tests run in CI."""
    go = shutil.which("go")
    if go is None:
        assert os.environ.get("CI") != "true", "Go is needed in CI: the checker must be compared with Porcupine"
        return None
    program = folder / "porcupine-verdicts"
    built = subprocess.run(
        [go, "build", "-mod=readonly", "-o", program, "."],
        cwd=SOURCES,
        env=os.environ | {"GOFLAGS": "-buildvcs=false", "GOWORK": "off"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    return program


def verdicts(program: Path, histories: Sequence[Sequence[Operation]]) -> list[bool | None]:
    """Return for each history whether Porcupine finds it linearizable, None if it could not tell in time."""
    lines = "".join(to_json(history) + "\n" for history in histories)
    run = subprocess.run([program], input=lines, capture_output=True, text=True, check=True)
    return [{"true": True, "false": False, "unknown": None}[line] for line in run.stdout.split()]
