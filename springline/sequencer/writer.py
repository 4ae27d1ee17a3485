"""Writing event objects: create-only, the same content is a success, anything else is named.

See docs/protocol.md#ledger-rounds.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from springline.errors import InvariantViolated
from springline.ledger.json_text import canonical_json
from springline.paths import canonical_ulid_event
from springline.storage.parallel import each
from springline.storage.port import ObjectStore
from springline.storage.resolve import Created, Other, put_once

PUTS_TOGETHER = 16


class EventTaken(InvariantViolated):
    """Another event stands at an event's name. `path` names the object."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.path = path

    def __str__(self) -> str:
        return f"{self.path} holds another event than the one that was to be written there"


class EventsTaken(InvariantViolated):
    """Some of many events could not be written, all others are. `paths` names the objects, `created` counts."""

    def __init__(self, paths: list[str], created: int) -> None:
        super().__init__(paths, created)
        self.paths = paths
        self.created = created

    def __str__(self) -> str:
        return f"other events than those to be written stand at {', '.join(self.paths)}"


async def write_event(store: ObjectStore, event_id: str, body: bytes) -> bool:
    """Write the event `event_id`, a canonical ULID, unless it is there; True if this call created it.

    An unclear answer is resolved by putting the same bytes again; safe to repeat and to run twice at once. An object
    that is there counts as the same if its bytes are, or its JSON is. Raises `EventTaken`, and `StoreRetry` or
    `StoreUnknown` if the write is to be tried again.
    """
    path = canonical_ulid_event(event_id)
    result = await put_once(store, path, body)
    if isinstance(result, Other) and not _same_content(result.data, body):
        raise EventTaken(path)
    return isinstance(result, Created)


async def write_events(store: ObjectStore, events: Mapping[str, bytes], *, concurrency: int = PUTS_TOGETHER) -> int:
    """Write events by id, at most `concurrency` at a time; return how many this call created.

    There is no atomicity across them: after an error any of them may be written, and the same call completes it.
    Raises `EventsTaken` once all others are written, else as `write_event`.
    """

    async def write(one: tuple[str, bytes]) -> bool | EventTaken:
        try:
            return await write_event(store, *one)
        except EventTaken as error:
            return error

    results = await each(write, events.items(), concurrency=concurrency)
    created = sum(1 for result in results if result is True)
    taken = [result.path for result in results if isinstance(result, EventTaken)]
    if taken:
        raise EventsTaken(taken, created)
    return created


def _same_content(stored: bytes, body: bytes) -> bool:
    try:
        return canonical_json(json.loads(stored)) == canonical_json(json.loads(body))
    except (ValueError, RecursionError):
        return False
