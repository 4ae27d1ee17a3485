"""Publishing states step by step, with the files that the test wants: what a round does, without one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

from springline import paths
from springline.ledger.envelope import parse_event
from springline.projection.config import FoldConfig
from springline.projection.digest import Digest
from springline.projection.fold.loop import fold_event
from springline.projection.schema import TABLES
from springline.projection.state import State
from springline.published.bases import write_base
from springline.published.deltas import rows_of_changes, write_delta
from springline.published.manifest import (
    NO_MANIFEST,
    BaseSnapshot,
    ConfigSection,
    Delta,
    DigestSection,
    EventRange,
    EventsSection,
    L0Limits,
    Manifest,
    Pointer,
    SpringlineSection,
    Watermarks,
    encode,
    next_manifest_id,
    pointer_hash,
)
from springline.storage.port import IfAbsent, IfVersion, ObjectStore, Stored

NOW_MS = 1_736_935_200_000
INSTANT = "2025-01-15T10:00:00Z"


class Publisher:
    """The one publisher of a workspace's part of a store."""

    def __init__(self, store: ObjectStore, config: FoldConfig) -> None:
        self.state = State(config)
        self.state.tracking = True
        self.manifest_id = NO_MANIFEST
        self._store = store
        self._config = config
        self._events = 0
        self._base = BaseSnapshot()
        self._deltas: list[Delta] = []
        self._pointer: tuple[bytes, str] | None = None

    @property
    def digest(self) -> Digest:
        """The digest of the state, made from all of its rows."""
        return Digest.of({name: self.state.rows(name) for name in TABLES})

    async def publish(
        self, bodies: Iterable[bytes], kind: Literal["delta", "base", "bridged base"] = "delta", *, ours: bool = True
    ) -> str:
        """Fold events and publish the state; return the manifest id."""
        ids = [self.state.last_event_id]
        for body in bodies:
            event = parse_event(body)
            fold_event(self.state, event)
            ids.append(event.event_id)
        self._events += len(ids) - 1
        self.manifest_id = next_manifest_id(self.manifest_id)
        delta = None if kind == "base" else await self._write_delta(ids[1:])
        if kind == "delta":
            assert delta is not None
            self._deltas.append(delta)
        else:
            self._deltas = []
            self._base = await write_base(
                self._store, f"base-{self.manifest_id}", self.state, self.digest, published_ms=NOW_MS
            )
        self.state.accept()
        await self._put(self._manifest(delta if kind == "bridged base" else None, ours=ours))
        return self.manifest_id

    async def _write_delta(self, ids: Sequence[str]) -> Delta:
        events = EventRange(ids[0], ids[-1], len(ids)) if ids else EventRange("", "", 0)
        content = rows_of_changes(self.state.changes())
        return await write_delta(
            self._store, f"delta-{self.manifest_id}", content, self.digest, events=events, created_ms=NOW_MS
        )

    def _manifest(self, bridge: Delta | None, *, ours: bool) -> Manifest:
        last, digest = self.state.last_event_id, self.digest
        section = SpringlineSection(
            config=ConfigSection(self._config.fingerprint),
            digest=DigestSection.of(digest.tables()),
            events=EventsSection(self._events),
            rounds_folded=int(self.manifest_id),
            bridge=bridge,
        )
        previous = int(self.manifest_id) - 1
        return Manifest(
            manifest_id=self.manifest_id,
            previous_manifest_path=None if not previous else paths.orchestration_manifest(f"{previous:020}"),
            schema_version=2,
            revision_ulid=f"revision-{self.manifest_id}",
            published_at=INSTANT,
            watermarks=Watermarks(last, last, last, None, INSTANT),
            base_snapshot=self._base,
            l0_deltas=list(self._deltas),
            l0_count=len(self._deltas),
            l0_limits=L0Limits(),
            springline=section if ours else None,
        )

    async def _put(self, manifest: Manifest) -> None:
        path = paths.orchestration_manifest(manifest.manifest_id)
        assert isinstance(await self._store.put(path, encode(manifest), IfAbsent()), Stored)
        before = self._pointer
        raw = encode(
            Pointer(
                manifest_path=path,
                updated_at=INSTANT,
                manifest_id=manifest.manifest_id,
                parent_pointer_hash=None if before is None else pointer_hash(before[0]),
            )
        )
        precondition = IfAbsent() if before is None else IfVersion(before[1])
        stored = await self._store.put(paths.orchestration_pointer(), raw, precondition)
        assert isinstance(stored, Stored)
        self._pointer = raw, stored.version
