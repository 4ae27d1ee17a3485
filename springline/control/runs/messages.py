"""What a run and the workers of users tell each other: an attempt to make, its start, its end.

Fields are only ever added, with defaults: histories of running workflows hold these messages, and users' workers may
be older or newer than the run. Times in ms since 1970.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict

from springline.ledger.nested import ErrorCategory, TaskOutcome
from springline.packing import PACKED

SHARDS_FROM: Final = 1_000
"""Tasks from which on the attempts of a run are made by its shards: its own history does not bear more."""


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
    task takes the output. `timeout_ms`: how long the function may take, None: as long as it likes. `memory_bytes`:
    how much memory its process may use, None: as the worker has it.
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
    inputs: Annotated[list[TakenInput], *PACKED] = []
    keeps_output: bool = False
    timeout_ms: int | None = None
    url: str | None = None
    """Of an attempt over HTTP: where it is posted to. Then it is the input of `post_attempt`."""
    heartbeat_ms: int | None = None
    code_version: str | None = None
    memory_bytes: int | None = None


class Posted(RunMessage):
    """Answer of `post_attempt`: the worker has taken the attempt, or why it never will."""

    refused: str | None = None


class AttemptStarted(RunMessage):
    """A worker began an attempt: an item of the signal `attempts_started`.

    `grace_ms`: how long its function may take to end when it is told to stop; then the worker kills it.
    """

    task_key: str
    attempt: int
    attempt_id: str
    worker_id: str
    started_at_ms: int
    grace_ms: int = 10_000


class AttemptsStarted(RunMessage):
    """Argument of the signal `attempts_started` of a run: what a worker began since its last one."""

    attempts: list[AttemptStarted]


class WrittenVersion(RunMessage):
    """A write of a task: the version of the table that has it, its key, and how many rows it wrote or changed."""

    table: str
    version: int
    idempotency_key: str | None = None
    operation: str | None = None
    rows: int | None = None


class FoundByCheck(RunMessage):
    """What a check of an attempt has found: whether it holds, and in words what was seen."""

    name: str
    severity: Literal["warn", "error"]
    passed: bool
    message: str | None = None


class AttemptEnded(RunMessage):
    """Result of `run_attempt`: how the attempt ended. An error of user code is such an end, not a failed activity.

    `category`, `message`, `stack_trace`, `retryable` and `reason_code` are set unless it succeeded; `retryable` None:
    as its category has it. `metadata`: what the function told by `context.add_metadata`. `tables`: what the task has
    written, in order. `checks`: what the checks of what it has made have found, in order. `log_chunks`: up to which
    number chunks of its log are in the store; None: nobody has said it.
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
    tables: list[WrittenVersion] = []
    checks: list[FoundByCheck] = []
    cpu_time_ms: int | None = None
    peak_memory_bytes: int | None = None
    log_chunks: int | None = None


class CancelAsked(RunMessage):
    """Argument of the update `cancel` of RunWorkflow."""

    requested_by: str
    reason: str | None = None
    reason_code: str | None = None


class AttemptReport(RunMessage):
    """What came of an attempt. `ended`: as its worker said. `lost`: how it was lost, if no worker said anything.

    Neither: it was cancelled before a worker took it. `silent`: it was given up because nobody was heard of it, and may
    still run.
    """

    task_key: str
    attempt_id: str
    ended: AttemptEnded | None = None
    lost: str | None = None
    silent: bool = False


class PlacedOrder(RunMessage):
    """An attempt to make, and where: the task queue, for how long it may be silent, and how long it may take, in ms."""

    order: AttemptOrder
    task_queue: str
    heartbeat_ms: int
    limit_ms: int


class AttemptsBegun(RunMessage):
    """Argument of the signal `begin_attempts` of a shard: attempts that it is to make."""

    orders: list[PlacedOrder]


class AttemptsToEnd(RunMessage):
    """Argument of the signal `end_attempts` of a shard: attempts to cancel, None for all.

    `closes`: the shard gets no more orders, and ends when it has told of all.
    """

    attempt_ids: list[str] | None = None
    closes: bool = False


class AttemptsEnded(RunMessage):
    """Argument of the signal `attempts_ended` of a run: what a shard, by its workflow id, has to tell."""

    shard_id: str
    reports: list[AttemptReport]


class ShardWaits(RunMessage):
    """Argument of the signal `shard_waits` of a run: a shard that has long heard nothing asks whether it is there."""

    shard_id: str


class ShardStart(RunMessage):
    """Input of RunShardWorkflow."""

    tenant: str
    workspace: str
    run_id: str
    number: int


class CarriedAttempt(RunMessage):
    """An attempt under way when its run continued as new; the fields of `progress.Attempt`, and its shard's id.

    `waits`: it has not begun, and has no shard: it waits for its slot.
    """

    key: str
    number: int
    attempt_id: str
    said_ms: int
    worker_id: str | None = None
    started: bool = False
    shard_id: str
    waits: bool = False
    grace_ms: int = 10_000


class CarriedShard(RunMessage):
    """A shard that is open when its run continues as new. `taken`: the orders that it has had."""

    shard_id: str
    taken: int


class CarriedRun(RunMessage):
    """What a large run hands to itself when it continues as new: all that its rows do not tell.

    `outbox`: payloads to append. `told_whole` and `dropped`: of `RunProgress`. `cancel_recorded`: whether the rows have
    the cancellation.
    """

    writer: str
    shards_opened: int
    shards: list[CarriedShard] = []
    running: list[CarriedAttempt] = []
    outbox: Annotated[list[dict[str, Any]], *PACKED] = []
    told_whole: list[str] = []
    dropped: dict[str, int] = {}
    cancel: CancelAsked | None = None
    cancel_recorded: bool = False


class RunEnded(RunMessage):
    """Result of RunWorkflow: the run's state and how many of its tasks ended how."""

    run_id: str
    state: str
    tasks: dict[str, int] = {}


class RunningAttempt(RunMessage):
    """An attempt that a worker has begun. `since_ms`: when, or when the run last heard of it if that is not known."""

    task_key: str
    attempt: int
    worker_id: str | None = None
    since_ms: int


class RunDoing(RunMessage):
    """Answer of the query `status` of RunWorkflow.

    `longest`: what a worker has been making for longest. `waits_for`: in words, what the run waits for, and why.
    `unrecorded`: events that wait to be appended. `trouble`: why the run does not go on as it should, None if it does.
    """

    run_id: str
    phase: str
    tasks: dict[str, int] = {}
    running: list[str] = []
    longest: list[RunningAttempt] = []
    waits_for: list[str] = []
    """Such as `raw_flights waits for pool warehouse (3 of 3 taken)`."""
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
    """What a run needs to know of an asset, as its manifest has it. Durations in ms.

    `is_task`: it is a task of the pipeline instead, of which events name no asset.
    """

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
    pool: str | None = None
    url: str | None = None
    is_task: bool = False
    memory_bytes: int | None = None


class LoadedTask(RunMessage):
    """A task's row. `needs`: places in the list of tasks that it depends on. `failures` of its attempts so far count
    against the user's budget. `retry_at_ms`: when it may be tried again. `heard_ms`: the last sign of life of
    its attempt. `ready_ms`: since when it may begin, None if its row does not say. `started_ms`: when its attempt was
    started.
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
    ready_ms: int | None = None
    started_ms: int | None = None
    inherited: list[TakenInput] = []
    """Of a rerun: what its parameters take from runs before, beside what tasks of this run make."""


class LoadedRun(RunMessage):
    """Answer of `load_run`: a run as its rows have it. `missing`: why it cannot be executed, None if it can.

    `scope`: the run under which outputs of its tasks are stored. `priority`: the run's own. `most_running`: how many of
    its attempts may be under way at once, None: as many as any run may have. `backfill_id`: of which it makes a chunk.
    """

    run_id: str
    state: str
    cancel_requested: bool = False
    manifest_id: str = ""
    scope: str = ""
    config: dict[str, Any] = {}
    assets: Annotated[list[LoadedAsset], *PACKED] = []
    tasks: Annotated[list[LoadedTask], *PACKED] = []
    held: bool = False
    missing: str | None = None
    priority: int = 0
    most_running: int | None = None
    backfill_id: str | None = None


class RunStart(RunMessage):
    """Input of RunWorkflow: the run to execute.

    `loaded`: where it stands, if whoever starts it knows, as of a run that it has just planned. Else its rows are read.
    `shards_from`: with so many tasks or more, the run's attempts are made by its shards. `carried`: from the run of the
    workflow before.
    """

    tenant: str
    workspace: str
    run_id: str
    loaded: LoadedRun | None = None
    shards_from: int = SHARDS_FROM
    carried: CarriedRun | None = None


class SlotClaim(RunMessage):
    """An attempt whose dispatch is on record, and which may begin as soon as it has a slot of its pool."""

    pool: str
    task_key: str
    attempt_id: str


class RecordOrder(RunMessage):
    """Input of `append_run_events`: payloads to append, each by itself, under one request id.

    `claims`: attempts of which the answer is to say whether they have their slots, after that.
    """

    tenant: str
    workspace: str
    request_id: str
    events: list[dict[str, Any]]
    claims: list[SlotClaim] = []


class NotTaken(RunMessage):
    """An event that was refused, or repeated another one. `index`: its place in the order."""

    index: int
    code: str
    message: str = ""


class Recorded(RunMessage):
    """Answer of `append_run_events`: every event was taken, except those named.

    `may_begin`: the ids of the attempts claimed that have their slots.
    """

    not_taken: list[NotTaken] = []
    may_begin: list[str] = []


class SlotWanted(RunMessage):
    """An attempt that a run would begin if it had a slot: one item of `SlotsAsked`.

    `priority` is that of its asset. `since_ms`: since when it may begin.
    """

    task_key: str
    attempt: int
    priority: int = 0
    since_ms: int


class SlotsAsked(RunMessage):
    """All that a run wants of a pool, in the place of what it wanted before: the signal `slots_asked` of PoolWorkflow.

    `number` grows with each message of a run about a pool: an older one that comes late is passed over. `priority` is
    the run's. `more`: attempts that wait beside those named. `anew`: the run's workflow has just begun, and knows of no
    leave that was given before.
    """

    run_id: str
    pool: str
    number: int
    priority: int = 0
    wanted: list[SlotWanted] = []
    more: int = 0
    anew: bool = False


class AskPools(RunMessage):
    """Input of `ask_pools`: what a run tells its pools, each in a message of its own."""

    tenant: str
    workspace: str
    asked: list[SlotsAsked]


class SlotGrant(RunMessage):
    """A slot for one attempt: an item of `SlotsGranted`."""

    task_key: str
    attempt: int


class SlotsGranted(RunMessage):
    """What a pool tells a run: the signal `slots_granted` of RunWorkflow.

    `slots`: the pool's size, None without a limit; `taken` of them are in use. `asks_again`: the pool has forgotten
    what the run wants, and is to be told.
    """

    pool: str
    grants: list[SlotGrant] = []
    slots: int | None = None
    taken: int = 0
    asks_again: bool = False


class SlotHolder(RunMessage):
    """An attempt that has a slot, or stands in line for it, as the rows have it. All but `since_ms` is its task's.

    `version`: the event that changed the row last; of an attempt that is dispatched and has not begun, its dispatch.
    `is_certain`: that it is one of this pool; False: the manifest is lost that says so.
    """

    run_id: str
    task_key: str
    attempt: int
    attempt_id: str = ""
    state: str = ""
    version: str = ""
    since_ms: int | None = None
    is_certain: bool = True


class PoolOrder(RunMessage):
    """Input of `read_pool`. `asking`: the runs that want slots, whose ends are of interest."""

    tenant: str
    workspace: str
    pool: str
    asking: list[str] = []


class PoolRows(RunMessage):
    """Answer of `read_pool`: a pool as the rows and the settings have it.

    `slots`: its size, None without a limit. `ready`: runs with tasks that may begin and have no slot. `over`: those of
    the runs asked about that have ended.
    """

    slots: int | None = None
    holders: list[SlotHolder] = []
    ready: list[str] = []
    over: list[str] = []


class GivenSlot(RunMessage):
    """A slot that a pool has given and that the rows do not show yet."""

    run_id: str
    task_key: str
    attempt: int
    since_ms: int


class PoolStart(RunMessage):
    """Input of PoolWorkflow; what is beside the pool's name is handed over by the run of it before, to save time."""

    tenant: str
    workspace: str
    pool: str
    asked: list[SlotsAsked] = []
    given: list[GivenSlot] = []
    turns: dict[str, int] = {}
    continues: bool = False


class WaitingRun(RunMessage):
    """A run that waits for slots: how many attempts of it, since when the oldest of them."""

    run_id: str
    tasks: int
    since_ms: int


class PoolDoing(RunMessage):
    """Answer of the query `status` of PoolWorkflow."""

    pool: str
    slots: int | None = None
    holders: list[SlotHolder] = []
    given: list[GivenSlot] = []
    waiting: list[WaitingRun] = []
    trouble: str | None = None


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
    """Input of `launch_runs`. `run_keys` None: every request that waits, and every run without an end.

    `restarts` False: no run that has begun is started again.
    """

    tenant: str
    workspace: str
    run_keys: list[str] | None = None
    restarts: bool = True


class LaunchedRun(RunMessage):
    """A request and what became of it: started, refused because it cannot be planned, or waiting."""

    run_key: str
    run_id: str
    outcome: str


class Launched(RunMessage):
    """Answer of `launch_runs`: how many runs were started, and ended at once because they cannot be planned.

    `planned`: of those started, the runs that are new; of others the workflow was missing, or was told.

    `waiting`: requests that must wait, because the workspace is held or has as many runs as it may have. `aside`: what
    is wrong with requests that cannot be read, or are refused; they hold up no others. `backfills`: those of whose runs
    some could not be planned. `told`: some of the requests and what became of them, for people.
    """

    started: int = 0
    refused: int = 0
    planned: int = 0
    waiting: int = 0
    aside: list[str] = []
    backfills: list[str] = []
    told: list[LaunchedRun] = []


class RunRequestStart(BaseModel):
    """Input of RequestRunWorkflow: a workspace, and beside it the fields of a request for a run."""

    model_config = ConfigDict(frozen=True, extra="allow")

    tenant: str
    workspace: str

    @property
    def asked(self) -> dict[str, Any]:
        """The fields of the request, as they came."""
        return dict(self.model_extra or {})


class NoteOrder(RunMessage):
    """Input of `note_seals`. `untold`: note attempts, too, of whose end nobody is left to tell."""

    tenant: str
    workspace: str
    run_id: str
    untold: bool = False


class SealsNoted(RunMessage):
    """Answer of `note_seals`: how many notes were made."""

    noted: int = 0


class RunRequestOrder(RunMessage):
    """Input of `request_run`. `name`: a ULID, of which the run's key is if the request has none."""

    tenant: str
    workspace: str
    asked: dict[str, Any]
    name: str


class RunRequestAnswer(RunMessage):
    """Answer of `request_run`, and result of RequestRunWorkflow: the run that was asked for.

    `run_id` None: the request is recorded, and readers do not see it yet. `replayed`: it was asked for before.
    """

    run_id: str | None
    run_key: str
    manifest_id: str | None = None
    state: str
    tasks: int | None = None
    replayed: bool = False


class WakeOrder(RunMessage):
    """Input of `wake_runs`: what a round of the ledger has changed for runs.

    `run_keys`: requested. `run_ids`: cancelled. `looks`: requests or a change that only a look at everything finds.
    `schedules`: a schedule was defined, or a hold has begun or ended. `sensors`: changed, or pushed to. `backfills`:
    created or changed. `hold`: the hold has begun or ended.
    """

    tenant: str
    workspace: str
    run_keys: list[str] = []
    run_ids: list[str] = []
    looks: bool = False
    schedules: bool = False
    sensors: list[str] = []
    backfills: list[str] = []
    hold: bool = False
