"""The sizes that operators set: replaced by compare-and-swap, checked when they are read."""

from __future__ import annotations

import asyncio

import orjson
import pytest

from springline.checked import with_checksum
from springline.deployed.deploying import deploy
from springline.deployed.pools import PoolSetting, pool_sizes, read_settings, set_pool
from springline.deployed.reading import ManifestReader
from springline.paths import pool_settings, pool_settings_note
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
    with pytest.raises(DamagedObject, match=r"restore it from a copy, or remove manifests/_pools\.json"):
        await pool_sizes(store, "w", ManifestReader())


async def test_settings_that_are_lost_or_older_are_told() -> None:
    store = MemoryStore()
    versions = []
    for slots in (3, 2, 3):
        await set_pool(store, "p", size(slots))
        versions.append(store.objects[pool_settings()].data)
    for older in versions[:2]:
        store.seed(pool_settings(), older)
        with pytest.raises(DamagedObject, match="is an older one"):
            await read_settings(store)
    store.remove(pool_settings())
    with pytest.raises(DamagedObject, match="is missing, and operators have set pools"):
        await set_pool(store, "q", size(1))
    store.remove(pool_settings_note())
    assert await read_settings(store) == ({}, None), "the remedy, where there is no copy"


async def test_settings_of_an_older_build_are_read_and_replaced() -> None:
    store = MemoryStore()
    plain = {"format": 1, "pools": {"p": {"slots": 3, "set_by": "ada", "set_at_ms": 1}}}
    store.seed(pool_settings(), with_checksum(orjson.dumps(plain), pool_settings()))
    assert (await read_settings(store))[0] == {"p": size(3)}
    await set_pool(store, "q", size(1))
    assert set((await read_settings(store))[0]) == {"p", "q"}


async def test_sizes_are_what_is_set_or_else_the_least_declared() -> None:
    store = MemoryStore()
    new_id = ids()
    await deploy(store, part("a", asset("x", pool="p"), pools={"p": 5, "q": 2}), new_id)
    await deploy(store, part("b", asset("y", pool="p"), pools={"p": 3}), new_id)
    await set_pool(store, "q", size(0))
    await set_pool(store, "r", size(7))
    sizes = await pool_sizes(store, "w", ManifestReader())
    assert {name: one.slots for name, one in sizes.items()} == {"p": 3, "q": 0, "r": 7}
