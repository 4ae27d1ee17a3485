"""What a ledger has accepted, and what of that nobody can tell: the one place that answers (docs/protocol.md#cost).

Two kinds of objects say it, and mostly both say the same:

    rounds   their records, by number: id and hash of every event that was ever accepted, and its text for a while
    index    of a published revision, with its nodes, segments and packs: id and hash of what the state holds

Any of them may be missing or damaged. So a number without a record ends the rounds only if the next `LOOK_BEHIND` have
none either, and none is known to be there; everything else that cannot be read is a `Hole` with the name of its object.
A hole is no proof of anything: it is neither "not accepted" nor the end. The index counts what it names: where what
could be read adds up to its count, all is known, and what was damaged is no hole any more. Whoever is about to publish,
to answer or to give a number away, and meets a hole, refuses with its name.

Nothing is listed. Events that were folded into a state that was taken over from another implementation are in neither.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, field

from msgspec.structs import replace

from springline.paths import (
    canonical_ulid_event,
    ledger_index_prefix,
    orchestration_manifest,
    orchestration_manifest_id,
    orchestration_round,
)
from springline.published.cached_state import CachedState
from springline.published.head import LATER_ROUNDS, parse_manifest
from springline.published.index import PACK_EVENTS, EventsIndex, NodeRef, SegmentRef, may_hold
from springline.published.index_files import read_node
from springline.published.segments import RESTORE_EVENT, StoredEvent, read_segment, read_tail
from springline.sequencer.rounds import RESTORE_RECORD, RoundEvent, StoredRound, find_round
from springline.storage.damage import DamagedObject
from springline.storage.offload import in_thread
from springline.storage.parallel import each
from springline.storage.port import ObjectStore

LOOK_BEHIND = 4
"""Numbers behind an absent record that must be absent, too, before it is the end."""
RECORDS_TOGETHER = 64
_SEGMENTS_TOGETHER = 4


@dataclass(frozen=True, slots=True)
class Hole:
    """An object that would say what was accepted, and does not. `why` says what is wrong with it."""

    path: str
    why: str
    remedy: str

    @classmethod
    def of(cls, error: DamagedObject) -> Hole:
        """Return the hole that damage leaves."""
        return cls(error.path, error.why, error.remedy)

    @property
    def error(self) -> DamagedObject:
        """What is told to whoever cannot go on without it."""
        return DamagedObject(self.path, self.why, self.remedy)


# Rounds.


async def walk_rounds(
    store: ObjectStore, after: int, *, least: int = 0, through: int | None = None
) -> AsyncIterator[list[StoredRound | Hole]]:
    """Yield what there is of all rounds after number `after`, and up to `through`, in order, some at a time.

    Rounds up to `least` are known to have been: without a record they are holes. Raises what the store does.
    """
    start, together, absent = after + 1, LOOK_BEHIND + 1, list[int]()
    while through is None or start <= through:
        end = start + together if through is None else min(start + together, through + 1)
        numbers = range(start, end)
        found = await each(lambda number: _found(store, number), numbers, concurrency=RECORDS_TOGETHER)
        ready: list[StoredRound | Hole] = []
        for number, one in zip(numbers, found, strict=True):
            if one is None and number > least:
                absent.append(number)
                if len(absent) > LOOK_BEHIND:
                    break
                continue
            # Rounds are recorded in order: what was absent a moment ago may have come since, before this one.
            again = await each(lambda number: _found(store, number), absent)
            for skipped, found_now in zip(absent, again, strict=True):
                ready.append(found_now or _absent(skipped))
            ready.append(one or _absent(number))
            absent = []
        if ready:
            yield ready
        if len(absent) > LOOK_BEHIND:
            return
        start, together = end, min(RECORDS_TOGETHER, together * 4)


async def _found(store: ObjectStore, number: int) -> StoredRound | Hole | None:
    try:
        return await find_round(store, number)
    except DamagedObject as error:
        return Hole.of(error)


def _absent(number: int) -> Hole:
    return Hole(orchestration_round(number), "is missing, and later rounds were accepted", RESTORE_RECORD)


async def pending_rounds(store: ObjectStore, folded: int) -> list[StoredRound]:
    """Return the rounds after number `folded`, in order: accepted and not visible.

    Raises `DamagedObject` for the first one that is missing or cannot be read, and what the store does.
    """
    pending: list[StoredRound] = []
    async for some in walk_rounds(store, folded):
        for one in some:
            if isinstance(one, Hole):
                raise one.error
            pending.append(one)
    return pending


async def last_round(store: ObjectStore) -> int:
    """Return the number of the last round, 0 if there is none; readable or not, and wherever records are missing.

    Takes about twice the logarithm of it in turns.
    """

    async def is_there(number: int) -> bool:
        """Say whether there is a round from `number` on, as far as one looks behind."""
        heads = await each(lambda one: store.head(orchestration_round(one)), range(number, number + LOOK_BEHIND + 1))
        return any(head is not None for head in heads)

    last, step = 0, 1
    while await is_there(last + step):
        last, step = last + step, step * 2
    end = last + step
    while end - last > 1:
        middle = (last + end) // 2
        last, end = (middle, end) if await is_there(middle) else (last, middle)
    return last


async def with_bodies(store: ObjectStore, stored: StoredRound) -> StoredRound:
    """Return a round whose events all have their texts: from their objects where the record has lost them.

    Raises `DamagedObject` naming the first event whose text cannot be had, and what the store does.
    """
    record = stored.record
    if all(event.is_whole for event in record.events):
        return stored
    whole = await each(lambda event: whole_event(store, event), record.events)
    for event, one in zip(record.events, whole, strict=True):
        if one is None:
            path = canonical_ulid_event(event.event_id)
            why = f"was accepted by {orchestration_round(record.number)}, and is gone"
            raise DamagedObject(path, why, RESTORE_EVENT)
    events = [one for one in whole if one is not None]
    return StoredRound(replace(record, events=events), stored.sha256)


async def whole_event(store: ObjectStore, event: RoundEvent) -> RoundEvent | None:
    """Return an event with its body, from its object if its record has it no longer; None if it is in neither."""
    if event.is_whole:
        return event
    stored = await store.get(canonical_ulid_event(event.event_id))
    if stored is None or hashlib.sha256(stored.data).hexdigest() != event.sha256:
        return None
    return RoundEvent.of(event.event_id, stored.data)


async def check_no_round_lost(store: ObjectStore, manifest_id: str, last: int) -> None:
    """Raise `DamagedObject` if a revision behind manifest `manifest_id` was folded from a round behind the last one.

    Such a revision waits to be published, or was left by somebody who died; its round was recorded before it.
    """
    numbers = range(int(manifest_id) + 1, int(manifest_id) + 1 + LATER_ROUNDS)
    some = [orchestration_manifest(orchestration_manifest_id(number)) for number in numbers]
    for path, data in zip(some, await store.read_many(some), strict=True):
        try:
            ours = None if data is None else parse_manifest(path, data).manifest.springline
        except DamagedObject:
            continue  # It was never published.
        if ours is not None and ours.rounds_folded > last and await find_round(store, ours.rounds_folded) is None:
            why = f"is missing, and {path} was folded from it"
            raise DamagedObject(orchestration_round(ours.rounds_folded), why, RESTORE_RECORD)


# All that was accepted.


@dataclass(slots=True)
class AcceptedSet:
    """What was accepted: the SHA-256 (hex) of every event by id, as far as can be told, and the `holes` in that.

    `last_round`: the last number that a round has. `later`: the rounds behind those that are folded; only the last one
    if nobody knows which are.
    `passed_over`: what is damaged, and whose events are known all the same.
    """

    hashes: dict[str, str] = field(default_factory=dict)
    holes: list[Hole] = field(default_factory=list)
    passed_over: list[Hole] = field(default_factory=list)
    last_round: int = 0
    later: list[StoredRound] = field(default_factory=list)


async def survey(
    store: ObjectStore, index: EventsIndex | None, *, folded: int | None, count: int | None = None
) -> AcceptedSet:
    """Read everything that says what was accepted: all records of rounds, and all parts of an index.

    `index`: of the published revision, which holds `count` events and the rounds up to `folded`; None if it cannot be
    read, or there is none; the others are None if that cannot be told. Raises what the store does.
    """
    least = folded or 0
    accepted = AcceptedSet()
    refs, in_index = await _segments_of(store, index)
    if index is not None:
        accepted.hashes.update(index.tail)
        count = index.count
    for _, found in await each(lambda ref: _hashes_in(store, ref), refs, concurrency=_SEGMENTS_TOGETHER):
        if isinstance(found, Hole):
            in_index.append(found)
        else:
            accepted.hashes.update(found)
    known, folded_holes, later_holes = set(accepted.hashes), list[Hole](), list[Hole]()
    number = 0
    async for some in walk_rounds(store, 0, least=least):
        for one in some:
            number += 1
            if isinstance(one, Hole):
                (folded_holes if number <= least else later_holes).append(one)
                continue
            for event in one.record.events:
                accepted.hashes.setdefault(event.event_id, event.sha256)
            if number <= least:
                known.update(event.event_id for event in one.record.events)
            else:
                accepted.later = [one] if folded is None else [*accepted.later, one]
    accepted.last_round = number
    # What is folded is known completely if it adds up, or if nothing of the index is damaged, or nothing of the rounds.
    is_known = len(known) >= count if count is not None else not folded_holes
    (accepted.passed_over if is_known else accepted.holes).extend([*in_index, *folded_holes])
    accepted.holes += later_holes
    if not is_known and not accepted.holes:
        accepted.holes.append(_uncounted(len(known), count or 0))
    return accepted


def _uncounted(known: int, count: int) -> Hole:
    why = f"does not name {count - known} of {count} accepted events, and no record of a round does"
    return Hole(ledger_index_prefix(), why, RESTORE_RECORD)


async def _segments_of(store: ObjectStore, index: EventsIndex | None) -> tuple[list[SegmentRef], list[Hole]]:
    """Return all segments and packs that an index names, and the nodes that cannot be read."""
    if index is None:
        return [], []

    async def read(ref: NodeRef) -> list[SegmentRef] | Hole:
        try:
            return await read_node(store, ref)
        except DamagedObject as error:
            return Hole.of(error)

    nodes = await each(read, index.nodes)
    listed = [ref for node in nodes if not isinstance(node, Hole) for ref in node]
    return [*listed, *index.segments, *index.packs], [node for node in nodes if isinstance(node, Hole)]


async def _hashes_in(store: ObjectStore, ref: SegmentRef) -> tuple[SegmentRef, dict[str, str] | Hole]:
    try:
        events = await read_segment(store, ref)
    except DamagedObject as error:
        return ref, Hole.of(error)
    return ref, await in_thread(lambda: {event_id: hashlib.sha256(body).hexdigest() for event_id, body in events})


# Texts.


async def find_bodies(
    store: ObjectStore, index: EventsIndex | None, wanted: Mapping[str, str]
) -> dict[str, tuple[bytes, str]]:
    """Return the texts of accepted events, with the path of what each was found in; what is nowhere is left out.

    `wanted`: the SHA-256 (hex) by id. Looked at are the events' objects, the segments of `index`, then the records of
    rounds. Raises what the store does.
    """
    found: dict[str, tuple[bytes, str]] = {}

    def take(events: Iterable[StoredEvent], where: str) -> None:
        for event_id, body in events:
            if event_id not in found and wanted.get(event_id) == hashlib.sha256(body).hexdigest():
                found[event_id] = (body, where)

    paths = {event_id: canonical_ulid_event(event_id) for event_id in wanted}
    for (event_id, path), data in zip(paths.items(), await store.read_many(list(paths.values())), strict=True):
        take([] if data is None else [(event_id, data)], path)
    refs, _ = await _segments_of(store, index if len(found) < len(wanted) else None)
    for ref, inside in may_hold(refs, wanted.keys() - found.keys()):
        if inside and not found.keys() >= set(inside):
            try:
                take(await read_segment(store, ref), ref.path)
            except DamagedObject:
                continue
    if len(found) < len(wanted):
        async for some in walk_rounds(store, 0):
            for one in some:
                if isinstance(one, StoredRound):
                    events = ((event.event_id, event.data) for event in one.record.events if event.event_id in wanted)
                    take(events, orchestration_round(one.record.number))
            if len(found) == len(wanted):
                break
    return found


_RECORDS_TOGETHER = 16
MOST_ROUNDS = 2 * PACK_EVENTS
"""Rounds that are looked back: the tail has fewer events, and nearly every round has one."""


async def fill_tail(store: ObjectStore, warm: CachedState) -> None:
    """Have the bytes of the events of the index's tail in memory, as far as they can be had. As `tail_bodies`."""
    warm.tail = await tail_bodies(store, warm)


async def tail_bodies(store: ObjectStore, warm: CachedState) -> dict[str, bytes]:
    """Return the bytes of the events of the index's tail by id, of all that can be had.

    What is in memory is not read. A missing or altered object is looked for in the records of the last rounds; what
    is not there either is left out. Raises what the store does.
    """
    read = await read_tail(store, warm.index.tail, warm.tail)
    bodies = read.bodies
    missing = {event_id: sha256 for event_id, sha256 in warm.index.tail if event_id not in bodies}
    last = warm.rounds_folded
    first = max(0, last - MOST_ROUNDS)
    while missing and last > first:
        numbers = range(last, max(first, last - _RECORDS_TOGETHER), -1)
        for found in await each(lambda number: _record(store, number), numbers):
            bodies |= _bodies(found, missing)
        missing = {event_id: sha256 for event_id, sha256 in missing.items() if event_id not in bodies}
        last -= _RECORDS_TOGETHER
    return bodies


async def _record(store: ObjectStore, number: int) -> StoredRound | None:
    try:
        return await find_round(store, number)
    except DamagedObject:
        return None


def _bodies(found: StoredRound | None, missing: Mapping[str, str]) -> dict[str, bytes]:
    """Return what a record has of the missing events; the texts of old records are taken out in the end."""
    events = [] if found is None else [event for event in found.record.events if event.event_id in missing]
    bodies = {event.event_id: event.data for event in events}
    return {one: body for one, body in bodies.items() if hashlib.sha256(body).hexdigest() == missing[one]}
