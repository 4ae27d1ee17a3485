"""The manifest of a rebuilt base alone: what it holds, whether it is published as it is or folded on."""

from __future__ import annotations

from springline.paths import canonical_ulid_event, orchestration_manifest
from springline.projection.config import FoldConfig
from springline.projection.digest import state_digest
from springline.published.manifest import (
    SCHEMA_VERSION,
    ConfigSection,
    DigestSection,
    EventsSection,
    ForeignRevisions,
    Manifest,
    Springline,
    Watermarks,
)
from springline.published.merge import limits_for
from springline.rebuild.assemble import RebuiltBase
from springline.sequencer.messages import Head


def manifest_of(rebuilt: RebuiltBase, config: FoldConfig, head: Head, *, revision: str, rounds_folded: int) -> Manifest:
    """Return the manifest of a rebuilt base alone, with the id of the head that it follows."""
    last = rebuilt.last_event_id
    at = rebuilt.base.published_at
    return Manifest(
        manifest_id=head.manifest_id,
        epoch=head.epoch,
        previous_manifest_path=None if head.pointer_version is None else orchestration_manifest(head.manifest_id),
        schema_version=SCHEMA_VERSION,
        revision_ulid=revision,
        published_at=at,
        watermarks=Watermarks() if last is None else Watermarks(last, last, last, canonical_ulid_event(last), at),
        base_snapshot=rebuilt.base,
        l0_deltas=[],
        l0_count=0,
        l0_limits=limits_for(sum(one.rows for one in rebuilt.tables.values())),
        springline=Springline(
            config=ConfigSection(config.fingerprint, config.retention_days),
            digest=DigestSection(state_digest(rebuilt.tables), rebuilt.tables),
            events=EventsSection(rebuilt.events, rebuilt.index),
            rounds_folded=rounds_folded,
            retention_frontier_ms=rebuilt.frontier_ms,
            foreign=[ForeignRevisions(one.head, one.back_to) for one in head.foreign],
        ),
    )
