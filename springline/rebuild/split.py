"""Between reading and folding: what all parts say together (docs/protocol.md#rebuild)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from springline.paths import ObjectPath, rebuild_segment_receipt, rebuild_shards, rebuild_slice_receipt, relative_path
from springline.projection.sharding import Links
from springline.published.files import Artifact, write_file
from springline.rebuild.gaps import find_gaps
from springline.rebuild.messages import RebuildPlan
from springline.rebuild.receipts import WORK_AGAIN, PartReceipt, Split, encode_receipt, read_receipt
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
