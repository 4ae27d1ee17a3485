"""Inputs, answers and details of LedgerWorkflow and GarbageWorkflow, as shown in the Web UI (tab User Metadata).

Operators write the messages by hand in the Temporal CLI. Fields are only ever added, with defaults: running histories
hold these.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Annotated, Self

from pydantic import Field, model_validator

from activities.messages import Message
from springline.errors import Refusal
from springline.ledger.request import (
    MESSAGE_BYTES,
    MESSAGE_EVENTS,
    AppendOutcome,
    AppendRequest,
    IngestOutcome,
    IngestRequest,
    fits_a_message,
)
from springline.rebuild.messages import Switched, SwitchOrder
from springline.sequencer.messages import WorkspaceRef

MAX_BATCH = 500
MAX_BATCH_PATHS = 5_000
GARBAGE_INTERVAL = 1_000
QUARANTINE_S = 3600
ABOUT = """\
The one sequencer of this workspace's ledger. A round takes all requests that wait together:
`admit` judges them and creates the round's record (from here on its events are kept), `append_events` writes event
objects and request markers while `fold` folds them and writes the new manifest, `publish` moves the pointer (from here
on readers see them), then the answers go out. Foreign events come in through `admit_foreign`. A run begins with
`open_ledger`, which finds rounds that somebody else left. A step that dies is repeated and finds what it had done;
attempts above 1 in the history are recoveries.

**When it is stuck**: a pending activity with many attempts names its trouble under *Pending Activities*. The store
does not answer: `springline doctor`. An object is damaged: the message names it and what to do. Nothing is lost
meanwhile: what `admit` has recorded is finished by whoever comes, and any start of this workflow tries again.
"""
"""Static details of the workflow, in Markdown."""


class LedgerStart(Message):
    """Input of LedgerWorkflow.

    `requests` and `ingest` are worked on as if they had come by update; without any, the run finishes what is
    pending in the workspace and ends. `garbage_interval`: publishes between two garbage collections, 0 for none.
    """

    tenant: str
    workspace: str
    requests: Annotated[list[AppendRequest], Field(max_length=MAX_BATCH)] = []
    ingest: Annotated[list[IngestRequest], Field(max_length=MAX_BATCH)] = []
    garbage_interval: Annotated[int, Field(ge=0)] = GARBAGE_INTERVAL

    @model_validator(mode="after")
    def _fits(self) -> Self:
        check_appends(self.requests)
        check_ingests(self.ingest)
        return self


class AppendBatch(Message):
    """Argument of the update `append`: requests of one caller process, each answered by itself."""

    requests: Annotated[list[AppendRequest], Field(min_length=1, max_length=MAX_BATCH)]

    @model_validator(mode="after")
    def _fits(self) -> Self:
        check_appends(self.requests)
        return self


class AppendBatchResult(Message):
    """Result of the update `append`: one outcome per request, in order."""

    outcomes: list[AppendOutcome] = []


class IngestBatch(Message):
    """Argument of the update `ingest`: foreign events by path, at most 5,000 in all."""

    requests: Annotated[list[IngestRequest], Field(min_length=1, max_length=MAX_BATCH)]

    @model_validator(mode="after")
    def _fits(self) -> Self:
        check_ingests(self.requests)
        return self


class IngestBatchResult(Message):
    """Result of the update `ingest`: one outcome per request, in order."""

    outcomes: list[IngestOutcome] = []


class SwitchRequest(Message):
    """Argument of the update `switch`: publish the result of a rebuild. Only RebuildWorkflow sends it."""

    switch: SwitchOrder


class SwitchOutcome(Message):
    """Result of the update `switch`: what readers see now, or why nothing was published."""

    switched: Switched | None = None
    refusal: Refusal | None = None


class LedgerResult(Message):
    """Result of the workflow: outcomes of the start's requests, in order."""

    outcomes: list[AppendOutcome] = []
    ingested: list[IngestOutcome] = []


class LedgerRound(Message):
    """One round that became visible, as the status shows it; times in ms since 1970 or in ms."""

    number: int
    kind: str
    events: int
    requests: int
    foreign: bool = False
    found_pending: bool = False
    manifest_revision: str
    visible_at_ms: int
    took_ms: int


class LedgerRetry(Message):
    """A step that needed more than one attempt, because one was killed or failed, and then succeeded."""

    step: str
    round: int | None = None
    attempts: int


class DeferredPath(Message):
    """A foreign event that lies in the future; the run judges it again when it is due, if it still runs then."""

    path: str
    due_ms: int | None = None


class LedgerStatus(Message):
    """Answer of the query `status`.

    `lag_events`: accepted and not visible; the oldest of them since `lag_since_ms`. `head_*`: the published revision
    last read. `setbacks`: how often another publisher was faster, or had the round's number.
    """

    phase: str
    loading: str | None = None
    """Progress of loading a large state, updated every 2 s."""
    waiting_requests: int = 0
    waiting_events: int = 0
    waiting_paths: int = 0
    lag_events: int = 0
    lag_since_ms: int | None = None
    events_per_second: float = 0.0
    head_manifest_id: str | None = None
    head_revision: str | None = None
    head_events: int = 0
    watermark: str | None = None
    digest: str | None = None
    rounds: int = 0
    appended: int = 0
    replayed: int = 0
    refused: int = 0
    refused_events: int = 0
    """Of appended requests whose events are taken each by itself."""
    ingested: int = 0
    setbacks: int = 0
    switched: int = 0
    """How many rebuilt states this run has published."""
    recent_rounds: list[LedgerRound] = []
    retried: list[LedgerRetry] = []
    deferred: list[DeferredPath] = []
    damaged: list[str] = []
    """Objects of this run's rounds whose names had other content; their events are in the projections."""
    failure: str | None = None
    """The last step that failed for good, until a round becomes visible after it."""
    draining: bool = False


class GarbageStart(Message):
    """Input of GarbageWorkflow.

    Objects that the last `keep_revisions` revisions need stay. After `quarantine_s` seconds the sweep deletes marked
    objects that are still garbage: superseded ones, and those that no revision has named for a week.
    """

    tenant: str
    workspace: str
    keep_revisions: Annotated[int, Field(ge=1)] = 10
    quarantine_s: Annotated[int, Field(ge=QUARANTINE_S)] = QUARANTINE_S


def check_appends(requests: list[AppendRequest]) -> None:
    """Raise `ValueError` if the answers of these requests might not fit a message."""
    if len(requests) > 1 and not fits_a_message(requests):
        raise ValueError(
            f"one message may hold {MESSAGE_EVENTS} events, or half as many if each is taken by itself, and "
            f"{MESSAGE_BYTES} bytes: send these requests apart"
        )


def check_ingests(requests: list[IngestRequest]) -> None:
    """Raise `ValueError` if these requests name more paths than a round takes."""
    paths = sum(len(request.event_paths) for request in requests)
    if paths > MAX_BATCH_PATHS:
        raise ValueError(f"{paths} paths, and one message may name {MAX_BATCH_PATHS}: send these requests apart")


def describe(workspace: WorkspaceRef, status: LedgerStatus, rows: Iterable[str]) -> str:
    """Return the current details: lag, rate, the published revision, recoveries, and `rows` of the last rounds."""
    lag = "none"
    if status.lag_since_ms is not None:
        lag = f"{status.lag_events} event(s) kept and not visible, the oldest since {time_of(status.lag_since_ms)}"
    lines = [
        f"**Ledger** of `{workspace.tenant}/{workspace.workspace}`",
        "",
        f"**Now:** {status.phase}" + (f" ({status.loading})" if status.loading else ""),
        "",
        f"**Lag:** {lag}. {status.events_per_second:g} events/s over the recent rounds.",
        "",
        f"{status.appended} appended, {status.replayed} replayed, {status.refused} refused request(s) and "
        f"{status.ingested} foreign event(s) in {status.rounds} round(s); {status.waiting_requests} waiting.",
    ]
    if status.head_revision:
        lines += [
            "",
            f"**Published:** revision `{status.head_revision}`, manifest `{status.head_manifest_id}`, "
            f"{status.head_events} event(s) up to `{status.watermark}`"
            + (f", digest `{status.digest}`" if status.digest else ""),
        ]
    if status.failure:
        lines += ["", f"**The last step failed for good:** {_plain(status.failure)}"]
    if status.damaged:
        lines += ["", "**Something else stands at the place of** (an operator must look; nobody else is held up)", ""]
        lines += [f"- `{path}`" for path in status.damaged]
    if status.refused_events:
        lines += ["", f"{status.refused_events} event(s) refused by themselves, of requests that were appended."]
    if status.switched:
        lines += ["", f"{status.switched} rebuilt state(s) switched in."]
    if status.setbacks:
        lines += ["", f"Another publisher was faster {status.setbacks} time(s); nothing was lost."]
    if status.retried:
        lines += ["", "**Steps that were interrupted and repeated** (same names, same bytes)", ""]
        lines += [
            f"- `{one.step}`{'' if one.round is None else f' of round {one.round}'}: attempt {one.attempts} succeeded"
            for one in status.retried
        ]
    if status.deferred:
        lines += ["", f"**Deferred:** {len(status.deferred)} foreign event(s) from the future", ""]
        lines += [f"- `{one.path}`, due {time_of(one.due_ms)}" for one in status.deferred[:5]]
    if rows:
        lines += ["", "| Round | Events | Requests | Written as | Took | Visible at | Revision |"]
        lines += ["|---|---|---|---|---|---|---|", *rows]
    return "\n".join(lines)


def time_of(ms: int | None) -> str:
    """Return a time as text for people."""
    if ms is None:
        return "at an unknown time"
    seconds, rest = divmod(ms, 1000)
    try:
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S}.{rest:03} UTC"
    except (ValueError, OverflowError, OSError):
        return f"{ms} ms after 1970"


def _plain(text: str) -> str:
    """Return text of an error so that it cannot look like Markdown."""
    return "`" + text.replace("`", "'").replace("\n", " ")[:1000] + "`"
