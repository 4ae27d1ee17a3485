"""The sizes that operators set: replaced by compare-and-swap, checked when they are read."""

from __future__ import annotations

import asyncio

import pytest

from springline.deployed.deploying import deploy
from springline.deployed.pools import PoolSetting, pool_sizes, read_settings, set_pool
from springline.deployed.reading import ManifestReader
from springline.paths import pool_settings
from springline.storage.damage import DamagedObject
from springline.storage.memory import MemoryStore
from springline.storage.port import IfVersion
from tests.support.definitions import asset, ids, part


def size(slots: int) -> PoolSetting:
    return PoolSetting(slots=slots, set_by="ada", set_at_ms=1)


async def test_operators_that_set_pools_at_once_lose_nothing() -> None:
    store = MemoryStore()

    async def pause(_: float) -> None:
        await asyncio.sleep(0)

    await asyncio.gather(*(set_pool(store, f"p{number}", size(number), pause=pause) for number in range(20)))
    settings, _ = await read_settings(store)
    assert {name: one.slots for name, one in settings.items()} == {f"p{number}": number for number in range(20)}


async def test_what_is_set_already_writes_nothing_and_can_be_taken_back() -> None:
    store = MemoryStore()
    await set_pool(store, "p", None)
    assert (await read_settings(store)) == ({}, None)
    await set_pool(store, "p", size(3))
    _, version = await read_settings(store)
    await set_pool(store, "p", size(3))
    assert (await read_settings(store))[1] == version
    await set_pool(store, "p", None)
    assert (await read_settings(store))[0] == {}


async def test_a_damaged_setting_is_told_and_bounds_nothing_by_guess() -> None:
    store = MemoryStore()
    await set_pool(store, "p", size(3))
    stored = await store.get(pool_settings())
    assert stored is not None
    await store.put(pool_settings(), stored.data.replace(b'"slots":3', b'"slots":4'), IfVersion(stored.version))
    with pytest.raises(DamagedObject, match="restore it from a copy, or remove manifests/_pools.json"):
        await pool_sizes(store, "w", ManifestReader())


async def test_sizes_are_what_is_set_or_else_the_least_declared() -> None:
    store = MemoryStore()
    new_id = ids()
    await deploy(store, part("a", asset("x", pool="p"), pools={"p": 5, "q": 2}), new_id)
    await deploy(store, part("b", asset("y", pool="p"), pools={"p": 3}), new_id)
    await set_pool(store, "q", size(0))
    await set_pool(store, "r", size(7))
    sizes = await pool_sizes(store, "w", ManifestReader())
    assert {name: one.slots for name, one in sizes.items()} == {"p": 3, "q": 0, "r": 7}
