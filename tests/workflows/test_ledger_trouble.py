"""Other sequencers, rounds that somebody left, steps that fail for good, and runs that end early.

See docs/protocol.md#ledger-rounds, docs/protocol.md#publication.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from temporalio.client import WorkflowUpdateFailedError
from temporalio.exceptions import ApplicationError

import workflows.ledger as ledger_module
import workflows.ledger_rounds as rounds_module
import workflows.ledger_steps as finish_module
from entrypoints.temporal_ledger import TemporalLedgerGateway
from springline import names
from springline.errors import Code
from springline.ledger.request import AppendOutcome, VisibilityStatus
from springline.sequencer.coalescer import LedgerCoalescer
from tests.support.ledger_events import run_request
from tests.workflows.faults import Step, held_until
from tests.workflows.ledger_bench import LedgerBench, Rival
from tests.workflows.runs import until

STEPS = [names.ADMIT, names.APPEND_EVENTS, names.FOLD, names.PUBLISH]


# What others did.


async def test_rounds_found_pending_become_visible_before_anything_else(ledger: LedgerBench) -> None:
    rival = Rival(ledger)
    left, behind = run_request("left"), run_request("behind")
    _, _, (kept,) = await rival.admit(left)
    new = await ledger.append_one(behind)
    assert new.events[0].event_id > kept.events[-1].event_id
    again = await ledger.append_one(left)
    assert again.replayed
    assert again.events == kept.events
    head = await ledger.head()
    assert (head.events, head.rounds_folded) == (4, 2)
    rounds = await ledger.rounds()
    assert [(one.number, one.events, one.found_pending) for one in rounds] == [(1, 2, True), (2, 2, False)]


async def test_a_start_without_requests_finishes_what_is_pending_and_ends(ledger: LedgerBench) -> None:
    rival = Rival(ledger)
    await rival.admit(run_request("left"))
    handle = await ledger.client.start_workflow(
        names.LEDGER_WORKFLOW, ledger.start_input(), id=ledger.workflow_id, task_queue=names.LEDGER_QUEUE
    )
    await ledger.note_run()
    await handle.result()
    opened = await ledger.opened()
    assert (opened.head.events, opened.pending) == (2, [])


async def test_taken_a_round_of_another_is_finished_and_ours_comes_behind_it(ledger: LedgerBench) -> None:
    rival, theirs, ours = Rival(ledger), run_request("theirs"), run_request("ours")

    async def another_is_faster() -> None:
        await rival.admit(theirs)

    ledger.faults.before(names.ADMIT, another_is_faster)
    answer = await ledger.append_one(ours)
    assert not answer.replayed
    head = await ledger.head()
    assert (head.events, head.rounds_folded, head.last_event_id) == (4, 2, answer.events[-1].event_id)
    status = await ledger.status()
    assert (status.setbacks, [one.found_pending for one in status.recent_rounds]) == (1, [True, False])
    assert (await ledger.append_one(theirs)).replayed


async def test_lost_another_published_our_round(ledger: LedgerBench) -> None:
    rival, asked = Rival(ledger), run_request("run")

    async def another_finishes_it() -> None:
        (pending,) = (await ledger.opened()).pending
        await rival.finish((await ledger.opened()).head, pending)

    ledger.faults.before(names.PUBLISH, another_finishes_it)
    answer = await ledger.append_one(asked)
    assert not answer.replayed, "the answer is that of our own admission"
    head = await ledger.head()
    assert (head.events, head.rounds_folded) == (2, 1)
    assert answer.manifest_revision == head.manifest_revision
    assert (await ledger.append_one(asked)).events == answer.events


# Patience ends sooner here than in production, and so at another place of the history.
@pytest.mark.not_recorded
async def test_a_publisher_that_is_always_faster_is_told_to_the_callers(
    ledger: LedgerBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rounds_module, "MAX_SETBACKS", 2)
    rival = Rival(ledger)

    async def another_round() -> None:
        await rival.round(run_request(f"run-{(await ledger.head()).rounds_folded}"))

    for _ in range(3):
        ledger.faults.before(names.ADMIT, another_round)
    (outcome,) = await ledger.append(run_request("ours"))
    assert outcome.refusal is not None
    assert outcome.refusal.code is Code.UNAVAILABLE
    assert "stop the other publisher" in (outcome.refusal.remedy or "")
    await ledger.append_one(run_request("ours"))
    assert (await ledger.head()).events == 8


# Steps that fail for good.


def fails_for_good() -> Step:
    async def step() -> None:
        raise ApplicationError("damaged on purpose", type=names.INVARIANT_VIOLATED, non_retryable=True)

    return step


async def test_a_failure_before_the_record_refuses_those_who_asked_and_nobody_else(ledger: LedgerBench) -> None:
    ledger.faults.before(names.ADMIT, fails_for_good())
    asked = run_request("run")
    (outcome,) = await ledger.append(asked)
    assert outcome.refusal is not None
    assert outcome.refusal.code is Code.STORED_DAMAGED
    assert "damaged on purpose" in outcome.refusal.message
    assert outcome.visibility_status is None
    assert (await ledger.status()).failure == "damaged on purpose"
    assert "damaged on purpose" in await ledger.current_details()
    await ledger.append_one(asked)
    assert (await ledger.status()).failure is None
    assert (await ledger.head()).events == 2


@pytest.mark.parametrize("step", STEPS[1:])
async def test_a_failure_behind_the_record_leaves_events_that_are_kept(step: str, ledger: LedgerBench) -> None:
    ledger.faults.before(step, fails_for_good())
    asked = run_request("run")
    (outcome,) = await ledger.append(asked)
    assert outcome.refusal is None
    assert outcome.visibility_status is VisibilityStatus.PERSISTED_NOT_VISIBLE
    assert len(outcome.events) == 2
    assert outcome.manifest_revision is None
    new = await ledger.append_one(run_request("next"))
    assert new.events[0].event_id > outcome.events[-1].event_id
    again = await ledger.append_one(asked)
    assert again.replayed
    assert again.events == outcome.events
    assert (await ledger.head()).events == 4


async def test_a_ledger_that_cannot_go_on_tells_everybody_and_goes_on_when_it_can(ledger: LedgerBench) -> None:
    rival, left = Rival(ledger), run_request("left")
    await rival.admit(left)
    release = asyncio.Event()

    async def held_then_fails() -> None:
        await release.wait()
        await fails_for_good()()

    ledger.faults.before(names.FOLD, held_then_fails)
    path = await ledger.put_foreign("01JHF2Z8G00000000000000001", "foreign")
    appends = [asyncio.create_task(ledger.append(run_request(f"run-{number}"))) for number in range(2)]
    await until(lambda: ledger.runs_step(names.FOLD), "the round that was left is folded")
    ingest = asyncio.create_task(ledger.ingest([path]))
    await until(lambda: ledger.waiting(3), "all wait for the round that was left")
    release.set()
    outcomes = [outcome for append in appends for outcome in await append]
    assert {outcome.refusal and outcome.refusal.code for outcome in outcomes} == {Code.STORED_DAMAGED}
    (foreign,) = await ingest
    assert foreign.refusal is not None
    await ledger.append_one(run_request("later"))
    assert (await ledger.append_one(left)).replayed
    assert (await ledger.head()).events == 4


async def test_who_waits_too_long_is_told_that_the_events_are_kept(
    ledger: LedgerBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finish_module, "VISIBLE_WITHIN", timedelta(milliseconds=200))
    release = asyncio.Event()
    ledger.faults.hold(names.FOLD, release)
    (outcome,) = await ledger.append(run_request("run"))
    assert outcome.refusal is None
    assert outcome.visibility_status is VisibilityStatus.PERSISTED_NOT_VISIBLE
    assert [event.ledger_path for event in outcome.events]
    status = await ledger.status()
    assert status.lag_events == 2
    assert status.lag_since_ms is not None
    assert "2 event(s) kept and not visible" in await ledger.current_details()
    release.set()
    await ledger.finished()
    assert (await ledger.head()).events == 2
    assert (await ledger.status()).lag_events == 0


# Runs that end early.


@pytest.mark.parametrize("step", STEPS)
async def test_a_cancelled_run_finishes_what_it_has_and_takes_no_more(step: str, ledger: LedgerBench) -> None:
    wake = asyncio.Event()
    ledger.faults.before(step, lambda: held_until(wake))
    caller = LedgerCoalescer(TemporalLedgerGateway(ledger.client, garbage_interval=0))
    first = asyncio.create_task(ledger.append(run_request("one")))
    await until(lambda: ledger.runs_step(step), f"{step} is under way")
    second = asyncio.create_task(ledger.append(run_request("two")))
    await until(lambda: ledger.waiting(1), "another waits")
    await ledger.note_run()
    await ledger.handle.cancel()
    await until(lambda: is_draining(ledger), "the run has heard of it")
    later = asyncio.create_task(caller.append(ledger.scope, run_request("later")))
    await until(lambda: was_sent_again(caller), "a request that comes now is told to come again")
    wake.set()
    outcomes = [*await first, *await second, await later]
    assert [outcome.visibility_status for outcome in outcomes] == [VisibilityStatus.VISIBLE] * 3
    await caller.aclose()
    await ledger.finished()
    assert len(ledger.run_ids) == 2
    assert await ledger.marks_cancellation(ledger.run_ids[0])
    assert (await ledger.head()).events == 6


@pytest.mark.parametrize("step", STEPS)
async def test_a_run_that_an_operator_terminates_takes_no_event_with_it(step: str, ledger: LedgerBench) -> None:
    wake = asyncio.Event()
    ledger.faults.before(step, lambda: held_until(wake))
    caller = LedgerCoalescer(TemporalLedgerGateway(ledger.client, garbage_interval=0))
    asked = run_request("run")
    append = asyncio.create_task(caller.append(ledger.scope, asked))
    await until(lambda: ledger.runs_step(step), f"{step} is under way")
    await ledger.note_run()
    await ledger.handle.terminate("by an operator")
    outcome: AppendOutcome = await append
    wake.set()
    assert outcome.visibility_status is VisibilityStatus.VISIBLE
    await caller.aclose()
    again = await ledger.append_one(asked)
    assert again.replayed
    assert again.events == outcome.events
    head = await ledger.head()
    assert (head.events, head.rounds_folded) == (2, 1)


# A run that drains waits for nobody, and where it does so is another place here than in production.
@pytest.mark.not_recorded
async def test_a_run_above_the_suggested_size_drains_and_the_next_one_takes_over(
    ledger: LedgerBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_module, "OLDER_DRAIN_EVENTS", 15)
    release = asyncio.Event()
    ledger.faults.hold(names.PUBLISH, release)
    first = asyncio.create_task(ledger.append_one(run_request("one")))
    await until(lambda: ledger.runs_step(names.PUBLISH), "a round is nearly visible")
    assert (await ledger.status()).draining
    late = run_request("late")
    with pytest.raises(WorkflowUpdateFailedError) as caught:
        await ledger.append(late)
    assert isinstance(caught.value.cause, ApplicationError)
    assert caught.value.cause.type == names.ROLLING_OVER
    caller = LedgerCoalescer(TemporalLedgerGateway(ledger.client, garbage_interval=0))
    through_gateway = asyncio.create_task(caller.append(ledger.scope, late))
    await until(lambda: was_sent_again(caller), "the gateway was told to come again")
    release.set()
    await first
    assert (await through_gateway).visibility_status is VisibilityStatus.VISIBLE
    await caller.aclose()
    await ledger.finished()
    assert len(ledger.run_ids) == 2
    assert (await ledger.head()).events == 4


async def test_a_run_with_a_long_history_ends_between_two_rounds(
    ledger: LedgerBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_module, "DRAIN_EVENTS", 15)
    caller = LedgerCoalescer(TemporalLedgerGateway(ledger.client, garbage_interval=0))
    requests = [run_request(f"request-{number}") for number in range(4)]
    answers = []
    for request in requests:
        answers.append(await caller.append(ledger.scope, request))
        await ledger.note_run()
    again = [await caller.append(ledger.scope, request) for request in requests]
    await caller.aclose()
    assert [one.events for one in again] == [one.events for one in answers]
    assert all(one.replayed for one in again)
    await ledger.finished()
    assert len(ledger.run_ids) > 2
    assert (await ledger.head()).events == sum(len(one.events) for one in answers)


async def test_a_full_queue_is_told_to_callers_and_takes_what_fits(
    ledger: LedgerBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_module, "MAX_QUEUE", 2)
    release = asyncio.Event()
    ledger.faults.hold(names.FOLD, release)
    first = asyncio.create_task(ledger.append_one(run_request("first")))
    await until(lambda: ledger.runs_step(names.FOLD), "the first round is folded")
    waiting = asyncio.create_task(ledger.append_one(run_request("second")))
    await until(lambda: ledger.waiting(1), "the second waits")
    with pytest.raises(WorkflowUpdateFailedError) as caught:
        await ledger.append(run_request("third"), run_request("fourth"))
    assert isinstance(caught.value.cause, ApplicationError)
    assert caught.value.cause.type == names.ROLLING_OVER
    assert "1 requests already wait" in caught.value.cause.message
    release.set()
    await first
    await waiting


async def is_draining(ledger: LedgerBench) -> bool:
    return (await ledger.status()).draining


async def was_sent_again(caller: LedgerCoalescer) -> bool:
    return caller.counts[0].retries > 0
