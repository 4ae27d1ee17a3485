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


class RunEnded(RunMessage):
    """Result of RunWorkflow: the run's state and how many of its tasks ended how."""

    run_id: str
    state: str
    tasks: dict[str, int] = {}


class RunDoing(RunMessage):
    """Answer of the query `status` of RunWorkflow.

    `unrecorded`: events that wait to be appended. `trouble`: why the run does not go on as it should, None if it does.
    """

    run_id: str
    phase: str
    tasks: dict[str, int] = {}
    running: list[str] = []
    unrecorded: int = 0
    cancel_requested: bool = False
    trouble: str | None = None


class LoadOrder(RunMessage):
    """Input of `load_run`."""

    tenant: str
    workspace: str
    run_id: str


class LoadedArgument(RunMessage):
    """A parameter of an asset's function that takes the output of another asset."""

    argument: str
    asset: str
    many: bool = False


class LoadedAsset(RunMessage):
    """What a run needs to know of an asset, as its manifest has it. Durations in ms."""

    key: str
    location: str
    queue: str | None = None
    priority: int = 0
    retries: int = 0
    retry_delay_ms: int | None = None
    timeout_ms: int | None = None
    heartbeat_ms: int
    code_version: str | None = None
    arguments: list[LoadedArgument] = []


class LoadedTask(RunMessage):
    """A task's row. `needs`: places in the list of tasks that it depends on. `failures` of its attempts so far count
    against the user's budget. `retry_at_ms`: when it may be tried again. `heard_ms`: the last sign of life of
    its attempt.
    """

    key: str
    asset: str
    partition: str | None = None
    needs: list[int] = []
    state: str
    attempt: int = 0
    attempt_id: str | None = None
    max_attempts: int
    heartbeat_sec: int = 300
    """After how long without an event the ledger's readers may think an attempt dead."""
    failures: int = 0
    retry_at_ms: int | None = None
    heard_ms: int | None = None
    inherited: list[TakenInput] = []
    """Of a rerun: what its parameters take from runs before, beside what tasks of this run make."""


class LoadedRun(RunMessage):
    """Answer of `load_run`: a run as its rows have it. `missing`: why it cannot be executed, None if it can.

    `scope`: the run under which outputs of its tasks are stored.
    """

    run_id: str
    state: str
    cancel_requested: bool = False
    manifest_id: str = ""
    scope: str = ""
    config: dict[str, Any] = {}
    assets: list[LoadedAsset] = []
    tasks: list[LoadedTask] = []
    held: bool = False
    missing: str | None = None


class RunStart(RunMessage):
    """Input of RunWorkflow: the run to execute.

    `loaded`: where it stands, if whoever starts it knows, as of a run that it has just planned. Else its rows are read.
    """

    tenant: str
    workspace: str
    run_id: str
    loaded: LoadedRun | None = None


class RecordOrder(RunMessage):
    """Input of `append_run_events`: payloads to append, each by itself, under one request id."""

    tenant: str
    workspace: str
    request_id: str
    events: list[dict[str, Any]]


class NotTaken(RunMessage):
    """An event that was refused, or repeated another one. `index`: its place in the order."""

    index: int
    code: str
    message: str = ""


class Recorded(RunMessage):
    """Answer of `append_run_events`: every event was taken, except those named."""

    not_taken: list[NotTaken] = []


class CancelAsked(RunMessage):
    """Argument of the update `cancel` of RunWorkflow."""

    requested_by: str
    reason: str | None = None
    reason_code: str | None = None


class LaunchAsked(RunMessage):
    """Argument of the update `launch` and the signal `wake` of RunLauncher: requests that have just been recorded.

    `looks`: there may be others, which only a look at everything finds.
    """

    run_keys: list[str] = []
    looks: bool = False


class LauncherStart(RunMessage):
    """Input of RunLauncher. `looks`: whether it looks for all requests that wait, before anything else."""

    tenant: str
    workspace: str
    looks: bool = False


class LaunchOrder(RunMessage):
    """Input of `launch_runs`. `run_keys` None: every request that waits, and every run without an end."""

    tenant: str
    workspace: str
    run_keys: list[str] | None = None


class Launched(RunMessage):
    """Answer of `launch_runs`: how many runs were started, and ended at once because they cannot be planned.

    `waiting`: requests that must wait, because the workspace is held or has as many runs as it may have. `aside`: what
    is wrong with requests that cannot be read, or are refused; they hold up no others.
    """

    started: int = 0
    refused: int = 0
    waiting: int = 0
    aside: list[str] = []


class WakeOrder(RunMessage):
    """Input of `wake_runs`: what a round of the ledger has changed for runs.

    `run_keys`: requested. `run_ids`: cancelled. `looks`: requests or a change that only a look at everything finds.
    """

    tenant: str
    workspace: str
    run_keys: list[str] = []
    run_ids: list[str] = []
    looks: bool = False
