"""The bytes of events that lie in objects of their own, from the rounds' records where an object is damaged.

A ledger goes on whatever becomes of one object: what was accepted is in the record of its round until it is packed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from springline.projection.index import PACK_EVENTS
from springline.sequencer.damage import DamagedObject
from springline.sequencer.parallel import each
from springline.sequencer.rounds import StoredRound, find_round
from springline.sequencer.segments import read_tail
from springline.sequencer.warm import Warm
from springline.storage.port import ObjectStore

_RECORDS_TOGETHER = 16
MOST_ROUNDS = 2 * PACK_EVENTS
"""Rounds that are looked back: the tail has fewer events, and nearly every round has one."""


async def tail_bodies(store: ObjectStore, warm: Warm) -> dict[str, bytes]:
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
