"""The activities of runs: launch what is requested, read where a run stands, append what it says, wake who waits.

Each is safe to repeat and to run twice at once: events have the keys that their payloads derive, workflows their ids.
"""

from __future__ import annotations

from typing import Protocol

from temporalio.exceptions import ApplicationError, ApplicationErrorCategory

from activities.interceptor import step
from springline import names
from springline.control.runs.messages import (
    Launched,
    LaunchOrder,
    LoadedRun,
    LoadOrder,
    NotTaken,
    Recorded,
    RecordOrder,
    WakeOrder,
)
from springline.deployed.reading import ManifestReader
from springline.errors import Code, Refused
from springline.ledger.request import AppendedEvent, AppendMode, AppendRequest, EventOutcome, NewEvent
from springline.paths import Scope
from springline.published.reader import PublishedReader
from springline.runs.launching import MAX_ACTIVE_RUNS, RunLedger, RunStarts, launch
from springline.runs.loading import load_run
from springline.storage.port import ObjectStore


class RunWakes(RunStarts, Protocol):
    """Workflows of runs, and telling them that something has changed."""

    async def wake_launcher(self, scope: Scope, run_keys: list[str], *, looks: bool) -> None:
        """Tell the launcher of a workspace of requests, and start it if it does not run."""

    async def wake_run(self, scope: Scope, run_id: str) -> None:
        """Tell a run's workflow that its rows have changed; one that does not run is not started."""


class RunActivities:
    """Steps of runs over one store. `store` is the whole bucket; `ledger` appends, `wakes` reaches their workflows."""

    def __init__(
        self, store: ObjectStore, ledger: RunLedger, wakes: RunWakes, max_active_runs: int = MAX_ACTIVE_RUNS
    ) -> None:
        self._store = store
        self._max_active_runs = max_active_runs
        self._ledger = ledger
        self._wakes = wakes
        self._reader = PublishedReader(store)
        self._manifests = ManifestReader()

    @step(names.LAUNCH_RUNS, names.METRIC_RUN_STEP_SECONDS, outlasts=True)
    async def launch_runs(self, order: LaunchOrder) -> Launched:
        """Trigger and plan the runs that are requested and may begin, and start their workflows."""
        scope = Scope(order.tenant, order.workspace)
        return await launch(
            self._store,
            self._reader,
            self._manifests,
            self._ledger,
            self._wakes,
            scope,
            order.run_keys,
            most=self._max_active_runs,
        )

    @step(names.LOAD_RUN, names.METRIC_RUN_STEP_SECONDS, outlasts=True)
    async def load_run(self, order: LoadOrder) -> LoadedRun:
        """Read where a run stands."""
        scope = Scope(order.tenant, order.workspace)
        return await load_run(self._store, self._reader, self._manifests, scope, order.run_id)

    @step(names.APPEND_RUN_EVENTS, names.METRIC_RUN_STEP_SECONDS, outlasts=True)
    async def append_run_events(self, order: RecordOrder) -> Recorded:
        """Append events of a run, each by itself; tell which were not taken as they are."""
        request = AppendRequest(
            request_id=order.request_id,
            mode=AppendMode.EACH,
            events=[NewEvent(data=data) for data in order.events],
        )
        try:
            outcome = await self._ledger.append(Scope(order.tenant, order.workspace), request)
        except Refused as error:
            if error.refusal.code is not Code.UNAVAILABLE:
                raise
            raise ApplicationError(
                error.refusal.message, type=names.LEDGER_UNAVAILABLE, category=ApplicationErrorCategory.BENIGN
            ) from error
        if outcome.refusal is not None:
            refused = outcome.refusal
            return Recorded(
                not_taken=[
                    NotTaken(index=index, code=refused.code, message=refused.message)
                    for index in range(len(order.events))
                ]
            )
        return Recorded(
            not_taken=[
                NotTaken(index=index, code=one.outcome, message=one.event_id)
                if isinstance(one, AppendedEvent)
                else NotTaken(index=index, code=one.code, message=one.message)
                for index, one in enumerate(outcome.results)
                if not isinstance(one, AppendedEvent) or one.outcome is EventOutcome.DUPLICATE
            ]
        )

    @step(names.WAKE_RUNS, names.METRIC_RUN_STEP_SECONDS, outlasts=True)
    async def wake_runs(self, order: WakeOrder) -> None:
        """Tell launcher and runs of what a round of the ledger has changed for them."""
        scope = Scope(order.tenant, order.workspace)
        if order.run_keys or order.looks:
            await self._wakes.wake_launcher(scope, order.run_keys, looks=order.looks)
        for run_id in order.run_ids:
            await self._wakes.wake_run(scope, run_id)
