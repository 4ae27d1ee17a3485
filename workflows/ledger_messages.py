"""The models of LedgerWorkflow's and GarbageWorkflow's messages. Operators write them by hand in the Temporal CLI.

Fields are only ever added, with defaults: running histories hold these.
"""

from __future__ import annotations

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

MAX_BATCH = 500
MAX_BATCH_PATHS = 5_000
GARBAGE_INTERVAL = 1_000
QUARANTINE_S = 3600


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
    """Argument of the update `switch`: publish what a rebuild came to. RebuildWorkflow sends it, nobody else."""

    switch: SwitchOrder


class SwitchOutcome(Message):
    """Result of the update `switch`: what readers see now, or why nothing was published."""

    switched: Switched | None = None
    refusal: Refusal | None = None


class LedgerResult(Message):
    """Result of the workflow: what became of the start's requests, in order."""

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
    """A foreign event that lies in the future; the run looks at it again when it is due, if it still runs then."""

    path: str
    due_ms: int | None = None


class LedgerStatus(Message):
    """Answer of the query `status`.

    `lag_events`: accepted and not visible; the oldest of them since `lag_since_ms`. `head_*` is what was last seen
    published. `setbacks`: how often another publisher was faster, or a round was another's.
    """

    phase: str
    loading: str | None = None
    """How far loading a large state is, told every 2 s while it lasts."""
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
    ingested: int = 0
    setbacks: int = 0
    switched: int = 0
    """States of rebuilds that this run has switched in."""
    recent_rounds: list[LedgerRound] = []
    retried: list[LedgerRetry] = []
    deferred: list[DeferredPath] = []
    damaged: list[str] = []
    """Objects of rounds of this run at whose place something else stood; their events are in the projections."""
    failure: str | None = None
    """The last step that failed for good, until a round becomes visible after it."""
    draining: bool = False


class GarbageStart(Message):
    """Input of GarbageWorkflow.

    What the last `keep_revisions` revisions need stays. What is marked is swept after `quarantine_s` seconds: what was
    published once and is garbage still is deleted then; what nobody has named for a week by then, too.
    """

    tenant: str
    workspace: str
    keep_revisions: Annotated[int, Field(ge=1)] = 10
    quarantine_s: Annotated[int, Field(ge=QUARANTINE_S)] = QUARANTINE_S


def check_appends(requests: list[AppendRequest]) -> None:
    """Raise `ValueError` if the answers of these requests might not fit a message."""
    if len(requests) > 1 and not fits_a_message(requests):
        raise ValueError(
            f"one message may hold {MESSAGE_EVENTS} events and {MESSAGE_BYTES} bytes: send these requests apart"
        )


def check_ingests(requests: list[IngestRequest]) -> None:
    """Raise `ValueError` if these requests name more paths than a round takes."""
    paths = sum(len(request.event_paths) for request in requests)
    if paths > MAX_BATCH_PATHS:
        raise ValueError(f"{paths} paths, and one message may name {MAX_BATCH_PATHS}: send these requests apart")
