"""Writing the objects of a round: create-only; existing equal content is a success, other content is reported.

See docs/protocol.md#ledger-rounds.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from msgspec import UNSET

from springline.errors import InvariantViolated
from springline.ledger.json_text import canonical_json
from springline.ledger.request import RefusalReason
from springline.paths import ObjectPath, canonical_ulid_event, orchestration_request
from springline.sequencer.refused import RefusedObject, record_refused
from springline.sequencer.requests import RequestMarker, write_markers
from springline.sequencer.rounds import RoundRecord
from springline.storage.port import ObjectStore
from springline.storage.resolve import Created, Other, put_once
from springline.storage.together import each, together

PUTS_TOGETHER = 16


class EventTaken(InvariantViolated):
    """An event's name has another event. `path` names the object."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.path = path

    def __str__(self) -> str:
        return f"{self.path} holds another event than the one that was to be written there"


class EventsTaken(InvariantViolated):
    """Some names have other events; all others are written. `paths` names these objects, `created` counts new ones."""

    def __init__(self, paths: list[str], created: int) -> None:
        super().__init__(paths, created)
        self.paths = paths
        self.created = created

    def __str__(self) -> str:
        return f"other events than those to be written stand at {', '.join(self.paths)}"


async def write_event(store: ObjectStore, event_id: str, body: bytes) -> bool:
    """Write the event `event_id`, a canonical ULID, unless it exists; True if this call created it.

    After an unclear answer it puts the same bytes again; safe to repeat and to run twice at once. An existing object
    counts as the same if its bytes or its JSON are equal. Raises `EventTaken`, and `StoreRetry` or
    `StoreUnknown` if the caller should try again.
    """
    path = canonical_ulid_event(event_id)
    result = await put_once(store, path, body)
    if isinstance(result, Other) and not _same_content(result.data, body):
        raise EventTaken(path)
    return isinstance(result, Created)


async def write_events(store: ObjectStore, events: Mapping[str, bytes], *, concurrency: int = PUTS_TOGETHER) -> int:
    """Write events by id, at most `concurrency` at a time; return how many this call created.

    The call is not atomic: after an error any of them may be written, and the same call again completes it.
    Raises `EventsTaken` once all others are written, else as `write_event`.
    """

    async def write(one: tuple[str, bytes]) -> bool | EventTaken:
        try:
            return await write_event(store, *one)
        except EventTaken as error:
            return error

    named = list(events.items())
    there = await store.create_many([(canonical_ulid_event(event_id), body) for event_id, body in named])
    left = [one for one, is_there in zip(named, there, strict=True) if not is_there]
    results = await each(write, left, concurrency=concurrency)
    created = there.count(True) + sum(1 for result in results if result is True)
    taken = [result.path for result in results if isinstance(result, EventTaken)]
    if taken:
        raise EventsTaken(taken, created)
    return created


@dataclass(frozen=True, slots=True)
class WrittenRound:
    """The result of writing a round: how many events this call `created`, and which markers are as in the record.

    `damaged` names the objects that have other content.
    """

    created: int
    markers: list[RequestMarker]
    damaged: list[str]


async def write_round(store: ObjectStore, record: RoundRecord) -> WrittenRound:
    """Write the events and request markers of a round of our own. Safe to repeat; raises the store's errors.

    The round is valid even if one of its names has other content, because its record has the events. That other content
    is damage, and recorded.
    """
    (created, taken), others = await together(_write_own(store, record), write_markers(store, record.requests))
    markers = [marker for marker in record.requests if marker.request_id not in others]
    damaged = [
        orchestration_request(marker.request_id)
        for marker in record.requests
        if marker.request_id in others and not _says_the_same(others[marker.request_id], marker)
    ]
    return WrittenRound(created, markers, [*taken, *damaged])


async def _write_own(store: ObjectStore, record: RoundRecord) -> tuple[int, list[str]]:
    try:
        return await write_events(store, {event.event_id: event.data for event in record.events}), []
    except EventsTaken as error:
        by_path = {path: event for event in record.events for path in error.paths if event.event_id in path}
        found = await store.read_many([ObjectPath(path) for path in by_path])
        message = "the name belongs to an event of ours, whose bytes are in its round's record"
        refused = [
            RefusedObject(path, RefusalReason.OTHER_BODY, message, body, event.sha256)
            for (path, event), body in zip(by_path.items(), found, strict=True)
        ]
        await record_refused(store, refused)
        return error.created, error.paths


def _says_the_same(found: RequestMarker | None, marker: RequestMarker) -> bool:
    """Say whether a marker that was written before gives the answer that this one would."""
    return found is not None and _said(found) == _said(marker)


def _said(marker: RequestMarker) -> tuple[str, list[str], list[int]]:
    refused = [] if marker.refused is UNSET else [one.index for one in marker.refused]
    return marker.payload_sha256, [event.event_id for event in marker.events], refused


def _same_content(stored: bytes, body: bytes) -> bool:
    try:
        return canonical_json(json.loads(stored)) == canonical_json(json.loads(body))
    except (ValueError, RecursionError):
        return False
