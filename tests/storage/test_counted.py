"""A counted store passes everything on and tells operation and outcome of each request."""

from __future__ import annotations

import pytest

from springline.paths import ObjectPath
from springline.storage.counted import CountedStore
from springline.storage.faults import Decision, FaultyStore, plan
from springline.storage.memory import MemoryStore
from springline.storage.port import IfAbsent, IfVersion, Stored, StoreUnknown

NAME = ObjectPath("a/b")


async def test_every_operation_is_told_with_its_outcome() -> None:
    told: list[tuple[str, str]] = []
    store = CountedStore(MemoryStore(), lambda operation, outcome: told.append((operation, outcome)))
    assert await store.get(NAME) is None
    stored = await store.put(NAME, b"x", IfAbsent())
    assert isinstance(stored, Stored)
    await store.put(NAME, b"y", IfVersion("none"))
    assert await store.head(NAME) is not None
    assert [info.path async for info in store.list(ObjectPath("a"))] == [NAME]
    assert not await store.delete(NAME, if_version="none")
    assert await store.delete(NAME, if_version=stored.version)
    assert told == [
        ("get", "missing"),
        ("put", "stored"),
        ("put", "precondition_failed"),
        ("head", "found"),
        ("list", "begun"),
        ("delete", "precondition_failed"),
        ("delete", "deleted"),
    ]


async def test_faults_are_told_and_passed_on() -> None:
    told: list[tuple[str, str]] = []
    faulty = FaultyStore(MemoryStore(), hook=plan({0: Decision.FAIL_AFTER}))
    store = CountedStore(faulty, lambda operation, outcome: told.append((operation, outcome)))
    with pytest.raises(StoreUnknown):
        await store.put(NAME, b"x", IfAbsent())
    assert told == [("put", "StoreUnknown")]
