"""Inputs, answers and details of CommitWorkflow, as shown in the Web UI (tab User Metadata).

Operators write the messages by hand in the Temporal CLI.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from activities.messages import Message
from springline.delta.messages import CommitOutcome, CommitRequest, SettledReservation, TableRef

MAX_BATCH = 500
ABOUT = """\
The one sequencer of this table. Each round commits one Delta version for all requests that wait together:
`reserve` (compare-and-swap of the coordinator object) → `write_log` (create-only; from here on it is committed) →
`write_marker` (create-only; from here on each key has its answer) → `finalize`, or `finalize_and_reserve` when more
work waits. A step that dies is repeated and finds what it had done; attempts above 1 in the history are recoveries.
"""
"""Static details of the workflow, in Markdown."""

_MEANING = {
    "completed": "completed: the log and markers were written for it",
    "abandoned": "abandoned: its staged payload was gone, the version is filled with an empty commit",
    "released": "released: another writer took its version",
    "void": "cleared: a member was already committed",
}


class CommitStart(Message):
    """Input of CommitWorkflow. `requests` are committed as if they had come by update; see the README for the CLI."""

    tenant: str
    workspace: str
    table_id: str
    requests: Annotated[list[CommitRequest], Field(max_length=MAX_BATCH)] = []
    checkpoint_interval: Annotated[int, Field(ge=0)] = 100
    """Versions between checkpoints; 0 writes none."""
    table_name: str | None = None
    """The table's name for people; no logic depends on it."""


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


def describe(table: TableRef, name: str | None, status: CommitStatus) -> str:
    """Return the current details: the phase, the last rounds, and recovered reservations."""
    lines = [
        f"**Table** {'' if name is None else f'**{name}** '}`{table.table_id}` of `{table.tenant}/{table.workspace}`",
        "",
        f"**Now:** {status.phase}",
        "",
        f"{status.committed} committed in {status.rounds} version(s), {status.replayed} replayed, "
        f"{status.refused} refused, {status.waiting} waiting.",
    ]
    if status.failure:
        shown = status.failure.replace("`", "'").replace("\n", " ")[:1000]
        lines += ["", f"**The last round could not be begun, and its callers were told:** `{shown}`"]
    if status.retried:
        lines += ["", "**Steps that were interrupted and repeated** (same key, same version)", ""]
        lines += [
            f"- `{one.step}` of version {'?' if one.version is None else one.version}: attempt {one.attempts} succeeded"
            for one in status.retried
        ]
    if status.recovered:
        lines += ["", "**Reservations found in flight and brought to an end**", ""]
        lines += [
            f"- version {one.version}, {one.members} request(s), {_MEANING[one.kind]} (`{one.commit_id}`)"
            for one in status.recovered
        ]
    if status.recent_rounds:
        lines += ["", "| Version | Requests | Mode | Commit |", "|---|---|---|---|"]
        lines += [
            f"| {one.version} | {one.members} | {one.mode} | `{one.commit_id}` |"
            for one in reversed(status.recent_rounds)
        ]
    return "\n".join(lines)
