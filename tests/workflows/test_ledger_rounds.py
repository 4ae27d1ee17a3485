"""What a round of the ledger is made of: who shares it, who waits, and what each is told.

See docs/protocol.md#ledger-rounds.
"""

from __future__ import annotations

import asyncio

import pytest

from springline import names
from springline.errors import Code
from springline.ledger.request import (
    MAX_ROUND_BYTES,
    MAX_ROUND_EVENTS,
    AppendMode,
    AppendRequest,
    EventOutcome,
    VisibilityStatus,
)
from springline.ulids import is_canonical_ulid, nth_ulid
from tests.support.ledger_events import each_request, planned, request, run_request, started, triggered
from tests.workflows.ledger_bench import LedgerBench
from tests.workflows.runs import until


async def test_all_waiting_requests_share_a_round_and_their_ids_ascend_in_order(ledger: LedgerBench) -> None:
    requests = [run_request(f"run-{number}") for number in range(5)]
    outcomes = await ledger.append(*requests)
    assert [outcome.request_id for outcome in outcomes] == [one.request_id for one in requests]
    ids = [event.event_id for outcome in outcomes for event in outcome.events]
    assert ids == [nth_ulid(ids[0], number) for number in range(10)]
    assert is_canonical_ulid(ids[0])
    assert {outcome.visibility_status for outcome in outcomes} == {VisibilityStatus.VISIBLE}
    assert {event.outcome for outcome in outcomes for event in outcome.events} == {EventOutcome.APPLIED}
    head = await ledger.head()
    assert {(one.manifest_id, one.manifest_revision) for one in outcomes} == {
        (head.manifest_id, head.manifest_revision)
    }
    assert (head.events, head.rounds_folded, head.last_event_id) == (10, 1, ids[-1])
    await ledger.finished()
    assert [one.activity for one in await ledger.attempts()] == [
        *(names.OPEN_LEDGER, names.ADMIT, names.APPEND_EVENTS, names.FOLD, names.PUBLISH)
    ]


async def test_a_repeated_request_gets_its_first_answer(ledger: LedgerBench) -> None:
    asked = run_request("run")
    first = await ledger.append_one(asked)
    assert not first.replayed
    second = await ledger.append_one(asked)
    await ledger.finished()
    third = await ledger.append_one(asked)
    for again in (second, third):
        assert again.replayed
        assert again.events == first.events
    assert (await ledger.head()).events == 2
    assert len(ledger.run_ids) == 2


async def test_the_same_request_twice_in_a_batch_waits_for_the_first_ones_answer(ledger: LedgerBench) -> None:
    asked, other = run_request("run"), run_request("other")
    first, between, second = await ledger.append(asked, other, asked)
    assert [one.replayed for one in (first, between, second)] == [False, False, True]
    assert second.events == first.events
    assert second.visibility_status is VisibilityStatus.VISIBLE
    assert (await ledger.head()).events == 4


async def test_the_same_request_id_with_other_events_is_refused(ledger: LedgerBench) -> None:
    asked = run_request("run")
    first, second = await ledger.append(asked, run_request("another", request_id=asked.request_id))
    assert first.refusal is None
    assert second.refusal is not None
    assert second.refusal.code is Code.KEY_REUSED
    assert (await ledger.head()).events == 2


async def test_a_refused_request_holds_up_nobody_and_writes_nothing(ledger: LedgerBench) -> None:
    good = [run_request("one"), run_request("two")]
    outcomes = await ledger.append(good[0], request(started("nowhere", "a")), good[1])
    assert [outcome.refusal is None for outcome in outcomes] == [True, False, True]
    refusal = outcomes[1].refusal
    assert refusal is not None
    assert refusal.remedy
    assert outcomes[1].events == []
    assert (await ledger.head()).events == 4


@pytest.mark.parametrize(
    "request_id",
    ["no-uuid", "../escape", "", "01946B1C-0000-7000-8000-000000000001"],
    ids=["no uuid", "a way out", "empty", "upper case"],
)
async def test_a_bad_request_id_is_refused_alone(request_id: str, ledger: LedgerBench) -> None:
    good, bad = await ledger.append(run_request("run"), run_request("other", request_id=request_id))
    assert good.refusal is None
    assert bad.refusal is not None
    assert bad.refusal.field == "request_id"


async def test_requests_that_lead_to_no_event_write_nothing_and_the_run_goes_on(ledger: LedgerBench) -> None:
    (refused,) = await ledger.append(request(started("nowhere", "a")))
    assert refused.refusal is not None
    assert (await ledger.opened()).next_round == 1
    await ledger.append_one(run_request("run"))
    assert (await ledger.head()).rounds_folded == 1
    assert [(one.number, one.events) for one in await ledger.rounds()] == [(1, 2)]


async def test_events_of_a_request_are_taken_each_by_itself(ledger: LedgerBench) -> None:
    asked = each_request(triggered("run"), started("run", "a"), planned("run", "a"), {"type": "nonsense"})
    first, answer, last = await ledger.append(run_request("first"), asked, run_request("last"))
    assert [one.refusal for one in (first, answer, last)] == [None] * 3
    assert [(one.index, one.code) for one in answer.refused] == [(1, Code.EVENT_CONFLICT), (3, Code.INVALID_REQUEST)]
    assert [event.event_type for event in answer.events] == ["RunTriggered", "PlanCreated"]
    assert answer.visibility_status is VisibilityStatus.VISIBLE
    assert (await ledger.head()).events == 6
    again = await ledger.append_one(asked)
    assert again.replayed
    assert (again.events, again.refused) == (answer.events, answer.refused)
    (other,) = await ledger.append(asked.model_copy(update={"mode": AppendMode.ALL}))
    assert other.refusal is not None
    assert other.refusal.code is Code.KEY_REUSED
    await ledger.finished()
    status = await ledger.status(ledger.run_ids[0])
    assert (status.appended, status.refused, status.refused_events) == (3, 1, 2)
    assert "2 event(s) refused by themselves" in await ledger.current_details(ledger.run_ids[0])


async def test_an_answer_that_refuses_every_event_is_kept_before_it_is_given(ledger: LedgerBench) -> None:
    asked = each_request(started("run", "a"))
    answer = await ledger.append_one(asked)
    assert ([one.index for one in answer.refused], answer.events) == ([0], [])
    await ledger.append_one(request(triggered("run"), planned("run", "a")))
    again = await ledger.append_one(asked)
    assert again.replayed
    assert (again.events, again.refused) == ([], answer.refused)
    assert [(one.number, one.events) for one in await ledger.rounds()] == [(1, 0), (2, 2)]


async def test_who_comes_during_a_round_shares_the_next(ledger: LedgerBench) -> None:
    release = asyncio.Event()
    ledger.faults.hold(names.FOLD, release)
    first = asyncio.create_task(ledger.append_one(run_request("first")))
    await until(lambda: ledger.runs_step(names.FOLD), "the first round is folded")
    later = [asyncio.create_task(ledger.append_one(run_request(f"later-{number}"))) for number in range(4)]
    await until(lambda: ledger.waiting(4), "four more wait")
    release.set()
    await first
    outcomes = [await one for one in later]
    assert len({outcome.manifest_revision for outcome in outcomes}) == 1
    assert (await ledger.head()).rounds_folded == 2


@pytest.mark.not_recorded
async def test_more_events_than_a_round_takes_are_split_in_order(ledger: LedgerBench) -> None:
    requests = [request(*(triggered(f"run-{number}-{n}") for n in range(300))) for number in range(5)]
    start = ledger.start_input(requests=requests)
    await ledger.append(run_request("last"), start=start)
    result = await ledger.finished()
    ids = [event.event_id for outcome in result.outcomes for event in outcome.events]
    assert ids == sorted(ids)
    rounds = await ledger.rounds()
    assert [one.events for one in rounds] == [900, 602]
    assert max(one.events for one in rounds) <= MAX_ROUND_EVENTS


@pytest.mark.not_recorded
async def test_more_bytes_than_a_round_takes_are_split_and_what_fits_none_is_refused(ledger: LedgerBench) -> None:
    def heavy(run_id: str, size: int) -> AppendRequest:
        return request(*(triggered(f"{run_id}-{n}", labels={"pad": "x" * (size // 5)}) for n in range(5)))

    third = MAX_ROUND_BYTES // 3
    requests = [heavy(f"run-{number}", third) for number in range(3)]
    first, second = requests[:2], requests[2:]
    release = asyncio.Event()
    ledger.faults.hold(names.ADMIT, release)
    held = asyncio.create_task(ledger.append(run_request("held")))
    await until(lambda: ledger.runs_step(names.ADMIT), "a round is under way")
    tasks = [asyncio.create_task(ledger.append(*some)) for some in (first, second)]
    await until(lambda: ledger.waiting(3), "three wait")
    release.set()
    await held
    outcomes = [outcome for task in tasks for outcome in await task]
    assert [outcome.refusal for outcome in outcomes] == [None] * 3
    (refused,) = await ledger.append(heavy("too much", MAX_ROUND_BYTES))
    assert refused.refusal is not None
    assert refused.refusal.code is Code.PAYLOAD_TOO_LARGE
    assert [one.requests for one in await ledger.rounds()] == [1, 2, 1]
