"""Measuring closed-loop writers: what each did when, and the figures made of it."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

import psutil


@dataclass(frozen=True, slots=True)
class Done:
    """One acknowledged commit. Times in seconds of one monotonic clock; `began` is before staging."""

    table_id: str
    key: str
    version: int
    began: float
    staged: float
    ended: float


@dataclass(frozen=True, slots=True)
class Figures:
    """What one cell came to. Latencies in ms; `cpu_*` in cores busy; rates per second of the measured window."""

    seconds: float
    commits: int
    rate: float
    p50_ms: float
    p99_ms: float
    p50_unstaged_ms: float | None = None
    p99_unstaged_ms: float | None = None
    versions: int = 0
    members_per_round: float | None = None
    store_calls_per_commit: float | None = None
    store_calls: dict[str, int] = field(default_factory=dict)
    cpu_here: float = 0.0
    cpu_server: float = 0.0
    failures: int = 0
    retries: int = 0
    verified: str = ""

    def as_json(self) -> dict[str, object]:
        """Return it for the results file."""
        return {name: round(value, 3) if isinstance(value, float) else value for name, value in asdict(self).items()}


@dataclass(frozen=True, slots=True)
class Window:
    """The part of a cell that counts, in seconds of the writers' clock."""

    start: float
    end: float


def completed_in(window: Window, done: Sequence[Done]) -> tuple[list[Done], float]:
    """Return the commits that count and over how many seconds.

    Answers come in bursts, one per round. So that the window's edges cut no burst in two, both are moved to the
    next answer: the first burst at or after the start counts, the first at or after the end does not.
    """
    ordered = sorted(done, key=lambda one: one.ended)
    ends = [one.ended for one in ordered]
    first, last = bisect_left(ends, window.start), bisect_left(ends, window.end)
    if last <= first:
        return [], window.end - window.start
    until = ends[last] if last < len(ends) else window.end
    return ordered[first:last], until - ends[first]


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value that `share` (0 to 1) of `values` do not exceed; NaN if there are none."""
    if not values:
        return float("nan")
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


class CpuMeter:
    """CPU seconds used by processes and everything they start, counted from the last `start`."""

    def __init__(self, pid: int, *, children: bool) -> None:
        self._process = psutil.Process(pid)
        self._children = children
        self._before = 0.0

    def start(self) -> None:
        """Begin to count."""
        self._before = self._seconds()

    def used(self) -> float:
        """Return the CPU seconds since `start`."""
        return self._seconds() - self._before

    def _seconds(self) -> float:
        processes = [self._process, *(self._process.children(recursive=True) if self._children else [])]
        total = 0.0
        for process in processes:
            try:
                times = process.cpu_times()
            except psutil.NoSuchProcess:
                continue
            total += times.user + times.system
        return total
