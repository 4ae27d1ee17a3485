"""Idempotency keys: which may be given, and what a used one means."""

from __future__ import annotations

import re
from typing import Final

from springline.control.admission.cases import Repeats
from springline.control.admission.refusals import invalid, key_in_use
from springline.ledger import events as e
from springline.ledger.event_ids import is_canonical
from springline.ledger.events import PAYLOAD_TYPES, Payload
from springline.ledger.keys import derived_key
from springline.projection.state import State

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
    return match is not None and is_canonical(match[2])


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
