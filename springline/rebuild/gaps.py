"""Gaps: events that the ledger has accepted and a rebuild manifest does not list (design 5)."""

from __future__ import annotations

from collections.abc import Sequence

from springline.ledger.segment import event_id_of
from springline.projection.index import EventsIndex, SegmentRef
from springline.rebuild.orders import RebuildPlan
from springline.rebuild.receipts import PartReceipt
from springline.rebuild.sections import read_section
from springline.sequencer.damage import DamagedObject
from springline.sequencer.events_index import read_index, read_node
from springline.sequencer.head import read_manifest
from springline.sequencer.parallel import each
from springline.sequencer.segments import read_segment
from springline.storage.port import ObjectStore


async def find_gaps(store: ObjectStore, plan: RebuildPlan, parts: Sequence[PartReceipt]) -> list[str]:
    """Return the ids of accepted events that are in no part, ascending, up to the last one that is in any.

    What was accepted above that came after the list was made: it is folded on top (`springline.rebuild.later`).
    For a catch-up those above its floor have no published index yet, so there is nothing to compare. What cannot be
    read of the old index is no gap: a full rebuild is for the case that all of it is lost.
    """
    if plan.manifest_path is None or plan.floor is not None:
        return []
    try:
        found = await read_manifest(store, plan.manifest_path)
        ours = found.manifest.springline if found is not None else None
        if ours is None:
            return []
        index = await read_index(store, ours.events.index)
        refs = [*index.packs, *index.segments]
        for listed in await each(lambda ref: read_node(store, ref), index.nodes):
            refs += listed
    except DamagedObject:
        return []
    known = {ref.path for part in parts if (ref := part.segment) is not None}
    last = max((ref.last_id for part in parts if (ref := part.segment) is not None), default=None)
    missing = await _missing(store, index, [ref for ref in refs if ref.path not in known], parts)
    return missing if last is None else [event_id for event_id in missing if event_id < last]


async def _missing(
    store: ObjectStore, index: EventsIndex, refs: Sequence[SegmentRef], parts: Sequence[PartReceipt]
) -> list[str]:
    """Return what the index names outside the parts' own segments, and no part has."""
    accepted = {event_id for event_id, _ in index.tail}
    for ref in refs:
        try:
            accepted.update(event_id for event_id, _ in await read_segment(store, ref))
        except DamagedObject:
            continue
    for part in parts:
        if not accepted:
            break
        segment = part.segment
        if segment is None or not any(segment.first_id <= one <= segment.last_id for one in accepted):
            continue
        for section in part.sections:
            accepted.difference_update(map(event_id_of, await read_section(store, section)))
    return sorted(accepted)
