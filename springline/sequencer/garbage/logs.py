"""Which logs are garbage: what attempts have printed whose run retention has removed from the rows."""

from __future__ import annotations

from dataclasses import dataclass

from springline import paths
from springline.published.manifest import Manifest
from springline.published.reader import read_published
from springline.published.snapshot import TableRows
from springline.storage.port import ObjectStore

_RUNS = "runs"


@dataclass(frozen=True, slots=True)
class LoggedRuns:
    """The runs whose logs stay: those that have a row, or all (`rows` None)."""

    rows: TableRows | None

    def are_left_by(self, path: str) -> bool:
        """Say whether an object is a part of a log whose run has no row any more."""
        chunk = paths.parse_log_chunk(path)
        return self.rows is not None and chunk is not None and not self.rows.has(chunk[0])


async def logged_runs(store: ObjectStore, manifest: Manifest) -> LoggedRuns:
    """Read the runs whose logs stay; where `manifest` is of a workspace without retention, those of all.

    Raises `DamagedObject` if the rows cannot be read, and the store's errors.
    """
    ours = manifest.springline
    if ours is None or not ours.config.retention_days:
        return LoggedRuns(None)
    _, snapshot = await read_published(store, (_RUNS,))
    return LoggedRuns(snapshot[_RUNS])
