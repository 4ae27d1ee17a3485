"""Refusals that name field, value and remedy, whatever a caller put into them."""

from __future__ import annotations

import re
from typing import Any, Final

from springline.errors import Code, Refused, refused

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
