"""Which staged payloads may be removed (docs/protocol.md#rule-8).

A payload's age is read from its name, which is a ULID or a UUIDv7: both begin with the milliseconds since 1970
at which they were made. A payload whose name has no age is kept, because its age is unknown: a key that stands
for a text is such a name, though it looks like a UUIDv7.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

from springline.delta.coordinator import Coordinator
from springline.keys import key_has_time
from springline.ulids import is_canonical_ulid, ulid_time_ms

MIN_AGE_MS = 7 * 24 * 60 * 60 * 1000
"""Younger payloads are never removed: a client may be about to commit them."""


class StagedVerdict(StrEnum):
    """Whether a staged payload is removed, and why it is kept."""

    REMOVE = "remove"
    NAMED = "named"
    """The coordinator's reservation names it: recovery needs it."""
    YOUNG = "young"
    AGELESS = "ageless"
    """Its name has no age."""


def staged_at_ms(name: str) -> int | None:
    """Return when a payload was staged, in milliseconds since 1970, from its name without `.json`; None if unknown."""
    if is_canonical_ulid(name):
        return ulid_time_ms(name)
    if key_has_time(name):
        return int(name[:8] + name[9:13], 16)
    return None


def named_by(coordinator: Coordinator | None) -> frozenset[str]:
    """Return the staged paths that a coordinator's reservation needs."""
    inflight = None if coordinator is None else coordinator.inflight
    if inflight is None:
        return frozenset()
    return frozenset({inflight.staged_path, *(member.staged_path for member in inflight.members)})


def judge_staged(
    payloads: Iterable[tuple[str, str]],
    coordinator: Coordinator | None,
    now_ms: int,
    *,
    min_age_ms: int = MIN_AGE_MS,
) -> dict[str, StagedVerdict]:
    """Judge staged payloads, given as (scope-relative path, name), by the table's coordinator and their age.

    `coordinator` is None for a table that has none. `min_age_ms` can lengthen the age, not shorten it: raises
    `ValueError` below `MIN_AGE_MS`.
    """
    if min_age_ms < MIN_AGE_MS:
        raise ValueError(f"min_age_ms is {min_age_ms}; nothing younger than {MIN_AGE_MS} ms may be removed")
    named = named_by(coordinator)
    verdicts: dict[str, StagedVerdict] = {}
    for path, name in payloads:
        born = staged_at_ms(name)
        if path in named:
            verdicts[path] = StagedVerdict.NAMED
        elif born is None:
            verdicts[path] = StagedVerdict.AGELESS
        elif now_ms - born < min_age_ms:
            verdicts[path] = StagedVerdict.YOUNG
        else:
            verdicts[path] = StagedVerdict.REMOVE
    return verdicts
