"""What the HTTP surface needs of the rest: ports that `entrypoints.api` fills and tests imitate."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from prometheus_client import CollectorRegistry

from springline.api.auth import TokenVerifier
from springline.delta.registry import TableEntry
from springline.delta.request import CommitRequest, Outcome
from springline.delta.table_request import AdoptTable, CreateTable
from springline.ledger.request import AppendOutcome, AppendRequest, IngestOutcome, IngestRequest
from springline.paths import Scope
from springline.rebuild.messages import RebuildRequest, RebuildView
from springline.storage.port import ObjectStore


class Tables(Protocol):
    """Making tables known. Both raise `Refused`, UNAVAILABLE if there is no answer in time."""

    async def create(self, scope: Scope, spec: CreateTable) -> TableEntry:
        """Create a table (version 0) and register it."""

    async def adopt(self, scope: Scope, spec: AdoptTable) -> TableEntry:
        """Register an existing Delta folder."""


class Commits(Protocol):
    """Committing one request; `springline.commit.coalescer.Coalescer` is one."""

    async def commit(self, scope: Scope, table_id: str, request: CommitRequest) -> Outcome:
        """Return what became of the request; UNAVAILABLE if that cannot be told in time."""


class Sequencers(Protocol):
    """Asking the workflows that sequence tables."""

    async def status(self, scope: Scope, table_id: str) -> dict[str, Any] | None:
        """Return what the table's sequencer is doing, None if it rests or cannot be asked just now."""


class Ledger(Protocol):
    """Appending to the ledger of a workspace; its sequencer is the only writer (docs/protocol.md#ledger-rounds)."""

    async def append(self, scope: Scope, request: AppendRequest) -> AppendOutcome:
        """Return what became of the events, a refusal included; raises `Refused` (UNAVAILABLE) if that is not known."""

    async def ingest(self, scope: Scope, request: IngestRequest) -> IngestOutcome:
        """Return what became of foreign events; raises `Refused` (UNAVAILABLE) if that is not known."""

    async def status(self, scope: Scope) -> dict[str, Any] | None:
        """Return what the sequencer is doing, with its lag; None if it rests or cannot be asked just now."""


class Rebuilds(Protocol):
    """Rebuilding the projections of a workspace, one rebuild at a time (docs/protocol.md#rebuild).

    All raise `Refused`, UNAVAILABLE if there is no answer in time.
    """

    async def start(self, scope: Scope, request: RebuildRequest) -> str:
        """Start a rebuild and return its run id; raises `Refused` (REBUILD_UNDER_WAY) if one is running."""

    async def result(self, scope: Scope, run_id: str, wait_s: float) -> dict[str, Any] | None:
        """Return what a run came to, None if it still runs after `wait_s` seconds; raises `Refused` if it failed."""

    async def view(self, scope: Scope, run_id: str | None = None) -> RebuildView | None:
        """Return how far a run is, by default the newest; None if there is none."""

    async def cancel(self, scope: Scope) -> RebuildView | None:
        """Ask the run that is under way to end, and return it; None if there is none."""


Probe = Callable[[], Awaitable[None]]
"""Returns if what it looks at works; raises otherwise."""


@dataclass(frozen=True, slots=True)
class Deps:
    """Everything the application is made of.

    `store` is the whole store, of all workspaces; `location(scope, root)` is the URL readers open a table by;
    `new_name` makes names of staged payloads and ids of requests that are never used twice; `probes` are what
    `/ready` looks at, by name; what `warnings` look at it tells and is ready all the same. `store_id` tells which store
    this is.
    """

    store: ObjectStore
    tables: Tables
    commits: Commits
    sequencers: Sequencers
    ledger: Ledger
    rebuilds: Rebuilds
    verifier: TokenVerifier
    location: Callable[[Scope, str], str]
    new_name: Callable[[], str]
    probes: Mapping[str, Probe] = field(default_factory=dict)
    warnings: Mapping[str, Probe] = field(default_factory=dict)
    store_id: Callable[[], Awaitable[str]] | None = None
    metrics: CollectorRegistry = field(default_factory=CollectorRegistry)
