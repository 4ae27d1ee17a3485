"""What a rule is given, and what it answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Generic, TypeVar

from springline.control.admission.refusals import conflict
from springline.errors import Refused
from springline.ledger.events import Payload
from springline.projection.state import State

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
