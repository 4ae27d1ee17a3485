"""What an explanation is made of, and what it comes to: values, for programs and for people."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from pydantic import BaseModel, ConfigDict, Field

from springline.definitions.manifest import DeployedManifest
from springline.errors import Code, Refused, refused
from springline.explaining.telling import ToldEvent
from springline.ledger.envelope import Event
from springline.ledger.timestamps import format_ms
from springline.projection.rows import TaskRow
from springline.published.snapshot import StateSnapshot

A_DAY_MS: Final = 86_400_000
MARGIN_MS: Final = 60_000
"""How far around the times in rows events are read."""


def explain_task(run_id: str, task_key: str) -> str:
    """Return the command that explains a task, quoted where a shell would take its key apart."""
    return shlex.join(["springline", "explain", "task", run_id, task_key])


class Verdict(StrEnum):
    """How something stands, for programs."""

    DONE = "DONE"
    """It ran, and succeeded."""
    UNDER_WAY = "UNDER_WAY"
    """It runs now, or is about to: nothing keeps it waiting."""
    WAITS = "WAITS"
    """It is to run, and waits for what `waits_for` names."""
    HELD = "HELD"
    """It is to run, and the workspace is held."""
    SKIPPED = "SKIPPED"
    """It was decided that it does not run."""
    FAILED = "FAILED"
    """It ran and failed, or could not be evaluated."""
    CANCELLED = "CANCELLED"
    """Somebody cancelled it."""
    NOT_DUE = "NOT_DUE"
    """Its time has not come."""
    OFF = "OFF"
    """Its schedule, sensor or backfill was off, or had left its file, or its partition is of a former definition."""
    OVERDUE = "OVERDUE"
    """It should have been decided on or begun by now, and nobody has."""
    NO_INSTANT = "NO_INSTANT"
    """The schedule is not due then, or did not exist."""
    NO_RECORD = "NO_RECORD"
    """Nothing on record says what became of it: retention has removed it."""


class Explanation(BaseModel):
    """Why something ran, did not run, or waits."""

    model_config = ConfigDict(frozen=True)

    subject: str = Field(description="What is explained, such as `schedule` or `run`.")
    identity: str
    verdict: Verdict
    answer: str = Field(description="In a sentence or two.")
    reason_code: str | None = Field(default=None, description="The reason on record, for programs.")
    waits_for: list[str] = Field(default=[], description="What it waits for, in words.")
    decisions: list[ToldEvent] = Field(default=[], description="Who decided what and when, in the order of the ledger.")
    left_out: int = Field(default=0, description="How many more events concern it, older than those shown.")
    next_steps: list[str] = Field(default=[], description="What to do, or to ask next.")
    since: str = Field(description="RFC 3339: events from this instant were read,")
    until: str = Field(description="up to this one.")
    events_read: int = 0
    is_complete: bool = Field(default=True, description="Whether all events of that time were read.")


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked. `at_ms`: of a schedule, the instant; `task`, `attempt`: of which task and attempt of a run;
    `chunk`: of a backfill, from 0; `partition`: of an asset, None for one that has none.

    `since_ms`, `until_ms`: the time whose events are read, None: what the subject's rows suggest. Times in ms since
    1970.
    """

    identity: str
    now_ms: int
    task: str | None = None
    attempt: int | None = None
    chunk: int | None = None
    partition: str | None = None
    at_ms: int | None = None
    since_ms: int | None = None
    until_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Aim:
    """Which events are read for an answer: of what time, with which texts in them (any of these), and which concern it.

    `run_id`: the run whose tasks' waits for pools are looked up. `tasks`: those that the answer is about, where they
    took a search.
    """

    since_ms: int
    until_ms: int
    mentions: tuple[str, ...]
    concerns: Callable[[Event], bool]
    run_id: str | None = None
    tasks: Sequence[TaskRow] = ()


@dataclass(frozen=True, slots=True)
class Evidence:
    """What an answer is made of: rows, the events that concern it in order, and waits for pools by task.

    `manifest`: the deployed definitions, if the subject is judged by them, and if anything is deployed. `tasks`: those
    that the aim has found.
    """

    rows: StateSnapshot
    manifest: DeployedManifest | None = None
    events: Sequence[Event] = ()
    pool_waits: Mapping[str, str] = field(default_factory=dict)
    tasks: Sequence[TaskRow] = ()


@dataclass(slots=True)
class Account:
    """An answer in the making: the verdict with what belongs to it."""

    verdict: Verdict
    text: str
    reason_code: str | None = None
    waits_for: list[str] = field(default_factory=list)
    next_steps: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Subject:
    """A kind of thing that can be explained.

    `takes`: what a question for it may say beyond an id and a time: `at`, `task`, `attempt`, `chunk`, `partition`.
    `tables`: the tables of the published state that it needs. `aim`: which events are read, given the evidence without
    them; raises `Refused` (NOT_FOUND) if there is no such thing. `answer`: the answer from all of that. Both are
    functions of their arguments alone. `by_definitions`: it is judged by the deployed definitions, too.
    """

    name: str
    takes: tuple[str, ...]
    tables: tuple[str, ...]
    aim: Callable[[Evidence, Question], Aim]
    answer: Callable[[Evidence, Question], Account]
    by_definitions: bool = False


def unknown(what: str, field_name: str, value: str, remedy: str, *, of: str = "") -> Refused:
    """Return the refusal of a question for something that the rows do not have. `of`: what it would be a part of."""
    return refused(
        Code.NOT_FOUND,
        f"this workspace's published state has no {what} {value!r}{of and f' of {of}'}",
        field=field_name,
        value=value,
        remedy=remedy,
    )


def ago(ms: int, now_ms: int) -> str:
    """Return an instant with how long ago it is, for sentences: `2025-01-15T10:00:00Z (3 min ago)`."""
    return f"{format_ms(ms)} ({lasted(max(0, now_ms - ms))} ago)"


def lasted(ms: int) -> str:
    """Return a duration in words, to two figures of its size."""
    seconds = ms // 1_000
    if seconds < 1:
        return f"{ms} ms"
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"
