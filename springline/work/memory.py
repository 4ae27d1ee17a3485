"""How much memory a process of attempts uses, with what its functions have started: as Linux tells it.

What counts is what only swap could take from them: memory of their own and shared memory, in RAM or swapped out. Files
that they map do not count, for the kernel drops those by itself; so it is somewhat less than the peak memory of an
attempt, which has them.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

LOOK_S: Final = 0.1
"""How long between two looks: what a function takes meanwhile comes on top of its limit."""
CAN_BE_WATCHED: Final = sys.platform == "linux"
"""Other systems tell no memory of other processes in this way: limits mean nothing there."""

_READ_BYTES: Final = 64 * 1024
_RESIDENT: Final = ("RssAnon:", "RssShmem:", "VmSwap:")
_PROPORTIONAL: Final = ("Pss_Anon:", "Pss_Shmem:", "SwapPss:")


@dataclass(frozen=True, slots=True)
class MemoryOverrun:
    """An attempt beyond its limit. `before_bytes`: used before its function was called; `processes`: how many."""

    limit_bytes: int
    used_bytes: int
    before_bytes: int
    processes: int


def processes_of(pid: int) -> list[int]:
    """Return a process and all that it and its descendants have started, as far as those that started them live."""
    found = [pid]
    for one in found:
        # Children are those of a thread.
        with contextlib.suppress(OSError):
            for thread in os.listdir(f"/proc/{one}/task"):  # noqa: PTH208 - a look is to cost little
                found += [int(child) for child in _read(f"/proc/{one}/task/{thread}/children").split()]
    return found


def resident_bytes(pids: Sequence[int]) -> int:
    """Return what processes use: pages that several of them have count for each. One that is gone uses nothing."""
    return sum(_sum_of(_read(f"/proc/{one}/status"), _RESIDENT) for one in pids)


def resident_bytes_once(pids: Sequence[int]) -> int:
    """Return what processes use: pages that several of them have, as after a fork, count once.

    The kernel goes over all their pages for that.
    """
    total = 0
    for one in pids:
        told = _read(f"/proc/{one}/smaps_rollup")
        # Older kernels, and processes of other users, do not tell.
        total += _sum_of(told, _PROPORTIONAL) if _PROPORTIONAL[0] in told else resident_bytes([one])
    return total


async def overrun(
    pid: int,
    limit_bytes: int,
    *,
    rough: Callable[[Sequence[int]], int] = resident_bytes,
    exact: Callable[[Sequence[int]], int] = resident_bytes_once,
    look_s: float = LOOK_S,
) -> MemoryOverrun:
    """Look at a process again and again until it uses more than `limit_bytes` with what it has started.

    `exact` is asked only if there are several processes, and `rough` is beyond the limit.
    """
    before = rough([pid])
    while True:
        pids = processes_of(pid)
        used = rough(pids)
        if used > limit_bytes and len(pids) > 1:
            # Off the loop, which other attempts need.
            used = await asyncio.to_thread(exact, pids)
        if used > limit_bytes:
            return MemoryOverrun(limit_bytes, used, before, len(pids))
        await asyncio.sleep(look_s)


def _read(file: str) -> str:
    # Without pathlib: it would take most of the time of a look.
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        return b"".join(iter(lambda: os.read(descriptor, _READ_BYTES), b"")).decode("ascii", "replace")
    except OSError:
        return ""
    finally:
        os.close(descriptor)


def _sum_of(told: str, names: tuple[str, ...]) -> int:
    return 1024 * sum(int(line.split()[1]) for line in told.splitlines() if line.startswith(names))
