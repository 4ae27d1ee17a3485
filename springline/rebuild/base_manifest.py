"""The manifest of a rebuilt base alone: what it holds, whether it is published as it is or folded on."""

from __future__ import annotations

from springline.paths import canonical_ulid_event
from springline.projection.config import FoldConfig
from springline.projection.digest import state_digest
from springline.published.manifest import (
    SCHEMA_VERSION,
    ConfigSection,
    DigestSection,
    EventsSection,
    Manifest,
    Springline,
    Watermarks,
)
from springline.published.merge import limits_for
from springline.published.revision import Succession
from springline.rebuild.assemble import RebuiltBase


def manifest_of(rebuilt: RebuiltBase, config: FoldConfig, succession: Succession) -> Manifest:
    """Return the manifest of a rebuilt base alone, with the id of the manifest that it follows."""
    last = rebuilt.last_event_id
    at = rebuilt.base.published_at
    return Manifest(
        manifest_id=succession.follows,
        epoch=succession.epoch,
        previous_manifest_path=succession.previous_path,
        schema_version=SCHEMA_VERSION,
        revision_ulid=succession.revision,
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
            rounds_folded=succession.rounds_folded,
            retention_frontier_ms=rebuilt.frontier_ms,
            foreign=list(succession.foreign),
        ),
    )
