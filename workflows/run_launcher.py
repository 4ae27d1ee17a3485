"""RunLauncher: from a request for a run to its workflow, for one workspace."""

from __future__ import annotations

from datetime import datetime, timedelta

from temporalio import workflow
from temporalio.exceptions import ActivityError

with workflow.unsafe.imports_passed_through():
    from springline import names
    from springline.control.runs.messages import LaunchAsked, Launched, LaunchedRun, LauncherStart, LaunchOrder
    from springline.sequencer.messages import WorkspaceRef
    from workflows.evaluator_messages import MOST_KEPT, launcher_text
    from workflows.failures import ENDS_THE_RUN
    from workflows.ledger_steps import show_in_search
    from workflows.lifecycle import history_is_long
    from workflows.run_steps import run_step

MOST_KEYS = 100
"""Requests of one pass."""
IDLE = timedelta(seconds=60)
"""After so long without a wake-up the launcher looks at everything, and ends if nothing waits."""
PAUSE = timedelta(seconds=2)
"""Before a pass that failed is repeated."""
RESTARTS = timedelta(seconds=60)
"""A look at everything starts runs without an end, too, that nothing executes: once in this time."""


@workflow.defn(name=names.RUN_LAUNCHER, failure_exception_types=ENDS_THE_RUN)
class RunLauncher:
    """Launches the runs of one workspace: triggers and plans what is requested, and starts a workflow for each run.

    It has no state of its own: what waits is what the ledger has requested and not triggered.
    """

    @workflow.init
    def __init__(self, start: LauncherStart) -> None:
        self._start = start
        self._keys: dict[str, None] = {}
        self._looks = start.looks
        self._restarted: datetime | None = None
        self._passes = 0
        self._waiting = 0
        self._started = self._refused = 0
        self._trouble: str | None = None
        self._failed: str | None = None
        self._aside: list[str] = []
        self._told: list[LaunchedRun] = []

    @workflow.run
    async def run(self, start: LauncherStart) -> None:
        """Work until nothing waits."""
        show_in_search(WorkspaceRef(tenant=start.tenant, workspace=start.workspace))
        while True:
            if self._keys or self._looks:
                await self._pass()
                continue
            if history_is_long():
                await workflow.wait_condition(workflow.all_handlers_finished)
                if not self._keys and not self._looks:
                    workflow.continue_as_new(start.model_copy(update={"looks": self._waiting > 0}))
                continue
            try:
                await workflow.wait_condition(
                    lambda: bool(self._keys) or self._looks, timeout=IDLE, timeout_summary="until it looks by itself"
                )
            except TimeoutError:
                self._looks = True
                await self._pass()
                if not self._waiting and not self._keys and workflow.all_handlers_finished():
                    return

    @workflow.update(name=names.LAUNCH_UPDATE, description="Launch requests that have just been recorded")
    async def launch(self, asked: LaunchAsked) -> None:
        """Take the requests into the next pass, and wait for its end."""
        for key in asked.run_keys:
            self._keys[key] = None
        await workflow.wait_condition(lambda: not any(key in self._keys for key in asked.run_keys))

    @workflow.signal(name=names.WAKE_SIGNAL, description="Requests were recorded, or a run has ended")
    def wake(self, asked: LaunchAsked | None = None) -> None:
        """Look at the requests named; without any, at all that wait, if any does."""
        if asked is not None and asked.run_keys:
            for key in asked.run_keys:
                self._keys[key] = None
        elif self._waiting or (asked is not None and asked.looks):
            self._looks = True

    @workflow.query(name=names.STATUS_QUERY, description="What the launcher has launched, and what waits")
    def status(self) -> dict[str, int | str | None]:
        """Return counts of this run of the launcher."""
        return {
            "passes": self._passes,
            "started": self._started,
            "refused": self._refused,
            "waiting": self._waiting,
            "trouble": self._trouble,
        }

    async def _pass(self) -> None:
        """Launch what waits; a pass that failed is repeated after a pause, and looks at everything then."""
        taken = list(self._keys)
        keys = None if self._looks else taken[:MOST_KEYS]
        if keys is not None:
            taken = keys
        self._looks = False
        restarts = keys is not None or self._restarted is None or workflow.now() - self._restarted >= RESTARTS
        order = LaunchOrder(
            tenant=self._start.tenant, workspace=self._start.workspace, run_keys=keys, restarts=restarts
        )
        if keys is None and restarts:
            self._restarted = workflow.now()
        try:
            summary = "look at all requests" if keys is None else f"{len(keys)} request(s)"
            launched = await run_step(names.LAUNCH_RUNS, order, Launched, summary)
        except ActivityError as error:
            self._trouble = self._failed = str(error.cause or error)
            workflow.logger.error("a pass failed: %s", self._trouble)
            self._forget(taken)
            self._looks, self._restarted = True, None
            self._describe()
            await workflow.sleep(PAUSE, summary="a pass failed")
        else:
            self._trouble = launched.aside[0] if launched.aside else None
            self._failed, self._aside = None, launched.aside
            self._told = [*reversed(launched.told), *self._told][:MOST_KEPT]
            self._forget(taken)
            self._waiting = launched.waiting if keys is None else self._waiting + launched.waiting
            self._started += launched.started
            self._refused += launched.refused
        self._passes += 1
        self._describe()

    def _describe(self) -> None:
        counts = (
            f"{self._started} started, {self._refused} could not be planned, since this run began; {self._passes} "
            f"passes, the last at {workflow.now():%Y-%m-%d %H:%M:%S} UTC."
        )
        where = f"{self._start.tenant}/{self._start.workspace}"
        workflow.set_current_details(launcher_text(where, counts, self._waiting, self._told, self._aside, self._failed))

    def _forget(self, keys: list[str]) -> None:
        for key in keys:
            self._keys.pop(key, None)
