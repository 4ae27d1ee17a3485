"""Reading the latest deployed manifest, or one by its id. Whatever is read is checked."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any, Final

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from springline.caches import Recent
from springline.checked import MEMBER, WrongChecksum, verify
from springline.definitions.composing import CurrentManifest
from springline.definitions.manifest import FORMAT, DeployedManifest, read_model
from springline.deployed.notes import read_latest_of
from springline.paths import (
    ObjectPath,
    deployed_manifest,
    latest_manifest_index,
    manifest_deployed_note,
    replaced_manifest,
)
from springline.storage.damage import DamagedObject
from springline.storage.port import ObjectStore

REMEDY: Final = (
    "restore it from a copy or from an older version of the object; if there is none, remove "
    f"{latest_manifest_index()} and {manifest_deployed_note()}, and deploy every code location again"
)
LOST: Final = (
    "restore it from a copy or from an older version of the object; if there is none, cancel what was asked for by it "
    "(`springline run cancel`, `springline backfill cancel`), and ask for it again"
)
"""The remedy for a manifest that runs, requests or backfills name, and that is gone."""
MEMORY_BYTES: Final = 64 * 1024 * 1024
_WEIGHT: Final = 8
"""How many bytes a manifest takes in memory for each byte of its object, about."""
_OFF_THE_LOOP_BYTES: Final = 64 * 1024


class ManifestIndex(BaseModel):
    """The object that names the latest manifest; the members that the reference has, too, keep their names."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    latestManifestId: str
    deployedAt: str
    manifestSha256: str | None = Field(default=None, description="Of the manifest's bytes, in hex; None: foreign.")


_OF_THE_REFERENCE: Final = ("latestManifestId", "deployedAt")


@dataclass(frozen=True, slots=True)
class ReadIndex:
    """The index as it was read: the token of its version, and what it names.

    Without `index` there is none, or one that the reference has written: nothing of ours is deployed. Without `version`
    there is no object.
    """

    version: str | None
    index: ManifestIndex | None


async def read_index(store: ObjectStore) -> ReadIndex:
    """Read which manifest is the latest. Raises `DamagedObject` if that cannot be read, was lost or is out of date."""
    return await read_latest_of(store, lambda: _index(store), _replaced_note, _out_of_date)


def _replaced_note(found: ReadIndex) -> ObjectPath | None:
    return None if found.index is None else replaced_manifest(found.index.latestManifestId)


def _out_of_date(found: ReadIndex) -> DamagedObject:
    named = "" if found.index is None else found.index.latestManifestId
    why = f"names the manifest {named}, and a later one was deployed"
    return DamagedObject(latest_manifest_index(), why, REMEDY)


async def _index(store: ObjectStore) -> ReadIndex:
    path = latest_manifest_index()
    stored = await store.get(path)
    if stored is None:
        if await store.get(manifest_deployed_note()) is not None:
            raise DamagedObject(path, "is missing, and a manifest was deployed", REMEDY)
        return ReadIndex(None, None)
    try:
        verify(stored.data, _OF_THE_REFERENCE, path)
        index = read_model(ManifestIndex, stored.data)
    except (WrongChecksum, ValidationError) as error:
        raise DamagedObject(path, f"cannot be read: {error}", REMEDY) from error
    return ReadIndex(stored.version, None if index.manifestSha256 is None else index)


async def read_manifest(store: ObjectStore, manifest_id: str, sha256: str | None = None) -> CurrentManifest | None:
    """Read a manifest; None if there is none. `sha256`: that of its bytes, in hex, as another object has recorded.

    Raises `DamagedObject`, and `springline.paths.InvalidPath` for what is no manifest's id.
    """
    path = deployed_manifest(manifest_id)
    stored = await store.get(path)
    if stored is None:
        return None
    if len(stored.data) < _OFF_THE_LOOP_BYTES:
        return _decoded(stored.data, path, manifest_id, sha256)
    return await asyncio.to_thread(_decoded, stored.data, path, manifest_id, sha256)


def _decoded(data: bytes, path: str, manifest_id: str, sha256: str | None) -> CurrentManifest:
    found = hashlib.sha256(data).hexdigest()
    if sha256 is not None and found != sha256:
        raise DamagedObject(path, f"has the SHA-256 {found}, not {sha256}", REMEDY)
    try:
        # No manifest was ever written without a checksum: one that lacks it is refused for all its members.
        verify(data, (), path)
        plain: Any = orjson.loads(data)
        written = plain.get("format")
        if isinstance(written, int) and written > FORMAT:
            newer = f"has the format {written}, and this build reads {FORMAT}"
            raise DamagedObject(path, newer, "use a build that is at least as new as the one that deployed it")
        manifest = read_model(DeployedManifest, data)
    except (WrongChecksum, orjson.JSONDecodeError, ValidationError) as error:
        raise DamagedObject(path, f"cannot be read: {error}", REMEDY) from error
    if manifest.manifest_id != manifest_id:
        raise DamagedObject(path, f"is the manifest {manifest.manifest_id}", REMEDY)
    del plain[MEMBER]
    return CurrentManifest(manifest, plain)


async def read_latest(store: ObjectStore) -> CurrentManifest | None:
    """Return the manifest that was deployed last, None if there is none. Raises `DamagedObject`."""
    return await read_named(store, (await read_index(store)).index)


async def read_named(store: ObjectStore, index: ManifestIndex | None) -> CurrentManifest | None:
    """Return the manifest that an index names, None for no index. Raises `DamagedObject`, also if it is missing."""
    if index is None:
        return None
    found = await read_manifest(store, index.latestManifestId, index.manifestSha256)
    if found is None:
        raise DamagedObject(
            deployed_manifest(index.latestManifestId), f"is missing, and {latest_manifest_index()} names it", REMEDY
        )
    return found


class ManifestReader:
    """Reads manifests of many workspaces, and caches them: a manifest never changes, the index is read each time."""

    def __init__(self, most_bytes: int = MEMORY_BYTES) -> None:
        self._held: Recent[CurrentManifest] = Recent(entries=1_000, weight=most_bytes)

    async def latest(self, store: ObjectStore, owner: Hashable) -> CurrentManifest | None:
        """Return the latest manifest in `store`, the part of the workspace `owner`; None if nothing is deployed.

        Raises `DamagedObject`.
        """
        index = (await read_index(store)).index
        if index is None:
            return None
        name = (owner, index.latestManifestId, index.manifestSha256)
        held = self._held.get(name)
        if held is None:
            held = await read_named(store, index)
            assert held is not None
            self._held.put(name, held, weight=_WEIGHT * len(orjson.dumps(held.plain)))
        return held

    async def named(self, store: ObjectStore, owner: Hashable, manifest_id: str) -> CurrentManifest | None:
        """Return a manifest by its id, None if there is none; its hash is not known from elsewhere.

        Raises `DamagedObject`, and `springline.paths.InvalidPath` for what is no manifest's id.
        """
        name = (owner, manifest_id, None)
        held = self._held.get(name)
        if held is None:
            held = await read_manifest(store, manifest_id)
            if held is not None:
                self._held.put(name, held, weight=_WEIGHT * len(orjson.dumps(held.plain)))
        return held

    async def needed(self, store: ObjectStore, owner: Hashable, manifest_id: str) -> CurrentManifest:
        """Return a manifest by which something was asked for; raises as `named`, and `DamagedObject` if it is gone.

        Manifests are never deleted: one that is gone was lost, and nothing may be decided as if it had never been.
        """
        found = await self.named(store, owner, manifest_id)
        if found is None:
            raise DamagedObject(deployed_manifest(manifest_id), "is missing, and what was asked for names it", LOST)
        return found
