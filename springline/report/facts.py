"""What a report says, as values: read from rows by `springline.report.gathering`, drawn by `springline.report.page`.

Times are epoch milliseconds. Lists are bounded: what did not fit is counted beside them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

BUCKETS: Final = 96
"""Parts into which a report cuts its time, where it counts rather than draws each."""


@dataclass(frozen=True, slots=True)
class TimeSpan:
    """The time that a report is about, from `since_ms` up to `until_ms`."""

    since_ms: int
    until_ms: int

    @property
    def length_ms(self) -> int:
        """How long it is, at least a millisecond."""
        return max(1, self.until_ms - self.since_ms)

    def share(self, at_ms: int) -> float:
        """Return where an instant lies, 0 at the begin and 1 at the end; what lies outside is put to the nearer end."""
        return min(1.0, max(0.0, (at_ms - self.since_ms) / self.length_ms))

    def bucket(self, at_ms: int) -> int:
        """Return in which of `BUCKETS` parts an instant lies."""
        return min(BUCKETS - 1, int(self.share(at_ms) * BUCKETS))

    def begin_of(self, bucket: int) -> int:
        """Return the instant at which one of `BUCKETS` parts begins."""
        return self.since_ms + bucket * self.length_ms // BUCKETS

    def holds(self, at_ms: int) -> bool:
        """Say whether an instant lies in it."""
        return self.since_ms <= at_ms < self.until_ms


@dataclass(frozen=True, slots=True)
class AttemptBar:
    """An attempt of a task. `state`: how it ended, or RUNNING, DISPATCHED, RETRY_WAIT (until `end_ms`)."""

    task_key: str
    attempt: int
    state: str
    start_ms: int
    end_ms: int | None
    worker: str | None = None
    said: str | None = None


@dataclass(frozen=True, slots=True)
class RunBar:
    """A run with attempts of it; `attempts_left_out` have no bar."""

    run_id: str
    state: str
    run_key: str | None
    cancel_requested: bool
    triggered_ms: int
    completed_ms: int | None
    tasks_total: int
    tasks_succeeded: int
    tasks_failed: int
    attempts: Sequence[AttemptBar] = ()
    attempts_left_out: int = 0


@dataclass(frozen=True, slots=True)
class RunSpan:
    """A run as a bar alone, or `count` runs of one state that were triggered near each other; None: it goes on."""

    first_ms: int
    last_ms: int | None
    state: str
    run_id: str
    count: int = 1


@dataclass(slots=True)
class OriginLane:
    """All runs that were asked for in one way, such as by one schedule. No two bars of one row overlap."""

    origin: str
    states: Counter[str] = field(default_factory=Counter)
    rows: list[list[RunSpan]] = field(default_factory=list)


@dataclass(slots=True)
class RunFacts:
    """The runs that were under way in the report's time."""

    total: int = 0
    states: Counter[str] = field(default_factory=Counter)
    buckets: list[Counter[str]] = field(default_factory=lambda: [Counter() for _ in range(BUCKETS)])
    """By the time at which they were triggered; those that were triggered before are in none."""
    lanes: list[OriginLane] = field(default_factory=list)
    bars: list[RunBar] = field(default_factory=list)
    """Those with attempts: what goes on, what did not succeed, and the latest others."""
    left_out: int = 0
    """Runs without a bar of their own among `bars`."""
    attempts: Counter[str] = field(default_factory=Counter)
    """Attempts that ended in the report's time, by outcome."""
    retries: int = 0
    """Of these, second and later attempts of their tasks."""


@dataclass(frozen=True, slots=True)
class TickMark:
    """A tick, or `count` ticks of one status near each other, of which the latest decided one is told."""

    scheduled_ms: int
    status: str
    late_ms: int | None
    said: str | None
    run_id: str | None
    count: int = 1


GONE: Final = "no longer defined"
"""In the place of when a schedule is due: it was deleted, or has left its file."""


@dataclass(slots=True)
class ScheduleLane:
    """A schedule and its ticks in the report's time. `overdue_ms`: how long an instant has waited to be decided on."""

    schedule_id: str
    due: str
    enabled: bool
    next_ms: int | None = None
    overdue_ms: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    late: int = 0
    """Ticks that were triggered later than `LATE_MS` after their instant and their jitter."""
    worst_late_ms: int = 0
    last_failure: str | None = None
    marks: list[TickMark] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class EvaluationMark:
    """An evaluation of a sensor, or `count` of one status near each other."""

    at_ms: int
    status: str
    said: str | None
    requests: int
    count: int = 1


@dataclass(slots=True)
class SensorLane:
    """A sensor: its evaluations in the report's time, and what waits for it."""

    sensor_id: str
    status: str
    paused: bool
    last_ms: int | None
    cursor: str | None
    counts: Counter[str] = field(default_factory=Counter)
    last_status: str | None = None
    last_said: str | None = None
    failing_since_ms: int | None = None
    """Since when each evaluation has failed, None if the last one did not."""
    requests: int = 0
    waiting: int = 0
    oldest_waiting_ms: int | None = None
    marks: list[EvaluationMark] = field(default_factory=list)


@dataclass(slots=True)
class BackfillLine:
    """A backfill: how many partitions are left, over time. Counts are of partitions, but for those of chunks."""

    backfill_id: str
    state: str
    selection: str
    total: int
    created_ms: int
    done: int = 0
    failed: int = 0
    skipped: int = 0
    made_since: int = 0
    """Of those that failed, and of a backfill that has failed of the skipped ones, how many any run has made since."""
    not_done_since_ms: int | None = None
    """When the first chunk ended that has partitions which are not done and were not made since."""
    chunks_planned: int = 0
    chunks_ended: int = 0
    points: list[tuple[int, int]] = field(default_factory=list)
    """Instants, and how many partitions were left then."""
    last_ms: int | None = None
    """When a chunk was last planned or ended."""
    parent: str | None = None
    """The backfill that it repeats what was not done of."""

    @property
    def left(self) -> int:
        """Partitions that have not come to an end."""
        return max(0, self.total - self.done - self.failed - self.skipped)

    @property
    def not_done(self) -> int:
        """Partitions that have failed and were not made since; of a backfill that has failed the skipped ones, too."""
        skipped = self.skipped if self.state == "FAILED" else 0
        return max(0, self.failed + skipped - self.made_since)


@dataclass(frozen=True, slots=True)
class StripCell:
    """A partition of a strip."""

    key: str | None
    state: str
    since_ms: int | None
    upstream: str | None
    made_ms: int | None
    failed: bool


@dataclass(frozen=True, slots=True)
class AssetStrip:
    """The latest partitions of an asset. `stale` counts those among the `cells`."""

    asset: str
    partitions: int
    cells: Sequence[StripCell]
    stale: int


@dataclass(frozen=True, slots=True)
class CommitMark:
    """A version that a task has written, or `count` of them near each other."""

    at_ms: int
    version: int
    rows: int | None
    operation: str | None
    task_key: str
    run_id: str
    count: int = 1


@dataclass(slots=True)
class TableLane:
    """A Delta table, and the versions that tasks of runs have written in the report's time."""

    table: str
    commits: int = 0
    rows: int = 0
    last_version: int = 0
    marks: list[CommitMark] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class LagPart:
    """How late ends of attempts were recorded in a part of the time: the median, and the worst, of so many."""

    begin_ms: int
    median_ms: int
    worst_ms: int
    count: int


@dataclass(slots=True)
class LedgerFacts:
    """Where the ledger stands, and how late it recorded."""

    events: int
    manifest_id: str
    published_ms: int | None
    last_event_ms: int | None
    behind: bool
    """Whether there are events that readers do not see yet."""
    median_ms: int | None = None
    worst_ms: int | None = None
    parts: list[LagPart] = field(default_factory=list)


class Severity(StrEnum):
    """How bad something is."""

    BAD = "bad"
    """Work fails or stands still."""
    WARN = "warn"
    """Somebody should look."""


@dataclass(frozen=True, slots=True)
class Wrong:
    """Something that is wrong now: what, since when, where the report shows it, and what to run next."""

    severity: Severity
    title: str
    detail: str | None
    since_ms: int | None
    anchor: str
    command: str | None = None


@dataclass(frozen=True, slots=True)
class FailureGroup:
    """Tasks of an asset that failed in one way and were not made since: how many, when last, and in which run."""

    asset: str
    said: str
    count: int
    first_ms: int
    last_ms: int
    run_id: str


@dataclass(slots=True)
class Report:
    """Everything that the page shows."""

    tenant: str
    workspace: str
    now_ms: int
    span: TimeSpan
    held: tuple[int, str, str | None] | None
    """Since when the workspace is held, by whom, and why; None if it is not."""
    runs: RunFacts
    failures: list[FailureGroup]
    made_good: int
    """Tasks that failed in the report's time and were made since."""
    silent: list[tuple[str, AttemptBar, int]]
    """Attempts without a sign of life: run, attempt, and since when."""
    not_begun: list[tuple[str, int]]
    """Run keys that were asked for and have no run yet, and when."""
    not_planned: list[tuple[str, str, int]]
    """Runs that were cancelled because they could not be planned: run, reason code, when."""
    schedules: list[ScheduleLane]
    sensors: list[SensorLane]
    backfills: list[BackfillLine]
    assets: list[AssetStrip]
    tables: list[TableLane]
    ledger: LedgerFacts
    left_out: Counter[str] = field(default_factory=Counter)
    """By section, how many things there was no room for."""
    wrong: list[Wrong] = field(default_factory=list)
