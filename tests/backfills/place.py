"""A workspace with partitioned assets, its backfills, and runs that end as a test says; without Temporal."""

from __future__ import annotations

from collections import Counter
from typing import Any

import uuid_utils

from springline.backfills.changing import Backfills, ChangedBackfill, NothingStale
from springline.backfills.evaluating import BackfillPasses
from springline.backfills.keys import KeyLists
from springline.backfills.reading import counted, known_backfill, progress_of
from springline.backfills.requests import parsed_backfill
from springline.control.backfills.messages import BackfillProgress, EvaluatedBackfill
from springline.control.runs.messages import LoadedRun
from springline.definitions.manifest import CodeLocation
from springline.deployed.deploying import deploy
from springline.deployed.reading import ManifestReader
from springline.ledger.request import AppendRequest, NewEvent
from springline.paths import Scope
from springline.published.reader import PublishedReader
from springline.runs.backfilled import TABLES
from springline.runs.launching import launch
from springline.storage.memory import MemoryStore
from springline.storage.scoped import ScopedStore
from tests.control.payloads import finished, started
from tests.support.definitions import asset, ids, part
from tests.support.local_api import ACME
from tests.support.local_ledger import LocalLedger, now_ms

DAILY = {"kind": "daily", "start": "2024-01-01"}
MOST_PASSES = 500


class Place:
    """`failing`: tasks that fail. `code`: the version that makes them. `asker`: who asks
    for backfills. `started`: runs whose workflow is started."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.ledger = LocalLedger(self.store)
        self.reader = PublishedReader(self.store)
        self.manifests = ManifestReader()
        self.failing: set[str] = set()
        self.code: str | None = None
        self.asker: str | None = None
        self.started: list[str] = []
        self.looked_after: list[str] = []
        self.deploys = 0

    async def deploy(self, *assets: dict[str, Any]) -> None:
        self.deploys += 1
        location: CodeLocation = part("flights", *assets)
        await deploy(ScopedStore(self.store, ACME), location, ids(self.deploys))

    @property
    def backfills(self) -> Backfills:
        return Backfills(self.store, self.reader, self.manifests, self.ledger, ACME, now_ms)

    async def create(self, request_id: str = "r1", **asked: Any) -> ChangedBackfill:
        found = await self.asked(request_id, **asked)
        assert isinstance(found, ChangedBackfill)
        return found

    async def asked(self, request_id: str = "r1", **asked: Any) -> ChangedBackfill | NothingStale:
        return await self.backfills.create(parsed_backfill({"select": ["raw"]} | asked), request_id, self.asker)

    async def evaluate(self, backfill_id: str, *, reader: PublishedReader | None = None) -> EvaluatedBackfill:
        passes = BackfillPasses(self.store, reader or self.reader, self.manifests, KeyLists(self.store), self.ledger)
        return await passes.evaluate(ACME, backfill_id, now_ms())

    async def settled(self, backfill_id: str) -> EvaluatedBackfill:
        """Make passes until one says that something has to change first."""
        for _ in range(MOST_PASSES):
            found = await self.evaluate(backfill_id)
            if found.next_ms is None:
                return found
        raise AssertionError(f"it never settles: {found}")

    async def launch(self) -> None:
        await launch(self.store, self.reader, self.manifests, self.ledger, self, ACME, None)

    async def start(self, scope: Scope, run_id: str, loaded: LoadedRun | None = None) -> None:
        self.started.append(run_id)

    async def start_missing(self, scope: Scope, run_id: str) -> None:
        self.looked_after.append(run_id)

    async def run_all(self) -> None:
        """Launch what waits, and bring every task to its end."""
        await self.launch()
        events: list[dict[str, Any]] = []
        for task in await self.rows("tasks"):
            if task["state"] != "READY":
                continue
            key, run = task["task_key"], task["run_id"]
            outcome, more = "succeeded", dict[str, Any]()
            said = {"asset_key": task["asset_key"], "partition_key": task["partition_key"], "code_version": self.code}
            more |= {name: value for name, value in said.items() if value is not None}
            if key in self.failing:
                outcome = "failed"
                more["error"] = {"category": "USER_CODE", "message": "no", "retryable": False}
            events += [started(key, run=run), finished(outcome, key, run=run, **more)]
        for at in range(0, len(events), 500):
            await self.append(*events[at : at + 500])

    async def finish(self, backfill_id: str) -> EvaluatedBackfill:
        """Go on until the backfill is over."""
        for _ in range(MOST_PASSES):
            found = await self.settled(backfill_id)
            if found.is_over:
                return found
            await self.run_all()
        raise AssertionError(f"it never ends: {found}")

    async def progress(self, backfill_id: str) -> BackfillProgress:
        snapshot = await self.reader.snapshot(ACME, TABLES)
        known = known_backfill(snapshot, backfill_id)
        assert known is not None
        return progress_of(known, counted(snapshot, backfill_id, now_ms()), now_ms())

    async def rows(self, table: str) -> list[dict[str, Any]]:
        snapshot = await self.reader.snapshot(ACME, [table])
        columns = [column.name for column in snapshot[table].table.columns]
        return [dict(zip(columns, row, strict=True)) for row in snapshot[table]]

    async def row(self, backfill_id: str) -> dict[str, Any]:
        (found,) = [row for row in await self.rows("backfills") if row["backfill_id"] == backfill_id]
        return found

    async def made(self) -> Counter[str]:
        """Return how often each task was planned."""
        return Counter(task["task_key"] for task in await self.rows("tasks"))

    async def append(self, *events: dict[str, Any]) -> None:
        request = AppendRequest(request_id=str(uuid_utils.uuid7()), events=[NewEvent(data=one) for one in events])
        outcome = await self.ledger.append(ACME, request)
        assert outcome.refusal is None, outcome.refusal


async def place_with(*assets: dict[str, Any]) -> Place:
    place = Place()
    await place.deploy(*(assets or (asset("raw", partitions=DAILY), asset("whole"))))
    return place
