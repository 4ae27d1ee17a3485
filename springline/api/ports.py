"""Ports of the HTTP surface to the rest: `entrypoints.api` fills them, and tests imitate them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from prometheus_client import CollectorRegistry

from springline.api.auth import TokenVerifier
from springline.delta.messages import CommitOutcome, CommitRequest
from springline.delta.table_request import AdoptTable, CreateTable, TableEntry
from springline.ledger.request import AppendOutcome, AppendRequest, IngestOutcome, IngestRequest
from springline.paths import Scope
from springline.rebuild.messages import RebuildRequest, RebuildView
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
    """The workflows of runs. Neither method raises: what is recorded in the ledger is done sooner or later."""

    async def launch(self, scope: Scope, run_key: str) -> None:
        """Let a run that is requested begin, and wait for that a moment; whatever fails, the launcher looks again."""

    async def cancel(self, scope: Scope, run_id: str, requested_by: str, reason: str | None) -> bool:
        """Let a run cancel itself; False if it does not answer, and the cancellation is the caller's to record."""


Probe = Callable[[], Awaitable[None]]
"""Returns if the part that it checks works; raises otherwise."""


@dataclass(frozen=True, slots=True)
class Deps:
    """The parts of the application.

    `store` is the whole store, of all workspaces; `location(scope, root)` is the URL by which readers open a table;
    `new_name` makes names of staged payloads and ids of requests that are never used twice; `/ready` runs the `probes`,
    by name; it reports failed `warnings` and is ready all the same. `store_id` is the store's id.
    """

    store: ObjectStore
    tables: Tables
    commits: Commits
    sequencers: Sequencers
    ledger: Ledgers
    rebuilds: Rebuilds
    runs: Runs
    verifier: TokenVerifier
    location: Callable[[Scope, str], str]
    new_name: Callable[[], str]
    probes: Mapping[str, Probe] = field(default_factory=dict)
    warnings: Mapping[str, Probe] = field(default_factory=dict)
    store_id: Callable[[], Awaitable[str]] | None = None
    metrics: CollectorRegistry = field(default_factory=CollectorRegistry)
