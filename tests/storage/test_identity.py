"""A store has one id, made once, that tells it from every other."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from springline.errors import InvariantViolated
from springline.paths import store_identity
from springline.storage.identity import known_store_id, store_id
from springline.storage.local import LocalStore
from springline.storage.memory import MemoryStore
from springline.storage.port import IfAbsent


async def test_whoever_asks_first_makes_it_and_all_get_it(tmp_path: Path) -> None:
    stores = [LocalStore(tmp_path, fsync=False) for _ in range(8)]
    assert await known_store_id(stores[0]) is None
    found = await asyncio.gather(*(store_id(store, f"id-{number}") for number, store in enumerate(stores)))
    assert len(set(found)) == 1
    assert await known_store_id(stores[3]) == found[0]
    assert await store_id(MemoryStore(), "another") == "another"


async def test_what_is_no_id_is_named() -> None:
    for damaged in (b"", b"{}", b'{"store_id": 7}', b"[]"):
        store = MemoryStore()
        await store.put(store_identity(), damaged, IfAbsent())
        with pytest.raises(InvariantViolated, match="store-id"):
            await store_id(store, "x")
