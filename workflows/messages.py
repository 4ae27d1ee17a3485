"""The models of CommitWorkflow's messages: start, update, query. Operators write them by hand in the Temporal CLI."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from activities.messages import Message
from springline.delta.messages import CommitOutcome, CommitRequest, SettledReservation

MAX_BATCH = 500


class CommitStart(Message):
    """Input of CommitWorkflow. `requests` are committed as if they had come by update; see the README for the CLI."""

    tenant: str
    workspace: str
    table_id: str
    requests: Annotated[list[CommitRequest], Field(max_length=MAX_BATCH)] = []
    checkpoint_interval: Annotated[int, Field(ge=0)] = 100
    """Versions between checkpoints; 0 writes none."""
    table_name: str | None = None
    """What people call the table; it is shown, and nothing depends on it."""


class CommitBatch(Message):
    """Argument of the update `commit`: requests of one caller process, each answered by itself."""

    requests: Annotated[list[CommitRequest], Field(min_length=1, max_length=MAX_BATCH)]


class BatchResult(Message):
    """Result of the update `commit`, and of the workflow for its start requests: one outcome per request, in order."""

    outcomes: list[CommitOutcome] = []


class RoundSummary(Message):
    """One finished round, as the status shows it."""

    version: int
    members: int
    mode: str
    commit_id: str


class RetriedStep(Message):
    """A step that needed more than one attempt, because the first was killed or failed, and then succeeded."""

    step: str
    version: int | None = None
    attempts: int


class CommitStatus(Message):
    """Answer of the query `status`."""

    phase: str
    waiting: int
    latest_version: int | None = None
    inflight_version: int | None = None
    inflight_members: int = 0
    rounds: int = 0
    committed: int = 0
    replayed: int = 0
    refused: int = 0
    recent_rounds: list[RoundSummary] = []
    recovered: list[SettledReservation] = []
    retried: list[RetriedStep] = []
    draining: bool = False
    failure: str | None = None
    """The last round that could not be begun, until one can."""
