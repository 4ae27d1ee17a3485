"""What operators can see of a ledger: every figure of it, as the worker's activities give them out."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from temporalio.exceptions import ApplicationError

from activities.ledger import LedgerActivities
from springline import names
from springline.control.admission import round as admission_round
from springline.paths import orchestration_pointer
from springline.projection.config import FoldConfig
from springline.published import pointer as publishing
from springline.storage.faults import Decision, FaultyStore
from springline.storage.memory import MemoryStore
from springline.storage.operations import Operation, OperationKind
from springline.storage.port import ObjectStore
from tests.activities.metrics import Metrics
from tests.support.reference import compact
from tests.support.sequencer_run import Run
from tests.support.sequencer_world import (
    SCOPE,
    ask,
    ask_each,
    body_of,
    event_id,
    finished,
    planned,
    seed_event,
    started,
    triggered,
)


class Steps:
    """The activities of a worker, called as `Run` calls the steps of a sequencer."""

    def __init__(self, store: ObjectStore, metrics: Metrics) -> None:
        activities = LedgerActivities(store, FoldConfig)
        environment = metrics.environment()

        def step(act: Callable[[Any], Any]) -> Callable[[Any], Any]:
            return lambda order: environment.run(act, order)

        self.open = step(activities.open_ledger)
        self.admit = step(activities.admit)
        self.admit_foreign = step(activities.admit_foreign)
        self.append = step(activities.append_events)
        self.fold = step(activities.fold)
        self.publish = step(activities.publish)


def run_of(store: ObjectStore, metrics: Metrics, number: int = 1) -> Run:
    run = Run(store, number)
    run.sequencer = Steps(store, metrics)  # type: ignore[assignment]
    return run


async def test_every_metric_of_the_ledger_is_recorded(metrics: Metrics) -> None:
    store = MemoryStore()
    late = seed_event(store, body_of(1, triggered("f")))
    run = run_of(store, metrics)
    await run.append(ask(1, triggered("r"), planned("r", "a")))
    await run.append(ask(1, triggered("r"), planned("r", "a")))
    await run.append(ask(2, finished("unknown", "a")))
    await run.ingest(late, "ledger/orchestration/no-event.json")
    wanted = {value for name, value in vars(names).items() if name.startswith("METRIC_LEDGER_")}
    elsewhere = {names.METRIC_LEDGER_GARBAGE_OBJECTS, names.METRIC_LEDGER_PUBLISH_RETRIES}
    assert metrics.names() == wanted - elsewhere
    assert metrics.of(names.METRIC_LEDGER_REQUESTS, result="accepted") == [1]
    assert metrics.of(names.METRIC_LEDGER_REQUESTS, result="replayed") == [1]
    assert metrics.of(names.METRIC_LEDGER_REQUESTS, result="refused") == [1]
    assert metrics.of(names.METRIC_LEDGER_EVENTS, origin="own", outcome="applied") == [2]
    assert metrics.of(names.METRIC_LEDGER_EVENTS, origin="foreign", outcome="applied") == [1]
    assert metrics.of(names.METRIC_LEDGER_REFUSED_EVENTS, reason="EVENT_CONFLICT") == [1]
    assert metrics.of(names.METRIC_LEDGER_REFUSED_EVENTS, reason="not_a_ledger_path") == [1]
    assert metrics.of(names.METRIC_LEDGER_ROUNDS, kind="delta") == [1]
    assert metrics.of(names.METRIC_LEDGER_ROUNDS, kind="refold") == [1]
    assert metrics.of(names.METRIC_LEDGER_ROUND_EVENTS) == [2, 1]
    assert metrics.of(names.METRIC_LEDGER_REFOLDED_EVENTS) == [3]
    assert all(count > 0 for count in metrics.of(names.METRIC_LEDGER_ROUND_STORE_REQUESTS))
    steps = {names.OPEN_LEDGER, names.ADMIT, names.ADMIT_FOREIGN, names.APPEND_EVENTS, names.FOLD, names.PUBLISH}
    for step in steps:
        assert metrics.of(names.METRIC_LEDGER_STEP_SECONDS, step=step), step


async def test_events_that_are_refused_by_themselves_are_counted_once(metrics: Metrics) -> None:
    run = run_of(MemoryStore(), metrics)
    asked = ask_each(1, triggered("r"), finished("r", "a"), finished("r", "b"), {"type": "nonsense"})
    await run.append(asked)
    await run.append(asked)
    assert metrics.of(names.METRIC_LEDGER_REQUESTS, result="accepted") == [1]
    assert metrics.of(names.METRIC_LEDGER_REQUESTS, result="replayed") == [1]
    assert metrics.of(names.METRIC_LEDGER_REFUSED_EVENTS, reason="EVENT_CONFLICT") == [1, 1]
    assert metrics.of(names.METRIC_LEDGER_REFUSED_EVENTS, reason="INVALID_REQUEST") == [1]
    assert metrics.of(names.METRIC_REQUESTS_FAILED) == []


async def test_an_event_that_meets_an_error_of_ours_is_counted(
    metrics: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    def composing(data: Any, **_: Any) -> bytes:
        raise KeyError("nobody foresaw this")

    monkeypatch.setattr(admission_round, "compose_event", composing)
    await run_of(MemoryStore(), metrics).append(ask_each(1, triggered("r"), triggered("s")))
    assert metrics.of(names.METRIC_REQUESTS_FAILED, kind="append") == [2]
    assert metrics.of(names.METRIC_LEDGER_REFUSED_EVENTS, reason="REQUEST_FAILED") == [1, 1]


@pytest.mark.parametrize("cold", [False, True], ids=["judged and folded at once", "folded by another process"])
async def test_folding_is_timed_wherever_it_happens(metrics: Metrics, cold: bool) -> None:
    store = MemoryStore()
    run = run_of(store, metrics)
    began = time.perf_counter()
    if cold:
        head = await run.settle()
        order = run.admit_order(head, [ask(1, triggered("r"), planned("r", "a"))])
        await run.step("admit", order)
        run = run_of(store, metrics, 2)
        await run.settle()
    else:
        await run.append(ask(1, triggered("r"), planned("r", "a")))
    elapsed = time.perf_counter() - began
    (seconds,) = metrics.of(names.METRIC_LEDGER_FOLD_SECONDS, kind="delta")
    assert 0 < seconds < elapsed


async def test_the_lag_is_shown_while_a_round_is_under_way_and_gone_when_it_is_visible(metrics: Metrics) -> None:
    run = run_of(MemoryStore(), metrics)
    await run.append(ask(1, triggered("r"), planned("r", "a")), ask(2, started("r", "a")))
    assert metrics.of(names.METRIC_LEDGER_LAG_EVENTS, tenant="acme", workspace="prod") == [3, 0, 3, 0]
    first, last = metrics.of(names.METRIC_LEDGER_LAG_SECONDS)[::2], metrics.of(names.METRIC_LEDGER_LAG_SECONDS)[1::2]
    assert all(seconds > 0 for seconds in first)
    assert last == [0, 0]


@pytest.mark.parametrize(("decision", "cause"), [(Decision.FAIL_BEFORE, "store"), (Decision.LOSE, "unknown")])
async def test_a_publish_that_the_store_fails_is_counted(
    metrics: Metrics, decision: Decision, cause: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publishing, "THROTTLE_PAUSES", 0)

    async def hook(operation: Operation) -> Decision:
        swaps = operation.kind is OperationKind.PUT and operation.path == SCOPE.full(orchestration_pointer())
        return decision if swaps else Decision.PROCEED

    run = run_of(FaultyStore(MemoryStore(), hook=hook), metrics)
    with pytest.raises(ApplicationError) as raised:
        await run.append(ask(1, triggered("r")))
    assert raised.value.type in (names.STORE_RETRY, names.STORE_UNKNOWN)
    assert metrics.of(names.METRIC_LEDGER_PUBLISH_RETRIES) == [1]
    assert metrics.of(names.METRIC_LEDGER_PUBLISH_RETRIES, cause=cause) == [1]


async def test_a_publish_that_another_was_faster_with_is_counted(metrics: Metrics) -> None:
    store = MemoryStore()
    run = run_of(store, metrics)
    await run.append(ask(1, triggered("r")))
    seed_event(store, body_of(1, triggered("f")))
    assert await compact(store, [event_id(1)])
    await run.append(ask(2, planned("r", "a")))
    assert metrics.of(names.METRIC_LEDGER_PUBLISH_RETRIES, cause="lost") == [1]


async def test_a_request_that_failed_alone_is_counted(metrics: Metrics, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(request: Any, now_ms: int) -> Any:
        raise RecursionError

    monkeypatch.setattr("springline.control.admission.round.drafts_of", fails)
    await run_of(MemoryStore(), metrics).append(ask(1, triggered("r"), planned("r", "a")))
    assert metrics.of(names.METRIC_REQUESTS_FAILED, kind="append") == [1]
    assert metrics.of(names.METRIC_LEDGER_REFUSED_EVENTS, reason="REQUEST_FAILED") == [2]
