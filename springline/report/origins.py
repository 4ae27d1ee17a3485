"""Runs by the way in which they were asked for: a lane for each schedule, each backfill, and for all others by kind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

from springline.report.facts import BUCKETS, OriginLane, RunSpan, TimeSpan

MOST_ORIGINS: Final = 24
"""Ways that have a lane of their own; all others share one."""
MOST_SPANS: Final = 150
"""Runs of one lane that have a bar each; of more, those of one state near each other share one."""
MOST_ROWS: Final = 5
_GAP: Final = 0.001
_LEAST: Final = 0.0035
"""The share of the width that a bar takes at least, with the gap behind it."""
OTHERS: Final = "all others"


def origin_of(run_key: str | None) -> str:
    """Return in words how a run was asked for, from its key."""
    if run_key is None:
        return "another system"
    kind, colon, rest = run_key.partition(":")
    named = rest.rpartition(":")[0] or rest
    match kind:
        case "sched":
            return f"schedule {named.removesuffix(':manual')}"
        case "backfill":
            return f"backfill {named.removesuffix(':chunk')}"
        case "sensor":
            # A sensor's id has no colon, what it calls its runs may have some.
            return f"sensor {rest.partition(':')[0]}"
        case "rerun":
            return "reruns"
        case "cli":
            return "the command line"
        case "api" | "client":
            return "programs"
        case _:
            return f"run keys {kind}:..." if colon else "other run keys"


def lanes_of(origins: Mapping[str, Sequence[RunSpan]], span: TimeSpan, now_ms: int) -> list[OriginLane]:
    """Return a lane for each way in which runs were asked for, those with the most failures first."""

    def rank(name: str) -> tuple[int, int, str]:
        failed = sum(one.state == "FAILED" for one in origins[name])
        return -failed, -len(origins[name]), name

    ranked = sorted(origins, key=rank)
    groups = [(name, list(origins[name])) for name in ranked[:MOST_ORIGINS]]
    rest = [one for name in ranked[MOST_ORIGINS:] for one in origins[name]]
    if rest:
        groups.append((OTHERS, rest))
    return [OriginLane(name, Counter(one.state for one in spans), _rows(spans, span, now_ms)) for name, spans in groups]


def _rows(spans: Sequence[RunSpan], span: TimeSpan, now_ms: int) -> list[list[RunSpan]]:
    """Return the bars of a lane: of each run, or where they are too many of each state and part of the time."""
    if len(spans) <= MOST_SPANS:
        return _packed(spans, span, now_ms)
    counts: dict[str, Counter[int]] = {}
    latest: dict[tuple[str, int], RunSpan] = {}
    for one in sorted(spans, key=lambda found: found.first_ms):
        bucket = span.bucket(one.first_ms)
        counts.setdefault(one.state, Counter())[bucket] += 1
        latest[one.state, bucket] = one
    length = span.length_ms // BUCKETS

    def bar(state: str, bucket: int, count: int) -> RunSpan:
        last = latest[state, bucket]
        begin = span.begin_of(bucket)
        return last if count == 1 else RunSpan(begin, begin + length * 4 // 5, state, last.run_id, count)

    return [
        [bar(state, bucket, count) for bucket, count in sorted(counts[state].items())]
        for state in sorted(counts, key=lambda name: (name in _WELL, name))
    ]


_WELL: Final = frozenset({"SUCCEEDED", "CANCELLED"})
"""States whose rows come behind those of others."""


def _packed(spans: Sequence[RunSpan], span: TimeSpan, now_ms: int) -> list[list[RunSpan]]:
    """Return the bars in rows in which none overlaps another; what finds no room in the last row is put there."""
    rows: list[list[RunSpan]] = []
    free: list[float] = []
    for one in sorted(spans, key=lambda found: (found.first_ms, found.run_id)):
        first = span.share(one.first_ms)
        last = max(first + _LEAST, span.share(now_ms if one.last_ms is None else one.last_ms) + _GAP)
        row = next((number for number, at in enumerate(free) if at <= first), len(free))
        if row == len(free):
            if row == MOST_ROWS:
                row = MOST_ROWS - 1
            else:
                rows.append([])
                free.append(0.0)
        rows[row].append(one)
        free[row] = max(free[row], last)
    return rows
