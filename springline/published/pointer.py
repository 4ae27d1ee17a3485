"""Publishing: one compare-and-swap of the pointer, and resolving an unclear answer (docs/protocol.md#publication)."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import msgspec

from springline.checked import with_checksum
from springline.ledger.timestamps import format_ms
from springline.paths import orchestration_manifest, orchestration_pointer, orchestration_published
from springline.projection.config import FoldConfig
from springline.published.configuration import check_configuration
from springline.published.head import read_manifest
from springline.published.manifest import DamagedManifest, Pointer, decode_pointer, encode
from springline.storage.damage import DamagedObject
from springline.storage.pace import WritePace
from springline.storage.port import IfAbsent, IfVersion, ObjectStore, Stored, StoredObject, StoreRetry, StoreUnknown
from springline.storage.resolve import put_once

UNCLEAR_ATTEMPTS = 3
THROTTLE_PAUSES = 80
THROTTLE_PAUSE_S = 0.025
"""Pause after a throttled write. The writer goes on for about 2 s: a bucket takes one write a second to one name."""


@dataclass(frozen=True, slots=True)
class PointerMove:
    """A move of the pointer to a manifest. `from_version` is the token of the replaced pointer, None if there is none.

    Hashes are SHA-256 in hex; `from_sha256` is over the bytes of the replaced pointer.
    """

    manifest_id: str
    manifest_sha256: str
    epoch: int
    now_ms: int
    from_version: str | None = None
    from_sha256: str | None = None


@dataclass(frozen=True, slots=True)
class Visible:
    """The pointer names our manifest; `version` and `sha256` (hex) are the stored pointer's."""

    version: str
    sha256: str


class PointerWriter:
    """Moves one workspace's pointer, no faster than the store accepts writes to it."""

    def __init__(self, *, pause: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        self._pace = WritePace(lambda: asyncio.get_running_loop().time())
        self._pause = pause

    async def publish(self, store: ObjectStore, move: PointerMove) -> Visible | None:
        """Move the pointer; None if another writer has moved it.

        Safe to repeat and to run twice at once: a pointer that names our manifest is a success. An
        unclear answer is resolved by reading back and, while the pointer is as it was, by trying again. Raises
        `StoreUnknown` if it may still move, and the store's errors.
        """
        data = encode(pointer_of(move))
        unclear: StoreUnknown | None = None
        for _ in range(UNCLEAR_ATTEMPTS):
            try:
                version = await self._swap(store, data, move.from_version)
                if version is not None:
                    return await self._visible(store, move, version, data)
            except StoreUnknown as error:
                unclear = error
            stored = await _read_back(store, unclear)
            if stored is not None and (stored.data == data or await _names(store, stored, move)):
                return await self._visible(store, move, stored.version, stored.data)
            if (None if stored is None else stored.version) != move.from_version:
                return None
        raise unclear or StoreRetry(f"{orchestration_pointer()}: the swap is refused, and the pointer is as it was")

    async def _visible(self, store: ObjectStore, move: PointerMove, version: str, data: bytes) -> Visible:
        """Return the visible revision; after the first publish, record that there must be a pointer from now on."""
        if move.from_version is None:
            note = with_checksum(msgspec.json.encode({"format": 1, "first_manifest": move.manifest_id}))
            await put_once(store, orchestration_published(), note)
        return Visible(version, hashlib.sha256(data).hexdigest())

    async def _swap(self, store: ObjectStore, data: bytes, token: str | None) -> str | None:
        path = orchestration_pointer()
        precondition = IfAbsent() if token is None else IfVersion(token)
        if (wait_s := self._pace.wait_s()) > 0:
            await self._pause(wait_s)
        for remaining in range(THROTTLE_PAUSES, -1, -1):
            sent_at = asyncio.get_running_loop().time()
            try:
                result = await store.put(path, data, precondition)
            except StoreRetry:
                self._pace.refused()
                if remaining == 0:
                    raise
                await self._pause(THROTTLE_PAUSE_S)
                continue
            if not isinstance(result, Stored):
                return None
            self._pace.taken(sent_at)
            return result.version
        raise AssertionError("unreachable: the last pass returns or raises")


def pointer_of(move: PointerMove) -> Pointer:
    """Return the pointer to write."""
    return Pointer(
        manifest_id=move.manifest_id,
        manifest_path=orchestration_manifest(move.manifest_id),
        epoch=move.epoch,
        parent_pointer_hash=None if move.from_sha256 is None else f"sha256:{move.from_sha256}",
        updated_at=format_ms(move.now_ms),
        manifest_sha256=move.manifest_sha256,
    )


async def check_written(store: ObjectStore, config: FoldConfig, move: PointerMove) -> None:
    """Check that the manifest, which another process wrote, is the one to publish, and folded under our configuration.

    Raises `DamagedObject`, `OtherConfiguration` and the store's errors.
    """
    path = orchestration_manifest(move.manifest_id)
    found = await read_manifest(store, path)
    if found is None or found.sha256 != move.manifest_sha256:
        why = "is missing" if found is None else f"has the SHA-256 {found.sha256}, not {move.manifest_sha256}"
        raise DamagedObject(path, f"{why}, and is to be published", "fold the round again: open the workspace anew")
    check_configuration(found.manifest, config)


async def _read_back(store: ObjectStore, unclear: StoreUnknown | None) -> StoredObject | None:
    try:
        return await store.get(orchestration_pointer())
    except StoreRetry as error:
        if unclear is None:
            raise
        raise StoreUnknown(f"{orchestration_pointer()}: the swap had no clear answer and may still arrive") from error


async def _names(store: ObjectStore, stored: StoredObject, move: PointerMove) -> bool:
    """Say whether a pointer, ours or the reference's, names the manifest to publish."""
    try:
        pointer = decode_pointer(stored.data, orchestration_pointer())
    except DamagedManifest as error:
        raise DamagedObject(error.path, f"is no pointer: {error.why}") from error
    if pointer.manifest_id != move.manifest_id:
        return False
    found = await read_manifest(store, pointer.manifest_path)
    return found is not None and found.sha256 == move.manifest_sha256
