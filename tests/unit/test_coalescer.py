"""The coalescer's promises, in virtual time: few batches, fair, everyone their own answer exactly once."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from springline.commit.coalescer import Coalescer
from springline.delta.request import CommitRequest, CommitResult, Mode, Outcome
from springline.delta.rounds import MAX_MEMBERS
from springline.errors import Code, Refusal
from springline.paths import Scope
from springline.requests.coalescer import FIRST_PAUSE_S, FULL_BATCH, MAX_FULL_UNDER_WAY, MAX_UNDER_WAY
from springline.requests.gateway import BatchRefused, TryAgain
from tests.support.virtual_time import run

SCOPE = Scope("acme", "prod")
TABLE = "01946b1c-0000-7000-8000-0000000000aa"
SPOILT = Refusal(code=Code.INVALID_REQUEST, message="spoilt")


def key(number: int) -> str:
    return f"01946b1c-0000-7000-8000-{number:012d}"


def request(number: int) -> CommitRequest:
    return CommitRequest(
        idempotency_key=key(number), mode=Mode.APPEND, read_version=0, staged_path=f"s/{number}", staged_version="1"
    )


def committed(asked: CommitRequest) -> Outcome:
    version = int(asked.idempotency_key[-12:])
    return Outcome(
        idempotency_key=asked.idempotency_key,
        result=CommitResult(version=version, delta_log_path=f"t/_delta_log/{version:020}.json"),
    )


class FakeSequencer:
    """Commits whatever arrives after `latency_s`; `script` holds what to raise first, one entry per batch."""

    def __init__(self, latency_s: float = 0.05, script: Sequence[Exception | None] = ()) -> None:
        self.latency_s = latency_s
        self.script = list(script)
        self.batches: list[list[str]] = []
        self.batch_ids: list[str] = []
        self.started_at: list[float] = []
        self.under_way: Counter[str] = Counter()
        self.most_under_way: Counter[str] = Counter()
        self.commits: Counter[str] = Counter()

    async def commit(
        self, scope: Scope, table_id: str, requests: Sequence[CommitRequest], *, batch_id: str
    ) -> list[Outcome]:
        self.batches.append([asked.idempotency_key for asked in requests])
        self.batch_ids.append(batch_id)
        self.started_at.append(asyncio.get_running_loop().time())
        self.under_way[table_id] += 1
        self.most_under_way[table_id] = max(self.most_under_way[table_id], self.under_way[table_id])
        failure = self.script.pop(0) if self.script else None
        try:
            await asyncio.sleep(self.latency_s)
            if failure is not None:
                raise failure
            self.commits.update(asked.idempotency_key for asked in requests)
            return [committed(asked) for asked in requests]
        finally:
            self.under_way[table_id] -= 1


def test_a_lone_request_is_sent_at_once() -> None:
    async def scenario() -> None:
        sequencer = FakeSequencer()
        coalescer = Coalescer(sequencer)
        for number in range(5):
            began = asyncio.get_running_loop().time()
            outcome = await coalescer.commit(SCOPE, TABLE, request(number))
            assert outcome == committed(request(number))
            assert asyncio.get_running_loop().time() - began == pytest.approx(sequencer.latency_s)
        assert [len(batch) for batch in sequencer.batches] == [1] * 5

    run(scenario())


def test_concurrent_requests_share_batches_of_at_most_the_limit_two_at_a_time() -> None:
    async def scenario() -> None:
        sequencer = FakeSequencer()
        coalescer = Coalescer(sequencer, max_batch=500)
        outcomes = await asyncio.gather(*(coalescer.commit(SCOPE, TABLE, request(n)) for n in range(1200)))
        assert outcomes == [committed(request(n)) for n in range(1200)]
        assert sorted(len(batch) for batch in sequencer.batches) == [200, 500, 500]
        assert sequencer.most_under_way[TABLE] == 2

    run(scenario())


def test_full_batches_go_out_until_a_round_is_full_and_others_wait() -> None:
    async def scenario() -> None:
        sequencer = FakeSequencer()
        coalescer = Coalescer(sequencer)
        tasks = [asyncio.create_task(coalescer.commit(SCOPE, TABLE, request(n))) for n in range(512)]
        await asyncio.sleep(sequencer.latency_s / 2)
        assert [len(batch) for batch in sequencer.batches] == [FULL_BATCH] * MAX_FULL_UNDER_WAY
        assert FULL_BATCH * MAX_FULL_UNDER_WAY == MAX_MEMBERS, "a round ends between batches"
        assert [(await task).idempotency_key for task in tasks] == [key(n) for n in range(512)]
        assert [len(batch) for batch in sequencer.batches[MAX_FULL_UNDER_WAY:]] == [12]

    run(scenario())


def test_batches_turned_away_together_come_back_together_after_one_pause() -> None:
    """A run ends under five full batches: what they learn, they learn once."""

    async def scenario() -> None:
        turned_away = [TryAgain("rolling over", in_doubt=False)] * MAX_FULL_UNDER_WAY
        sequencer = FakeSequencer(script=turned_away)
        coalescer = Coalescer(sequencer, jitter=lambda: 1.0)
        began = asyncio.get_running_loop().time()
        outcomes = await asyncio.gather(*(coalescer.commit(SCOPE, TABLE, request(n)) for n in range(500)))
        assert outcomes == [committed(request(n)) for n in range(500)]
        again = sequencer.batches[MAX_FULL_UNDER_WAY:]
        assert [len(batch) for batch in again] == [(MAX_FULL_UNDER_WAY - 1) * FULL_BATCH, FULL_BATCH]
        pause = sequencer.started_at[MAX_FULL_UNDER_WAY] - began - sequencer.latency_s
        assert FIRST_PAUSE_S <= pause < 2 * FIRST_PAUSE_S

    run(scenario())


def test_requests_are_served_in_the_order_they_came() -> None:
    async def scenario() -> None:
        sequencer = FakeSequencer()
        coalescer = Coalescer(sequencer, max_batch=7)
        await asyncio.gather(*(coalescer.commit(SCOPE, TABLE, request(n)) for n in range(100)))
        assert [sent for batch in sequencer.batches for sent in batch] == [key(n) for n in range(100)]

    run(scenario())


def test_closed_loop_writers_regroup_into_full_batches() -> None:
    async def scenario() -> None:
        sequencer = FakeSequencer(latency_s=0.1)
        coalescer = Coalescer(sequencer)

        async def writer(number: int) -> None:
            for step in range(20):
                await coalescer.commit(SCOPE, TABLE, request(number * 100 + step))
                await asyncio.sleep(0.0001 * number)

        await asyncio.gather(*(writer(number) for number in range(64)))
        assert sum(sequencer.commits.values()) == 64 * 20
        assert len(sequencer.batches) <= 64 * 20 / 24

    run(scenario())


def test_tables_do_not_wait_for_each_other() -> None:
    async def scenario() -> None:
        sequencer = FakeSequencer(latency_s=1.0)
        coalescer = Coalescer(sequencer, max_batch=1)
        other = TABLE.replace("aa", "bb")
        slow = [asyncio.create_task(coalescer.commit(SCOPE, TABLE, request(n))) for n in range(10)]
        await asyncio.sleep(0)
        began = asyncio.get_running_loop().time()
        await coalescer.commit(SCOPE, other, request(99))
        assert asyncio.get_running_loop().time() - began == pytest.approx(1.0)
        await asyncio.gather(*slow)

    run(scenario())


def test_a_batch_in_doubt_is_sent_again_as_it_is_under_the_same_id() -> None:
    async def scenario() -> None:
        sequencer = FakeSequencer(script=[TryAgain("lost", in_doubt=True)])
        coalescer = Coalescer(sequencer)
        first = [asyncio.create_task(coalescer.commit(SCOPE, TABLE, request(n))) for n in range(3)]
        await asyncio.sleep(0.051)
        late = asyncio.create_task(coalescer.commit(SCOPE, TABLE, request(3)))
        assert [o.result is not None for o in await asyncio.gather(*first, late)] == [True] * 4
        assert sequencer.batches == [[key(0), key(1), key(2)], [key(0), key(1), key(2)], [key(3)]]
        assert sequencer.batch_ids[0] == sequencer.batch_ids[1] != sequencer.batch_ids[2]

    run(scenario())


def test_a_batch_that_did_not_happen_is_sent_again_before_younger_requests_under_a_new_id() -> None:
    async def scenario() -> None:
        sequencer = FakeSequencer(script=[TryAgain("RollingOver", in_doubt=False)])
        coalescer = Coalescer(sequencer)
        first = [asyncio.create_task(coalescer.commit(SCOPE, TABLE, request(n))) for n in range(3)]
        await asyncio.sleep(0.051)
        late = asyncio.create_task(coalescer.commit(SCOPE, TABLE, request(3)))
        await asyncio.gather(*first, late)
        assert sequencer.batches[1] == [key(0), key(1), key(2), key(3)]
        assert sequencer.batch_ids[1] != sequencer.batch_ids[0]

    run(scenario())


def test_pauses_grow_and_respect_what_the_sequencer_asks_for() -> None:
    async def scenario() -> None:
        sequencer = FakeSequencer(
            latency_s=0.0,
            script=[TryAgain("busy", in_doubt=False)] * 5 + [TryAgain("busy", in_doubt=False, after_s=7.0)],
        )
        coalescer = Coalescer(sequencer, jitter=lambda: 1.0)
        await coalescer.commit(SCOPE, TABLE, request(1))
        times = sequencer.started_at
        pauses = [later - earlier for earlier, later in pairwise(times)]
        assert pauses[:5] == pytest.approx([0.05, 0.1, 0.2, 0.4, 0.8])
        assert pauses[5] == pytest.approx(7.0)

    run(scenario())


def test_without_an_answer_before_the_deadline_the_caller_is_told_to_repeat_the_same_key() -> None:
    async def scenario() -> None:
        sequencer = FakeSequencer(script=[TryAgain("down", in_doubt=True)] * 10_000)
        coalescer = Coalescer(sequencer, deadline_s=10.0)
        outcome = await coalescer.commit(SCOPE, TABLE, request(1))
        assert asyncio.get_running_loop().time() == pytest.approx(10.0)
        assert outcome.idempotency_key == key(1)
        assert outcome.refusal is not None
        assert outcome.refusal.code is Code.UNAVAILABLE
        assert outcome.refusal.status == 503
        assert "same key" in (outcome.refusal.remedy or "")
        sent = len(sequencer.batches)
        await asyncio.sleep(100)
        assert len(sequencer.batches) <= sent + 1, "nobody waits any more, so nothing is sent any more"
        sequencer.script.clear()
        assert (await coalescer.commit(SCOPE, TABLE, request(1))).result is not None

    run(scenario())


def test_one_spoilt_member_is_refused_alone() -> None:
    class Picky(FakeSequencer):
        async def commit(
            self, scope: Scope, table_id: str, requests: Sequence[CommitRequest], *, batch_id: str
        ) -> list[Outcome]:
            if any(asked.idempotency_key == key(13) for asked in requests):
                raise BatchRefused(SPOILT)
            return await super().commit(scope, table_id, requests, batch_id=batch_id)

    async def scenario() -> None:
        coalescer = Coalescer(Picky())
        outcomes = await asyncio.gather(*(coalescer.commit(SCOPE, TABLE, request(n)) for n in range(50)))
        assert [o.idempotency_key for o in outcomes if o.refusal is not None] == [key(13)]
        assert outcomes[13].refusal == SPOILT
        assert [o for n, o in enumerate(outcomes) if n != 13] == [committed(request(n)) for n in range(50) if n != 13]

    run(scenario())


def test_answers_for_other_keys_are_never_handed_out() -> None:
    class Confused(FakeSequencer):
        async def commit(
            self, scope: Scope, table_id: str, requests: Sequence[CommitRequest], *, batch_id: str
        ) -> list[Outcome]:
            return list(reversed(await super().commit(scope, table_id, requests, batch_id=batch_id)))

    async def scenario() -> None:
        coalescer = Coalescer(Confused())
        results = await asyncio.gather(*(coalescer.commit(SCOPE, TABLE, request(n)) for n in range(2)))
        # Alone, each got its own.
        assert results == [committed(request(0)), committed(request(1))]

    run(scenario())


def test_a_caller_that_goes_away_takes_nobody_with_it() -> None:
    async def scenario() -> None:
        sequencer = FakeSequencer()
        coalescer = Coalescer(sequencer, max_batch=4)
        tasks = [asyncio.create_task(coalescer.commit(SCOPE, TABLE, request(n))) for n in range(24)]
        await asyncio.sleep(0.01)
        for number in (0, 1, 2, 3, 21):
            tasks[number].cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        for number, result in enumerate(results):
            if number in (0, 1, 2, 3, 21):
                assert isinstance(result, asyncio.CancelledError)
            else:
                assert result == committed(request(number))
        assert key(21) not in sequencer.commits, "it had not been sent yet"

    run(scenario())


def test_closing_answers_everybody_and_takes_no_more() -> None:
    async def scenario() -> None:
        sequencer = FakeSequencer()
        coalescer = Coalescer(sequencer)
        tasks = [asyncio.create_task(coalescer.commit(SCOPE, TABLE, request(n))) for n in range(20)]
        await asyncio.sleep(0.001)
        await coalescer.aclose()
        assert all(task.done() for task in tasks)
        assert all(task.result().result is not None for task in tasks)
        refused = (await coalescer.commit(SCOPE, TABLE, request(99))).refusal
        assert refused is not None
        assert refused.code is Code.UNAVAILABLE
        assert key(99) not in sequencer.commits

    run(scenario())


def test_an_idle_table_leaves_nothing_behind() -> None:
    async def scenario() -> None:
        coalescer = Coalescer(FakeSequencer())
        await asyncio.gather(*(coalescer.commit(SCOPE, TABLE, request(n)) for n in range(10)))
        await asyncio.sleep(1)
        assert not coalescer._lanes
        assert not coalescer._pumps

    run(scenario())


@settings(max_examples=200, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    callers=st.integers(1, 80),
    failing=st.floats(0.0, 0.9),
    max_batch=st.integers(1, 30),
)
def test_everyone_gets_their_own_answer_exactly_once(seed: int, callers: int, failing: float, max_batch: int) -> None:
    """Random failures, before and after the batch took effect, random spoilt members, random arrival."""
    dice = random.Random(seed)
    spoilt = {key(number) for number in range(callers) if dice.random() < 0.05}

    class Flaky:
        def __init__(self) -> None:
            self.answers: dict[str, Outcome] = {}
            self.under_way = 0

        async def commit(
            self, scope: Scope, table_id: str, requests: Sequence[CommitRequest], *, batch_id: str
        ) -> list[Outcome]:
            assert 1 <= len(requests) <= max_batch * (MAX_FULL_UNDER_WAY - 1)
            self.under_way += 1
            assert self.under_way <= (MAX_FULL_UNDER_WAY if len(requests) >= max_batch else MAX_UNDER_WAY)
            try:
                await asyncio.sleep(dice.random() * 0.1)
                if dice.random() < failing:
                    raise TryAgain("before", in_doubt=dice.random() < 0.5)
                if any(asked.idempotency_key in spoilt for asked in requests):
                    raise BatchRefused(SPOILT)
                for asked in requests:
                    self.answers.setdefault(asked.idempotency_key, committed(asked))
                await asyncio.sleep(dice.random() * 0.1)
                if dice.random() < failing:
                    raise TryAgain("after", in_doubt=True)
                return [self.answers[asked.idempotency_key] for asked in requests]
            finally:
                self.under_way -= 1

    async def scenario() -> None:
        gateway = Flaky()
        coalescer = Coalescer(gateway, deadline_s=1e6, max_batch=max_batch, jitter=dice.random)
        delays = [dice.random() * 0.5 for _ in range(callers)]

        async def caller(number: int) -> Outcome:
            await asyncio.sleep(delays[number])
            return await coalescer.commit(SCOPE, TABLE, request(number))

        outcomes = await asyncio.gather(*(caller(number) for number in range(callers)))
        for number, outcome in enumerate(outcomes):
            if key(number) in spoilt:
                assert outcome == Outcome(idempotency_key=key(number), refusal=SPOILT)
            else:
                assert outcome == committed(request(number))
        await coalescer.aclose()
        assert not coalescer._lanes

    run(scenario())


@pytest.mark.parametrize(
    "error", [UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogate"), RecursionError("deep"), MemoryError("full")]
)
@pytest.mark.parametrize("culprits", [{7}, {0, 19}, set(range(20))])
def test_an_error_that_nobody_foresees_is_halved_until_the_culprits_are_alone(
    error: Exception, culprits: set[int], caplog: pytest.LogCaptureFixture
) -> None:
    spoilt = {request(n).idempotency_key for n in culprits}

    class Choking(FakeSequencer):
        async def commit(
            self, scope: Scope, table_id: str, requests: Sequence[CommitRequest], *, batch_id: str
        ) -> list[Outcome]:
            if spoilt & {one.idempotency_key for one in requests}:
                raise error
            return await super().commit(scope, table_id, requests, batch_id=batch_id)

    async def scenario() -> None:
        coalescer = Coalescer(Choking())
        outcomes = await asyncio.gather(*(coalescer.commit(SCOPE, TABLE, request(n)) for n in range(20)))
        failed = {n for n, one in enumerate(outcomes) if one.refusal is not None}
        assert failed == culprits
        for n in failed:
            refusal = outcomes[n].refusal
            assert refusal is not None
            assert refusal.code is Code.REQUEST_FAILED
            assert refusal.status == 500
            assert request(n).idempotency_key in refusal.message
            assert any(request(n).idempotency_key in one.getMessage() and one.exc_info for one in caplog.records)
        assert coalescer.counts.failed == len(culprits)

    run(scenario())


def test_a_batch_is_full_by_its_bytes_too() -> None:
    sizes: list[int] = []

    class Weighing(FakeSequencer):
        async def commit(
            self, scope: Scope, table_id: str, requests: Sequence[CommitRequest], *, batch_id: str
        ) -> list[Outcome]:
            sizes.append(sum(len(one.model_dump_json()) for one in requests))
            return await super().commit(scope, table_id, requests, batch_id=batch_id)

    async def scenario() -> None:
        coalescer = Coalescer(Weighing())
        heavy = [request(n).model_copy(update={"staged_version": "v" * 100_000}) for n in range(40)]
        outcomes = await asyncio.gather(*(coalescer.commit(SCOPE, TABLE, one) for one in heavy))
        assert all(one.result for one in outcomes)

    run(scenario())
    assert max(sizes) < 1 << 20
    assert sum(sizes) > 4_000_000
