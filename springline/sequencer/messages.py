"""Inputs and answers of the steps of a ledger round, which are also the activities' messages on the Temporal wire.

The orders have all ids and times that end up in storage, so that a repeated step writes the same bytes.
Fields are only ever added, with defaults: histories of running workflows hold these messages.

    open -> admit | admit_foreign -> append, fold (side by side) -> publish -> (next round, or open after `lost`)

`publish` comes after both: a round that is visible without its request markers could be appended twice. If `publish`
answers `lost`, the round is either pending when the workspace is opened again, or another sequencer has published it
(`head.rounds_folded` has reached its number); its answers hold in both cases.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from springline.ledger.request import (
    AppendOutcome,
    AppendRequest,
    EventOutcome,
    IngestOutcome,
    IngestRequest,
)


class Order(BaseModel):
    """Base of orders and answers: immutable, ignores unknown fields of a newer writer."""

    model_config = ConfigDict(frozen=True)


class WorkspaceRef(Order):
    """A workspace."""

    tenant: str
    workspace: str


class ForeignRange(Order):
    """Revisions that the reference published and whose events are still to be ingested.

    From the manifest `head` backwards to `back_to` (both paths), exclusive; None: to the first of all.
    """

    head: str
    back_to: str | None = None


class Head(Order):
    """The published state that a round starts from.

    `manifest_id` is 20 zeros and `pointer_version` None while nothing is published. `events` counts all accepted
    events, `last_event_id` is the greatest of them. `rounds_folded`: rounds up to this number are in the state.

    `state_manifest` is the path of the manifest that the next round is folded on: the published one, or our last one
    if the reference has published since; then, and until its events are ingested, `foreign` has its revisions.
    None if the state is empty.
    """

    manifest_id: str
    manifest_revision: str = ""
    pointer_version: str | None = None
    pointer_sha256: str | None = None
    epoch: int = 0
    last_event_id: str | None = None
    events: int = 0
    rounds_folded: int = 0
    state_manifest: str | None = None
    foreign: list[ForeignRange] = []


MAX_FOREIGN_PATHS = 10_000
"""Paths that `open` names: what a message can hold."""


class OpenOrder(Order):
    """Input of `open`: find out where the workspace stands."""

    workspace: WorkspaceRef


class PendingRound(Order):
    """A round whose record exists and that is not in the published state: the sequencer must finish it."""

    number: int
    record_sha256: str
    first_event_id: str | None = None
    last_event_id: str | None = None
    events: int = 0
    foreign: bool = False


class Opened(Order):
    """Answer of `open`.

    `pending` in order; `next_round` is the first free number after them. `foreign_paths`: events that the reference
    folded and published since our last manifest, for `admit_foreign` once nothing is
    pending; at most `MAX_FOREIGN_PATHS` at a time, and `more_foreign` says to open again when they are visible.
    """

    head: Head
    pending: list[PendingRound] = []
    next_round: int
    foreign_paths: list[str] = []
    more_foreign: bool = False
    attempt: int = 1


class AdmitOrder(Order):
    """Input of `admit`: judge requests on the state at `head` and fix the round's events by its record.

    Event ids are `first_event_id` and its successors, one by one; `now_ms` is the events' timestamp. `writer` is
    the id of the sequencer's run.
    """

    workspace: WorkspaceRef
    head: Head
    round: int
    first_event_id: str
    now_ms: int
    writer: str
    requests: list[AppendRequest]


class AdmitForeignOrder(Order):
    """Input of `admit_foreign`: judge foreign events and fix which of them the round accepts.

    If it ingests the last events of `head.foreign`, the round closes these revisions; such a round may have no event,
    and is finished like any other.
    """

    workspace: WorkspaceRef
    head: Head
    round: int
    now_ms: int
    writer: str
    requests: list[IngestRequest]


class Admitted(Order):
    """Answer of `admit` and `admit_foreign`.

    `nothing`: no event is to be written; all answers are final. `admitted`: the record exists, the caller must finish
    `round`; `answers` without refusal and `replayed` become final when it is visible. `taken`: another sequencer
    has this round number, or an earlier round is unfinished: the caller opens again, finishes what is pending, and
    admits the same requests once more. Answers are in the order of the requests.
    """

    kind: Literal["admitted", "nothing", "taken"]
    round: PendingRound | None = None
    answers: list[AppendOutcome] = []
    foreign_answers: list[IngestOutcome] = []
    attempt: int = 1


class RoundStep(Order):
    """Input of `append`: put the round's events and request markers (a foreign round has none to put)."""

    workspace: WorkspaceRef
    round: PendingRound


class Appended(Order):
    """Answer of `append`."""

    events: int
    written: int
    """Objects that this attempt created; the others existed with the same bytes."""
    damaged: list[str] = []
    """Objects with other content under a name of this round. The round is valid, the objects are damage."""
    attempt: int = 1


class FoldOrder(Order):
    """Input of `fold`: fold a round onto the state at `head` and write everything but the pointer."""

    workspace: WorkspaceRef
    head: Head
    round: PendingRound
    delta_id: str
    snapshot_id: str
    manifest_revision: str
    now_ms: int


class Folded(Order):
    """Answer of `fold`: the revision that `publish` makes visible.

    `kind`: how the state was written; `refold` is a new base after late events. `digest` is the state's digest.
    """

    kind: Literal["delta", "base", "refold"]
    manifest_id: str
    manifest_sha256: str
    last_event_id: str | None
    events: int
    outcomes: dict[EventOutcome, int] = {}
    digest: str
    foreign: list[ForeignRange] = []
    """`Head.foreign` once this is published."""
    refolded_events: int = 0
    fold_seconds: float = 0.0
    """Seconds of folding alone, without the store; our own events are folded while they are judged."""
    store_requests: int = 0
    attempt: int = 1


class PublishOrder(Order):
    """Input of `publish`: compare-and-swap the pointer from `head` to the folded manifest."""

    workspace: WorkspaceRef
    head: Head
    round: PendingRound
    folded: Folded
    manifest_revision: str
    now_ms: int


class Published(Order):
    """Answer of `publish`. `lost`: another writer moved the pointer; open again, nothing of the round is lost."""

    kind: Literal["visible", "lost"]
    head: Head | None = None
    attempt: int = 1


class GarbageOrder(Order):
    """Input of `mark_garbage` and `sweep_garbage`."""

    workspace: WorkspaceRef
    now_ms: int
    report_id: str
    keep_revisions: Annotated[int, Field(ge=1)] = 10


class GarbageReport(Order):
    """Answer of both: how many objects are garbage, and how many this step deleted.

    `emptied`: records of folded rounds whose texts were removed. `deleted_bytes` counts the bytes freed.
    """

    report_path: str
    marked: int = 0
    deleted: int = 0
    emptied: int = 0
    deleted_bytes: int = 0
    kept: int = 0
