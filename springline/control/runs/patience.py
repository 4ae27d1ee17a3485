"""How long a run waits for attempts that another workflow of it has recorded, before it takes them over.

Such a workflow may be at work: on another cluster with the same store. Then its attempts are heard of, for it tells the
ledger now and then of each that runs. Or it is gone, and what it had sent came late. No clock of anybody else is looked
at, only whether rows change (docs/protocol.md#run-existence).
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from springline.control.runs.messages import LoadedRun, LoadedTask
from springline.control.runs.progress import LEDGER_BEAT_MS
from springline.projection.schema import RUNNING

FIRST_MS: Final = 15_000
"""For the first attempt of a task."""
MOST_DOUBLINGS: Final = 8
"""It doubles with each attempt of the task that was lost: two clusters without a worker must not use them all up."""

_Row = tuple[str, int, str | None, int | None]


class Patience:
    """What a run has seen of the tasks with attempts of others, and since when they have stood still."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[_Row, int]] = {}

    def exhausted(self, foreign: Collection[str], loaded: LoadedRun, now_ms: int) -> list[str]:
        """Note the rows, and return those tasks among `foreign` that have stood still for too long."""
        pooled = {asset.key for asset in loaded.assets if asset.pool is not None}
        seen: dict[str, tuple[_Row, int]] = {}
        gone: list[str] = []
        for task in loaded.tasks:
            if task.key not in foreign:
                continue
            row = (task.state, task.attempt, task.attempt_id, task.heard_ms)
            known = self._seen.get(task.key)
            since_ms = now_ms if known is None or known[0] != row else known[1]
            seen[task.key] = row, since_ms
            # One of a pool has its slot until it cannot be at work any more, whether anybody has told that it began.
            runs = task.state == RUNNING or task.asset in pooled
            if now_ms - since_ms >= _patience_ms(task, runs=runs):
                gone.append(task.key)
        self._seen = seen
        return gone


def _patience_ms(task: LoadedTask, *, runs: bool) -> int:
    lost = max(0, task.attempt - 1 - task.failures)
    patience_ms = FIRST_MS << min(lost, MOST_DOUBLINGS)
    return max(patience_ms, 2 * LEDGER_BEAT_MS) if runs else patience_ms
