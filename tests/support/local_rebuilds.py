"""Rebuilds without Temporal: the manifest is judged in earnest, what follows is as the test says."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from typing import Any

from uuid_utils import uuid7

from springline.errors import Code, Refusal, Refused, refused
from springline.paths import Scope, rebuild_report
from springline.projection.config import FoldConfig
from springline.rebuild.messages import PlanOrder, RebuildPlan, RebuildRequest, RebuildView, RunStatus, Step
from springline.rebuild.plan import plan_rebuild
from springline.sequencer.messages import WorkspaceRef
from springline.storage.port import ObjectStore
from springline.storage.scoped import ScopedStore
from workflows.rebuild_messages import DONE, READING, RebuildProgress, RebuildResult


class LocalRebuilds:
    """One rebuild at a time for each workspace. While `held`, a run that was planned does not end.

    `outcome` is laid over the result of a run that ends; `failure` is why it fails instead, `found` laid over its view.
    """

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._runs: dict[Scope, list[RebuildView]] = {}
        self.asked: list[RebuildRequest] = []
        self.held = False
        self.looks: int | None = None
        """How often a held run is looked at before it ends; None: it is held until it is told otherwise."""
        self.worker = True
        self.outcome: dict[str, Any] = {}
        self.failure: Refusal | None = None
        self.found: dict[str, Any] = {}

    async def start(self, scope: Scope, request: RebuildRequest) -> str:
        running = self._newest(scope)
        if running is not None and not running.ended:
            raise refused(Code.REBUILD_UNDER_WAY, f"run {running.run_id}", field="rebuild", remedy="Watch it.")
        self.asked.append(request)
        run_id = str(uuid7())
        view = RebuildView(
            workflow_id=f"rebuild/{scope.tenant}/{scope.workspace}",
            run_id=run_id,
            status=RunStatus.RUNNING,
            phase=READING,
            percent=12.0,
            started_at=datetime.now(UTC),
        )
        self._runs.setdefault(scope, []).append(view)
        order = PlanOrder(
            workspace=WorkspaceRef(tenant=scope.tenant, workspace=scope.workspace),
            rebuild_manifest_path=request.rebuild_manifest_path,
            mode=request.mode,
            now_ms=int(time.time() * 1000),
        )
        try:
            plan = await plan_rebuild(ScopedStore(self._store, scope), FoldConfig(scope.tenant, scope.workspace), order)
        except Refused as error:
            self._put(scope, view, status=RunStatus.FAILED, failure=error.refusal)
            return run_id
        progress = RebuildProgress(phase=READING, mode=request.mode.value, events_listed=plan.listed, percent=12.0)
        self._put(
            scope,
            view,
            progress=progress.model_dump(mode="json") if self.worker else None,
            steps=[Step(name="read_slice", attempt=2, started=True, reported=[640], last_failure="a worker died")],
        )
        self._plan, self._mode = plan, request.mode
        return run_id

    async def result(self, scope: Scope, run_id: str, wait_s: float) -> dict[str, Any] | None:
        view = self._end(scope, run_id)
        if view is None:
            await asyncio.sleep(wait_s)
            return None
        if view.failure is not None:
            raise Refused(view.failure)
        return view.result

    async def view(self, scope: Scope, run_id: str | None = None) -> RebuildView | None:
        newest = self._newest(scope)
        if newest is None or run_id not in (None, *(view.run_id for view in self._runs[scope])):
            return None
        if self.held and self.looks is not None:
            self.looks -= 1
            self.held = self.looks >= 0
        return self._end(scope, run_id or newest.run_id) or self._of(scope, run_id or newest.run_id)

    async def cancel(self, scope: Scope) -> RebuildView | None:
        view = self._newest(scope)
        if view is None or view.ended:
            return None
        failure = Refusal(code=Code.REBUILD_CANCELLED, message="cancelled", field="rebuild", remedy="Start it again.")
        self._put(scope, view, status=RunStatus.CANCELLED, failure=failure)
        return view

    def _end(self, scope: Scope, run_id: str) -> RebuildView | None:
        """Return a run that has ended, ending it if it may; None if it goes on."""
        view = self._of(scope, run_id)
        if view.ended:
            return view
        if self.held:
            return None
        if self.failure is not None:
            return self._put(scope, view, status=RunStatus.FAILED, failure=self.failure, steps=[], **self.found)
        result = result_of(self._plan, self._mode.value, self.outcome)
        return self._put(scope, view, status=RunStatus.COMPLETED, result=result, phase=DONE, percent=100.0, steps=[])

    def _newest(self, scope: Scope) -> RebuildView | None:
        runs = self._runs.get(scope)
        return runs[-1] if runs else None

    def _of(self, scope: Scope, run_id: str) -> RebuildView:
        return next(view for view in self._runs[scope] if view.run_id == run_id)

    def _put(self, scope: Scope, view: RebuildView, **changes: Any) -> RebuildView:
        changed = self._of(scope, view.run_id).model_copy(update=changes)
        runs = self._runs[scope]
        runs[[one.run_id for one in runs].index(view.run_id)] = changed
        return changed


def result_of(plan: RebuildPlan, mode: str, outcome: dict[str, Any]) -> dict[str, Any]:
    verifies = mode == "verify"
    result = RebuildResult(
        events_processed=plan.listed,
        events_skipped=plan.skipped,
        duplicates=plan.duplicate_paths,
        manifest_id=None if verifies else "00000000000000000007",
        manifest_revision=None if verifies else "01KHZKCWZ80000000000000007",
        visibility_status="not_published" if verifies else "visible",
        mode=mode,
        equal=True if verifies else None,
        report_path=rebuild_report(plan.work_id, "one"),
        seconds=1.5,
    )
    return result.model_copy(update=outcome).model_dump(mode="json")
