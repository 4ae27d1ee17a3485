"""Writing a manifest under the next id that is free (docs/protocol.md#free-names).

An id that other bytes have taken is an orphan's, of somebody who never published it: the next free one is as good.
Orphans may be many, as after a pointer was restored from an old copy, so they are leapt over, not counted through.
"""

from __future__ import annotations

import hashlib

from msgspec.structs import replace

from springline.paths import ObjectPath, orchestration_manifest, orchestration_manifest_id
from springline.projection.checkpoints import with_checkpoint
from springline.projection.manifest import Checkpoint, Manifest, encode
from springline.sequencer.head import StoredManifest
from springline.storage.port import ObjectStore, StoreRetry
from springline.storage.resolve import Other, put_once

TRIED_IN_TURN = 16
"""Ids that are tried one after the other: an earlier attempt's manifest is found among them."""
LEAPS = 3


async def write_manifest(store: ObjectStore, template: Manifest, *, is_base: bool) -> StoredManifest:
    """Write `template`, whose id is that of the head it follows, under a later id, and return it as it stands.

    `is_base`: its base alone is the state, so it is a checkpoint, and names itself as one. Safe to repeat: a manifest
    that an earlier attempt wrote is found, if it does not lie behind many orphans; then a second one is written, and
    whichever is published counts. Raises what the store does, `StoreRetry` if others keep taking the ids.
    """
    number = int(template.manifest_id) + 1
    for _ in range(LEAPS):
        for tried in range(number, number + TRIED_IN_TURN):
            path, manifest = _named(template, tried, is_base)
            data = encode(manifest)
            if not isinstance(await put_once(store, path, data), Other):
                return StoredManifest(path, manifest, hashlib.sha256(data).hexdigest())
        # The last that is taken may be what an earlier attempt of this wrote.
        number = await free_number(store, number + TRIED_IN_TURN) - 1
    raise StoreRetry(f"manifest ids from {orchestration_manifest_id(number)} on are taken faster than they are found")


async def free_number(store: ObjectStore, first: int) -> int:
    """Return a number from `first` on that no manifest has, and that follows on one that is taken, if any is.

    Takes about twice the logarithm of how many are taken in requests; nothing is listed.
    """
    taken, step = first - 1, 1
    while await _is_taken(store, taken + step):
        taken, step = taken + step, step * 2
    free = taken + step
    while free - taken > 1:
        middle = (taken + free) // 2
        if await _is_taken(store, middle):
            taken = middle
        else:
            free = middle
    return free


async def _is_taken(store: ObjectStore, number: int) -> bool:
    return await store.head(orchestration_manifest(orchestration_manifest_id(number))) is not None


def _named(template: Manifest, number: int, is_base: bool) -> tuple[ObjectPath, Manifest]:
    manifest_id = orchestration_manifest_id(number)
    path, ours = orchestration_manifest(manifest_id), template.springline
    manifest = replace(template, manifest_id=manifest_id)
    if is_base and ours is not None:
        new = Checkpoint(path, manifest.watermarks.last_committed_event_id, ours.events.count)
        manifest = replace(manifest, springline=replace(ours, checkpoints=with_checkpoint(ours.checkpoints, new)))
    return path, manifest
