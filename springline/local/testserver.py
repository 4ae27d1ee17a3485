"""Temporal's time-skipping test server, assembled from its jars.

`pins/test-server-jars.txt` names every jar with its SHA-256. Maven fetches them where it is installed (it knows
the user's mirrors), a plain client otherwise; either way the hashes are checked before anything is published.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import httpx

from springline.local.cache import Cache
from springline.local.run import ToolFailed, run_tool
from springline.local.toolchains import java

TEST_SERVER_VERSION = "1.38.0"

_MAVEN_CENTRAL = "https://repo.maven.apache.org"
_COPY = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"
_MAIN_CLASS = "io.temporal.testserver.TestServer"
_SCRIPT = "temporal-test-server"
_JAVA_RECORD = "java-path"
_POM = """\
<project>
  <modelVersion>4.0.0</modelVersion>
  <groupId>springline.local</groupId>
  <artifactId>test-server</artifactId>
  <version>1</version>
  <dependencies>
    <dependency>
      <groupId>io.temporal</groupId>
      <artifactId>temporal-test-server</artifactId>
      <version>{version}</version>
    </dependency>
  </dependencies>
</project>
"""


@dataclass(frozen=True, slots=True)
class Jar:
    """A jar of Maven Central and the SHA-256 it must have."""

    group: str
    artifact: str
    version: str
    sha256: str

    @property
    def file_name(self) -> str:
        """The name Maven gives the file."""
        return f"{self.artifact}-{self.version}.jar"

    @property
    def location(self) -> str:
        """Where the jar is, relative to the repository's root."""
        return "/".join([*self.group.split("."), self.artifact, self.version, self.file_name])


def pinned_jars() -> list[Jar]:
    """Return the test server and everything it needs to run."""
    text = (files("springline.local") / "pins" / "test-server-jars.txt").read_text("utf-8")
    jars = []
    for line in text.splitlines():
        coordinates, digest = line.split()
        group, artifact, version = coordinates.split(":")
        jars.append(Jar(group, artifact, version, digest))
    return jars


def build_test_server(folder: Path, cache: Cache) -> None:
    """Fill `folder` with the jars and a script that starts the server. Raises `ToolFailed`."""
    program = java(cache)
    jars = pinned_jars()
    lib = folder / "lib"
    lib.mkdir()
    maven = shutil.which("mvn")
    if maven is not None:
        cache.say(f"fetching {len(jars)} jars of the test server with Maven, about 10 s")
        try:
            _fetch_with_maven(Path(maven), folder, cache)
        except ToolFailed as error:
            cache.say(f"{error}\nfetching the jars without Maven instead")
            maven = None
    if maven is None:
        cache.say(f"fetching {len(jars)} jars of the test server (38 MB) from Maven Central")
        _fetch_plainly(jars, lib)
    check_jars(jars, lib)
    write_script(folder, program)


def check_jars(jars: list[Jar], lib: Path) -> None:
    """Make `lib` hold exactly the pinned jars. Raises `ToolFailed` for one that is missing or has other bytes."""
    wanted = {jar.file_name: jar for jar in jars}
    for file in lib.iterdir():
        if file.name not in wanted:
            file.unlink()
    for jar in jars:
        file = lib / jar.file_name
        if not file.is_file():
            raise ToolFailed(f"the test server's {jar.file_name} was not fetched")
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        if digest != jar.sha256:
            raise ToolFailed(f"the test server's {jar.file_name} has SHA-256 {digest}, pinned is {jar.sha256}")


def write_script(folder: Path, program: Path) -> None:
    """Write the script that starts the server with the Java at `program`, and note which Java that is."""
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


def _fetch_with_maven(maven: Path, folder: Path, cache: Cache) -> None:
    pom = folder / "pom.xml"
    pom.write_text(_POM.format(version=TEST_SERVER_VERSION), "utf-8")
    run_tool(
        [
            *(maven, "--batch-mode", "--quiet", "--file", pom, _COPY),
            *("-DincludeScope=runtime", f"-DoutputDirectory={folder / 'lib'}"),
        ],
        what="fetching the test server's jars",
        say=cache.say,
    )
    pom.unlink()


def _fetch_plainly(jars: list[Jar], lib: Path) -> None:
    with (
        httpx.Client(base_url=_MAVEN_CENTRAL, timeout=httpx.Timeout(60, connect=10), follow_redirects=True) as client,
        ThreadPoolExecutor(4) as pool,
    ):

        def fetch(jar: Jar) -> None:
            answer = client.get(f"maven2/{jar.location}")
            answer.raise_for_status()
            (lib / jar.file_name).write_bytes(answer.content)

        try:
            list(pool.map(fetch, jars))
        except httpx.HTTPError as error:
            raise ToolFailed(
                f"the test server's jars cannot be fetched from Maven Central: {type(error).__name__}: {error}"
            ) from error
