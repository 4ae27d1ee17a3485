"""Jars of Maven Central, pinned by their SHA-256 in `pins/`.

Maven downloads them if it is installed (it knows the user's mirrors), else a plain client; either way the
hashes are checked before anything is put into the cache.
"""

from __future__ import annotations

import hashlib
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import httpx

from springline.local.cache import Cache
from springline.local.run import ToolFailed, run_tool

_MAVEN_CENTRAL = "https://repo.maven.apache.org"
_COPY = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"
_POM = """\
<project>
  <modelVersion>4.0.0</modelVersion>
  <groupId>springline.local</groupId>
  <artifactId>jars</artifactId>
  <version>1</version>
  <dependencies>
    <dependency>
      <groupId>{group}</groupId>
      <artifactId>{artifact}</artifactId>
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
        """The file name by Maven's rules."""
        return f"{self.artifact}-{self.version}.jar"

    @property
    def location(self) -> str:
        """The jar's path, relative to the repository's root."""
        return "/".join([*self.group.split("."), self.artifact, self.version, self.file_name])


def pinned(name: str) -> list[Jar]:
    """Return the jars that `pins/{name}` lists."""
    jars = []
    for line in (files("springline.local") / "pins" / name).read_text("utf-8").splitlines():
        coordinates, digest = line.split()
        group, artifact, version = coordinates.split(":")
        jars.append(Jar(group, artifact, version, digest))
    return jars


def fetch_jars(jars: list[Jar], root: Jar, lib: Path, cache: Cache, *, what: str) -> None:
    """Make `lib` hold exactly `jars`, which are `root` and its dependencies. Raises `ToolFailed`."""
    lib.mkdir(exist_ok=True)
    maven = shutil.which("mvn")
    if maven is not None:
        cache.say(f"fetching {len(jars)} jars of {what} with Maven, about 10 s")
        try:
            _fetch_with_maven(Path(maven), root, lib, cache, what)
        except ToolFailed as error:
            cache.say(f"{error}\nfetching the jars without Maven instead")
            maven = None
    if maven is None:
        cache.say(f"fetching {len(jars)} jars of {what} from Maven Central")
        _fetch_plainly(jars, lib, what)
    check_jars(jars, lib, what=what)


def check_jars(jars: list[Jar], lib: Path, *, what: str) -> None:
    """Make `lib` hold exactly the pinned jars. Raises `ToolFailed` for one that is missing or has other bytes."""
    wanted = {jar.file_name: jar for jar in jars}
    for file in lib.iterdir():
        if file.name not in wanted:
            file.unlink()
    for jar in jars:
        file = lib / jar.file_name
        if not file.is_file():
            raise ToolFailed(f"{jar.file_name} of {what} was not fetched")
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        if digest != jar.sha256:
            raise ToolFailed(f"{jar.file_name} of {what} has SHA-256 {digest}, pinned is {jar.sha256}")


def _fetch_with_maven(maven: Path, root: Jar, lib: Path, cache: Cache, what: str) -> None:
    pom = lib / "pom.xml"
    pom.write_text(_POM.format(group=root.group, artifact=root.artifact, version=root.version), "utf-8")
    run_tool(
        [
            *(maven, "--batch-mode", "--quiet", "--file", pom, _COPY),
            *("-DincludeScope=runtime", f"-DoutputDirectory={lib}"),
        ],
        what=f"fetching the jars of {what}",
        say=cache.say,
    )
    pom.unlink()


def _fetch_plainly(jars: list[Jar], lib: Path, what: str) -> None:
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
                f"the jars of {what} cannot be fetched from Maven Central: {type(error).__name__}: {error}"
            ) from error
