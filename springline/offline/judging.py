"""Whether an object is an event of the workspace (docs/formats.md#event-objects, docs/formats.md#envelope,
docs/formats.md#reading-events): what the reference's compactor takes, we take.

As the sequencer judges foreign events, but any id is taken, canonical ULID or not, and no clock is asked: whether an
event belongs to the set depends on the event alone.
"""

from __future__ import annotations

from datetime import date, timedelta
from functools import lru_cache

from springline.ledger.envelope import Event
from springline.ledger.event_ids import event_id_ms
from springline.ledger.request import RefusalReason
from springline.paths import InvalidPath, Scope, ledger_day_prefix
from springline.sequencer.foreign import Verdict, judge_body

_DAY_MS = 86_400_000
_DAY_NS = _DAY_MS * 1_000_000
_EPOCH = date(1970, 1, 1)


def misplaced(path: str, event_id: str) -> Verdict | None:
    """Say why `path` is not the one name that an event with this id may have; None if it is, or the id says nothing.

    An id that is no ULID names no day: then the event's own time has to be looked at, which `judge` does.
    """
    ms = event_id_ms(event_id)
    return None if ms is None else _judge_folder(path, event_id, ms // _DAY_MS)


def judge(path: str, event_id: str, body: bytes, scope: Scope) -> Event | Verdict:
    """Return the event that an object holds, or why it is refused; its id is that of its path."""
    judged = judge_body(event_id, body, scope)
    if isinstance(judged, Event) and event_id_ms(event_id) is None:
        return _judge_folder(path, event_id, judged.timestamp_ns // _DAY_NS) or judged
    return judged


def _judge_folder(path: str, event_id: str, day: int) -> Verdict | None:
    folder = _folder(day)
    if folder is None:
        return Verdict(RefusalReason.WRONG_PATH, "the event's day is none that a folder can name")
    if path != f"{folder}/{event_id}.json":
        return Verdict(RefusalReason.WRONG_PATH, f"the event belongs into the folder {folder}")
    return None


@lru_cache(maxsize=4096)
def _folder(day: int) -> str | None:
    try:
        return ledger_day_prefix(_EPOCH + timedelta(days=day))
    except (OverflowError, InvalidPath):
        return None
