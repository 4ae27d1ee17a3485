"""What a round is made of: who shares a version, who waits, and in which order (docs/protocol.md#commit-rounds)."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from temporalio.api.enums.v1 import EventType

import workflows.commit as commit_module
from springline import names
from springline.delta.rounds import MAX_ROUND_BYTES
from springline.errors import Code
from tests.support.rows import adding
from tests.workflows.bench import Bench, versions
from tests.workflows.runs import until


async def test_all_waiting_appends_become_one_version_with_their_actions_in_order(bench: Bench) -> None:
    requests = [await bench.stage(f"file-{number}") for number in range(5)]
    assert versions(await bench.commit(*requests)) == [1] * 5
    assert bench.added(1) == [f"file-{number}" for number in range(5)]
    (info,) = [action["commitInfo"] for action in bench.log(1) if "commitInfo" in action]
    assert [member["key"] for member in info["springline"]["members"]] == [one.idempotency_key for one in requests]
    await bench.finished()
    assert await bench.inflight_is_null()


async def test_a_strict_request_at_the_head_commits_alone_and_the_appends_behind_it_together(bench: Bench) -> None:
    requests = [
        await bench.stage_strict("strict", 0),
        await bench.stage("one"),
        await bench.stage("two"),
        await bench.stage_strict("too-early", 2),
        await bench.stage("three"),
    ]
    outcomes = await bench.commit(*requests)
    assert versions(outcomes) == [1, 2, 2, None, 2]
    # A version that does not exist yet is bad input, whatever is about to be committed.
    assert outcomes[3].refusal is not None
    assert outcomes[3].refusal.code is Code.FUTURE_READ_VERSION
    assert [bench.added(version) for version in (1, 2)] == [["strict"], ["one", "two", "three"]]
    await bench.finished()
    activities = [one.activity for one in await bench.attempts()]
    assert activities == [
        *(names.RESERVE, names.WRITE_LOG, names.WRITE_MARKER),
        *(names.FINALIZE_AND_RESERVE, names.WRITE_LOG, names.WRITE_MARKER),
        names.FINALIZE,
    ]


async def test_a_strict_request_overtaken_by_appends_is_told_what_was_committed(bench: Bench) -> None:
    append = await bench.stage("append")
    strict = await bench.stage_strict("strict", 0)
    first, second = await bench.commit(append, strict)
    assert first.result is not None
    refusal = second.refusal
    assert refusal is not None
    assert refusal.code is Code.STALE_READ_VERSION
    assert refusal.latest_version == 1
    assert refusal.commits_since is not None
    assert [(one.version, one.key) for one in refusal.commits_since] == [(1, None)]
    # The refusal names version and remedy; with the right version the same key succeeds.
    again = strict.model_copy(update={"read_version": 1})
    assert (await bench.commit_one(again)).version == 2


async def test_of_two_strict_requests_for_one_version_the_second_is_refused(bench: Bench) -> None:
    outcomes = await bench.commit(await bench.stage_strict("winner", 0), await bench.stage_strict("loser", 0))
    assert versions(outcomes) == [1, None]
    assert bench.added(1) == ["winner"]


async def test_the_same_key_twice_in_a_batch_waits_for_the_first_ones_answer(bench: Bench) -> None:
    request = await bench.stage("file")
    other = await bench.stage("other")
    outcomes = await bench.commit(request, other, request)
    assert versions(outcomes) == [1, 1, 1]
    assert [outcome.replayed for outcome in outcomes] == [False, False, True]
    assert bench.added(1) == ["file", "other"]


async def test_the_same_key_with_another_payload_in_one_batch_is_refused(bench: Bench) -> None:
    request = await bench.stage("file")
    impostor = await bench.stage("impostor", key=request.idempotency_key)
    first, second = await bench.commit(request, impostor)
    assert first.result is not None
    assert second.refusal is not None
    assert second.refusal.code is Code.KEY_REUSED
    assert bench.added(1) == ["file"]


async def test_appends_of_one_path_or_one_application_never_share_a_version(bench: Bench) -> None:
    txn = b'{"txn":{"appId":"app","version":%d}}\n'
    requests = [
        await bench.stage("same"),
        await bench.stage("same"),
        await bench.stage_bytes(txn % 1),
        await bench.stage_bytes(txn % 2),
        await bench.stage("other"),
    ]
    outcomes = await bench.commit(*requests)
    assert versions(outcomes)[:3] == [1, 2, 1]
    assert versions(outcomes)[4] == 1
    # Whoever waits behind a commit of its own application read too old a version.
    assert outcomes[3].refusal is not None
    assert outcomes[3].refusal.code is Code.TXN_CONFLICT


async def test_a_bad_member_is_refused_and_holds_up_nobody(bench: Bench) -> None:
    good = [await bench.stage("one"), await bench.stage("two")]
    missing = (await bench.stage("gone")).model_copy(update={"staged_version": "another"})
    garbage = await bench.stage_bytes(b"not json\n")
    bad_key = (await bench.stage("key")).model_copy(update={"idempotency_key": "no-uuid"})
    outcomes = await bench.commit(good[0], missing, garbage, bad_key, good[1])
    assert versions(outcomes) == [1, None, None, None, 1]
    codes = [outcome.refusal and outcome.refusal.code for outcome in outcomes]
    assert codes == [None, Code.STAGED_CHANGED, Code.INVALID_PAYLOAD, Code.INVALID_KEY, None]


@pytest.mark.not_recorded
async def test_more_than_a_round_takes_is_split_in_order(bench: Bench) -> None:
    first = [await bench.stage(f"first-{number}") for number in range(500)]
    second = [await bench.stage(f"second-{number}") for number in range(150)]
    outcomes = await bench.commit(*second, start=bench.start_input(requests=first))
    assert versions(outcomes) == [2] * 150
    assert bench.added(1) == [f"first-{number}" for number in range(500)]
    assert bench.added(2) == [f"second-{number}" for number in range(150)]
    assert versions((await bench.finished()).outcomes) == [1] * 500


async def test_more_bytes_than_a_round_takes_are_split(bench: Bench) -> None:
    padding = b"x" * (MAX_ROUND_BYTES // 6)
    requests = []
    for number in range(4):
        halves = [
            adding(f"file-{number}-{half}").replace(b'"size":1', b'"pad":"%s","size":1' % padding) for half in "ab"
        ]
        requests.append(await bench.stage_bytes(b"".join(halves)))
    assert versions(await bench.commit(*requests)) == [1, 1, 2, 2]


async def test_who_comes_during_a_round_shares_the_next(bench: Bench) -> None:
    release = asyncio.Event()
    bench.faults.hold(names.WRITE_LOG, release)
    first = asyncio.create_task(bench.commit(await bench.stage("first")))
    await until(bench.is_reserved, "the first round is reserved")
    later = [asyncio.create_task(bench.commit(await bench.stage(f"later-{number}"))) for number in range(4)]
    await until(lambda: bench.waiting(4), "four more wait")
    release.set()
    assert versions(await first) == [1]
    assert [versions(await one) for one in later] == [[2]] * 4
    assert len(bench.added(2)) == 4


async def test_a_caller_that_comes_back_finds_the_run_and_shares_its_writes(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second comes while the run rests; from then on it lingers, and each round finalizes the one before."""
    for name in ("LEAST_PATIENCE", "MOST_PATIENCE"):
        monkeypatch.setattr(commit_module, name, timedelta(seconds=3))
    for number in range(1, 4):
        assert (await bench.commit_one(await bench.stage(f"file-{number}"))).version == number
    assert not await bench.inflight_is_null()
    await bench.finished()
    assert len(bench.run_ids) == 1
    assert await bench.inflight_is_null()
    activities = [one.activity for one in await bench.attempts()]
    swaps = [name for name in activities if name not in (names.WRITE_LOG, names.WRITE_MARKER)]
    assert swaps == [names.RESERVE, names.FINALIZE, names.RESERVE, names.FINALIZE_AND_RESERVE, names.FINALIZE]


async def test_a_run_started_by_hand_ends_at_once(bench: Bench) -> None:
    requests = [await bench.stage("one"), await bench.stage("two")]
    handle = await bench.client.start_workflow(
        names.COMMIT_WORKFLOW, bench.start_input(requests=requests), id=bench.workflow_id, task_queue=names.COMMIT_QUEUE
    )
    await handle.result()
    await bench.note_run()
    kinds = {event.event_type for event in (await bench.history()).events}
    assert EventType.EVENT_TYPE_TIMER_STARTED not in kinds
    assert await bench.inflight_is_null()
