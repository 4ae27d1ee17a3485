"""Attempts that are made over HTTP: how long a run waits for a word of their workers, and what ends them without one.

Such an attempt lives outside of Temporal. It is posted once its dispatch is recorded; what its worker calls back is in
the ledger before the run knows of it. So a run learns from rows what became of it, and ends it only where nobody else
will: when its worker is silent, takes too long, or does not stop (docs/protocol.md#http-workers).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from springline.control.runs.ends import unseen_end
from springline.control.runs.messages import AttemptEnded, AttemptOrder, LoadedTask
from springline.control.runs.retries import INFRASTRUCTURE
from springline.definitions.durations import duration_text
from springline.projection.schema import DISPATCHED, RUNNING

DEFAULT_HTTP_HEARTBEAT_MS: Final = 60_000
"""How long a worker over HTTP may be silent, where its asset says nothing."""
DEFAULT_HTTP_TIMEOUT_MS: Final = 86_400_000
"""How long an attempt over HTTP may take, where its asset says nothing: its token ends some day."""
CANCEL_GRACE_MS: Final = 10_000
"""How much longer than a heartbeat a cancelled attempt may take: its worker learns of it with the next one."""


@dataclass(slots=True)
class Remote:
    """What a run knows of an attempt over HTTP. Times in ms since 1970.

    Attributes:
        order: what is to be posted; None once it is on its way.
        recorded: whether its dispatch is in the ledger: before that it must not be posted.
        heard_ms: the last sign of life, from when its worker has taken it; None before.
        started_ms: when its start was recorded.
    """

    heartbeat_ms: int
    timeout_ms: int
    order: AttemptOrder | None
    recorded: bool = False
    heard_ms: int | None = None
    started_ms: int | None = None

    def read(self, row: LoadedTask, now_ms: int) -> None:
        """Take in what a row says, which is the attempt's own: its dispatch, its start, its last sign of life."""
        self.recorded = True
        if row.state != RUNNING:
            return
        self.order = None
        if self.started_ms is None:
            self.started_ms = min(now_ms, row.started_ms if row.started_ms is not None else now_ms)
        said = [one for one in (self.heard_ms, self.started_ms, row.heard_ms) if one is not None]
        self.heard_ms = min(now_ms, max(said))

    def due_ms(self, cancelled_ms: int | None) -> int | None:
        """Return when the attempt ends without another word, None while it is on its way to a worker.

        `cancelled_ms`: since when the run knows of its cancellation, None if it is not cancelled.
        """
        if self.heard_ms is None:
            return None
        due = self.heard_ms + self.heartbeat_ms
        if self.started_ms is not None:
            due = min(due, self.started_ms + self.timeout_ms)
        if cancelled_ms is not None:
            due = min(due, cancelled_ms + self.heartbeat_ms + CANCEL_GRACE_MS)
        return due

    def ended(self, now_ms: int, cancelled_ms: int | None) -> AttemptEnded | None:
        """Return how the attempt has ended without a word, None if it goes on."""
        due = self.due_ms(cancelled_ms)
        if due is None or due > now_ms or self.heard_ms is None:
            return None
        if cancelled_ms is not None:
            return unseen_end("CANCELLED", "the run was cancelled, and the worker did not end this attempt", now_ms)
        if self.started_ms is not None and self.started_ms + self.timeout_ms <= now_ms:
            told = f"it took longer than its timeout, {duration_text(self.timeout_ms)}"
            return unseen_end("TIMEOUT", told, now_ms, reason_code="timeout")
        what = "did not say that it had started it" if self.started_ms is None else "gave no sign of life"
        told = f"its worker {what} for {duration_text(self.heartbeat_ms)}"
        return unseen_end(INFRASTRUCTURE, told, now_ms, reason_code="attempt_lost")


def is_open(row: LoadedTask) -> bool:
    """Say whether a row has an attempt under way."""
    return row.state in (DISPATCHED, RUNNING)
