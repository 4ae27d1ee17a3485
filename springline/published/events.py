"""The accepted events in the order of their ids, from whatever objects they lie in, in bounded memory."""

from __future__ import annotations

import asyncio
import heapq
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from operator import itemgetter

from springline.errors import Code, refused
from springline.published.head import read_head
from springline.published.index import EventsIndex, SegmentRef, TailEntry, between
from springline.published.index_files import read_index, read_node
from springline.published.reader import ReaderHead, head_of
from springline.published.segments import StoredEvent, read_segment, read_tail
from springline.storage.parallel import each
from springline.storage.port import ObjectStore


@dataclass(frozen=True, slots=True)
class AcceptedEvents:
    """The events that one revision holds."""

    head: ReaderHead
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


MOST_HELD = 200_000
"""Events that are held at a time, nearly; twice that while sources are read ahead."""
READ_AHEAD = 4
BATCH = 1_000
_LEAST_OF_A_SOURCE = 256
_TAIL_CHUNK = 256

_by_id = itemgetter(0)


@dataclass(frozen=True, slots=True)
class _Source:
    """Events from `start` on of a segment, a pack or a stretch of the tail. `at` says where."""

    start: str
    last: str
    at: SegmentRef | tuple[TailEntry, ...]


async def events_between(
    store: ObjectStore,
    index: EventsIndex,
    after: str | None,
    through: str | None = None,
    *,
    at_hand: Mapping[str, bytes] | None = None,
    batch: int = BATCH,
    ahead: int = READ_AHEAD,
    most_held: int = MOST_HELD,
) -> AsyncGenerator[list[StoredEvent], None]:
    """Yield all accepted events with ids above `after` and up to `through`, ascending, in lists of `batch` at most.

    None is no bound. Every event's bytes are those that were accepted: objects are checked by hash. `at_hand` holds
    bytes of events of the tail by id. The next `ahead` objects are read meanwhile. Raises `DamagedObject` for the
    first object that is missing or altered, when the stream gets there, and what the store does.
    """
    sources = await _sources(store, index, after, through)
    cap = max(_LEAST_OF_A_SOURCE, most_held // max(1, _depth(sources)))
    reading = _Reading(store, sources, through, {} if at_hand is None else at_hand, cap, ahead)
    held: list[list[StoredEvent]] = []
    try:
        while reading.waiting or held:
            horizon = reading.waiting[0][0] if reading.waiting else None
            ready, held = _split(held, horizon)
            for start in range(0, len(ready), batch):
                yield ready[start : start + batch]
            if reading.waiting:
                held.append(await reading.next())
    finally:
        await reading.stop()


def _split(held: Sequence[list[StoredEvent]], horizon: str | None) -> tuple[list[StoredEvent], list[list[StoredEvent]]]:
    """Return the events below `horizon` in order, and what is left of each source; None is no horizon."""
    ready: list[StoredEvent] = []
    left: list[list[StoredEvent]] = []
    for events in held:
        cut = len(events) if horizon is None else bisect_left(events, horizon, key=_by_id)
        ready += events[:cut]
        if cut < len(events):
            left.append(events[cut:])
    ready.sort(key=_by_id)
    return ready, left


async def _sources(store: ObjectStore, index: EventsIndex, after: str | None, through: str | None) -> list[_Source]:
    nodes = await each(lambda ref: read_node(store, ref), between(index.nodes, after, through))
    refs = [*(ref for segments in nodes for ref in segments), *index.segments, *index.packs]
    above = "" if after is None else after + "\0"
    found = [_Source(max(ref.first_id, above), ref.last_id, ref) for ref in between(refs, after, through)]
    tail = [entry for entry in index.tail if entry[0] >= above and (through is None or entry[0] <= through)]
    for start in range(0, len(tail), _TAIL_CHUNK):
        chunk = tuple(tail[start : start + _TAIL_CHUNK])
        found.append(_Source(chunk[0][0], chunk[-1][0], chunk))
    return found


def _depth(sources: Sequence[_Source]) -> int:
    """Return how many sources overlap at most."""
    edges = sorted([(one.start, 0) for one in sources] + [(one.last, 1) for one in sources])
    depth = most = 0
    for _, closing in edges:
        depth += -1 if closing else 1
        most = max(most, depth)
    return most


class _Reading:
    """Sources in the order of their first ids, the next few of them being read."""

    def __init__(
        self,
        store: ObjectStore,
        sources: Sequence[_Source],
        through: str | None,
        at_hand: Mapping[str, bytes],
        cap: int,
        ahead: int,
    ) -> None:
        self._numbers: Iterator[int] = count()
        self.waiting = [(one.start, next(self._numbers), one) for one in sources]
        heapq.heapify(self.waiting)
        self._store, self._through, self._at_hand, self._cap, self._ahead = store, through, at_hand, cap, ahead
        self._tasks: dict[int, asyncio.Task[list[StoredEvent]]] = {}

    async def next(self) -> list[StoredEvent]:
        """Return the events of the next source, at most `cap`; what it has beyond waits for its turn."""
        for _, number, source in heapq.nsmallest(1 + self._ahead, self.waiting):
            if number not in self._tasks:
                self._tasks[number] = asyncio.ensure_future(self._read(source))
        _, number, source = heapq.heappop(self.waiting)
        task = self._tasks.pop(number)
        try:
            events = await task
        except asyncio.CancelledError:
            self._tasks[number] = task
            raise
        if len(events) > self._cap:
            rest = events[self._cap][0]
            heapq.heappush(self.waiting, (rest, next(self._numbers), _Source(rest, source.last, source.at)))
            del events[self._cap :]
        return events

    async def _read(self, source: _Source) -> list[StoredEvent]:
        if isinstance(source.at, SegmentRef):
            events = await read_segment(self._store, source.at)
        else:
            read = await read_tail(self._store, source.at, self._at_hand)
            if read.damaged:
                raise read.damaged[0]
            events = sorted(read.bodies.items())
        end = len(events) if self._through is None else bisect_right(events, self._through, key=_by_id)
        return events[bisect_left(events, source.start, key=_by_id) : end]

    async def stop(self) -> None:
        """End what is being read; nothing of it outlives the stream."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        for task in tasks:
            if not task.cancelled():
                task.exception()
