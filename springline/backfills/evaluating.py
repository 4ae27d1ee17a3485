"""One pass over a backfill: record which chunks have ended, plan the next ones, cancel runs, end the backfill.

Safe to repeat, and to be made twice at once: what follows from the same rows has the same keys, and what follows from
older ones is refused, or was said before. Whoever is refused reads the rows again.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

import uuid_utils

from springline.backfills.keys import KeyLists
from springline.backfills.reading import (
    RUN_TABLES,
    KnownBackfill,
    counted,
    ended_runs,
    known_backfill,
    progress_of,
    states_of,
    view_of,
    with_states,
)
from springline.control.backfills.deciding import (
    BackfillView,
    after,
    cancelled_runs,
    chunks_to_plan,
    end_of,
    ended_chunks,
    missing_requests,
    planned_chunk,
)
from springline.control.backfills.messages import EvaluatedBackfill
from springline.definitions.backfills import Span
from springline.definitions.manifest import DeployedManifest
from springline.deployed.reading import ManifestReader
from springline.errors import Refusal
from springline.ledger.envelope import as_event
from springline.ledger.events import Payload
from springline.ledger.request import AppendedEvent, AppendMode, AppendRequest, NewEvent
from springline.paths import Scope
from springline.published.reader import PublishedReader
from springline.runs.launching import RunLedger
from springline.storage.damage import DamagedObject
from springline.storage.port import ObjectStore
from springline.storage.scoped import ScopedStore
from springline.storage.together import each

MOST_EVENTS: Final = 500
"""Events of one request."""
MOST_BYTES: Final = 1024 * 1024
"""And about their bytes."""
AGAIN_MS: Final = 500
"""After a refusal, and while there is more to do, the rows are read again this much later."""


class Planning(Enum):
    """How the planning of a pass ended."""

    DONE = "what is due is planned"
    MORE = "more is due than one pass plans"
    REFUSED = "the rows were older than the ledger, or the workspace is held"


class Stuck(Exception):
    """A backfill that cannot go on as it is; the message says why, and what to do."""


@dataclass(frozen=True, slots=True)
class BackfillPasses:
    """What makes passes over backfills. `store` is the whole store; `ledger` appends."""

    store: ObjectStore
    reader: PublishedReader
    manifests: ManifestReader
    lists: KeyLists
    ledger: RunLedger

    async def evaluate(self, scope: Scope, backfill_id: str, now_ms: int) -> EvaluatedBackfill:
        """Make a pass over a backfill, and say what it came to.

        Raises `DamagedObject`, `Refused` if the ledger does not answer, and the store's errors.
        """
        snapshot = await self.reader.snapshot(scope, RUN_TABLES)
        known = await asyncio.to_thread(known_backfill, snapshot, backfill_id)
        if known is None:
            return EvaluatedBackfill()
        counts = await asyncio.to_thread(counted, snapshot, backfill_id, now_ms)
        view = await asyncio.to_thread(view_of, snapshot, known, counts)
        runs = ended_runs(view)
        if runs:
            later = await self.reader.snapshot(scope, ("tasks",))
            states = await asyncio.to_thread(lambda: {run_id: states_of(later, run_id) for run_id in runs})
            view = with_states(view, states)
        ends = ended_chunks(view)
        said = EvaluatedBackfill(
            state=view.state,
            held=view.held,
            ended=len(ends),
            outcomes=dict(Counter(one.outcome for one in ends)),
            progress=await asyncio.to_thread(progress_of, known, counts, now_ms),
        )
        again = said.model_copy(update={"next_ms": now_ms + AGAIN_MS})
        if not await self._append_each(scope, ends):
            return again.model_copy(update={"outcomes": {}})
        view = after(view, ends)
        cancelled = cancelled_runs(view)
        taken = await each(lambda events: self._append_whole(scope, events), cancelled)
        taken += await each(lambda request: self._append_whole(scope, [request]), missing_requests(view))
        try:
            planned, more = await self._plan(scope, known, view)
        except (Stuck, DamagedObject) as error:
            return said.model_copy(update={"aside": str(error)})
        said = said.model_copy(update={"planned": planned, "is_over": view.is_over})
        end = end_of(view)
        if end is not None and not await self._append_whole(scope, [end]):
            return again
        if end is not None or more is Planning.MORE:
            return said.model_copy(update={"next_ms": now_ms})
        # A run that is ended before it has begun has no workflow that would tell of it.
        if more is Planning.REFUSED or (taken and not view.held):
            return said.model_copy(update={"next_ms": now_ms + AGAIN_MS})
        return said

    async def _plan(self, scope: Scope, known: KnownBackfill, view: BackfillView) -> tuple[int, Planning]:
        """Plan the chunks that are due; return how many were, and how that ended."""
        due = chunks_to_plan(view)
        chosen = await self._chosen(scope, known, view) if due else None
        planned = 0
        group: list[Payload] = []
        size = count = 0
        for index in due:
            places = view.places(index)
            if chosen is None:
                assert known.keys_name is not None
                keys = await self.lists.keys(scope, known.keys_name, places)
            else:
                keys = chosen.keys(places) if isinstance(chosen, Span) else [chosen[place] for place in places]
            weight = 2 * sum(len(key) + 3 for key in keys) + 1_000
            if group and (len(group) + 2 > MOST_EVENTS or size + weight > MOST_BYTES):
                if not await self._append_whole(scope, group):
                    return planned, Planning.REFUSED
                planned += count
                group, size, count = [], 0, 0
            group += planned_chunk(view, index, keys)
            size += weight
            count += 1
        if group:
            if not await self._append_whole(scope, group):
                return planned, Planning.REFUSED
            planned += count
        room = view.limit - len(view.open) - planned
        has_more = bool(planned) and room > 0 and due.stop < view.chunks
        return planned, Planning.MORE if has_more else Planning.DONE

    async def _chosen(self, scope: Scope, known: KnownBackfill, view: BackfillView) -> Span | Sequence[str] | None:
        """Return the partitions of a backfill; None if they are a list in the store. Raises `Stuck`."""
        selector = known.selector
        if known.keys_name is not None:
            return None
        if selector["type"] == "explicit":
            listed: list[str] = selector["partition_keys"]
            if len(listed) != view.total:
                raise Stuck(f"the event names {len(listed)} partitions and counts {view.total}: cancel the backfill")
            return listed
        if selector["type"] != "range":
            raise Stuck("the event has a filter that this version does not know: cancel the backfill")
        return _span(await self._manifest(scope, view), view, selector["start"], selector["end"])

    async def _manifest(self, scope: Scope, view: BackfillView) -> DeployedManifest:
        return (await self.manifests.needed(ScopedStore(self.store, scope), scope, view.manifest_id)).manifest

    async def _append_each(self, scope: Scope, events: Sequence[Payload]) -> bool:
        """Append events, each by itself; False if one was not taken for a reason that is to be looked at again."""
        for at in range(0, len(events), MOST_EVENTS):
            request = AppendRequest(
                request_id=str(uuid_utils.uuid7()),
                mode=AppendMode.EACH,
                events=[NewEvent(data=as_event(event)) for event in events[at : at + MOST_EVENTS]],
            )
            outcome = await self.ledger.append(scope, request)
            if outcome.refusal is not None or not all(isinstance(one, AppendedEvent) for one in outcome.results):
                return False
        return True

    async def _append_whole(self, scope: Scope, events: Sequence[Payload]) -> bool:
        """Append events, all or none; False if they were refused."""
        request = AppendRequest(
            request_id=str(uuid_utils.uuid7()), events=[NewEvent(data=as_event(event)) for event in events]
        )
        refusal: Refusal | None = (await self.ledger.append(scope, request)).refusal
        return refusal is None


def _span(manifest: DeployedManifest, view: BackfillView, start: str, end: str) -> Span:
    node = manifest.nodes.get(view.assets[0])
    cut = None if node is None else node.partitions
    if cut is None or cut.problem_of_key(start) is not None or cut.problem_of_key(end) is not None:
        raise Stuck(f"manifest {view.manifest_id} has no partitions from {start!r} to {end!r}: cancel the backfill")
    span = Span(cut, cut.position(start), cut.position(end) + 1)
    if len(span) != view.total:
        raise Stuck(f"from {start!r} to {end!r} are {len(span)} partitions, not {view.total}: cancel the backfill")
    return span
