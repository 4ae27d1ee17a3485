"""Where to fold from again when an event comes late: the newest checkpoint below it.

See docs/protocol.md#state-of-a-set.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from springline.projection.config import FoldConfig
from springline.projection.digest import Digest
from springline.projection.state import State
from springline.published.head import read_manifest
from springline.published.index import EventsIndex
from springline.published.index_files import SegmentCache, count_through
from springline.published.load import LoadedState, load_state
from springline.published.manifest import Checkpoint, Manifest, Springline, valid_below
from springline.storage.damage import DamagedObject
from springline.storage.port import ObjectStore


@dataclass(frozen=True, slots=True)
class RefoldPoint:
    """A state to fold on from `state.last_event_id`, and the checkpoint that it comes from.

    Without a checkpoint it is the empty state, or the one that was taken over from the reference. `skipped`: newer
    checkpoints that could not be used, which costs time and nothing else.
    """

    state: State
    digest: Digest
    checkpoint: Checkpoint | None = None
    skipped: list[DamagedObject] = field(default_factory=list)


async def load_below(
    store: ObjectStore,
    ours: Springline,
    index: EventsIndex,
    event_id: str,
    config: FoldConfig,
    *,
    cache: SegmentCache | None = None,
) -> RefoldPoint:
    """Return the newest state without the event `event_id` that there is to fold on.

    `ours` is the section of the revision that the event comes late to, `index` its accepted events, with or without
    the late ones. A checkpoint counts only if it holds as many events as the index names up to its watermark; one
    that is damaged or does not fit is passed over. Raises `DamagedObject` if the state taken over from the reference
    is damaged, and what the store does.
    """
    skipped: list[DamagedObject] = []
    for checkpoint in reversed(valid_below(ours.checkpoints, event_id)):
        try:
            loaded = await _load(store, checkpoint, index, config, cache)
        except DamagedObject as error:
            skipped.append(error)
        else:
            return RefoldPoint(loaded.state, loaded.digest, checkpoint, skipped)
    if ours.adopted is not None:
        taken_over = await _manifest_of(store, ours.adopted.manifest_path)
        loaded = await load_state(store, taken_over, config)
        return RefoldPoint(loaded.state, loaded.digest, None, skipped)
    return RefoldPoint(State(config), Digest(), None, skipped)


async def _load(
    store: ObjectStore, checkpoint: Checkpoint, index: EventsIndex, config: FoldConfig, cache: SegmentCache | None
) -> LoadedState:
    manifest = await _manifest_of(store, checkpoint.manifest_path)
    ours = manifest.springline
    if ours is None or manifest.l0_deltas or manifest.watermarks.last_committed_event_id != checkpoint.watermark:
        raise DamagedObject(
            checkpoint.manifest_path, f"is not a base at {checkpoint.watermark}, as a checkpoint must be"
        )
    if ours.config.fingerprint != config.fingerprint:
        raise DamagedObject(checkpoint.manifest_path, "was folded under another configuration")
    if (found := await count_through(store, index, checkpoint.watermark, cache=cache)) != checkpoint.events:
        raise DamagedObject(
            checkpoint.manifest_path, f"holds {checkpoint.events} events, but {found} lie up to its watermark"
        )
    return await load_state(store, manifest, config)


async def _manifest_of(store: ObjectStore, path: str) -> Manifest:
    found = await read_manifest(store, path)
    if found is None:
        raise DamagedObject(path, "is missing")
    return found.manifest
