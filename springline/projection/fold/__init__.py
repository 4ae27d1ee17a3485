"""The fold: what each event does to the projections (docs/events.md#fold), a module per aggregate.

Event ids are distinct and ascend (docs/protocol.md#state-of-a-set), so an event's id is greater than every stamp in the
state. So the reference's rules for an event that is older than a row are not needed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic

from springline.ledger.events import P
from springline.projection.state import State


@dataclass(frozen=True, slots=True)
class Handler(Generic[P]):
    """The handler of an event type.

    `fold` takes the state, the event's id, its time in epoch milliseconds and its payload. It returns whether the event
    was *applied*: only then the event uses up its idempotency key.
    """

    payload: type[P]
    fold: Callable[[State, str, int, P], bool]


Effect = Callable[[State, str, int, P], None]
"""What an event that the first fold applied does to tables of our own; the arguments are those of `Handler.fold`."""
