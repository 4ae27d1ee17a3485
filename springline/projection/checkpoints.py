"""Which bases stay as points to refold from (docs/protocol.md#state-of-a-set).

A late event costs the fold of everything above the newest checkpoint below it. Few checkpoints must do for all ages,
so they are kept at distances that grow with their age: refolding from one costs a small multiple of what a checkpoint
right below the late event would have saved. What lies before the oldest is refolded from nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from springline.projection.manifest import Checkpoint

MOST: Final = 8
NEGLIGIBLE_EVENTS: Final = 10_000
"""Refolding this many events is too quick to keep a checkpoint for."""


def with_checkpoint(kept: Sequence[Checkpoint], new: Checkpoint) -> list[Checkpoint]:
    """Return the checkpoints to keep, oldest first, when a base is written: the new one and at most seven others.

    The first to go is the one whose neighbours are closest in proportion to their age.
    """
    checkpoints = [one for one in kept if one.manifest_path != new.manifest_path]
    checkpoints.append(new)
    while len(checkpoints) > MOST:
        ages = [new.events - one.events + NEGLIGIBLE_EVENTS for one in checkpoints]
        ages.insert(0, new.events + NEGLIGIBLE_EVENTS)  # the empty state is the oldest of all
        # ages[i + 1] is the age of checkpoint i, ages[i] and ages[i + 2] those of its neighbours.
        spread = [ages[place] / ages[place + 2] for place in range(len(checkpoints) - 1)]
        del checkpoints[spread.index(min(spread))]
    return checkpoints


def below(checkpoints: Sequence[Checkpoint], event_id: str) -> Checkpoint | None:
    """Return the newest checkpoint that an event with this id is not in, or None for the empty state."""
    older = valid_below(checkpoints, event_id)
    return older[-1] if older else None


def valid_below(checkpoints: Sequence[Checkpoint], event_id: str) -> list[Checkpoint]:
    """Return the checkpoints that are still states of the ledger once it has a late event with this id.

    Every base at or above the id lacks the event. Oldest first, as given.
    """
    return [one for one in checkpoints if one.watermark is None or one.watermark < event_id]
