"""When a sensor is evaluated next, and what a poll is that found nothing: pure, without what can be recorded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from springline.control.sensors.messages import (
    EvaluationAnswer,
    EvaluationOutcome,
    SensorDecision,
    SensorMemory,
    SensorView,
)

LONGEST_PAUSE_MS: Final = 15 * 60_000
"""Between two evaluations of a sensor that fails again and again, unless its interval is longer."""
FIRST_RETRY_MS: Final = 1_000
"""Between the first failure of a message's evaluation and the second try; doubled each time."""
SUMMARY_MS: Final = 3_600_000
"""How long a sensor finds nothing before that is put on record."""

PAUSED: Final = "it is paused"
HELD: Final = "the workspace is held"
NO_MESSAGE: Final = "no message waits"


@dataclass(frozen=True, slots=True)
class NextEvaluation:
    """When a sensor is evaluated next. `due_ms` None: when something has changed; `waits` says what for."""

    due_ms: int | None
    waits: str | None = None

    def is_due(self, now_ms: int) -> bool:
        """Say whether that is now."""
        return self.due_ms is not None and self.due_ms <= now_ms


def next_evaluation(view: SensorView, memory: SensorMemory, now_ms: int) -> NextEvaluation:
    """Return when a sensor is evaluated next: a message at once, a poll after its interval, later while it fails."""
    if view.held or view.paused:
        return NextEvaluation(None, HELD if view.held else PAUSED)
    if view.message is not None:
        if memory.trying != view.message.message_id or memory.last_ms is None:
            return NextEvaluation(view.message.received_ms)
        last = min(memory.last_ms, now_ms)
        return NextEvaluation(last + _doubled(FIRST_RETRY_MS, memory.failures or memory.tries))
    if view.kind == "push":
        return NextEvaluation(None, NO_MESSAGE)
    last = max(memory.last_ms or 0, view.evaluated_ms or 0)
    if not last:
        return NextEvaluation(now_ms)
    # By a clock that was set back, the last evaluation lies ahead.
    last = min(last, now_ms)
    failures = max(memory.failures, int(view.failed))
    if memory.more and not failures:
        return NextEvaluation(last)
    return NextEvaluation(last + _doubled(view.interval_ms, failures))


def _doubled(pause_ms: int, failures: int) -> int:
    return max(pause_ms, min(LONGEST_PAUSE_MS, pause_ms << min(failures, 30)))


def owes_summary(view: SensorView, memory: SensorMemory, now_ms: int) -> bool:
    """Say whether so many polls found nothing for so long that it is to be put on record."""
    since = memory.polls_since_ms
    return memory.polls > 0 and since is not None and now_ms - since >= SUMMARY_MS and not (view.paused or view.held)


@dataclass(frozen=True, slots=True)
class QuietPoll:
    """A poll that found nothing: how it is told, and the memory behind it."""

    decision: SensorDecision
    memory: SensorMemory


def nothing_found(view: SensorView, answer: EvaluationAnswer, memory: SensorMemory, began_ms: int) -> QuietPoll | None:
    """Return what becomes of a poll that found nothing and keeps its cursor: no event; None for any other evaluation.

    Args:
        view: the sensor as it was when the evaluation began.
        answer: what was found.
        memory: what the workflow knew then.
        began_ms: when it began.
    """
    if answer.error is not None or answer.requests or view.message is not None:
        return None
    if answer.cursor is not None and answer.cursor != view.cursor:
        return None
    decision = SensorDecision(
        at_ms=began_ms,
        outcome=EvaluationOutcome.NOTHING,
        message=answer.skip_reason,
        cursor_before=view.cursor,
        cursor_after=view.cursor,
    )
    since = memory.polls_since_ms if memory.polls else began_ms
    kept = SensorMemory(last_ms=began_ms, more=answer.more, polls=memory.polls + 1, polls_since_ms=since)
    return QuietPoll(decision, kept)
