"""One pass over the schedules of a workspace: decide on what is due, and append it.

Safe to repeat, and to be made twice at once: what follows from the same rows has the same keys, and what follows from
older ones is refused. Whoever is refused reads the rows again.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import uuid_utils

from springline.bounds import on_one_line
from springline.control.schedules.deciding import ScheduleView, decide, delay_of, is_due
from springline.control.schedules.messages import DecidedInstant, EvaluatedSchedules, UpcomingInstant
from springline.deployed.reading import ManifestReader
from springline.ledger.envelope import as_event
from springline.ledger.events import Payload, RunRequested, ScheduleTicked
from springline.ledger.nested import TickFailed, TickSkipped, TickTriggered
from springline.ledger.request import AppendRequest, NewEvent
from springline.paths import Scope
from springline.published.reader import PublishedReader
from springline.published.snapshot import StateSnapshot
from springline.runs.launching import RunLedger
from springline.runs.loading import is_held
from springline.schedules.reading import TABLES, known_schedules, planner, with_runs
from springline.storage.port import ObjectStore
from springline.storage.scoped import ScopedStore
from springline.storage.together import each

MOST_EVENTS: Final = 300
"""Events of one request, if not of a single schedule."""
AGAIN_MS: Final = 500
"""After a refusal the rows are read again this much later."""
_MOST_ASIDE: Final = 20
_MOST_SHOWN: Final = 12
"""Next instants, and decisions, that people are shown."""


async def evaluate(
    store: ObjectStore,
    reader: PublishedReader,
    manifests: ManifestReader,
    ledger: RunLedger,
    scope: Scope,
    now_ms: int,
    *,
    note: Callable[[Sequence[ScheduleTicked], Mapping[str, int | None]], None] = lambda _, __: None,
) -> EvaluatedSchedules:
    """Decide on what is due at `now_ms`, append it, and say when the next look is due.

    `store` is the whole store; `note` gets the ticks that the ledger has taken, and by schedule
    what `delay_of` says.

    Raises `DamagedObject`, `Refused` if the ledger does not answer, and the store's errors.
    """
    snapshot = await reader.snapshot(scope, TABLES)
    if not len(snapshot["schedule_definitions"]):
        return EvaluatedSchedules()
    current = await manifests.latest(ScopedStore(store, scope), scope)
    manifest = None if current is None else current.manifest
    manifest_id = None if manifest is None else manifest.manifest_id
    views = await asyncio.to_thread(views_of, snapshot, now_ms, manifest_id)
    if not views:
        return EvaluatedSchedules()
    if is_held(snapshot):
        return EvaluatedSchedules(schedules=len(views), held=True, paused=sum(not view.enabled for view in views))
    plan = planner(manifest)
    decisions = await asyncio.to_thread(lambda: [decide(view, now_ms, plan) for view in views])
    aside = [
        f"{view.schedule_id}: {one.aside}" for view, one in zip(views, decisions, strict=True) if one.aside is not None
    ]
    taken: list[ScheduleTicked] = []
    delays = {view.schedule_id: delay_of(view) for view in views}

    def noted(events: Sequence[ScheduleTicked]) -> None:
        taken.extend(events)
        note(events, delays)

    refused = await _append_all(ledger, scope, [one.events for one in decisions if one.events], noted)
    nexts = [one.next_ms for one in decisions if one.next_ms is not None]
    if refused:
        aside += refused
        nexts.append(now_ms + AGAIN_MS)
    upcoming = heapq.nsmallest(
        _MOST_SHOWN,
        (
            (one.next_ms, view.schedule_id)
            for view, one in zip(views, decisions, strict=True)
            if one.next_ms is not None
        ),
    )
    ticks = [event for one in decisions for event in one.events if isinstance(event, ScheduleTicked)]
    runs = sum(isinstance(event, RunRequested) for one in decisions for event in one.events)
    return EvaluatedSchedules(
        schedules=len(views),
        next_ms=min(nexts, default=None),
        runs=runs,
        skipped=len(ticks) - runs,
        aside=aside[:_MOST_ASIDE],
        paused=sum(not view.enabled for view in views),
        upcoming=[UpcomingInstant(schedule_id=name, at_ms=at_ms) for at_ms, name in upcoming],
        decided=[_told(tick) for tick in sorted(taken, key=lambda one: one.scheduled_for)[-_MOST_SHOWN:]],
    )


def _told(tick: ScheduleTicked) -> DecidedInstant:
    match tick.status:
        case TickTriggered():
            said = tick.run_key
        case TickSkipped(reason=why) | TickFailed(error=why):
            said = on_one_line(why)
    return DecidedInstant(
        schedule_id=tick.schedule_id,
        scheduled_for=tick.scheduled_for,
        status=type(tick.status).__name__.removeprefix("Tick").lower(),
        said=said,
    )


def views_of(snapshot: StateSnapshot, now_ms: int, manifest_id: str | None = None) -> list[ScheduleView]:
    """Return the schedules on which somebody is to decide, those that are due with the number of their open runs.

    `manifest_id`: the definitions by which their runs are made.
    """
    views = [one.view for one in known_schedules(snapshot, manifest_id) if not one.view.deleted]
    due = with_runs(snapshot, [view for view in views if is_due(view, now_ms)])
    counted = {view.schedule_id: view for view in due}
    return [counted.get(view.schedule_id, view) for view in views]


async def _append_all(
    ledger: RunLedger,
    scope: Scope,
    decided: Sequence[Sequence[Payload]],
    note: Callable[[Sequence[ScheduleTicked]], None],
) -> list[str]:
    """Append what is decided of schedules, each whole; return what was refused."""
    groups: list[list[Sequence[Payload]]] = []
    size = MOST_EVENTS
    for events in decided:
        if size + len(events) > MOST_EVENTS:
            groups.append([])
            size = 0
        groups[-1].append(events)
        size += len(events)

    async def whole(events: Sequence[Payload]) -> str | None:
        said = await append_whole(ledger, scope, events)
        if said is None:
            note([event for event in events if isinstance(event, ScheduleTicked)])
        return said

    async def together(group: list[Sequence[Payload]]) -> list[str]:
        said = await whole([event for events in group for event in events])
        if said is None:
            return []
        if len(group) == 1:
            return [said]
        # One schedule that has changed meanwhile holds up no other.
        alone = await each(whole, group)
        return [one for one in alone if one is not None]

    return [one for said in await each(together, groups) for one in said]


async def append_whole(ledger: RunLedger, scope: Scope, events: Sequence[Payload]) -> str | None:
    """Append events, all or none; return why they were refused. Raises `Refused` if the ledger does not answer."""
    request = AppendRequest(
        request_id=str(uuid_utils.uuid7()), events=[NewEvent(data=as_event(event)) for event in events]
    )
    refusal = (await ledger.append(scope, request)).refusal
    return None if refusal is None else refusal.message
