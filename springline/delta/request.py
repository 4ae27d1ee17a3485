"""What a caller asks of a table and what it is told: the models of a commit (S 7.2, design 3.1)."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from springline.errors import Refusal


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
