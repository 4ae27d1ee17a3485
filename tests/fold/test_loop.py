"""The loop: what it refuses, what it counts, and that it leaves the process as it was.

See docs/events.md#fold-loop, docs/events.md#w20.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest
from msgspec.structs import replace

from springline.ledger.envelope import Event
from springline.ledger.request import EventOutcome
from springline.projection.config import FoldConfig
from springline.projection.fold.loop import EventOutOfPlace, fold_all, fold_event
from springline.projection.state import State
from tests.fold.history import T0, Object, dispatched, event, finished, folded, planned, started, triggered, ulid
from tests.fold.support import empty_state, tables_of


@pytest.mark.parametrize("at_ms", [T0, T0 - 1])
def test_ids_have_to_ascend(at_ms: int) -> None:
    state = folded(triggered())
    before = tables_of(state)
    with pytest.raises(EventOutOfPlace, match="not above"):
        fold_event(state, event(triggered("other"), at_ms))
    assert (tables_of(state), state.last_event_id) == (before, ulid(T0))


@pytest.mark.parametrize("elsewhere", [{"tenant_id": "evil"}, {"workspace_id": "test"}])
def test_events_of_another_scope_are_refused(elsewhere: dict[str, str]) -> None:
    state = empty_state(retention_days=5)
    with pytest.raises(EventOutOfPlace, match="belongs to"):
        fold_event(state, replace(event(triggered(), T0), **elsewhere))
    assert (state.last_event_id, state.frontier_ms, state.count("runs")) == ("", None, 0)


def test_an_unknown_type_only_moves_on() -> None:
    state = folded(triggered())
    before = tables_of(state)
    unknown = replace(event(triggered("q"), T0 + 1), data=None, event_type="AssetInspected", idempotency_key="new")
    assert fold_event(state, unknown) is EventOutcome.UNKNOWN
    assert (tables_of(state), state.last_event_id) == (before, ulid(T0 + 1))
    assert state.event_with_key("new") is None


@pytest.mark.parametrize("collecting", [True, False])
@pytest.mark.parametrize("fails", [True, False])
def test_garbage_collection_rests_and_resumes(collecting: bool, fails: bool) -> None:
    seen = []

    def events() -> Iterator[Event]:
        seen.append(gc.isenabled())
        yield event(triggered(), T0)
        if fails:
            raise OSError("no more")

    state, was = empty_state(), gc.isenabled()
    (gc.enable if collecting else gc.disable)()
    try:
        if fails:
            with pytest.raises(OSError, match="no more"):
                fold_all(state, events())
        else:
            assert fold_all(state, events()) == {EventOutcome.APPLIED: 1}
        after = gc.isenabled()
    finally:
        (gc.enable if was else gc.disable)()
    assert seen == [False]
    assert after is collecting
    assert state.run("r") is not None


def test_the_event_type_is_kept_as_the_envelope_has_it() -> None:
    state = empty_state()
    fold_event(state, replace(event(triggered(), T0), event_type="Odd"))
    assert state.event_with_key("run:r") == (ulid(T0), "Odd")


def enqueued_timer(timer_id: str) -> Object:
    return {"type": "timer_enqueued", "timer_id": timer_id, "cloud_task_id": "t"}


@pytest.mark.parametrize(
    ("epoch", "is_applied"),
    [
        ("-8334601228800", True),
        ("8210266876799", True),
        ("-8334601228801", False),
        ("8210266876800", False),
        ("9223372036854775807", False),
    ],
)
def test_no_timer_fires_beyond_the_calendar(epoch: str, is_applied: bool) -> None:
    timer = folded(enqueued_timer(f"timer:cron:s:{epoch}")).timer(f"timer:cron:s:{epoch}")
    assert (timer is not None) is is_applied
    assert timer is None or timer.fire_at == int(epoch) * 1_000


def test_nanoseconds_decide_whether_a_timer_changed() -> None:
    asks = {
        "type": "timer_requested",
        "timer_id": "t",
        "timer_type": "cron",
        "fire_at": "2025-01-15T10:00:00.000000001Z",
    }
    state = folded(asks)
    assert [row[-1] for row in state.rows("timers")] == [1]
    again = event(asks, T0 + 1, key="again")
    assert fold_event(state, again) is EventOutcome.NOT_APPLIED
    later = event({**asks, "fire_at": "2025-01-15T10:00:00.000000002Z"}, T0 + 2, key="later")
    assert fold_event(state, later) is EventOutcome.APPLIED
    whole = event({**asks, "fire_at": "2025-01-15T10:00:00Z"}, T0 + 3, key="whole")
    assert fold_event(state, whole) is EventOutcome.APPLIED
    assert [row[-1] for row in state.rows("timers")] == [None]


@pytest.mark.parametrize(("attempt", "seconds"), [(1, 30), (2, 60), (3, 120), (5, 480), (6, 900), (100, 900)])
def test_waits_before_a_retry_double_up_to_a_quarter_of_an_hour(attempt: int, seconds: int) -> None:
    plan = planned("a", max_attempts=200)
    state = folded(triggered(), plan, started("a", attempt), finished("a", "failed", attempt))
    task = state.task("r", "a")
    assert task is not None
    assert task.retry_not_before == T0 + 3_000 + seconds * 1_000


def test_a_wait_counts_from_the_event_where_its_id_has_no_time() -> None:
    state = folded(triggered(), planned("a"), started("a"))
    fold_event(state, event(finished("a", "failed"), T0 + 3_000, event_id=f"{ulid(T0 + 9_000)[:25]}Z"))
    assert state.task("r", "a") is not None
    odd = folded(triggered(), planned("a"), started("a"))
    fold_event(odd, replace(event(finished("a", "failed"), T0 + 3_000), event_id="evt-9"))
    tasks = state.task("r", "a"), odd.task("r", "a")
    assert tasks[0] is not None and tasks[1] is not None
    assert (tasks[0].retry_not_before, tasks[1].retry_not_before) == (T0 + 39_000, T0 + 33_000)


def test_a_dispatch_fills_a_row_but_never_takes_from_it() -> None:
    def row(*history: Object) -> tuple[str, str, str]:
        found = folded(triggered(), planned("a"), *history).dispatch("dispatch:r:a:1")
        assert found is not None
        return found.attempt_id, found.worker_queue, found.row_version

    first = {"type": "dispatch_enqueued", "dispatch_id": "dispatch:r:a:1", "cloud_task_id": "d"}
    known = {**first, "run_id": "r", "task_key": "a", "attempt": 1}
    assert row(known) == ("", "default-queue", ulid(T0 + 2_000))
    assert row(known, dispatched("a", worker_queue="fast")) == ("att1", "fast", ulid(T0 + 2_000))
    assert row(dispatched("a", worker_queue="fast"), known) == ("att1", "fast", ulid(T0 + 3_000))
    assert folded(triggered(), planned("a"), first).count("dispatch_outbox") == 0


@pytest.mark.parametrize(
    ("first", "second", "applied"),
    [
        ({"attempt_id": "", "worker_queue": "fast"}, {"attempt_id": "", "worker_queue": "fast"}, True),
        ({"attempt_id": "a", "worker_queue": ""}, {"attempt_id": "a", "worker_queue": ""}, True),
        ({"attempt_id": "a", "worker_queue": "default-queue"}, {"attempt_id": "a", "worker_queue": ""}, True),
        ({"attempt_id": "a", "worker_queue": "default-queue"}, {"attempt_id": "a"}, False),
        ({"attempt_id": "a", "worker_queue": "fast"}, {"attempt_id": "b", "worker_queue": "slow"}, False),
    ],
)
def test_what_is_empty_is_filled_even_with_nothing_and_that_uses_the_key(
    first: Object, second: Object, applied: bool
) -> None:
    # The task waits for another, so that only the row in the outbox can change.
    state = folded(triggered(), planned("a", "b<a"))
    asked = {"type": "dispatch_requested", "run_id": "r", "task_key": "b", "attempt": 1, "dispatch_id": "odd"}
    outcomes = [
        fold_event(state, event({**asked, **data}, T0 + at, key=key))
        for at, key, data in ((3_000, "k1", first), (4_000, "k2", second))
    ]
    assert outcomes == [EventOutcome.APPLIED, EventOutcome.APPLIED if applied else EventOutcome.NOT_APPLIED]
    expected = EventOutcome.DUPLICATE if applied else EventOutcome.APPLIED
    assert fold_event(state, event({**asked, **second, "dispatch_id": "new"}, T0 + 5_000, key="k2")) is expected


def test_a_sent_attempt_without_id_is_filled_by_a_request_without_one() -> None:
    sent = {"type": "dispatch_enqueued", "dispatch_id": "dispatch:r:a:1", "cloud_task_id": "d"}
    state = folded(triggered(), planned("a"), {**sent, "run_id": "r", "task_key": "a", "attempt": 1})
    data = {"type": "dispatch_requested", "run_id": "r", "task_key": "a", "attempt": 1, "attempt_id": ""}
    asked = [event({**data, "dispatch_id": "dispatch:r:a:1"}, T0 + at) for at in (3_000, 4_000)]
    assert [fold_event(state, one) for one in asked] == [EventOutcome.APPLIED, EventOutcome.DUPLICATE]


def test_secret_and_retention_are_the_fingerprint() -> None:
    configs = [
        FoldConfig("acme", "prod"),
        FoldConfig("acme", "prod", b"\0"),
        FoldConfig("acme", "prod", retention_days=0),
        FoldConfig("acme", "prod", retention_days=90),
    ]
    assert len({config.fingerprint for config in configs}) == len(configs)
    assert configs[0].fingerprint == FoldConfig("other", "place").fingerprint
    with pytest.raises(ValueError, match="negative"):
        FoldConfig("acme", "prod", retention_days=-1)


def test_unknown_tables_have_no_rows() -> None:
    for ask in (State(FoldConfig("acme", "prod")).rows, State(FoldConfig("acme", "prod")).count):
        with pytest.raises(KeyError):
            ask("nothing")
