"""Requests `each` over a store: every answer is kept with its refusals, and is the same for ever.

See docs/protocol.md#ledger-rounds.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from springline.control.admission import round as admission_round
from springline.errors import Code
from springline.ledger.envelope import compose_event
from springline.ledger.request import (
    EVENT_WEIGHT,
    MESSAGE_EVENTS,
    REFUSED_BYTES,
    AppendOutcome,
    AppendRequest,
    EventOutcome,
    VisibilityStatus,
    fits_a_message,
    request_weight,
)
from springline.paths import orchestration_request, orchestration_round
from springline.projection.config import FoldConfig
from springline.sequencer.messages import RoundStep
from springline.sequencer.requests import encode_marker, marker_of, payload_sha256
from springline.sequencer.rounds import find_round
from springline.storage.faults import Decision, FaultyStore, OperationKind
from springline.storage.memory import MemoryStore
from springline.storage.operations import Operation
from tests.support.sequencer_run import REF, Run
from tests.support.sequencer_world import (
    SCOPE,
    ask,
    ask_each,
    finished,
    planned,
    request_id,
    scoped,
    started,
    triggered,
)
from tests.support.yardstick import check_state, head_of
from workflows.ledger_messages import AppendBatchResult
from workflows.ledger_queue import append_queue, append_ticket

MIXED = (triggered("r"), started("r", "a"), planned("r", "a"), {"type": "nonsense"}, started("r", "a"))
"""Five events, of which the second comes too early and the fourth is none."""


def told(answer: AppendOutcome) -> dict[str, Any]:
    """Return what an answer says of the events, wherever they are visible."""
    return answer.model_dump(include={"request_id", "events", "refused", "refusal"})


async def rounds_of(store: MemoryStore) -> int:
    manifest = (await head_of(store)).manifest
    assert manifest.springline is not None
    return manifest.springline.rounds_folded


async def test_what_is_taken_is_visible_and_what_is_refused_is_told() -> None:
    store = MemoryStore()
    (answer,) = await Run(store).append(ask_each(1, *MIXED))
    assert answer.refusal is None
    assert [one.index for one in answer.refused] == [1, 3]
    assert [event.outcome for event in answer.events] == [EventOutcome.APPLIED] * 3
    assert len(await check_state(store)) == 3


async def test_a_repeat_has_the_first_answer_again_with_its_refusals() -> None:
    """The second event would be taken by now."""
    store = MemoryStore()
    run = Run(store)
    (first,) = await run.append(ask_each(1, *MIXED))
    before = len(store.objects)
    for again in (run, Run(store, 1), Run(store, 2, cold=True)):
        (answer,) = await again.append(ask_each(1, *MIXED))
        assert answer.replayed
        assert told(answer) == told(first)
        assert answer.visibility_status is VisibilityStatus.VISIBLE
    assert len(store.objects) == before


async def test_one_id_stands_for_one_mode() -> None:
    store = MemoryStore()
    run = Run(store)
    await run.append(ask(1, triggered("r")), ask_each(2, triggered("s")))
    answers = await run.append(ask_each(1, triggered("r")), ask(2, triggered("s")), ask_each(2, triggered("other")))
    assert [answer.refusal and answer.refusal.code for answer in answers] == [Code.KEY_REUSED] * 3
    assert answers[0].refusal is not None
    assert "another mode" in answers[0].refusal.message
    in_one_round = await run.append(ask(3, triggered("t")), ask_each(3, triggered("t")), ask(3, triggered("t")))
    assert [answer.refusal and answer.refusal.code for answer in in_one_round] == [None, Code.KEY_REUSED, None]


async def test_requests_of_one_round_do_not_disturb_each_other() -> None:
    store = MemoryStore()
    answers = await Run(store).append(
        ask(1, triggered("r"), planned("r", "a")),
        ask_each(2, started("r", "a"), started("r", "b")),
        ask(3, finished("r", "a"), finished("r", "b")),
        ask_each(4, finished("r", "b"), finished("r", "a")),
    )
    assert [bool(answer.refusal) for answer in answers] == [False, False, True, False]
    assert [[one.index for one in answer.refused] for answer in answers] == [[], [1], [], [0]]
    assert len(await check_state(store)) == 4


# Of a request of which nothing is taken.


@pytest.mark.parametrize("company", [False, True], ids=["alone", "with others"])
async def test_an_answer_that_refuses_everything_is_kept_by_a_round(company: bool) -> None:
    store = MemoryStore()
    run = Run(store)
    others = [ask(9, triggered("other"))] if company else []
    answer, *_ = await run.append(ask_each(1, started("r", "a"), {}), *others)
    assert [one.index for one in answer.refused] == [0, 1]
    assert answer.events == []
    assert answer.visibility_status is None, "the workflow tells when the round is visible"
    assert await rounds_of(store) == 1
    assert len(await check_state(store)) == len(others)
    await run.append(ask(2, triggered("r"), planned("r", "a")))
    for again in (run, Run(store, 1)):
        (replayed,) = await again.append(ask_each(1, started("r", "a"), {}))
        assert replayed.replayed
        assert told(replayed) == told(answer)
    assert await rounds_of(store) == 2


async def test_a_round_without_events_writes_no_more_than_its_answer() -> None:
    store = MemoryStore()
    run = Run(store)
    await run.append(ask(1, triggered("r")))
    before, state = set(store.objects), (await head_of(store)).manifest
    await run.append(ask_each(2, started("r", "a")))
    added = {path.split("orchestration/", 1)[1].split("/")[0] for path in set(store.objects) - before}
    assert added == {"rounds", "requests", "manifests"}
    after = (await head_of(store)).manifest
    assert (after.l0_deltas, after.watermarks.last_committed_event_id) == (
        state.l0_deltas,
        state.watermarks.last_committed_event_id,
    )
    record = await find_round(scoped(store), 2)
    assert record is not None
    assert (record.record.events, len(record.record.requests)) == ([], 1)


async def test_known_events_and_refused_ones_alone_are_kept_too() -> None:
    """Later the known event's key may be free, and the refused one right."""
    store = MemoryStore()
    run = Run(store)
    await run.append(ask(1, triggered("r")))
    (first,) = await run.append(ask_each(2, triggered("r"), started("r", "a")))
    assert [event.outcome for event in first.events] == [EventOutcome.DUPLICATE]
    await run.append(ask(3, planned("r", "a")))
    (again,) = await run.append(ask_each(2, triggered("r"), started("r", "a")))
    assert again.replayed
    assert told(again) == told(first)


async def test_known_events_alone_need_no_round() -> None:
    store = MemoryStore()
    run = Run(store)
    await run.append(ask(1, triggered("r")))
    (answer,) = await run.append(ask_each(2, triggered("r")))
    assert answer.visibility_status is VisibilityStatus.VISIBLE
    assert await rounds_of(store) == 1
    (again,) = await Run(store, 1).append(ask_each(2, triggered("r")))
    assert again.replayed
    assert again.events == answer.events


async def test_a_sequencer_that_was_believed_dead_does_not_refuse_what_is_recorded() -> None:
    """It has judged the request on an older state, and goes on between the round of the new one and its markers."""
    judged, recorded, old_goes_on, new_goes_on = (asyncio.Event() for _ in range(4))

    async def hook(operation: Operation) -> Decision:
        if operation.kind is OperationKind.PUT and operation.actor == "old" and not judged.is_set():
            judged.set()
            await old_goes_on.wait()
        if operation.kind is OperationKind.PUT and operation.actor == "new" and "/requests/" in operation.path:
            recorded.set()
            await new_goes_on.wait()
        return Decision.PROCEED

    store = MemoryStore()
    await Run(store).append(ask(1, triggered("r")))
    faulty = FaultyStore(store, hook=hook)
    old, new = Run(faulty.actor("old"), 1), Run(faulty.actor("new"), 2)
    head = await old.settle()
    await new.settle()
    asked = ask_each(2, started("r", "a"))
    stale = asyncio.create_task(old.sequencer.admit(old.admit_order(head, [asked])))
    await judged.wait()
    taking = asyncio.create_task(new.append(ask(3, planned("r", "a")), asked))
    await recorded.wait()
    old_goes_on.set()
    assert (await stale).kind == "taken"
    new_goes_on.set()
    _, answer = await taking
    assert [event.outcome for event in answer.events] == [EventOutcome.APPLIED]
    (late,) = await old.append(asked)
    assert late.replayed
    assert told(late) == told(answer)
    assert len(await check_state(store)) == 3


@pytest.mark.parametrize("retention", [None, 0], ids=["all is kept", "retention"])
async def test_a_workspace_may_begin_with_a_request_of_which_nothing_is_taken(retention: int | None) -> None:
    store = MemoryStore()
    config = FoldConfig("acme", "prod") if retention is None else FoldConfig("acme", "prod", retention_days=retention)
    run = Run(store, config=config)
    (answer,) = await run.append(ask_each(1, started("r", "a")))
    assert len(answer.refused) == 1
    await run.append(ask(2, triggered("r"), planned("r", "a")))
    (again,) = await Run(store, 1, config=config).append(ask_each(1, started("r", "a")))
    assert told(again) == told(answer)
    if retention is None:
        assert len(await check_state(store)) == 2


# What goes wrong.


async def test_an_error_nobody_foresaw_refuses_its_event_and_is_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def composing(data: Any, **fields: Any) -> bytes:
        if getattr(data, "run_id", "") == "poison":
            raise KeyError("nobody foresaw this")
        return compose_event(data, **fields)

    monkeypatch.setattr(admission_round, "compose_event", composing)
    store = MemoryStore()
    run = Run(store)
    asked = ask_each(1, triggered("r"), triggered("poison"), triggered("s"))
    with caplog.at_level(logging.ERROR, "springline.batching"):
        answer, other = await run.append(asked, ask(2, triggered("t")))
    assert other.refusal is None
    (refused,) = answer.refused
    assert (refused.index, refused.code, refused.field, refused.status) == (1, Code.REQUEST_FAILED, "events[1]", 500)
    assert "KeyError" in refused.message
    assert request_id(1) in (refused.remedy or "")
    (record,) = [one for one in caplog.records if one.name == "springline.batching"]
    assert request_id(1) in record.getMessage()
    assert "events[1]" in record.getMessage()
    assert record.exc_info is not None
    assert len(await check_state(store)) == 3
    monkeypatch.undo()
    (again,) = await run.append(asked)
    assert told(again) == told(answer), "the answer is one for ever, errors of ours included"
    (anew,) = await run.append(ask_each(3, triggered("poison")))
    assert [event.outcome for event in anew.events] == [EventOutcome.APPLIED]


async def test_an_event_that_no_canonical_json_has_is_refused_alone() -> None:
    store = MemoryStore()
    run = Run(store)
    asked = ask_each(1, triggered("r", labels={"share": 0.5}), triggered("s"))
    (answer,) = await run.append(asked)
    assert [(one.index, one.field) for one in answer.refused] == [(0, "events[0].data.labels.share")]
    (again,) = await run.append(asked)
    assert again.replayed
    (other,) = await run.append(ask_each(1, triggered("r", labels={"share": 0.25}), triggered("s")))
    assert other.refusal is not None
    assert other.refusal.code is Code.KEY_REUSED


async def test_a_marker_that_lacks_refused_events_is_no_answer() -> None:
    """An older build finished the round, and wrote what it knew of the marker."""
    store = MemoryStore()
    run = Run(store)
    asked = ask_each(1, *MIXED)
    head = await run.settle()
    admitted = await run.step("admit", run.admit_order(head, [asked]))
    without = marker_of(admitted.answers[0].model_copy(update={"refused": []}), payload_sha256(asked), 1)
    store.seed(SCOPE.full(orchestration_request(request_id(1))), encode_marker(without))
    appended = await run.step("append", RoundStep(workspace=REF, round=admitted.round))
    assert appended.damaged == [orchestration_request(request_id(1))]
    other = Run(store, 1)
    (answer,) = await other.append(asked)
    assert answer.refusal is not None
    assert answer.refusal.code is Code.STORED_DAMAGED
    assert orchestration_request(request_id(1)) in answer.refusal.message
    assert len(await check_state(store)) == 3


async def test_a_round_without_events_whose_record_is_gone_refuses_its_request_only() -> None:
    store = MemoryStore()
    run = Run(store)
    await run.append(ask(1, triggered("r")))
    head = await run.settle()
    admitted = await run.step("admit", run.admit_order(head, [ask_each(2, started("r", "a"))]))
    await run.step("append", RoundStep(workspace=REF, round=admitted.round))
    store.remove(SCOPE.full(orchestration_round(2)))
    lost, good = await Run(store, 1).append(ask_each(2, started("r", "a")), ask(3, triggered("s")))
    assert lost.refusal is not None
    assert lost.refusal.code is Code.STORED_DAMAGED
    assert good.refusal is None


# Answers fit a message.


def wordy(number: int) -> AppendRequest:
    """Return a request of 50 events each of which is refused with as much to say as there may be."""
    return ask_each(number, *[{"type": "run_triggered", "\U0001f600" * 200: "\x01" * 20}] * 50)


async def test_answers_with_many_refusals_fit_a_message() -> None:
    """Both of what a caller's process sends together, and of what shares a round."""
    together: list[AppendRequest] = []
    while fits_a_message([*together, wordy(len(together))]):
        together.append(wordy(len(together)))
    assert len(together) == MESSAGE_EVENTS // 2 // 50
    queue = append_queue()
    for request in together:
        queue.put(append_ticket(request))
    sizes = []
    while taken := queue.take():
        answers = await Run(MemoryStore()).append(*(ticket.request for ticket in taken))
        assert all(len(answer.refused) == 50 for answer in answers)
        sizes.append(len(AppendBatchResult(outcomes=answers).model_dump_json().encode()))
    assert len(sizes) > 1
    assert sum(sizes) < 3 << 19, "half a MiB is left of the two that a message may have"
    least = sum(len(request.events) for request in together) * EVENT_WEIGHT
    assert sum(sizes) > least, "a refusal weighs more than an event that is taken"


def test_a_request_each_weighs_the_answer_that_it_may_get() -> None:
    light = ask_each(1, *[{"type": "t"}] * 10)
    assert request_weight(light) == 10 * REFUSED_BYTES
    heavy = ask_each(1, {"type": "t", "pad": "x" * 5_000})
    assert request_weight(heavy) == heavy.payload_bytes
    half, full = [{"type": "t"}] * 250, [{"type": "t"}] * 500
    assert fits_a_message([ask(number, *full) for number in range(MESSAGE_EVENTS // 500)])
    assert fits_a_message([ask_each(1, *full), ask_each(2, *half), ask(3, *full), ask(4, *full)])
    assert fits_a_message([ask_each(1, *full), ask_each(2, *full), ask_each(3, *half)])
    assert not fits_a_message([ask_each(1, *full), ask_each(2, *full), ask_each(3, *half, {"type": "t"})])
