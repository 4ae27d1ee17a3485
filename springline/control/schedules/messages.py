"""What ScheduleEvaluator and its activity tell each other.

Fields are only ever added, with defaults: histories of running workflows hold these messages. Times in ms since 1970.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class ScheduleMessage(BaseModel):
    """Base of all messages: immutable, ignores unknown fields of a newer writer."""

    model_config = ConfigDict(frozen=True)


class EvaluatorStart(ScheduleMessage):
    """Input of ScheduleEvaluator. `worker`: who made its predecessor's last pass, None for a new beginning."""

    tenant: str
    workspace: str
    worker: str | None = None


class EvaluateOrder(ScheduleMessage):
    """Input of `evaluate_schedules`: decide on what is due at `now_ms`.

    `worker`: who made the pass before, None: nobody. It is empty in a history of an older build.
    """

    tenant: str
    workspace: str
    now_ms: int
    worker: str | None = ""


class UpcomingInstant(ScheduleMessage):
    """When a schedule is to be looked at next."""

    schedule_id: str
    at_ms: int


class DecidedInstant(ScheduleMessage):
    """What became of an instant of a schedule: `said` is the key of its run, or why there is none."""

    schedule_id: str
    scheduled_for: str
    status: str
    said: str | None = None


class EvaluatedSchedules(ScheduleMessage):
    """Answer of `evaluate_schedules`.

    `schedules`: how many there are, those that are off included. `next_ms`: when the next look is due, None: when
    something has changed. `runs`, `skipped`: ticks that were recorded. `aside`: schedules that cannot be evaluated, and
    why; they hold up no others. `held`: the workspace is held, and nothing was decided. `worker`: who made the pass,
    empty in a history of an older build. `paused`: how many are off. `upcoming`: the next instants, `decided`: the last
    decisions of this pass; some of each, for people.
    """

    schedules: int = 0
    next_ms: int | None = None
    runs: int = 0
    skipped: int = 0
    aside: list[str] = []
    held: bool = False
    worker: str = ""
    paused: int = 0
    upcoming: list[UpcomingInstant] = []
    decided: list[DecidedInstant] = []
