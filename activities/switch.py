"""The activity that switches a rebuilt state in, in the turn that the workspace's sequencer gives it."""

from __future__ import annotations

from temporalio import activity

from activities.failures import as_temporal_failures, surprises_are_final
from activities.heartbeat import heartbeating
from activities.ledger import Configure
from activities.ledger_metrics import timed_step
from springline import names
from springline.paths import Scope
from springline.rebuild.messages import StateSwitched, SwitchStateOrder
from springline.rebuild.switch import switch_state
from springline.storage.port import ObjectStore
from springline.storage.scoped import ScopedStore


class SwitchActivities:
    """Switching over one store. `store` is the whole bucket; each workspace sees its own part only."""

    def __init__(self, store: ObjectStore, configure: Configure) -> None:
        self._store = store
        self._configure = configure

    @activity.defn(name=names.SWITCH_STATE)
    async def switch_state(self, order: SwitchStateOrder) -> StateSwitched:
        """Write the manifest of a rebuilt state, fold what came meanwhile on top, and move the pointer."""
        async with heartbeating():
            with surprises_are_final(), as_temporal_failures(), timed_step(names.SWITCH_STATE):
                ref = order.workspace
                store = ScopedStore(self._store, Scope(ref.tenant, ref.workspace))
                switched = await switch_state(store, self._configure(ref.tenant, ref.workspace), order)
                return switched.model_copy(update={"attempt": activity.info().attempt})
