"""The start-up check lets good stores pass and refuses those that would lose commits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from springline.paths import ObjectPath
from springline.storage.canary import PAUSE_SECONDS, canary
from springline.storage.faults import Decision, FaultyStore, Kind, Operation, Outcome, Quota, on
from springline.storage.memory import MemoryStore
from springline.storage.port import (
    IfAbsent,
    ObjectStore,
    Precondition,
    PreconditionFailed,
    PutResult,
    Stored,
    StoredObject,
    StoreMisconfigured,
    StoreRetry,
    StoreUnknown,
)
from tests.support.virtual_time import run


async def left(store: ObjectStore) -> list[str]:
    return [info.path async for info in store.list(ObjectPath(""))]


async def test_every_adapter_passes_and_is_left_clean(store: ObjectStore) -> None:
    await canary(store, "one")
    await canary(store, "two")
    assert await left(store) == []


class IgnoresAll(MemoryStore):
    """Takes every write, like an emulator that knows no preconditions."""

    async def put(self, path: ObjectPath, data: bytes, precondition: Precondition) -> PutResult:
        await asyncio.sleep(0)
        return Stored(self.seed(path, data))


class IgnoresCreate(MemoryStore):
    """Checks versions and not whether the name is free."""

    async def put(self, path: ObjectPath, data: bytes, precondition: Precondition) -> PutResult:
        if isinstance(precondition, IfAbsent):
            return Stored(self.seed(path, data))
        return await super().put(path, data, precondition)


class IgnoresVersions(MemoryStore):
    """Checks whether the name is free and not versions."""

    async def put(self, path: ObjectPath, data: bytes, precondition: Precondition) -> PutResult:
        if isinstance(precondition, IfAbsent):
            return await super().put(path, data, precondition)
        return Stored(self.seed(path, data))


class ChecksThenWrites(MemoryStore):
    """Checks the name and writes it in two steps."""

    async def put(self, path: ObjectPath, data: bytes, precondition: Precondition) -> PutResult:
        taken = path in self.objects
        await asyncio.sleep(0)
        return PreconditionFailed() if taken else Stored(self.seed(path, data))


class RefusesAll(MemoryStore):
    """Says that every name is taken."""

    async def put(self, path: ObjectPath, data: bytes, precondition: Precondition) -> PutResult:
        return PreconditionFailed()


class ReadsLate(MemoryStore):
    """Does not show what was just written."""

    async def get(self, path: ObjectPath) -> StoredObject | None:
        return None


@pytest.mark.parametrize(
    ("unfit", "words"),
    [
        (IgnoresAll, "2 of 2 racing conditional creates"),
        (IgnoresCreate, "2 of 2 racing conditional creates"),
        (ChecksThenWrites, "2 of 2 racing conditional creates"),
        (IgnoresVersions, "token of another version"),
        (RefusesAll, "0 of 2 racing conditional creates"),
        (ReadsLate, "does not read back"),
    ],
)
async def test_unfit_stores_are_refused(unfit: Callable[[], ObjectStore], words: str) -> None:
    with pytest.raises(StoreMisconfigured, match=words):
        await canary(unfit(), "x")


def test_the_quota_of_a_bucket_only_delays_it() -> None:
    """Racing creates and their removal are several writes to one name, of which a bucket takes one per second."""

    async def within_the_quota() -> tuple[float, list[str], int]:
        loop = asyncio.get_running_loop()
        store = FaultyStore(MemoryStore(), quota=Quota(clock=loop.time), latency=0.01)
        await canary(store, "x")
        throttled = sum(traced.outcome is Outcome.THROTTLED for traced in store.trace)
        return loop.time(), await left(store), throttled

    seconds, remaining, throttled = run(within_the_quota())
    assert remaining == []
    assert throttled > 0
    assert seconds < 5 * PAUSE_SECONDS


def first(kind: Kind) -> Callable[[Operation], bool]:
    return lambda operation: operation.kind is kind


async def no_pause(seconds: float) -> None:
    assert seconds == PAUSE_SECONDS


async def test_a_store_that_stays_throttled_or_silent_is_not_judged() -> None:
    async def always(operation: Operation) -> Decision:
        return Decision.FAIL_BEFORE

    with pytest.raises(StoreRetry):
        await canary(FaultyStore(MemoryStore(), hook=always), "x", pause=no_pause)
    with pytest.raises(StoreUnknown):
        await canary(FaultyStore(MemoryStore(), hook=on(first(Kind.PUT), Decision.FAIL_AFTER)), "x", pause=no_pause)


async def test_a_removal_that_fails_in_passing_is_no_verdict() -> None:
    store = FaultyStore(MemoryStore(), hook=on(first(Kind.DELETE), Decision.LOSE))
    await canary(store, "x", pause=no_pause)
    assert len(await left(store)) == 1
