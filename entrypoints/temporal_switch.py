"""Rebuilt states for the sequencer of their workspace: the update `switch` of its LedgerWorkflow."""

from __future__ import annotations

import asyncio
import random

from temporalio.client import Client

from entrypoints.temporal_ledger import lane_of, start_of
from entrypoints.updates import send_batch
from springline import names
from springline.batching import BatchRefused, TryAgain
from springline.errors import Code, Refused, refused
from springline.paths import Scope
from springline.rebuild.messages import Switched, SwitchOrder
from workflows.ledger_messages import GARBAGE_INTERVAL, SwitchOutcome, SwitchRequest

FIRST_PAUSE_S, MOST_PAUSE_S = 0.1, 2.0


class TemporalSwitches:
    """The port `springline.rebuild.messages.Switches`."""

    def __init__(self, client: Client, *, garbage_interval: int = GARBAGE_INTERVAL) -> None:
        self._client = client
        self._garbage_interval = garbage_interval

    async def switch(self, order: SwitchOrder, *, request_id: str) -> Switched:
        """Make the sequencer publish a state, and return what readers see then; raises `Refused`."""
        scope = Scope(order.workspace.tenant, order.workspace.workspace)
        ceiling = FIRST_PAUSE_S
        while True:
            try:
                outcome = await send_batch(
                    self._client,
                    names.SWITCH_UPDATE,
                    SwitchRequest(switch=order),
                    start_of(scope, garbage_interval=self._garbage_interval),
                    lane=lane_of(scope),
                    batch_id=request_id,
                    result_type=SwitchOutcome,
                )
            except TryAgain as error:
                await asyncio.sleep(max(error.after_s, random.uniform(0, ceiling)))
                ceiling = min(MOST_PAUSE_S, ceiling * 2)
                continue
            except BatchRefused as error:
                raise Refused(error.refusal) from error
            return _switched(outcome)


def _switched(outcome: SwitchOutcome) -> Switched:
    if outcome.refusal is not None:
        raise Refused(outcome.refusal)
    if outcome.switched is None:
        raise refused(Code.INTERNAL, "the sequencer gave an empty answer", remedy="Start the rebuild again.")
    return outcome.switched
