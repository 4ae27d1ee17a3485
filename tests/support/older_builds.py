"""What a build that had no tables of its own leaves: the published revision without all that such a build drops."""

from __future__ import annotations

import hashlib
from typing import TypeVar

import msgspec

from springline.paths import orchestration_manifest, orchestration_pointer
from springline.published.manifest import BaseSnapshot, Delta, Manifest, Pointer, decode_manifest, encode
from springline.storage.memory import MemoryStore
from tests.support.sequencer_world import SCOPE


def published_by_an_older_build(store: MemoryStore) -> None:
    """Put every manifest of a workspace in the place of itself as an older build would have written it.

    The files of our own tables stay where they are; nothing names them.
    """
    path = SCOPE.full(orchestration_pointer())
    pointer = msgspec.json.decode(store.objects[path].data, type=Pointer)
    sha256 = None
    for number in range(1, int(pointer.manifest_id) + 1):
        manifest_path = SCOPE.full(orchestration_manifest(f"{number:020}"))
        stored = store.objects.get(manifest_path)
        if stored is None:
            continue
        data = encode(_without_own(decode_manifest(stored.data, manifest_path)))
        store.seed(manifest_path, data)
        sha256 = hashlib.sha256(data).hexdigest()
    store.seed(path, encode(msgspec.structs.replace(pointer, manifest_sha256=sha256)))


def _without_own(manifest: Manifest) -> Manifest:
    ours = manifest.springline
    assert ours is not None
    digest = msgspec.structs.replace(ours.digest, own=None, own_tables=None)
    bridge = None if ours.bridge is None else _plain(ours.bridge)
    return msgspec.structs.replace(
        manifest,
        base_snapshot=_plain(manifest.base_snapshot),
        l0_deltas=[_plain(delta) for delta in manifest.l0_deltas],
        springline=msgspec.structs.replace(ours, digest=digest, bridge=bridge),
    )


Layer = TypeVar("Layer", BaseSnapshot, Delta)


def _plain(layer: Layer) -> Layer:
    return msgspec.structs.replace(layer, springline=None)
