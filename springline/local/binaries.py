"""The programs that the embedded stack and the tests run: finds them, or downloads or builds them.

Each is looked for in this order, and the first that fits is used:

1. the explicit path in its environment variable (a wrong one is an error, never skipped);
2. PATH, if its version fits;
3. the user's cache (`springline.local.cache`);
4. for the Temporal CLI, the download that Temporal's own SDKs use;
5. a build from the Go module proxy, or the jars of Maven Central.

Programs that only the long tests of docker-compose.yml need (`make topology`) are always built, from the modules and
hashes that `pins/temporal-server` and `ops/gcs` name.

Versions are pinned here. Command line: `python -m springline.local.binaries NAME... [--print-path]`.
"""

from __future__ import annotations

import argparse
import hashlib
import mmap
import os
import platform
import re
import shutil
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import httpx

import springline
from springline.local.cache import Cache, Say, cache_root, say_to_stderr
from springline.local.jars import fetch_jars, pinned
from springline.local.run import ToolFailed, ToolMisconfigured, output_of, run_tool
from springline.local.testserver import TEST_SERVER_VERSION, build_test_server, usable_test_server
from springline.local.toolchains import go

TEMPORAL_CLI_VERSION = "1.5.1"
"""The newest CLI that `go install` accepts: later ones replace a module by one that the proxy does not have."""
TEMPORAL_SERVER_VERSION = (1, 29, 1)
"""The server inside that CLI, and the oldest one that a CLI found on PATH may contain."""
FAKE_GCS_VERSION = "1.56.1"
DELTA_SPARK_VERSION = "4.0.0"
"""The version for PySpark 4.0; only long tests need its jars."""

TEMPORAL_CLI_VARIABLE = "SPRINGLINE_TEMPORAL_CLI"
FAKE_GCS_VARIABLE = "SPRINGLINE_FAKE_GCS_SERVER"
TEST_SERVER_VARIABLE = "SPRINGLINE_TEST_SERVER"
PROMTOOL_VARIABLE = "SPRINGLINE_PROMTOOL"
PROMETHEUS_VARIABLE = "SPRINGLINE_PROMETHEUS"

_PINNED_SERVER = Path(__file__).parent / "pins" / "temporal-server"
_EMULATOR_SOURCES = Path(springline.__file__).parents[1] / "ops" / "gcs"
_POSTGRES_PROGRAMS = ("initdb", "pg_isready", "postgres", "psql")

_TEMPORAL_MODULE = "github.com/temporalio/cli"
_FAKE_GCS_MODULE = "github.com/fsouza/fake-gcs-server"
_DOWNLOAD_HOST = "https://temporal.download"
_LEAN = ("-trimpath", "-ldflags=-s -w")
_CONNECT_SECONDS = 3.0
_READ_SECONDS = 60.0


def temporal_cli(cache: Cache | None = None) -> Path:
    """Return the Temporal CLI, which contains the development server and the Web UI. Raises `ToolFailed`."""
    cache = cache or _user_cache()
    chosen = _explicit(TEMPORAL_CLI_VARIABLE)
    if chosen is not None:
        return chosen
    found = shutil.which("temporal")
    if found is not None:
        version = temporal_server_version(Path(found))
        if version is not None and TEMPORAL_SERVER_VERSION <= version < (2, 0, 0):
            return Path(found)
        cache.say(f"{found} is passed over: it must carry server {_dotted(TEMPORAL_SERVER_VERSION)} or later")

    def build(folder: Path) -> None:
        target = folder / "temporal"
        try:
            _download_temporal(target, cache.say)
        except (httpx.HTTPError, OSError, ToolFailed, tarfile.TarError) as error:
            cache.say(f"no download of the Temporal CLI ({type(error).__name__}: {error}); building it with Go instead")
            target.unlink(missing_ok=True)
            _go_install(f"{_TEMPORAL_MODULE}/cmd/temporal@v{TEMPORAL_CLI_VERSION}", folder, cache, minutes=4)
        _expect_temporal(target)

    return cache.obtain(f"temporal-{TEMPORAL_CLI_VERSION}-{_platform()}", build) / "temporal"


def fake_gcs_server(cache: Cache | None = None) -> Path:
    """Return the Google Cloud Storage emulator. Raises `ToolFailed`."""
    cache = cache or _user_cache()
    chosen = _explicit(FAKE_GCS_VARIABLE)
    if chosen is not None:
        return chosen
    found = shutil.which("fake-gcs-server")
    if found is not None:
        if _built_from(Path(found), _FAKE_GCS_MODULE, FAKE_GCS_VERSION):
            return Path(found)
        cache.say(f"{found} is passed over: it is not known to be version {FAKE_GCS_VERSION}")

    def build(folder: Path) -> None:
        _go_install(f"{_FAKE_GCS_MODULE}@v{FAKE_GCS_VERSION}", folder, cache, minutes=1)
        if not _built_from(folder / "fake-gcs-server", _FAKE_GCS_MODULE, FAKE_GCS_VERSION):
            raise ToolFailed(f"what Go built is not fake-gcs-server {FAKE_GCS_VERSION}")

    return cache.obtain(f"fake-gcs-server-{FAKE_GCS_VERSION}-{_platform()}", build) / "fake-gcs-server"


def test_server(cache: Cache | None = None) -> Path:
    """Return Temporal's time-skipping test server: a script that takes a port as its first argument.

    It fits the `test_server_existing_path` of `WorkflowEnvironment.start_time_skipping`. Raises `ToolFailed`.
    """
    cache = cache or _user_cache()
    chosen = _explicit(TEST_SERVER_VARIABLE)
    if chosen is not None:
        return chosen
    name = f"test-server-{TEST_SERVER_VERSION}"
    if cache.path(name).is_dir() and usable_test_server(cache.path(name)) is None:
        cache.say(f"the Java of {name} is gone; preparing it anew")
        cache.discard(name)
    folder = cache.obtain(name, lambda work: build_test_server(work, cache))
    script = usable_test_server(folder)
    if script is None:
        raise ToolFailed(f"{folder} holds no test server that runs; remove the folder and try again")
    return script


def delta_spark(cache: Cache | None = None) -> Path:
    """Return the folder of the jars that make PySpark read Delta tables. Raises `ToolFailed`."""
    cache = cache or _user_cache()
    jars = pinned("delta-spark-jars.txt")
    return cache.obtain(
        f"delta-spark-{DELTA_SPARK_VERSION}",
        lambda folder: fetch_jars(jars, jars[0], folder, cache, what="Spark's Delta"),
    )


def temporal_server(cache: Cache | None = None) -> Path:
    """Return the folder of the production server, `server`, and the tool of its SQL schemas, `sql`.

    Raises `ToolFailed`.
    """
    cache = cache or _user_cache()
    version = _dotted(TEMPORAL_SERVER_VERSION)

    def build(folder: Path) -> None:
        _go_build(_PINNED_SERVER, ["tool"], folder, cache, what=f"Temporal server {version}", minutes=12)

    return cache.obtain(f"temporal-server-{version}-{_platform()}", build)


def gcs_emulator(cache: Cache | None = None) -> Path:
    """Return the emulator that docker-compose.yml runs, built from `ops/gcs`. Raises `ToolFailed`."""
    cache = cache or _user_cache()
    sources = sorted([*_EMULATOR_SOURCES.glob("*.go"), *_EMULATOR_SOURCES.glob("go.*")])
    if not sources:
        raise ToolFailed(f"{_EMULATOR_SOURCES} holds no sources; the emulator is built in a checkout only")
    digest = hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()[:12]

    def build(folder: Path) -> None:
        _go_build(_EMULATOR_SOURCES, ["."], folder, cache, what="the emulator", minutes=2)

    return cache.obtain(f"gcs-emulator-{digest}-{_platform()}", build) / "emulator"


def postgres(cache: Cache | None = None) -> Path:
    """Return the folder of PostgreSQL's programs: that of PATH, or Debian's. Raises `ToolFailed`."""
    found = shutil.which("postgres")
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: float(folder.parent.name))
    for folder in [*([Path(found).resolve().parent] if found else []), *reversed(debian)]:
        if all(os.access(folder / program, os.X_OK) for program in _POSTGRES_PROGRAMS):
            return folder
    raise ToolFailed(f"no PostgreSQL with {', '.join(_POSTGRES_PROGRAMS)} here; on Debian: apt-get install postgresql")


def promtool(cache: Cache | None = None) -> Path:
    """Return the checker of Prometheus' alert rules, from PATH. Raises `ToolFailed`."""
    return _of_prometheus("promtool", PROMTOOL_VARIABLE)


def prometheus(cache: Cache | None = None) -> Path:
    """Return Prometheus itself, from PATH. Raises `ToolFailed`."""
    return _of_prometheus("prometheus", PROMETHEUS_VARIABLE)


def _of_prometheus(name: str, variable: str) -> Path:
    chosen = _explicit(variable)
    found = shutil.which(name) if chosen is None else str(chosen)
    if found is None:
        raise ToolFailed(f"no {name} on PATH; on Debian: apt-get install prometheus")
    return Path(found)


PROGRAMS: dict[str, Callable[[Cache | None], Path]] = {
    "temporal": temporal_cli,
    "fake-gcs-server": fake_gcs_server,
    "test-server": test_server,
}


def temporal_server_version(program: Path) -> tuple[int, int, int] | None:
    """Return the version of the server in a Temporal CLI, or None if it does not say."""
    match = re.search(r"\(Server (\d+)\.(\d+)\.(\d+)", output_of([program, "--version"]) or "")
    return (int(match[1]), int(match[2]), int(match[3])) if match else None


def _user_cache() -> Cache:
    return Cache(cache_root(), say_to_stderr)


def _explicit(variable: str) -> Path | None:
    value = os.environ.get(variable)
    if not value:
        return None
    path = Path(value).expanduser().absolute()
    if not (path.is_file() and os.access(path, os.X_OK)):
        raise ToolMisconfigured(f"{variable}: {value!r} is not an executable file", "Correct it or unset it.")
    return path


def _platform() -> str:
    """Return the platform by Go's name, such as `linux-amd64`."""
    machine = platform.machine().lower()
    architecture = {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine)
    return f"{sys.platform}-{architecture}"


def _download_temporal(target: Path, say: Say) -> None:
    system, architecture = _platform().split("-")
    say(f"trying to download the Temporal CLI {TEMPORAL_CLI_VERSION}, about 20 s where the internet is reachable")
    archive = target.with_suffix(".tar.gz")
    with (
        httpx.Client(
            base_url=_DOWNLOAD_HOST,
            timeout=httpx.Timeout(_READ_SECONDS, connect=_CONNECT_SECONDS),
            follow_redirects=True,
        ) as client,
        client.stream(
            "GET",
            f"/cli/archive/v{TEMPORAL_CLI_VERSION}",
            params={"platform": system, "arch": architecture},
        ) as answer,
        archive.open("wb") as sink,
    ):
        answer.raise_for_status()
        for chunk in answer.iter_bytes():
            sink.write(chunk)
    with tarfile.open(archive) as packed:
        member = packed.extractfile("temporal")
        if member is None:
            raise ToolFailed("the archive holds no program called temporal")
        with member, target.open("wb") as sink:
            shutil.copyfileobj(member, sink)
    archive.unlink()
    target.chmod(0o755)
    _expect_temporal(target)


def _expect_temporal(program: Path) -> None:
    version = temporal_server_version(program)
    if version != TEMPORAL_SERVER_VERSION:
        got = "nothing that runs" if version is None else f"server {_dotted(version)}"
        raise ToolFailed(f"expected a Temporal CLI with server {_dotted(TEMPORAL_SERVER_VERSION)}, got {got}")


def _go_install(package: str, folder: Path, cache: Cache, *, minutes: int) -> None:
    _go(["install", *_LEAN, package], folder, cache, what=package, minutes=minutes)


def _go_build(module: Path, packages: list[str], folder: Path, cache: Cache, *, what: str, minutes: int) -> None:
    """Build programs of a module on this machine; its `go.sum` has the hashes of all downloads."""
    copy = folder / "module"
    shutil.copytree(module, copy)
    _go(["install", "-mod=readonly", *_LEAN, *packages], folder, cache, what=what, minutes=minutes, cwd=copy)
    shutil.rmtree(copy)


def _go(arguments: list[str], folder: Path, cache: Cache, *, what: str, minutes: int, cwd: Path | None = None) -> None:
    home = folder / "go-home"
    program, env = go(cache, home)
    cache.say(f"building {what} with {program}, about {minutes} min on two cores the first time")
    run_tool(
        [program, *arguments],
        what=f"building {what}",
        say=cache.say,
        env={**env, "GOBIN": str(folder), "CGO_ENABLED": "0"},
        cwd=cwd,
    )
    shutil.rmtree(home, ignore_errors=True)


def _built_from(program: Path, module: str, version: str) -> bool:
    """Tell whether Go's build information inside the program names this version of its main module."""
    with program.open("rb") as handle, mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return content.find(f"mod\t{module}\tv{version}".encode()) >= 0


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))


FOR_LONG_TESTS: dict[str, Callable[[Cache | None], Path]] = {
    "delta-spark": delta_spark,
    "temporal-server": temporal_server,
    "gcs-emulator": gcs_emulator,
    "postgres": postgres,
    "promtool": promtool,
    "prometheus": prometheus,
}
"""Programs that only the long tests need: fetched only by name."""


def main(arguments: list[str] | None = None) -> int:
    """Get the named programs (all of them by default); return the exit code: 0 done, 4 failed."""
    known = PROGRAMS | FOR_LONG_TESTS
    parser = argparse.ArgumentParser(
        prog="python -m springline.local.binaries", description="Get the programs that Springline's local stack runs."
    )
    parser.add_argument("names", nargs="*", choices=[[], *known], metavar=" ".join(known), help="which programs")
    parser.add_argument("--print-path", action="store_true", help="print each path on standard output")
    options = parser.parse_args(arguments)
    for name in options.names or PROGRAMS:
        try:
            path = known[name](None)
        except ToolFailed as error:
            say_to_stderr(f"{name}: {error}")
            return 4
        if options.print_path:
            print(path)
        else:
            say_to_stderr(f"{name}: {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
