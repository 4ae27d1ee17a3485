"""The accepted events of a workspace, read by way of the published index: nothing is listed.

See docs/protocol.md#publication.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass

from springline.errors import Code, refused
from springline.published.event_stream import events_between
from springline.published.head import read_head
from springline.published.index import EventsIndex
from springline.published.index_files import read_index, read_node
from springline.published.reader import Head, head_of
from springline.published.segments import StoredEvent
from springline.storage.port import ObjectStore


@dataclass(frozen=True, slots=True)
class AcceptedEvents:
    """The events that one revision holds."""

    head: Head
    index: EventsIndex


async def accepted_events(store: ObjectStore) -> AcceptedEvents:
    """Return the index of the published revision, empty before the first publish.

    Raises `Refused` (NOT_FOUND) if another implementation published last, which keeps none; `DamagedObject`.
    """
    found = await read_head(store)
    head = head_of(found)
    if found is None:
        return AcceptedEvents(head, EventsIndex())
    if found.manifest.springline is None:
        raise refused(
            Code.NOT_FOUND,
            f"revision {head.revision.manifest_id} was published by another implementation and has no index of events",
            field="store",
            value=head.revision.manifest_id,
            remedy="Append or ingest an event: the sequencer then takes the workspace over.",
        )
    return AcceptedEvents(head, await read_index(store, found.manifest.springline.events.index))


async def newest(store: ObjectStore, index: EventsIndex, count: int) -> list[StoredEvent]:
    """Return the `count` events with the greatest ids, ascending."""
    if count == 0:
        return []
    held: deque[StoredEvent] = deque(maxlen=count)
    async for batch in events_between(store, index, await _below_newest(store, index, count)):
        held.extend(batch)
    return list(held)


async def _below_newest(store: ObjectStore, index: EventsIndex, count: int) -> str | None:
    """Return an id above which there are at least `count` events and not many more; None if there are not so many."""
    refs = [*index.packs, *index.segments]
    if sum(ref.count for ref in refs) + len(index.tail) < count:
        for node in index.nodes:
            refs += await read_node(store, node)
    ranges = [(ref.last_id, ref.first_id, ref.count) for ref in refs] + [(one, one, 1) for one, _ in index.tail]
    ranges.sort(reverse=True)
    held, least = 0, ""
    for _, first_id, its_count in ranges:
        least = first_id if held == 0 else min(least, first_id)
        held += its_count
        if held >= count:
            # All ids have one length: a part of one lies below it, and above nothing that is not.
            return least[:-1]
    return None


async def events_after(store: ObjectStore, index: EventsIndex, event_id: str) -> AsyncIterator[StoredEvent]:
    """Yield the events with ids above `event_id`, ascending."""
    async for batch in events_between(store, index, event_id):
        for event in batch:
            yield event
