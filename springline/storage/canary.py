"""A check at start-up that the store enforces preconditions, on which the protocol rests (docs/protocol.md#invariants,
I7).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar

from springline.paths import ObjectPath, canary_object
from springline.storage.port import (
    IfAbsent,
    IfVersion,
    ObjectStore,
    PutResult,
    Stored,
    StoreMisconfigured,
    StoreRetry,
    StoreUnknown,
)
from springline.storage.together import together

T = TypeVar("T")

ATTEMPTS = 4
PAUSE_SECONDS = 1.2
"""Longer than the second in which a bucket takes one write to one name."""


async def canary(store: ObjectStore, name: str, *, pause: Callable[[float], Awaitable[object]] = asyncio.sleep) -> None:
    """Refuse a store that does not enforce preconditions.

    Of two racing conditional creates of one scratch object exactly one must win, and a compare-and-swap with a
    stale token must fail. `name` is the scratch object's, new on every call (a UUID); `store` is not scoped.
    It deletes the objects; if a delete fails with a passing fault, two small ones stay behind. `pause` waits that many
    seconds before a throttled request is made again.

    Raises `StoreMisconfigured` if the store does not enforce them or lacks permissions, `StoreRetry` or
    `StoreUnknown` if it gave no clear answer.
    """
    raced, other = canary_object(f"{name}-race"), canary_object(f"{name}-swap")
    payloads = (f"{name} first".encode(), f"{name} second".encode())
    results = await together(*(_patient(partial(_create, store, raced, data), pause) for data in payloads))
    winners = [(result, data) for result, data in zip(results, payloads, strict=True) if isinstance(result, Stored)]
    if len(winners) != 1:
        raise StoreMisconfigured(
            f"this store lets {len(winners)} of 2 racing conditional creates of {raced} win instead of exactly one: "
            "it does not enforce preconditions, and commits would be lost; use another store or emulator"
        )
    won, written = winners[0]
    there = await store.get(raced)
    if there is None or there.data != written or there.version != won.version:
        raise StoreMisconfigured(f"this store does not read back what it has just written to {raced}")
    created = await _patient(partial(_create, store, other, b"swap"), pause)
    if not isinstance(created, Stored):
        raise StoreMisconfigured(f"this store says that {other} exists, which nobody ever wrote")
    stale = await _patient(lambda: store.put(other, b"stale", IfVersion(won.version)), pause)
    if isinstance(stale, Stored):
        raise StoreMisconfigured(
            f"this store accepts a compare-and-swap of {other} with the token of another version: "
            "it does not enforce preconditions, and commits would be lost; use another store or emulator"
        )
    for path, version in ((raced, won.version), (other, created.version)):
        await _remove(store, path, version, pause)


async def _create(store: ObjectStore, path: ObjectPath, data: bytes) -> PutResult:
    return await store.put(path, data, IfAbsent())


async def _patient(call: Callable[[], Awaitable[T]], pause: Callable[[float], Awaitable[object]]) -> T:
    """Repeat a call while the store throttles it: a throttled call did not happen."""
    for _ in range(ATTEMPTS - 1):
        try:
            return await call()
        except StoreRetry:
            await pause(PAUSE_SECONDS)
    return await call()


async def _remove(
    store: ObjectStore, path: ObjectPath, version: str, pause: Callable[[float], Awaitable[object]]
) -> None:
    try:
        await _patient(lambda: store.delete(path, if_version=version), pause)
    except (StoreRetry, StoreUnknown):
        return  # The store enforces preconditions; the object left is small, and its name is never used again.
