"""Events that another writer put: read by explicit paths, each judged by path, then by body, apart from all others.

See docs/formats.md#event-objects, docs/formats.md#reading-events, docs/protocol.md#ledger-rounds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from springline import paths
from springline.batching import refused_alone
from springline.ledger.envelope import Event, MalformedEvent, parse_event
from springline.ledger.request import RefusalReason
from springline.storage.port import ObjectStore
from springline.storage.threads import in_thread
from springline.ulids import is_canonical_ulid, ulid_time_ms

MAX_AHEAD_MS = 5 * 60 * 1000
"""An event whose id lies further ahead is deferred (docs/formats.md#event-ids)."""
MAX_EVENT_BYTES = 8 * 1024 * 1024
"""Larger objects are refused: they would not fit into a round record."""


@dataclass(frozen=True, slots=True)
class EventVerdict:
    """Why an event is refused."""

    reason: RefusalReason
    message: str


def judge_path(path: str) -> str | EventVerdict:
    """Return the id of the event that `path` names, or why no event of ours can have this path.

    Needs no read. Ids that are not canonical ULIDs are refused here; only the offline fold takes them.
    """
    event_id = paths.event_id_from_ledger_path(path)
    if event_id is None:
        return EventVerdict(RefusalReason.NOT_A_LEDGER_PATH, "the path is not that of a ledger event")
    if not is_canonical_ulid(event_id):
        return EventVerdict(RefusalReason.NOT_A_ULID, f"the id {event_id!r} is not a ULID in upper case")
    try:
        canonical = paths.canonical_ulid_event(event_id)
    except paths.InvalidPath as error:
        return EventVerdict(RefusalReason.NOT_A_ULID, str(error))
    if canonical != path:
        return EventVerdict(RefusalReason.WRONG_PATH, f"an event with this id lies at {canonical}")
    return event_id


def judge_body(event_id: str, body: bytes | None, scope: paths.Scope) -> Event | EventVerdict:
    """Return the event read from the path of `event_id`, or why it is refused; body None: there was no object."""
    if body is None:
        return EventVerdict(RefusalReason.MISSING, "there is no object at this path")
    event = judge_event(body, scope)
    if isinstance(event, Event) and event.event_id != event_id:
        return EventVerdict(RefusalReason.WRONG_PATH, f"the object holds event {event.event_id!r}")
    return event


def judge_event(body: bytes, scope: paths.Scope) -> Event | EventVerdict:
    """Return the event in a body, with any id, or why it is refused."""
    if len(body) > MAX_EVENT_BYTES:
        return EventVerdict(RefusalReason.UNREADABLE, f"the object has {len(body)} bytes, more than {MAX_EVENT_BYTES}")
    try:
        event = parse_event(body)
    except MalformedEvent as error:
        return EventVerdict(RefusalReason.UNREADABLE, f"the object is no event: {error.reason}")
    if event.tenant_id != scope.tenant or event.workspace_id != scope.workspace:
        return EventVerdict(
            RefusalReason.OTHER_SCOPE,
            f"the event is of tenant {event.tenant_id!r} and workspace {event.workspace_id!r}",
        )
    return event


def is_too_far_ahead(event_id: str, now_ms: int) -> bool:
    """Say whether a canonical id lies more than `MAX_AHEAD_MS` ahead of `now_ms`: its caller sends it again later."""
    return (ulid_time_ms(event_id) or 0) > now_ms + MAX_AHEAD_MS


READS_TOGETHER = 16


@dataclass(frozen=True, slots=True)
class EventRead:
    """The result of reading one path: the event and its bytes, or why it is refused.

    A refused object has its bytes, too, if there are any.
    """

    path: str
    body: bytes | None
    event: Event | None = None
    refusal: EventVerdict | None = None


async def read_events(
    store: ObjectStore, scope: paths.Scope, event_paths: Sequence[str], *, concurrency: int = READS_TOGETHER
) -> list[EventRead]:
    """Read the events at `event_paths`, at most `concurrency` at a time, and judge each; in the order of the paths.

    Checks the path's shape, the id (a canonical ULID), that the path is the event's one name, the JSON and its
    fields, and the scope. A path that is refused by itself is not read. Raises the store's errors.
    """
    judged = [judged_path(path) for path in event_paths]
    readable = [
        paths.relative_path(path) for path, one in zip(event_paths, judged, strict=True) if isinstance(one, str)
    ]
    found = iter(await store.read_many(readable, concurrency=concurrency))
    bodies = [next(found) if isinstance(one, str) else None for one in judged]
    return await in_thread(lambda: _judge(scope, event_paths, judged, bodies))


def _judge(
    scope: paths.Scope,
    event_paths: Sequence[str],
    judged: Sequence[str | EventVerdict],
    bodies: Sequence[bytes | None],
) -> list[EventRead]:
    read: list[EventRead] = []
    for path, event_id, body in zip(event_paths, judged, bodies, strict=True):
        verdict = _judged_body(event_id, body, scope, path) if isinstance(event_id, str) else event_id
        if isinstance(verdict, EventVerdict):
            read.append(EventRead(path, body, refusal=verdict))
        else:
            read.append(EventRead(path, body, event=verdict))
    return read


def judged_path(path: str) -> str | EventVerdict:
    """Judge a path as `judge_path` does; an unforeseen error refuses this event only."""
    try:
        return judge_path(path)
    except Exception as error:
        return _failed(path, error)


def _judged_body(event_id: str, body: bytes | None, scope: paths.Scope, path: str) -> Event | EventVerdict:
    try:
        return judge_body(event_id, body, scope)
    except Exception as error:
        return _failed(path, error)


def _failed(path: str, error: Exception) -> EventVerdict:
    refusal = refused_alone(error, what="a foreign event was judged", field="event_paths", identity=path)
    return EventVerdict(RefusalReason.FAILED, refusal.message)
