"""What a run and the workers of users tell each other: an attempt to make, its start, its end.

Fields are only ever added, with defaults: histories of running workflows hold these messages, and users' workers may
be older or newer than the run. Times in ms since 1970.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict

from springline.ledger.nested import ErrorCategory, TaskOutcome


class RunMessage(BaseModel):
    """Base of all messages: immutable, ignores unknown fields of a newer writer."""

    model_config = ConfigDict(frozen=True)


class TakenOutput(RunMessage):
    """An output that an attempt left in the store for a parameter: that of `task_key`, made by `attempt_id`."""

    task_key: str
    attempt_id: str
    scope: str
    """The run under which it is stored."""
    partition_key: str | None = None


class TakenInput(RunMessage):
    """A parameter that takes outputs: one, or with `many` a dict of them by partition key."""

    argument: str
    many: bool = False
    outputs: list[TakenOutput] = []


class AttemptOrder(RunMessage):
    """Input of `run_attempt`: make one asset, or one partition of it.

    `scope`: the run under which its output is stored, and its write set sealed. `keeps_output`: a parameter of another
    task takes the output. `timeout_ms`: how long the function may take, None: as long as it likes.
    """

    tenant: str
    workspace: str
    run_id: str
    task_key: str
    asset_key: str
    partition_key: str | None = None
    attempt: int
    attempt_id: str
    scope: str
    manifest_id: str
    location: str
    config: dict[str, Any] = {}
    inputs: list[TakenInput] = []
    keeps_output: bool = False
    timeout_ms: int | None = None


class AttemptStarted(RunMessage):
    """A worker began an attempt: an item of the signal `attempts_started`."""

    task_key: str
    attempt: int
    attempt_id: str
    worker_id: str
    started_at_ms: int


class AttemptsStarted(RunMessage):
    """Argument of the signal `attempts_started` of a run: what a worker began since its last one."""

    attempts: list[AttemptStarted]


class AttemptEnded(RunMessage):
    """Result of `run_attempt`: how the attempt ended. An error of user code is such an end, not a failed activity.

    `category`, `message`, `stack_trace`, `retryable` and `reason_code` are set unless it succeeded; `retryable` None:
    as its category has it. `metadata`: what the function told by `context.add_metadata`.
    """

    outcome: TaskOutcome
    worker_id: str
    started_at_ms: int
    ended_at_ms: int
    category: ErrorCategory | None = None
    message: str | None = None
    stack_trace: str | None = None
    retryable: bool | None = None
    reason_code: str | None = None
    metadata: dict[str, Any] = {}
    cpu_time_ms: int | None = None
    peak_memory_bytes: int | None = None
