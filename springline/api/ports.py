"""Ports of the HTTP surface to the rest: `entrypoints.api` fills them, and tests imitate them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from prometheus_client import CollectorRegistry

from springline.api.auth import TokenVerifier
from springline.control.repair import RepairReport, RepairStatus
from springline.control.runs.messages import RunDoing
from springline.control.sensors.messages import SensorAsked, SensorDecision, SensorDoing
from springline.definitions.urls import AllowedUrls
from springline.delta.messages import CommitOutcome, CommitRequest
from springline.delta.table_request import AdoptTable, CreateTable, TableEntry
from springline.ledger.request import AppendOutcome, AppendRequest, IngestOutcome, IngestRequest
from springline.paths import Scope
from springline.rebuild.messages import RebuildRequest, RebuildView
from springline.runs.task_tokens import TaskTokens
from springline.storage.port import ObjectStore


class Tables(Protocol):
    """Registering tables. Both raise `Refused`, UNAVAILABLE if there is no answer in time."""

    async def create(self, scope: Scope, spec: CreateTable) -> TableEntry:
        """Create a table (version 0) and register it."""

    async def adopt(self, scope: Scope, spec: AdoptTable) -> TableEntry:
        """Register an existing Delta folder."""


class Commits(Protocol):
    """Committing one request; `springline.commit.coalescer.CommitCoalescer` is one."""

    async def commit(self, scope: Scope, table_id: str, request: CommitRequest) -> CommitOutcome:
        """Return the outcome of the request; UNAVAILABLE if it is not known in time."""


class Sequencers(Protocol):
    """Queries of the workflows that sequence tables."""

    async def status(self, scope: Scope, table_id: str) -> dict[str, Any] | None:
        """Return what the table's sequencer is doing, None if it is not running or does not answer now."""


class Ledgers(Protocol):
    """Appending to the ledger of a workspace; its sequencer is the only writer (docs/protocol.md#ledger-rounds)."""

    async def append(self, scope: Scope, request: AppendRequest) -> AppendOutcome:
        """Return the outcome of the events, which may be a refusal; raises `Refused` (UNAVAILABLE) if unknown."""

    async def ingest(self, scope: Scope, request: IngestRequest) -> IngestOutcome:
        """Return the outcome of foreign events; raises `Refused` (UNAVAILABLE) if unknown."""

    async def status(self, scope: Scope) -> dict[str, Any] | None:
        """Return what the sequencer is doing, with its lag; None if it is not running or does not answer now."""


class Rebuilds(Protocol):
    """Rebuilding the projections of a workspace, one rebuild at a time (docs/protocol.md#rebuild).

    All raise `Refused`, UNAVAILABLE if there is no answer in time.
    """

    async def start(self, scope: Scope, request: RebuildRequest) -> str:
        """Start a rebuild and return its run id; raises `Refused` (REBUILD_UNDER_WAY) if one is running."""

    async def result(self, scope: Scope, run_id: str, wait_s: float) -> dict[str, Any] | None:
        """Return the result of a run, None if it still runs after `wait_s` seconds; raises `Refused` if it failed."""

    async def view(self, scope: Scope, run_id: str | None = None) -> RebuildView | None:
        """Return the progress of a run, by default the newest; None if there is none."""

    async def cancel(self, scope: Scope) -> RebuildView | None:
        """Cancel the run that is under way, and return it; None if there is none."""


class Runs(Protocol):
    """The workflows of runs. No method raises: what is recorded in the ledger is done sooner or later."""

    async def launch(self, scope: Scope, run_key: str) -> None:
        """Let a run that is requested begin, and wait for that a moment; whatever fails, the launcher looks again."""

    async def cancel(self, scope: Scope, run_id: str, requested_by: str, reason: str | None) -> bool:
        """Let a run cancel itself; False if it does not answer, and the cancellation is the caller's to record."""

    async def wake(self, scope: Scope, run_id: str) -> None:
        """Tell a run that its rows have changed; one that is not told looks by itself."""

    async def status(self, scope: Scope, run_id: str) -> RunDoing | None:
        """Return what a run is doing and waits for; None if no workflow executes it, or it does not answer now."""


class Repairs(Protocol):
    """The workflow that repairs what stands still in a workspace."""

    async def run(self, scope: Scope, *, dry_run: bool) -> RepairReport:
        """Have the workspace looked at now, and repaired unless `dry_run`; raises `Refused` (UNAVAILABLE)."""

    async def status(self, scope: Scope) -> RepairStatus | None:
        """Return what it has found and done; None if it does not run, or does not answer now."""


class SensorWorkflows(Protocol):
    """The workflows of sensors."""

    async def status(self, scope: Scope, sensor_id: str) -> SensorDoing | None:
        """Return what a sensor is doing and has decided; None if no workflow of it runs, or it does not answer now."""

    async def evaluate(self, scope: Scope, sensor_id: str, asked: SensorAsked) -> SensorDecision:
        """Evaluate a sensor now; raises `Refused`: EVENT_CONFLICT if it cannot be, UNAVAILABLE without an answer."""

    async def wake(self, scope: Scope, sensor_ids: Sequence[str]) -> None:
        """Tell sensors that they were deployed, and start their workflows; whatever fails, Repair starts them."""


Probe = Callable[[], Awaitable[None]]
"""Returns if the part that it checks works; raises otherwise."""


@dataclass(frozen=True, slots=True)
class Deps:
    """The parts of the application.

    `store` is the whole store, of all workspaces; `location(scope, root)` is the URL by which readers open a table;
    `new_name` makes names of staged payloads and ids of requests that are never used twice; `/ready` runs the `probes`,
    by name; it reports failed `warnings` and is ready all the same. `store_id` is the store's id. `task_tokens`
    verifies callbacks of workers over HTTP, None: there are none. `http_workers`: the URLs that operators allow them.
    """

    store: ObjectStore
    tables: Tables
    commits: Commits
    sequencers: Sequencers
    ledger: Ledgers
    rebuilds: Rebuilds
    runs: Runs
    repairs: Repairs
    sensors: SensorWorkflows
    verifier: TokenVerifier
    location: Callable[[Scope, str], str]
    new_name: Callable[[], str]
    probes: Mapping[str, Probe] = field(default_factory=dict)
    warnings: Mapping[str, Probe] = field(default_factory=dict)
    store_id: Callable[[], Awaitable[str]] | None = None
    task_tokens: TaskTokens | None = None
    http_workers: AllowedUrls = field(default_factory=AllowedUrls)
    metrics: CollectorRegistry = field(default_factory=CollectorRegistry)
