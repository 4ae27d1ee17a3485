"""The activities of Repair: look at a workspace, and make the repairs that were decided on.

Each is safe to repeat: a look changes nothing, and a repair starts or tells a workflow of which there is one by its id.
"""

from __future__ import annotations

from temporalio.service import RPCError

from activities.interceptor import step
from activities.metrics import count_findings, count_repairs
from springline import names
from springline.control.repair import PlannedRepair, RepairLook, RepairLookOrder, RepairOrder, RepairsMade
from springline.errors import SpringlineError
from springline.paths import Scope
from springline.published.reader import PublishedReader
from springline.repairing import RepairedWorkflows, look, make_repair
from springline.runs.launching import MAX_ACTIVE_RUNS
from springline.storage.port import ObjectStore
from springline.storage.together import each


class RepairActivities:
    """Steps of repairs over one store, which is the whole bucket. `workflows` reaches those of runs and ledgers."""

    def __init__(
        self, store: ObjectStore, workflows: RepairedWorkflows, max_active_runs: int = MAX_ACTIVE_RUNS
    ) -> None:
        self._store = store
        self._workflows = workflows
        self._max_active_runs = max_active_runs
        self._reader = PublishedReader(store)

    @step(names.LOOK_FOR_REPAIRS, names.METRIC_RUN_STEP_SECONDS, bounded=True, shown=True)
    async def look_for_repairs(self, order: RepairLookOrder) -> RepairLook:
        """Say what is wrong in a workspace, and what is to be done about it."""
        found = await look(self._store, self._reader, self._workflows, order, most_active=self._max_active_runs)
        count_findings(order, found)
        return found

    @step(names.MAKE_REPAIRS, names.METRIC_RUN_STEP_SECONDS, bounded=True, shown=True)
    async def make_repairs(self, order: RepairOrder) -> RepairsMade:
        """Make repairs; one that fails keeps no other from being made."""
        scope = Scope(order.tenant, order.workspace)

        async def made(one: PlannedRepair) -> str | None:
            try:
                await make_repair(self._workflows, scope, one)
            except (RPCError, RuntimeError, OSError, SpringlineError) as error:
                return str(error) or type(error).__name__
            return None

        said = await each(made, order.repairs)
        failed = {place: why for place, why in enumerate(said) if why is not None}
        count_repairs(order, failed)
        return RepairsMade(failed=failed)
