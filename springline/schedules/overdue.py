"""Which schedules of a workspace should have been decided on by now: what `Repair` and `springline doctor` look at."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from springline.control.schedules.deciding import ScheduleView, jitter_of
from springline.definitions.instants import BadTiming
from springline.published.snapshot import StateSnapshot
from springline.runs.loading import is_held
from springline.schedules.reading import known_schedules, with_runs
from springline.ulids import ulid_time_ms

SOON_MS: Final = 300_000


@dataclass(frozen=True, slots=True)
class OverdueInstant:
    """The first instant of a schedule that has come and is not decided on. `due_ms`: in ms since 1970."""

    schedule_id: str
    due_ms: int


@dataclass(frozen=True, slots=True)
class StandingSchedules:
    """The schedules of a workspace that have not left their file.

    `due_soon`: how many have an instant that has come or comes within `SOON_MS`. `newest_ms`: when the last of them was
    changed, None if there are none. `overdue`: the longest overdue first.
    """

    count: int
    due_soon: int
    newest_ms: int | None
    overdue: list[OverdueInstant]


def standing_schedules(snapshot: StateSnapshot, now_ms: int) -> StandingSchedules:
    """Say which schedules wait for their evaluator: not those that are off, held, or in line behind a run.

    Needs `springline.schedules.reading.TABLES`.
    """
    known = [one for one in known_schedules(snapshot) if not one.view.deleted]
    changed = [ulid_time_ms(one.view.version) or one.created_at_ms for one in known]
    views = [one.view for one in known if one.view.enabled]
    due_soon = sum(due_ms <= now_ms + SOON_MS for _, due_ms in _next_instants(views))
    overdue = [] if is_held(snapshot) else list(_overdue(snapshot, views, now_ms))
    overdue.sort(key=lambda one: (one.due_ms, one.schedule_id))
    return StandingSchedules(len(known), due_soon, max(changed, default=None), overdue)


def overdue_since_ms(snapshot: StateSnapshot, view: ScheduleView, now_ms: int) -> int | None:
    """Return since when an instant of a schedule waits for its evaluator, None if none does."""
    if not view.enabled or view.deleted or is_held(snapshot):
        return None
    return next((one.due_ms for one in _overdue(snapshot, [view], now_ms)), None)


def _overdue(snapshot: StateSnapshot, views: Sequence[ScheduleView], now_ms: int) -> Iterator[OverdueInstant]:
    due = [(view, due_ms) for view, due_ms in _next_instants(views) if due_ms <= now_ms]
    counted = with_runs(snapshot, [view for view, _ in due])
    for view, (_, due_ms) in zip(counted, due, strict=True):
        in_line = view.overlap == "queue_one" and view.limit is not None and view.active >= view.limit
        if not in_line:
            yield OverdueInstant(view.schedule_id, due_ms)


def _next_instants(views: Sequence[ScheduleView]) -> Iterator[tuple[ScheduleView, int]]:
    """Yield schedules with when their next decision is due, in ms since 1970; without those that are never due."""
    for view in views:
        try:
            instant = next(view.timing().after(view.evaluated_to), None)
        except BadTiming:
            continue  # It is set aside, which is on record.
        if instant is not None:
            yield view, (instant + jitter_of(view)) * 1_000
