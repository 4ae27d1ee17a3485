"""What a caller asks of a table and what it is told: the models of a commit.

See docs/formats.md#commit-request, docs/protocol.md#commits.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from springline.bounds import MAX_KEY, MAX_STAGED_PATH, MAX_STAGED_VERSION, problem_of_bounded
from springline.errors import Code, CommitSince, Refusal
from springline.paths import MAX_VERSION


class Mode(StrEnum):
    """How a commit relates to the version it was computed from."""

    STRICT = "strict"
    """Version `read_version + 1` or a conflict."""
    APPEND = "append"
    """A blind append: any version will do."""


class CommitRequest(BaseModel):
    """One request to commit a staged payload under an idempotency key.

    `read_version` is the table version the payload was computed from (-1: the table has none). In append mode
    it is no part of the request's identity; it bounds the versions the append is checked against.
    `staged_path` is scope-relative and lies under the table's staging prefix; `staged_version` is the store's
    version token of the staged object.
    """

    model_config = ConfigDict(frozen=True)

    idempotency_key: str
    mode: Mode = Mode.STRICT
    read_version: Annotated[int, Field(ge=-1)]
    staged_path: str
    staged_version: str


FIXED_WEIGHT = 200
"""Bytes of a request's JSON without its texts."""


def out_of_bounds(request: CommitRequest) -> Refusal | None:
    """Return why a request cannot travel with others, whatever door it came by; None if it can.

    The models say nothing of it: they are messages, and a bound of theirs would refuse a batch for one of its members.
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


class Outcome(BaseModel):
    """What became of one request: exactly one of `result` and `refusal` is set."""

    model_config = ConfigDict(frozen=True)

    idempotency_key: str
    result: CommitResult | None = None
    replayed: bool = False
    refusal: Refusal | None = None


MAX_TOLD_TOGETHER = 4_000
"""Commits that the conflicts of one message may name in all; each names 100 at most (about 130 bytes)."""


def fitting(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Return outcomes that fit a message: where many conflicts tell what was committed since, each tells the newest."""
    told = [one for one in outcomes if one.refusal is not None and one.refusal.commits_since]
    if sum(len(one.refusal.commits_since or ()) for one in told if one.refusal) <= MAX_TOLD_TOGETHER:
        return list(outcomes)
    most = max(1, MAX_TOLD_TOGETHER // len(told))
    return [one if one.refusal is None else _telling(one, one.refusal, most) for one in outcomes]


def _telling(outcome: Outcome, refusal: Refusal, most: int) -> Outcome:
    if not refusal.commits_since or len(refusal.commits_since) <= most:
        return outcome
    since: list[CommitSince] = refusal.commits_since[-most:]
    return outcome.model_copy(update={"refusal": refusal.model_copy(update={"commits_since": since})})
