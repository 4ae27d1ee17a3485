"""The activities of a ledger round: each one step of a workspace's sequencer, idempotent and safe to run twice at once.

They share a process memory per workspace (`springline.sequencer.workspace.Sequencer`): the warm state and the rounds
under way. On another worker, or after a restart, a step reads what it needs from storage.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable

from temporalio import activity
from temporalio.client import Client
from temporalio.service import RPCError

from activities.interceptor import each_heartbeat, step
from activities.metrics import (
    count_admitted,
    count_folded,
    count_foreign,
    count_published,
    publishing,
    shown_lag,
)
from springline import names
from springline.errors import InvariantViolated
from springline.paths import Scope
from springline.projection.config import FoldConfig
from springline.rebuild.messages import StateSwitched, SwitchStateOrder
from springline.rebuild.switch import switch_state
from springline.sequencer.messages import (
    AdmitForeignOrder,
    AdmitOrder,
    Admitted,
    Appended,
    Folded,
    FoldOrder,
    Opened,
    OpenOrder,
    Published,
    PublishOrder,
    RoundStep,
    WorkspaceRef,
)
from springline.sequencer.workspace import Sequencer
from springline.storage.port import ObjectStore
from springline.storage.scoped import ScopedStore

Configure = Callable[[str, str], FoldConfig]
"""Returns the rules under which the ledger of a tenant's workspace is folded."""

WORKSPACES_REMEMBERED = 32
"""Workspaces whose state is kept warm; the least recently used one is dropped first."""
BYTES_REMEMBERED = 768 * 1024 * 1024
"""About how much memory the states of all workspaces may take, beyond that of the current one."""
TOLD_EVERY_S = 2.0
"""Seconds between signals: each is an event in the workflow's history, so there are few."""


class LedgerActivities:
    """The steps of ledger rounds over one store. `store` is the whole bucket; each workspace sees its own part only."""

    def __init__(self, store: ObjectStore, configure: Configure) -> None:
        self._store = store
        self._configure = configure
        self._sequencers: OrderedDict[WorkspaceRef, Sequencer] = OrderedDict()

    @step(names.OPEN_LEDGER, names.METRIC_LEDGER_STEP_SECONDS, bounded=True)
    async def open_ledger(self, order: OpenOrder) -> Opened:
        """Return where the workspace stands, and which rounds are kept and not visible."""
        return await self._sequencer(order.workspace).open(order)

    @step(names.ADMIT, names.METRIC_LEDGER_STEP_SECONDS, bounded=True)
    async def admit(self, order: AdmitOrder) -> Admitted:
        """Judge append requests and create the round's record: from then on its events are kept."""
        admitted = await self._loading(order.workspace).admit(order)
        if admitted.kind != "taken":
            _check_answered(order.round, len(order.requests), len(admitted.answers))
            count_admitted(order, admitted)
        return admitted

    @step(names.ADMIT_FOREIGN, names.METRIC_LEDGER_STEP_SECONDS, bounded=True)
    async def admit_foreign(self, order: AdmitForeignOrder) -> Admitted:
        """Judge foreign events and create the record of the round that accepts them."""
        admitted = await self._loading(order.workspace).admit_foreign(order)
        if admitted.kind != "taken":
            _check_answered(order.round, len(order.requests), len(admitted.foreign_answers))
            count_foreign(admitted)
        return admitted

    @step(names.APPEND_EVENTS, names.METRIC_LEDGER_STEP_SECONDS)
    async def append_events(self, step: RoundStep) -> Appended:
        """Write the round's event objects and request markers."""
        return await self._sequencer(step.workspace).append(step)

    @step(names.FOLD, names.METRIC_LEDGER_STEP_SECONDS, around=shown_lag)
    async def fold(self, order: FoldOrder) -> Folded:
        """Fold the round and write the new revision, except the pointer."""
        folded = await self._loading(order.workspace).fold(order)
        count_folded(folded)
        return folded

    @step(names.PUBLISH, names.METRIC_LEDGER_STEP_SECONDS, around=publishing)
    async def publish(self, order: PublishOrder) -> Published:
        """Move the pointer to the new revision: from then on readers see the round."""
        published = await self._loading(order.workspace).publish(order)
        count_published(order, published)
        return published

    @step(names.SWITCH_STATE, names.METRIC_LEDGER_STEP_SECONDS)
    async def switch_state(self, order: SwitchStateOrder) -> StateSwitched:
        """Write the manifest of a rebuilt state, fold later events on top, and move the pointer."""
        ref = order.workspace
        store = ScopedStore(self._store, Scope(ref.tenant, ref.workspace))
        return await switch_state(store, self._configure(ref.tenant, ref.workspace), order)

    def _loading(self, ref: WorkspaceRef) -> Sequencer:
        """Return a workspace's sequencer for a step that may have to load its state; heartbeats report the progress."""
        sequencer = self._sequencer(ref)
        each_heartbeat(Loading(lambda: sequencer.loading).tell)
        return sequencer

    def _sequencer(self, ref: WorkspaceRef) -> Sequencer:
        sequencer = self._sequencers.get(ref)
        if sequencer is None:
            scope = Scope(ref.tenant, ref.workspace)
            sequencer = Sequencer(ScopedStore(self._store, scope), self._configure(ref.tenant, ref.workspace))
            if len(self._sequencers) >= WORKSPACES_REMEMBERED:
                self._sequencers.popitem(last=False)
            self._sequencers[ref] = sequencer
        self._sequencers.move_to_end(ref)
        while len(self._sequencers) > 1 and sum(one.size for one in self._sequencers.values()) > BYTES_REMEMBERED:
            self._sequencers.popitem(last=False)
        return sequencer


def _check_answered(number: int, asked: int, answered: int) -> None:
    if asked != answered:
        raise InvariantViolated(f"round {number}: {asked} requests were given {answered} answers")


class Loading:
    """Reports the progress of loading a state: with heartbeats, and now and then to the workflow itself.

    `progress` returns the progress, None while no load is under way.
    """

    def __init__(self, progress: Callable[[], str | None]) -> None:
        self._progress = progress
        self._told_at = time.monotonic()
        self._telling: asyncio.Task[None] | None = None

    def tell(self) -> None:
        """Put the progress into the next heartbeat; signal the workflow, if loading takes long."""
        text = self._progress()
        if text is None:
            activity.heartbeat()
            return
        activity.heartbeat(text)
        now = time.monotonic()
        if now - self._told_at >= TOLD_EVERY_S and (self._telling is None or self._telling.done()):
            self._told_at = now
            self._telling = asyncio.create_task(_tell(activity.client(), text))


async def _tell(client: Client, text: str) -> None:
    """Signal the workflow; the text is for people, and no logic depends on it."""
    info = activity.info()
    if info.workflow_id is None:
        return
    try:
        await client.get_workflow_handle(info.workflow_id, run_id=info.workflow_run_id).signal(
            names.LOADING_SIGNAL, text
        )
    except RPCError as error:
        activity.logger.info("the workflow was not told how far loading is: %s", error)
