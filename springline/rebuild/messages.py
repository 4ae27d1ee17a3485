"""What a caller asks of a rebuild, and what its steps are given and answer; it crosses the Temporal wire as it is."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field

from springline.errors import Code, Refusal, refused
from springline.ledger.request import EventOutcome, RefusalReason
from springline.paths import InvalidPath, ObjectPath, check_rebuild_manifest
from springline.sequencer.messages import Order, WorkspaceRef


class RebuildMode(StrEnum):
    """What a rebuild does."""

    CATCH_UP = "catch-up"
    """Fold listed events above the visible watermark onto the published state."""
    FULL = "full"
    """Fold the listed events from nothing and switch the result in."""
    VERIFY = "verify"
    """As full, but publish nothing and report how the published state differs."""


class PlanOrder(Order):
    """Input of `plan_rebuild`."""

    workspace: WorkspaceRef
    rebuild_manifest_path: str
    mode: RebuildMode
    now_ms: int


class RebuildPlan(Order):
    """Answer of `plan_rebuild`: what is to be done, in counts.

    `work_id` names the work folder; it is the same for the same manifest and configuration, so that a rebuild that
    is started again finds what the one before finished. `slices` are lists of event paths to read, `segments` are
    read as they are. `floor`: greatest event id that catch-up passes over. `watermark`: where the published state
    stood, None if it cannot be read; `head_problem` says why. `rounds_folded`: up to this round the state is
    published and all events are listed; what later ones accepted came meanwhile.
    """

    work_id: str
    slices: int
    segments: int
    listed: int
    duplicate_paths: int = 0
    skipped: int = 0
    shards: Annotated[int, Field(ge=1)]
    floor: str | None = None
    watermark: str | None = None
    rounds_folded: int = 0
    digest_before: str | None = None
    manifest_path: str | None = None
    """The manifest that was published when the rebuild was planned: what it is compared with."""
    head_problem: str | None = None
    accepted_by: Literal["index", "rounds"] | None = None
    """What says which bytes the ledger has accepted under an id; None: nobody can."""
    last_listed: str | None = None
    """The greatest event id that is listed, by itself or in the name of a segment."""
    accepted_path: str | None = None
    """The list of lists that the plan made of all rounds, if it is these."""
    attempt: int = 1


class PartOrder(Order):
    """Input of `read_slice` and `scan_segment`: slice or segment `number` (from 0) of the work."""

    workspace: WorkspaceRef
    plan: RebuildPlan
    number: int


class BadEvent(Order):
    """An event that is missing or damaged."""

    path: str
    reason: RefusalReason
    message: str


class PartRead(Order):
    """Answer of `read_slice` and `scan_segment`. `bad` holds the first 100, `missing` and `damaged` count all."""

    number: int
    events: int
    bytes: int = 0
    missing: int = 0
    damaged: int = 0
    bad: list[BadEvent] = []
    last_event_id: str | None = None
    receipt: str | None = None
    """Where the part's receipt is, if something is missing or damaged; else it has the name that is its own."""
    reused: bool = False
    attempt: int = 1


class ShardsOrder(Order):
    """Input of `plan_shards`. `receipts`: those of parts that are not whole, by number; segments follow slices."""

    workspace: WorkspaceRef
    plan: RebuildPlan
    receipts: dict[int, str] = {}


class ShardsPlanned(Order):
    """Answer of `plan_shards`: how many runs cannot be folded apart, and which accepted events are not listed.

    `split` is the hash in the name of the record that shards read.
    """

    split: str
    events: int
    odd_runs: int = 0
    gap_count: int = 0
    gaps: list[str] = []
    """Ids of the first 100 events that had been accepted and are not in the manifest."""
    attempt: int = 1


class FoldShardOrder(Order):
    """Input of `fold_shard`: shard `number` (from 0)."""

    workspace: WorkspaceRef
    plan: RebuildPlan
    split: str
    number: int


class ShardFolded(Order):
    """Answer of `fold_shard`."""

    number: int
    events: int
    duplicates: int = 0
    damaged: int = 0
    bad: list[BadEvent] = []
    outcomes: dict[EventOutcome, int] = {}
    rows: dict[str, int] = {}
    reused: bool = False
    attempt: int = 1


class AssembleOrder(Order):
    """Input of `assemble`."""

    workspace: WorkspaceRef
    plan: RebuildPlan
    split: str
    snapshot_id: str
    now_ms: int


class Assembled(Order):
    """Answer of `assemble`: the rebuilt base, described by the object at `base_path`."""

    base_path: str
    base_sha256: str
    events: int
    last_event_id: str | None
    digest: str
    rows: dict[str, int] = {}
    attempt: int = 1


class SwitchOrder(Order):
    """Input of `switch_in`, and of the ledger's update `switch`: what the sequencer is to publish.

    For full: the rebuilt base. For catch-up: the segments of the work folder, folded onto the published state.
    """

    workspace: WorkspaceRef
    plan: RebuildPlan
    mode: RebuildMode
    split: str
    base_path: str | None = None
    base_sha256: str | None = None
    allow_missing: bool = False


class SwitchStateOrder(Order):
    """Input of `switch_state`, the sequencer's step: names and times are fixed, so that a repeated step repeats them.

    `base_revision` is the revision of the base alone, `manifest_revision` that of what lies on top of it.
    """

    workspace: WorkspaceRef
    switch: SwitchOrder
    base_revision: str
    manifest_revision: str
    delta_id: str
    snapshot_id: str
    now_ms: int


class Switched(Order):
    """Answer of `switch_in`. `later_events`: accepted while the rebuild went on, and folded on top."""

    manifest_id: str
    manifest_revision: str
    digest: str | None = None
    events: int
    folded: int = 0
    later_events: int = 0
    last_event_id: str | None = None
    attempt: int = 1


class StateSwitched(Order):
    """Answer of `switch_state`. `lost`: somebody else moved the pointer meanwhile; try again under new names.

    `more`: a catch-up has published all it could hold at once, and there are further events.
    """

    kind: Literal["visible", "lost"]
    switched: Switched | None = None
    more: bool = False
    attempt: int = 1


class CompareOrder(Order):
    """Input of `compare`."""

    workspace: WorkspaceRef
    plan: RebuildPlan
    base_path: str
    base_sha256: str


class Difference(Order):
    """One difference between the published state and the rebuilt one; `column` None: the row is there or not."""

    table: str
    key: list[str]
    column: str | None = None
    published: Any = None
    rebuilt: Any = None


class Compared(Order):
    """Answer of `compare`. `differences` holds the first 100; all are counted by table in `counts`."""

    equal: bool
    problem: str | None = None
    """Why the published state cannot be read, if it cannot; then nothing is compared."""
    published_digest: str | None = None
    rebuilt_digest: str
    counts: dict[str, int] = {}
    differences: list[Difference] = []
    attempt: int = 1


class ReportOrder(Order):
    """Input of `write_report`; `name` is the report's own within the work folder."""

    workspace: WorkspaceRef
    plan: RebuildPlan
    name: str
    result: dict[str, Any]
    rows: dict[str, int] = {}
    compared: Compared | None = None
    bad: list[BadEvent] = []
    gaps: list[str] = []


class Reported(Order):
    """Answer of `write_report`."""

    report_path: str
    attempt: int = 1


_SHOWN = 200


class RebuildRequest(BaseModel):
    """A rebuild to start. `allow_missing`: publish although events are missing, damaged or not listed."""

    model_config = ConfigDict(frozen=True)

    rebuild_manifest_path: str
    mode: RebuildMode = RebuildMode.CATCH_UP
    allow_missing: bool = False


class RunStatus(StrEnum):
    """How far the workflow of a rebuild is."""

    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    TERMINATED = "terminated"
    TIMED_OUT = "timed_out"


class Step(BaseModel):
    """A step that is under way. `reported`: what its attempt said last about how far it is, as it said it."""

    name: str
    attempt: int
    started: bool
    reported: list[Any] = []
    last_failure: str | None = None


class RebuildView(BaseModel):
    """A rebuild as its workflow tells it.

    `progress` is the answer of the query `progress`; None while no worker answers, `phase` and `percent` are then
    those of the workflow's search attributes. `result` and `failure` say how it ended. Of a rebuild that was refused
    because its ledger is incomplete, `missing_or_damaged` and `accepted_and_not_listed` (ids) name what it found.
    """

    workflow_id: str
    run_id: str
    status: RunStatus
    phase: str | None = None
    percent: float | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    progress: dict[str, Any] | None = None
    steps: Annotated[list[Step], Field(description="Steps that are under way.")] = []
    result: dict[str, Any] | None = None
    failure: Refusal | None = None
    missing_or_damaged: Annotated[list[BadEvent], Field(description="Of a refused rebuild: the first 1,000.")] = []
    accepted_and_not_listed: Annotated[list[str], Field(description="Of a refused rebuild: the first 100.")] = []

    @property
    def ended(self) -> bool:
        """Whether it runs no longer."""
        return self.status is not RunStatus.RUNNING


def checked_manifest_path(path: str) -> ObjectPath:
    """Return the path of a rebuild manifest; raises `Refused` (INVALID_REQUEST) for one that cannot be it."""
    try:
        return check_rebuild_manifest(path)
    except InvalidPath as error:
        raise refused(
            Code.INVALID_REQUEST,
            f"rebuild_manifest_path {path[:_SHOWN]!r} cannot be the path of a rebuild manifest",
            field="rebuild_manifest_path",
            value=path[:_SHOWN],
            remedy=error.remedy[0].upper() + error.remedy[1:] + ".",
        ) from None


class Switches(Protocol):
    """Hands rebuilt states to the one sequencer of a workspace (docs/protocol.md#ledger-rounds: nobody else
    publishes).
    """

    async def switch(self, order: SwitchOrder, *, request_id: str) -> Switched:
        """Have the state of `order` switched in, and return what readers see then.

        `request_id` names the request, so that one that is sent again joins the first. Waits for as long as it takes;
        raises `Refused` if the sequencer refuses it for good.
        """
