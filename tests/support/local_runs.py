"""The workflows of runs without Temporal: requests are launched by the real step, and nothing executes a task."""

from __future__ import annotations

from msgspec import to_builtins
from uuid_utils import uuid7

from springline.api.ports import Ledgers
from springline.control.runs.messages import LoadedRun, RunDoing
from springline.deployed.reading import ManifestReader
from springline.ledger.events import RunCancelRequested
from springline.ledger.request import AppendRequest, NewEvent
from springline.paths import Scope
from springline.published.reader import PublishedReader
from springline.runs.launching import launch
from springline.storage.port import ObjectStore


class LocalRuns:
    """The port `Runs`. `launches`: whether the launcher is there; `answers`: whether runs cancel themselves;
    `doing`: what they say of themselves."""

    def __init__(self, store: ObjectStore, ledger: Ledgers) -> None:
        self._store = store
        self._ledger = ledger
        self._reader = PublishedReader(store)
        self._manifests = ManifestReader()
        self.launches = True
        self.answers = False
        self.asked: list[str] = []
        self.started: list[str] = []
        self.looked_after: list[str] = []
        self.doing: dict[str, RunDoing] = {}
        self.woken: list[str] = []
        self.cancelled: list[tuple[str, str, str | None]] = []

    async def launch(self, scope: Scope, run_key: str) -> None:
        self.asked.append(run_key)
        if self.launches:
            await launch(self._store, self._reader, self._manifests, self._ledger, self, scope, [run_key])

    async def start(self, scope: Scope, run_id: str, loaded: LoadedRun | None = None) -> None:
        self.started.append(run_id)

    async def start_missing(self, scope: Scope, run_id: str) -> None:
        self.looked_after.append(run_id)

    async def cancel(self, scope: Scope, run_id: str, requested_by: str, reason: str | None) -> bool:
        self.cancelled.append((run_id, requested_by, reason))
        if self.answers:
            event = NewEvent(data=to_builtins(RunCancelRequested(run_id, requested_by, reason)))
            await self._ledger.append(scope, AppendRequest(request_id=str(uuid7()), events=[event]))
        return self.answers

    async def status(self, scope: Scope, run_id: str) -> RunDoing | None:
        return self.doing.get(run_id)

    async def wake(self, scope: Scope, run_id: str) -> None:
        self.woken.append(run_id)
