"""How revisions follow each other, and that pointer and manifest are of one mind.

See docs/formats.md#pointer, docs/protocol.md#reading-published, docs/protocol.md#publication.
"""

from __future__ import annotations

import msgspec

from springline.errors import InvariantViolated
from springline.paths import orchestration_manifest, orchestration_manifest_id, orchestration_pointer
from springline.projection.manifest import DamagedManifest, Manifest, Pointer
from springline.projection.table_paths import checksum_of


class InvalidSuccession(InvariantViolated):
    """A revision that must not follow the one before it: publishing it would lose a newer one."""


def next_manifest_id(manifest_id: str) -> str:
    """Return the id after `manifest_id`. Raises `InvalidPath` after the greatest."""
    return orchestration_manifest_id(int(manifest_id) + 1)


def pointer_hash(raw: bytes) -> str:
    """Return what the successor of a pointer writes as `parent_pointer_hash`; `raw` is the stored object."""
    return checksum_of(raw)


def published(pointer: Pointer, manifest: Manifest) -> Manifest:
    """Return the manifest as its pointer publishes it: with the greater of both epochs.

    Raises `DamagedManifest` if they name different revisions.
    """
    expected = orchestration_manifest(pointer.manifest_id)
    if pointer.manifest_path != expected:
        why = f"`manifest_path` is {pointer.manifest_path}, but manifest {pointer.manifest_id} is {expected}"
        raise DamagedManifest(orchestration_pointer(), why)
    if manifest.manifest_id != pointer.manifest_id:
        why = f"`manifest_id` is {manifest.manifest_id}, but the pointer has {pointer.manifest_id}"
        raise DamagedManifest(pointer.manifest_path, why)
    return msgspec.structs.replace(manifest, epoch=max(manifest.epoch, pointer.epoch))


def check_pointer_succession(pointer: Pointer, previous: Pointer, previous_raw: bytes) -> None:
    """Check that `pointer` may replace `previous`, whose stored bytes are `previous_raw`.

    Raises `InvalidSuccession` unless the id is greater, the epoch not smaller, and the parent hash that of the bytes.
    """
    _check_order(pointer, previous, "pointer")
    expected = pointer_hash(previous_raw)
    if pointer.parent_pointer_hash != expected:
        raise InvalidSuccession(f"the pointer's parent is {pointer.parent_pointer_hash}, the stored one is {expected}")


def check_manifest_succession(manifest: Manifest, previous: Manifest) -> None:
    """Check that `manifest` may follow `previous`: greater id, no smaller epoch. Raises `InvalidSuccession`."""
    _check_order(manifest, previous, "manifest")


def _check_order(new: Pointer | Manifest, previous: Pointer | Manifest, what: str) -> None:
    if int(new.manifest_id) <= int(previous.manifest_id):
        raise InvalidSuccession(f"the {what}'s id {new.manifest_id} does not lie above {previous.manifest_id}")
    if new.epoch < previous.epoch:
        raise InvalidSuccession(f"the {what}'s epoch {new.epoch} lies below {previous.epoch}")
