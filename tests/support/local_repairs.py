"""Repair without Temporal: the real look and the real decisions, over workflows of which a test says which are open."""

from __future__ import annotations

import time

from springline.control.repair import (
    RepairLookOrder,
    RepairReport,
    RepairsMade,
    RepairStatus,
    RepairTry,
    remembered,
    report_of,
)
from springline.paths import Scope
from springline.published.reader import PublishedReader
from springline.repairing import CannotList, OpenWorkflow, look, make_repair
from springline.runs.launching import MAX_ACTIVE_RUNS
from springline.storage.port import ObjectStore
from tests.support.local_runs import LocalRuns


class LocalWorkflows:
    """The port `RepairedWorkflows`. `open`: the workflows of runs, None: they cannot be listed. `done`: what was done.

    `broken`: subjects of which nothing can be repaired.
    """

    def __init__(self, runs: LocalRuns | None = None) -> None:
        self.open: list[OpenWorkflow] | None = []
        self.done: list[tuple[str, str]] = []
        self.asked: list[str] = []
        self.broken: set[str] = set()
        self.sensors: set[str] = set()
        self.backfills: set[str] = set()
        self.evaluator = True
        self.trouble: str | None = None
        self._runs = runs

    async def open_runs(self, scope: Scope) -> list[OpenWorkflow]:
        if self.open is None:
            raise CannotList("there is no index")
        return list(self.open)

    async def is_open(self, scope: Scope, run_id: str) -> bool:
        self.asked.append(run_id)
        started = [] if self._runs is None else self._runs.started
        return run_id in started or any(one.run_id == run_id for one in self.open or [])

    async def is_backfill_open(self, scope: Scope, backfill_id: str) -> bool:
        return backfill_id in self.backfills

    async def wake_backfill(self, scope: Scope, backfill_id: str) -> None:
        self._do("backfill", backfill_id)
        self.backfills.add(backfill_id)

    async def start(self, scope: Scope, run_id: str) -> None:
        self._do("start", run_id)
        if self._runs is not None:
            self._runs.started.append(run_id)

    async def wake_run(self, scope: Scope, run_id: str) -> None:
        self._do("wake", run_id)

    async def terminate(self, scope: Scope, run_id: str, workflow_run_id: str, reason: str) -> None:
        self._do("terminate", workflow_run_id)

    async def wake_launcher(self, scope: Scope, run_keys: list[str], *, looks: bool) -> None:
        assert (run_keys, looks) == ([], True)
        self._do("launcher", "")

    async def open_sensors(self, scope: Scope) -> set[str]:
        if self.open is None:
            raise CannotList("there is no index")
        return set(self.sensors)

    async def wake_sensor(self, scope: Scope, sensor_id: str) -> None:
        self._do("sensor", sensor_id)

    async def start_ledger(self, scope: Scope) -> None:
        self._do("ledger", "")

    async def has_evaluator(self, scope: Scope) -> bool:
        return self.evaluator

    async def evaluator_trouble(self, scope: Scope) -> str | None:
        return self.trouble

    async def wake_evaluator(self, scope: Scope) -> None:
        self._do("evaluator", "wake")

    async def restart_evaluator(self, scope: Scope) -> None:
        self._do("evaluator", "restart")

    def _do(self, what: str, subject: str) -> None:
        if subject in self.broken:
            raise OSError("no way to it")
        self.done.append((what, subject))


class LocalRepairs:
    """The port `springline.api.ports.Repairs`. `now_ms`: the time, None: that of the clock."""

    def __init__(self, store: ObjectStore, runs: LocalRuns | None = None) -> None:
        self.workflows = LocalWorkflows(runs)
        self.now_ms: int | None = None
        self.is_away = False
        self._store = store
        self._reader = PublishedReader(store)
        self._tried: list[RepairTry] = []
        self._status = RepairStatus()

    async def run(self, scope: Scope, *, dry_run: bool) -> RepairReport:
        now_ms = int(time.time() * 1_000) if self.now_ms is None else self.now_ms
        order = RepairLookOrder(tenant=scope.tenant, workspace=scope.workspace, now_ms=now_ms, tried=self._tried)
        seen = await look(self._store, self._reader, self.workflows, order, most_active=MAX_ACTIVE_RUNS)
        plan = seen.plan
        if dry_run:
            return report_of(seen, self._tried, now_ms, None)
        failed = {}
        for place, one in enumerate(plan.due):
            try:
                await make_repair(self.workflows, scope, one)
            except OSError as error:
                failed[place] = str(error)
        report = report_of(seen, self._tried, now_ms, RepairsMade(failed=failed))
        self._tried = remembered(seen.findings, self._tried, plan.due, now_ms)
        self._status = RepairStatus(passes=self._status.passes + 1, last=report)
        return report

    async def status(self, scope: Scope) -> RepairStatus | None:
        return None if self.is_away else self._status
