"""Inputs and answers of admission rules: an event to write, one that repeats another, or a refusal.

Refusals name field, value and remedy, also of values that cannot be encoded. Also the rules for idempotency keys: which
ones a caller may give, and the meaning of a used one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from operator import attrgetter
from typing import Any, Final, Generic, TypeVar

from msgspec import Struct, inspect

from springline.errors import Code, Refused, refused
from springline.ledger import events as e
from springline.ledger.events import EVENT_TYPES, KEY_PREFIXES, P, Payload, derived_key
from springline.ledger.nested import ID_MARK, TEXT_MARK
from springline.projection.state import State
from springline.ulids import is_canonical_ulid

P_co = TypeVar("P_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Draft:
    """A requested event, well formed by itself. `key` is None if it is derived from the payload."""

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
        field: the path of its payload in the request, such as `events[2].data`.
        key_field: the path of its key, even if it has none.
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
        """Return the refusal because of the state, about the payload's field `name`, such as `status.reason`."""
        return conflict(f"{self.field}.{name}", attrgetter(name)(self.data), message, remedy)


@dataclass(frozen=True, slots=True)
class Completion:
    """An event that the sequencer adds after another one. `field`: the field of the request that causes it."""

    data: Payload
    key: str | None
    field: str


Behind = Callable[[State], list[Completion]]
"""Returns, for the state with the event in it, the completions that must follow it at once."""


@dataclass(frozen=True, slots=True)
class Write:
    """The event is written, with this payload, and followed by the completions of `behind`.

    `may_be_refused`: the fold may not apply it; it is written for the record.
    """

    data: Payload
    behind: Behind | None = None
    may_be_refused: bool = False


@dataclass(frozen=True, slots=True)
class Repeats:
    """The event repeats an earlier one, so it is not written."""

    event_id: str
    event_type: str
    key: str


Ruling = Write | Repeats


@dataclass(frozen=True, slots=True)
class EventRule(Generic[P]):
    """The admission rule of an event type.

    Args:
        payload: the type.
        admit: the rule on the state before the event; raises `Refused`.
        check: checks a payload by itself, given its place in the request and the time in epoch milliseconds; raises
            `Refused`. None if the types of its fields are check enough.
        missed: returns why a run waits for an event whose key was used, or None if none does. None for a type
            that no run waits for.
        fill: returns the payload with fields that the sequencer adds, given the time in epoch milliseconds.
        key: returns the key of an event without one, by payload and event id; by default the derived one.
    """

    payload: type[P]
    admit: Callable[[State, Case[P]], Ruling]
    check: Callable[[P, str, int], None] | None
    missed: Callable[[State, P], str | None] | None
    fill: Callable[[P, int], P] | None = None
    key: Callable[[P, str], str] | None = None


_SHOWN: Final = 120
_LONGEST: Final = 2_000
_STEP = re.compile(r"\[([0-9]+)\]|([^.\[]+)")


def invalid(field: str, value: Any, problem: str, remedy: str) -> Refused:
    """Build the refusal of an event that no state could admit: INVALID_REQUEST. `problem` goes on after the field."""
    return _refused(Code.INVALID_REQUEST, field, value, f"{field} {problem}", remedy)


def conflict(field: str, value: Any, message: str, remedy: str) -> Refused:
    """Return the refusal of an event that the current state does not admit: EVENT_CONFLICT."""
    return _refused(Code.EVENT_CONFLICT, field, value, message, remedy)


def key_in_use(field: str, key: str, message: str) -> Refused:
    """Return the refusal of an event whose idempotency key belongs to another one: KEY_REUSED."""
    return _refused(Code.KEY_REUSED, field, key, message, "Give the event an idempotency_key of its own.")


def refuse_held(state: State, case: Case[Any]) -> None:
    """Refuse an event that begins something while the workspace is held: what runs goes on, and nothing new begins."""
    if state.is_held:
        raise conflict(
            case.field,
            type(case.data).__name__,
            f"the workspace is held, and {type(case.data).__name__} would begin something",
            "Wait until the hold is taken off, or take it off: springline hold release.",
        )


def too_large(field: str, size: int, limit: int) -> Refused:
    """Build the refusal of an event with too many bytes: PAYLOAD_TOO_LARGE."""
    remedy = "Put data of this size into an object of its own, and its path into the event."
    return _refused(Code.PAYLOAD_TOO_LARGE, field, size, f"{field} has {size} bytes, at most {limit} are taken", remedy)


def shown(value: Any) -> str:
    """Return a value for a message: as Python writes it, cut to a line."""
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def value_at(data: Any, path: str) -> Any:
    """Return the value at a path like `tasks[0].key`, or None if there is none."""
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
    """Return a value in a form for any answer: texts cut and encodable, other values as Python writes them."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int) and value.bit_length() <= 64:
        return value
    if isinstance(value, str):
        return _clean(value if len(value) <= _SHOWN else f"{value[:_SHOWN]}...")
    return _clean(shown(value))


def _clean(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


_PREFIXES: Final = {kind.__name__: row.prefix for kind, row in EVENT_TYPES.items()}
_REPAIR = re.compile(r":(plan|finish):([^:]+)")


def repair_key(run_id: str, cause: str, event_id: str) -> str:
    """Return the key of an event that makes a cancellation effective.

    `cause` is `plan` or `finish`: the event `event_id` planned a cancelled run, or failed in one with attempts left.
    """
    return f"cancel_req:{run_id}:{cause}:{event_id}"


def given_key(data: Payload, key: str, field: str) -> str | None:
    """Check a caller's key; None if it is the derived one, which may include fields that the sequencer adds.

    A key in the form of derived ones that belongs to another event would keep that event out for ever. Raises
    `Refused`.
    """
    if key == derived_key(data):
        return None
    prefix, colon, _ = key.partition(":")
    if colon and prefix in KEY_PREFIXES and not _is_repair(data, key):
        raise invalid(
            field,
            key,
            "has the form of a key that follows from a payload, and another payload than this one",
            f"Give a key that does not begin with {f'{prefix}:'!r}, or none.",
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
    own = EVENT_TYPES[type(data)].prefix
    if _PREFIXES.get(event_type, own) != own:
        raise key_in_use(field, key, f"the idempotency key {key!r} was used by a {event_type}, event {event_id}")
    return Repeats(event_id, event_type, key)


MAX_TEXT_BYTES: Final = 1_024
"""Longest id or key."""


@cache
def _texts_of(shape: type[Struct]) -> dict[str, bool]:
    """Return the names of a shape's fields that are ids or texts, or lists of them, and whether they may be empty."""
    kind = inspect.type_info(shape)
    fields = kind.fields if isinstance(kind, inspect.StructType) else ()
    marks = ((field.name, _mark_of(field.type)) for field in fields)
    return {name: mark == TEXT_MARK for name, mark in marks if mark in (ID_MARK, TEXT_MARK)}


def _mark_of(kind: inspect.Type) -> dict[str, str] | None:
    if isinstance(kind, inspect.Metadata):
        return kind.extra
    if isinstance(kind, inspect.ListType):
        return _mark_of(kind.item_type)
    if isinstance(kind, inspect.UnionType):
        return next((mark for one in kind.types if (mark := _mark_of(one)) is not None), None)
    return None


def check_text(text: str, field: str, *, may_be_empty: bool = False) -> None:
    """Raise `Refused` unless `text` may be an id or key."""
    if "\0" in text:
        raise invalid(field, text, "holds a NUL character", "Leave it out.")
    if not text and not may_be_empty:
        raise invalid(field, text, "is empty", "Give it, or leave the field out where it is optional.")
    size = len(text) if text.isascii() else len(text.encode())
    if size > MAX_TEXT_BYTES:
        raise invalid(field, text, f"has {size} bytes: {shown(text)}", f"Give at most {MAX_TEXT_BYTES} bytes.")


def check_addressable(text: str, field: str) -> None:
    """Raise `Refused` unless `text` may be an id that is part of a URL."""
    if text in (".", ".."):
        remedy = "Give it another name: in a URL these mean a folder."
        raise invalid(field, text, "cannot be addressed by a URL", remedy)
    if any(ord(one) < 32 or one == "\x7f" for one in text):
        remedy = "Leave control characters, such as line ends, out."
        raise invalid(field, text, "holds a control character and cannot be addressed by a URL", remedy)


def check_no_colon(text: str, field: str) -> None:
    """Raise `Refused` if an id holds the character that joins ids: in other ids, and in the keys of events."""
    if ":" in text:
        raise invalid(field, text, "holds a colon, which separates the parts of ids", "Leave it out.")


def check_texts(shape: Struct, field: str) -> None:
    """Check every id and text in a payload or a shape within it; raises `Refused` naming the first that is wrong."""
    texts = _texts_of(type(shape))
    for name, told in zip(shape.__struct_fields__, shape.__struct_encode_fields__, strict=True):
        value = getattr(shape, name)
        if isinstance(value, str):
            if name in texts:
                check_text(value, f"{field}.{told}", may_be_empty=texts[name])
        elif isinstance(value, Struct):
            check_texts(value, f"{field}.{told}")
        elif isinstance(value, list):
            _check_list(value, name in texts, f"{field}.{told}")


def _check_list(values: list[object], are_texts: bool, field: str) -> None:
    for index, value in enumerate(values):
        if isinstance(value, Struct):
            check_texts(value, f"{field}[{index}]")
        elif isinstance(value, str) and are_texts:
            check_text(value, f"{field}[{index}]")
