"""How large pools are: what code locations declare, and what operators have set, which wins.

What is declared is in the latest manifest; of several code locations that declare a pool, the least number counts. What
operators have set is one object of the workspace, replaced by compare-and-swap (docs/formats.md#pool-settings). A pool
of which neither says anything has no limit: assets that were deployed before there were pools name such ones.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field, StrictInt, ValidationError

from springline.checked import WrongChecksum, verify, with_checksum
from springline.definitions.limits import MAX_SLOTS
from springline.definitions.manifest import DeployedManifest, DeployedPool, read_model
from springline.deployed.reading import ManifestReader
from springline.errors import Code, refused
from springline.paths import pool_settings
from springline.storage.damage import DamagedObject
from springline.storage.port import IfAbsent, IfVersion, ObjectStore, Stored, StoreRetry, StoreUnknown

MOST_SET: Final = 5_000
"""Pools of a workspace that operators may set."""
DEADLINE_S: Final = 20.0
"""How long one change goes on against others. A bucket takes one write a second to one name."""
_PAUSE_S: Final = 0.2
_REMEDY: Final = "restore it from a copy, or remove it: then pools have the sizes that pipeline files declare"


class PoolSetting(BaseModel):
    """What an operator has set of a pool: its slots, who did it, and when."""

    model_config = ConfigDict(frozen=True)

    slots: Annotated[StrictInt, Field(ge=0, le=MAX_SLOTS)]
    set_by: str
    set_at_ms: int


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True)

    format: Literal[1]
    pools: dict[str, PoolSetting]


@dataclass(frozen=True, slots=True)
class PoolSize:
    """A pool: its slots as they count, None without a limit; what code locations declare; what an operator has set."""

    name: str
    declared: tuple[DeployedPool, ...] = ()
    setting: PoolSetting | None = None

    @property
    def slots(self) -> int | None:
        """How many attempts of it may run at once; None without a limit."""
        if self.setting is not None:
            return self.setting.slots
        return min((one.slots for one in self.declared), default=None)


async def read_settings(store: ObjectStore) -> tuple[dict[str, PoolSetting], str | None]:
    """Return what operators have set, by pool, and the token of the object's version, None if there is no object.

    `store` is the workspace's part of the store. Raises `DamagedObject`, and the store's errors.
    """
    path = pool_settings()
    stored = await store.get(path)
    if stored is None:
        return {}, None
    try:
        verify(stored.data, (), path)
        found = read_model(_Settings, stored.data)
    except (WrongChecksum, ValidationError) as error:
        raise DamagedObject(path, f"cannot be read: {error}", _REMEDY) from error
    return dict(found.pools), stored.version


async def pool_sizes(store: ObjectStore, owner: Hashable, manifests: ManifestReader) -> dict[str, PoolSize]:
    """Return the pools of a workspace by name: those that are declared, set, or named by an asset.

    `store` is the part of the workspace `owner`. Raises `DamagedObject`, and the store's errors.
    """
    settings, _ = await read_settings(store)
    latest = await manifests.latest(store, owner)
    return sizes_of(None if latest is None else latest.manifest, settings)


def sizes_of(manifest: DeployedManifest | None, settings: Mapping[str, PoolSetting]) -> dict[str, PoolSize]:
    """Return the pools that a manifest declares or names, and those that are set, by name."""
    declared: dict[str, list[DeployedPool]] = {}
    named: set[str] = set(settings)
    if manifest is not None:
        for one in manifest.pools:
            declared.setdefault(one.name, []).append(one)
        named |= {node.pool for node in manifest.nodes.values() if node.pool is not None}
    names = sorted(named | set(declared))
    return {name: PoolSize(name, tuple(declared.get(name, ())), settings.get(name)) for name in names}


async def set_pool(
    store: ObjectStore,
    name: str,
    setting: PoolSetting | None,
    *,
    pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> None:
    """Set the size of a pool, or with None let it be as it is declared. Safe to repeat; the last one counts.

    `store` is the workspace's part of the store; `pause` waits so many seconds, for tests. Raises `Refused`
    (UNAVAILABLE if others change pools all the while, INVALID_REQUEST for too many pools), `DamagedObject`, and the
    store's errors.
    """
    deadline = asyncio.get_running_loop().time() + DEADLINE_S
    while True:
        settings, version = await read_settings(store)
        if _same(settings.get(name), setting):
            return
        changed = {one: said for one, said in settings.items() if one != name}
        if setting is not None:
            changed[name] = setting
        if len(changed) > MOST_SET:
            raise refused(
                Code.INVALID_REQUEST,
                f"{len(settings):,} pools are set, and {MOST_SET:,} is the most",
                field="pool",
                value=name,
                remedy="Take back the setting of a pool that no asset names any more.",
            )
        if await _swap(store, changed, version):
            return
        if asyncio.get_running_loop().time() > deadline:
            raise refused(
                Code.UNAVAILABLE,
                f"the size of pool {name} could not be set for {DEADLINE_S:g} s: others change pools, or the store is "
                "busy",
                field="pool",
                value=name,
                remedy="Send the same request again.",
            )
        await pause(random.uniform(_PAUSE_S / 2, 2 * _PAUSE_S))


async def _swap(store: ObjectStore, settings: Mapping[str, PoolSetting], version: str | None) -> bool:
    """Let the object be these settings; False if it was not, or if there was no clear answer."""
    plain: dict[str, Any] = {"format": 1, "pools": {name: settings[name].model_dump() for name in sorted(settings)}}
    data = with_checksum(orjson.dumps(plain), pool_settings())
    condition = IfAbsent() if version is None else IfVersion(version)
    try:
        return isinstance(await store.put(pool_settings(), data, condition), Stored)
    except (StoreRetry, StoreUnknown):
        # The next look finds what came of it.
        return False


def _same(before: PoolSetting | None, after: PoolSetting | None) -> bool:
    if before is None or after is None:
        return before is after
    return before.slots == after.slots
