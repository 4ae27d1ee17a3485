"""The activities of a ledger round: each one step of a workspace's sequencer, idempotent and safe to run twice at once.

They share a process memory per workspace (`springline.sequencer.workspace.Sequencer`): the warm state and the rounds
under way. On another worker, or after a restart, a step reads what it needs from storage.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence

from temporalio import activity

from activities.failures import as_temporal_failures, patience_ends, surprises_are_final
from activities.heartbeat import heartbeating
from activities.ledger_loading import Loading
from activities.ledger_metrics import (
    Lag,
    count_admitted,
    count_folded,
    count_foreign,
    count_published,
    counting_publish_faults,
    timed_step,
)
from springline import names
from springline.errors import InvariantViolated
from springline.paths import Scope
from springline.projection.config import FoldConfig
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
"""Returns under which rules the ledger of a tenant's workspace is folded."""

WORKSPACES_REMEMBERED = 32
"""Whose state is kept warm; the one that has not been used for longest goes first."""
BYTES_REMEMBERED = 768 * 1024 * 1024
"""What the states of all workspaces may take of memory, about, beyond that of the one that is being worked on."""


class LedgerActivities:
    """The steps of ledger rounds over one store. `store` is the whole bucket; each workspace sees its own part only."""

    def __init__(self, store: ObjectStore, configure: Configure) -> None:
        self._store = store
        self._configure = configure
        self._sequencers: OrderedDict[WorkspaceRef, Sequencer] = OrderedDict()

    @activity.defn(name=names.OPEN_LEDGER)
    async def open_ledger(self, order: OpenOrder) -> Opened:
        """Find out where the workspace stands, and which rounds are kept and not visible."""
        async with heartbeating():
            with surprises_are_final(), patience_ends(), as_temporal_failures(), timed_step(names.OPEN_LEDGER):
                opened = await self._sequencer(order.workspace).open(order)
                return opened.model_copy(update={"attempt": _attempt()})

    @activity.defn(name=names.ADMIT)
    async def admit(self, order: AdmitOrder) -> Admitted:
        """Judge append requests and create the round's record: the moment from which its events are kept."""
        async with heartbeating(details=self._loading(order.workspace)):
            with surprises_are_final(), patience_ends(), as_temporal_failures(), timed_step(names.ADMIT):
                admitted = await self._sequencer(order.workspace).admit(order)
                if admitted.kind != "taken":
                    _check_answered(order.round, len(order.requests), len(admitted.answers))
                    count_admitted(order, admitted)
                return admitted.model_copy(update={"attempt": _attempt()})

    @activity.defn(name=names.ADMIT_FOREIGN)
    async def admit_foreign(self, order: AdmitForeignOrder) -> Admitted:
        """Look at foreign events and create the record of the round that accepts them."""
        async with heartbeating(details=self._loading(order.workspace)):
            with surprises_are_final(), patience_ends(), as_temporal_failures(), timed_step(names.ADMIT_FOREIGN):
                admitted = await self._sequencer(order.workspace).admit_foreign(order)
                if admitted.kind != "taken":
                    _check_answered(order.round, len(order.requests), len(admitted.foreign_answers))
                    count_foreign(admitted)
                return admitted.model_copy(update={"attempt": _attempt()})

    @activity.defn(name=names.APPEND_EVENTS)
    async def append_events(self, step: RoundStep) -> Appended:
        """Write the round's event objects and request markers."""
        async with heartbeating():
            with surprises_are_final(), as_temporal_failures(), timed_step(names.APPEND_EVENTS):
                appended = await self._sequencer(step.workspace).append(step)
                return appended.model_copy(update={"attempt": _attempt()})

    @activity.defn(name=names.FOLD)
    async def fold(self, order: FoldOrder) -> Folded:
        """Fold the round and write everything of the new revision but the pointer."""
        lag = Lag(order)
        async with heartbeating(each=lag.show, details=self._loading(order.workspace)):
            with surprises_are_final(), as_temporal_failures(), timed_step(names.FOLD), lag.shown():
                folded = await self._sequencer(order.workspace).fold(order)
                count_folded(folded)
                return folded.model_copy(update={"attempt": _attempt()})

    @activity.defn(name=names.PUBLISH)
    async def publish(self, order: PublishOrder) -> Published:
        """Move the pointer to the new revision: the moment from which readers see the round."""
        lag = Lag(order)
        async with heartbeating(each=lag.show, details=self._loading(order.workspace)):
            with (
                surprises_are_final(),
                as_temporal_failures(),
                timed_step(names.PUBLISH),
                lag.shown(),
                counting_publish_faults(),
            ):
                published = await self._sequencer(order.workspace).publish(order)
                count_published(order, published)
                return published.model_copy(update={"attempt": _attempt()})

    def _loading(self, ref: WorkspaceRef) -> Callable[[], Sequence[object]]:
        sequencer = self._sequencer(ref)
        return Loading(lambda: sequencer.loading).details

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


def _attempt() -> int:
    return activity.info().attempt


def _check_answered(number: int, asked: int, answered: int) -> None:
    if asked != answered:
        raise InvariantViolated(f"round {number}: {asked} requests were given {answered} answers")
