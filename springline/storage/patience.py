"""Trying a call to a store again after a passing fault: for reads, and for writes that may be repeated."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from springline.storage.port import StoreRetry, StoreUnknown

T = TypeVar("T")

MOST_TRIES: Final = 6
_FIRST_PAUSE_S: Final = 0.25


async def patient(call: Callable[[], Awaitable[T]], pause: Callable[[float], Awaitable[object]]) -> T:
    """Make a call that may be repeated, up to `MOST_TRIES` times; `pause` waits so many seconds in between.

    Raises the store's errors.
    """
    for number in range(MOST_TRIES - 1):
        try:
            return await call()
        except (StoreRetry, StoreUnknown):
            await pause(_FIRST_PAUSE_S * 2**number)
    return await call()
