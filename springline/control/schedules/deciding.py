"""What becomes of the instants of a schedule: `decide(view, now)` and `owed_at_edit(view, now)`.

An instant is decided on once, and what is decided is an event: a tick that asks for a run, or one that says why it asks
for none. What follows from the same rows and the same time is the same, whoever decides and how often: the tick of an
instant has its name from schedule and instant alone, so that the ledger takes it once (docs/protocol.md#schedules).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final

import msgspec

from springline.definitions.cron import Dialect
from springline.definitions.instants import BadTiming, Timing, first_after, timing_of, tz_version
from springline.definitions.schedules import CANNOT_SELECT, NO_PARTITION, NothingToMake, Overlap, ScheduledRun
from springline.ledger.events import Payload, RunRequested, ScheduleDefinitionUpserted, ScheduleTicked
from springline.ledger.fingerprints import schedule_fingerprint
from springline.ledger.identifiers import (
    manual_schedule_run_key,
    manual_tick_id,
    range_tick_id,
    schedule_run_key,
    tick_id,
    tick_note_id,
)
from springline.ledger.member import TickMember
from springline.ledger.nested import ScheduleRef, TickFailed, TickSkipped, TickTriggered
from springline.ledger.timestamps import format_ms

MOST_TICKS: Final = 100
"""Runs that one decision asks for; what is left is the next decision's."""
MOST_IN_RANGE: Final = 100_000
"""Instants that one tick stands for; what is left is the next tick's."""
LONG_RANGE: Final = 10
"""More instants than this, one after the other and dropped for one reason, are one tick."""
LOOKS_AGAIN_MS: Final = 5_000
"""How long an instant waits for the end of a run before somebody looks again."""
_DAY_MINUTES: Final = 24 * 60


class TickReason(StrEnum):
    """Why a tick asks for no run, for programs."""

    OUTSIDE_WINDOW = "OUTSIDE_WINDOW"
    """When it was decided on, the instant lay further back than the schedule catches up."""
    CATCHUP_LIMIT = "CATCHUP_LIMIT"
    """More instants had been missed than the schedule catches up at once, and later ones took its place."""
    OVERLAP = "OVERLAP"
    """As many runs of the schedule were under way as there may be."""
    PAUSED = "PAUSED"
    """The schedule was off."""
    CANNOT_SELECT = CANNOT_SELECT
    """No run can be made of the assets that the schedule selects."""
    NO_PARTITION = NO_PARTITION
    """A selected asset has no partition that was complete at the instant."""
    UNREADABLE = "UNREADABLE"
    """The definition's cron line or zone cannot be read: once for each definition, and no instant's tick."""


Plan = Callable[[Sequence[str], datetime], ScheduledRun]
"""What a run of these terms makes at an instant; raises `NothingToMake`."""


@dataclass(frozen=True, slots=True)
class ScheduleView:
    """A schedule as the rows have it.

    `version`: the event that defined it. `evaluated_to`: the last instant that is decided on, or from which the
    definition holds, in seconds since 1970. `active`: its runs without an end. `noted`: its definition is on record as
    unreadable. `manifest_id`: the definitions by which its runs are made.
    """

    schedule_id: str
    version: str
    cron: str
    timezone: str
    select: tuple[str, ...]
    evaluated_to: int
    dialect: Dialect = "reference"
    interval_s: int | None = None
    enabled: bool = True
    deleted: bool = False
    window_minutes: int = 0
    max_catchup_ticks: int = 1
    overlap: Overlap = "allow"
    max_active_runs: int | None = None
    jitter_s: int = 0
    active: int = 0
    noted: bool = False
    manifest_id: str | None = None

    @property
    def limit(self) -> int | None:
        """How many runs of it may be under way at once, None: as many as there are."""
        if self.max_active_runs is not None:
            return self.max_active_runs
        return None if self.overlap == "allow" else 1

    def timing(self) -> Timing:
        """Return when it is due. Raises `BadTiming`."""
        return timing_of(self.cron, self.timezone, dialect=self.dialect, interval_s=self.interval_s)

    def first_instant(self) -> int | None:
        """Return the first instant that is not decided on, in seconds since 1970; None if none ever comes.

        Raises `BadTiming`.
        """
        return first_after(self.evaluated_to, self.cron, self.timezone, self.dialect, self.interval_s)


@dataclass(slots=True)
class Decided:
    """What is decided of one schedule.

    `events` are to be appended whole. `next_ms`: when it is to be looked at again, None: when its rows have changed.
    `more`: there is more to decide at once. `aside`: why the schedule cannot be evaluated.
    """

    events: list[Payload] = field(default_factory=list)
    next_ms: int | None = None
    more: bool = False
    aside: str | None = None


def decide(view: ScheduleView, now_ms: int, plan: Plan) -> Decided:
    """Return what becomes of the instants of a schedule that are due, and when the next one is."""
    timing = _readable(view, found := Decided())
    if timing is None or not view.enabled or view.deleted:
        return found
    delay = jitter_of(view)
    if not is_due(view, now_ms):
        # So it is with most schedules in most passes.
        first = view.first_instant()
        found.next_ms = None if first is None else (first + delay) * 1_000
        return found
    due_to = now_ms // 1_000 - delay
    deciding = _Deciding(view, timing, plan, found)
    waits = deciding.make(due_to, may_wait=True)
    upcoming = next(timing.after(max(due_to, view.evaluated_to)), None)
    if found.more:
        found.next_ms = now_ms
    elif upcoming is not None:
        found.next_ms = (upcoming + delay) * 1_000
    if waits:
        again = now_ms + LOOKS_AGAIN_MS
        found.next_ms = again if found.next_ms is None else min(again, found.next_ms)
    return found


def is_due(view: ScheduleView, now_ms: int) -> bool:
    """Say whether an instant of a schedule is to be decided on: only then it matters how many of its runs are open.

    Not one of a schedule that is off, deleted, or set aside because its definition cannot be read.
    """
    if not view.enabled or view.deleted:
        return False
    try:
        first = view.first_instant()
    except BadTiming:
        return False
    return first is not None and first <= now_ms // 1_000 - jitter_of(view)


def owed_at_edit(view: ScheduleView, now_ms: int, plan: Plan) -> Decided:
    """Return what a definition still owes when another takes its place: every instant up to now is decided on.

    Of one that was off the instants are on record as paused. None waits any more, neither for a run nor for its jitter.
    """
    timing = _readable(view, found := Decided())
    if timing is None or view.deleted:
        return found
    deciding = _Deciding(view, timing, plan, found)
    now = now_ms // 1_000
    if view.enabled:
        deciding.make(now, may_wait=False)
    else:
        deciding.drop(view.evaluated_to, now, TickReason.PAUSED, "the schedule was off")
    return found


def replaced(
    view: ScheduleView | None, version: str | None, definition: ScheduleDefinitionUpserted, now_ms: int, plan: Plan
) -> Decided:
    """Return the events that put a definition in the place of another: what that one owes, and the new one behind it.

    Where there is too much for one request (`more`) the new definition is left out: first append these, then ask again.

    Args:
        view: the schedule as it is; None if there is none, or it is another system's.
        version: the event that defined it, None if there is none.
        definition: the new one.
        now_ms: the new one holds for the instants behind.
        plan: makes runs of selections.
    """
    decided = Decided() if view is None else owed_at_edit(view, now_ms, plan)
    if not decided.more:
        # By a clock that is behind, the change would come before the one that it follows.
        since_s = now_ms // 1_000 if view is None else max(now_ms // 1_000, view.evaluated_to)
        member = {**(definition.springline or {}), "effective_from": format_ms(since_s * 1_000), "replaces": version}
        said = {name: value for name, value in member.items() if value is not None}
        decided.events.append(msgspec.structs.replace(definition, springline=said))
    return decided


def jitter_of(view: ScheduleView) -> int:
    """Return by how many seconds a schedule's instants are decided on late: a function of its name alone."""
    if not view.jitter_s:
        return 0
    digest = hashlib.sha256(view.schedule_id.encode()).digest()
    return int.from_bytes(digest[:8], "big") % (view.jitter_s + 1)


def delay_of(view: ScheduleView) -> int | None:
    """Return by how many seconds its jitter delays a schedule's decisions; None if they wait for the ends of its runs.

    What is decided on later than that is late.
    """
    return None if view.overlap == "queue_one" and view.limit is not None else jitter_of(view)


def manual_tick(view: ScheduleView, now_ms: int, plan: Plan, name_of_it: str | None = None) -> list[Payload]:
    """Return the events of a run that a user wants now, by default named by the second. Raises `NothingToMake`."""
    now = now_ms // 1_000
    called = now if name_of_it is None else name_of_it
    run = plan(view.select, datetime.fromtimestamp(now, UTC))
    name, key = manual_tick_id(view.schedule_id, called), manual_schedule_run_key(view.schedule_id, called)
    return _triggered(view, name, key, now, run)


def _readable(view: ScheduleView, found: Decided) -> Timing | None:
    """Return when a schedule is due; if that cannot be read, note it once for each definition."""
    try:
        return view.timing()
    except BadTiming as error:
        found.aside = str(error)
        if not view.noted and view.enabled and not view.deleted:
            found.events.append(
                ScheduleTicked(
                    schedule_id=view.schedule_id,
                    tick_id=tick_note_id(view.schedule_id, view.version),
                    definition_version=view.version,
                    scheduled_for=format_ms(view.evaluated_to * 1_000),
                    asset_selection=list(view.select),
                    status=TickFailed(str(error)),
                    springline=_member(reason_code=str(TickReason.UNREADABLE)),
                )
            )
        return None


@dataclass(slots=True)
class _Deciding:
    """One decision in the making."""

    view: ScheduleView
    timing: Timing
    plan: Plan
    found: Decided

    def make(self, until: int, *, may_wait: bool) -> bool:
        """Decide on every instant up to `until`; say whether one waits for the end of a run."""
        view = self.view
        window = until - 60 * (view.window_minutes or _DAY_MINUTES)
        begin = view.evaluated_to
        if begin < window:
            late = f"it lay more than {view.window_minutes or _DAY_MINUTES} min back when it was decided on"
            if not self.drop(begin, window, TickReason.OUTSIDE_WINDOW, late):
                return False
            begin = window
        most = max(1, view.max_catchup_ticks)
        kept = self.timing.latest(begin, until, most)
        if len(kept) == most:
            many = f"more than {most} instants had been missed, and later ones took its place"
            if not self.drop(begin, kept[0] - 1, TickReason.CATCHUP_LIMIT, many):
                return False
        return self._take(kept, may_wait=may_wait)

    def _take(self, kept: Sequence[int], *, may_wait: bool) -> bool:
        view, limit = self.view, self.view.limit
        free = None if limit is None else limit - view.active
        for place, instant in enumerate(kept):
            if place >= MOST_TICKS:
                self.found.more = True
                return False
            if free is None or free > 0:
                if self._trigger(instant) and free is not None:
                    free -= 1
            elif view.overlap == "queue_one" and may_wait and instant == kept[-1]:
                return True
            else:
                busy = f"{limit} run{'' if limit == 1 else 's'} of the schedule had not ended"
                self._skip(instant, TickReason.OVERLAP, busy)
        return False

    def drop(self, begin: int, until: int, reason: TickReason, why: str) -> bool:
        """Put instants behind `begin` and up to `until` on record as skipped; False if there are too many at once."""
        dropped = self.timing.between(begin, until, MOST_IN_RANGE + 1)
        if len(dropped) <= LONG_RANGE:
            for instant in dropped:
                self._skip(instant, reason, why)
            return True
        more = len(dropped) > MOST_IN_RANGE
        self._skip_range(dropped[:MOST_IN_RANGE], reason, why)
        self.found.more = more
        return not more

    def _trigger(self, instant: int) -> bool:
        """Ask for the run of an instant; False if there is nothing to make, which is on record then."""
        view = self.view
        try:
            run = self.plan(view.select, datetime.fromtimestamp(instant, UTC))
        except NothingToMake as error:
            self._skip(instant, TickReason(error.reason_code), error.message)
            if error.reason_code == CANNOT_SELECT:
                self.found.aside = error.message
            return False
        name, key = tick_id(view.schedule_id, instant), schedule_run_key(view.schedule_id, instant)
        self.found.events += _triggered(view, name, key, instant, run)
        return True

    def _skip(self, instant: int, reason: TickReason, why: str) -> None:
        view = self.view
        self.found.events.append(
            ScheduleTicked(
                schedule_id=view.schedule_id,
                tick_id=tick_id(view.schedule_id, instant),
                definition_version=view.version,
                scheduled_for=format_ms(instant * 1_000),
                asset_selection=list(view.select),
                status=TickSkipped(why),
                springline=_member(reason_code=str(reason)),
            )
        )

    def _skip_range(self, instants: Sequence[int], reason: TickReason, why: str) -> None:
        view, (first, last) = self.view, (instants[0], instants[-1])
        begin, end = format_ms(first * 1_000), format_ms(last * 1_000)
        self.found.events.append(
            ScheduleTicked(
                schedule_id=view.schedule_id,
                tick_id=range_tick_id(view.schedule_id, first, last),
                definition_version=view.version,
                scheduled_for=end,
                asset_selection=list(view.select),
                status=TickSkipped(f"{len(instants)} instants from {begin} to {end}: {why}"),
                springline=_member(reason_code=str(reason), range_from=begin, range_to=end, instants=len(instants)),
            )
        )


def _triggered(view: ScheduleView, name: str, run_key: str, instant: int, run: ScheduledRun) -> list[Payload]:
    partitions = None if run.partitions is None else list(run.partitions)
    fingerprint = schedule_fingerprint(run.assets, partitions)
    tick = ScheduleTicked(
        schedule_id=view.schedule_id,
        tick_id=name,
        definition_version=view.version,
        scheduled_for=format_ms(instant * 1_000),
        asset_selection=list(run.assets),
        status=TickTriggered(),
        partition_selection=partitions,
        run_key=run_key,
        request_fingerprint=fingerprint,
        springline=_member(),
    )
    request = RunRequested(
        run_key=run_key,
        request_fingerprint=fingerprint,
        asset_selection=list(run.assets),
        trigger_source_ref=ScheduleRef(view.schedule_id, name),
        partition_selection=partitions,
        code_version=view.manifest_id,
    )
    return [tick, request]


def _member(**fields: Any) -> dict[str, Any]:
    """Return the member of a tick: with the version of the tz database by which it was decided."""
    plain: dict[str, Any] = msgspec.to_builtins(TickMember(tz_version=tz_version() or "unknown", **fields))
    return plain
