"""What is published: the pointer, and the manifest that it names (S 2.1, 2.2, 2.5)."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from springline import paths
from springline.paths import ObjectPath
from springline.projection.lineage import pointer_hash, published
from springline.projection.manifest import DamagedManifest, Manifest, Pointer, decode_manifest, decode_pointer
from springline.sequencer.damage import DamagedObject
from springline.storage.port import ObjectStore, StoredObject


@dataclass(frozen=True, slots=True)
class StoredManifest:
    """A manifest as it is stored: where, what it says, and the SHA-256 (hex) of its bytes."""

    path: ObjectPath
    manifest: Manifest
    sha256: str


@dataclass(frozen=True, slots=True)
class PublishedHead:
    """The published revision. `pointer`, its raw bytes and its version token are None for a legacy manifest.

    `manifest` has the greater epoch of pointer and manifest; `manifest_sha256` (hex) is over the stored bytes.
    """

    manifest: Manifest
    manifest_path: ObjectPath
    manifest_sha256: str
    pointer: Pointer | None = None
    pointer_raw: bytes | None = None
    pointer_version: str | None = None

    @property
    def pointer_hash(self) -> str | None:
        """What the successor of the pointer writes as `parent_pointer_hash`; None for a legacy manifest."""
        return None if self.pointer_raw is None else pointer_hash(self.pointer_raw)

    @property
    def is_ours(self) -> bool:
        """Whether this revision was published by us: it says what we need to know to go on from it."""
        return self.manifest.springline is not None


async def read_head(store: ObjectStore) -> PublishedHead | None:
    """Return what is published, or None if nothing ever was.

    Two reads, one after the other; without a pointer, the old mutable manifest counts. Raises `DamagedObject` if
    pointer or manifest is missing, unreadable, or they are not of one mind; and what the store does.
    """
    stored = await store.get(paths.orchestration_pointer())
    return await (_legacy_head(store) if stored is None else read_head_of(store, stored))


async def read_head_of(store: ObjectStore, stored: StoredObject) -> PublishedHead:
    """Return what a pointer that was just read publishes. Raises as `read_head`."""
    path = paths.orchestration_pointer()
    try:
        pointer = decode_pointer(stored.data, path)
    except DamagedManifest as error:
        raise DamagedObject(error.path, f"is no pointer: {error.why}") from error
    found = await read_manifest(store, pointer.manifest_path)
    if found is None:
        raise DamagedObject(pointer.manifest_path, "is missing, and the pointer names it")
    try:
        manifest = published(pointer, found.manifest)
    except DamagedManifest as error:
        raise DamagedObject(error.path, f"contradicts the published revision: {error.why}") from error
    return PublishedHead(manifest, found.path, found.sha256, pointer, stored.data, stored.version)


async def _legacy_head(store: ObjectStore) -> PublishedHead | None:
    found = await read_manifest(store, paths.orchestration_legacy_manifest())
    return None if found is None else PublishedHead(found.manifest, found.path, found.sha256)


async def read_manifest(store: ObjectStore, path: str) -> StoredManifest | None:
    """Return the manifest at `path`, or None if there is none. Raises `DamagedObject`, and what the store does.

    The path is what another object says, and may be anything.
    """
    try:
        checked = paths.relative_path(path)
    except paths.InvalidPath as error:
        raise DamagedObject(path, f"cannot be the path of a manifest: {error}") from error
    stored = await store.get(checked)
    return None if stored is None else parse_manifest(checked, stored.data)


def parse_manifest(path: ObjectPath, data: bytes) -> StoredManifest:
    """Return the manifest that was read from `path`. Raises `DamagedObject`."""
    try:
        manifest = decode_manifest(data, path)
    except DamagedManifest as error:
        raise DamagedObject(path, f"is no manifest that can be read: {error.why}") from error
    return StoredManifest(path, manifest, hashlib.sha256(data).hexdigest())
