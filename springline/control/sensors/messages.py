"""What SensorWorkflow, its activities and users' workers tell each other.

Fields are only ever added, with defaults: histories of running workflows hold these messages. Times in ms since 1970.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Final

from pydantic import BaseModel, ConfigDict

from springline.ledger.nested import ErrorCategory

MOST_DECISIONS: Final = 10
"""Of the last decisions so many are told."""


class EvaluationOutcome(StrEnum):
    """What an evaluation came to."""

    TRIGGERED = "triggered"
    """Runs are asked for."""
    NO_NEW_DATA = "no_new_data"
    """The cursor moved, or a message was answered; no run is asked for."""
    NOTHING = "nothing"
    """A poll found nothing and kept its cursor: that is no event."""
    ERROR = "error"
    """The evaluation failed, which is on record."""
    CHANGED = "changed"
    """The sensor was changed or evaluated meanwhile: it is evaluated again, on what is there now."""
    NO_WORKER = "no_worker"
    """No worker of the code location has taken the evaluation."""


class SensorNotes(BaseModel):
    """Base of all messages: immutable, ignores unknown fields of a newer writer."""

    model_config = ConfigDict(frozen=True)


class SensorDecision(SensorNotes):
    """What an evaluation came to, for people and for callers.

    `recorded`: it is in the ledger, as `eval_id`. `runs`: the runs that it asks for, or of a dry run would.
    """

    at_ms: int
    outcome: EvaluationOutcome
    reason_code: str | None = None
    message: str | None = None
    message_id: str | None = None
    cursor_before: str | None = None
    cursor_after: str | None = None
    runs: list[dict[str, Any]] = []
    run_count: int = 0
    recorded: bool = False
    eval_id: str | None = None
    late_ms: int | None = None


class SensorMemory(SensorNotes):
    """What a sensor's workflow knows that is no event; lost, it costs an early poll at most.

    `last_ms`: when the last evaluation began. `failures`: evaluations in a row that failed. `polls`: those in a row
    that found nothing, since `polls_since_ms`. `trying`: the message whose evaluation failed last, `tries` times.
    `more`: the last evaluation left something behind.
    """

    last_ms: int | None = None
    failures: int = 0
    polls: int = 0
    polls_since_ms: int | None = None
    trying: str | None = None
    tries: int = 0
    more: bool = False


class SensorStart(SensorNotes):
    """Input of SensorWorkflow. `late_ms`: of the order for a look."""

    tenant: str
    workspace: str
    sensor_id: str
    memory: SensorMemory = SensorMemory()
    decisions: list[SensorDecision] = []
    evaluations: int = 0
    late_ms: list[int | None] = []


class WaitingMessage(SensorNotes):
    """A message that waits for its evaluation."""

    message_id: str
    payload: Any = None
    received_ms: int


class SensorView(SensorNotes):
    """A sensor as manifest and rows have it.

    `change_id`: the last change by operators, None for none. `evaluated_ms`: the last evaluation on record, and whether
    that failed. `message`: the one that is next, of `backlog` (1,000 stands for more), the oldest since `oldest_ms`.
    """

    sensor_id: str
    kind: str
    location: str
    interval_ms: int
    timeout_ms: int
    select: list[str] = []
    table: str | None = None
    asset: str | None = None
    prefix: str | None = None
    ends: list[str] = []
    manifest_id: str
    cursor: str | None = None
    state_version: int = 0
    change_id: str | None = None
    paused: bool = False
    held: bool = False
    evaluated_ms: int | None = None
    failed: bool = False
    message: WaitingMessage | None = None
    backlog: int = 0
    oldest_ms: int | None = None


class SensorAsked(SensorNotes):
    """Argument of the update `evaluate`. `dry_run`: nothing is recorded; `cursor` and `payload` are of a dry run."""

    dry_run: bool = False
    cursor: str | None = None
    payload: Any = None
    has_payload: bool = False


class SensorLookOrder(SensorNotes):
    """Input of `look_at_sensor`. `asked`: somebody wants an evaluation now.

    `late_ms`: the polls since the last look that found nothing and so were not recorded: they are to be counted. By how
    much each was late, None where nobody knows. `polled`: the only one, of an older build.
    """

    tenant: str
    workspace: str
    sensor_id: str
    now_ms: int
    memory: SensorMemory = SensorMemory()
    asked: SensorAsked | None = None
    polled: SensorDecision | None = None
    late_ms: list[int | None] = []


class PollSeries(SensorNotes):
    """Polls one after the other, as tries of one activity, for as long as they find nothing.

    `every_ms`: from when one begins until the next does. `until_ms`: none begins then or later. `most`: so many polls.
    """

    every_ms: int
    until_ms: int
    most: int


class SeriesPoll(SensorNotes):
    """The last poll of a series, by the clock of Temporal; before it `quiet` others found nothing."""

    quiet: int
    due_ms: int | None
    began_ms: int


class EvaluationOrder(SensorNotes):
    """Input of `evaluate_sensor`, for a worker of the code location.

    `due_ms`: since when the evaluation is due. `series`: it is repeated as long as it finds nothing. `further`: the
    messages behind `message`: the worker goes on with them, each on the cursor that the one before has left, for as
    long as that takes no time worth speaking of.
    """

    tenant: str
    workspace: str
    location: str
    sensor_id: str
    manifest_id: str
    cursor: str | None = None
    evaluated_ms: int | None = None
    message: WaitingMessage | None = None
    timeout_ms: int
    due_ms: int | None = None
    series: PollSeries | None = None
    further: list[WaitingMessage] = []


class AskedRun(SensorNotes):
    """A run that an evaluation asks for, as its author said it."""

    run_key: str | None = None
    select: list[str] = []
    partitions: list[str] = []
    config: dict[str, Any] = {}


class EvaluationAnswer(SensorNotes):
    """What an evaluation found. With `error` it failed, and the rest counts for nothing.

    `counts`: the failure is the sensor's own, not that of a worker or of a store. `more`: there is more to be asked
    for at once. `behind`: how much the sensor has not read yet, None if that is not known. `polled`: of a series.
    `further`: what was found on the order's further messages, as many as were evaluated; a failure is the last.
    """

    requests: list[AskedRun] = []
    cursor: str | None = None
    skip_reason: str | None = None
    more: bool = False
    behind: int | None = None
    error: str | None = None
    category: ErrorCategory | None = None
    reason_code: str | None = None
    stack_trace: str | None = None
    counts: bool = True
    polled: SeriesPoll | None = None
    further: list[EvaluationAnswer] = []


class SensorLook(SensorNotes):
    """Answer of `look_at_sensor`.

    `view` None: there is no such sensor (any more), and `gone` says why. `due`: it is to be evaluated now, by `order`
    where its function is to be called, else it is evaluated already: `done`. `next_ms`: when to look again, None: when
    something has changed. `due_ms`: since when it was due. `waits`: why it is not evaluated.
    """

    view: SensorView | None = None
    gone: str | None = None
    due: bool = False
    due_ms: int | None = None
    next_ms: int | None = None
    waits: str | None = None
    task_queue: str | None = None
    order: EvaluationOrder | None = None
    done: SensorDone | None = None


class SensorDone(SensorNotes):
    """What became of an evaluation: the decision, and the memory behind it.

    `earlier`: the decisions on the messages that were evaluated with it and before it; all are on record.
    """

    decision: SensorDecision
    memory: SensorMemory
    behind: int | None = None
    earlier: list[SensorDecision] = []


class SensorRecordOrder(SensorNotes):
    """Input of `record_evaluation`: what was found on a view that a look has read.

    `further`: the further messages that the answer has something on, without their payloads.
    """

    tenant: str
    workspace: str
    view: SensorView
    answer: EvaluationAnswer
    began_ms: int
    now_ms: int
    due_ms: int | None = None
    memory: SensorMemory = SensorMemory()
    dry_run: bool = False
    further: list[WaitingMessage] = []


class SensorDoing(SensorNotes):
    """Answer of the query `status`: what a sensor is doing, and what it has decided.

    `next_ms`: when it is looked after next. `every_ms`: its function is called at that distance as long as it finds
    nothing, of which its workflow does not hear (`springline.control.sensors.polling.in_series`).
    `evaluating_since_ms`: an evaluation is under way. `backlog`, `behind`: messages that wait, and what else is not
    read yet. `lag_ms`: how late the last evaluation began, or how long the oldest message has waited at the last look.
    """

    sensor_id: str
    evaluations: int = 0
    next_ms: int | None = None
    every_ms: int | None = None
    evaluating_since_ms: int | None = None
    waits: str | None = None
    failures: int = 0
    polls: int = 0
    backlog: int = 0
    behind: int | None = None
    lag_ms: int | None = None
    decisions: list[SensorDecision] = []
    trouble: str | None = None


SensorLook.model_rebuild()
EvaluationAnswer.model_rebuild()
