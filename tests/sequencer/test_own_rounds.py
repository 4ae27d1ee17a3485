"""Rounds of our own callers: kept, visible, answered once for ever, at the price of few requests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import orjson
import pytest

from springline.errors import Code
from springline.ledger.request import AppendOutcome, EventOutcome, VisibilityStatus
from springline.paths import orchestration_request, orchestration_round
from springline.published import merge
from springline.published.configuration import OtherConfiguration
from springline.sequencer.messages import RoundStep
from springline.sequencer.requests import encode_marker, marker_of
from springline.storage.faults import FaultyStore, OperationKind
from springline.storage.memory import MemoryStore
from tests.support.sequencer_run import REF, Run
from tests.support.sequencer_world import (
    CONFIG,
    SCOPE,
    ask,
    finished,
    linear_run,
    planned,
    request_id,
    scoped,
    started,
    triggered,
)
from tests.support.yardstick import check_state, head_of

Record = Callable[[str, object], None]


async def test_what_is_appended_is_visible_and_is_the_in_order_fold() -> None:
    store = MemoryStore()
    run = Run(store)
    for number, payload in enumerate(linear_run("r", ["a", "b"])):
        (answer,) = await run.append(ask(number, payload))
        assert answer.refusal is None
        assert [event.outcome for event in answer.events] == [EventOutcome.APPLIED]
    bodies = await check_state(store)
    assert [orjson.loads(body)["event_type"] for body in bodies] == [
        "RunTriggered",
        "PlanCreated",
        *["TaskStarted", "TaskFinished"] * 2,
    ]
    assert all(store.objects[SCOPE.full(e.ledger_path)] for e in answer.events)  # type: ignore[arg-type]
    manifest = (await head_of(store)).manifest
    assert manifest.schema_version == 2
    assert manifest.manifest_id == "00000000000000000006"


async def test_a_lone_append_on_a_warm_worker_costs_few_requests(record_property: Record) -> None:
    inner = MemoryStore()
    run = Run(inner)
    await run.append(ask(1, triggered("r"), planned("r", "a", "b")))
    await run.append(ask(2, triggered("s")))
    store = FaultyStore(inner)
    run.sequencer._store = scoped(store)
    await run.append(ask(3, started("r", "a")))
    kinds = {kind: store.count(kind) for kind in OperationKind}
    tables = {op.operation.path.rsplit("/", 1)[-1].split(".")[0] for op in store.trace if "/l0/" in op.operation.path}
    print(f"a warm lone append: {dict(store.requests)}")
    record_property("explored", f"a warm lone append: {store.count()} requests")
    assert (kinds[OperationKind.LIST], kinds[OperationKind.HEAD], kinds[OperationKind.DELETE]) == (0, 0, 0)
    assert kinds[OperationKind.GET] == 1
    # Record, event, marker, index, manifest, pointer; and the delta's tables, tombstones and buckets.
    assert kinds[OperationKind.PUT] == 6 + len(tables)
    assert {"deletions", "buckets"} < tables


async def test_a_repeated_request_has_the_first_answer_again() -> None:
    store = MemoryStore()
    run = Run(store)
    (first,) = await run.append(ask(1, triggered("r"), planned("r", "a")))
    before = len(store.objects)
    for again in (run, Run(store, 1)):
        (answer,) = await again.append(ask(1, triggered("r"), planned("r", "a")))
        assert answer.replayed
        assert answer.events == first.events
        assert answer.visibility_status is VisibilityStatus.VISIBLE
        assert answer.manifest_id == (await head_of(store)).manifest.manifest_id
    assert len(store.objects) == before


async def test_other_events_under_a_used_request_id_are_refused() -> None:
    store = MemoryStore()
    await Run(store).append(ask(1, triggered("r")))
    (answer,) = await Run(store, 1).append(ask(1, triggered("s")))
    assert answer.refusal is not None
    assert (answer.refusal.code, answer.refusal.value) == (Code.KEY_REUSED, request_id(1))


async def test_requests_of_one_round_are_judged_one_after_the_other_and_each_answered() -> None:
    store = MemoryStore()
    twice, other = ask(2, planned("r", "a")), ask(2, planned("r", "b"))
    fraction = ask(4, triggered("x", labels={"share": 0.5}))
    answers = await Run(store).append(
        ask(1, triggered("r")), twice, twice, other, ask(3, started("r", "nobody")), fraction
    )
    codes = [answer.refusal and answer.refusal.code for answer in answers]
    assert codes[:3] == [None] * 3
    assert codes[3] is Code.KEY_REUSED
    assert codes[4] is not None
    assert codes[5:] == [Code.INVALID_REQUEST]
    assert answers[1].events == answers[2].events
    assert not answers[2].replayed
    assert len(await check_state(store)) == 2


async def test_events_whose_keys_are_used_are_answered_without_a_round_and_for_good() -> None:
    store = MemoryStore()
    run = Run(store)
    (first,) = await run.append(ask(1, triggered("r")))
    (answer,) = await run.append(ask(2, triggered("r")))
    assert [event.event_id for event in answer.events] == [event.event_id for event in first.events]
    assert [event.outcome for event in answer.events] == [EventOutcome.DUPLICATE]
    assert answer.visibility_status is VisibilityStatus.VISIBLE
    assert (await head_of(store)).manifest.springline.rounds_folded == 1  # type: ignore[union-attr]
    (again,) = await Run(store, 1).append(ask(2, triggered("r")))
    assert again.replayed
    assert again.events == answer.events


async def test_a_refused_request_leaves_nothing_and_holds_up_nobody() -> None:
    store = MemoryStore()
    run = Run(store)
    await run.append(ask(1, triggered("r"), planned("r", "a")))
    before = dict(store.objects)
    (refused,) = await run.append(ask(2, started("r", "a"), finished("r", "b")))
    assert refused.refusal is not None
    assert dict(store.objects) == before
    (good,) = await run.append(ask(2, started("r", "a"), finished("r", "a")))
    assert good.refusal is None
    assert not good.replayed
    assert len(await check_state(store)) == 4


async def test_a_marker_of_an_unfinished_round_asks_to_open_again() -> None:
    store = MemoryStore()
    run = Run(store)
    await run.append(ask(1, triggered("r")))
    assert run.head is not None
    other = Run(store, 2)
    await other.settle()
    other.head, other.next_round = run.head, 2
    pending = (await other.step("admit", other.admit_order(run.head, [ask(2, triggered("s"))]))).round
    await other.step("append", RoundStep(workspace=REF, round=pending))
    admitted = await run.sequencer.admit(run.admit_order(run.head, [ask(2, triggered("s"))]))
    assert admitted.kind == "taken"


async def test_a_marker_whose_round_is_gone_refuses_its_own_request_only() -> None:
    store = MemoryStore()
    run = Run(store)
    await run.append(ask(1, triggered("r")))
    ahead = encode_marker(marker_of(AppendOutcome(request_id=request_id(2)), "p", 9))
    store.seed(SCOPE.full(orchestration_request(request_id(2))), ahead)
    lost, good = await run.append(ask(2, triggered("s")), ask(3, triggered("t")))
    assert lost.refusal is not None
    assert lost.refusal.code is Code.STORED_DAMAGED
    assert orchestration_round(9) in lost.refusal.message
    assert good.refusal is None
    assert len(await check_state(store)) == 2


async def test_a_damaged_marker_refuses_its_own_request_only() -> None:
    store = MemoryStore()
    store.seed(SCOPE.full(orchestration_request(request_id(2))), b"damaged")
    answers = await Run(store).append(ask(1, triggered("r")), ask(2, triggered("s")))
    assert [answer.refusal and answer.refusal.code for answer in answers] == [None, Code.STORED_DAMAGED]
    assert len(await check_state(store)) == 1


@pytest.mark.parametrize(
    ("other", "variable", "said", "remedy"),
    [
        (
            {"run_id_secret": b"another secret"},
            "SPRINGLINE_RUN_ID_SECRET",
            "with another SPRINGLINE_RUN_ID_SECRET",
            "Give every worker the SPRINGLINE_RUN_ID_SECRET that they had",
        ),
        (
            {"retention_days": 30},
            "SPRINGLINE_RETENTION_DAYS",
            "was folded with no SPRINGLINE_RETENTION_DAYS, and this worker has SPRINGLINE_RETENTION_DAYS=30",
            "`springline rebuild start MANIFEST --mode full`",
        ),
    ],
)
async def test_another_configuration_is_refused_before_anything_is_written(
    other: dict[str, Any], variable: str, said: str, remedy: str
) -> None:
    store = MemoryStore()
    await Run(store).append(ask(1, triggered("r")))
    before = dict(store.objects)
    with pytest.raises(OtherConfiguration) as refusal:
        await Run(store, 1, config=replace(CONFIG, **other)).append(ask(2, triggered("s")))
    told = refusal.value.refusal
    assert (told.code, told.status, told.field) == (Code.UNAVAILABLE, 503, variable), "callers wait, and send it again"
    assert said in told.message
    assert remedy in (told.remedy or "")
    assert dict(store.objects) == before


async def test_bases_and_merged_deltas_come_about_and_cold_workers_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(merge, "MIN_BASE_ROWS", 40)
    stores = [MemoryStore(), MemoryStore()]
    runs = [Run(stores[0]), Run(stores[1], cold=True)]
    for number, payload in enumerate([p for r in "rstuv" for p in linear_run(r, ["a", "b"])]):
        for run in runs:
            await run.append(ask(number, payload))
    assert runs[0].kinds == runs[1].kinds
    assert {"base", "delta"} == set(runs[0].kinds)
    assert dict.fromkeys(stores[0].objects) == dict.fromkeys(stores[1].objects)
    assert {p: o.data for p, o in stores[0].objects.items()} == {p: o.data for p, o in stores[1].objects.items()}
    assert len(await check_state(stores[0])) == 30
