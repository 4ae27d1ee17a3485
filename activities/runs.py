"""The activities of runs: launch what is requested, read where a run stands, append what it says, wake who waits.

Each is safe to repeat and to run twice at once: events have the keys that their payloads derive, workflows their ids.
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import asdict
from typing import Final, Protocol

import uuid_utils
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory
from temporalio.service import RPCError

from activities.interceptor import ledger_asked, step
from activities.metrics import count_attempts, count_launched, record_launch
from springline import names
from springline.caches import Recent
from springline.control.runs.messages import (
    AskPools,
    AttemptOrder,
    Launched,
    LaunchOrder,
    LoadedRun,
    LoadOrder,
    NoteOrder,
    NotTaken,
    PoolOrder,
    PoolRows,
    Posted,
    Recorded,
    RecordOrder,
    RunRequestAnswer,
    RunRequestOrder,
    SealsNoted,
    SlotsAsked,
    WakeOrder,
)
from springline.definitions.manifest import sensor_ids
from springline.deployed.reading import ManifestReader
from springline.ledger.envelope import as_event
from springline.ledger.events import AttemptNoted, RunRequested
from springline.ledger.request import AppendedEvent, AppendMode, AppendRequest, EventOutcome, NewEvent
from springline.paths import Scope
from springline.projection.schema import RUNS, X_HOLDS
from springline.published.reader import PublishedReader
from springline.runs.backfilled import TABLES as TABLES_OF_BACKFILLS
from springline.runs.backfilled import open_backfills
from springline.runs.launching import MAX_ACTIVE_RUNS, MOST_KNOWN, RunLedger, RunStarts, active_runs, launch
from springline.runs.loading import is_held, load_run
from springline.runs.pools import read_pool, slots_of_claims
from springline.runs.posting import AttemptPoster, WorkerNotReady
from springline.runs.requesting import RunRequests
from springline.runs.requests import Asker, parsed_request, run_request
from springline.storage.port import ObjectStore
from springline.storage.scoped import ScopedStore
from springline.work.unnoted import unnoted_ends, unnoted_seals

LOOKED_AFTER_S: Final = 60.0
"""Seconds between two times that a worker wakes the Repair of a workspace in which it launches runs."""
OPERATOR: Final = "temporal"
"""Who asks for a run by Temporal: everybody who reaches the namespace is an operator."""
MOST_LOOKED_AFTER: Final = 1_000
MOST_NOTES: Final = 20
"""Of what was sealed, in one append."""
_log = logging.getLogger("springline.runs")


class RunWakes(RunStarts, Protocol):
    """Workflows of runs, and telling them that something has changed."""

    async def wake_launcher(self, scope: Scope, run_keys: list[str], *, looks: bool) -> None:
        """Tell the launcher of a workspace of requests, and start it if it does not run."""

    async def wake_run(self, scope: Scope, run_id: str) -> None:
        """Tell a run's workflow that its rows have changed; one that does not run is not started."""

    async def wake_evaluator(self, scope: Scope) -> None:
        """Tell the evaluator of a workspace's schedules to look, and start it if it does not run."""

    async def wake_sensor(self, scope: Scope, sensor_id: str) -> None:
        """Tell a sensor's workflow to look, and start it if it does not run."""

    async def wake_backfill(self, scope: Scope, backfill_id: str) -> None:
        """Tell the evaluator of a backfill to look, and start it if it does not run."""

    async def ask_pool(self, scope: Scope, asked: SlotsAsked) -> None:
        """Tell a pool what a run wants of it, and start its workflow if it does not run."""

    async def wake_repair(self, scope: Scope) -> None:
        """Have a workspace looked at, now and from then on."""


class RunActivities:
    """Steps of runs over one store.

    `store` is the whole bucket; `ledger` appends, `wakes` reaches their workflows, `poster` workers over HTTP.
    """

    def __init__(
        self,
        store: ObjectStore,
        ledger: RunLedger,
        wakes: RunWakes,
        poster: AttemptPoster,
        max_active_runs: int = MAX_ACTIVE_RUNS,
    ) -> None:
        self._store = store
        self._max_active_runs = max_active_runs
        self._ledger = ledger
        self._wakes = wakes
        self._poster = poster
        self._reader = PublishedReader(store)
        self._manifests = ManifestReader()
        self._looked_after: Recent[float] = Recent(MOST_LOOKED_AFTER)
        self._known_requests: Recent[RunRequested] = Recent(MOST_KNOWN)

    @step(names.LAUNCH_RUNS, names.METRIC_RUN_STEP_SECONDS, outlasts=True)
    async def launch_runs(self, order: LaunchOrder) -> Launched:
        """Trigger and plan the runs that are requested and may begin, and start their workflows."""
        scope = Scope(order.tenant, order.workspace)
        launched = await launch(
            self._store,
            self._reader,
            self._manifests,
            self._ledger,
            self._wakes,
            scope,
            order.run_keys,
            most=self._max_active_runs,
            known=self._known_requests,
            restarts=order.restarts,
            begun=lambda row: record_launch(row.created_at),
        )
        count_launched(order, launched)
        for backfill_id in launched.backfills:
            await self._wakes.wake_backfill(scope, backfill_id)
        if launched.started or launched.waiting:
            await self._look_after(scope)
        return launched

    async def _look_after(self, scope: Scope) -> None:
        """See to it that what is open in a workspace is looked after; now and then is enough."""
        told, now = self._looked_after.get(scope), time.monotonic()
        if told is not None and now - told < LOOKED_AFTER_S:
            return
        try:
            await self._wakes.wake_repair(scope)
        except (RPCError, RuntimeError, OSError) as error:
            # Every worker sees to it as well, a few minutes later (`entrypoints.existence`).
            _log.warning("%s/%s is not looked after yet: %s", scope.tenant, scope.workspace, error)
        else:
            self._looked_after.put(scope, now)

    @step(names.LOAD_RUN, names.METRIC_RUN_STEP_SECONDS, outlasts=True)
    async def load_run(self, order: LoadOrder) -> LoadedRun:
        """Read where a run stands."""
        scope = Scope(order.tenant, order.workspace)
        return await load_run(self._store, self._reader, self._manifests, scope, order.run_id)

    @step(names.APPEND_RUN_EVENTS, names.METRIC_RUN_STEP_SECONDS, outlasts=True)
    async def append_run_events(self, order: RecordOrder) -> Recorded:
        """Append events of a run, each by itself; tell which were not taken as they are, and which claims hold."""
        not_taken = await self._append(order) if order.events else []
        count_attempts(order, not_taken)
        if not order.claims:
            return Recorded(not_taken=not_taken)
        scope = Scope(order.tenant, order.workspace)
        found = await slots_of_claims(self._store, self._reader, self._manifests, scope, order.claims)
        return Recorded(not_taken=not_taken, may_begin=found)

    async def _append(self, order: RecordOrder) -> list[NotTaken]:
        request = AppendRequest(
            request_id=order.request_id,
            mode=AppendMode.EACH,
            events=[NewEvent(data=data) for data in order.events],
        )
        with ledger_asked():
            outcome = await self._ledger.append(Scope(order.tenant, order.workspace), request)
        if outcome.refusal is not None:
            refused = outcome.refusal
            return [
                NotTaken(index=index, code=refused.code, message=refused.message) for index in range(len(order.events))
            ]
        return [
            NotTaken(index=index, code=one.outcome, message=one.event_id)
            if isinstance(one, AppendedEvent)
            else NotTaken(index=index, code=one.code, message=one.message)
            for index, one in enumerate(outcome.results)
            if not isinstance(one, AppendedEvent) or one.outcome is EventOutcome.DUPLICATE
        ]

    @step(names.ASK_POOLS, names.METRIC_RUN_STEP_SECONDS, outlasts=True)
    async def ask_pools(self, order: AskPools) -> None:
        """Tell pools what a run wants of them."""
        for asked in order.asked:
            await self._wakes.ask_pool(Scope(order.tenant, order.workspace), asked)

    @step(names.READ_POOL, names.METRIC_RUN_STEP_SECONDS, outlasts=True)
    async def read_pool(self, order: PoolOrder) -> PoolRows:
        """Read the size of a pool, and who has its slots."""
        scope = Scope(order.tenant, order.workspace)
        return await read_pool(self._store, self._reader, self._manifests, scope, order.pool, order.asking)

    @step(names.REQUEST_RUN, names.METRIC_RUN_STEP_SECONDS, bounded=True, shown=True)
    async def request_run(self, order: RunRequestOrder) -> RunRequestAnswer:
        """Ask for a run as the API does: judged, recorded once for its key, and launched."""
        scope = Scope(order.tenant, order.workspace)
        wanted = run_request(parsed_request(order.asked), Asker(OPERATOR, order.name), lambda: order.name)
        requests = RunRequests(self._store, self._reader, self._manifests, self._ledger, self, scope)
        found = await requests.request(wanted)
        return RunRequestAnswer(**asdict(found))

    async def launch(self, scope: Scope, run_key: str) -> None:
        """Tell the launcher of a request; a failure is logged, because the ledger tells it, too."""
        try:
            await self._wakes.wake_launcher(scope, [run_key], looks=False)
        except (RPCError, RuntimeError, OSError) as error:
            _log.warning("the launcher of %s/%s could not be told: %s", scope.tenant, scope.workspace, error)

    @step(names.POST_ATTEMPT, names.METRIC_RUN_STEP_SECONDS, outlasts=True)
    async def post_attempt(self, order: AttemptOrder) -> Posted:
        """Post an attempt to its worker over HTTP; one that is not ready for it is asked again by Temporal."""
        try:
            return await self._poster.post(order)
        except WorkerNotReady as error:
            raise ApplicationError(
                str(error), type=names.WORKER_NOT_READY, category=ApplicationErrorCategory.BENIGN
            ) from error

    @step(names.NOTE_SEALS, names.METRIC_RUN_STEP_SECONDS, outlasts=True)
    async def note_seals(self, order: NoteOrder) -> SealsNoted:
        """Note on attempts of an ended run what they have sealed, where neither an end nor a note tells it."""
        scope = Scope(order.tenant, order.workspace)
        notes: list[AttemptNoted] = []
        if order.untold:
            notes += await unnoted_ends(self._reader, scope, order.run_id, int(time.time() * 1_000))
        notes += await unnoted_seals(self._store, self._reader, scope, order.run_id)
        for place in range(0, len(notes), MOST_NOTES):
            batch = RecordOrder(
                tenant=order.tenant,
                workspace=order.workspace,
                request_id=str(uuid_utils.uuid7()),
                events=[as_event(one) for one in notes[place : place + MOST_NOTES]],
            )
            for one in await self._append(batch):
                if one.code != EventOutcome.DUPLICATE:
                    _log.warning("%s: a note of what was sealed was not taken: %s", order.run_id, one.message)
        return SealsNoted(noted=len(notes))

    async def _open_backfills(self, scope: Scope) -> list[str]:
        """Return the backfills whom the end of a hold concerns."""
        snapshot = await self._reader.snapshot(scope, TABLES_OF_BACKFILLS)
        return [one.backfill_id for one in await asyncio.to_thread(open_backfills, snapshot)]

    async def _under_way(self, scope: Scope) -> list[str]:
        """Return the runs whom a hold concerns: they begin nothing, or go on."""
        snapshot = await self._reader.snapshot(scope, [RUNS.name])
        return [run.run_id for run in await asyncio.to_thread(active_runs, snapshot)]

    async def _released(self, scope: Scope) -> list[str]:
        """Return the sensors whom the end of a hold concerns: all that are deployed, or none if it has not ended."""
        if is_held(await self._reader.snapshot(scope, [X_HOLDS.name])):
            return []
        current = await self._manifests.latest(ScopedStore(self._store, scope), scope)
        return sensor_ids(None if current is None else current.manifest)

    @step(names.WAKE_RUNS, names.METRIC_RUN_STEP_SECONDS, outlasts=True)
    async def wake_runs(self, order: WakeOrder) -> None:
        """Tell launcher, runs and evaluators of what a round of the ledger has changed for them."""
        scope = Scope(order.tenant, order.workspace)
        if order.schedules:
            await self._wakes.wake_evaluator(scope)
        for backfill_id in order.backfills or (await self._open_backfills(scope) if order.schedules else []):
            await self._wakes.wake_backfill(scope, backfill_id)
        if order.run_keys or order.looks:
            await self._wakes.wake_launcher(scope, order.run_keys, looks=order.looks)
        for run_id in dict.fromkeys([*order.run_ids, *(await self._under_way(scope) if order.hold else [])]):
            await self._wakes.wake_run(scope, run_id)
        for sensor_id in dict.fromkeys([*order.sensors, *(await self._released(scope) if order.hold else [])]):
            await self._wakes.wake_sensor(scope, sensor_id)
