"""Looking for what is to be repaired: accepted rounds that nobody makes visible, and what cannot be looked at."""

from __future__ import annotations

from collections.abc import Collection

from springline.control.repair import (
    FOLDED_LATE_MS,
    SCHEDULES_LATE_MS,
    SETTLED_MS,
    RepairAction,
    RepairKind,
    RepairLook,
    RepairLookOrder,
    SeenAutomation,
)
from springline.control.runs.apart import UNTOLD_MS
from springline.definitions.manifest import ScheduleDefinition
from springline.deployed.deploying import deploy
from springline.deployed.register import registered
from springline.paths import Scope, orchestration_round, relative_path
from springline.published.reader import PublishedReader
from springline.published.snapshot import StateSnapshot
from springline.repairing import OpenWorkflow, look, make_repair
from springline.runs.untold import LOOKED_BACK_MS
from springline.storage.memory import MemoryStore
from springline.storage.scoped import ScopedStore
from tests.schedules.test_evaluating import Place
from tests.support.definitions import asset, ids, part
from tests.support.local_api import ACME
from tests.support.local_repairs import LocalWorkflows
from tests.support.sequencer_run import Run
from tests.support.sequencer_world import SCOPE, ask, planned, triggered

NOTED = {"type": "springline_attempt_noted", "note": "ended_apart", "detail": {"outcome": "failed"}}


async def looked(store: MemoryStore, workflows: LocalWorkflows, now_ms: int) -> RepairLook:
    order = RepairLookOrder(tenant=SCOPE.tenant, workspace=SCOPE.workspace, now_ms=now_ms)
    return await look(store, PublishedReader(store), workflows, order, most_active=100)


async def left_behind(store: MemoryStore) -> Run:
    """Leave a round that is accepted and not visible, as a sequencer does that dies right behind the record."""
    run = Run(store)
    await run.append(ask(1, triggered("r"), planned("r", "a")))
    head = await run._ready()
    await run.step("admit", run.admit_order(head, [ask(2, triggered("other"))]))
    return run


async def test_a_round_that_nobody_makes_visible_is_found_when_it_is_late() -> None:
    store, workflows = MemoryStore(), LocalWorkflows()
    run = await left_behind(store)
    early = await looked(store, workflows, run.now_ms)
    assert (early.findings, early.unsettled) == ([], 1)
    late = await looked(store, workflows, run.now_ms + FOLDED_LATE_MS)
    (due,) = late.plan.due
    assert (due.finding.kind, due.action) == (RepairKind.ROUNDS_NOT_VISIBLE, RepairAction.START_LEDGER)
    assert due.finding.since_ms == run.now_ms
    await make_repair(workflows, SCOPE, due)
    assert workflows.done == [("ledger", "")]
    # The ledger's workflow finishes what it finds pending.
    successor = Run(store, 2)
    await successor.append(ask(3, triggered("third")))
    assert (await looked(store, workflows, run.now_ms + FOLDED_LATE_MS)).findings == []


async def test_a_damaged_round_is_told_and_keeps_nothing_from_being_looked_at() -> None:
    store, workflows = MemoryStore(), LocalWorkflows()
    run = await left_behind(store)
    path = SCOPE.full(relative_path(orchestration_round(2)))
    store.seed(path, b"{}")
    found = await looked(store, workflows, run.now_ms + FOLDED_LATE_MS)
    assert found.findings == []
    (told,) = found.trouble
    assert told.startswith("rounds of the ledger were not looked at: ")
    assert orchestration_round(2) in told


async def test_runs_of_no_deployed_manifest_are_left_to_others() -> None:
    store, workflows = MemoryStore(), LocalWorkflows()
    run = Run(store)
    await run.append(ask(1, triggered("r"), planned("r", "a")))
    found = await looked(store, workflows, run.now_ms + 10**9)
    assert (found.active, found.findings, workflows.asked) == (0, [], [])


async def test_a_request_is_given_time_to_be_launched() -> None:
    """Ages are told in ms, as rows have them: a request of a moment ago is no finding."""
    place = Place()
    await place.deploy(part("flights", asset("raw")))
    await place.define("s", ScheduleDefinition(cron="* * * * *", select=["raw"]))
    place.ahead_ms = 2 * 60_000
    await place.evaluate()
    workflows = LocalWorkflows()
    row = min(await place.rows("run_key_index"), key=lambda row: int(row["created_at"]))
    early = await look_at(place, workflows, row["created_at"] + 1)
    assert [one.kind for one in early.findings] == []
    late = await look_at(place, workflows, row["created_at"] + SETTLED_MS)
    (found,) = late.findings
    assert (found.kind, found.since_ms) == (RepairKind.REQUESTS_NOT_LAUNCHED, row["created_at"])


async def test_a_lost_entry_of_the_register_is_made_again() -> None:
    place, workflows = Place(), LocalWorkflows()
    assert not await registered(place.store)
    await look_at(place, workflows, 1)
    assert not await registered(place.store), "nothing is deployed"
    await place.deploy(part("flights", asset("raw")))
    await look_at(place, workflows, 1)
    assert await registered(place.store) == [ACME]


async def test_schedules_without_an_evaluator_and_instants_that_nobody_decides_on_are_found() -> None:
    place, workflows = Place(), LocalWorkflows()
    await place.deploy(part("flights", asset("raw")))
    await place.define("s", ScheduleDefinition(cron="* * * * *", select=["raw"]))
    now = place.now_ms()
    due = (now // 60_000 + 1) * 60_000
    fine = await look_at(place, workflows, due + SCHEDULES_LATE_MS - 1)
    assert (fine.findings, fine.schedules) == ([], 1)
    workflows.trouble = "no store"
    late = await look_at(place, workflows, due + SCHEDULES_LATE_MS)
    (found,) = late.plan.due
    assert (found.finding.kind, found.finding.since_ms) == (RepairKind.SCHEDULES_OVERDUE, due)
    assert "no store" in found.finding.why
    workflows.evaluator = False
    gone = await look_at(place, workflows, due + SCHEDULES_LATE_MS)
    (missing,) = gone.plan.due
    assert missing.finding.kind is RepairKind.SCHEDULES_WITHOUT_EVALUATOR
    for action in (missing.action, RepairAction.RESTART_EVALUATOR):
        await make_repair(workflows, ACME, missing.model_copy(update={"action": action}))
    assert workflows.done == [("evaluator", "wake"), ("evaluator", "restart")]
    await place.append({"type": "springline_hold_changed", "change_id": "c", "held": True, "changed_by": "ann"})
    workflows.evaluator = True
    assert (await look_at(place, workflows, due + SCHEDULES_LATE_MS)).findings == []


async def test_ended_runs_with_an_attempt_of_untold_end_are_found_but_for_workers_over_http() -> None:
    store, workflows = MemoryStore(), LocalWorkflows()
    remote = asset("remote", url="https://worker.example/run")
    outcome = await deploy(ScopedStore(store, SCOPE), part("flights", asset("raw"), remote), ids())
    run = Run(store)
    number = iter(range(1, 100))
    for task, others in (("raw", []), ("remote", []), ("raw", [NOTED])):
        place = next(number)
        own = {"run_id": f"run_{place}", "task_key": task, "attempt": 1, "attempt_id": f"att_{place}"}
        sent = {
            "type": "dispatch_requested",
            "dispatch_id": f"dispatch:run_{place}:{task}:1",
            "worker_queue": "q",
        } | own
        cancel = {"type": "run_cancel_requested", "run_id": f"run_{place}", "requested_by": "ada"}
        begun = triggered(f"run_{place}") | {"code_version": outcome.manifest_id}
        notes = [one | own for one in others]
        (told,) = await run.append(ask(place, begun, planned(f"run_{place}", task), sent, cancel, *notes))
        assert told.refusal is None, told.refusal
    cancelled_ms = run.now_ms

    async def found(after_ms: int) -> list[tuple[RepairKind, str]]:
        seen = await looked(store, workflows, cancelled_ms + after_ms)
        return [(one.kind, one.subject) for one in seen.findings]

    assert await found(UNTOLD_MS - 1_000) == []
    assert await found(10 * 60_000) == [(RepairKind.ATTEMPT_NOT_TOLD, "run_1")]
    assert workflows.asked == ["run_1"]
    assert await found(LOOKED_BACK_MS + 10 * 60_000) == []
    workflows.open = [OpenWorkflow("run_1", "w", cancelled_ms + 10 * 60_000)]
    assert await found(10 * 60_000) == []


class Reading(PublishedReader):
    """Notes which tables are asked for."""

    def __init__(self, store: MemoryStore) -> None:
        super().__init__(store)
        self.asked: set[str] = set()

    async def snapshot(self, scope: Scope, names: Collection[str]) -> StateSnapshot:
        self.asked |= set(names)
        return await super().snapshot(scope, names)


async def test_tasks_are_read_only_where_a_run_was_cancelled_lately() -> None:
    """A workspace may have a million of them, and Repair looks each minute."""
    store, workflows = MemoryStore(), LocalWorkflows()
    run = Run(store)
    await run.append(ask(1, triggered("r"), planned("r", "a")))

    async def asked(after_ms: int = 0) -> set[str]:
        reader = Reading(store)
        order = RepairLookOrder(tenant=SCOPE.tenant, workspace=SCOPE.workspace, now_ms=run.now_ms + after_ms)
        await look(store, reader, workflows, order, most_active=100)
        return reader.asked & {"tasks", "x_attempts", "x_notes"}

    assert await asked() == set()
    await run.append(ask(2, {"type": "run_cancel_requested", "run_id": "r", "requested_by": "ada"}))
    assert await asked() == {"tasks", "x_attempts", "x_notes"}
    assert await asked(LOOKED_BACK_MS + 60_000) == set()


async def look_at(place: Place, workflows: LocalWorkflows, now_ms: int) -> RepairLook:
    order = RepairLookOrder(tenant=ACME.tenant, workspace=ACME.workspace, now_ms=now_ms)
    return await look(place.store, place.reader, workflows, order, most_active=100)


async def test_a_workspace_in_which_nothing_happened_is_in_order() -> None:
    idle = SeenAutomation(oldest_chunk_ms=10**12, moved_ms=10**12)
    assert await looked(MemoryStore(), LocalWorkflows(), 10**12) == RepairLook(automation=idle)


async def test_a_deployed_sensor_without_a_workflow_is_started() -> None:
    store, workflows = MemoryStore(), LocalWorkflows()
    watching = [{"sensor_id": name, "kind": "push"} for name in ("files", "hook")]
    await deploy(ScopedStore(store, SCOPE), part("flights", asset("raw"), sensors=watching), ids())
    workflows.sensors = {"files"}
    (due,) = (await looked(store, workflows, 10**13)).plan.due
    assert (due.finding.kind, due.finding.subject) == (RepairKind.SENSOR_WITHOUT_WORKFLOW, "hook")
    await make_repair(workflows, SCOPE, due)
    assert workflows.done == [("sensor", "hook")]
    workflows.open = None
    assert any(
        "workflows of sensors were not looked for" in one for one in (await looked(store, workflows, 10**13)).trouble
    )
