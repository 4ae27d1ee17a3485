"""The services of docker-compose.yml as processes: what Docker would start, from the same file, without Docker.

Each service gets an address of its own in 127.0.0.0/8, so that every port is the one in the file. Its command, its
environment, its health check, what it waits for, how it is restarted and stopped are read from the file. What takes the
place of the images is in `_ENTRYPOINTS` and `_programs`, and for PostgreSQL in `_make_cluster`.
"""

from __future__ import annotations

import os
import pwd
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml

from springline.local.binaries import gcs_emulator, postgres, temporal_cli, temporal_server
from springline.local.processes import Child

ROOT = Path(__file__).parents[2]
FILE = ROOT / "docker-compose.yml"
LEFT_OUT = ("ui",)
"""Services that nothing waits for, and whose programs are not built here."""
READY_S = 120.0
POLL_S = 0.1

_VARIABLE = re.compile(r"\$\{(\w+):\?[^}]*\}")
_ENTRYPOINTS: Mapping[str, list[str]] = {
    "postgres": ["postgres"],
    "springline": [],
    "springline-gcs": ["emulator"],
    "temporalio/admin-tools": [],
    "temporalio/server": [],
}
_CLUSTER = "/var/lib/postgresql/data"
_FIRST_START = "/docker-entrypoint-initdb.d/"

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 60.0
"""Docker waits so long before it starts again what has ended, twice as long each time."""


def compose(secrets: Mapping[str, str]) -> dict[str, Any]:
    """Return docker-compose.yml as Compose sees it with these variables in `.env`."""
    loaded: dict[str, Any] = yaml.safe_load(_VARIABLE.sub(lambda match: secrets[match[1]], FILE.read_text("utf-8")))
    return loaded


@dataclass
class Container:
    """One service: how it is run, and the process that runs it."""

    name: str
    spec: dict[str, Any]
    address: str
    child: Child
    environment: dict[str, str]
    wanted: bool = False
    """Whether the process ought to run: Docker starts it again when it has ended."""
    restarts: list[int] = field(default_factory=list)
    """The exit codes after which it was started again."""
    peak: int = 0
    """The most memory it ever had in hand, in bytes."""

    @property
    def once(self) -> bool:
        """Whether it does one thing and ends."""
        return str(self.spec["restart"]) == "on-failure"


class Topology:
    """Everything in docker-compose.yml; `folder` takes the logs. Linux only: others have one loopback address."""

    def __init__(self, folder: Path) -> None:
        self.logs = folder
        self.secrets = {
            name: os.urandom(32).hex() for name in dict.fromkeys(_VARIABLE.findall(FILE.read_text("utf-8")))
        }
        # Not in `folder`, which is its owner's alone: PostgreSQL runs as somebody else.
        self._place = Path(tempfile.mkdtemp(prefix="springline-topology-"))
        self._place.chmod(0o755)
        self._programs = self._place / "programs"
        loaded = compose(self.secrets)
        self._specs = {name: spec for name, spec in loaded["services"].items() if name not in LEFT_OUT}
        self._volumes = {name: self._place / "volumes" / name for name in loaded["volumes"]}
        start = f"127.{random.randint(64, 250)}.{random.randint(1, 250)}"
        self.addresses = {name: f"{start}.{number}" for number, name in enumerate(self._specs, start=10)}
        self.containers: dict[str, Container] = {}
        self._ended = threading.Event()
        self._lock = threading.RLock()
        self._watcher = threading.Thread(target=self._watch, name="restarts", daemon=True)

    def __enter__(self) -> Self:
        try:
            self._lay_out()
            self.up()
        except BaseException:
            self.down()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.down()

    # What `docker compose` does.

    def up(self) -> None:
        """Start every service when what it needs is there; return when all are healthy or done."""
        self._watcher.start()
        waiting = list(self.containers)
        while waiting:
            ready = [name for name in waiting if not set(self._needs(name)) & set(waiting)]
            assert ready, f"services wait for each other: {waiting}"
            for name in ready:
                for needed, condition in self._needs(name).items():
                    self._wait(needed, condition)
                self.start(name)
            waiting = [name for name in waiting if name not in ready]
        for name, container in self.containers.items():
            self._wait(name, "service_completed_successfully" if container.once else "service_healthy")

    def down(self) -> None:
        """Stop everything, whoever asks before whoever answers, and remove what it wrote."""
        self._ended.set()
        if self._watcher.is_alive():
            self._watcher.join()
        for name in reversed(list(self.containers)):
            self.stop(name)
        shutil.rmtree(self._place, ignore_errors=True)

    def start(self, name: str) -> None:
        """Start a service."""
        with self._lock:
            container = self.containers[name]
            container.wanted = True
            container.child.start()

    def stop(self, name: str) -> int | None:
        """Ask a service to end as Docker does, kill it after its grace time; return its exit code."""
        with self._lock:
            container = self.containers[name]
            container.wanted = False
            self._note_memory(container)
        child, spec = container.child, container.spec
        if child.running and child.pid is not None:
            # To the first process alone, which tells its own.
            os.kill(child.pid, getattr(signal, spec.get("stop_signal", "SIGTERM")))
        return child.end_within(float(spec.get("stop_grace_period", "10s").removesuffix("s")))

    def kill(self, name: str) -> None:
        """End every process of a service at once; it is started again as the file says."""
        self.containers[name].child.kill()

    def wait_healthy(self, name: str) -> None:
        """Return when the health check of a service says yes."""
        self._wait(name, "service_healthy")

    def run(self, name: str, *command: str, timeout_s: float = 180.0) -> str:
        """Run a command as `docker compose exec` does; return what it prints. Raises `AssertionError` if it fails."""
        done = subprocess.run(
            [self._local(name, word) for word in command],
            env=self.containers[name].environment,
            cwd=self._place,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout_s,
        )
        assert done.returncode == 0, f"{name}: {' '.join(command)}: code {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout

    def url(self, name: str, port: int) -> str:
        """Return the address of a port that the service publishes to the host."""
        published = [str(one) for one in self.containers[name].spec["ports"]]
        assert any(one.endswith(f":{port}") for one in published), f"{name} publishes {published}"
        return f"http://{self.addresses[name]}:{port}"

    def published(self, text: str) -> str:
        """Return a text with the ports of the host as they are here."""
        for name, container in self.containers.items():
            for port in container.spec.get("ports", []):
                host, _, inside = str(port).rpartition(":")
                text = text.replace(host, f"{self.addresses[name]}:{inside}")
        return text

    def log(self, name: str) -> str:
        """Return the end of a service's log."""
        return self.containers[name].child.log_tail()

    # Restarts.

    def _watch(self) -> None:
        pauses: dict[str, float] = {}
        due: dict[str, float] = {}
        while not self._ended.wait(POLL_S):
            for name, container in list(self.containers.items()):
                with self._lock:
                    code = container.child.exit_code
                    if container.wanted and code is None:
                        self._note_memory(container)
                    if not container.wanted or code is None or (container.once and code == 0):
                        continue
                    now = time.monotonic()
                    if name not in due:
                        due[name] = now + pauses.get(name, _FIRST_PAUSE_S)
                    elif now >= due[name]:
                        del due[name]
                        pauses[name] = min(2 * pauses.get(name, _FIRST_PAUSE_S), _LONGEST_PAUSE_S)
                        container.restarts.append(code)
                        container.child.start()

    def _note_memory(self, container: Container) -> None:
        for line in _status(container.child.pid).splitlines():
            if line.startswith("VmHWM:"):
                container.peak = max(container.peak, 1024 * int(line.split()[1]))

    # Waiting.

    def _needs(self, name: str) -> dict[str, str]:
        return {needed: how["condition"] for needed, how in self._specs[name].get("depends_on", {}).items()}

    def _wait(self, name: str, condition: str) -> None:
        deadline = time.monotonic() + READY_S
        while not self._is(name, condition):
            container = self.containers[name]
            assert time.monotonic() < deadline, f"{name}: no {condition} within {READY_S:g} s\n{self.log(name)}"
            assert len(container.restarts) < 20, f"{name} ends again and again\n{self.log(name)}"
            time.sleep(POLL_S)

    def _is(self, name: str, condition: str) -> bool:
        container = self.containers[name]
        if condition == "service_completed_successfully":
            return container.child.exit_code == 0
        assert condition == "service_healthy", condition
        kind, *command = container.spec["healthcheck"]["test"]
        assert kind == "CMD", f"{name}: a health check of the kind {kind}"
        check = subprocess.run(
            [self._local(name, word) for word in command],
            env=container.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=30,
        )
        return check.returncode == 0

    # From the file to processes.

    def _lay_out(self) -> None:
        self._programs.mkdir()
        server, database = temporal_server(), postgres()
        for name, target in {
            "emulator": gcs_emulator(),
            "temporal": temporal_cli(),
            "temporal-server": server / "server",
            "temporal-sql-tool": server / "sql",
            **{name: database / name for name in ("initdb", "pg_isready", "postgres", "psql")},
        }.items():
            self._program(name, f'"{target}"')
        # A link to the interpreter would lose its virtual environment.
        self._program("python", f'"{sys.executable}"')
        self._program("springline", f'"{sys.executable}" -m springline.cli')
        for folder in self._volumes.values():
            folder.mkdir(parents=True)
        for name, spec in self._specs.items():
            image = spec["image"].partition(":")[0]
            folder = self._place / name
            folder.mkdir()
            environment = self._environment(name)
            prefix: list[str] = []
            if image == "postgres":
                prefix = _as_somebody_else(spec["user"], folder, *self._mounts(name).values())
                self._make_cluster(name, environment, prefix)
                prefix += ["postgres", *_served_at(environment["PGDATA"], self.addresses[name], folder)]
            else:
                prefix = [*spec.get("entrypoint", _ENTRYPOINTS[image])]
            command = [self._local(name, str(word)) for word in [*prefix, *spec.get("command", [])]]
            if image == "springline":
                # Nothing but the interpreter: as in a container, it is the process that gets the signals.
                command = [sys.executable if word == "python" else word for word in command]
            child = Child(name, command, env=environment, cwd=folder, log=self.logs / f"{name}.log")
            self.containers[name] = Container(name, spec, self.addresses[name], child, environment)

    def _program(self, name: str, command: str) -> None:
        file = self._programs / name
        file.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
        file.chmod(0o755)

    def _environment(self, name: str) -> dict[str, str]:
        spec = self._specs[name]
        own = {
            variable: self._value(name, variable, str(value)) for variable, value in spec.get("environment", {}).items()
        }
        own |= {"PATH": os.pathsep.join([str(self._programs), os.environ.get("PATH", os.defpath)]), "LANG": "C.UTF-8"}
        own |= {"HOME": str(self._place / name), "TMPDIR": "/tmp"}
        image = spec["image"].partition(":")[0]
        if image == "postgres":
            own |= {"PGDATA": str(self._mounts(name)[_CLUSTER]), "PGHOST": str(self._place / name)}
        if image == "springline":
            # As installed in the image: found from any folder.
            own |= {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
        return own

    def _value(self, name: str, variable: str, value: str) -> str:
        if variable.endswith("_HOST") and value in self.addresses:
            return self.addresses[value]
        return self._local(name, value)

    def _local(self, name: str, word: str) -> str:
        """Return a word of a service's command or environment with its names, addresses and paths as they are here."""
        for target, source in self._mounts(name).items():
            if word == target or word.startswith(f"{target}/"):
                word = str(source) + word.removeprefix(target)
        word = word.replace("0.0.0.0", self.addresses[name]).replace("127.0.0.1", self.addresses[name])
        for other, address in self.addresses.items():
            word = re.sub(rf"(?<![\w.-]){other}(?=:\d)", address, word)
        return word

    def _mounts(self, name: str) -> dict[str, Path]:
        found = {}
        for mount in self._specs[name].get("volumes", []):
            source, target = mount.split(":")[:2]
            found[target] = ROOT / source if source.startswith(".") else self._volumes[source]
        return found

    def _make_cluster(self, name: str, environment: Mapping[str, str], prefix: Sequence[str]) -> None:
        """Do what PostgreSQL's image does at its first start: a cluster, and the scripts that are mounted for it."""
        folder = self._place / name
        password = folder / "password"
        password.write_text(environment["POSTGRES_PASSWORD"])
        password.chmod(0o644)
        cluster, user = environment["PGDATA"], environment["POSTGRES_USER"]
        commands = [["initdb", "-D", cluster, "-U", user, f"--pwfile={password}"]]
        commands[0] += ["--auth-local=trust", "--auth-host=scram-sha-256", "--no-sync"]
        self._do(prefix, commands[0], environment)
        server = subprocess.Popen(
            [*prefix, "postgres", *_served_at(cluster, "", folder)],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            deadline = time.monotonic() + READY_S
            while subprocess.run(["pg_isready", "-q"], env=environment, check=False).returncode != 0:
                assert server.poll() is None
                assert time.monotonic() < deadline
                time.sleep(POLL_S)
            for target, script in self._mounts(name).items():
                if target.startswith(_FIRST_START):
                    self._do(prefix, [str(script)], environment)
        finally:
            server.send_signal(signal.SIGINT)
            server.wait(READY_S)

    def _do(self, prefix: Sequence[str], command: Sequence[str], environment: Mapping[str, str]) -> None:
        done = subprocess.run([*prefix, *command], env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{' '.join(command)}: code {done.returncode}\n{done.stdout}{done.stderr}"


def _as_somebody_else(user: str, *folders: Path) -> list[str]:
    """Return what a command begins with that must not run as root, and give that user its folders."""
    if os.geteuid() != 0:
        return []
    account = pwd.getpwnam(user)
    for folder in folders:
        if folder.is_dir():
            os.chown(folder, account.pw_uid, account.pw_gid)
    return ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", "--pdeathsig", "KILL"]


def _served_at(cluster: str, address: str, sockets: Path) -> list[str]:
    return ["-D", cluster, "-c", f"listen_addresses={address}", "-c", f"unix_socket_directories={sockets}"]


def _status(pid: int | None) -> str:
    try:
        return Path(f"/proc/{pid}/status").read_text("utf-8")
    except OSError:
        return ""
