"""Messages between caller, workflow and steps of a commit; first those of callers, then those of the steps.

See docs/formats.md#commit-request, docs/protocol.md#commits, docs/protocol.md#commit-rounds. All of it crosses the
Temporal wire: fields are only ever added, with defaults, and those of a newer writer are ignored.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from springline.bounds import MAX_KEY, MAX_STAGED_PATH, MAX_STAGED_VERSION, problem_of_bounded
from springline.errors import Code, CommitSince, Refusal
from springline.paths import MAX_VERSION


class CommitMode(StrEnum):
    """How a commit relates to the version it was computed from."""

    STRICT = "strict"
    """Version `read_version + 1` or a conflict."""
    APPEND = "append"
    """A blind append, which may get any version."""


class CommitRequest(BaseModel):
    """One request to commit a staged payload under an idempotency key.

    `read_version` is the table version the payload was computed from (-1: the table has none). In append mode
    it is no part of the request's identity; it bounds the versions the append is checked against.
    `staged_path` is scope-relative and lies under the table's staging prefix; `staged_version` is the store's
    version token of the staged object.
    """

    model_config = ConfigDict(frozen=True)

    idempotency_key: str
    mode: CommitMode = CommitMode.STRICT
    read_version: Annotated[int, Field(ge=-1)]
    staged_path: str
    staged_version: str


FIXED_WEIGHT = 200
"""Bytes of a request's JSON without its texts."""


def out_of_bounds(request: CommitRequest) -> Refusal | None:
    """Return why a request cannot share a batch with others; None if it can.

    The models do not check it: they are messages, and a bound in them would refuse a batch for one of its members.
    """
    for field, most in (
        ("idempotency_key", MAX_KEY),
        ("staged_path", MAX_STAGED_PATH),
        ("staged_version", MAX_STAGED_VERSION),
    ):
        text: str = getattr(request, field)
        problem = problem_of_bounded(text, most)
        if problem is not None:
            return Refusal(
                code=Code.INVALID_REQUEST, message=f"{field} {problem[0]}", field=field, value=text, remedy=problem[1]
            )
    if request.read_version > MAX_VERSION:
        return Refusal(
            code=Code.INVALID_REQUEST,
            message=f"read_version is greater than {MAX_VERSION}",
            field="read_version",
            value=request.read_version,
            remedy="Send the version that the payload was computed from.",
        )
    return None


def weight_of(request: CommitRequest) -> int:
    """Return about how many bytes a request has in a message."""
    texts = (request.idempotency_key, request.staged_path, request.staged_version)
    return FIXED_WEIGHT + sum(len(text.encode("utf-8", "surrogatepass")) for text in texts)


class CommitResult(BaseModel):
    """Where a request was committed. The same key gets the same answer for ever."""

    model_config = ConfigDict(frozen=True)

    version: int
    delta_log_path: str


class CommitOutcome(BaseModel):
    """The outcome of one request: exactly one of `result` and `refusal` is set."""

    model_config = ConfigDict(frozen=True)

    idempotency_key: str
    result: CommitResult | None = None
    replayed: bool = False
    refusal: Refusal | None = None


MAX_TOLD_TOGETHER = 4_000
"""Commits that the conflicts of one message may name in all; each names 100 at most (about 130 bytes)."""


def fitting(outcomes: Sequence[CommitOutcome]) -> list[CommitOutcome]:
    """Return outcomes that fit a message: if many conflicts name later commits, each names only the newest."""
    told = [one for one in outcomes if one.refusal is not None and one.refusal.commits_since]
    if sum(len(one.refusal.commits_since or ()) for one in told if one.refusal) <= MAX_TOLD_TOGETHER:
        return list(outcomes)
    most = max(1, MAX_TOLD_TOGETHER // len(told))
    return [one if one.refusal is None else _telling(one, one.refusal, most) for one in outcomes]


def _telling(outcome: CommitOutcome, refusal: Refusal, most: int) -> CommitOutcome:
    if not refusal.commits_since or len(refusal.commits_since) <= most:
        return outcome
    since: list[CommitSince] = refusal.commits_since[-most:]
    return outcome.model_copy(update={"refusal": refusal.model_copy(update={"commits_since": since})})


class CommitMessage(BaseModel):
    """Base of the messages between the workflow and the steps: immutable."""

    model_config = ConfigDict(frozen=True)


class TableRef(CommitMessage):
    """A table and its workspace."""

    tenant: str
    workspace: str
    table_id: str


class ReservationRef(CommitMessage):
    """A reservation by its commit id and its identity (`Inflight.identity`).

    `coordinator_version`: the coordinator's version token at which it was last read.
    """

    commit_id: str
    identity: str
    version: int
    coordinator_version: str | None = None


class Reservation(ReservationRef):
    """The version that was reserved and for which keys, in the round's order."""

    keys: list[str]
    resumed: bool = False

    def step_of(self, table: TableRef) -> CommitStep:
        """Return the input of the next steps."""
        return CommitStep(
            table=table,
            commit_id=self.commit_id,
            identity=self.identity,
            version=self.version,
            coordinator_version=self.coordinator_version,
        )


class CommitStep(ReservationRef):
    """Input of `write_log`, `write_marker` and `finalize`: which reservation of which table."""

    table: TableRef


class RoundOrder(CommitMessage):
    """Input of `reserve` and `finalize_and_reserve`: ids and time come from the workflow, so retries repeat them.

    `round_id`: a UUIDv7; `now_ms`: Unix ms; `finished`: the round before, whose log and markers are written, whose
    answers are out, and which the same compare-and-swap finalizes (docs/protocol.md#commit-rounds).
    """

    table: TableRef
    round_id: str
    now_ms: int
    requests: list[CommitRequest]
    finished: ReservationRef | None = None


class LogKind(StrEnum):
    """How an attempt to write a reservation's log ended."""

    LOGGED = "logged"
    """The log file is this reservation's; markers come next."""
    VOID = "void"
    """A member already had another version; the reservation is cleared and nothing was written."""
    ABANDONED = "abandoned"
    """The staged payload is gone; the version is filled and the reservation cleared."""
    RELEASED = "released"
    """A foreign file took the version and the request cannot follow it; the reservation is cleared."""
    SUPERSEDED = "superseded"
    """The coordinator no longer holds this reservation: another process has finished it."""


class SettledKind(StrEnum):
    """The fate of a reservation that was found in flight, or that its owner could not commit."""

    COMPLETED = "completed"
    ABANDONED = "abandoned"
    RELEASED = "released"
    VOID = "void"


def settled_by(kind: LogKind) -> SettledKind:
    """Return the fate of a reservation, given how writing its log ended."""
    return SettledKind.COMPLETED if kind in (LogKind.LOGGED, LogKind.SUPERSEDED) else SettledKind(kind.value)


class SettledReservation(CommitMessage):
    """A reservation that another process had left in flight, and its fate."""

    kind: SettledKind
    commit_id: str
    version: int
    members: int


class RoundResult(CommitMessage):
    """Result of `reserve`: answers that need no version, the reservation, and the keys that wait for a later round.

    `redo` asks for the same again under a new round id: that id's staged payload already holds other bytes.
    """

    outcomes: list[CommitOutcome] = []
    deferred: list[str] = []
    reservation: Reservation | None = None
    redo: bool = False
    settled: list[SettledReservation] = []
    throttled: int = 0
    """Writes of the coordinator that the store refused because they came too fast."""
    paced: bool = False
    """Whether the store is known to take about one write a second to one name."""
    checkpoint_interval: int | None = None
    """Versions between checkpoints by the table's own properties; None: not set, or not read."""
    attempt: int = 1


class LogOutcome(CommitMessage):
    """Result of `write_log`; an append may have moved to a later version than was reserved."""

    kind: LogKind
    version: int
    coordinator_version: str | None = None
    attempt: int = 1


class MarkerOutcome(CommitMessage):
    """Result of `write_marker`. `superseded`: another process completed the reservation; read the markers."""

    kind: Literal["written", "superseded"]
    delta_log_path: str = ""
    members: Annotated[int, Field(ge=0)] = 0
    mode: Annotated[CommitMode, Field(exclude=True)] = CommitMode.STRICT
    """The mode under which the worker's metrics count the version; not part of the message."""
    attempt: int = 1


class FinalizeOutcome(CommitMessage):
    """Result of `finalize`; `throttled` and `paced` as in `RoundResult`."""

    throttled: int = 0
    paced: bool = False
    attempt: int = 1
