"""Work away from the event loop: blocking calls on threads, and turns at the processor.

Python runs one thread at a time, and switches only now and then. Two busy threads finish no sooner than one after
the other, and a thread that makes many short system calls waits milliseconds for each while another computes. So
long work takes turns: reading thousands of small files from a local disk, parsing, folding, encoding.

The job that began first goes first. Jobs that took turns evenly would all end late and at the same time, and would all
wait for the store at the same time, with no other work to do meanwhile. A retry of a job that was lost with its process
goes before first attempts, so that it need not be done a third time.
"""

from __future__ import annotations

import asyncio
import gc
import heapq
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager, suppress
from contextvars import ContextVar
from itertools import count
from typing import TypeVar
from weakref import WeakKeyDictionary

T = TypeVar("T")


class Threads:
    """A pool of at most `size` threads; further calls wait for a free one."""

    def __init__(self, name: str, size: int) -> None:
        self._executor = ThreadPoolExecutor(max_workers=size, thread_name_prefix=name)

    async def run(self, call: Callable[[], T]) -> T:
        """Run `call` on a thread and return its result or raise its error.

        If the caller is cancelled, a call that has not begun never begins, and the cancellation waits for one that
        has: no operation outlives its caller.
        """
        work = self._executor.submit(call)
        answer = asyncio.wrap_future(work)
        try:
            return await asyncio.shield(answer)
        except asyncio.CancelledError:
            if not work.cancel():
                await _ended(answer)
            raise

    async def aclose(self) -> None:
        """Wait for the calls under way and end the threads."""
        await asyncio.to_thread(self._executor.shutdown, wait=True)


async def _ended(answer: asyncio.Future[T]) -> None:
    """Wait for `answer` however often the waiting is cancelled, and retrieve its error."""
    while not answer.done():
        try:
            await asyncio.wait([answer])
        except asyncio.CancelledError:
            continue
    if not answer.cancelled():
        answer.exception()


_Rank = tuple[bool, int, int]
"""Whether it is a long job, how often it was lost (negative), and its number: the least goes first."""
_JOB: ContextVar[_Rank] = ContextVar("springline_job", default=(False, 0, 0))
_jobs = count(1)


@contextmanager
def long_job(*, lost: int = 0) -> Iterator[None]:
    """Give the work in this block its turns after all other work, and in order among long jobs.

    Long jobs that were `lost` more often go first, then those that began earlier.
    """
    token = _JOB.set((True, -lost, next(_jobs)))
    try:
        yield
    finally:
        _JOB.reset(token)


class Turns:
    """A lock that goes to the waiting job of the first rank, and among equals to the one that waits longest."""

    def __init__(self) -> None:
        self._taken = False
        self._waiting: list[tuple[_Rank, int, asyncio.Future[None]]] = []
        self._order = count()

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for a turn, and hold it in this block. Its holder must not wait for work that needs a turn."""
        await self._acquire()
        try:
            yield
        finally:
            self._release()

    async def _acquire(self) -> None:
        if not self._taken:
            self._taken = True
            return
        turn = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (_JOB.get(), next(self._order), turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._release()  # The turn was granted at the moment of the cancellation.
            raise

    def _release(self) -> None:
        while self._waiting:
            _, _, turn = heapq.heappop(self._waiting)
            if not turn.done():
                turn.set_result(None)
                return
        self._taken = False


_TURNS: WeakKeyDictionary[asyncio.AbstractEventLoop, Turns] = WeakKeyDictionary()


def processor_turns() -> Turns:
    """Return the turns for processor-heavy work, one object per event loop."""
    loop = asyncio.get_running_loop()
    turns = _TURNS.get(loop)
    if turns is None:
        turns = _TURNS[loop] = Turns()
    return turns


async def in_turn(work: Callable[[], T]) -> T:
    """As `in_thread`, for long work that many callers do at once: one after the other."""
    async with processor_turns().turn():
        return await in_thread(work)


async def timed_in_thread(work: Callable[[], T]) -> tuple[T, float]:
    """As `in_thread`; return also how many seconds the work took, once it had its thread."""

    def timed() -> tuple[T, float]:
        began = time.perf_counter()
        result = work()
        return result, time.perf_counter() - began

    return await in_thread(timed)


async def in_thread(work: Callable[[], T]) -> T:
    """Run `work` in a thread and return its result.

    A thread cannot be stopped: if the caller is cancelled, the cancellation waits until `work` has ended, so that no
    other task touches its objects, and no lock is released, before.
    """
    task = asyncio.ensure_future(asyncio.to_thread(_uncollected, work))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        while not task.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait([task])
        if not task.cancelled():
            task.exception()
        raise


def _uncollected(work: Callable[[], T]) -> T:
    """Run `work` with the cyclic garbage collector paused.

    Such work makes many objects, keeps most of them and makes no cycles; the collector would search them, and the whole
    state, again and again, which costs a tenth of the time.
    """
    collecting = gc.isenabled()
    gc.disable()
    try:
        return work()
    finally:
        if collecting:
            gc.enable()
