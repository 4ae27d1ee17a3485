"""Reading a part of a rebuild: a slice of event objects, or a sealed segment (docs/protocol.md#rebuild).

Each event is judged by itself. The good ones go to the sections of their shards; a slice also makes a sealed segment
of them, so that the next reader finds one object instead of thousands.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial

from springline.ledger.envelope import Event
from springline.ledger.request import RefusalReason
from springline.paths import (
    ObjectPath,
    Scope,
    canonical_ulid_events,
    content_hash12,
    parse_ledger_segment,
    rebuild_segment_receipt,
    rebuild_segments,
    rebuild_slice,
    rebuild_slice_receipt,
)
from springline.projection.sharding import Links, shard_of_run
from springline.published.files import write_file
from springline.published.index import SegmentRef
from springline.published.segments import DamagedSegment, event_id_of, raw_size, sealed, segment_bodies, write_encoded
from springline.rebuild.accepted import AcceptedHashes, judge_hash
from springline.rebuild.parts import (
    BadRecord,
    PartReceipt,
    SectionWriter,
    encode_receipt,
    read_list,
    read_receipt,
    write_receipt,
    write_sections,
)
from springline.sequencer.foreign import EventVerdict, judge_body, judge_event
from springline.storage.offload import in_turn
from springline.storage.port import ObjectStore

READS_TOGETHER = 64
READ_AT_ONCE = 2_500
"""Events of a slice that are held as objects at the same time."""
BAD_KEPT = 1_000

Report = Callable[[int], None]
"""Called with how many events have been read."""


@dataclass(frozen=True, slots=True)
class PartDone:
    """A part that is done: its receipt, where it is if not under the part's own name, and whether it was found."""

    receipt: PartReceipt
    path: str | None = None
    reused: bool = False


@dataclass(slots=True)
class _Part:
    """The good events of a part as they come, and what is wrong with the others."""

    scope: Scope
    shards: int
    events: list[tuple[str, bytes]] = field(default_factory=list)
    raw_bytes: int = 0
    by_shard: dict[int, SectionWriter] = field(default_factory=dict)
    """The events by the shard that folds them as long as no run turns out to be odd."""
    links: Links = field(default_factory=Links)
    bad: list[BadRecord] = field(default_factory=list)
    missing: int = 0
    damaged: int = 0
    known: int = 0

    def take(self, path: str, event_id: str, body: bytes | None, accepted: str | None = None) -> None:
        """Judge one event by its body, and by the SHA-256 that was accepted under its id, and keep it."""
        verdict = judge_body(event_id, body, self.scope)
        if isinstance(verdict, EventVerdict):
            self.refuse(path, verdict)
        elif body is not None:  # An event is always that of a body.
            self.keep(path, verdict, body, accepted)

    def keep(self, path: str, event: Event, body: bytes, accepted: str | None = None) -> None:
        """Keep an event that was read from `body`, if that is what was accepted under its id."""
        other = judge_hash(body, accepted)
        if other is not None:
            self.refuse(path, other)
            return
        shard = shard_of_run(self.links.place(event), self.shards)
        section = self.by_shard.get(shard)
        if section is None:
            section = self.by_shard[shard] = SectionWriter()
        section.add(event, body)
        self.events.append((event.event_id, body))
        self.raw_bytes += len(body)

    def refuse(self, path: str, verdict: EventVerdict | str) -> None:
        """Take note of what is missing, or cannot be read, and why."""
        if isinstance(verdict, str):
            verdict = EventVerdict(RefusalReason.UNREADABLE, verdict)
        if verdict.reason is RefusalReason.MISSING:
            self.missing += 1
        else:
            self.damaged += 1
        if len(self.bad) < BAD_KEPT:
            self.bad.append(BadRecord(path, verdict.reason.value, verdict.message))


async def read_slice(
    store: ObjectStore,
    scope: Scope,
    work_id: str,
    shards: int,
    number: int,
    report: Report,
    accepted: AcceptedHashes | None = None,
) -> PartDone:
    """Read the events of slice `number`, unless that was done before and nothing was wrong with it.

    `accepted` knows the bytes that events must have, None: nobody does.
    """
    done = await read_receipt(store, rebuild_slice_receipt(work_id, number), PartReceipt)
    if done is not None:
        return PartDone(done, reused=True)
    ids = await read_list(store, rebuild_slice(work_id, number))
    part = _Part(scope, shards)
    for start in range(0, len(ids), READ_AT_ONCE):
        some = ids[start : start + READ_AT_ONCE]
        paths = canonical_ulid_events(some)
        bodies = await store.read_many(paths, concurrency=READS_TOGETHER)
        hashes = {} if accepted is None else await accepted.hashes(some)
        part.known += len(hashes)
        work = partial(_take_all, part, some, paths, bodies, hashes)
        await in_turn(work)
        report(start + len(some))
    segment = await _seal(store, part.events) if part.events else None
    receipt = await _receipt(store, work_id, number, number, part, segment)
    return await _close(store, receipt, partial(rebuild_slice_receipt, work_id, number))


async def scan_segment(
    store: ObjectStore,
    scope: Scope,
    work_id: str,
    shards: int,
    slices: int,
    number: int,
    report: Report,
    accepted: AcceptedHashes | None = None,
) -> PartDone:
    """Read listed segment `number`, unless that was done before and nothing was wrong with it. `accepted` as above.

    A segment that is gone, or whose bytes are not those that its name promises, is damaged as a whole.
    """
    done = await read_receipt(store, rebuild_segment_receipt(work_id, number), PartReceipt)
    if done is not None:
        return PartDone(done, reused=True)
    path = ObjectPath((await read_list(store, rebuild_segments(work_id)))[number])
    part = _Part(scope, shards)
    segment = await _scan(store, scope, path, part, accepted)
    report(len(part.events))
    receipt = await _receipt(store, work_id, number, slices + number, part, segment)
    return await _close(store, receipt, partial(rebuild_segment_receipt, work_id, number))


async def _scan(
    store: ObjectStore, scope: Scope, path: ObjectPath, part: _Part, accepted: AcceptedHashes | None
) -> SegmentRef | None:
    name = parse_ledger_segment(path)
    stored = await store.get(path)
    if name is None or stored is None:
        part.refuse(path, "there is no such segment")
        return None
    if content_hash12(stored.data) != name.content_hash:
        part.refuse(path, "the segment's bytes are not those that its name promises")
        return None

    try:
        bodies = await in_turn(lambda: segment_bodies(stored.data))
    except DamagedSegment as error:
        part.refuse(path, str(error))
        return None
    hashes: dict[str, str] = {}
    if accepted is not None and await accepted.has_segment(path):
        part.known = len(bodies)
    elif accepted is not None and not await accepted.is_empty():
        hashes = await accepted.hashes(await in_turn(lambda: [event_id_of(body) for body in bodies]))
        part.known = len(hashes)

    def take() -> int:
        """Take all, and return the size of their text."""
        last = ""
        for body in bodies:
            verdict = judge_event(body, scope)
            event_id = event_id_of(body) if isinstance(verdict, EventVerdict) else verdict.event_id
            if event_id <= last:
                raise DamagedSegment(f"event {event_id} stands after {last}")
            if isinstance(verdict, EventVerdict):
                part.refuse(path, verdict)
            else:
                part.keep(path, verdict, body, hashes.get(event_id))
            last = event_id
        return raw_size(part.events)

    try:
        raw = await in_turn(take)
    except DamagedSegment as error:
        part.refuse(path, str(error))
        return None
    if part.damaged:
        # What is published names good events only: they are sealed again, without the others.
        return await _seal(store, part.events) if part.events else None
    digest = hashlib.sha256(stored.data).hexdigest()
    return SegmentRef(path, name.first_id, name.last_id, len(bodies), digest, len(stored.data), raw)


def _take_all(
    part: _Part, ids: list[str], paths: list[ObjectPath], bodies: Iterable[bytes | None], hashes: dict[str, str]
) -> None:
    for event_id, path, body in zip(ids, paths, bodies, strict=True):
        part.take(path, event_id, body, hashes.get(event_id))


async def _seal(store: ObjectStore, events: list[tuple[str, bytes]]) -> SegmentRef:
    data, raw = await in_turn(lambda: sealed(events, judged=True))
    return await write_encoded(store, events, data, raw)


async def _receipt(
    store: ObjectStore, work_id: str, number: int, part_number: int, part: _Part, segment: SegmentRef | None
) -> PartReceipt:
    sections = await write_sections(store, work_id, part_number, part.by_shard)
    return PartReceipt(
        number=number,
        events=len(part.events),
        raw_bytes=part.raw_bytes,
        missing=part.missing,
        damaged=part.damaged,
        bad=part.bad,
        segment=segment,
        sections=sections,
        odd=sorted(part.links.odd),
        claims=dict(sorted(part.links.claims.items())),
        known=part.known,
    )


async def _close(store: ObjectStore, receipt: PartReceipt, name: Callable[[str | None], ObjectPath]) -> PartDone:
    """Write the receipt: under the part's own name only if nothing is wrong, so that what is mended is read again."""
    if receipt.whole:
        return PartDone(await write_receipt(store, name(None), receipt))
    artifact = await write_file(store, encode_receipt(receipt), name)
    return PartDone(receipt, artifact.path)
