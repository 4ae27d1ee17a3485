"""What operators can see of schedules: ticks by what became of them, and how late runs were asked for."""

from __future__ import annotations

import time

from activities.repair import RepairActivities
from activities.schedules import ScheduleActivities
from springline import names
from springline.control.repair import RepairKind, RepairLookOrder
from springline.control.schedules.messages import EvaluateOrder
from tests.activities.metrics import Metrics
from tests.schedules.test_evaluating import MINUTE, Place
from tests.support.definitions import asset, part
from tests.support.local_api import ACME
from tests.support.local_repairs import LocalWorkflows


async def test_ticks_are_counted_by_what_became_of_them_and_lateness_is_measured() -> None:
    place, metrics = Place(), Metrics()
    await place.deploy(part("flights", asset("raw")))
    await place.define("s", MINUTE.model_copy(update={"max_catchup_ticks": 2}))
    place.ahead_ms = 5 * 60_000
    activities = ScheduleActivities(place.store, place.ledger)
    order = EvaluateOrder(tenant=ACME.tenant, workspace=ACME.workspace, now_ms=place.now_ms())
    for _ in range(2):
        await metrics.environment().run(activities.evaluate_schedules, order)
    assert sum(metrics.of(names.METRIC_SCHEDULE_TICKS, status="triggered", reason="")) == 2
    assert sum(metrics.of(names.METRIC_SCHEDULE_TICKS, status="skipped", reason="CATCHUP_LIMIT")) == 3
    late = metrics.of(names.METRIC_SCHEDULE_LATE_SECONDS)
    assert len(late) == 2
    # In seconds: two instants, a minute apart, decided on together.
    assert round(max(late) - min(late)) == 60


async def test_lateness_is_behind_the_jitter_and_not_told_of_instants_that_wait_for_runs() -> None:
    found: dict[str, list[float]] = {}
    for name, more in (("on time", {}), ("later", {"jitter_seconds": 240}), ("in line", {"overlap": "queue_one"})):
        place, metrics = Place(), Metrics()
        await place.deploy(part("flights", asset("raw")))
        await place.define("s", MINUTE.model_copy(update={"max_catchup_ticks": 1, **more}))
        place.ahead_ms = 10 * 60_000
        order = EvaluateOrder(tenant=ACME.tenant, workspace=ACME.workspace, now_ms=place.now_ms() // 60_000 * 60_000)
        await metrics.environment().run(ScheduleActivities(place.store, place.ledger).evaluate_schedules, order)
        assert sum(metrics.of(names.METRIC_SCHEDULE_TICKS, status="triggered", reason="")) == 1
        found[name] = metrics.of(names.METRIC_SCHEDULE_LATE_SECONDS)
    # The last instant that had come with its jitter, decided on within a minute.
    assert found["on time"] == [0]
    assert [0 <= late < 60 for late in found["later"]] == [True]
    assert found["in line"] == []


async def test_a_pass_behind_one_of_another_worker_is_a_takeover() -> None:
    place, metrics = Place(), Metrics()
    await place.deploy(part("flights", asset("raw")))
    activities = ScheduleActivities(place.store, place.ledger, "me")
    for worker in (None, "me", "other", "other", ""):
        order = EvaluateOrder(tenant=ACME.tenant, workspace=ACME.workspace, now_ms=place.now_ms(), worker=worker)
        found = await metrics.environment().run(activities.evaluate_schedules, order)
        assert found.worker == "me"
    by_cause = {cause: sum(metrics.of(names.METRIC_TAKEOVERS, cause=cause)) for cause in ("start", "worker")}
    assert by_cause == {"start": 1, "worker": 2}
    passes = metrics.of(names.METRIC_SCHEDULE_LAST_PASS, tenant=ACME.tenant, workspace=ACME.workspace)
    assert len(passes) == 5
    assert abs(time.time() - passes[-1]) < 60


async def test_looks_of_repair_are_noted_with_what_they_find() -> None:
    place, metrics = Place(), Metrics()
    await place.deploy(part("flights", asset("raw")))
    await place.define("s", MINUTE)
    workflows = LocalWorkflows()
    workflows.evaluator = False
    activities = RepairActivities(place.store, workflows)
    order = RepairLookOrder(tenant=ACME.tenant, workspace=ACME.workspace, now_ms=place.now_ms() + 3_600_000)
    for _ in range(2):
        await metrics.environment().run(activities.look_for_repairs, order)
    kind = RepairKind.SCHEDULES_WITHOUT_EVALUATOR.value
    assert sum(metrics.of(names.METRIC_REPAIR_FINDINGS, kind=kind)) == 2
    assert len(metrics.of(names.METRIC_REPAIR_LAST_PASS, tenant=ACME.tenant, workspace=ACME.workspace)) == 2
