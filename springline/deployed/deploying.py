"""Deploying: a new manifest, create-only, then the swap of the index that names it.

Each deploy reads the latest manifest, replaces the part of one code location, and writes the result under an id of its
own. If another deploy has swapped meanwhile, it begins again on top of that one: no deploy is lost. A crash before the
swap leaves a manifest that nothing names; after it the deploy is done. No lock, no clock decides anything.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from typing import Final

import orjson

from springline.checked import with_checksum
from springline.definitions.composing import Changes, Composition, compose, named_manifest
from springline.definitions.manifest import CodeLocation, DeployedManifest, read_model
from springline.deployed.notes import put_note, swap
from springline.deployed.reading import ManifestIndex, read_index, read_manifest, read_named
from springline.errors import Code, refused
from springline.ledger.json_text import canonical_json
from springline.ledger.timestamps import format_ms
from springline.paths import deployed_manifest, latest_manifest_index, manifest_deployed_note, replaced_manifest
from springline.storage.port import ObjectStore, StoreRetry
from springline.storage.resolve import Other, put_once
from springline.ulids import ulid_time_ms

DEADLINE_S: Final = 20.0
"""How long one deploy goes on against others. A bucket takes one write a second to one name."""
FIRST_PAUSE_S: Final = 0.05
LONGEST_PAUSE_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class DeployOutcome:
    """What a deploy came to. `manifest_id` is the manifest that it wrote, else the latest one; None if there is none.

    `fingerprint` and `assets` are those of the whole workspace, after the deploy or, of a dry run, as they would be.
    """

    manifest_id: str | None
    fingerprint: str
    assets: int
    changes: Changes
    tasks: Changes
    schedules: Changes
    sensors: Changes
    deployed: bool
    """Whether a manifest was written: not by a dry run, nor if nothing changed."""


async def deploy(
    store: ObjectStore,
    part: CodeLocation,
    new_id: Callable[[], str],
    *,
    dry_run: bool = False,
    register: Callable[[], Awaitable[None]] | None = None,
    pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> DeployOutcome:
    """Put the definitions of one code location in the place of those before; all others stay.

    Safe to repeat, and to run twice at once. If they are what is deployed already, nothing is written.

    Args:
        store: the workspace's part of the store.
        part: the definitions; without assets, the code location is removed.
        new_id: makes ULIDs that are never used twice; the time of a deploy is that of its id.
        dry_run: compare and judge only.
        register: enters the workspace into the register of those in which something is deployed
            (`springline.deployed.register`); called before anything is. None: the store has no register.
        pause: waits so many seconds, for tests.

    Raises `Refused`: INVALID_REQUEST and DEFINITION_CONFLICT as `compose` does, UNAVAILABLE if others deployed or the
    store was throttled all the while; `DamagedObject` if the latest manifest cannot be read; the store's errors.
    """
    patience = _Patience(part.location, pause)
    tried: dict[str, Composition] = {}
    bases: set[str | None] = {None}
    while True:
        found = await read_index(store)
        current = await read_named(store, found.index)
        latest = None if current is None else current.manifest.manifest_id
        arrived = await _arrived(store, latest, tried, bases) if tried else None
        if arrived is not None:
            await _note(store, await _before(store, arrived))
            return _outcome(tried[arrived], arrived, deployed=True)
        bases.add(latest)
        composition = await asyncio.to_thread(compose, current, part)
        changed = (composition.changes, composition.tasks, composition.schedules, composition.sensors)
        if dry_run or not any(changed):
            if current is not None and not dry_run:
                await _note(store, current.manifest.previous_manifest_id)
                await _enter(register)
            return _outcome(composition, latest, deployed=False)
        await _enter(register)
        manifest_id = new_id()
        data = await _write(store, composition, part, manifest_id)
        if data is not None:
            tried[manifest_id] = composition
            if await _swap_index(store, data, found.version, patience):
                await _note(store, latest)
                return _outcome(composition, manifest_id, deployed=True)
        await patience.wait()


class _Patience:
    """How long a deploy goes on: raises `Refused` (UNAVAILABLE) when that is over."""

    def __init__(self, location: str, pause: Callable[[float], Awaitable[None]]) -> None:
        self._location = location
        self._pause = pause
        self._deadline = asyncio.get_running_loop().time() + DEADLINE_S
        self._ceiling = FIRST_PAUSE_S

    async def wait(self) -> None:
        """Pause, longer each time."""
        if asyncio.get_running_loop().time() + self._ceiling > self._deadline:
            raise refused(
                Code.UNAVAILABLE,
                f"the deploy of {self._location} was overtaken by others, or throttled, for {DEADLINE_S:g} s",
                field="location",
                value=self._location,
                remedy="Send the same request again.",
            )
        await self._pause(random.uniform(self._ceiling / 2, self._ceiling))
        self._ceiling = min(2 * self._ceiling, LONGEST_PAUSE_S)


def _outcome(composition: Composition, manifest_id: str | None, *, deployed: bool) -> DeployOutcome:
    return DeployOutcome(
        manifest_id,
        composition.fingerprint,
        composition.assets,
        composition.changes,
        composition.tasks,
        composition.schedules,
        composition.sensors,
        deployed=deployed,
    )


async def _write(store: ObjectStore, composition: Composition, part: CodeLocation, manifest_id: str) -> bytes | None:
    """Write the manifest, and return the index that names it; None if its id was used already."""
    deployed_at_ms = ulid_time_ms(manifest_id)
    assert deployed_at_ms is not None
    path = deployed_manifest(manifest_id)

    def encoded() -> bytes:
        data = with_checksum(canonical_json(named_manifest(composition, part, manifest_id, deployed_at_ms)), path)
        # What could not be read back must never be named as the latest.
        read_model(DeployedManifest, data)
        return data

    # Off the event loop: a workspace may have 20,000 assets, and other requests would wait for a second.
    data = await asyncio.to_thread(encoded)
    if isinstance(await put_once(store, path, data), Other):
        return None
    index = ManifestIndex(
        latestManifestId=manifest_id,
        deployedAt=format_ms(deployed_at_ms),
        manifestSha256=hashlib.sha256(data).hexdigest(),
    )
    return with_checksum(orjson.dumps(index.model_dump()), latest_manifest_index())


async def _enter(register: Callable[[], Awaitable[None]] | None) -> None:
    """Have the workspace registered before the swap: what could have runs must be found after Temporal was lost."""
    if register is not None:
        await register()


async def _note(store: ObjectStore, before: str | None) -> None:
    """Note that something was deployed, and in the place of which manifest, unless that is noted.

    From now on, an index that is missing was lost, and one that names the manifest `before` is an older one. If a crash
    lies between the swap and this, the next deploy that changes nothing makes the notes.
    """
    await put_note(store, manifest_deployed_note(), {"deployed": True})
    if before is not None:
        await put_note(store, replaced_manifest(before), {"manifest_id": before})


async def _before(store: ObjectStore, manifest_id: str) -> str | None:
    """Return the id of the manifest in whose place another one was deployed."""
    found = await read_manifest(store, manifest_id)
    return None if found is None else found.manifest.previous_manifest_id


async def _swap_index(store: ObjectStore, data: bytes, token: str | None, patience: _Patience) -> bool:
    """Let the index be `data`, as `swap`, and wait while the store is throttled: the manifest is written already."""
    while True:
        try:
            return await swap(store, latest_manifest_index(), data, token)
        except StoreRetry:
            await patience.wait()


async def _arrived(
    store: ObjectStore, latest: str | None, tried: Collection[str], bases: Collection[str | None]
) -> str | None:
    """Return which of the manifests that were `tried` is the latest one, or lies below it; None if none does.

    A swap without a clear answer may have happened, and one that was refused, too, if what lies between has sent it
    twice. Others may have deployed on top. What was the latest one before a try, in `bases`, ends the search. A swap
    that arrives still later fails, or is found by the next search.
    """
    named = latest
    while named not in bases:
        if named in tried:
            return named
        assert named is not None
        found = await read_manifest(store, named)
        named = None if found is None else found.manifest.previous_manifest_id
    return None
