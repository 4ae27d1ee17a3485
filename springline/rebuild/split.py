"""Between reading and folding: what all parts say together (docs/protocol.md#rebuild)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from springline.paths import (
    ObjectPath,
    rebuild_segment_receipt,
    rebuild_shards,
    rebuild_slice,
    rebuild_slice_receipt,
    relative_path,
)
from springline.projection.sharding import Links
from springline.published.files import Artifact, write_file
from springline.published.head import read_manifest
from springline.published.index_files import count_through, read_node
from springline.published.segments import read_segment
from springline.rebuild.accepted import ByRounds
from springline.rebuild.fold import overlapping
from springline.rebuild.later import index_of
from springline.rebuild.messages import RebuildPlan
from springline.rebuild.parts import (
    WORK_AGAIN,
    PartReceipt,
    Split,
    encode_receipt,
    events_of,
    read_list,
    read_receipt,
    read_section,
)
from springline.sequencer.accepted import walk_rounds
from springline.sequencer.rounds import StoredRound
from springline.storage.damage import DamagedObject
from springline.storage.parallel import each
from springline.storage.port import ObjectStore

GAPS_KEPT = 1_000


def receipts_of(plan: RebuildPlan, not_whole: Mapping[int, str]) -> list[ObjectPath]:
    """Return where the receipts of all parts are, slices first; `not_whole` names those that are elsewhere."""
    own = [
        *(rebuild_slice_receipt(plan.work_id, number) for number in range(plan.slices)),
        *(rebuild_segment_receipt(plan.work_id, number) for number in range(plan.segments)),
    ]
    return [relative_path(not_whole[number]) if number in not_whole else path for number, path in enumerate(own)]


async def read_parts(store: ObjectStore, receipts: Sequence[str]) -> list[PartReceipt]:
    """Return the receipts of all parts. Raises `DamagedObject` if one is gone."""

    async def read(path: str) -> PartReceipt:
        receipt = await read_receipt(store, relative_path(path), PartReceipt)
        if receipt is None:
            raise DamagedObject(path, "is gone", WORK_AGAIN)
        return receipt

    return await each(read, receipts)


async def split_work(store: ObjectStore, plan: RebuildPlan, not_whole: Mapping[int, str]) -> tuple[Split, Artifact]:
    """Write the record that all shards read: whose runs cannot be folded apart, and which events are in no list."""
    receipts = receipts_of(plan, not_whole)
    parts = await read_parts(store, receipts)
    links = Links()
    for part in parts:
        links.merge(part.links)
    gaps = await find_gaps(store, plan, parts)
    split = Split(
        shards=plan.shards,
        events=sum(part.events for part in parts),
        receipts=list(receipts),
        odd=sorted(links.odd),
        gap_count=len(gaps),
        gaps=gaps[:GAPS_KEPT],
    )
    return split, await write_file(store, encode_receipt(split), lambda digest: rebuild_shards(plan.work_id, digest))


async def read_split(store: ObjectStore, work_id: str, content_hash: str) -> Split:
    """Return the record of a split. Raises `DamagedObject` if it is gone or cannot be read."""
    path = rebuild_shards(work_id, content_hash)
    split = await read_receipt(store, path, Split)
    if split is None:
        raise DamagedObject(path, "is gone", WORK_AGAIN)
    return split


def split_hash(artifact: Artifact) -> str:
    """Return the hash in the name of a split's record."""
    return artifact.sha256[:12]


async def find_gaps(store: ObjectStore, plan: RebuildPlan, parts: Sequence[PartReceipt]) -> list[str]:
    """Return the ids of accepted events that are not listed, ascending, up to the last one that is.

    Behind them the paths of objects that would say more of what was accepted and cannot be read. What was accepted
    above the last id, or by a later round than the list knows of, came after the list was made: it is folded on top
    (`springline.rebuild.later`). For a catch-up those above its floor have no published index yet, so there is nothing
    to compare. Raises `DamagedObject` if the index was damaged since the rebuild was planned.
    """
    if plan.floor is not None:
        return []
    if plan.accepted_path is not None:
        known = ByRounds(store, plan.accepted_path)
        accepted = await known.ids_through(plan.last_listed)
        are_all = _are_apart(parts) and _known(parts) == len(accepted)
        missing = [] if are_all else await _not_read(store, accepted, parts)
        return [*await _gaps_among(store, plan, missing), *await known.holes()]
    if plan.manifest_path is None:
        return []
    found = await read_manifest(store, plan.manifest_path)
    index = await index_of(store, None if found is None else found.manifest)
    if index is None or (_are_apart(parts) and await count_through(store, index, plan.last_listed) == _known(parts)):
        return []
    refs = [*index.packs, *index.segments]
    for listed in await each(lambda ref: read_node(store, ref), index.nodes):
        refs += listed
    read = {ref.path for part in parts if (ref := part.segment) is not None}
    accepted = {event_id for event_id, _ in index.tail}
    for ref in refs:
        if ref.path not in read:
            accepted.update(event_id for event_id, _ in await read_segment(store, ref))
    return await _gaps_among(store, plan, await _not_read(store, accepted, parts))


async def _gaps_among(store: ObjectStore, plan: RebuildPlan, missing: Sequence[str]) -> list[str]:
    """Return those of accepted events that no part has, and that the list should have."""
    last = plan.last_listed
    not_listed = await _not_listed(store, plan, missing)
    return await _not_later(store, plan, [one for one in not_listed if last is None or one < last])


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
        async for some in walk_rounds(store, plan.rounds_folded):
            for one in some:
                if isinstance(one, StoredRound):
                    left.difference_update(event.event_id for event in one.record.events)
    return sorted(left)


async def _not_read(store: ObjectStore, accepted: set[str], parts: Sequence[PartReceipt]) -> list[str]:
    """Return which of some events no part has."""
    for part in parts:
        if not accepted:
            break
        segment = part.segment
        if segment is None or not any(segment.first_id <= one <= segment.last_id for one in accepted):
            continue
        for section in part.sections:
            accepted.difference_update(one.event.event_id for one in events_of(await read_section(store, section)))
    return sorted(accepted)
