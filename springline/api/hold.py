"""Routes of the workspace's hold: whether anything new may begin, who said otherwise, since when and why."""

from __future__ import annotations

from typing import Annotated

from fastapi import Body, Security
from pydantic import BaseModel, ConfigDict, Field, StrictBool

from springline import bounds
from springline.api.context import FromDeps, FromPrincipal, FromPublished, FromWorkspace, errors
from springline.api.tokens import OPERATE, READ
from springline.api.urls import CheckedRouter
from springline.ledger.timestamps import format_ms
from springline.runs.holding import MAX_REASON, Hold

router = CheckedRouter(prefix="/api/v1", tags=["hold"])


def _hold(workspace: FromWorkspace, deps: FromDeps, published: FromPublished) -> Hold:
    return Hold(published, deps.ledger, workspace.scope)


ReadHold = Annotated[Hold, Security(_hold, scopes=[READ])]
OperatedHold = Annotated[Hold, Security(_hold, scopes=[OPERATE])]


class HoldBody(BaseModel):
    """Whether the workspace is held, and the last change of that."""

    held: bool
    reason: str | None = Field(description="Null if none was given, or if the hold was never changed.")
    changed_by: str | None = Field(description="Null if the hold was never changed.")
    changed_at: str | None = Field(description="In RFC 3339; null if the hold was never changed.")


class HoldChangedBody(HoldBody):
    """What a change of the hold came to."""

    changed: bool = Field(description="False: it was so already, and nothing was written.")


class HoldAsked(BaseModel):
    """Whether the workspace is to be held."""

    model_config = ConfigDict(extra="forbid")

    held: StrictBool = Field(description="True: nothing new begins. False: everything goes on.")
    reason: Annotated[str, Field(max_length=MAX_REASON)] | None = Field(
        None,
        description="Shown wherever something waits for the end of the hold.",
        json_schema_extra=bounds.judged("One line that is not empty, without control characters."),
    )


@router.get("/hold", summary="Whether the workspace is held", responses=errors(409, 503))
async def show(hold: ReadHold) -> HoldBody:
    """Say whether anything new may begin in the workspace, and who said otherwise."""
    return await _shown(hold)


@router.put("/hold", summary="Hold the workspace, or let it go on", responses=errors(409, 503))
async def change(
    body: Annotated[
        HoldAsked,
        Body(
            openapi_examples={
                "hold": {"summary": "Nothing new begins", "value": {"held": True, "reason": "the warehouse moves"}},
                "release": {"summary": "Everything goes on", "value": {"held": False}},
            }
        ),
    ],
    hold: OperatedHold,
    principal: FromPrincipal,
) -> HoldChangedBody:
    """Let no run, attempt, tick, chunk or evaluation begin until the hold is taken off; safe to repeat.

    What runs goes on. Instants of schedules that fall into the hold are decided on when it ends, as after an outage;
    messages for sensors wait.
    """
    changed = await hold.change(held=body.held, changed_by=principal.subject, reason=body.reason)
    return HoldChangedBody(**(await _shown(hold)).model_dump(), changed=changed)


async def _shown(hold: Hold) -> HoldBody:
    row = await hold.standing()
    if row is None:
        return HoldBody(held=False, reason=None, changed_by=None, changed_at=None)
    return HoldBody(held=row.held, reason=row.reason, changed_by=row.changed_by, changed_at=format_ms(row.changed_at))
