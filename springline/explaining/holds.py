"""The hold of a workspace: who holds it, since when, and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from springline.explaining.story import Account, Verdict, ago
from springline.ledger.envelope import Event
from springline.ledger.events import HoldChanged
from springline.published.snapshot import StateSnapshot
from springline.runs.loading import hold_row

HOLD_EVENT: Final = "springline_hold_changed"
"""What every event mentions that begins or ends a hold."""
RELEASE: Final = "springline hold release"
"""What ends a hold."""


@dataclass(frozen=True, slots=True)
class StandingHold:
    """A hold that has not ended. `since_ms`: in ms since 1970."""

    by: str
    since_ms: int
    reason: str | None

    def text(self, now_ms: int) -> str:
        """Return it in words, for the middle of a sentence."""
        why = "" if self.reason is None else f" ({self.reason})"
        return f"by {self.by}, since {ago(self.since_ms, now_ms)}{why}"


def hold_of(rows: StateSnapshot) -> StandingHold | None:
    """Return the hold of the workspace, None if there is none; needs the table `x_holds`."""
    row = hold_row(rows)
    return StandingHold(row.changed_by, row.changed_at, row.reason) if row is not None and row.held else None


def held_back(text: str, reason_code: str | None = None) -> Account:
    """Return the account of what waits for the end of the hold."""
    return Account(Verdict.HELD, text, reason_code, ["the end of the hold"], [RELEASE])


def is_hold(event: Event) -> bool:
    """Say whether an event begins or ends a hold: it concerns everything in the workspace."""
    return isinstance(event.data, HoldChanged)
