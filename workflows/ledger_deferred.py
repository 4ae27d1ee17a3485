"""Foreign events that lie too far in the future: kept in mind until they are due, while the run lives."""

from __future__ import annotations

from collections.abc import Iterable

from springline.paths import event_id_from_ledger_path
from springline.ulids import ulid_time_ms
from workflows.ledger_messages import DeferredPath

AHEAD_MS = 5 * 60 * 1000
"""An event is deferred if its id lies further ahead of workflow time than this."""
KEEP_ALIVE_MS = 3600 * 1000
"""A run stays for an event that is due within this time; its caller has been told to send later ones again."""
MAX_DEFERRED = 10_000


class Deferred:
    """Paths of deferred events and when each is due, in ms since 1970."""

    def __init__(self) -> None:
        self._due: dict[str, int | None] = {}

    def __len__(self) -> int:
        """Return how many events are deferred."""
        return len(self._due)

    def note(self, paths: Iterable[str]) -> None:
        """Keep these in mind, as many as there is room for."""
        for path in paths:
            if len(self._due) < MAX_DEFERRED:
                event_id = event_id_from_ledger_path(path)
                made = None if event_id is None else ulid_time_ms(event_id)
                self._due[path] = None if made is None else made - AHEAD_MS

    def take_due(self, now_ms: int) -> list[str]:
        """Take out the paths whose events are due."""
        due = [path for path, at in self._due.items() if at is not None and at <= now_ms]
        for path in due:
            del self._due[path]
        return due

    def wait_ms(self, now_ms: int) -> int | None:
        """Return how long it is until the next one is due, None if no run is to stay for that long."""
        waits = [at - now_ms for at in self._due.values() if at is not None and at - now_ms <= KEEP_ALIVE_MS]
        return max(1, min(waits)) if waits else None

    def shown(self) -> list[DeferredPath]:
        """Return all, the next one due first."""
        found = [DeferredPath(path=path, due_ms=at) for path, at in self._due.items()]
        return sorted(found, key=lambda one: (one.due_ms is None, one.due_ms, one.path))
