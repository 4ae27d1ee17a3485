"""Accepted events that a rebuilt base does not hold: they came while it was made, or after its manifest was written.

A rebuild takes minutes and its list was made before it; callers go on appending. What the ledger has accepted
meanwhile is folded on top before the result is switched in, so that nothing acknowledged is missing there.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from springline.errors import Code, Refused, refused
from springline.paths import canonical_ulid_event
from springline.projection.config import FoldConfig
from springline.projection.digest import Digest
from springline.projection.state import State
from springline.published.cached_state import CachedState
from springline.published.events import events_between
from springline.published.index import EventsIndex
from springline.published.index_files import AcceptedEvent, SegmentCache, contains, read_index
from springline.published.manifest import Manifest
from springline.sequencer.accepted import AcceptedSet, Hole, find_bodies, tail_bodies, walk_rounds, whole_event
from springline.sequencer.rounds import StoredRound
from springline.storage.damage import DamagedObject
from springline.storage.parallel import each
from springline.storage.port import ObjectStore

MOST_LATER = 200_000
"""Events that are folded on top of a base in one go: what a process can hold."""


@dataclass(slots=True)
class Later:
    """The events, and the rounds that were looked at: up to `last_round`, of which `rounds` are not folded yet.

    `missing`: names of events that a round has accepted and whose bytes are nowhere to be had.
    """

    events: dict[str, AcceptedEvent] = field(default_factory=dict)
    last_round: int = 0
    rounds: list[StoredRound] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)

    def add(self, event: AcceptedEvent) -> None:
        """Take note of an event. Raises `Refused` if there are more than can be held."""
        self.events[event.event_id] = event
        if len(self.events) > MOST_LATER:
            raise too_many()

    def ascending(self) -> list[AcceptedEvent]:
        """Return the events by id."""
        return [self.events[event_id] for event_id in sorted(self.events)]


async def events_after(store: ObjectStore, config: FoldConfig, manifest: Manifest, after: str | None) -> Later:
    """Return the events above `after` in the index of a manifest of ours. Raises `DamagedObject`, `Refused`."""
    ours, later = manifest.springline, Later()
    if ours is None:
        return later
    index = await read_index(store, ours.events.index)
    at = CachedState(None, manifest, State(config), Digest(), index)
    async for batch in events_between(store, index, after, at_hand=await tail_bodies(store, at)):
        for event_id, body in batch:
            later.add(AcceptedEvent.of(event_id, body))
    return later


async def add_rounds(
    store: ObjectStore, later: Later, held: EventsIndex, *, after: int, folded: int | None, through: int | None = None
) -> None:
    """Add the events of all rounds after number `after` that `held` does not hold; `through`: up to this one only.

    `folded`: rounds up to this number are published and written out; None: only the last one may not be. A body that
    was taken out of its record is read from the event's object. Raises `DamagedObject` for a record that is missing or
    cannot be read, and `Refused` for an event that `held` has with another body.
    """
    later.last_round = after
    cache = SegmentCache()
    async for found in walk_rounds(store, after, least=folded or 0, through=through):
        records = [one for one in found if isinstance(one, StoredRound)]
        hole = next((one for one in found if isinstance(one, Hole)), None)
        if hole is not None:
            raise hole.error
        events = {event.event_id: event for one in records for event in one.record.events}
        known = await contains(store, held, events, cache=cache)
        for event_id, sha256 in known.items():
            if events[event_id].sha256 != sha256:
                raise other_body(event_id, sha256, events[event_id].sha256)
        wanted = [event for event_id, event in events.items() if event_id not in known]
        for event, whole in zip(wanted, await each(lambda one: whole_event(store, one), wanted), strict=True):
            if whole is None:
                later.missing.append(canonical_ulid_event(event.event_id))
            else:
                later.add(whole.accepted)
        later.last_round = records[-1].record.number
        fresh = records if folded is None else [one for one in records if one.record.number > folded]
        later.rounds = (fresh[-1:] if folded is None else [*later.rounds, *fresh]) or later.rounds


async def add_accepted(
    store: ObjectStore, later: Later, held: EventsIndex, accepted: AcceptedSet, index: EventsIndex | None
) -> None:
    """Add the events of everything that was accepted and that `held` does not hold, wherever their texts are.

    `index`: the published one, as far as it can be read. Raises as `add_rounds`.
    """
    known = await contains(store, held, accepted.hashes, cache=SegmentCache())
    for event_id, sha256 in known.items():
        if accepted.hashes[event_id] != sha256:
            raise other_body(event_id, sha256, accepted.hashes[event_id])
    wanted = {event_id: sha256 for event_id, sha256 in accepted.hashes.items() if event_id not in known}
    if len(wanted) > MOST_LATER:
        raise too_many()
    found = await find_bodies(store, index, wanted)
    for event_id in sorted(wanted):
        if event_id in found:
            later.add(AcceptedEvent.of(event_id, found[event_id][0]))
        else:
            later.missing.append(canonical_ulid_event(event_id))
    later.last_round = accepted.last_round
    later.rounds = accepted.later


async def index_of(store: ObjectStore, manifest: Manifest | None) -> EventsIndex | None:
    """Return the index of accepted events that a manifest names; None if there is none that can be read."""
    ours = manifest.springline if manifest is not None else None
    if ours is None:
        return None
    try:
        return await read_index(store, ours.events.index)
    except DamagedObject:
        return None


def other_body(event_id: str, rebuilt: str, accepted: str) -> Refused:
    """Return the refusal of a base that holds another body than the one that was accepted."""
    path = canonical_ulid_event(event_id)
    return refused(
        Code.LEDGER_INCOMPLETE,
        f"{path} has the SHA-256 {rebuilt}, and the ledger has accepted {accepted} under its id; nothing was published",
        field="rebuild_manifest_path",
        value=str(path),
        remedy="Restore the object from a copy, then start the rebuild again.",
    )


def too_many() -> Refused:
    """Return the refusal of a base that lags too far behind the ledger."""
    return refused(
        Code.LEDGER_INCOMPLETE,
        f"more than {MOST_LATER:,} events were accepted after those that the rebuild manifest lists",
        field="rebuild_manifest_path",
        remedy="Make a newer manifest with `springline rebuild plan` and start the rebuild with it.",
    )
