"""Which objects of a workspace's published state must stay, and which are superseded (docs/protocol.md#garbage).

All are reached from the pointer: the last revisions, the checkpoints, the manifest taken over from the reference, and
those of its revisions whose events are still to be ingested. Nothing is listed here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from springline import paths
from springline.ledger.timestamps import NS_PER_MS, parse_timestamp
from springline.paths import ObjectPath
from springline.published.files import Artifact
from springline.published.head import PublishedHead, StoredManifest, parse_manifest, read_head, read_manifest
from springline.published.index import EventsIndex
from springline.published.index_files import read_index, read_node
from springline.published.manifest import BaseSnapshot, Delta, ForeignRevisions, Manifest, SpringlineSection
from springline.storage.port import ObjectStore
from springline.storage.together import each

READ_AHEAD = 32
_NODES_TOGETHER = 8


@dataclass(frozen=True, slots=True)
class Keep:
    """The revisions to keep: the last `revisions`, and all published since `since_ms` (None: no others)."""

    revisions: int
    since_ms: int | None = None


@dataclass(slots=True)
class Reach:
    """Paths: `kept` must stay; `superseded` were named by older revisions, and are named by none that must stay."""

    head: PublishedHead
    rounds_folded: int
    kept: set[str] = field(default_factory=set)
    superseded: set[str] = field(default_factory=set)


async def find_reach(store: ObjectStore, keep: Keep, *, most_superseded: int = 0) -> Reach | None:
    """Return the paths that must stay, and those that up to `most_superseded` older revisions name beyond these.

    None if we have published nothing: then all objects are the reference's to judge. If the reference published on top
    of us, everything back to our last revision stays. Raises `DamagedObject` if a revision, index or node that stays
    cannot be read, because then it is unknown what it names; and the store's errors.
    """
    head = await read_head(store)
    if head is None:
        return None
    revisions = _Revisions(store, READ_AHEAD if most_superseded else min(keep.revisions, READ_AHEAD))
    at: StoredManifest | None = StoredManifest(head.manifest_path, head.manifest, head.manifest_sha256)
    stay: list[StoredManifest] = []
    ours: SpringlineSection | None = None
    while at is not None and (ours is None or len(stay) < keep.revisions or _is_young(at.manifest, keep)):
        stay.append(at)
        ours = at.manifest.springline if ours is None else ours
        at = await revisions.before(at.manifest)
    if ours is None:
        return None
    reach = Reach(head, ours.rounds_folded, await _needs(store, stay))
    for _ in range(most_superseded):
        if at is None:
            break
        reach.superseded |= {at.path, *files_of(at.manifest)}
        at = await revisions.before(at.manifest)
    reach.superseded -= reach.kept
    return reach


def _is_young(manifest: Manifest, keep: Keep) -> bool:
    return keep.since_ms is not None and parse_timestamp(manifest.published_at) // NS_PER_MS >= keep.since_ms


class _Revisions:
    """Manifests backwards along their lineage, read in batches: predecessors mostly have the ids just below."""

    def __init__(self, store: ObjectStore, ahead: int) -> None:
        self._store = store
        self._ahead = ahead
        self._read: dict[str, bytes | None] = {}

    async def before(self, manifest: Manifest) -> StoredManifest | None:
        """Return the predecessor of a revision; None if it is gone, or there never was one."""
        path = manifest.previous_manifest_path
        if path is None:
            return None
        manifest_id = paths.parse_orchestration_manifest(path)
        if manifest_id is None:
            return await read_manifest(self._store, path)
        if path not in self._read:
            last = int(manifest_id)
            numbers = range(last, max(last - self._ahead, -1), -1)
            guessed = [paths.orchestration_manifest(paths.orchestration_manifest_id(number)) for number in numbers]
            self._read = dict(zip(guessed, await self._store.read_many(guessed), strict=True))
        data = self._read.pop(path)
        return None if data is None else parse_manifest(ObjectPath(path), data)


async def _needs(store: ObjectStore, stay: list[StoredManifest]) -> set[str]:
    """Return the paths of revisions that stay and of all that they name, directly or not."""
    kept: set[str] = set()
    indexes: dict[str, Artifact] = {}
    waiting = [(one.path, one.manifest) for one in stay]
    seen: set[str] = {path for path, _ in waiting}
    while waiting:
        path, manifest = waiting.pop()
        kept |= {path, *files_of(manifest)}
        ours = manifest.springline
        if ours is None:
            continue
        if ours.events.index is not None:
            indexes[ours.events.index.path] = ours.events.index
        named = {one.manifest_path for one in ours.checkpoints}
        named |= set() if ours.adopted is None else {ours.adopted.manifest_path}
        for other in sorted(named - seen):
            seen.add(other)
            found = await read_manifest(store, other)
            if found is not None:
                waiting.append((found.path, found.manifest))
        for revisions in ours.foreign:
            if revisions.head not in seen:
                seen.add(revisions.head)
                kept |= await _between(store, revisions)
    return kept | await _in_indexes(store, indexes)


async def _between(store: ObjectStore, revisions: ForeignRevisions) -> set[str]:
    """Return the paths of the reference's manifests whose events are still to be ingested, without their files."""
    found: set[str] = set()
    at: str | None = revisions.head
    while at is not None and at != revisions.back_to and at not in found:
        stored = await read_manifest(store, at)
        found.add(at)
        at = None if stored is None else stored.manifest.previous_manifest_path
    return found


async def _in_indexes(store: ObjectStore, indexes: dict[str, Artifact]) -> set[str]:
    """Return the paths of all nodes, segments and packs that some indexes name."""
    found: set[str] = set()
    nodes_seen: set[str] = set()
    for index in await each(lambda artifact: read_index(store, artifact), indexes.values()):
        nodes = [ref for ref in index.nodes if ref.path not in nodes_seen]
        nodes_seen |= {ref.path for ref in nodes}
        for segments in await each(lambda ref: read_node(store, ref), nodes, concurrency=_NODES_TOGETHER):
            found |= {ref.path for ref in segments}
        found |= named_by_index(index)
    return found


def named_by_index(index: EventsIndex) -> set[str]:
    """Return the paths of the nodes, segments and packs that an index names itself."""
    return {ref.path for refs in (index.nodes, index.segments, index.packs) for ref in refs}


def files_of(manifest: Manifest) -> set[str]:
    """Return the paths of the files that a revision names: of its base, its deltas, its bridge, and its index."""
    found = set(_files(manifest.base_snapshot))
    for delta in manifest.l0_deltas:
        found.update(_files(delta))
    ours = manifest.springline
    if ours is not None:
        found.update(() if ours.bridge is None else _files(ours.bridge))
        found.update(() if ours.events.index is None else [ours.events.index.path])
    return found


def _files(layer: BaseSnapshot | Delta) -> Iterator[str]:
    yield from (file.path for file in layer.files())
    yield from (file.path for file in layer.all_buckets())
    if isinstance(layer, Delta):
        yield from (file.path for file in layer.all_deletions())
