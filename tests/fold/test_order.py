"""Pairs of events in both orders, as the reference folds them (docs/events.md#order).

Ids ascend here, so of the pairs that E tells apart by which id is greater only one half can happen.
"""

from __future__ import annotations

from typing import Any

from springline.ledger.request import EventOutcome
from springline.projection.fold.loop import fold_event
from springline.projection.state import State
from tests.fold.history import (
    T0,
    Object,
    cancel,
    dispatched,
    enqueued,
    event,
    finished,
    folded,
    heartbeat,
    planned,
    retry_timer,
    started,
    triggered,
    ulid,
    visible,
)
from tests.fold.support import empty_state

OPEN = [triggered(), planned("a", "b")]


def run(state: State) -> Any:
    found = state.run("r")
    assert found is not None
    return found


def task(state: State, key: str) -> Any:
    found = state.task("r", key)
    assert found is not None
    return found


def last_outcome(*history: Object) -> EventOutcome:
    state = folded(*history[:-1])
    return fold_event(state, event(history[-1], T0 + 1_000 * len(history)))


def test_01_run_and_plan() -> None:
    for history in ([triggered(), planned("a")], [planned("a"), triggered()]):
        row = run(folded(*history))
        assert (row.state, row.tasks_total, row.row_version) == ("RUNNING", 1, ulid(T0 + 1_000))


def test_02_run_and_empty_plan() -> None:
    row = run(folded(triggered(), planned()))
    assert (row.state, row.tasks_total) == ("RUNNING", 0)
    assert run(folded(planned(), triggered())).state == "TRIGGERED"
    assert last_outcome(planned()) is EventOutcome.NOT_APPLIED


def test_03_plan_and_start() -> None:
    assert task(folded(triggered(), planned("a"), started("a")), "a").state == "RUNNING"
    assert task(folded(triggered(), started("a"), planned("a")), "a").state == "READY"


def test_04_plan_and_dispatch() -> None:
    natural = folded(triggered(), planned("a"), dispatched("a"))
    assert task(natural, "a").state == "DISPATCHED"
    early = folded(triggered(), dispatched("a"), planned("a"))
    assert (task(early, "a").state, task(early, "a").attempt) == ("READY", 0)
    row = early.dispatch("dispatch:r:a:1")
    assert row is not None and row.status == "PENDING"
    assert early.event_with_key("dispatch_req:dispatch:r:a:1") is not None


def test_05_success_and_dispatch_downstream() -> None:
    plan = [triggered(), planned("a", "b<a"), started("a")]
    assert task(folded(*plan, finished("a"), dispatched("b")), "b").state == "DISPATCHED"
    early = folded(*plan, dispatched("b"), finished("a"))
    assert (task(early, "b").state, task(early, "b").attempt) == ("READY", 0)
    assert early.dispatch("dispatch:r:b:1") is not None


def test_06_dispatch_and_acknowledgement() -> None:
    natural = folded(*OPEN, dispatched("a"), enqueued("a")).dispatch("dispatch:r:a:1")
    other = folded(*OPEN, enqueued("a"), dispatched("a")).dispatch("dispatch:r:a:1")
    for row in (natural, other):
        assert row is not None
        assert (row.status, row.cloud_task_id, row.attempt_id) == ("CREATED", "d_1", "att1")
    assert natural is not None and other is not None
    assert (natural.created_at, natural.row_version) == (T0 + 3_000, ulid(T0 + 3_000))
    assert (other.created_at, other.row_version) == (T0 + 2_000, ulid(T0 + 2_000))


def test_08_dispatch_and_start() -> None:
    natural = folded(*OPEN, dispatched("a"), started("a"))
    assert task(natural, "a").state == "RUNNING"
    assert natural.count("dispatch_outbox") == 0
    other = folded(*OPEN, started("a"), dispatched("a"))
    assert task(other, "a").state == "RUNNING"
    assert other.count("dispatch_outbox") == 0
    assert other.event_with_key("dispatch_req:dispatch:r:a:1") is None


def test_09_start_and_end_of_a_task_never_dispatched() -> None:
    assert task(folded(*OPEN, started("a"), finished("a")), "a").state == "SUCCEEDED"
    assert task(folded(*OPEN, finished("a"), started("a")), "a").state == "RUNNING"


def test_10_start_and_success_of_a_dispatched_task() -> None:
    natural = task(folded(*OPEN, dispatched("a"), started("a"), finished("a")), "a")
    other = task(folded(*OPEN, dispatched("a"), finished("a"), started("a")), "a")
    assert (natural.state, natural.started_at) == ("SUCCEEDED", T0 + 3_000)
    assert (other.state, other.started_at) == ("SUCCEEDED", None)


def test_11_start_and_failure_that_may_be_retried() -> None:
    natural = task(folded(*OPEN, dispatched("a"), started("a"), finished("a", "failed")), "a")
    other = task(folded(*OPEN, dispatched("a"), finished("a", "failed"), started("a")), "a")
    assert (natural.state, natural.retry_not_before) == ("RETRY_WAIT", T0 + 4_000 + 30_000)
    assert (other.state, other.retry_not_before) == ("RUNNING", T0 + 3_000 + 30_000)


def test_12_two_starts() -> None:
    for first, second in ((1, 2), (2, 1)):
        assert task(folded(*OPEN, started("a", first), started("a", second)), "a").attempt == 2


def test_13_end_of_an_attempt_after_the_next_began() -> None:
    begun = [*OPEN, started("a", 1)]
    assert task(folded(*begun, started("a", 2), finished("a", number=1)), "a").state == "RUNNING"
    assert task(folded(*begun, finished("a", number=1), started("a", 2)), "a").state == "SUCCEEDED"


def test_14_heartbeats_take_no_maximum() -> None:
    beats = [heartbeat("a", "2025-01-15T10:01:00Z"), heartbeat("a", "2025-01-15T10:00:30Z")]
    row = task(folded(*OPEN, started("a"), *beats), "a")
    assert row.last_heartbeat_at == T0 + 30_000


def test_15_start_and_cancel() -> None:
    natural = folded(triggered(), planned("a"), started("a"), cancel())
    assert (task(natural, "a").state, run(natural).state) == ("RUNNING", "RUNNING")
    other = folded(triggered(), planned("a"), cancel(), started("a"))
    assert (task(other, "a").state, run(other).state) == ("CANCELLED", "CANCELLED")


def test_16_success_and_cancel() -> None:
    begun = [triggered(), planned("a", "b<a"), dispatched("a")]
    success = finished("a", asset_key="raw.a", partition_key="p")
    natural, other = folded(*begun, success, cancel()), folded(*begun, cancel(), success)
    assert task(natural, "a").state == "SUCCEEDED"
    assert natural.row("dep_satisfaction", ("r", "a", "b")) == (
        "r", "a", "b", True, "SUCCESS", T0 + 3_000, 1, ulid(T0 + 3_000),
    )  # fmt: skip
    assert (natural.count("partition_status"), other.count("partition_status")) == (1, 0)
    assert (task(other, "a").state, run(other).state) == ("CANCELLED", "CANCELLED")


def test_17_cancel_and_plan() -> None:
    natural = folded(triggered(), cancel(), planned("a"))
    assert (run(natural).state, run(natural).completed_at, task(natural, "a").state) == (
        "RUNNING", T0 + 1_000, "READY",
    )  # fmt: skip
    other = folded(triggered(), planned("a"), cancel())
    assert (run(other).state, task(other, "a").state) == ("CANCELLED", "CANCELLED")


def test_18_trigger_and_cancel() -> None:
    natural = run(folded(triggered(), cancel()))
    assert (natural.state, natural.cancel_requested) == ("CANCELLED", True)
    assert run(folded(cancel(), triggered())).state == "TRIGGERED"
    planned_first = run(folded(planned("a"), cancel(), triggered()))
    assert (planned_first.state, planned_first.cancel_requested, planned_first.completed_at) == (
        "CANCELLED", False, None,
    )  # fmt: skip


def test_19_first_terminal_resolution_wins() -> None:
    begun = [triggered(), planned("x", "y", "z<x,y"), started("x"), started("y")]
    fails, ends = (
        finished("x", "failed", error={"category": "DATA_QUALITY", "message": "m"}),
        finished("y", "cancelled"),
    )
    assert task(folded(*begun, fails, ends), "z").state == "SKIPPED"
    assert task(folded(*begun, ends, fails), "z").state == "CANCELLED"
    assert run(folded(*begun, fails, ends)).tasks_skipped == 1
    assert run(folded(*begun, ends, fails)).tasks_cancelled == 2


def test_20_counting_ignores_the_state() -> None:
    begun = [triggered(), planned("x", "y", "z<x,y"), started("x"), started("y")]
    fails, succeeds = finished("y", "failed", error={"category": "DATA_QUALITY", "message": "m"}), finished("x")
    for ends in ((succeeds, fails), (fails, succeeds)):
        row = task(folded(*begun, *ends), "z")
        assert (row.state, row.deps_satisfied_count) == ("SKIPPED", 1)


def test_21_failure_and_retry_timer() -> None:
    begun = [*OPEN, started("a")]
    timer = retry_timer("a", "2025-01-15T10:05:00Z")
    natural = task(folded(*begun, finished("a", "failed"), timer), "a")
    assert natural.retry_not_before == T0 + 300_000
    assert task(folded(*begun, timer, finished("a", "failed")), "a").retry_not_before == T0 + 4_000 + 30_000


def test_22_timer_set_and_fired() -> None:
    timer_id = "timer:retry:r:a:1:1736935240"
    sets = {"type": "timer_enqueued", "timer_id": timer_id, "cloud_task_id": "t_1"}
    row = folded(sets, {"type": "timer_fired", "timer_id": timer_id, "timer_type": "cron"}).timer(timer_id)
    assert row is not None
    assert (row.state, row.cloud_task_id, row.timer_type, row.run_id, row.task_key, row.attempt, row.fire_at) == (
        "FIRED", "t_1", "RETRY", "r", "a", 1, 1_736_935_240_000,
    )  # fmt: skip


def test_24_success_and_visibility() -> None:
    begun = [*OPEN, started("a")]
    row = task(folded(*begun, finished("a"), visible("a", "visible")), "a")
    assert (row.output_visibility_state, row.published_at) == ("VISIBLE", T0 + 4_000)
    assert task(folded(*begun, visible("a", "visible"), finished("a")), "a").output_visibility_state is None


def test_25_first_final_visibility_stays() -> None:
    done = [*OPEN, started("a"), finished("a"), visible("a", "pending")]
    assert (
        task(folded(*done, visible("a", "visible"), visible("a", "failed")), "a").output_visibility_state == "VISIBLE"
    )
    assert task(folded(*done, visible("a", "failed"), visible("a", "visible")), "a").output_visibility_state == "FAILED"


def evaluation(number: int, **more: Any) -> Object:
    source = {"source": "push", "message_id": f"m{number}"}
    ids = {"sensor_id": "s", "eval_id": f"e{number}", "trigger_source": source, "status": {"status": "triggered"}}
    return {"type": "sensor_evaluated", "cursor_after": f"c{number}", **ids, **more}


def request(key: str, fingerprint: str, **source: str) -> Object:
    ref = source or {"type": "manual", "user_id": "u", "request_id": "q"}
    named = {"run_key": key, "request_fingerprint": fingerprint, "asset_selection": []}
    return {"type": "run_requested", **named, "trigger_source_ref": ref}


def test_26_evaluations_on_one_version() -> None:
    polls = [evaluation(number, expected_state_version=0) for number in (1, 2)]
    for first, second in (polls, polls[::-1]):
        state = folded(first, second)
        sensor, stale = state.sensor("s"), state.evaluation(second["eval_id"])
        assert sensor is not None and stale is not None
        assert (sensor.cursor, sensor.state_version) == (first["cursor_after"], 1)
        assert stale.status == '{"status":"skipped_stale_cursor"}'


def test_27_evaluations_without_a_version() -> None:
    sensor = folded(evaluation(1), evaluation(2)).sensor("s")
    assert sensor is not None
    assert (sensor.cursor, sensor.state_version) == ("c2", 2)


def test_28_requests_of_a_stale_evaluation() -> None:
    stale = evaluation(1, expected_state_version=7)
    asks = request("k", "f", type="sensor", sensor_id="s", eval_id="e1")
    assert folded(stale, asks).run_key("k") is None
    assert folded(asks, stale).run_key("k") is not None


def test_29_requests_that_contradict_each_other() -> None:
    for first, second in (("f1", "f2"), ("f2", "f1")):
        state = folded(request("k", first), request("k", second))
        known = state.run_key("k")
        assert known is not None and known.request_fingerprint == first
        (conflict,) = state.rows("run_key_conflicts")
        assert conflict[2:] == ("k", first, second, ulid(T0 + 1_000), T0 + 1_000)


def test_30_success_and_another_runs_failure_of_one_partition() -> None:
    named: Any = {"asset_key": "raw.a", "partition_key": "p"}
    other = [triggered("q"), planned("a", run_id="q"), started("a", run_id="q")]
    history = [
        *OPEN, started("a"), *other, finished("a", **named), finished("a", "failed", run_id="q", **named),
    ]  # fmt: skip
    row = folded(*history).partitions.rows["raw.a", "p"]
    assert (row.last_materialization_run_id, row.last_attempt_run_id, row.last_attempt_outcome) == ("r", "q", "FAILED")


def definition(**more: Any) -> Object:
    fixed = {"timezone": "UTC", "catchup_window_minutes": 1, "max_catchup_ticks": 1, "asset_selection": []}
    return {"type": "schedule_definition_upserted", "schedule_id": "s", "enabled": True, **fixed, **more}


def test_31_definitions_of_a_schedule() -> None:
    row = folded(definition(cron_expression="1"), definition(cron_expression="2")).schedule("s")
    assert row is not None
    assert (row.cron_expression, row.created_at, row.row_version) == ("2", T0, ulid(T0 + 1_000))


def tick(number: int, **more: Any) -> Object:
    at = {"scheduled_for": f"2025-01-15T10:00:0{number}Z", "tick_id": f"s:{number}"}
    fixed = {"schedule_id": "s", "definition_version": "d", "asset_selection": [], "status": {"status": "triggered"}}
    return {"type": "schedule_ticked", **at, **fixed, **more}


def test_32_the_last_tick_is_not_the_latest() -> None:
    state = folded(tick(5), tick(3)).schedule_states.rows["s"]
    assert (state.last_tick_id, state.last_scheduled_for) == ("s:3", T0 + 3_000)


def test_33_tick_and_a_request_under_another_key() -> None:
    ticks, asks = tick(1, run_key="k1"), request("k2", "f", type="schedule", schedule_id="s", tick_id="s:1")
    natural, other = folded(ticks, asks), folded(asks, ticks)
    rows = natural.tick("s:1"), other.tick("s:1"), natural.run_key("k2")
    assert rows[0] is not None and rows[1] is not None and rows[2] is not None
    assert rows[0].run_id == rows[2].run_id
    assert rows[1].run_id not in (None, rows[2].run_id)
    assert rows[0].row_version == ulid(T0)


def backfill() -> Object:
    numbers = {"total_partitions": 4, "chunk_size": 2, "max_concurrent_runs": 1}
    selector = {"type": "range", "start": "1", "end": "4"}
    named = {"backfill_id": "bf", "client_request_id": "q", "asset_selection": [], "partition_selector": selector}
    return {"type": "backfill_created", **named, **numbers}


def chunk(index: int) -> Object:
    named = {"backfill_id": "bf", "chunk_id": f"bf:{index}", "chunk_index": index}
    return {"type": "backfill_chunk_planned", **named, "partition_keys": [], "run_key": "k", "request_fingerprint": "f"}


def moved(to_state: str, version: int = 2, from_state: str = "RUNNING") -> Object:
    states = {"from_state": from_state, "to_state": to_state, "state_version": version}
    return {"type": "backfill_state_changed", "backfill_id": "bf", **states}


def test_34_backfill_and_chunk() -> None:
    for history in ([backfill(), chunk(0)], [chunk(0), backfill()]):
        row = folded(*history).backfill("bf")
        assert row is not None
        assert (row.planned_chunks, row.row_version) == (1, ulid(T0 + 1_000))


def test_35_backfill_and_its_move() -> None:
    natural, other = folded(backfill(), moved("PAUSED")), folded(moved("PAUSED"), backfill())
    rows = natural.backfill("bf"), other.backfill("bf")
    assert rows[0] is not None and rows[1] is not None
    assert (rows[0].state, rows[1].state) == ("PAUSED", "RUNNING")


def test_37_chunk_and_its_request() -> None:
    asks = request("k", "f", type="backfill", backfill_id="bf", chunk_id="bf:0")
    natural, other = folded(chunk(0), asks), folded(asks, chunk(0))
    rows = natural.chunk("bf:0"), other.chunk("bf:0"), natural.run_key("k")
    assert rows[0] is not None and rows[1] is not None and rows[2] is not None
    assert (rows[0].run_id, rows[1].run_id) == (rows[2].run_id, None)


def test_38_one_key_for_two_events() -> None:
    state = empty_state()
    assert fold_event(state, event(triggered("r1"), T0, "key")) is EventOutcome.APPLIED
    assert fold_event(state, event(triggered("r2"), T0 + 1, "key")) is EventOutcome.DUPLICATE
    assert (state.run("r1") is not None, state.run("r2")) == (True, None)
    assert state.event_with_key("key") == (ulid(T0), "RunTriggered")


def test_a_refused_event_leaves_its_key_to_others() -> None:
    state = folded(started("a"), *OPEN)
    assert fold_event(state, event(started("a"), T0 + 9_000)) is EventOutcome.APPLIED
