"""A workspace's published state, made step by step as the sequencer does, for tests of what reads and keeps it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import msgspec

from springline import paths
from springline.ledger.envelope import parse_event
from springline.ledger.timestamps import format_ms
from springline.paths import ObjectPath, canonical_ulid_event
from springline.projection.config import FoldConfig
from springline.projection.digest import Digest
from springline.projection.fold.loop import fold_event
from springline.projection.schema import TABLES, Row
from springline.projection.state import State
from springline.published.bases import write_base
from springline.published.deltas import merged_rows, rows_of_changes, write_delta
from springline.published.index import EventsIndex
from springline.published.index_files import AcceptedEvent, extend_index
from springline.published.manifest import (
    BaseSnapshot,
    Checkpoint,
    ConfigSection,
    Delta,
    DigestSection,
    EventRange,
    EventsSection,
    Manifest,
    Pointer,
    SpringlineSection,
    Watermarks,
    encode,
    with_checkpoint,
)
from springline.published.merge import limits_for
from springline.sequencer.rounds import RoundEvent, RoundRecord, create_round
from springline.sequencer.writer import write_events
from springline.storage.port import IfAbsent, IfVersion, ObjectStore
from springline.storage.resolve import put_once
from tests.support.sequencer_world import CONFIG, NOW_MS, body_of, event_id, linear_run


def bodies_of_runs(
    count: int, *, tasks: Sequence[str] = ("extract", "load"), first: int = 0, step: int = 1
) -> list[bytes]:
    """Return the bytes of the events of `count` whole runs, with ids `step` apart from `first` on."""
    payloads = [payload for number in range(count) for payload in linear_run(f"run-{first + number}", tasks)]
    return [body_of(first + step * number, payload) for number, payload in enumerate(payloads)]


def golden_rows(state: State) -> dict[str, list[Row]]:
    """Return all rows of a state, in order: what two equal states have in common."""
    return {name: sorted(state.rows(name), key=table.key_of) for name, table in TABLES.items()}


class Publisher:
    """Publishes revision after revision. `merge` and `base` ask for the form in which the next one is written."""

    def __init__(self, store: ObjectStore, config: FoldConfig = CONFIG) -> None:
        self.store = store
        self.config = config
        self.state = State(config)
        self.state.tracking = True
        self.digest = Digest()
        self.index = EventsIndex()
        self.rounds = 0
        self.manifests: list[Manifest] = []

    @property
    def manifest(self) -> Manifest:
        """The revision published last."""
        return self.manifests[-1]

    async def publish(
        self, bodies: Sequence[bytes], *, base: bool = False, merge: int = 0, bridge: bool = True
    ) -> Manifest:
        """Fold and publish events as one round: as a base, or as a delta together with the last `merge` ones."""
        self.rounds += 1
        last = self.manifests[-1] if self.manifests else None
        events = [parse_event(body) for body in bodies]
        for event in events:
            fold_event(self.state, event)
        changes = self.state.changes()
        self.digest.apply(changes)
        accepted = [
            AcceptedEvent(event.event_id, hashlib.sha256(body).hexdigest(), body)
            for event, body in zip(events, bodies, strict=True)
        ]
        await write_events(self.store, {one.event_id: one.body for one in accepted})
        record = RoundRecord(
            number=self.rounds,
            writer="tests",
            order_sha256="0" * 64,
            kind="own",
            created_at_ms=NOW_MS,
            events=[RoundEvent.of(one.event_id, one.body) for one in accepted],
        )
        await create_round(self.store, record)
        extended = await extend_index(self.store, self.index, accepted)
        self.index = extended.index
        span = EventRange(events[0].event_id, events[-1].event_id, len(events))
        number = len(self.manifests) + 1
        now_ms = NOW_MS + 1000 * number
        before = [] if last is None else last.l0_deltas
        taken = before[len(before) - merge :] if merge else []
        content = await merged_rows(self.store, self.state, taken, changes) if taken else rows_of_changes(changes)
        delta: Delta | None = None
        if bridge or not base:
            delta = await write_delta(
                self.store, event_id(number, at_ms=now_ms), content, self.digest, events=span, created_ms=now_ms
            )
        snapshot = BaseSnapshot() if last is None else last.base_snapshot
        if base:
            snapshot = await write_base(
                self.store, event_id(1000 + number, at_ms=now_ms), self.state, self.digest, published_ms=now_ms
            )
        self.state.accept()
        deltas = [] if base else [*before[: len(before) - len(taken)], *([delta] if delta is not None else [])]
        path = paths.orchestration_manifest(paths.orchestration_manifest_id(number))
        checkpoints = [] if last is None or last.springline is None else last.springline.checkpoints
        if base:
            checkpoint = Checkpoint(path, self.state.last_event_id, self.index.count)
            checkpoints = with_checkpoint(checkpoints, checkpoint)
        manifest = Manifest(
            manifest_id=paths.orchestration_manifest_id(number),
            previous_manifest_path=None if last is None else paths.orchestration_manifest(last.manifest_id),
            schema_version=2,
            revision_ulid=event_id(2000 + number, at_ms=now_ms),
            published_at=format_ms(now_ms),
            watermarks=Watermarks(*[self.state.last_event_id] * 3),
            base_snapshot=snapshot,
            l0_deltas=deltas,
            l0_count=len(deltas),
            l0_limits=limits_for(0),
            springline=SpringlineSection(
                config=ConfigSection(self.config.fingerprint, self.config.retention_days),
                digest=DigestSection.of(self.digest.tables()),
                events=EventsSection(self.index.count, extended.artifact),
                rounds_folded=self.rounds,
                checkpoints=checkpoints,
                bridge=delta if base else None,
            ),
        )
        await self.put(path, manifest)
        return manifest

    async def put(self, path: ObjectPath, manifest: Manifest) -> None:
        """Write a manifest and move the pointer to it."""
        await put_once(self.store, path, encode(manifest))
        pointer = Pointer(manifest_id=manifest.manifest_id, manifest_path=path, updated_at=manifest.published_at)
        where = paths.orchestration_pointer()
        stored = await self.store.get(where)
        await self.store.put(where, encode(pointer), IfAbsent() if stored is None else IfVersion(stored.version))
        self.manifests.append(manifest)

    async def publish_foreign(self) -> Manifest:
        """Publish the last revision again as the reference would: without our section."""
        last = self.manifest
        number = len(self.manifests) + 1
        manifest = msgspec.structs.replace(
            last,
            manifest_id=paths.orchestration_manifest_id(number),
            previous_manifest_path=paths.orchestration_manifest(last.manifest_id),
            springline=None,
        )
        await self.put(paths.orchestration_manifest(manifest.manifest_id), manifest)
        return manifest


def path_of_event(body: bytes) -> ObjectPath:
    """Return the path of an event's object."""
    return canonical_ulid_event(parse_event(body).event_id)
