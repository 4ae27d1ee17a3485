"""The processes of a worker that call user code: started when they are needed, kept warm, at most so many at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

from springline.work.process import AttemptProcess, ProcessEnded

ATTEMPTS_EACH: Final = 100
"""Attempts after which a process is replaced: what user code leaves behind in it does not grow for ever."""
LEFT_PART: Final = 8
"""Attempts before may have left one part in so many of an attempt's memory in its process."""
LOAD_S: Final = 300.0
"""How long a process may take to load the pipeline."""

PATIENCE_S: Final = 2.0
"""How long all processes are busy until one more is started, where that is allowed."""

Json = dict[str, Any]


class PipelineNotLoaded(Exception):
    """A process cannot load the pipeline. `problems`: those of the file, if it is written wrongly."""

    def __init__(self, message: str, problems: list[Json] | None = None) -> None:
        super().__init__(message)
        self.problems = problems or []


class ProcessPool:
    """At most `concurrency` processes that have loaded the pipeline file or module `target`.

    A process is used again for following attempts, `attempts_each` times at most, and never after an attempt that ended
    it or was stopped. `printed` gets lines that belong to no attempt. `python_path` is the PYTHONPATH that user code
    sees, None for none.

    `most`: while all have been busy for `patience_s`, further processes are started, one after the other, up to so many
    in all; they end when they are not needed any more. None for no more than `concurrency`.
    """

    def __init__(
        self,
        target: str,
        concurrency: int,
        printed: Callable[[str], None],
        *,
        python_path: str | None = None,
        attempts_each: int = ATTEMPTS_EACH,
        load_s: float = LOAD_S,
        most: int | None = None,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self.concurrency = concurrency
        self._target = target
        self._printed = printed
        self._python_path = python_path
        self._attempts_each = attempts_each
        self._load_s = load_s
        self.most = most or concurrency
        self._patience_s = patience_s
        self._further = 0
        self._starts_further = False
        self._free = asyncio.Semaphore(concurrency)
        self._idle: list[AttemptProcess] = []
        self._all: set[AttemptProcess] = set()

    async def open(self) -> Json:
        """Start the first process and return what the pipeline declares, as `springline validate` has it.

        Raises `PipelineNotLoaded`.
        """
        async with self.process() as first:
            return first.described

    @property
    def processes(self) -> int:
        """Return how many processes there are."""
        return len(self._all)

    def grow(self, concurrency: int) -> None:
        """Allow `concurrency` processes, if those are more than before."""
        while self.concurrency < concurrency:
            self.concurrency += 1
            self._free.release()

    @asynccontextmanager
    async def process(self, memory_bytes: int | None = None) -> AsyncIterator[AttemptProcess]:
        """Wait for a process, have it alone, and give it back. Raises `PipelineNotLoaded`.

        `memory_bytes`: the limit of the attempt that it is for. What attempts before have left in a process would count
        against that, so one in which they have left much of it is replaced.
        """
        is_further = not await self._has_place()
        try:
            try:
                used = await self._taken(memory_bytes)
            finally:
                if is_further:
                    self._starts_further = False
            try:
                yield used
            finally:
                is_worn = not (used.fresh and used.alive) or used.jobs >= self._attempts_each
                if not is_worn and len(self._idle) < self.concurrency:
                    self._idle.append(used)
                else:
                    await self._dismiss(used)
        finally:
            if is_further:
                self._further -= 1
            else:
                self._free.release()

    async def _has_place(self) -> bool:
        """Wait for one of the usual places; False for a place beyond them, since all are busy for too long."""
        while True:
            try:
                async with asyncio.timeout(self._patience_s if self.most > self.concurrency else None):
                    return await self._free.acquire()
            except TimeoutError:
                # One at a time: those that wait for the first processes of a worker need no more of them.
                if not self._starts_further and self._further < self.most - self.concurrency:
                    self._starts_further = True
                    self._further += 1
                    return False

    async def _taken(self, memory_bytes: int | None) -> AttemptProcess:
        found = self._idle.pop() if self._idle else None
        if found is not None and not (found.alive and _has_room(found, memory_bytes)):
            await self._dismiss(found)
            found = None
        return found or await self._started()

    async def _started(self) -> AttemptProcess:
        try:
            async with asyncio.timeout(self._load_s):
                started = await AttemptProcess.start(self._target, self._printed, self._python_path)
        except TimeoutError:
            raise PipelineNotLoaded(
                f"{self._target} was not imported within {self._load_s:g} s: leave what takes so long to functions"
            ) from None
        except ProcessEnded as ended:
            raise PipelineNotLoaded(
                f"the process that imports {self._target} {ended}: leave that to functions; what it printed is in the "
                "worker's log"
            ) from ended
        except OSError as error:
            raise PipelineNotLoaded(f"no process can be started for {self._target}: {error}") from error
        problems = started.described["problems"]
        if problems:
            await started.close()
            raise PipelineNotLoaded(f"{self._target} is not valid: {_first(problems)}", problems)
        self._all.add(started)
        return started

    async def _dismiss(self, process: AttemptProcess) -> None:
        self._all.discard(process)
        await (process.close() if process.fresh else process.kill())

    async def aclose(self) -> None:
        """End all processes; to be called when no attempt is under way."""
        await asyncio.gather(*(self._dismiss(one) for one in list(self._all)))
        self._idle.clear()


def _has_room(process: AttemptProcess, memory_bytes: int | None) -> bool:
    return memory_bytes is None or process.left_bytes() * LEFT_PART <= memory_bytes


def _first(problems: list[Json]) -> str:
    one = problems[0]
    where = one["file"] if one["line"] is None else f"{one['file']}:{one['line']}"
    subject = "" if one["asset"] is None else f"asset {one['asset']} "
    more = f" ({len(problems) - 1} more)" if len(problems) > 1 else ""
    return f"{where}: {subject}{one['message']}. {one['remedy']}{more}"
