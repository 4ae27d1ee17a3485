"""Where a workspace stands: which state the next round is folded on, and what the reference published meanwhile.

The reference keeps nothing of ours when it publishes. Then our last state is found by walking back its revisions, and
the events of these revisions are taken in on top of it like any foreign events (docs/protocol.md#state-of-a-set): the
state that the reference made of them depends on how they arrived, ours does not.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

from springline.paths import orchestration_legacy_manifest, orchestration_pointer
from springline.published.head import RESTORE_POINTER, PublishedHead, later_round, read_head, read_manifest
from springline.published.manifest import NO_MANIFEST, Manifest
from springline.sequencer.messages import ForeignRange, Head
from springline.sequencer.rounds import find_round
from springline.storage.damage import DamagedObject
from springline.storage.port import ObjectStore


@dataclass(frozen=True, slots=True)
class Opening:
    """The head, and the manifest of the state that the next round is folded on; None: of an empty ledger."""

    head: Head
    state: Manifest | None


@dataclass(slots=True)
class _Walked:
    manifest: Manifest | None
    path: str | None
    foreign: list[ForeignRange] = field(default_factory=list)


async def read_opening(store: ObjectStore) -> Opening:
    """Find out where the workspace stands: pointer and manifest, and more only where the reference has published.

    Raises `DamagedObject` if a revision cannot be read or is missing, and what the store does.
    """
    published = await read_head(store)
    if published is None:
        return Opening(Head(manifest_id=NO_MANIFEST), None)
    walked = await _state_of(store, published)
    raw, manifest, state = published.pointer_raw, published.manifest, walked.manifest
    ours = None if state is None else state.springline
    if ours is not None and not published.is_ours:
        shown = await later_round(store, ours.rounds_folded, manifest.manifest_id)
        if shown is not None:
            raise DamagedObject(orchestration_pointer(), shown, RESTORE_POINTER)
    head = Head(
        manifest_id=manifest.manifest_id,
        manifest_revision=manifest.revision_ulid,
        pointer_version=published.pointer_version,
        pointer_sha256=None if raw is None else hashlib.sha256(raw).hexdigest(),
        epoch=manifest.epoch,
        last_event_id=None if state is None else state.watermarks.last_committed_event_id,
        events=0 if ours is None else ours.events.count,
        rounds_folded=0 if ours is None else ours.rounds_folded,
        state_manifest=walked.path,
        foreign=walked.foreign,
    )
    return Opening(head, state)


async def _state_of(store: ObjectStore, published: PublishedHead) -> _Walked:
    """Return the manifest of the state to go on from."""
    head, path = published.manifest, str(published.manifest_path)
    if published.is_ours:
        return _Walked(head, path, _left_open(head))
    first = await find_round(store, 1)
    if first is None:
        # We have never written anything here: the reference's state is where we begin.
        return _Walked(head, path)
    begun_on = first.record.begun_on
    at, at_path = head, path
    while at.springline is None and at_path != begun_on:
        before = at.previous_manifest_path
        if before is None and begun_on == orchestration_legacy_manifest():
            before = begun_on  # The reference names no predecessor when it publishes on the old mutable manifest.
        if before is None:
            if begun_on is not None:
                raise DamagedObject(begun_on, f"is not among the revisions before {path}, and round 1 lies on it")
            return _Walked(None, None, [ForeignRange(head=path)])
        found = await read_manifest(store, before)
        if found is None:
            raise DamagedObject(before, f"is missing, and lies between {path} and our last revision")
        at, at_path = found.manifest, before
    between = [] if at_path == path else [ForeignRange(head=path, back_to=at_path)]
    return _Walked(at, at_path, [*_left_open(at), *between])


def _left_open(manifest: Manifest) -> list[ForeignRange]:
    ours = manifest.springline
    return [] if ours is None else [ForeignRange(head=one.head, back_to=one.back_to) for one in ours.foreign]


class ForeignEvents:
    """Paths of the events that the reference's revisions were published for, read once: revisions never change.

    A revision of a version that did not record them has none; anti-entropy finds its events in the ledger.
    """

    def __init__(self) -> None:
        self._paths: dict[ForeignRange, tuple[str, ...]] = {}

    async def of(
        self, store: ObjectStore, revisions: Sequence[ForeignRange]
    ) -> list[tuple[ForeignRange, tuple[str, ...]]]:
        """Return the event paths of each range, sorted. Raises `DamagedObject`, and what the store does."""
        self._paths = {one: paths for one, paths in self._paths.items() if one in revisions}
        for one in revisions:
            if one not in self._paths:
                self._paths[one] = await _events_of(store, one)
        return [(one, self._paths[one]) for one in revisions]


async def _events_of(store: ObjectStore, revisions: ForeignRange) -> tuple[str, ...]:
    paths: set[str] = set()
    at: str | None = revisions.head
    while at is not None and at != revisions.back_to:
        found = await read_manifest(store, at)
        if found is None:
            raise DamagedObject(at, "is missing, and its events are not all taken in")
        witness = found.manifest.publication_witness
        paths |= {event.path for event in witness.events} if witness is not None else set()
        at = found.manifest.previous_manifest_path
    return tuple(sorted(paths))
