"""Finished runs by age, so that retention finds the expired ones without looking at the others.

See docs/events.md#fold-retention.
"""

from __future__ import annotations

import heapq
from typing import Final

from springline.ledger.event_ids import event_id_ms
from springline.projection.families import Families
from springline.projection.rows import RunRow
from springline.projection.stored import StoredRows

FINISHED_RUN: Final = frozenset({"SUCCEEDED", "FAILED", "CANCELLED"})
"""Terminal states of a run."""


def age_reference_ms(run: RunRow) -> int:
    """Return the instant, in epoch milliseconds, from which a finished run's age counts."""
    return _age_reference_ms(run.row_version, run.triggered_at, run.completed_at)


def _age_reference_ms(row_version: str, triggered_at: int, completed_at: int | None) -> int:
    stamped = event_id_ms(row_version)
    if stamped is not None:
        return stamped
    return triggered_at if completed_at is None else completed_at


class RunExpiry:
    """A heap of (age reference, run id) that has an entry for every finished run as it is, and may have older ones."""

    def __init__(self) -> None:
        self._by_age: list[tuple[int, str]] = []

    def note(self, run: RunRow) -> None:
        """Take up a run that was written, if it is finished."""
        if run.state in FINISHED_RUN:
            heapq.heappush(self._by_age, (age_reference_ms(run), run.run_id))

    def note_stored(self, runs: StoredRows) -> None:
        """Take up all stored runs that are finished, also as older layers have them."""
        columns = ("run_id", "state", "row_version", "triggered_at", "completed_at")
        for _, content in runs.column_values(columns):
            values = (content.column(name).to_pylist() for name in columns)
            for run_id, state, version, triggered, completed in zip(*values, strict=True):
                if state in FINISHED_RUN:
                    self._by_age.append((_age_reference_ms(version, triggered, completed), run_id))
        heapq.heapify(self._by_age)

    def take_expired(self, families: Families, limit_ms: int) -> list[str]:
        """Return the ids of all finished runs whose age counts from before an instant, each once."""
        by_age = self._by_age
        expired: dict[str, None] = {}
        while by_age and by_age[0][0] < limit_ms:
            _, run_id = heapq.heappop(by_age)
            family = families.of.get(run_id)
            run = None if family is None else family.run
            if run is not None and run.state in FINISHED_RUN and age_reference_ms(run) < limit_ms:
                expired[run_id] = None
        return list(expired)
