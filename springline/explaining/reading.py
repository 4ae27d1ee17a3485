"""Asking the ledger: rows and events of the time in question are read here, and become an explanation elsewhere."""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any, Final, cast

from springline.deployed.reading import ManifestReader
from springline.explaining.runs import run_row
from springline.explaining.story import Aim, Evidence, Explanation, Question, Subject
from springline.explaining.telling import told
from springline.ledger.envelope import Event, MalformedEvent, parse_event
from springline.ledger.timestamps import format_ms
from springline.paths import Scope
from springline.projection.rows import TaskRow
from springline.published.events import accepted_events, events_between
from springline.published.reader import PublishedReader
from springline.published.segments import StoredEvent
from springline.published.snapshot import StateSnapshot
from springline.runs.pools import waits_of_run
from springline.storage.port import ObjectStore
from springline.storage.scoped import ScopedStore
from springline.ulids import MAX_ULID_MS, RANDOM_BITS, new_ulid

MOST_READ: Final = 500_000
"""Events that one question reads; of a longer time the first ones."""
MOST_KEPT: Final = 10_000
"""Of the events that concern a question, the latest so many decide the answer."""
MOST_SHOWN: Final = 200
"""Decisions that an explanation lists, the latest ones."""
_PLAIN = re.compile(r"[A-Za-z0-9_.:=,%@ \-\[\]]+")
"""Texts that JSON has only one way to write."""


@dataclass(slots=True)
class _Read:
    """Events that concern a question: the latest, how many were `found`, and how many `read` to find them."""

    events: deque[Event] = field(default_factory=lambda: deque(maxlen=MOST_KEPT))
    found: int = 0
    read: int = 0
    is_complete: bool = True


async def explain(
    store: ObjectStore,
    reader: PublishedReader,
    manifests: ManifestReader,
    scope: Scope,
    subject: Subject,
    question: Question,
) -> Explanation:
    """Return why something stands as it does, from the ledger alone. `store` is the whole store.

    Raises `Refused`: NOT_FOUND for what the rows do not have, INVALID_REQUEST for a question that lacks something;
    `DamagedObject`, and the store's errors.
    """
    rows = await reader.snapshot(scope, subject.tables)
    manifest = None
    if subject.by_definitions:
        current = await manifests.latest(ScopedStore(store, scope), scope)
        manifest = None if current is None else current.manifest
    known = Evidence(rows, manifest)
    aim = await asyncio.to_thread(subject.aim, known, question)
    since_ms = aim.since_ms if question.since_ms is None else question.since_ms
    until_ms = aim.until_ms if question.until_ms is None else question.until_ms
    waits = await _pool_waits(store, reader, manifests, scope, rows, aim)
    read = await _read(ScopedStore(store, scope), aim, since_ms, until_ms)
    evidence = replace(known, events=list(read.events), pool_waits=waits, tasks=aim.tasks)
    answer = await asyncio.to_thread(subject.answer, evidence, question)
    names = (question.identity, question.task, question.attempt, question.chunk, question.partition)
    return Explanation(
        subject=subject.name,
        identity=" ".join(str(one) for one in names if one is not None),
        verdict=answer.verdict,
        answer=answer.text,
        reason_code=None if answer.reason_code is None else str(answer.reason_code),
        waits_for=answer.waits_for,
        decisions=[told(event) for event in evidence.events[-MOST_SHOWN:]],
        left_out=max(0, read.found - MOST_SHOWN),
        next_steps=answer.next_steps,
        since=format_ms(_in_range(since_ms)),
        until=format_ms(_in_range(until_ms)),
        events_read=read.read,
        is_complete=read.is_complete,
    )


async def _pool_waits(
    store: ObjectStore,
    reader: PublishedReader,
    manifests: ManifestReader,
    scope: Scope,
    rows: StateSnapshot,
    aim: Aim,
) -> dict[str, str]:
    run = None if aim.run_id is None else run_row(rows, aim.run_id)
    if run is None:
        return {}
    tasks = [TaskRow(*cast(Any, row)) for row in await asyncio.to_thread(rows["tasks"].below, (run.run_id,))]
    return await waits_of_run(store, reader, manifests, scope, run, tasks)


async def _read(store: ObjectStore, aim: Aim, since_ms: int, until_ms: int) -> _Read:
    read = _Read()
    first = new_ulid(None, _in_range(since_ms), 0)
    last = new_ulid(None, _in_range(until_ms), (1 << RANDOM_BITS) - 1)
    if first > last:
        return read
    index = (await accepted_events(store)).index
    plain = [one.encode() for one in aim.mentions if _PLAIN.fullmatch(one)]
    # A text that JSON can write in several ways is looked for in what was parsed.
    wanted = plain if len(plain) == len(aim.mentions) else None
    # All ids have the same length: a prefix of one sorts below it.
    async with aclosing(events_between(store, index, first[:-1], last)) as batches:
        async for batch in batches:
            if read.read + len(batch) > MOST_READ:
                read.is_complete = False
                break
            read.read += len(batch)
            for event in await asyncio.to_thread(_concerned, batch, aim, wanted):
                read.events.append(event)
                read.found += 1
    return read


def _concerned(batch: Sequence[StoredEvent], aim: Aim, wanted: Sequence[bytes] | None) -> list[Event]:
    found = []
    for _, body in batch:
        if wanted is not None and not any(one in body for one in wanted):
            continue
        try:
            event = parse_event(body)
        except MalformedEvent:
            continue  # The fold passes over it as well: it decided nothing.
        if aim.concerns(event):
            found.append(event)
    return found


def _in_range(ms: int) -> int:
    return min(max(0, ms), MAX_ULID_MS)
