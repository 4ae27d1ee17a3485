"""Routes of Repair: what stands still in the workspace, and having it looked at now (docs/protocol.md#repair)."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import Body
from pydantic import BaseModel, ConfigDict, Field, StrictBool

from springline.api.context import FromDeps, Operator, Reader, errors
from springline.api.urls import CheckedRouter
from springline.control.repair import RepairReport, RepairStatus

PREFIX: Final = "/api/v1/repair"

router = CheckedRouter(tags=["repair"])


class RepairBody(BaseModel):
    """How the workspace is looked at."""

    model_config = ConfigDict(extra="forbid")

    dry_run: StrictBool = Field(default=False, description="Only say what would be done: nothing is changed.")


class RepairView(RepairStatus):
    """What Repair has done; all zero if it does not run, or does not answer just now."""

    running: bool = Field(description="Whether it runs and answers; if not, workers start it within minutes.")


_Asked = Annotated[
    RepairBody,
    Body(
        openapi_examples={
            "now": {"summary": "Look, and repair", "value": {}},
            "dry": {"summary": "Only say what would be done", "value": {"dry_run": True}},
        }
    ),
]


@router.get(PREFIX, summary="What is repaired", responses=errors(503))
async def show(workspace: Reader, deps: FromDeps) -> RepairView:
    """Tell what the last pass found and did, how often what was repaired, and when the next one is."""
    status = await deps.repairs.status(workspace.scope)
    found = RepairStatus() if status is None else status
    return RepairView(running=status is not None, **dict(found))


@router.post(
    PREFIX,
    summary="Look for what stands still, and repair it",
    response_description="What was found, and what is done about it.",
    responses=errors(503),
)
async def run(body: _Asked, workspace: Operator, deps: FromDeps) -> RepairReport:
    """Look at the workspace now. Safe to repeat: what was repaired a moment ago is left alone until it had its time."""
    return await deps.repairs.run(workspace.scope, dry_run=body.dry_run)
