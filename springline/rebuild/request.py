"""What a caller asks of a rebuild, and what is told of one: the same by HTTP, command line and workflow."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from springline.errors import Code, Refusal, refused
from springline.paths import InvalidPath, ObjectPath, check_rebuild_manifest
from springline.rebuild.messages import BadEvent, RebuildMode

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
