"""How a backfill gets on: whether its evaluator has something to do, and since when it has stood still."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, cast

from springline.backfills.reading import KnownBackfill, counted, view_of
from springline.control.backfills.deciding import RUNNING_BACKFILL, BackfillView, work_due
from springline.projection.rows import BackfillRow, RunRow, TaskRow
from springline.projection.schema import FINISHED_RUN, RUNNING
from springline.published.snapshot import StateSnapshot
from springline.ulids import ulid_time_ms

LATE_MS: Final = 90_000
"""Its evaluator looks by itself each minute: what is to be done and is not after so long has nobody who does it."""
STILL_MS: Final = 600_000
"""Of a backfill whose chunks have not changed for so long the tasks are looked at."""


@dataclass(frozen=True, slots=True)
class StandingBackfill:
    """A backfill that is ours, as a look finds it.

    `moved_ms`: when a chunk of it was planned or ended last, or its state changed. `due`: what its evaluator has to do,
    in words, since `due_ms`; None if nothing. `oldest_ms`: when the oldest of its open chunks was planned.
    """

    view: BackfillView
    moved_ms: int
    due: str | None
    due_ms: int | None
    oldest_ms: int | None

    def is_overdue(self, now_ms: int) -> bool:
        """Say whether its evaluator should have acted by now."""
        return self.due_ms is not None and now_ms - self.due_ms >= LATE_MS

    def stands_still(self, now_ms: int) -> bool:
        """Say whether it is to go on, and neither its chunks nor its state have changed for a while."""
        is_to_move = self.view.state == RUNNING_BACKFILL and not self.view.held
        return is_to_move and now_ms - self.moved_ms >= STILL_MS


def changed_ms(row: BackfillRow) -> int:
    """Return when a chunk of a backfill was planned last, or its state changed behind that."""
    return ulid_time_ms(row.row_version) or row.created_at


def standing_backfill(snapshot: StateSnapshot, known: KnownBackfill, now_ms: int) -> StandingBackfill:
    """Return how a backfill stands; needs `springline.backfills.reading.RUN_TABLES`."""
    row = known.row
    counts = counted(snapshot, row.backfill_id, now_ms)
    view = view_of(snapshot, known, counts)
    versions = [one for one in (row.row_version, counts.last_version) if one is not None]
    moved_ms = max((ulid_time_ms(one) or 0 for one in versions), default=0) or row.created_at
    due = work_due(view)
    due_ms = None if due is None else min(_ended_ms(snapshot, view), default=moved_ms)
    return StandingBackfill(view, moved_ms, due, due_ms, counts.oldest_open_ms)


def moved_ms(tasks: StateSnapshot, standing: StandingBackfill, now_ms: int) -> int:
    """Return up to when a backfill has moved, by the tasks of its open chunks as well; needs the table `tasks`.

    That is the present while a worker makes one: an attempt that falls silent is lost within minutes.
    """
    runs = [one.run_id for one in standing.view.open if one.run_id is not None]
    found = [TaskRow(*cast(Any, row)) for run_id in runs for row in tasks["tasks"].below((run_id,))]
    if any(one.state == RUNNING for one in found):
        return now_ms
    return max((ulid_time_ms(one.row_version) or 0 for one in found), default=0)


def _ended_ms(snapshot: StateSnapshot, view: BackfillView) -> list[int]:
    """Return when the runs of open chunks ended that have."""
    found = snapshot["runs"].get_all(one.run_id for one in view.open if one.run_id is not None)
    runs = [RunRow(*cast(Any, row)) for row in found.values()]
    return [one.completed_at for one in runs if one.state in FINISHED_RUN and one.completed_at is not None]
