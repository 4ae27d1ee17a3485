"""The hold of a workspace, as an operator sets it and takes it off: nothing new begins, what runs goes on."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

import uuid_utils

from springline.errors import Code, Refused, refused
from springline.ledger.envelope import as_event
from springline.ledger.events import HoldChanged
from springline.ledger.request import AppendRequest, NewEvent
from springline.paths import Scope
from springline.projection.rows import HoldRow
from springline.projection.schema import X_HOLDS
from springline.published.reader import PublishedReader
from springline.runs.launching import RunLedger
from springline.runs.loading import hold_row

MAX_REASON: Final = 1_000
"""Characters of the reason of a hold: it is part of an event, and of every explanation."""


@dataclass(frozen=True, slots=True)
class Hold:
    """The hold of one workspace; it is in the ledger, so that it is answered when it counts, and safe to repeat.

    All methods raise `Refused`, also if the ledger does not answer (UNAVAILABLE), `DamagedObject`, and the store's
    errors.
    """

    reader: PublishedReader
    ledger: RunLedger
    scope: Scope

    async def standing(self) -> HoldRow | None:
        """Return the last change of the hold, None if there never was one."""
        snapshot = await self.reader.snapshot(self.scope, [X_HOLDS.name])
        return await asyncio.to_thread(hold_row, snapshot)

    async def change(self, *, held: bool, changed_by: str, reason: str | None = None) -> bool:
        """Hold the workspace, or let it go on; False if it is so already. `reason`: at most 1,000 characters."""
        if reason is not None:
            check_reason(reason)
        if await self._is(held):
            return False
        event = HoldChanged(str(uuid_utils.uuid7()), held, changed_by, reason)
        request = AppendRequest(request_id=str(uuid_utils.uuid7()), events=[NewEvent(data=as_event(event))])
        outcome = await self.ledger.append(self.scope, request)
        if outcome.refusal is None:
            return True
        # Somebody else has done it a moment before.
        if outcome.refusal.code is Code.EVENT_CONFLICT and await self._is(held):
            return False
        raise Refused(outcome.refusal)

    async def _is(self, held: bool) -> bool:
        row = await self.standing()
        return (row is not None and row.held) == held


def check_reason(reason: str) -> None:
    """Raise `Refused` for a reason that is empty or that no line of a terminal can show."""
    if not reason.strip() or not reason.isprintable():
        raise refused(
            Code.INVALID_REQUEST,
            "the reason of a hold is empty, or holds control characters",
            field="reason",
            value=reason,
            remedy="Say on one line why nothing may begin, or leave it out.",
        )
