"""Whether a sensor gets on, by what is on record of it: pure, and without asking its workflow.

A poll that finds nothing is no event, and so many of them are summed up. A sensor of which nothing is on record for
longer than that takes has nobody who evaluates it.
"""

from __future__ import annotations

from typing import Final

from springline.control.sensors.messages import SensorView
from springline.control.sensors.polling import LONGEST_PAUSE_MS, SUMMARY_MS

LATE_MS: Final = 60_000
"""What is due and not on record for longer than this, beside what an evaluation may take, is late."""


def patience_ms(view: SensorView) -> int | None:
    """Return how long nothing may be on record of a sensor, from when it last could go on; None for however long.

    A message is evaluated at once. Polls are summed up each hour; a workflow that is started anew counts its polls
    from then on, so that it is two hours at most.
    """
    if view.message is not None:
        return view.timeout_ms + LATE_MS
    if view.kind == "push":
        return None
    between_ms = max(view.interval_ms, LONGEST_PAUSE_MS if view.failed else 0)
    return view.timeout_ms + LATE_MS + between_ms + (0 if view.failed else 2 * SUMMARY_MS + view.interval_ms)


def stuck_since_ms(view: SensorView, let_go_ms: int, now_ms: int) -> int | None:
    """Return since when a sensor should have been evaluated, None if it is as it should be, or is to stand still.

    Args:
        view: the sensor, as the rows have it.
        let_go_ms: when it last could go on: when it was deployed, changed by operators, or a hold ended.
        now_ms: the present.
    """
    patience = patience_ms(view)
    if view.paused or view.held or patience is None:
        return None
    waits_since = view.oldest_ms if view.message is not None else None
    late_ms = max(view.evaluated_ms or 0, let_go_ms, waits_since or 0) + patience
    return late_ms if now_ms >= late_ms else None
