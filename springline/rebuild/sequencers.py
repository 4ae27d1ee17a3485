"""The port through which a rebuild reaches the sequencer of its workspace, which publishes the result."""

from __future__ import annotations

from typing import Protocol

from springline.rebuild.messages import Switched, SwitchOrder


class Switches(Protocol):
    """Hands rebuilt states to the one sequencer of a workspace (docs/protocol.md#ledger-rounds: nobody else
    publishes).
    """

    async def switch(self, order: SwitchOrder, *, request_id: str) -> Switched:
        """Have the state of `order` switched in, and return what readers see then.

        `request_id` names the request, so that one that is sent again joins the first. Waits for as long as it takes;
        raises `Refused` if the sequencer refuses it for good.
        """
