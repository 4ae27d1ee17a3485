"""Temporal's time-skipping test server, assembled from its jars; `pins/test-server-jars.txt` names every one."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from springline.local.cache import Cache
from springline.local.jars import Jar, fetch_jars, pinned
from springline.local.toolchains import java

TEST_SERVER_VERSION = "1.38.0"

_MAIN_CLASS = "io.temporal.testserver.TestServer"
_SCRIPT = "temporal-test-server"
_JAVA_RECORD = "java-path"
_WHAT = "the test server"


def pinned_jars() -> list[Jar]:
    """Return the jars of the test server and its dependencies."""
    return pinned("test-server-jars.txt")


def build_test_server(folder: Path, cache: Cache) -> None:
    """Fill `folder` with the jars and a script that starts the server. Raises `ToolFailed`."""
    program = java(cache)
    root = Jar("io.temporal", "temporal-test-server", TEST_SERVER_VERSION, "")
    fetch_jars(pinned_jars(), root, folder / "lib", cache, what=_WHAT)
    write_script(folder, program)


def write_script(folder: Path, program: Path) -> None:
    """Write the script that starts the server with the Java at `program`, and record that path."""
    script = folder / _SCRIPT
    script.write_text(
        "#!/bin/sh\n"
        "# Arguments: PORT [--enable-time-skipping]\n"
        'here=$(cd "$(dirname "$0")" && pwd)\n'
        f"exec {shlex.quote(str(program))} -XX:+UseSerialGC -XX:TieredStopAtLevel=1"
        f' -cp "$here/lib/*" {_MAIN_CLASS} "$@"\n',
        "utf-8",
    )
    script.chmod(0o755)
    (folder / _JAVA_RECORD).write_text(str(program), "utf-8")


def usable_test_server(folder: Path) -> Path | None:
    """Return the script in `folder` if the Java it was written for is still there."""
    record = folder / _JAVA_RECORD
    if not record.is_file() or not os.access(record.read_text("utf-8"), os.X_OK):
        return None
    return folder / _SCRIPT
