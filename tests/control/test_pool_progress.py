"""A run with tasks of a pool, decided: recorded before begun, in line, refused, cancelled, taken up."""

from __future__ import annotations

from typing import Any

from springline.control.runs.attempts import DEFAULT_GRACE_MS
from springline.control.runs.messages import (
    AttemptOrder,
    AttemptReport,
    AttemptStarted,
    CancelAsked,
    LoadedAsset,
    LoadedRun,
    LoadedTask,
    SlotGrant,
    SlotsGranted,
)
from springline.control.runs.progress import NOTICES_MS, RunProgress
from springline.ledger.events import DispatchRequested, RunCancelRequested, TaskStarted


def run(*tasks: LoadedTask, **more: Any) -> LoadedRun:
    assets = [
        LoadedAsset(key="free", location="l", heartbeat_ms=1_000),
        LoadedAsset(key="a", location="l", heartbeat_ms=1_000, pool="p", priority=2),
        LoadedAsset(key="b", location="l", heartbeat_ms=1_000, pool="p"),
    ]
    return LoadedRun(run_id="r", state="RUNNING", assets=assets, tasks=list(tasks), **more)


def task(key: str, state: str = "READY", **more: Any) -> LoadedTask:
    return LoadedTask(key=key, asset=key, state=state, max_attempts=21, **more)


def progress(*tasks: LoadedTask, writer: str = "w", **more: Any) -> RunProgress:
    return RunProgress(run(*tasks, **more), "acme", "prod", writer)


def grant(one: RunProgress, *keys: str, attempt: int = 1) -> None:
    one.granted(SlotsGranted(pool="p", grants=[SlotGrant(task_key=key, attempt=attempt) for key in keys]))


def kinds(one: RunProgress) -> list[type]:
    return [type(payload) for payload in one.take_batch(100, 1 << 20)]


def begun(orders: list[AttemptOrder]) -> list[str]:
    return [order.task_key for order in orders]


def test_what_has_no_pool_begins_and_what_has_one_asks_the_most_urgent_first() -> None:
    one = progress(task("b", ready_ms=3), task("a"), task("free"), priority=7)
    assert begun(one.begin(10, 5)) == ["free"]
    (asked,) = one.asks(10, 5)
    assert (asked.pool, asked.priority) == ("p", 7)
    assert [(want.task_key, want.attempt, want.priority, want.since_ms) for want in asked.wanted] == [
        ("a", 1, 2, 10),
        ("b", 1, 0, 3),
    ]
    assert one.waits_for(5) == ["b waits for pool p", "a waits for pool p"]
    assert one.next_ms() is not None


def test_an_attempt_of_a_pool_is_recorded_with_leave_and_begins_when_it_has_its_slot() -> None:
    one = progress(task("a"), task("b"))
    one.asks(10, 5)
    grant(one, "a")
    assert one.begin(11, 5) == []
    assert kinds(one) == [DispatchRequested]
    (claim,) = one.claims()
    assert (claim.pool, claim.task_key) == ("p", "a")
    # It is wanted until it has begun: else its pool would think that the leave was not taken.
    (again,) = one.asks(70_011, 5)
    assert [want.task_key for want in again.wanted] == ["a", "b"]
    assert begun(one.confirmed([claim.attempt_id])) == ["a"]
    assert (one.claims(), one.confirmed([claim.attempt_id])) == ([], [])
    assert one.waits_for(5) == ["b waits for pool p"]


def test_a_refused_dispatch_is_sent_again_and_no_attempt_is_lost_by_it() -> None:
    one = progress(task("a"))
    grant(one, "a")
    one.begin(1, 5)
    (dispatch,) = one.take_batch(100, 1 << 20)
    fresh, dropped = one.overlaid(run(task("a"), held=True), [dispatch], 2)
    assert (dropped, fresh.running, fresh.begin(3, 5)) == ([], {}, [])
    after, _ = fresh.overlaid(run(task("a")), [], 4)
    assert after.begin(5, 5) == []
    assert kinds(after) == [DispatchRequested]
    assert len(after.claims()) == 1


def test_what_is_on_record_stays_in_line_when_the_rows_are_read_again() -> None:
    one = progress(task("a"))
    grant(one, "a")
    one.begin(1, 5)
    one.take_batch(100, 1 << 20)
    (claim,) = one.claims()
    rows = run(task("a", "DISPATCHED", attempt=1, attempt_id=claim.attempt_id))
    fresh, dropped = one.overlaid(rows, [], 2)
    assert (dropped, fresh.claims(), fresh.outbox) == ([], [claim], [])
    assert begun(fresh.confirmed([claim.attempt_id])) == ["a"]


def test_a_cancellation_records_first_that_an_attempt_of_a_pool_may_run() -> None:
    one = progress(task("a"), task("b"), task("free"))
    grant(one, "a", "b")
    one.begin(1, 5)
    one.take_batch(100, 1 << 20)
    (first, _) = one.claims()
    one.confirmed([first.attempt_id])
    one.cancel(CancelAsked(requested_by="u"))
    assert kinds(one) == [TaskStarted, RunCancelRequested]
    assert one.running["free"].started is False
    # What stands in line never begins.
    assert one.confirmed([claim.attempt_id for claim in one.claims()]) == []


def test_a_run_taken_up_waits_for_the_end_of_attempts_of_a_pool_alone() -> None:
    rows = [
        task("a", "RUNNING", attempt=1, attempt_id="x"),
        task("free", "RUNNING", attempt=1, attempt_id="y"),
        task("b", "READY"),
    ]
    one = progress(*rows, writer="another")
    one.take_up(1)
    assert one.foreign == {"a"}
    (ended,) = one.take_batch(100, 1 << 20)
    assert ended.task_key == "free"  # type: ignore[union-attr]
    one.take_up(2, ["a"])
    assert one.foreign == set()
    assert len(one.take_batch(100, 1 << 20)) == 1


def test_an_attempt_whose_worker_is_silent_has_its_slot_until_it_must_have_ended() -> None:
    one = progress(task("a"), task("free"))
    grant(one, "a")
    one.begin(1, 5)
    (claim,) = one.claims()
    one.confirmed([claim.attempt_id])

    def silent_ms(key: str, attempt_id: str, *, silent: bool = True) -> int | None:
        return one.silent_ms(AttemptReport(task_key=key, attempt_id=attempt_id, lost="gone", silent=silent))

    assert silent_ms("free", one.running["free"].attempt_id) is None
    assert silent_ms("a", claim.attempt_id, silent=False) is None
    assert silent_ms("a", claim.attempt_id) == NOTICES_MS + DEFAULT_GRACE_MS
    said = {"task_key": "a", "attempt": 1, "attempt_id": claim.attempt_id, "worker_id": "w", "started_at_ms": 1}
    one.started(AttemptStarted(**said, grace_ms=60_000), 2)
    assert silent_ms("a", claim.attempt_id) == NOTICES_MS + 60_000
    assert silent_ms("a", "another") == NOTICES_MS + DEFAULT_GRACE_MS


def test_the_limit_of_a_run_counts_what_stands_in_line_and_what_another_workflow_has_begun() -> None:
    one = progress(task("a"), task("b"), task("free"), most_running=1)
    grant(one, "a")
    assert one.begin(1, 5) == []
    assert set(one.running) == {"a"}
    (asked,) = one.asks(2, 5)
    assert [want.task_key for want in asked.wanted] == ["a"]
    other = progress(task("a", "RUNNING", attempt=1, attempt_id="x"), task("free"), writer="another", most_running=1)
    other.take_up(1)
    assert other.begin(2, 5) == []


def test_the_end_of_an_attempt_is_told_to_its_pool_once_it_is_on_record() -> None:
    one = progress(task("a", "RUNNING", attempt=1, attempt_id="x"), writer="another")
    one.take_up(1)
    one.take_up(1, ["a"])
    batch = one.take_batch(100, 1 << 20)
    assert one.asks(2, 0) == []
    one.recorded(batch)
    (asked,) = one.asks(3, 0)
    assert (asked.pool, asked.wanted) == ("p", [])


def test_what_stands_in_line_is_handed_over_to_the_next_run_of_the_workflow() -> None:
    one = progress(task("a"), task("b"))
    grant(one, "a", "b")
    one.begin(1, 5)
    one.take_batch(100, 1 << 20)
    first, second = one.claims()
    one.confirmed([first.attempt_id])
    carried = one.carried({first.attempt_id: "shard"})
    assert [(each.key, each.shard_id, each.waits) for each in carried.running] == [
        ("a", "shard", False),
        ("b", "", True),
    ]
    rows = run(
        task("a", "RUNNING", attempt=1, attempt_id=first.attempt_id),
        task("b", "DISPATCHED", attempt=1, attempt_id=second.attempt_id),
    )
    after, dropped = RunProgress.going_on(rows, "acme", "prod", carried, now_ms=2)
    assert (dropped, after.claims()) == ([], [second])
    (asked,) = after.asks(3, 5)
    assert (asked.anew, [want.task_key for want in asked.wanted]) == (True, ["b"])
    assert begun(after.confirmed([second.attempt_id])) == ["b"]


def over_http(*tasks: LoadedTask, writer: str = "w") -> RunProgress:
    loaded = run(*tasks)
    assets = [one.model_copy(update={"url": "http://worker.test"}) for one in loaded.assets]
    return RunProgress(loaded.model_copy(update={"assets": assets}), "acme", "prod", writer)


def test_an_attempt_over_http_is_posted_when_it_has_its_slot_and_made_by_nobody_else() -> None:
    one = over_http(task("a"))
    grant(one, "a")
    assert one.begin(1, 5) == []
    one.recorded(one.take_batch(100, 1 << 20))
    (claim,) = one.claims()
    assert one.posts() == []
    assert one.confirmed([claim.attempt_id]) == []
    assert begun(one.posts()) == ["a"]
    assert one.posts() == []


def test_an_attempt_over_http_that_is_taken_up_is_posted_again_only_with_its_slot() -> None:
    one = over_http(task("a", "DISPATCHED", attempt=1, attempt_id="x"), writer="another")
    one.take_up(1)
    assert one.posts() == []
    (claim,) = one.claims()
    assert one.confirmed([claim.attempt_id]) == []
    assert begun(one.posts()) == ["a"]
    started = over_http(task("a", "RUNNING", attempt=1, attempt_id="x"), writer="another")
    started.take_up(1)
    assert started.claims() == []
