"""Bringing a state in memory forward to a newer revision without loading it anew.

Deltas hold rows as they are, and deltas that were merged are merged into newer ones. So what a newer revision lacks
of an older one of the same base are the deltas that the older one does not know, in order. Where a base was written
in between, its `bridge` is the delta that led to it.
"""

from __future__ import annotations

from springline.projection.digest import Digest
from springline.projection.manifest import Delta, Manifest
from springline.projection.schema import TABLES
from springline.projection.state import State
from springline.projection.tables import Change
from springline.sequencer.damage import DamagedObject
from springline.sequencer.deltas import DeltaRows, read_delta
from springline.sequencer.head import StoredManifest, read_manifest
from springline.sequencer.load import lay_on
from springline.sequencer.offload import in_thread
from springline.sequencer.parallel import each
from springline.storage.port import ObjectStore

MOST_REVISIONS = 16
"""How many revisions back a base's predecessor is looked for; beyond that, loading is as quick."""
_DELTAS_TOGETHER = 4


async def deltas_between(
    store: ObjectStore, known: Manifest, wanted: Manifest, *, most: int = MOST_REVISIONS
) -> list[Delta] | None:
    """Return the deltas that lead from the state of `known` to that of `wanted`, oldest first.

    None if none do: the states are of different lineages, configurations or owners, a base was written without a
    bridge, or it was more than `most` revisions ago. Manifests in between are read where a base was written. Raises
    `DamagedObject`, and what the store does.
    """
    if known.springline is None or int(wanted.manifest_id) < int(known.manifest_id):
        return None
    chain = await _back_to_base_of(store, known, wanted, most)
    if chain is None:
        return None
    found: list[Delta] = []
    at = known
    for manifest in reversed(chain):
        ours = manifest.springline
        if ours is None or ours.config != known.springline.config:
            return None
        seen = {delta.delta_id for delta in at.l0_deltas}
        if _base_of(manifest) != _base_of(at):
            if ours.bridge is None or manifest.l0_deltas:
                return None
            found.append(ours.bridge)
        elif manifest.manifest_id != at.manifest_id:
            found += [delta for delta in manifest.l0_deltas if delta.delta_id not in seen]
        at = manifest
    return found


async def _back_to_base_of(store: ObjectStore, known: Manifest, wanted: Manifest, most: int) -> list[Manifest] | None:
    """Return `wanted` and its predecessors, newest first, up to the first one that has the base of `known`."""
    chain = [wanted]
    while _base_of(chain[-1]) != _base_of(known):
        path = chain[-1].previous_manifest_path
        found = None if path is None or len(chain) > most else await _readable(store, path)
        if found is None or int(found.manifest.manifest_id) < int(known.manifest_id):
            return None
        chain.append(found.manifest)
    oldest = chain[-1]
    same = oldest.manifest_id == known.manifest_id
    return None if same and oldest.revision_ulid != known.revision_ulid else chain


async def _readable(store: ObjectStore, path: str) -> StoredManifest | None:
    """Return a manifest, None if it is gone or damaged: what was published before the wanted one is not needed."""
    try:
        return await read_manifest(store, path)
    except DamagedObject:
        return None


def _base_of(manifest: Manifest) -> str | None:
    return manifest.base_snapshot.snapshot_id


async def advance(store: ObjectStore, state: State, digest: Digest, known: Manifest, wanted: Manifest) -> int | None:
    """Bring `state` and its `digest` from revision `known` to `wanted`; None if they have to be loaded anew.

    Returns how many rows the deltas in between had. What was folded must be accepted or rolled back. After None,
    state and digest are worth nothing; after an error they are as they were. The digest is kept from the rows
    themselves and compared with the one that `wanted` records, so that no wrong lineage goes unseen. Raises as
    `deltas_between`.
    """
    deltas = await deltas_between(store, known, wanted)
    if deltas is None or wanted.springline is None:
        return None
    ours = wanted.springline
    try:
        contents = await each(lambda delta: read_delta(store, delta), deltas, concurrency=_DELTAS_TOGETHER)
    except DamagedObject:
        return None  # It may be one that `wanted` itself does not name.

    def work() -> bool:
        for content in contents:
            digest.apply(_changes(state, content))
            lay_on(state, content)
        state.last_event_id = wanted.watermarks.last_committed_event_id or ""
        state.frontier_ms = ours.retention_frontier_ms
        state.accept()
        digest.accept()
        return digest.tables() == ours.digest.tables

    return sum(content.size for content in contents) if await in_thread(work) else None


def _changes(state: State, content: DeltaRows) -> dict[str, list[Change]]:
    """Return what laying `content` on `state` changes."""
    changes: dict[str, list[Change]] = {}
    for name, rows in content.rows.items():
        key_of = TABLES[name].key_of
        changes[name] = [Change(key := key_of(row), state.row(name, key), row) for row in rows]
    for name, keys in content.deleted.items():
        before = ((key, state.row(name, key)) for key in keys)
        changes.setdefault(name, []).extend(Change(key, row, None) for key, row in before if row is not None)
    return changes
