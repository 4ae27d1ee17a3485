"""Child processes that never outlive their parent, however it ends: own process groups, logs in files."""

from __future__ import annotations

import contextlib
import os
import queue
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from types import FrameType

import springline
from springline.local import guard
from springline.local.run import ToolFailed

SOURCES = Path(springline.__file__).parents[1]
"""Where `springline` lies, and beside it, installed or not, `worker` and `entrypoints`."""
_TAIL_BYTES = 4000
_Spawn = Callable[[], "subprocess.Popen[bytes]"]


def module_command(module: str, *arguments: str) -> list[str]:
    """Return the command that runs a module of ours, with `module_path` in its environment.

    A user's module of its name in the current folder is not taken for it.
    """
    return [sys.executable, "-P", "-m", module, *arguments]


def module_path(inherited: str | None) -> str:
    """Return the `PYTHONPATH` that finds our modules first, whatever else of their names is on the `inherited` one."""
    return os.pathsep.join(filter(None, [str(SOURCES), inherited]))


class Child:
    """One program of the stack: can be started, killed, and started again under the same name."""

    def __init__(
        self, name: str, command: Sequence[str | Path], *, env: Mapping[str, str], cwd: Path, log: Path
    ) -> None:
        self.name = name
        self.log = log
        self._command = [str(part) for part in command]
        self._env = dict(env)
        self._cwd = cwd
        self._process: subprocess.Popen[bytes] | None = None
        self._log_begins = 0

    @property
    def pid(self) -> int | None:
        """The process id (and process group id) of the last start, None before the first."""
        return None if self._process is None else self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs or before it was started; minus the signal's number if a signal ended it."""
        return None if self._process is None else self._process.poll()

    @property
    def running(self) -> bool:
        """Whether the process is alive."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start the program; its output is appended to the log. Raises `ToolFailed` if it cannot be started."""
        if self.running:
            raise ToolFailed(f"{self.name} is already running (pid {self.pid})")
        command = [sys.executable, "-I", "-S", guard.__file__, str(os.getpid()), *self._command]
        self._log_begins = self.log.stat().st_size if self.log.exists() else 0

        def spawn() -> subprocess.Popen[bytes]:
            with self.log.open("ab") as output:
                return subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    env=self._env,
                    cwd=self._cwd,
                    start_new_session=True,
                )

        try:
            self._process = _SPAWNER.run(spawn)
        except OSError as error:
            raise ToolFailed(f"{self.name} cannot be started: {error}") from error

    def signal(self, number: int) -> None:
        """Send a signal to the program's process group; do nothing if it has ended."""
        if self._process is not None and self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)

    def kill(self) -> None:
        """End the program at once with SIGKILL and wait until it is gone."""
        self.signal(signal.SIGKILL)
        self.wait()

    def stop(self, grace_s: float) -> int | None:
        """Ask the program to end (SIGTERM), kill it after `grace_s` seconds; return its exit code."""
        self.signal(signal.SIGTERM)
        return self.end_within(grace_s)

    def end_within(self, grace_s: float) -> int | None:
        """Wait up to `grace_s` seconds for the end, then kill the program; return its exit code."""
        try:
            return self.wait(grace_s)
        except subprocess.TimeoutExpired:
            self.kill()
            return self.exit_code

    def wait(self, timeout_s: float | None = None) -> int | None:
        """Wait for the end and return the exit code; raises `subprocess.TimeoutExpired`."""
        return None if self._process is None else self._process.wait(timeout_s)

    def log_tail(self) -> str:
        """Return the end of what the program has written since its last start, for an error message."""
        try:
            with self.log.open("rb") as handle:
                handle.seek(max(self._log_begins, self.log.stat().st_size - _TAIL_BYTES))
                return handle.read().decode(errors="replace").strip()
        except OSError:
            return ""


@contextlib.contextmanager
def signals_unwind() -> Iterator[None]:
    """Let SIGINT, SIGTERM and SIGHUP end the block as an exception does, so that `with` statements clean up.

    The exception is `SystemExit` with 128 plus the signal's number, the code that a shell reports. Further signals are
    ignored meanwhile, so that they do not cut the clean-up short. For the main thread of a program.
    """
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def unwind(number: int, _frame: FrameType | None) -> None:
        for one in numbers:
            signal.signal(one, signal.SIG_IGN)
        sys.exit(128 + number)

    before = {number: signal.signal(number, unwind) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def peak_memory_bytes(pid: int | None = None) -> int:
    """Return the peak memory of a process, by default this one, in bytes.

    On Linux of any process, elsewhere only of this one. `getrusage` is the last resort, because it returns at least the
    memory that the parent had when it started the process. Raises `FileNotFoundError` if there is no such process.
    """
    status = Path("/proc", "self" if pid is None else str(pid), "status")
    if pid is not None or status.exists():
        for line in status.read_text("ascii", "replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


class _Spawner:
    """One thread that starts all children and lives as long as this process.

    The kernel's parent-death signal is tied to the *thread* that forked: a child started from a pool's thread would be
    killed when that thread ends.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._jobs: queue.SimpleQueue[tuple[Future[subprocess.Popen[bytes]], _Spawn]] | None = None
        self._owner = 0

    def run(self, spawn: _Spawn) -> subprocess.Popen[bytes]:
        """Run `spawn` in the thread; return its result or raise its error."""
        future: Future[subprocess.Popen[bytes]] = Future()
        with self._lock:
            # In a forked process only the queue exists, without the thread.
            if self._jobs is None or self._owner != os.getpid():
                self._jobs = queue.SimpleQueue()
                self._owner = os.getpid()
                threading.Thread(target=_serve, args=(self._jobs,), name="springline-spawner", daemon=True).start()
            self._jobs.put((future, spawn))
        return future.result()


def _serve(jobs: queue.SimpleQueue[tuple[Future[subprocess.Popen[bytes]], _Spawn]]) -> None:
    while True:
        future, spawn = jobs.get()
        try:
            future.set_result(spawn())
        except BaseException as error:
            future.set_exception(error)


_SPAWNER = _Spawner()
