"""One process that makes attempts, as its worker sees it: starting it, giving it jobs, stopping and ending it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import signal
import socket
from asyncio.subprocess import DEVNULL, STDOUT, Process
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from springline.local.processes import module_command
from springline.work.frames import (
    Evaluation,
    Job,
    Json,
    Made,
    Say,
    frame,
    head_of_evaluation,
    head_of_job,
    made_of,
    read_frame,
)
from springline.work.memory import CAN_BE_WATCHED, MemoryOverrun, overrun, processes_of, resident_bytes

_MODULE: Final = "springline.work.child"
_READ_BYTES: Final = 64 * 1024
_MOST_LINE: Final = 16 * 1024
"""Bytes of a printed line; a longer one becomes several."""
_LAST_LINES_S: Final = 0.5
"""How long a worker waits for what an attempt has printed last."""
_LAST_FRAMES_S: Final = 1.0
"""How long a worker waits for what a process that has ended said last."""
SETTLE_S: Final = 3_600.0
"""How long a process may take to commit what a task has sealed: a merge into a large table takes a while."""
_GOODBYE_S: Final = 2.0
"""How long a process may take to end when its worker hangs up."""

Printed = Callable[[str], None]
Told = Callable[[float, str | None], None]


class ProcessEnded(Exception):
    """The process has ended by itself; `code` as `subprocess` has it: minus the signal's number for a signal."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code

    def __str__(self) -> str:
        if self.code >= 0:
            return f"ended with exit code {self.code}"
        try:
            return f"was ended by the signal {signal.Signals(-self.code).name}"
        except ValueError:
            return f"was ended by the signal {-self.code}"


class StopReason(StrEnum):
    """Why a worker stops an attempt."""

    CANCELLED = "cancelled"
    TIMEOUT = "timeout"
    MEMORY = "memory"


@dataclass(frozen=True, slots=True)
class JobEnd:
    """How a job ended: as its process told (`made`), or with that process (`ended`).

    `stopped`: why the worker told it to stop, None if it did not; `killed`: the worker ended the process; `overrun`:
    it did so because of its memory.
    """

    made: Made | None
    output: bytes | None = None
    ended: ProcessEnded | None = None
    stopped: StopReason | None = None
    killed: bool = False
    overrun: MemoryOverrun | None = None


@dataclass(frozen=True, slots=True)
class WritesSettled:
    """What became of sealed writes: `done` of those that are committed, in order; `error` if some are not."""

    done: list[Json]
    error: Json | None


class AttemptProcess:
    """A process that has loaded a pipeline. Belongs to the event loop that has started it.

    Attributes:
        described: what the pipeline declares, as `springline validate` has it, with `problems`.
        jobs: how many jobs it was given.
        loaded_bytes: how much memory it used when it had loaded the pipeline.
        fresh: it can be given another job: it lives, and no job was stopped or ended it.
    """

    def __init__(
        self,
        process: Process,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        lines: asyncio.StreamReader,
        printing: asyncio.BaseTransport,
        mark: str,
        printed: Printed,
    ) -> None:
        self._process = process
        self._reader = reader
        self._writer = writer
        self._lines = lines
        self._printing = printing
        self._mark = mark.encode()
        self._printed = printed
        self._marks = asyncio.Semaphore(0)
        self._inbox: asyncio.Queue[tuple[Json, list[bytes]] | ProcessEnded] = asyncio.Queue()
        self._listening = asyncio.create_task(self._listen())
        self._reading = asyncio.create_task(self._read_lines())
        self._ending = asyncio.create_task(self._end())
        self.described: Json = {}
        self.jobs = 0
        self.loaded_bytes = 0
        self.fresh = True

    @classmethod
    async def start(cls, target: str, printed: Printed, python_path: str | None = None) -> AttemptProcess:
        """Start a process and wait until it has loaded the pipeline file or module `target`.

        `printed` gets every line that it writes; `python_path` is the PYTHONPATH of what it starts. Raises
        `ProcessEnded` if it ends before, and `OSError` if it cannot be started.
        """
        ours, theirs = socket.socketpair()
        printing, prints = os.pipe()
        mark = f"\x1e{secrets.token_hex(16)}"
        try:
            # From the loop's own thread: on Linux the process ends with the thread that has started it.
            process = await asyncio.create_subprocess_exec(
                *module_command(
                    _MODULE,
                    *(str(theirs.fileno()), str(os.getpid()), mark, target),
                    *([] if python_path is None else [python_path]),
                ),
                stdin=DEVNULL,
                stdout=prints,
                stderr=STDOUT,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
            )
        except BaseException:
            ours.close()
            os.close(printing)
            raise
        finally:
            theirs.close()
            os.close(prints)
        reader, writer = await asyncio.open_connection(sock=ours)
        # A pipe of ours: asyncio would wait for the end of its own, and what the process has started may hold it.
        lines = asyncio.StreamReader()
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(lines), os.fdopen(printing, "rb", 0)
        )
        started = cls(process, reader, writer, lines, transport, mark, printed)
        try:
            started.described = await started._ready()
            started.loaded_bytes = resident_bytes([started.pid])
        except BaseException:
            await started.kill()
            raise
        return started

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it is there: an idle one may have been ended by somebody else."""
        return self._process.returncode is None

    def left_bytes(self) -> int:
        """Return how much more memory it uses than when it had loaded the pipeline: left by earlier jobs, if idle."""
        return max(0, resident_bytes(processes_of(self.pid)) - self.loaded_bytes)

    async def make(
        self,
        job: Job,
        bodies: Sequence[bytes],
        *,
        stop: asyncio.Event,
        timeout_s: float | None,
        grace_s: float,
        told: Told,
        printed: Printed,
        memory_bytes: int | None = None,
    ) -> JobEnd:
        """Give it a job and wait for its end; one at a time.

        When `stop` is set or `timeout_s` seconds are over, its function is told to stop, and `grace_s` seconds later
        the process is killed; at once if it uses more than `memory_bytes` with what it has started. `told` gets
        progress, `printed` the lines that it writes meanwhile.
        """
        return await self._one(
            job.number, head_of_job(job), bodies, stop, timeout_s, grace_s, told, printed, memory_bytes
        )

    async def evaluate(
        self, evaluation: Evaluation, *, stop: asyncio.Event, timeout_s: float, grace_s: float, printed: Printed
    ) -> JobEnd:
        """Have it evaluate a sensor, as `make` has it make an attempt."""
        head = head_of_evaluation(evaluation)
        return await self._one(evaluation.number, head, (), stop, timeout_s, grace_s, _untold, printed)

    async def _one(
        self,
        number: int,
        head: Json,
        bodies: Sequence[bytes],
        stop: asyncio.Event,
        timeout_s: float | None,
        grace_s: float,
        told: Told,
        printed: Printed,
        memory_bytes: int | None = None,
    ) -> JobEnd:
        self.jobs += 1
        before, self._printed = self._printed, printed
        try:
            end = await self._made(number, head, bodies, stop, timeout_s, grace_s, told, memory_bytes)
            complete = await self._lines_until_mark(ended=end.made is None)
        except BaseException:
            await self.kill()
            raise
        finally:
            self._printed = before
        self.fresh = end.made is not None and end.stopped is None and complete
        return end

    async def settle(
        self, writes: Sequence[Json], *, ours: bool, printed: Printed, limit_s: float = SETTLE_S
    ) -> WritesSettled | ProcessEnded:
        """Have it commit the sealed writes of a task; tell how, or that the process ended.

        `ours`: what it has staged last is what was sealed. No cancellation stops it: what is sealed is to be committed.
        A process that takes longer than `limit_s` seconds is killed.
        """
        before, self._printed = self._printed, printed
        try:
            async with asyncio.timeout(limit_s):
                await self._send({"say": Say.SETTLE, "writes": list(writes), "ours": ours})
                while True:
                    message = await self._inbox.get()
                    if isinstance(message, ProcessEnded):
                        self.fresh = False
                        return message
                    head, _ = message
                    if head["say"] == Say.SETTLED:
                        break
            await self._lines_until_mark()
            return WritesSettled(head["done"], head["error"])
        except TimeoutError:
            await self.kill()
            return ProcessEnded(-signal.SIGKILL)
        except BaseException:
            await self.kill()
            raise
        finally:
            self._printed = before

    async def _lines_until_mark(self, *, ended: bool = False) -> bool:
        """Wait for all lines that were written before an end was told, which come another way; False if some lack."""
        try:
            async with asyncio.timeout(_LAST_LINES_S):
                await (asyncio.shield(self._reading) if ended else self._marks.acquire())
        except TimeoutError:
            # Its output is closed, or held by somebody: what comes later would be taken for the next attempt's.
            return False
        return True

    async def _made(
        self,
        number: int,
        asked: Json,
        bodies: Sequence[bytes],
        stop: asyncio.Event,
        timeout_s: float | None,
        grace_s: float,
        told: Told,
        memory_bytes: int | None,
    ) -> JobEnd:
        loop = asyncio.get_running_loop()
        stopped: StopReason | None = None
        killed = False
        beyond: MemoryOverrun | None = None
        saying = [asyncio.create_task(self._send(asked, bodies))]
        stopping = asyncio.create_task(stop.wait())
        watching: asyncio.Task[MemoryOverrun] | None = None
        if memory_bytes is not None and CAN_BE_WATCHED:
            watching = asyncio.create_task(overrun(self.pid, memory_bytes))
        coming: asyncio.Task[tuple[Json, list[bytes]] | ProcessEnded] | None = None
        due = None if timeout_s is None else loop.time() + timeout_s
        try:
            while True:
                coming = coming or asyncio.create_task(self._inbox.get())
                waiting: set[asyncio.Task[Any]] = {coming} if stopped is not None else {coming, stopping}
                if watching is not None and beyond is None:
                    waiting.add(watching)
                left = None if due is None else max(0.0, due - loop.time())
                await asyncio.wait(waiting, timeout=left, return_when=asyncio.FIRST_COMPLETED)
                if coming.done():
                    message, coming = coming.result(), None
                    if isinstance(message, ProcessEnded):
                        return JobEnd(None, ended=message, stopped=stopped, killed=killed, overrun=beyond)
                    head, output = message
                    if head["say"] == Say.MADE:
                        return JobEnd(made_of(head), output[0] if output else None, None, stopped, killed, beyond)
                    if head["say"] == Say.PROGRESS and head["number"] == number:
                        told(head["done"], head["message"])
                    continue
                if beyond is None and watching is not None and watching.done():
                    # At once: it would not wait with what it takes until its function has cleaned up.
                    beyond = watching.result()
                    stopped = stopped or StopReason.MEMORY
                    killed, due = True, None
                    self._kill_all()
                    continue
                late = due is not None and loop.time() >= due
                if stopped is None and (stopping.done() or late):
                    stopped = StopReason.CANCELLED if stopping.done() else StopReason.TIMEOUT
                    due = loop.time() + grace_s
                    # Behind the job in the writer's buffer, even if the process is too busy to read either.
                    saying.append(asyncio.create_task(self._send({"say": Say.STOP, "number": number})))
                elif stopped is not None and late:
                    killed, due = True, None
                    self._signal(signal.SIGKILL)
        finally:
            for task in (*saying, stopping, watching, coming):
                if task is not None:
                    task.cancel()

    async def _ready(self) -> Json:
        first = await self._inbox.get()
        if isinstance(first, ProcessEnded):
            raise first
        described: Json = first[0]["described"]
        return described

    async def _send(self, head: Json, bodies: Sequence[bytes] = ()) -> None:
        # Whoever has ended reads nothing more: `_listen` tells of that.
        with contextlib.suppress(OSError):
            self._writer.writelines(frame(head, bodies))
            await self._writer.drain()

    async def _listen(self) -> None:
        with contextlib.suppress(EOFError, OSError):
            while True:
                self._inbox.put_nowait(await read_frame(self._reader))

    async def _end(self) -> None:
        code = await self._process.wait()
        # What it has started must not outlive it, and holds the other ends.
        self._signal(signal.SIGKILL)
        await asyncio.wait([self._listening], timeout=_LAST_FRAMES_S)
        self._inbox.put_nowait(ProcessEnded(code))

    async def _read_lines(self) -> None:
        rest = b""
        while data := await self._lines.read(_READ_BYTES):
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                self._line(line)
            while len(rest) > _MOST_LINE:
                self._line(rest[:_MOST_LINE])
                rest = rest[_MOST_LINE:]
        if rest:
            self._line(rest)

    def _line(self, line: bytes) -> None:
        marked = line.endswith(self._mark)
        text = line.removesuffix(self._mark) if marked else line
        if text or not marked:
            self._printed(text.decode(errors="replace").rstrip("\r"))
        if marked:
            self._marks.release()

    def _signal(self, number: int) -> None:
        # Its own process group, which outlives it while something that it has started lives.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)

    def _kill_all(self) -> None:
        """Kill it with what it has started, also what has left its process group."""
        others = processes_of(self.pid)[1:]
        self._signal(signal.SIGKILL)
        for one in others:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(one, signal.SIGKILL)

    async def kill(self) -> None:
        """End it at once, with all that it has started."""
        self.fresh = False
        self._signal(signal.SIGKILL)
        await self._gone()

    async def close(self) -> None:
        """Hang up, upon which it ends; one that does not is killed."""
        self.fresh = False
        self._writer.close()
        try:
            async with asyncio.timeout(_GOODBYE_S):
                await self._process.wait()
        except TimeoutError:
            self._signal(signal.SIGKILL)
        await self._gone()

    async def _gone(self) -> None:
        await self._process.wait()
        self._writer.close()
        tasks = (self._listening, self._reading, self._ending)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._printing.close()


def _untold(_done: float, _message: str | None) -> None:
    """Sensors tell no progress."""
