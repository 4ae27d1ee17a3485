"""Gaps: events that the ledger has accepted and a rebuild manifest does not list (design 5)."""

from __future__ import annotations

from collections.abc import Sequence

from springline.paths import rebuild_slice
from springline.projection.index import EventsIndex, SegmentRef
from springline.rebuild.fold import overlapping
from springline.rebuild.later import index_of, rounds_after
from springline.rebuild.orders import RebuildPlan
from springline.rebuild.read import read_list
from springline.rebuild.receipts import PartReceipt
from springline.rebuild.sections import events_of, read_section
from springline.sequencer.damage import DamagedObject
from springline.sequencer.events_index import read_node
from springline.sequencer.head import read_manifest
from springline.sequencer.index_lookup import count_through
from springline.sequencer.parallel import each
from springline.sequencer.segments import read_segment
from springline.storage.port import ObjectStore


async def find_gaps(store: ObjectStore, plan: RebuildPlan, parts: Sequence[PartReceipt]) -> list[str]:
    """Return the ids of accepted events that are not listed, ascending, up to the last one that is.

    What was accepted above that, or by a later round than the list knows of, came after the list was made: it is
    folded on top (`springline.rebuild.later`). For a catch-up those above its floor have no published index yet, so
    there is nothing to compare. What cannot be read of the old index is no gap: a full rebuild is for the case that
    all of it is lost.
    """
    if plan.manifest_path is None or plan.floor is not None:
        return []
    last = plan.last_listed
    try:
        found = await read_manifest(store, plan.manifest_path)
        index = await index_of(store, None if found is None else found.manifest)
        if index is None or (_are_apart(parts) and await count_through(store, index, last) == _known(parts)):
            return []
        refs = [*index.packs, *index.segments]
        for listed in await each(lambda ref: read_node(store, ref), index.nodes):
            refs += listed
    except DamagedObject:
        return []
    known = {ref.path for part in parts if (ref := part.segment) is not None}
    missing = await _missing(store, index, [ref for ref in refs if ref.path not in known], parts)
    missing = await _not_listed(store, plan, missing)
    missing = [event_id for event_id in missing if last is None or event_id < last]
    return await _not_later(store, plan, missing)


def _known(parts: Sequence[PartReceipt]) -> int:
    return sum(part.known for part in parts)


def _are_apart(parts: Sequence[PartReceipt]) -> bool:
    """Say whether no event can be in two parts, so that what they know adds up."""
    return all(part.whole for part in parts) and all(len(group) == 1 for group in overlapping(parts))


async def _not_listed(store: ObjectStore, plan: RebuildPlan, event_ids: Sequence[str]) -> list[str]:
    """Return those of some events that no slice lists: one that is listed and cannot be read is named by its part."""
    left = set(event_ids)
    for number in range(plan.slices if left else 0):
        left.difference_update(await read_list(store, rebuild_slice(plan.work_id, number)))
    return sorted(left)


async def _not_later(store: ObjectStore, plan: RebuildPlan, event_ids: Sequence[str]) -> list[str]:
    """Return those of some events that were accepted before the list was made."""
    left = set(event_ids)
    if left:
        async for records in rounds_after(store, plan.rounds_folded):
            left.difference_update(event.event_id for one in records for event in one.record.events)
    return sorted(left)


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
            accepted.difference_update(one.event.event_id for one in events_of(await read_section(store, section)))
    return sorted(accepted)
