"""Fake programs: small shell scripts under the names of the real ones, so that no test needs a network."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from springline.local.cache import Cache

Script = Callable[[str, str], Path]


@pytest.fixture
def bin_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that comes first on PATH, with only the system's own tools behind it."""
    folder = tmp_path / "bin"
    folder.mkdir()
    system = tmp_path / "system"
    system.mkdir()
    for name in ("sh", "cat", "dirname", "printf", "sleep", "mkdir", "chmod"):
        (system / name).symlink_to(next(p for p in (Path("/bin") / name, Path("/usr/bin") / name) if p.exists()))
    monkeypatch.setenv("PATH", os.pathsep.join([str(folder), str(system)]))
    for variable in ("SPRINGLINE_TEMPORAL_CLI", "SPRINGLINE_FAKE_GCS_SERVER", "SPRINGLINE_TEST_SERVER"):
        monkeypatch.delenv(variable, raising=False)
    return folder


@pytest.fixture
def script(bin_folder: Path) -> Script:
    """Write a shell script onto PATH."""

    def write(name: str, body: str) -> Path:
        file = bin_folder / name
        file.write_text(f"#!/bin/sh\n{body}\n")
        file.chmod(0o755)
        return file

    return write


@pytest.fixture
def said() -> list[str]:
    """What the cache under test told the user."""
    return []


@pytest.fixture
def cache(tmp_path: Path, said: list[str]) -> Cache:
    return Cache(tmp_path / "cache", said.append)
