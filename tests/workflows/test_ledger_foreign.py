"""Foreign events through LedgerWorkflow: late, duplicated, refused, deferred, and in turn with appends.

See docs/protocol.md#ledger-rounds.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from temporalio.testing import WorkflowEnvironment

from springline import names
from springline.ledger.request import RefusalReason, VisibilityStatus
from springline.paths import canonical_ulid_event
from springline.ulids import new_ulid
from tests.support.ledger_events import run_request
from tests.workflows.ledger_bench import LedgerBench
from tests.workflows.runs import until

OLD = "01JHF2Z8G00000000000000001"
"""An id of January 2025: below everything the sequencer writes."""
OLDER = "01JHF2Z8G00000000000000000"


async def test_late_events_are_accepted_once_and_shown_by_a_refold(ledger: LedgerBench) -> None:
    await ledger.append_one(run_request("ours"))
    paths = [await ledger.put_foreign(OLD, "old"), await ledger.put_foreign(OLDER, "older")]
    (first,) = await ledger.ingest(paths)
    assert (first.accepted, first.late, first.known, first.refused) == (2, 2, 0, [])
    assert first.visibility_status is VisibilityStatus.VISIBLE
    (second,) = await ledger.ingest([*paths, paths[0]])
    assert (second.accepted, second.known) == (0, 2)
    head = await ledger.head()
    assert head.events == 4
    assert first.manifest_revision == head.manifest_revision
    rounds = await ledger.rounds()
    assert [(one.foreign, one.kind, one.events) for one in rounds] == [(False, "delta", 2), (True, "refold", 2)]


async def test_what_is_no_event_is_refused_by_name_and_holds_up_nobody(ledger: LedgerBench) -> None:
    good = await ledger.put_foreign(OLD, "good")
    broken = await ledger.put_foreign(OLDER, "broken", body=b"{")
    missing = canonical_ulid_event("01JHF2Z8G00000000000000002")
    elsewhere = "ledger/orchestration/2020-01-01/01JHF2Z8G00000000000000003.json"
    outside = "delta/tables/x.json"
    no_ulid = "ledger/orchestration/2025-01-15/evt-1.json"
    first, second = await ledger.ingest([broken, missing, elsewhere, outside, no_ulid], [good])
    assert (second.accepted, second.refused) == (1, [])
    assert first.accepted == 0
    assert {(one.path, one.reason) for one in first.refused} == {
        (broken, RefusalReason.UNREADABLE),
        (missing, RefusalReason.MISSING),
        (elsewhere, RefusalReason.WRONG_PATH),
        (outside, RefusalReason.NOT_A_LEDGER_PATH),
        (no_ulid, RefusalReason.NOT_A_ULID),
    }
    assert all(one.message for one in first.refused)
    assert (await ledger.head()).events == 1


async def test_an_event_from_the_future_is_deferred_and_taken_in_when_it_is_due(
    own_ledger: LedgerBench, own_environment: WorkflowEnvironment
) -> None:
    ledger = own_ledger
    now_ms = int((await own_environment.get_current_time()).timestamp() * 1000)
    ahead = await ledger.put_foreign(new_ulid(None, now_ms + 10 * 60 * 1000, 1), "ahead")
    far = await ledger.put_foreign(new_ulid(None, now_ms + 24 * 3600 * 1000, 1), "far ahead")
    (outcome,) = await ledger.ingest([ahead, far])
    assert (outcome.accepted, sorted(outcome.deferred)) == (0, sorted([ahead, far]))
    status = await ledger.status()
    assert [one.path for one in status.deferred] == [ahead, far]
    assert status.phase == "waiting for 2 deferred event(s) to be due"
    assert (await ledger.head()).events == 0
    # Whoever comes meanwhile is served; the timer goes on behind it.
    await ledger.append_one(run_request("between"))
    await own_environment.sleep(timedelta(minutes=6))
    await ledger.finished()
    assert (await ledger.head()).events == 3
    last = await ledger.status()
    assert [one.path for one in last.deferred] == [far]
    assert f"`{far}`" in await ledger.current_details()


async def test_appends_and_foreign_events_take_turns(ledger: LedgerBench) -> None:
    release = asyncio.Event()
    ledger.faults.hold(names.FOLD, release)
    first = asyncio.create_task(ledger.append_one(run_request("first")))
    await until(lambda: ledger.runs_step(names.FOLD), "a round is folded")
    path = await ledger.put_foreign(OLD, "old")
    appends = asyncio.create_task(ledger.append(*(run_request(f"run-{number}") for number in range(3))))
    await until(lambda: ledger.waiting(3), "appends wait")
    ingest = asyncio.create_task(ledger.ingest([path], [path]))
    await until(lambda: ledger.waiting(5), "foreign events wait")
    release.set()
    await first
    assert [outcome.refusal for outcome in await appends] == [None] * 3
    one, other = await ingest
    assert (one.accepted + other.accepted, one.known + other.known) == (1, 1)
    rounds = await ledger.rounds()
    assert [round_.foreign for round_ in rounds] == [False, True, False]
    assert (await ledger.head()).events == 9


@pytest.mark.not_recorded
async def test_more_paths_than_a_round_takes_are_looked_at_in_rounds(ledger: LedgerBench) -> None:
    missing = [canonical_ulid_event(new_ulid(None, 1_736_935_200_000, number)) for number in range(4_000)]
    outcomes = await ledger.ingest(missing[:2_500], missing[2_500:])
    assert [(one.accepted, one.refusal) for one in outcomes] == [(0, None), (0, None)]
    again = [asyncio.create_task(ledger.ingest(missing)) for _ in range(2)]
    assert [(await one)[0].refusal for one in again] == [None, None]
