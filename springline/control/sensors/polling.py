"""When a sensor is evaluated next, and what a poll is that found nothing: pure, without what can be recorded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from springline.control.sensors.messages import (
    EvaluationAnswer,
    EvaluationOrder,
    EvaluationOutcome,
    PollSeries,
    SensorDecision,
    SensorDoing,
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
    # A poll that has found nothing behind a failure that is on record is no failure.
    failures = memory.failures if last == memory.last_ms else max(memory.failures, int(view.failed))
    # By a clock that was set back, the last evaluation lies ahead.
    last = min(last, now_ms)
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


def keeps_cursor(answer: EvaluationAnswer, order: EvaluationOrder | SensorView) -> bool:
    """Say whether an evaluation keeps the cursor that it was made with."""
    return answer.cursor is None or answer.cursor == order.cursor


def is_quiet(answer: EvaluationAnswer, order: EvaluationOrder | SensorView) -> bool:
    """Say whether a poll found nothing and keeps the cursor that it was made with."""
    if answer.error is not None or answer.requests or order.message is not None:
        return False
    return keeps_cursor(answer, order)


def nothing_found(view: SensorView, answer: EvaluationAnswer, memory: SensorMemory, began_ms: int) -> QuietPoll | None:
    """Return what becomes of a poll that found nothing and keeps its cursor: no event; None for any other evaluation.

    Args:
        view: the sensor as it was when the evaluation began.
        answer: what was found.
        memory: what the workflow knew then.
        began_ms: when it began.
    """
    if not is_quiet(answer, view):
        return None
    decision = SensorDecision(
        at_ms=began_ms,
        outcome=EvaluationOutcome.NOTHING,
        message=answer.skip_reason,
        cursor_before=view.cursor,
        cursor_after=view.cursor,
    )
    kept = after_quiet(memory, 1, began_ms, began_ms)
    return QuietPoll(decision, kept.model_copy(update={"more": answer.more}))


def series_of(view: SensorView, memory: SensorMemory, *, begins_ms: int, ends_ms: int, most: int) -> PollSeries | None:
    """Return the polls that a sensor may make one after the other without its workflow, None if that is one at most.

    Args:
        view: the sensor as the last look has found it.
        memory: what the workflow knows.
        begins_ms: when the first one begins.
        ends_ms: when the rows are to be looked at again.
        most: so many polls at most.
    """
    if view.message is not None:
        return None
    since_ms = memory.polls_since_ms if memory.polls and memory.polls_since_ms is not None else begins_ms
    until_ms = min(ends_ms, since_ms + SUMMARY_MS)
    if most < 2 or begins_ms + view.interval_ms >= until_ms:
        return None
    return PollSeries(every_ms=view.interval_ms, until_ms=until_ms, most=most)


def pause_to_next_ms(order: EvaluationOrder, answer: EvaluationAnswer, *, tries: int, began_ms: int) -> int | None:
    """Return how long after `began_ms` the next poll of a series begins; None: this one is the last.

    Args:
        order: what this poll was asked for by.
        answer: what it found.
        tries: polls of the series that were made, this one included.
        began_ms: when it began.
    """
    series = order.series
    if series is None or tries >= series.most or answer.more or not is_quiet(answer, order):
        return None
    return None if began_ms + series.every_ms >= series.until_ms else series.every_ms


def after_quiet(memory: SensorMemory, quiet: int, first_ms: int, last_ms: int) -> SensorMemory:
    """Return the memory behind `quiet` polls that found nothing, of which the first and the last began then."""
    if not quiet:
        return memory
    since_ms = memory.polls_since_ms if memory.polls else first_ms
    return SensorMemory(last_ms=last_ms, polls=memory.polls + quiet, polls_since_ms=since_ms)


def surely_made(series: PollSeries, first_ms: int, now_ms: int) -> int:
    """Return how many polls of a series were made, where nobody says so: those after which another one was due.

    The one after these may be made or not. It is made again: a poll too many does no harm.
    """
    return min(series.most - 1, max(0, now_ms - first_ms) // series.every_ms)


def in_series(doing: SensorDoing, *, tries: int, next_ms: int, began_ms: int | None) -> SensorDoing:
    """Return what a sensor is doing with what its workflow has not heard of a series that is under way.

    Args:
        doing: what the workflow says.
        tries: the try that is under way or next, from 1.
        next_ms: when that is due.
        began_ms: when it began, None if it has not.
    """
    quiet = tries - 1
    return doing.model_copy(
        update={
            "evaluations": doing.evaluations + quiet,
            "polls": doing.polls + quiet,
            "next_ms": next_ms,
            "evaluating_since_ms": began_ms,
        }
    )
