"""Files that rebuilds under way need: they are not published yet, and will be when the rebuild is done."""

from __future__ import annotations

import re

from springline import paths
from springline.paths import ObjectPath, StateLayer
from springline.published.index import DamagedIndex, decode_index
from springline.published.index_files import read_node
from springline.sequencer.garbage.reach import named_by_index
from springline.storage.damage import DamagedObject
from springline.storage.port import ObjectStore
from springline.storage.together import each, in_batches

_TOGETHER = 200
_NODES_TOGETHER = 8
_IN_JSON = re.compile(
    rb'"((?:%s)/[^"\\]+)"'
    % b"|".join(
        re.escape(prefix.encode())
        for prefix in (
            paths.orchestration_layer_prefix(StateLayer.BASE),
            paths.ledger_segments_prefix(),
            paths.ledger_index_prefix(),
        )
    )
)


async def find_pinned(store: ObjectStore) -> set[str]:
    """Return the paths of bases, segments and index objects that the work folders of rebuilds name. Lists these.

    An index that cannot be read is skipped, because the rebuild cannot use it either. Raises the store's errors.
    """
    pinned: set[str] = set()
    async for batch in in_batches(store.list(paths.rebuild_work_prefix()), _TOGETHER):
        pinned |= await _named_in(store, [info.path for info in batch if info.path.endswith(".json")])
    indexes = [ObjectPath(path) for path in sorted(pinned) if _is_index(path)]
    for path, data in zip(indexes, await store.read_many(indexes), strict=True):
        if data is not None:
            pinned |= await _named_by(store, path, data)
    return pinned


def _is_index(path: str) -> bool:
    name = paths.parse_ledger_index(path)
    return name is not None and not name.node


async def _named_by(store: ObjectStore, path: str, data: bytes) -> set[str]:
    try:
        index = decode_index(data, path)
        nodes = await each(lambda ref: read_node(store, ref), index.nodes, concurrency=_NODES_TOGETHER)
    except (DamagedIndex, DamagedObject):
        return set()
    return named_by_index(index) | {ref.path for segments in nodes for ref in segments}


async def _named_in(store: ObjectStore, documents: list[ObjectPath]) -> set[str]:
    found = await store.read_many(documents)
    return {path.decode() for data in found if data is not None for path in _IN_JSON.findall(data)}
