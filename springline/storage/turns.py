"""One at a time: work of this process that keeps a processor busy.

Python runs one thread at a time, and hands over only now and then. Two busy threads finish no sooner than one after
the other, and one that makes many short calls to the system waits milliseconds for each while another computes. So
long work takes turns: reading thousands of small files from a local disk, parsing, folding, encoding.

Whoever began earlier goes first. Jobs that took turns evenly would all end late and at the same time, would all wait
for the store at the same time, and would leave nothing to be done elsewhere meanwhile. A job that was begun before and
lost with its process goes before those that were not: what is done a second time should not be done a third time.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from itertools import count
from weakref import WeakKeyDictionary

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
