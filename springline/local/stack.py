"""The embedded stack: Temporal development server, workers and API as child processes of one Python process.

No child outlives the process that started it: `stop`, `with`, interpreter exit and the kernel's parent-death
signal all end the children; on systems without that signal the next run ends them (`runfolder`).
"""

from __future__ import annotations

import asyncio
import atexit
import os
import secrets
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self, TypedDict

import httpx

from springline.api.tokens import make_token, seconds_left
from springline.config import PREFIX
from springline.local.binaries import temporal_cli
from springline.local.cache import Cache, Say, cache_root, say_to_stderr
from springline.local.devserver import DEFAULT_PARTITIONS, NAMESPACE, PARTITIONS, dev_server_command, dev_server_ready
from springline.local.homefolder import HomeFolder
from springline.local.ports import LOOPBACK, free_ports, is_free
from springline.local.processes import Child, module_command, module_path
from springline.local.run import ToolFailed, ToolMisconfigured
from springline.local.runfolder import RunFolder
from springline.paths import Scope

TEMPORAL = "temporal"
API = "api"
WORKER_READY_PATH = "/readyz"
API_READY_PATH = "/ready"
API_HEALTH_PATH = "/health"

START_SECONDS = 180.0
"""How long a child may take to become ready: on a machine busy with other things more than a minute was seen."""
_POLL_SECONDS = 0.05
_TEMPORAL_GRACE_SECONDS = 5.0
_DAY_SECONDS = 24 * 3600
_LASTING_SECONDS = 90 * _DAY_SECONDS
_SOON_SECONDS = 7 * _DAY_SECONDS
_STARTS = 5
"""How often a child is started if a signal ends it before it is ready: then it was killed, and has no fault itself."""

Ready = Callable[[], str | None]
"""Returns None if the child is ready, else what it still lacks."""


def worker_name(number: int) -> str:
    """Return the name of the worker with this number, counted from 1."""
    return f"worker-{number}"


class EmbeddedStack:
    """A whole Springline on this machine, for development, the demo and tests with a real server.

    `root` is the parent of the runs' folders; `store_url` defaults to local files in the run's folder; `workers`
    and `api` say which processes `start` starts; `environment` is added to that of workers and API; `keep`
    leaves the run's folder (store, logs, database) behind; `grace_s` is how long a process may drain on `stop`;
    `worker_module` is what a worker runs. With `stays`, `root` itself is the folder, and a later stack in it goes on
    with the same store, database, ports and tokens; `fresh` removes what earlier stacks left there.
    """

    def __init__(
        self,
        root: Path,
        *,
        scope: Scope,
        workers: int = 1,
        api: bool = True,
        store_url: str | None = None,
        environment: Mapping[str, str] | None = None,
        keep: bool = False,
        stays: bool = False,
        fresh: bool = False,
        grace_s: float = 10.0,
        worker_module: str = "worker",
        say: Say = say_to_stderr,
    ) -> None:
        self.scope = scope
        self.say = say
        self._root = root.absolute()
        self._workers = workers
        self._api = api
        self._given_store_url = store_url
        self._extra = dict(environment or {})
        self._keep = keep
        self._stays = stays
        self._fresh = fresh
        self._grace_s = grace_s
        self._worker_module = worker_module
        self._secret = secrets.token_urlsafe(48)
        self._run: RunFolder | HomeFolder | None = None
        self._children: dict[str, Child] = {}
        self._ready: dict[str, Ready] = {}
        self._ports: dict[str, int] = {}

    # Facts about a running stack.

    @property
    def folder(self) -> Path:
        """The folder of this run; raises `ToolFailed` before `start`."""
        if self._run is None:
            raise ToolFailed("the stack has not been started")
        return self._run.path

    @property
    def store_url(self) -> str:
        """The URL of the store."""
        return self._given_store_url or (self.folder / "store").as_uri()

    @property
    def temporal_address(self) -> str:
        """Host and port of the Temporal frontend."""
        return f"{LOOPBACK}:{self._ports['temporal']}"

    @property
    def web_ui_url(self) -> str:
        """Address of the Temporal Web UI."""
        return f"http://{LOOPBACK}:{self._ports['ui']}"

    @property
    def api_url(self) -> str:
        """Address of the HTTP API."""
        return f"http://{LOOPBACK}:{self._ports['api']}"

    @property
    def worker_names(self) -> list[str]:
        """The names under which the workers are started, killed and restarted."""
        return [worker_name(number) for number in range(1, self._workers + 1)]

    def token(self, *, ttl_s: int = _DAY_SECONDS) -> str:
        """Return a bearer token for this stack's workspace with every scope, valid for `ttl_s` seconds."""
        return make_token(self._secret, self.scope, subject="embedded-stack", ttl_s=ttl_s)

    def lasting_token(self) -> str:
        """Return the token of an earlier start for this workspace, a new one if there is none or it expires soon."""
        if not isinstance(self._run, HomeFolder):
            return self.token()
        place = f"{self.scope.tenant}/{self.scope.workspace}"
        tokens = dict(self._run.memory.get("tokens") or {})
        known = tokens.get(place)
        if isinstance(known, str) and seconds_left(known, self._secret) > _SOON_SECONDS:
            return known
        tokens[place] = self.token(ttl_s=_LASTING_SECONDS)
        self._run.remember(tokens=tokens)
        return str(tokens[place])

    def log(self, name: str) -> Path:
        """Return the file that holds the output of a child."""
        return self.folder / "logs" / f"{name}.log"

    def child_environment(self) -> dict[str, str]:
        """Return the environment in which workers, API and CLI find this stack and nothing else.

        The user's own variables of Temporal and Springline are left out: a stack must never talk to a production
        namespace.
        """
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("TEMPORAL_", PREFIX))}
        return {
            **inherited,
            "TEMPORAL_ADDRESS": self.temporal_address,
            "TEMPORAL_NAMESPACE": NAMESPACE,
            "TEMPORAL_CONFIG_FILE": str(self.folder / "temporal.toml"),
            f"{PREFIX}STORE_URL": self.store_url,
            f"{PREFIX}JWT_SECRET": self._secret,
            f"{PREFIX}TASK_SECRET": self._secret,
            f"{PREFIX}HTTP_WORKERS": f"http://{LOOPBACK}:*,http://localhost:*",
            f"{PREFIX}CALLBACK_URL": self.api_url,
            f"{PREFIX}API_HOST": LOOPBACK,
            f"{PREFIX}API_PORT": str(self._ports["api"]),
            "PYTHONPATH": module_path(inherited.get("PYTHONPATH")),
            "PYTHONUNBUFFERED": "1",
            **self._extra,
        }

    def user_environment(self) -> dict[str, str]:
        """Return `child_environment` with what else users' commands and workers need: API, token and workspace."""
        return self.child_environment() | {
            f"{PREFIX}API_URL": self.api_url,
            f"{PREFIX}TOKEN": self.token(),
            f"{PREFIX}TENANT": self.scope.tenant,
            f"{PREFIX}WORKSPACE": self.scope.workspace,
        }

    # Start and stop.

    def start(self) -> None:
        """Start everything and return when it is ready.

        Raises `ToolFailed`, and leaves nothing running; `ToolMisconfigured` if it would fail again.
        """
        self.program = program = temporal_cli(Cache(cache_root(), self.say))
        try:
            self._run = self._folder_of_run()
        except OSError as error:
            said = f"runs cannot be kept in the folder {self._root}: {error.strerror or error}"
            raise ToolMisconfigured(said, "Name a folder that can be written.") from error
        atexit.register(self.stop)
        try:
            self._lay_out(program)
            started = time.monotonic()
            self.start_child(TEMPORAL)
            # Workers and API take seconds to import, so they start side by side.
            others = [name for name in self._children if name != TEMPORAL]
            for name in others:
                self.start_child(name, wait=False)
            for name in others:
                self.wait_through_kills(name)
            self.say(f"{', '.join(self._children)} ready after {time.monotonic() - started:.1f} s in {self.folder}")
        except BaseException:
            self._keep_logs_of_failure()
            self.stop()
            raise

    def stop(self) -> dict[str, int | None]:
        """End every child and release the run's folder; return the exit codes. Does nothing if not started."""
        if self._run is None:
            return {}
        codes: dict[str, int | None] = {}
        # What sends requests ends first; Temporal last, so that workers can report what they finished.
        asking = [name for name in self._children if name not in (TEMPORAL, *self.worker_names)]
        for together in (asking, self.worker_names):
            children = [self._children[name] for name in together if name in self._children]
            for child in children:
                child.signal(signal.SIGTERM)
            for child in children:
                codes[child.name] = child.end_within(self._grace_s)
        if TEMPORAL in self._children:
            codes[TEMPORAL] = self._children[TEMPORAL].stop(_TEMPORAL_GRACE_SECONDS)
        self._run.close(keep=self._keep)
        self._run = None
        self._children.clear()
        atexit.unregister(self.stop)
        return codes

    def __enter__(self) -> Self:
        """Start."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop."""
        self.stop()

    async def __aenter__(self) -> Self:
        """Start, off the event loop."""
        await asyncio.to_thread(self.start)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop, off the event loop."""
        await asyncio.to_thread(self.stop)

    def add_child(self, name: str, command: Sequence[str], *, env: Mapping[str, str], cwd: Path) -> None:
        """Make another program a child of the running stack, to be started by `start_child`; it ends with the stack.

        It is ready when it has written its process id into `ready_file(name)`. Its output goes to `log(name)`.
        """
        file = self.ready_file(name)

        def ready() -> str | None:
            try:
                written = file.read_text()
            except OSError:
                written = ""
            # What an earlier process has left there has another id.
            return None if written == str(self._children[name].pid) else "is not ready yet"

        self._add(name, Child(name, command, env=env, cwd=cwd, log=self.log(name)), ready)

    def ready_file(self, name: str) -> Path:
        """Return the file into which a child of `add_child` writes its process id when it is ready."""
        return self.folder / "logs" / f"{name}.ready"

    # One child at a time, for chaos tests.

    def child(self, name: str) -> Child:
        """Return a child by its name (`temporal`, `api`, `worker-1`, ...); raises `KeyError`."""
        return self._children[name]

    def start_child(self, name: str, *, wait: bool = True) -> None:
        """Start a child that is not running; by default wait until it is ready. Raises `ToolFailed`."""
        self.child(name).start()
        self._record()
        if wait:
            self.wait_ready(name)

    def kill(self, name: str) -> None:
        """End a child at once with SIGKILL, as a crash would."""
        self.child(name).kill()

    def restart(self, name: str, *, wait: bool = True) -> None:
        """Stop a child gracefully and start it again with the same ports and environment. Raises `ToolFailed`."""
        self.child(name).stop(self._grace_s)
        self.start_child(name, wait=wait)

    def wipe_temporal(self) -> None:
        """Replace the Temporal server by one with an empty database, as after the loss of a namespace."""
        self.kill(TEMPORAL)
        for file in self.folder.glob("temporal.db*"):
            file.unlink()
        self.start_child(TEMPORAL)

    def wait_ready(self, name: str, timeout_s: float = START_SECONDS) -> None:
        """Return when a child is ready; raises `ToolFailed`, with the end of its log, if it ends or takes too long."""
        child, ready = self.child(name), self._ready[name]
        deadline = time.monotonic() + timeout_s
        while True:
            code = child.exit_code
            if code is not None:
                raise ToolFailed(f"{name} ended with code {code} before it was ready:\n{child.log_tail()}")
            lacking = ready()
            if lacking is None:
                return
            if time.monotonic() > deadline:
                raise ToolFailed(f"{name} is not ready after {timeout_s:.0f} s: {lacking}\n{child.log_tail()}")
            time.sleep(_POLL_SECONDS)

    def lacks(self, name: str) -> str | None:
        """Return what a running child still lacks to be ready, None if it is ready."""
        return self._ready[name]()

    def wait_through_kills(self, name: str) -> None:
        """Return when a child is ready; start it again if a signal ends it before. Raises as `wait_ready`."""
        for left in reversed(range(_STARTS)):
            try:
                self.wait_ready(name)
            except ToolFailed:
                code = self.child(name).exit_code
                if not left or code is None or code >= 0:
                    raise
                self.say(f"{name} was ended by signal {-code} before it was ready; starting it again")
                self.start_child(name, wait=False)
            else:
                return

    def dead_children(self) -> dict[str, int]:
        """Return the exit codes of the children that were started and no longer run."""
        return {name: child.exit_code for name, child in self._children.items() if child.exit_code is not None}

    # Folders, ports and commands.

    def _lay_out(self, program: Path) -> None:
        fixed = ("temporal", "http", "ui", "temporal-metrics", "api")
        per_worker = [f"{name}/{port}" for name in self.worker_names for port in ("metrics", "health")]
        names = [*fixed, *per_worker]
        self._ports = self._chosen_ports(names)
        (self.folder / "logs").mkdir(exist_ok=True)
        (self.folder / "store").mkdir(exist_ok=True)
        (self.folder / "temporal.toml").touch()
        server = dev_server_command(
            program,
            database=self._database,
            port=self._ports["temporal"],
            http_port=self._ports["http"],
            ui_port=self._ports["ui"],
            metrics_port=self._ports["temporal-metrics"],
            partitions=self._partitions(),
        )
        http_port = self._ports["http"]
        self._add(TEMPORAL, Child(TEMPORAL, server, **self._place(TEMPORAL)), lambda: dev_server_ready(http_port))
        for name in self.worker_names:
            health = self._ports[f"{name}/health"]
            ports = {
                f"{PREFIX}METRICS_PORT": str(self._ports[f"{name}/metrics"]),
                f"{PREFIX}HEALTH_PORT": str(health),
            }
            command = module_command(self._worker_module)
            self._add(name, Child(name, command, **self._place(name, ports)), _http_ready(health, WORKER_READY_PATH))
        if self._api:
            command = module_command("entrypoints.api")
            # The API is not ready before a worker is, and the caller may start the workers itself.
            path = API_READY_PATH if self._workers else API_HEALTH_PATH
            # The API tells only operators why it is not ready.
            why = ("/api/v1/readiness", self.token())
            self._add(API, Child(API, command, **self._place(API)), _http_ready(self._ports["api"], path, why))

    def _folder_of_run(self) -> RunFolder | HomeFolder:
        if not self._stays:
            return RunFolder(self._root, self.say)
        home = HomeFolder(self._root, self.say, fresh=self._fresh)
        self._secret = str(home.memory.get("secret") or self._secret)
        return home

    def _chosen_ports(self, names: list[str]) -> dict[str, int]:
        """Return a free port for each name: that of an earlier start if no other program listens on it now."""
        if not isinstance(self._run, HomeFolder):
            return dict(zip(names, free_ports(len(names)), strict=True))
        known: dict[str, int] = dict(self._run.memory.get("ports") or {})
        taken = [name for name in names if name in known and not is_free(known[name])]
        new = [name for name in names if name not in known or name in taken]
        fresh = dict(zip(new, free_ports(len(new), but=known.values()), strict=True))
        for name in taken:
            self.say(
                f"port {known[name]} ({name}) of the last start is taken by something else now; using {fresh[name]}"
            )
        ports = known | fresh
        self._run.remember(secret=self._secret, ports=ports)
        return ports

    @property
    def _database(self) -> Path:
        return self.folder / "temporal.db"

    def _partitions(self) -> int:
        """Return how many partitions task queues have: those that the folder's database has had from its beginning."""
        if not isinstance(self._run, HomeFolder):
            return PARTITIONS
        of_a_new_one = DEFAULT_PARTITIONS if self._database.exists() else PARTITIONS
        found = int(self._run.memory.get("partitions") or of_a_new_one)
        self._run.remember(partitions=found)
        return found

    def _place(self, name: str, ports: Mapping[str, str] | None = None) -> _Place:
        env = {**self.child_environment(), **(ports or {})}
        return {"env": env, "cwd": self.folder, "log": self.log(name)}

    def _add(self, name: str, child: Child, ready: Ready) -> None:
        self._children[name] = child
        self._ready[name] = ready

    def _record(self) -> None:
        if self._run is not None:
            pids = {
                name: child.pid for name, child in self._children.items() if child.pid is not None and child.running
            }
            self._run.record_children(pids)

    def _keep_logs_of_failure(self) -> None:
        if self._run is not None and any(self.folder.glob("logs/*")):
            self._keep = True
            self.say(f"the logs are in {self.folder / 'logs'}")


class _Place(TypedDict):
    env: dict[str, str]
    cwd: Path
    log: Path


def _http_ready(port: int, path: str, why: tuple[str, str] | None = None) -> Ready:
    """Return a readiness check of a child; `why`: the path at which it says what it lacks, and a token for that."""

    def ready() -> str | None:
        try:
            answer = httpx.get(f"http://{LOOPBACK}:{port}{path}", timeout=2)
            if answer.status_code == httpx.codes.SERVICE_UNAVAILABLE and why is not None:
                told = httpx.get(
                    f"http://{LOOPBACK}:{port}{why[0]}", headers={"Authorization": f"Bearer {why[1]}"}, timeout=2
                )
                return f"is not ready: {told.text[:500]}"
        except httpx.HTTPError as error:
            return f"no answer yet ({type(error).__name__})"
        return None if answer.status_code == httpx.codes.OK else f"answers {answer.status_code}: {answer.text[:200]}"

    return ready
