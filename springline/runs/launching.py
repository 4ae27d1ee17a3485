"""Launching runs: a request becomes a run with a plan, and a workflow that executes it.

What waits is what the ledger has requested and not triggered; so a launch is safe to repeat, and to be made twice at
once: the sequencer takes one run for a request, and Temporal keeps one workflow for a run.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, cast

import uuid_utils

from springline.caches import Recent
from springline.control.admission.runs import BACKFILL_RUN_KEYS
from springline.control.runs.messages import Launched, LaunchedRun, LoadedRun
from springline.control.runs.planning import (
    CannotPlan,
    PlannedTask,
    RunOrigin,
    left_to_do,
    plan_again,
    plan_events,
    plan_tasks,
    priority_of,
    unplanned_run_events,
)
from springline.control.runs.standing import at_its_beginning, effects_scope
from springline.definitions.manifest import DeployedManifest
from springline.deployed.reading import ManifestReader
from springline.errors import Code, Refusal
from springline.ledger.envelope import as_event, parse_event
from springline.ledger.events import Payload, RunRequested
from springline.ledger.member import RunRequestedMember, member_of
from springline.ledger.nested import (
    BackfillRef,
    CronTrigger,
    ManualTrigger,
    ScheduleRef,
    SensorRef,
    SensorTrigger,
    Trigger,
)
from springline.ledger.request import AppendOutcome, AppendRequest, NewEvent
from springline.paths import Scope, canonical_ulid_event
from springline.projection.rows import RunKeyRow, RunRow, TaskRow
from springline.projection.schema import FINISHED_RUN, RUNNING, RUNS, TRIGGERED
from springline.published.lists import equals, unlike
from springline.published.reader import PublishedReader
from springline.published.snapshot import StateSnapshot
from springline.runs.loading import is_held, is_of_a_manifest, own_row
from springline.storage.damage import DamagedObject
from springline.storage.port import ObjectStore
from springline.storage.scoped import ScopedStore
from springline.storage.together import each

MAX_ACTIVE_RUNS: Final = 100
"""Runs of a workspace that are under way at once; the others wait, the most urgent first, then the oldest."""
FREE_SHARE: Final = 5
"""One in so many of these is kept from backfills: a long one does not hold up what is asked for meanwhile."""
MOST_TOLD: Final = 500
"""Tasks of a run whose workflow is told them; of a larger one it reads the rows."""
MOST_KNOWN: Final = 20_000
"""Requests that a process keeps, of about a kilobyte each."""
_STARTED, _REFUSED, _WAITING = "started", "refused", "waiting"
_MOST_ASIDE: Final = 20
_MOST_SHOWN: Final = 12
"""Requests that people are shown."""
_TABLES: Final = ("runs", "run_key_index", "x_holds")


class RunLedger(Protocol):
    """Appends to the ledger of a workspace; `springline.sequencer.coalescer.LedgerCoalescer` is one."""

    async def append(self, scope: Scope, request: AppendRequest) -> AppendOutcome:
        """Return the outcome of the events; raises `Refused` (UNAVAILABLE) if it is unknown."""


class RunStarts(Protocol):
    """Workflows of runs."""

    async def start(self, scope: Scope, run_id: str, loaded: LoadedRun | None = None) -> None:
        """Start the workflow of a run; one that is running reads its rows. `loaded`: where it stands, if known."""

    async def start_missing(self, scope: Scope, run_id: str) -> None:
        """Start the workflow of a run unless it is running; then it is told nothing."""


@dataclass(frozen=True, slots=True)
class _Request:
    row: RunKeyRow
    data: RunRequested

    @property
    def priority(self) -> int:
        return priority_of(self.data.labels)


@dataclass(slots=True)
class _Launch:
    """One pass over the requests of a workspace; `store` is its part of the store."""

    store: ObjectStore
    reader: PublishedReader
    manifests: ManifestReader
    ledger: RunLedger
    starts: RunStarts
    scope: Scope
    most: int
    begun: Callable[[RunKeyRow], None]
    known: Recent[RunRequested]
    planned: int = 0
    backfills: set[str] = field(default_factory=set)
    aside: list[str] = field(default_factory=list)

    async def make(self, snapshot: StateSnapshot, run_keys: list[str] | None, *, restarts: bool) -> Launched:
        requested, begun = await asyncio.to_thread(asked_for, snapshot, run_keys)
        begun = begun if restarts else []
        # Of all runs that go on, most are well, and look by themselves: a hundred that read their rows at once each
        # minute would cost more than the runs.
        await each(self._start if run_keys is not None else self._start_missing, begun)
        if not requested or is_held(snapshot):
            return Launched(started=len(begun), waiting=len(requested))
        room = self.most - len(await asyncio.to_thread(active_runs, snapshot))
        # A long backfill lets thousands wait, which nobody reads before one of them may begin.
        candidates = [row for row in requested if _has_place(row, self.most, room)]
        read = [one for one in await each(self._read_or_aside, candidates) if one is not None]
        read.sort(key=lambda one: (-one.priority, one.row.row_version))
        may_begin = _allowed(read, self.most, room)
        done = await each(self._launch, may_begin)
        return Launched(
            started=done.count(_STARTED) + len(begun),
            refused=done.count(_REFUSED),
            planned=self.planned,
            waiting=len(requested) - len(candidates) + len(read) - len(may_begin) + done.count(_WAITING),
            aside=self.aside[:_MOST_ASIDE],
            backfills=sorted(self.backfills),
            told=[
                LaunchedRun(run_key=one.row.run_key, run_id=one.row.run_id, outcome=outcome)
                for one, outcome in zip(may_begin[-_MOST_SHOWN:], done[-_MOST_SHOWN:], strict=True)
            ],
        )

    async def _start(self, run_id: str) -> None:
        await self.starts.start(self.scope, run_id)

    async def _start_missing(self, run_id: str) -> None:
        await self.starts.start_missing(self.scope, run_id)

    async def _read_or_aside(self, row: RunKeyRow) -> _Request | None:
        """Read the event of a request, and see that its manifest is there.

        If either is damaged, the request is set aside and holds up nobody: it takes no place among those that may
        begin, it is planned as it was asked for when the object is restored, and it can be cancelled meanwhile.
        """
        try:
            data = self.known.get((self.scope, row.row_version))
            if data is None:
                data = await read_request(self.store, row)
                self.known.put((self.scope, row.row_version), data)
            await self._manifest(data)
        except DamagedObject as error:
            self.aside.append(str(error))
            return None
        return _Request(row, data)

    async def _launch(self, request: _Request) -> str:
        """Trigger and plan a run, and start its workflow; say what became of it."""
        row, data = request.row, request.data
        said = member_of(data, RunRequestedMember) or RunRequestedMember()
        origin = await origin_of(self.reader, self.scope, row, data)
        try:
            manifest = await self._manifest(data)
            tasks = await self._planned(data, said, manifest)
        except CannotPlan as error:
            message = f"{error.message}. {error.remedy}"
            refusal = await self._append(unplanned_run_events(origin, error.reason_code, message))
            if refusal is None:
                if isinstance(data.trigger_source_ref, BackfillRef):
                    # No workflow of the run will tell its backfill.
                    self.backfills.add(data.trigger_source_ref.backfill_id)
                return _REFUSED
        else:
            refusal = await self._append(plan_events(origin, tasks))
            if refusal is None:
                fresh = at_its_beginning(origin, manifest, tasks) if _fits_a_start(said, tasks) else None
                await self.starts.start(self.scope, row.run_id, fresh)
                self.planned += 1
                self.begun(row)
                return _STARTED
        # Somebody else may have launched or cancelled it meanwhile; or the workspace is held.
        snapshot = await self.reader.snapshot(self.scope, ("runs",))
        if snapshot["runs"].get(row.run_id) is None:
            if refusal.code is not Code.EVENT_CONFLICT:
                self.aside.append(f"request {row.row_version}: {refusal.message}")
            return _WAITING
        await self._start(row.run_id)
        return _STARTED

    async def _manifest(self, data: RunRequested) -> DeployedManifest:
        assert data.code_version is not None
        return (await self.manifests.needed(self.store, self.scope, data.code_version)).manifest

    async def _planned(
        self, data: RunRequested, said: RunRequestedMember, manifest: DeployedManifest
    ) -> list[PlannedTask]:
        if said.parent_run_id is None:
            return await asyncio.to_thread(plan_tasks, manifest, data.asset_selection, data.partition_selection)
        snapshot = await self.reader.snapshot(self.scope, ("tasks",))
        rows: Any = await asyncio.to_thread(snapshot["tasks"].below, (said.parent_run_id,))
        states = {task.task_key: task.state for task in (TaskRow(*row) for row in rows)}
        again = left_to_do(states) if said.tasks is None else said.tasks
        return await asyncio.to_thread(plan_again, manifest, states, again)

    async def _append(self, events: Sequence[Payload]) -> Refusal | None:
        request = AppendRequest(
            request_id=str(uuid_utils.uuid7()), events=[NewEvent(data=as_event(event)) for event in events]
        )
        return (await self.ledger.append(self.scope, request)).refusal


async def launch(
    store: ObjectStore,
    reader: PublishedReader,
    manifests: ManifestReader,
    ledger: RunLedger,
    starts: RunStarts,
    scope: Scope,
    run_keys: list[str] | None,
    *,
    most: int = MAX_ACTIVE_RUNS,
    restarts: bool = True,
    begun: Callable[[RunKeyRow], None] = lambda _: None,
    known: Recent[RunRequested] | None = None,
) -> Launched:
    """Launch what is requested under some keys, None: everything that waits, and runs without an end as well.

    A request that names no deployed manifest is another system's, and left to it. `most`: runs under way at once.
    Without `restarts`, runs that have begun are left alone; with it, those of keys that are given read their rows, and
    of all others those that nothing executes are started. `begun` is called with each request whose run has begun.
    `known`: requests that were read before, as each look at everything needs all that may begin.
    Raises `DamagedObject`, `Refused` if the ledger does not answer, and the store's errors.
    """
    snapshot = await reader.snapshot(scope, _TABLES)
    known = Recent(MOST_KNOWN) if known is None else known
    launching = _Launch(ScopedStore(store, scope), reader, manifests, ledger, starts, scope, most, begun, known)
    return await launching.make(snapshot, run_keys, restarts=restarts)


def asked_for(snapshot: StateSnapshot, run_keys: list[str] | None) -> tuple[list[RunKeyRow], list[str]]:
    """Return the requests without a run, and the runs without an end, of the keys given or of all."""
    index, runs = snapshot["run_key_index"], snapshot["runs"]
    if run_keys is None:
        known = [key for key in runs.keys if isinstance(key, str)]
        waiting = [
            RunKeyRow(*cast(Any, row))
            for row in index.select(unlike(index.table, "run_id", known, "code_version", is_of_a_manifest))
        ]
        return waiting, [run.run_id for run in active_runs(snapshot)]
    requested, begun = [], []
    rows = index.get_all(run_keys)
    asked = [RunKeyRow(*cast(Any, rows[key])) for key in run_keys if key in rows]
    theirs = runs.get_all(request.run_id for request in asked)
    for request in asked:
        found = theirs.get(request.run_id)
        if found is None and is_of_a_manifest(request.code_version):
            requested.append(request)
        elif found is not None:
            run = RunRow(*cast(Any, found))
            if run.state not in FINISHED_RUN and is_of_a_manifest(run.code_version):
                begun.append(run.run_id)
    return requested, begun


def kept_free(most: int) -> int:
    """Return how many of the runs that may be under way at once are kept from backfills, for what is asked for now."""
    return most // FREE_SHARE


def is_of_a_backfill(row: RunKeyRow) -> bool:
    """Say whether a request is one of a backfill's."""
    return row.run_key.startswith(BACKFILL_RUN_KEYS)


def _allowed(waiting: Sequence[_Request], most: int, room: int) -> list[_Request]:
    """Return the requests whose runs may begin, of those that wait in their order, where `room` is left."""
    found: list[_Request] = []
    for request in waiting:
        if len(found) >= room:
            break
        if _has_place(request.row, most, room - len(found)):
            found.append(request)
    return found


def _has_place(row: RunKeyRow, most: int, room: int) -> bool:
    """Say whether a request may begin where `room` of `most` places is left."""
    return room > (kept_free(most) if is_of_a_backfill(row) else 0)


def active_runs(snapshot: StateSnapshot) -> list[RunRow]:
    """Return the runs of deployed manifests that have not ended."""
    rows = snapshot["runs"].select(equals(RUNS, "state", [TRIGGERED, RUNNING]))
    runs = [RunRow(*cast(Any, row)) for row in rows]
    return [run for run in runs if is_of_a_manifest(run.code_version)]


async def read_request(store: ObjectStore, row: RunKeyRow) -> RunRequested:
    """Return the request that a row names; `store` is the workspace's part. Raises `DamagedObject`."""
    path = canonical_ulid_event(row.row_version)
    stored = await store.get(path)
    if stored is None:
        raise DamagedObject(path, "is missing, and run_key_index names it", "restore it from a copy")
    data = parse_event(stored.data).data
    if not isinstance(data, RunRequested):
        raise DamagedObject(path, "is no run_requested, and run_key_index names it", "restore it from a copy")
    return data


async def origin_of(reader: PublishedReader, scope: Scope, row: RunKeyRow, data: RunRequested) -> RunOrigin:
    """Return where a run comes from that is requested by an event."""
    said = member_of(data, RunRequestedMember) or RunRequestedMember()
    return RunOrigin(
        run_id=row.run_id,
        run_key=row.run_key,
        trigger=_trigger(data),
        root_assets=data.asset_selection,
        manifest_id=data.code_version,
        request_event_id=row.row_version,
        labels=data.labels,
        config=said.config,
        effects_scope=await _effects_scope(reader, scope, said),
    )


async def _effects_scope(reader: PublishedReader, scope: Scope, said: RunRequestedMember) -> str | None:
    """Return the run whose sealed write sets a rerun of what failed goes on with; None for the run's own."""
    if said.parent_run_id is None or said.rerun != "failed":
        return None
    snapshot = await reader.snapshot(scope, ("x_runs",))
    own = await asyncio.to_thread(own_row, snapshot, said.parent_run_id)
    return effects_scope(said.parent_run_id, own)


def _fits_a_start(said: RunRequestedMember, tasks: Sequence[PlannedTask]) -> bool:
    """Say whether a run's beginning can be told to its workflow; a rerun's needs the rows of its parents."""
    return said.parent_run_id is None and len(tasks) <= MOST_TOLD


def _trigger(data: RunRequested) -> Trigger:
    source = data.trigger_source_ref
    if isinstance(source, ScheduleRef):
        return CronTrigger(schedule_id=source.schedule_id)
    if isinstance(source, SensorRef):
        return SensorTrigger(sensor_id=source.sensor_id, cursor="")
    if isinstance(source, BackfillRef):
        return ManualTrigger(user_id=f"backfill {source.backfill_id}")
    return ManualTrigger(user_id=source.user_id)
