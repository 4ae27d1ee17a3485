"""Records for what a rebuild takes in: from them on its events belong to the ledger, like those of any other round.

A rebuild may list events that the ledger has never accepted. They are accepted by its being published, so that must
not be known from the published state alone: if that were lost, so would they be. Their rounds are recorded before the
pointer moves, with ids and hashes; the texts are in the objects and segments that were read.
"""

from __future__ import annotations

import hashlib
from contextlib import aclosing
from dataclasses import dataclass, field

from springline.published.events import events_between
from springline.published.index import EventsIndex
from springline.published.index_files import SegmentCache, contains
from springline.rebuild.accepted import AcceptedHashes
from springline.rebuild.fold import overlapping
from springline.rebuild.messages import SwitchStateOrder
from springline.rebuild.split import read_parts, read_split
from springline.sequencer.rounds import Ours, RoundEvent, RoundRecord, create_round
from springline.storage.offload import in_thread
from springline.storage.port import ObjectStore

RECORD_EVENTS = 100_000
"""Events of one such record, about 11 MB of ids and hashes."""
BATCH = 10_000


@dataclass(slots=True)
class Recording:
    """Records of new events, by number behind `last_round`. `taken`: somebody else has such a number."""

    order: SwitchStateOrder
    begun_on: str | None
    last_round: int
    taken: bool = False
    _waiting: list[RoundEvent] = field(default_factory=list)

    async def add(self, store: ObjectStore, events: list[RoundEvent]) -> None:
        """Take note of new events, ascending by id, and record them as soon as they fill a record."""
        self._waiting += events
        while len(self._waiting) >= RECORD_EVENTS and not self.taken:
            some, self._waiting = self._waiting[:RECORD_EVENTS], self._waiting[RECORD_EVENTS:]
            await self._record(store, some)

    async def end(self, store: ObjectStore) -> None:
        """Record what is left."""
        if self._waiting and not self.taken:
            await self._record(store, self._waiting)

    async def _record(self, store: ObjectStore, events: list[RoundEvent]) -> None:
        record = record_of(self.order, self.last_round + 1, events, self.begun_on)
        if isinstance(await create_round(store, record), Ours):
            self.last_round = record.number
        else:
            self.taken = True


def record_of(order: SwitchStateOrder, number: int, events: list[RoundEvent], begun_on: str | None) -> RoundRecord:
    """Return the record of events that a rebuild takes in, always the same for the same order."""
    return RoundRecord(
        number=number,
        writer="rebuild",
        order_sha256="",
        begun_on=begun_on,
        kind="foreign",
        created_at_ms=order.now_ms,
        events=events,
    )


async def nothing_new(store: ObjectStore, order: SwitchStateOrder, events: int) -> bool:
    """Say whether all `events` of a rebuilt state are known to have been accepted when it was read."""
    plan = order.switch.plan
    split = await read_split(store, plan.work_id, order.switch.split)
    parts = await read_parts(store, split.receipts)
    are_apart = all(part.whole for part in parts) and all(len(group) == 1 for group in overlapping(parts))
    return are_apart and sum(part.known for part in parts) == events


async def record_new(
    store: ObjectStore, recording: Recording, held: EventsIndex, index: EventsIndex | None, accepted: AcceptedHashes
) -> None:
    """Record those events of `held` that neither the published `index` has, nor `accepted`. Raises as the store."""
    cache = SegmentCache()
    async with aclosing(events_between(store, held, None, batch=BATCH)) as batches:
        async for batch in batches:
            ids = [event_id for event_id, _ in batch]
            known = dict(await accepted.hashes(ids))
            if index is not None and len(known) < len(ids):
                known |= await contains(store, index, [one for one in ids if one not in known], cache=cache)
            new = [(event_id, body) for event_id, body in batch if event_id not in known]
            hashed = await in_thread(lambda new=new: [(one, hashlib.sha256(body).hexdigest()) for one, body in new])  # type: ignore[misc]
            await recording.add(store, [RoundEvent(event_id, sha256, "") for event_id, sha256 in hashed])
            if recording.taken:
                return
    await recording.end(store)
