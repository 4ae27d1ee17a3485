"""Reading event objects by explicit paths: each judged for itself, none holds up another.

See docs/formats.md#reading-events.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from springline import paths
from springline.ledger.envelope import Event
from springline.ledger.request import RefusalReason
from springline.requests.isolation import refused_alone
from springline.sequencer.foreign import Verdict, judge_body, judge_path
from springline.sequencer.offload import in_thread
from springline.storage.port import ObjectStore

READS_TOGETHER = 16


@dataclass(frozen=True, slots=True)
class EventRead:
    """What was found at one path: the event and its bytes, or why it is none of ours.

    A refused object's bytes are here too, if there are any.
    """

    path: str
    body: bytes | None
    event: Event | None = None
    refusal: Verdict | None = None


async def read_events(
    store: ObjectStore, scope: paths.Scope, event_paths: Sequence[str], *, concurrency: int = READS_TOGETHER
) -> list[EventRead]:
    """Read the events at `event_paths`, at most `concurrency` at a time, and judge each; in the order of the paths.

    Judged are the path's shape, the id (a canonical ULID), that the path is the event's one name, the JSON and its
    fields, and the scope. Nothing is read for a path that is refused by itself. Raises what the store does.
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
    judged: Sequence[str | Verdict],
    bodies: Sequence[bytes | None],
) -> list[EventRead]:
    read: list[EventRead] = []
    for path, event_id, body in zip(event_paths, judged, bodies, strict=True):
        verdict = _judged_body(event_id, body, scope, path) if isinstance(event_id, str) else event_id
        if isinstance(verdict, Verdict):
            read.append(EventRead(path, body, refusal=verdict))
        else:
            read.append(EventRead(path, body, event=verdict))
    return read


def judged_path(path: str) -> str | Verdict:
    """Judge a path as `judge_path` does; an error that nobody foresaw refuses this event and none of the others."""
    try:
        return judge_path(path)
    except Exception as error:
        return _failed(path, error)


def _judged_body(event_id: str, body: bytes | None, scope: paths.Scope, path: str) -> Event | Verdict:
    try:
        return judge_body(event_id, body, scope)
    except Exception as error:
        return _failed(path, error)


def _failed(path: str, error: Exception) -> Verdict:
    refusal = refused_alone(error, what="a foreign event was judged", field="event_paths", identity=path)
    return Verdict(RefusalReason.FAILED, refusal.message)
