"""When a partition of an asset is stale: rules over what is known of it and of what it depends on.

See docs/protocol.md#staleness. Nothing here reads anything: times are epoch milliseconds.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class PartitionState(StrEnum):
    """How a partition stands."""

    CURRENT = "CURRENT"
    """Made from what there is now."""
    OPEN = "OPEN"
    """Never made, and its time has not ended: nothing is missing yet."""
    NEVER_MATERIALIZED = "NEVER_MATERIALIZED"
    CODE_CHANGED = "CODE_CHANGED"
    UPSTREAM_NEVER_MATERIALIZED = "UPSTREAM_NEVER_MATERIALIZED"
    UPSTREAM_CHANGED = "UPSTREAM_CHANGED"
    FRESHNESS_POLICY = "FRESHNESS_POLICY"


REASONS: Final = (
    PartitionState.NEVER_MATERIALIZED,
    PartitionState.CODE_CHANGED,
    PartitionState.UPSTREAM_NEVER_MATERIALIZED,
    PartitionState.UPSTREAM_CHANGED,
    PartitionState.FRESHNESS_POLICY,
)
"""Why a partition is stale, in the order in which it is asked: the first that holds is told."""


@dataclass(frozen=True, slots=True)
class Materialization:
    """When a partition was last made, and by which version of its code; None: nobody said."""

    at_ms: int
    code_version: str | None = None


@dataclass(frozen=True, slots=True)
class UpstreamPart:
    """The part of another asset that a partition needs: when it last changed, and whether some of it was never made."""

    asset: str
    last_ms: int | None
    missing: bool


@dataclass(frozen=True, slots=True)
class StalenessVerdict:
    """How a partition stands; if it is stale, since when (None: not known) and because of which other asset."""

    state: PartitionState
    since_ms: int | None = None
    upstream: str | None = None

    @property
    def stale(self) -> bool:
        """Say whether the partition should be made (again)."""
        return self.state in REASONS


def judge(
    made: Materialization | None,
    *,
    code_version: str | None,
    upstream: Iterable[UpstreamPart],
    freshness_ms: int | None,
    ends_ms: int | None,
    now_ms: int,
) -> StalenessVerdict:
    """Return how a partition stands.

    Args:
        made: its last materialization, None if there was none.
        code_version: what the deployed definition calls its code, None if it says nothing.
        upstream: the parts of other assets that it needs.
        freshness_ms: how old a materialization may be, None for any age. One that was made when the partition's time
            had ended holds all that it ever will, and does not age.
        ends_ms: when the partition's time ends, None for a partition that covers no time.
        now_ms: the present.
    """
    if made is None:
        if ends_ms is not None and ends_ms > now_ms:
            return StalenessVerdict(PartitionState.OPEN)
        return StalenessVerdict(PartitionState.NEVER_MATERIALIZED, ends_ms)
    if None not in (code_version, made.code_version) and code_version != made.code_version:
        return StalenessVerdict(PartitionState.CODE_CHANGED, now_ms)
    parts = list(upstream)
    for part in parts:
        if part.missing:
            return StalenessVerdict(PartitionState.UPSTREAM_NEVER_MATERIALIZED, None, part.asset)
    changed = [part for part in parts if part.last_ms is not None and part.last_ms > made.at_ms]
    if changed:
        first = min(changed, key=lambda part: (part.last_ms or 0, part.asset))
        return StalenessVerdict(PartitionState.UPSTREAM_CHANGED, first.last_ms, first.asset)
    if freshness_ms is not None and not (ends_ms is not None and ends_ms <= made.at_ms):
        deadline = made.at_ms + freshness_ms
        if now_ms > deadline:
            return StalenessVerdict(PartitionState.FRESHNESS_POLICY, deadline)
    return StalenessVerdict(PartitionState.CURRENT)
