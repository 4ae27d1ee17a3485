"""The runbooks on lag and failover: accepted events that nobody folds; an evaluator whose workers are dead."""

from __future__ import annotations

import asyncio
from pathlib import Path

from springline import names
from springline.paths import Scope
from springline.storage.url import open_store
from tests.server.runbook import RUNBOOKS, SCOPE, follow
from tests.server.test_runbooks_runs import springline, wait_until
from tests.server.test_runbooks_schedules import PIPELINE
from tests.support.forked_stack import ForkedStack
from tests.support.sequencer_run import REF, Run
from tests.support.sequencer_world import ask, planned, triggered

LAG = RUNBOOKS / "compactor-lag.md"
FAILOVER = RUNBOOKS / "evaluator-failover.md"
RUN_SCOPE = Scope(REF.tenant, REF.workspace)


def test_what_was_accepted_becomes_visible(tmp_path: Path) -> None:
    """A sequencer died right behind the record of a round, and no worker is left."""
    folder = tmp_path / "operator"
    folder.mkdir()
    with ForkedStack(tmp_path / "stack", scope=RUN_SCOPE, workers=0) as stack:

        async def leave() -> None:
            store = open_store(stack.store_url)
            run = Run(store)
            await run.append(ask(1, triggered("r"), planned("r", "a")))
            assert run.head is not None
            await run.step("admit", run.admit_order(run.head, [ask(2, triggered("other"))]))
            await store.aclose()

        asyncio.run(leave())
        follow(LAG, stack, folder, TENANT=RUN_SCOPE.tenant, WORKSPACE=RUN_SCOPE.workspace)


def test_schedules_go_on_when_their_workers_were_dead(tmp_path: Path) -> None:
    folder = tmp_path / "operator"
    folder.mkdir()
    (folder / "beats.py").write_text(PIPELINE)
    with ForkedStack(tmp_path / "stack", scope=SCOPE, workers=1) as stack:
        springline(stack, "deploy", str(folder / "beats.py"))
        wait_until(lambda: len(springline(stack, "schedule", "history", "often")["ticks"]) > 1)
        (worker,) = stack.worker_names
        stack.kill(worker)
        follow(FAILOVER, stack, folder, SCHEDULE="often")
        ticks = springline(stack, "schedule", "history", "often", "--limit", "1000")["ticks"]
        covered = [instant for tick in ticks for instant in seconds_of(tick["tick_id"])]
        assert sorted(covered) == list(range(min(covered), max(covered) + 1)), "every second once, none twice"


def seconds_of(tick_id: str) -> range:
    first, _, last = tick_id.rpartition(":")[2].partition("-")
    return range(int(first), int(last or first) + 1)


def test_their_names_are_ours() -> None:
    text = LAG.read_text("utf-8") + FAILOVER.read_text("utf-8")
    for name in (
        names.ledger_workflow_id("$TENANT", "$WORKSPACE"),
        names.schedule_evaluator_id("$TENANT", "$WORKSPACE"),
        *(names.LEDGER_QUEUE, names.RUNS_QUEUE, names.SCHEDULE_EVALUATOR),
        *(names.METRIC_LEDGER_LAG_SECONDS, names.METRIC_LEDGER_LAG_EVENTS, names.METRIC_LEDGER_PUBLISH_RETRIES),
        names.METRIC_TAKEOVERS,
    ):
        assert name in text
