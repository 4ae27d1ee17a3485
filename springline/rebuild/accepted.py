"""What the ledger has accepted under each id, as the published index says: a listed event must have these bytes.

An object that was altered and is still an event tells nobody. Where an index can be read, it does.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from springline.ledger.request import RefusalReason
from springline.projection.index import EventsIndex
from springline.rebuild.later import index_of
from springline.sequencer.damage import DamagedObject
from springline.sequencer.events_index import read_node
from springline.sequencer.foreign import Verdict
from springline.sequencer.head import read_manifest
from springline.sequencer.index_lookup import SegmentCache, contains
from springline.sequencer.parallel import each
from springline.storage.port import ObjectStore


class Accepted:
    """The events of an index. Without one nothing is known, and nothing is refused."""

    def __init__(self, store: ObjectStore, index: EventsIndex | None) -> None:
        self._store = store
        self._index = index
        self._cache = SegmentCache()

    @classmethod
    async def of(cls, store: ObjectStore, manifest_path: str | None) -> Accepted:
        """Return what the manifest at `manifest_path` says, as far as it can be read."""
        try:
            found = await read_manifest(store, manifest_path) if manifest_path is not None else None
        except DamagedObject:
            found = None
        return cls(store, await index_of(store, None if found is None else found.manifest))

    async def hashes(self, event_ids: Iterable[str]) -> dict[str, str]:
        """Return the SHA-256 (hex) of those events that were accepted, as far as the index can be read."""
        if self._index is None:
            return {}
        try:
            return await contains(self._store, self._index, event_ids, cache=self._cache)
        except DamagedObject:
            return {}

    async def has_segment(self, path: str) -> bool:
        """Say whether a segment is one of the index's own: then all its events were accepted as they are."""
        if self._index is None:
            return False
        if any(ref.path == path for ref in (*self._index.segments, *self._index.packs)):
            return True
        try:
            nodes = await each(lambda ref: read_node(self._store, ref), self._index.nodes)
        except DamagedObject:
            return False
        return any(ref.path == path for segments in nodes for ref in segments)


def judge_hash(body: bytes, accepted: str | None) -> Verdict | None:
    """Return why a body is not that of its id, None if it is, or if nobody knows."""
    if accepted is None or hashlib.sha256(body).hexdigest() == accepted:
        return None
    message = f"the ledger has accepted another body under this id, with the SHA-256 {accepted}"
    return Verdict(RefusalReason.OTHER_BODY, message)
