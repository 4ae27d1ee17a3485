"""What a rule is given, and what it answers: an event to be written, one that repeats another, or a refusal.

Refusals name field, value and remedy, whatever a caller put into them. Keys: which may be given, and what a used one
means.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Final, Generic, TypeVar

from springline.errors import Code, Refused, refused
from springline.ledger import events as e
from springline.ledger.events import PAYLOAD_TYPES, Payload
from springline.ledger.keys import derived_key
from springline.projection.state import State
from springline.ulids import is_canonical_ulid

P_co = TypeVar("P_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Draft:
    """An event as it is asked for, well formed by itself. `key` is None where it follows from the payload."""

    data: Payload
    key: str | None
    causation_id: str | None


@dataclass(frozen=True, slots=True)
class Case(Generic[P_co]):
    """An event to be judged on the state before it.

    Args:
        data: its payload.
        key: its idempotency key, given or derived; no event has used it.
        event_id: the id it will have.
        now_ms: its time, in milliseconds since 1970 UTC.
        field: where its payload stands in the request, such as `events[2].data`.
        key_field: where its key stands, or would stand.
        later: the request's own events behind it.
    """

    data: P_co
    key: str
    event_id: str
    now_ms: int
    field: str
    key_field: str
    later: Sequence[Draft] = ()

    def conflict(self, name: str, message: str, remedy: str) -> Refused:
        """Build the refusal that the state calls for, about the payload's field `name`, such as `status.reason`."""
        return conflict(f"{self.field}.{name}", attrgetter(name)(self.data), message, remedy)


@dataclass(frozen=True, slots=True)
class Completion:
    """An event that the sequencer adds behind another one. `field`: what of the request it follows from."""

    data: Payload
    key: str | None
    field: str


Behind = Callable[[State], list[Completion]]
"""Says, on the state with the event in it, what has to follow it at once."""


@dataclass(frozen=True, slots=True)
class Write:
    """The event is written, with this payload, and followed by what `behind` says.

    `may_be_refused`: the fold may let it pass without effect; it is written for the record.
    """

    data: Payload
    behind: Behind | None = None
    may_be_refused: bool = False


@dataclass(frozen=True, slots=True)
class Repeats:
    """The event says what an earlier one has said: it is not written."""

    event_id: str
    event_type: str
    key: str


Ruling = Write | Repeats
Rule = Callable[[State, Case[Any]], Ruling]
Check = Callable[[Any, str, int], None]
"""Checks a payload by itself, given its place in the request and the time in ms; raises `Refused`."""
Missed = Callable[[State, Any], str | None]
"""Says why an event whose key was used is news all the same, or None if it is not."""

_SHOWN: Final = 120
_LONGEST: Final = 2_000
_STEP = re.compile(r"\[([0-9]+)\]|([^.\[]+)")


def invalid(field: str, value: Any, problem: str, remedy: str) -> Refused:
    """Build the refusal of an event that no state could admit: INVALID_REQUEST. `problem` goes on after the field."""
    return _refused(Code.INVALID_REQUEST, field, value, f"{field} {problem}", remedy)


def conflict(field: str, value: Any, message: str, remedy: str) -> Refused:
    """Build the refusal of an event that the state as it is does not admit: EVENT_CONFLICT."""
    return _refused(Code.EVENT_CONFLICT, field, value, message, remedy)


def key_in_use(field: str, key: str, message: str) -> Refused:
    """Build the refusal of an event whose idempotency key stands for another one: KEY_REUSED."""
    return _refused(Code.KEY_REUSED, field, key, message, "Give the event an idempotency_key of its own.")


def too_large(field: str, size: int, limit: int) -> Refused:
    """Build the refusal of an event with too many bytes: PAYLOAD_TOO_LARGE."""
    remedy = "Put data of this size into an object of its own, and its path into the event."
    return _refused(Code.PAYLOAD_TOO_LARGE, field, size, f"{field} has {size} bytes, at most {limit} are taken", remedy)


def shown(value: Any) -> str:
    """Return a value as it is shown in a message: as Python writes it, cut to a line."""
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def value_at(data: Any, path: str) -> Any:
    """Return what stands at a path like `tasks[0].key`, or None if nothing does."""
    for index, name in _STEP.findall(path):
        if index and isinstance(data, list) and int(index) < len(data):
            data = data[int(index)]
        elif name and isinstance(data, dict):
            data = data.get(name)
        else:
            return None
    return data


def _refused(code: Code, field: str, value: Any, message: str, remedy: str) -> Refused:
    return refused(code, _clean(message[:_LONGEST]), field=_clean(field), value=_told(value), remedy=_clean(remedy))


def _told(value: Any) -> Any:
    """Return a value as it can be put into any answer: text cut and encodable, other things by their look."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int) and value.bit_length() <= 64:
        return value
    if isinstance(value, str):
        return _clean(value if len(value) <= _SHOWN else f"{value[:_SHOWN]}...")
    return _clean(shown(value))


def _clean(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


_DERIVED: Final = re.compile(
    "(run|plan|cancel_req|started|heartbeat|finished|output_visibility|dispatch_req|dispatch_ack|timer_req|timer_ack"
    "|timer_fired|sched_def|sched_tick|sensor_eval|runreq|backfill_create|backfill_chunk|backfill_state):"
)
"""What keys begin with that follow from a payload."""

_TYPE_NAMES: Final = frozenset(kind.__name__ for kind in PAYLOAD_TYPES.values())
_SAME: Final = {"TaskCompletionRecorded": "TaskFinished"}
"""Types that share their keys with another one."""

_REPAIR = re.compile(r":(plan|finish):([^:]+)")


def repair_key(run_id: str, cause: str, event_id: str) -> str:
    """Return the key of an event that lets a cancellation have its effect.

    `cause` is `plan` or `finish`: the event `event_id` planned a cancelled run, or failed in one with attempts left.
    """
    return f"cancel_req:{run_id}:{cause}:{event_id}"


def given_key(data: Payload, key: str, field: str) -> str | None:
    """Check a key that a caller gives; None if it is the derived one, which then may follow from more than given.

    A key in the form of derived ones that belongs to another event would keep that event out for ever. Raises
    `Refused`.
    """
    if key == derived_key(data):
        return None
    form = _DERIVED.match(key)
    if form is not None and not _is_repair(data, key):
        raise invalid(
            field,
            key,
            "has the form of a key that follows from a payload, and another payload than this one",
            f"Give a key that does not begin with {form[0]!r}, or none.",
        )
    return key


def _is_repair(data: Payload, key: str) -> bool:
    if not isinstance(data, e.RunCancelRequested | e.TaskFinished):
        return False
    prefix = f"cancel_req:{data.run_id}"
    match = _REPAIR.fullmatch(key, len(prefix)) if key.startswith(prefix) else None
    return match is not None and is_canonical_ulid(match[2])


def repeated(state: State, data: Payload, key: str, field: str) -> Repeats | None:
    """Return the event that has used a key, or None if the key is free.

    Raises `Refused` (KEY_REUSED) if that event has another type than this one.
    """
    used = state.event_with_key(key)
    if used is None:
        return None
    event_id, event_type = used
    own = type(data).__name__
    if event_type in _TYPE_NAMES and _SAME.get(event_type, event_type) != _SAME.get(own, own):
        raise key_in_use(field, key, f"the idempotency key {key!r} was used by a {event_type}, event {event_id}")
    return Repeats(event_id, event_type, key)
