"""One at a time: work of this process that keeps a processor busy.

Python runs one thread at a time, and hands over only now and then. Two busy threads finish no sooner than one after
the other, and one that makes many short calls to the system waits milliseconds for each while another computes. So
long work takes turns: reading thousands of small files from a local disk, parsing, folding, encoding.
"""

from __future__ import annotations

import asyncio
from weakref import WeakKeyDictionary

_TURNS: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = WeakKeyDictionary()


def processor_turn() -> asyncio.Lock:
    """Return the lock that whoever keeps the processor busy holds, the same for all of an event loop.

    Nobody who holds it waits for anybody else who needs it.
    """
    loop = asyncio.get_running_loop()
    lock = _TURNS.get(loop)
    if lock is None:
        lock = _TURNS[loop] = asyncio.Lock()
    return lock
