"""Writing the next revision: a round's changes as delta or base, the index, and the manifest that names them.

All of it is stored before the pointer moves, and none of it is visible until then. Other bytes under a manifest id are
an orphan, left by a writer that never published it: the next free id is used (docs/protocol.md#free-names).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass

from msgspec.structs import replace

from springline.ledger.timestamps import format_ms
from springline.paths import ObjectPath, canonical_ulid_event, orchestration_manifest
from springline.projection.config import FoldConfig
from springline.projection.digest import Digest
from springline.projection.schema import TABLES
from springline.projection.state import State
from springline.projection.tables import RowChange
from springline.published.bases import write_base
from springline.published.cached_state import KEYS_KEPT_ROWS, CachedState, NextRevision
from springline.published.deltas import DeltaRows, Keys, merged_rows, rows_of_changes, write_delta
from springline.published.files import Artifact
from springline.published.folding import Refolded
from springline.published.head import write_manifest
from springline.published.index import EventsIndex
from springline.published.index_files import AcceptedEvent, extend_index
from springline.published.manifest import (
    SCHEMA_VERSION,
    Adopted,
    BaseSnapshot,
    Checkpoint,
    ConfigSection,
    Delta,
    DigestSection,
    EventRange,
    EventsSection,
    ForeignRevisions,
    L0Limits,
    Manifest,
    SpringlineSection,
    Watermarks,
)
from springline.published.merge import limits_for, plan_merge
from springline.storage.port import ObjectStore
from springline.storage.threads import in_thread
from springline.storage.together import together


@dataclass(frozen=True, slots=True)
class Succession:
    """The predecessor, names and rounds of a revision; the caller chooses them before it writes.

    `follows`: the manifest id of the published revision, 20 zeros if there is none; `has_pointer`: a pointer names it.
    `revision`, `delta_id`, `snapshot_id`: ULIDs of its own. `foreign`: the reference's revisions whose events are still
    to be ingested.
    """

    follows: str
    has_pointer: bool
    epoch: int
    rounds_folded: int
    revision: str
    delta_id: str
    snapshot_id: str
    now_ms: int
    foreign: Sequence[ForeignRevisions] = ()

    @property
    def previous_path(self) -> ObjectPath | None:
        """The path of the predecessor's manifest."""
        return orchestration_manifest(self.follows) if self.has_pointer else None


@dataclass(frozen=True, slots=True)
class _Layers:
    """The parts of a state: a base, deltas on it, and the checkpoints to refold from."""

    base: BaseSnapshot
    deltas: list[Delta]
    limits: L0Limits
    digest: Digest
    delta_keys: dict[str, Keys]
    checkpoints: list[Checkpoint]
    bridge: Delta | None = None
    new_base: bool = False


@dataclass(frozen=True, slots=True)
class WrittenRevision:
    """A stored revision, with the SHA-256 (hex) of its manifest."""

    revision: NextRevision
    sha256: str
    is_base: bool


async def write_revision(
    store: ObjectStore, config: FoldConfig, succession: Succession, events: Sequence[AcceptedEvent], warm: CachedState
) -> WrittenRevision:
    """Write the revision of the state with the events folded on top of it, ascending by id.

    Safe to repeat with the same names: the same objects are written. Raises `DamagedObject` and the store's errors.
    """
    changed = await in_thread(lambda: _changed(warm))
    layers, index = await together(_layers(store, succession, events, warm, changed), _index(store, events, warm))
    own = not warm.lacks_own
    written = await _finish(store, config, succession, events, warm, warm.state, layers, index, has_own=own)
    return WrittenRevision(
        dataclasses.replace(written.revision, rows_changed=changed.content.size), written.sha256, written.is_base
    )


async def write_refolded(
    store: ObjectStore,
    config: FoldConfig,
    succession: Succession,
    events: Sequence[AcceptedEvent],
    warm: CachedState,
    refolded: Refolded,
) -> WrittenRevision:
    """Write the revision of a refolded state: a base that replaces base and deltas. As `write_revision`."""
    state, digest = refolded.state, refolded.digest
    base, index = await together(_base(store, succession, state, digest), _index(store, events, warm))
    layers = _Layers(base, [], _limits(digest), digest, {}, refolded.checkpoints, new_base=True)
    return await _finish(store, config, succession, events, warm, state, layers, index, has_own=True)


@dataclass(frozen=True, slots=True)
class _Changed:
    """The changes of a round, and the digest of the state after it."""

    changes: Mapping[str, Sequence[RowChange]]
    content: DeltaRows
    digest: Digest


def _changed(warm: CachedState) -> _Changed:
    changes, digest = warm.state.changes(), warm.digest.copy()
    digest.apply(changes)
    return _Changed(changes, rows_of_changes(changes), digest)


async def _layers(
    store: ObjectStore, succession: Succession, events: Sequence[AcceptedEvent], warm: CachedState, changed: _Changed
) -> _Layers:
    """Write the delta or base that the merge plan decides on."""
    manifest, content, digest = warm.manifest, changed.content, changed.digest
    checkpoints = [] if warm.ours is None else warm.ours.checkpoints
    if manifest is not None and warm.ours is None:
        base = await _base(store, succession, warm.state, digest)
        return _Layers(base, [], _limits(digest), digest, {}, checkpoints, new_base=True)
    base = BaseSnapshot() if manifest is None else manifest.base_snapshot
    deltas = [] if manifest is None else manifest.l0_deltas
    limits = limits_for(0) if manifest is None else manifest.l0_limits
    if content.size == 0:
        return _Layers(base, deltas, limits, digest, warm.delta_keys, checkpoints)
    plan = plan_merge([delta.rows for delta in deltas], content.size, limits)
    if plan.kind == "base":
        base, bridge = await together(
            _base(store, succession, warm.state, digest),
            _delta(store, succession, content, digest, [_range_of(events)]),
        )
        return _Layers(base, [], _limits(digest), digest, {}, checkpoints, bridge, new_base=True)
    cut = len(deltas) - plan.deltas
    kept, merged = deltas[:cut], deltas[cut:]
    if merged:
        content = await merged_rows(store, warm.state, merged, changed.changes, warm.delta_keys)
    delta = await _delta(store, succession, content, digest, [*(one.event_range for one in merged), _range_of(events)])
    keys = {one.delta_id: warm.delta_keys[one.delta_id] for one in kept if one.delta_id in warm.delta_keys}
    if content.size <= KEYS_KEPT_ROWS:
        keys[delta.delta_id] = content.keys()
    return _Layers(base, [*kept, delta], limits, digest, keys, checkpoints)


def _base(store: ObjectStore, succession: Succession, state: State, digest: Digest) -> Awaitable[BaseSnapshot]:
    return write_base(store, succession.snapshot_id, state, digest, published_ms=succession.now_ms)


def _delta(
    store: ObjectStore, succession: Succession, content: DeltaRows, digest: Digest, ranges: Sequence[EventRange]
) -> Awaitable[Delta]:
    first, last = min(one.from_event for one in ranges), max(one.to_event for one in ranges)
    events = EventRange(first, last, sum(one.event_count for one in ranges))
    return write_delta(store, succession.delta_id, content, digest, events=events, created_ms=succession.now_ms)


def _range_of(events: Sequence[AcceptedEvent]) -> EventRange:
    return EventRange(events[0].event_id, events[-1].event_id, len(events))


def _limits(digest: Digest) -> L0Limits:
    return limits_for(sum(digest.rows(name) for name in TABLES))


async def _index(
    store: ObjectStore, events: Sequence[AcceptedEvent], warm: CachedState
) -> tuple[EventsIndex, Artifact | None]:
    if not events:
        return warm.index, None if warm.ours is None else warm.ours.events.index
    extended = await extend_index(store, warm.index, events, at_hand=warm.tail)
    return extended.index, extended.artifact


async def _finish(
    store: ObjectStore,
    config: FoldConfig,
    succession: Succession,
    events: Sequence[AcceptedEvent],
    warm: CachedState,
    state: State,
    layers: _Layers,
    index: tuple[EventsIndex, Artifact | None],
    *,
    has_own: bool,
) -> WrittenRevision:
    """Write the manifest under the first id after the head's that is free, or that an earlier attempt has used."""
    section = SpringlineSection(
        config=ConfigSection(config.fingerprint, config.retention_days),
        digest=DigestSection.of(layers.digest.tables(), has_own=has_own),
        events=EventsSection(index[0].count, index[1]),
        rounds_folded=succession.rounds_folded,
        retention_frontier_ms=state.frontier_ms,
        checkpoints=layers.checkpoints,
        bridge=layers.bridge,
        adopted=_adopted(warm),
        foreign=list(succession.foreign),
    )
    template = Manifest(
        manifest_id=succession.follows,
        epoch=succession.epoch,
        previous_manifest_path=succession.previous_path,
        schema_version=SCHEMA_VERSION,
        revision_ulid=succession.revision,
        published_at=format_ms(succession.now_ms),
        watermarks=_watermarks(succession, events, warm, state),
        base_snapshot=layers.base,
        l0_deltas=layers.deltas,
        l0_count=len(layers.deltas),
        l0_limits=layers.limits,
        springline=section,
    )
    found = await write_manifest(store, template, is_base=layers.new_base)
    revision = NextRevision(found.path, found.manifest, layers.digest, index[0], layers.delta_keys)
    return WrittenRevision(revision, found.sha256, layers.new_base)


def _adopted(warm: CachedState) -> Adopted | None:
    if warm.ours is not None:
        return warm.ours.adopted
    return None if warm.path is None else Adopted(warm.path, warm.last_event_id)


def _watermarks(succession: Succession, events: Sequence[AcceptedEvent], warm: CachedState, state: State) -> Watermarks:
    before = Watermarks() if warm.manifest is None else warm.manifest.watermarks
    if not events:
        return before
    last = state.last_event_id
    if last == before.last_committed_event_id:
        return replace(before, last_processed_at=format_ms(succession.now_ms))
    return Watermarks(last, last, last, canonical_ulid_event(last), format_ms(succession.now_ms))
