"""A counted store passes everything on and tells operation and outcome of each request."""

from __future__ import annotations

from pathlib import Path

import pytest

from springline.paths import ObjectPath
from springline.storage.counted import CountedStore
from springline.storage.faults import Decision, FaultyStore, plan
from springline.storage.local import THREADS, LocalStore
from springline.storage.memory import MemoryStore
from springline.storage.port import IfAbsent, IfVersion, Stored, StoreUnknown

NAME = ObjectPath("a/b")


async def test_every_operation_is_told_with_its_outcome() -> None:
    told: list[tuple[str, str, int]] = []
    store = CountedStore(MemoryStore(), lambda *told_of: told.append(told_of))
    assert await store.get(NAME) is None
    stored = await store.put(NAME, b"x", IfAbsent())
    assert isinstance(stored, Stored)
    await store.put(NAME, b"y", IfVersion("none"))
    assert await store.head(NAME) is not None
    assert [info.path async for info in store.list(ObjectPath("a"))] == [NAME]
    assert not await store.delete(NAME, if_version="none")
    assert await store.delete(NAME, if_version=stored.version)
    assert told == [
        ("get", "missing", 1),
        ("put", "stored", 1),
        ("put", "precondition_failed", 1),
        ("head", "found", 1),
        ("list", "begun", 1),
        ("delete", "precondition_failed", 1),
        ("delete", "deleted", 1),
    ]


async def test_faults_are_told_and_passed_on() -> None:
    told: list[tuple[str, str, int]] = []
    faulty = FaultyStore(MemoryStore(), hook=plan({0: Decision.FAIL_AFTER}))
    store = CountedStore(faulty, lambda *told_of: told.append(told_of))
    with pytest.raises(StoreUnknown):
        await store.put(NAME, b"x", IfAbsent())
    assert told == [("put", "StoreUnknown", 1)]


async def test_many_writes_are_told_together(tmp_path: Path) -> None:
    told: list[tuple[str, str, int]] = []
    store = CountedStore(LocalStore(tmp_path), lambda *told_of: told.append(told_of))
    names = [ObjectPath(f"a/{number}") for number in range(2 * THREADS)]
    await store.put(names[0], b"x", IfAbsent())
    created = await store.create_many([(name, b"x") for name in names])
    assert created == [False, *[True] * (len(names) - 1)]
    assert told == [("put", "stored", 1), ("put", "stored", len(names) - 1)]
    await store.aclose()


async def test_many_reads_are_told_together() -> None:
    told: list[tuple[str, str, int]] = []
    store = CountedStore(MemoryStore(), lambda *told_of: told.append(told_of))
    await store.put(NAME, b"x", IfAbsent())
    found = await store.read_many([NAME, ObjectPath("a/c"), NAME])
    assert [one is not None for one in found] == [True, False, True]
    assert told == [("put", "stored", 1), ("get", "missing", 1), ("get", "found", 2)]
    assert await store.read_many([]) == []
    assert len(told) == 3
