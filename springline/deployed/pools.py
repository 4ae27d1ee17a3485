"""How large pools are: what code locations declare, and what operators have set, which wins.

What is declared is in the latest manifest; of several code locations that declare a pool, the least number counts. What
operators have set is one object of the workspace, replaced by compare-and-swap (docs/formats.md#pool-settings). A pool
of which neither says anything has no limit: assets that were deployed before there were pools name such ones.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Hashable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

import orjson
import uuid_utils
from pydantic import BaseModel, ConfigDict, Field, StrictInt, ValidationError

from springline.checked import WrongChecksum, verify, with_checksum
from springline.definitions.limits import MAX_SLOTS
from springline.definitions.manifest import DeployedManifest, DeployedPool, read_model
from springline.deployed.notes import put_note, read_latest_of, swap
from springline.deployed.reading import ManifestReader
from springline.errors import Code, refused
from springline.paths import ObjectPath, pool_settings, pool_settings_note, replaced_pool_settings
from springline.storage.damage import DamagedObject
from springline.storage.port import ObjectStore, StoreRetry

MOST_SET: Final = 5_000
"""Pools of a workspace that operators may set."""
DEADLINE_S: Final = 20.0
"""How long one change goes on against others. A bucket takes one write a second to one name."""
_PAUSE_S: Final = 0.2
_REMEDY: Final = (
    f"restore it from a copy, or remove {pool_settings()} and {pool_settings_note()}: then pools have the sizes that "
    "pipeline files declare"
)


class PoolSetting(BaseModel):
    """What an operator has set of a pool: its slots, who did it, and when."""

    model_config = ConfigDict(frozen=True)

    slots: Annotated[StrictInt, Field(ge=0, le=MAX_SLOTS)]
    set_by: str
    set_at_ms: int


class _Settings(BaseModel):
    """The object. `change_id`: of the change that made it, a UUID; older builds wrote none."""

    model_config = ConfigDict(frozen=True)

    format: Literal[1]
    change_id: str | None = None
    pools: dict[str, PoolSetting]


@dataclass(frozen=True, slots=True)
class _Read:
    """The settings as they were read, and the token of the object's version; both None if there is no object."""

    settings: _Settings | None = None
    version: str | None = None

    @property
    def pools(self) -> dict[str, PoolSetting]:
        return {} if self.settings is None else dict(self.settings.pools)

    @property
    def change_id(self) -> str | None:
        return None if self.settings is None else self.settings.change_id


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

    `store` is the workspace's part of the store. Raises `DamagedObject`, also if it was lost or is an older one, and
    the store's errors.
    """
    found = await _read(store)
    return found.pools, found.version


async def _read(store: ObjectStore) -> _Read:
    return await read_latest_of(store, lambda: _read_once(store), _replaced_note, _out_of_date)


def _replaced_note(found: _Read) -> ObjectPath | None:
    return None if found.change_id is None else replaced_pool_settings(found.change_id)


def _out_of_date(_found: _Read) -> DamagedObject:
    return DamagedObject(pool_settings(), "is an older one: pools were set after it", _REMEDY)


async def _read_once(store: ObjectStore) -> _Read:
    path = pool_settings()
    stored = await store.get(path)
    if stored is None:
        if await store.get(pool_settings_note()) is not None:
            raise DamagedObject(path, "is missing, and operators have set pools", _REMEDY)
        return _Read()
    try:
        verify(stored.data, (), path)
        return _Read(read_model(_Settings, stored.data), stored.version)
    except (WrongChecksum, ValidationError) as error:
        raise DamagedObject(path, f"cannot be read: {error}", _REMEDY) from error


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
        found = await _read(store)
        settings = found.pools
        if _same(settings.get(name), setting):
            if found.version is not None:
                await _note(store, None)
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
        with suppress(StoreRetry):
            if await swap(store, pool_settings(), _encoded(changed), found.version):
                await _note(store, found.change_id)
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


async def _note(store: ObjectStore, before: str | None) -> None:
    """Note that pools were set, and after which change, unless that is noted.

    From now on, settings that are missing were lost, and those of the change `before` are older ones.
    """
    await put_note(store, pool_settings_note(), {"pools_set": True})
    if before is not None:
        await put_note(store, replaced_pool_settings(before), {"change_id": before})


def _encoded(settings: Mapping[str, PoolSetting]) -> bytes:
    """Return the object of a new change with these settings."""
    plain: dict[str, Any] = {
        "format": 1,
        "change_id": str(uuid_utils.uuid7()),
        "pools": {name: settings[name].model_dump() for name in sorted(settings)},
    }
    return with_checksum(orjson.dumps(plain), pool_settings())


def _same(before: PoolSetting | None, after: PoolSetting | None) -> bool:
    if before is None or after is None:
        return before is after
    return before.slots == after.slots
