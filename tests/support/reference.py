"""A compaction by the reference, as far as it matters here: it publishes a revision of its own on top of any head.

It knows nothing of ours: base and deltas stay, `springline` goes, and the witness names the events that it folded
(docs/formats.md#manifest, docs/protocol.md#publication). What it makes of their rows does not matter, because we never
read them when a state of ours exists.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from msgspec.structs import replace

from springline.ledger.event_ids import new_event_id
from springline.paths import canonical_ulid_event, orchestration_manifest, orchestration_pointer
from springline.published.head import read_head
from springline.published.manifest import (
    NO_MANIFEST,
    BaseSnapshot,
    L0Limits,
    Manifest,
    Pointer,
    PublicationWitness,
    Watermarks,
    Witness,
    encode,
    next_manifest_id,
    pointer_hash,
)
from springline.storage.memory import MemoryStore
from springline.storage.port import IfAbsent, IfVersion, Stored
from tests.support.sequencer_world import NOW_MS, SCOPE, scoped

AT = "2025-01-15T00:10:00Z"


async def compact(store: MemoryStore, event_ids: Sequence[str], *, manifest: Manifest | None = None) -> bool:
    """Publish a revision that is said to hold these events; False if an orphan of somebody's holds its id.

    `manifest`: its tables, instead of those that are published.
    """
    head = await read_head(scoped(store))
    before = head.manifest if head is not None else None
    manifest_id = next_manifest_id(NO_MANIFEST if before is None else before.manifest_id)
    tables = manifest or before
    last = max([*event_ids, "" if before is None else before.watermarks.last_committed_event_id or ""])
    revision = Manifest(
        manifest_id=manifest_id,
        epoch=0 if before is None else before.epoch,
        previous_manifest_path=None if head is None or head.pointer is None else head.pointer.manifest_path,
        schema_version=2,
        revision_ulid=new_event_id(None, NOW_MS, int(manifest_id)),
        published_at=AT,
        watermarks=Watermarks(last or None, last or None, last or None, None, AT),
        base_snapshot=BaseSnapshot() if tables is None else tables.base_snapshot,
        l0_deltas=[] if tables is None else [replace(delta, buckets=None) for delta in tables.l0_deltas],
        l0_count=0 if tables is None else tables.l0_count,
        l0_limits=L0Limits(),
        publication_witness=PublicationWitness([_witness(store, event_id) for event_id in sorted(event_ids)]),
    )
    path = orchestration_manifest(manifest_id)
    if not isinstance(await scoped(store).put(path, encode(revision), IfAbsent()), Stored):
        return False
    raw = None if head is None else head.pointer_raw
    pointer = Pointer(
        manifest_id=manifest_id,
        manifest_path=path,
        epoch=revision.epoch,
        parent_pointer_hash=None if raw is None else pointer_hash(raw),
        updated_at=AT,
    )
    version = None if head is None else head.pointer_version
    precondition = IfAbsent() if version is None else IfVersion(version)
    assert isinstance(await scoped(store).put(orchestration_pointer(), encode(pointer), precondition), Stored)
    return True


def _witness(store: MemoryStore, event_id: str) -> Witness:
    path = canonical_ulid_event(event_id)
    stored = store.objects.get(SCOPE.full(path))
    return Witness(path, f"sha256:{hashlib.sha256(b'' if stored is None else stored.data).hexdigest()}")
