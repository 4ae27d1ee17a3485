"""One workspace's ledger on a cluster, everything this test appended to it, and what must be there in the end."""

from __future__ import annotations

import asyncio
import itertools
import sys
import time
from asyncio.subprocess import PIPE, Process, create_subprocess_exec
from collections import Counter

import uuid_utils
from temporalio.client import Client

from entrypoints.connection import connect
from entrypoints.temporal_ledger import TemporalLedgerGateway
from springline import names, paths
from springline.ledger.envelope import parse_event
from springline.ledger.request import (
    AppendMode,
    AppendOutcome,
    AppendRequest,
    IngestOutcome,
    IngestRequest,
    VisibilityStatus,
)
from springline.paths import Scope
from springline.projection.config import FoldConfig
from springline.projection.digest import Digest
from springline.projection.fold.loop import fold_event
from springline.projection.schema import TABLES
from springline.projection.state import State
from springline.published.head import read_head
from springline.sequencer.coalescer import LedgerCoalescer
from springline.storage.local import LocalStore
from springline.storage.scoped import ScopedStore
from springline.ulids import new_ulid
from tests.server.cluster import DEADLINE_S, Cluster
from tests.support.ledger_events import each_request, planned, put_foreign, run_request, started, triggered
from tests.support.sequencer_world import NOW_MS

CALLER = "tests.server.ledger_caller"


class Appends:
    """A workspace of its own, its callers, and the answers they got."""

    def __init__(self, cluster: Cluster, client: Client, scope: Scope | None = None) -> None:
        self.cluster = cluster
        self.client = client
        self.scope = scope or Scope("acme", f"w-{uuid_utils.uuid7()}")
        self.store = LocalStore(cluster.store_folder, fsync=False)
        self.scoped = ScopedStore(self.store, self.scope)
        self.answers: dict[str, tuple[AppendRequest, AppendOutcome]] = {}
        self.foreign: set[str] = set()
        """Paths of the foreign events that were accepted."""
        self._ids = itertools.count()
        self._callers: list[LedgerCoalescer] = []

    @classmethod
    async def open(cls, cluster: Cluster, scope: Scope | None = None) -> Appends:
        client = await connect(address=cluster.stack.temporal_address)
        return cls(cluster, client, scope)

    async def reconnect(self) -> None:
        """Connect to the server that is there now."""
        self.client = await connect(address=self.cluster.stack.temporal_address)

    @property
    def workflow_id(self) -> str:
        return names.ledger_workflow_id(self.scope.tenant, self.scope.workspace)

    def caller(self) -> LedgerCoalescer:
        """Return what one caller process has: a gateway and coalescers of its own."""
        caller = LedgerCoalescer(TemporalLedgerGateway(self.client), deadline_s=DEADLINE_S)
        self._callers.append(caller)
        return caller

    def request(self) -> AppendRequest:
        """Return a request that starts and plans a run nobody has started; every other one has an event too early."""
        number = next(self._ids)
        run = f"run-{number}"
        if number % 2 == 0:
            return run_request(run)
        return each_request(triggered(run), started(run, "a"), planned(run, "a", "b"))

    async def append(self, caller: LedgerCoalescer, request: AppendRequest) -> AppendOutcome:
        """Append events that must become visible, and note the answer."""
        outcome = await caller.append(self.scope, request)
        assert outcome.refusal is None, outcome
        assert outcome.visibility_status is VisibilityStatus.VISIBLE
        assert [one.index for one in outcome.refused] == ([1] if request.mode is AppendMode.EACH else [])
        self.note(request, outcome)
        return outcome

    def note(self, request: AppendRequest, outcome: AppendOutcome) -> None:
        """Take note of an answer, which is the same as every other one to this request."""
        known = self.answers.get(request.request_id)
        assert known is None or known[1].results == outcome.results
        self.answers[request.request_id] = (request, outcome)

    async def put_foreign(self, number: int) -> str:
        """Write an event below everything of ours, as another implementation does, and return its path."""
        event_id = new_ulid(None, NOW_MS, number)
        return await put_foreign(self.store, self.scope, event_id, triggered(f"foreign-{number}"))

    async def ingest(self, caller: LedgerCoalescer, event_paths: list[str]) -> IngestOutcome:
        """Take in foreign events, which must become visible, and note them."""
        outcome = await caller.ingest(self.scope, IngestRequest(event_paths=event_paths))
        assert outcome.refusal is None, outcome
        assert outcome.visibility_status is VisibilityStatus.VISIBLE
        self.foreign.update(event_paths)
        return outcome

    async def start_caller(self, name: str, *, callers: int, requests: int) -> Process:
        """Start a caller process: `callers` at once, `requests` each, one after the other."""
        return await create_subprocess_exec(
            *(sys.executable, "-m", CALLER, self.scope.tenant, self.scope.workspace, name, str(callers), str(requests)),
            env=self.cluster.stack.child_environment(),
            stdout=PIPE,
        )

    async def check(self) -> None:
        """Check that all events are there once, that the state is theirs, and that answers stand."""
        head = await read_head(self.scoped)
        assert head is not None
        ours = head.manifest.springline
        assert ours is not None
        bodies = self.event_files()
        answered = Counter(event.event_id for _, outcome in self.answers.values() for event in outcome.events)
        foreign = {paths.event_id_from_ledger_path(path) for path in self.foreign}
        assert set(bodies) == set(answered) | foreign
        assert set(answered.values()) == {1}
        assert ours.events.count == len(bodies)
        assert ours.digest.whole == self.folded(bodies)
        caller = self.caller()
        known = list(self.answers.values())
        again = await asyncio.gather(*(caller.append(self.scope, request) for request, _ in known))
        assert all(outcome.replayed for outcome in again)
        assert [outcome.events for outcome in again] == [outcome.events for _, outcome in known]
        assert [outcome.refused for outcome in again] == [outcome.refused for _, outcome in known]

    def event_files(self) -> dict[str, bytes]:
        """Return every event object of the workspace by its id, from the folder itself."""
        folder = self.cluster.store_folder / self.scope.full(paths.ledger_prefix())
        return {file.stem: file.read_bytes() for file in folder.glob("*/*.json")}

    def folded(self, bodies: dict[str, bytes]) -> str:
        """Return the digest of the state that these events make, folded here in the order of their ids."""
        state = State(FoldConfig(self.scope.tenant, self.scope.workspace))
        for event_id in sorted(bodies):
            fold_event(state, parse_event(bodies[event_id]))
        return Digest.of({table: state.rows(table) for table in TABLES}).whole()

    async def aclose(self) -> None:
        for caller in self._callers:
            await caller.aclose()
        await self.store.aclose()


class Stopwatch:
    """Seconds since it was made."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._began
