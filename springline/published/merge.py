"""When deltas are merged, and when a base is rewritten: decided from sizes alone (docs/protocol.md#cost).

Deltas stand in tiers by their rows: up to 64, up to 256, and so on by fours, never rising from old to new, and at most
three of one tier. A new delta that would be the fourth of its tier, or that comes behind smaller ones, is merged with
them into one of a higher tier. So a row is written at most once per tier (in the smallest tier a few times, which costs
little), and the number of deltas stays logarithmic in their rows. A base is written when the rows of all deltas have
reached a share of the base's rows, so that its cost is amortised over the rows that came since the last base.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from springline.published.manifest import L0Limits

FACTOR: Final = 4
SMALLEST_TIER_ROWS: Final = 64
MIN_BASE_ROWS: Final = 20_000
"""With fewer rows in all deltas no base is written."""
BASE_SHARE: Final = 2
"""A base is rewritten when its deltas have 1/BASE_SHARE of its rows."""

_MAX_U32: Final = 4_294_967_295


@dataclass(frozen=True, slots=True)
class MergePlan:
    """How a round's changes are written.

    `append`: a delta of their own. `merge`: one delta that replaces the last `deltas` ones, too. `base`: a new base
    that replaces the whole state and all deltas.
    """

    kind: Literal["append", "merge", "base"]
    deltas: int = 0


def limits_for(base_rows: int) -> L0Limits:
    """Return the limits for a state whose base has `base_rows` rows, for the manifest and for `plan_merge`.

    We do not merge by age: the limit has the reference's value, for the reference.
    """
    max_rows = min(max(MIN_BASE_ROWS, base_rows // BASE_SHARE), _MAX_U32)
    return L0Limits(max_count=(FACTOR - 1) * (tier_of(max_rows) + 1) + 1, max_rows=max_rows)


def tier_of(rows: int) -> int:
    """Return the tier of a delta with this many rows."""
    tier, capacity = 0, SMALLEST_TIER_ROWS
    while rows > capacity:
        tier, capacity = tier + 1, capacity * FACTOR
    return tier


def plan_merge(deltas: Sequence[int], new: int, limits: L0Limits) -> MergePlan:
    """Decide how a round's changes are written.

    Args:
        deltas: rows and deletions of each existing delta, oldest first.
        new: rows and deletions of the round.
        limits: `limits_for` the existing base.
    """
    if sum(deltas) + new >= limits.max_rows:
        return MergePlan("base")
    left, rows = list(deltas), new
    while left:
        taken = _taken(list(map(tier_of, left)), tier_of(rows))
        if taken == 0:
            break
        rows += sum(left[-taken:])
        del left[-taken:]
    if len(left) + 1 >= limits.max_count:
        return MergePlan("base")
    merged = len(deltas) - len(left)
    return MergePlan("merge", merged) if merged else MergePlan("append")


def _taken(tiers: list[int], tier: int) -> int:
    """Return how many of the last deltas one of `tier` is merged with: all lower ones, else all equal ones or none."""
    lower = equal = 0
    while lower < len(tiers) and tiers[-1 - lower] < tier:
        lower += 1
    while equal < len(tiers) and tiers[-1 - equal] == tier:
        equal += 1
    return lower or (equal if equal >= FACTOR - 1 else 0)
