"""Timers (docs/events.md#fold-timers)."""

from __future__ import annotations

from springline.control.admission.cases import Case, Ruling, Write
from springline.ledger.events import TimerEnqueued, TimerFired, TimerRequested
from springline.ledger.identifiers import parse_timer_id
from springline.projection.state import State


def admit_timer(state: State, case: Case[TimerRequested]) -> Ruling:
    """Admit a timer, or another instant for it; what its id has said before is recorded, and changes nothing."""
    return Write(case.data, may_be_refused=True)


def admit_timer_news(state: State, case: Case[TimerEnqueued] | Case[TimerFired]) -> Ruling:
    """Admit news of a timer that is known, or whose id says what it is for: else they would be lost.

    See docs/events.md#w35.
    """
    timer_id = case.data.timer_id
    if state.timer(timer_id) is None and parse_timer_id(timer_id) is None:
        raise case.conflict(
            "timer_id",
            f"there is no timer {timer_id!r}, and its id does not say what it is for",
            "Append its timer_requested first.",
        )
    return Write(case.data)
