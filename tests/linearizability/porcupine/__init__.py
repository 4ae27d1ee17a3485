"""Porcupine, built from the Go program in this folder: a second opinion on histories."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

from springline.local import toolchains
from springline.local.cache import Cache, cache_root
from tests.linearizability.history import Operation, to_json

SOURCES = Path(__file__).parent


def porcupine(folder: Path) -> Path:
    """Build the program into `folder`, with the Go of this machine or, without one, that of the package index."""
    program, home = folder / "porcupine-verdicts", folder / "go-home"
    go, environment = toolchains.go(Cache(cache_root()), home)
    built = subprocess.run(
        [go, "build", "-mod=readonly", "-o", program, "."],
        cwd=SOURCES,
        env={**environment, "GOFLAGS": "-buildvcs=false -modcacherw", "GOWORK": "off"},
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
