"""Work away from the event loop: blocking calls on threads, and turns at the processor.

Python runs one thread at a time, and hands over only now and then. Two busy threads finish no sooner than one after
the other, and one that makes many short calls to the system waits milliseconds for each while another computes. So
long work takes turns: reading thousands of small files from a local disk, parsing, folding, encoding.

Whoever began earlier goes first. Jobs that took turns evenly would all end late and at the same time, would all wait
for the store at the same time, and would leave nothing to be done elsewhere meanwhile. A job that was begun before and
lost with its process goes before those that were not: what is done a second time should not be done a third time.
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

        If the caller is cancelled, a call that has not begun never begins, and one that has is waited for
        before the cancellation goes on: no operation outlives its caller.
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
    """Wait for `answer` however often the waiting is cancelled, and take note of its error."""
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
    """Have what is done in this block wait for its turns behind all other work, and behind other long jobs.

    Of these go first those that were `lost` more often before, then those that began earlier.
    """
    token = _JOB.set((True, -lost, next(_jobs)))
    try:
        yield
    finally:
        _JOB.reset(token)


class Turns:
    """Whose turn it is: a lock that goes to the first job of those waiting, and among equals to who waits longest."""

    def __init__(self) -> None:
        self._taken = False
        self._waiting: list[tuple[_Rank, int, asyncio.Future[None]]] = []
        self._order = count()

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for a turn, and hold it in this block. Who holds it waits for nobody else who needs one."""
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
                self._release()  # It came at the same moment.
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
    """Return the turns that whoever keeps the processor busy takes, the same for all of an event loop."""
    loop = asyncio.get_running_loop()
    turns = _TURNS.get(loop)
    if turns is None:
        turns = _TURNS[loop] = Turns()
    return turns


async def in_turn(work: Callable[[], T]) -> T:
    """As `in_thread`, for work that takes long and of which much goes on at once: one after the other."""
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

    A thread cannot be stopped: if the caller is cancelled, the cancellation goes on only when `work` has ended, so
    that nobody else touches what it works on, and no lock is given up, before.
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
    """Do `work` while cyclic garbage waits.

    Such work makes many objects, keeps most of them and makes no cycles, and looking through them, and through the
    whole state beside them, again and again costs a tenth of its time.
    """
    collecting = gc.isenabled()
    gc.disable()
    try:
        return work()
    finally:
        if collecting:
            gc.enable()
