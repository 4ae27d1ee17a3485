"""Many concurrent requests of one process for one table become few batches (design 3.2 and 9).

A sequencer takes few messages at a time (Temporal admits 10 updates in flight per workflow) and commits many
requests as cheaply as one, so each process keeps two batches of a table under way: one being committed and one
waiting behind it. Whoever comes meanwhile shares the next batch, first come first served. A request that comes when
nothing is under way is sent at once. Only full batches go out beyond the two, up to as many as one round takes.

A batch is answered when its last member is, so its size is the unit in which callers wait for each other: a fifth of
a round, so that a round ends between batches and not within one, which would hold up answers that are long there.
"""

from __future__ import annotations

import asyncio
import random
import uuid
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from springline.commit.gateway import MAX_BATCH, BatchRefused, CommitGateway, TryAgain
from springline.delta.request import CommitRequest, Outcome
from springline.errors import Code, InvariantViolated, Refusal
from springline.paths import Scope

MAX_UNDER_WAY = 2
FULL_BATCH = 100
"""Members of a full batch; a round takes five of them (design 3.2)."""
MAX_FULL_UNDER_WAY = 5
GATHER_STEP_S = 0.002
GATHER_SHARE = 0.1
"""Gathering takes at most this share of what a batch lately took."""
MAX_GATHER_S = 0.2
"""Long where rounds are long, because a store takes one write a second: a small batch would miss most of its round."""
LINGER_S = 0.1
"""How long a table is still called busy after its last batch: closed-loop callers come back within it."""
FIRST_PAUSE_S = 0.05
MAX_PAUSE_S = 2.0
RETRY_AFTER_S = 2


@dataclass(eq=False, slots=True)
class _Waiting:
    """One caller: what it asked and where it waits for the answer."""

    request: CommitRequest
    answer: asyncio.Future[Outcome]

    @property
    def gone(self) -> bool:
        return self.answer.done()


@dataclass(eq=False, slots=True)
class _Batch:
    """Members that are sent together, and the id under which they are joined if they are sent again."""

    members: list[_Waiting]
    batch_id: str


@dataclass(eq=False, slots=True)
class _Lane:
    """One table's requests in this process."""

    scope: Scope
    table_id: str
    waiting: deque[_Waiting] = field(default_factory=deque)
    again: deque[_Batch] = field(default_factory=deque)
    sending: set[asyncio.Task[None]] = field(default_factory=set)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    failures: int = 0
    not_before: float = 0.0
    last_done: float = float("-inf")
    last_size: int = 0
    took_s: float = 0.0


@dataclass(slots=True)
class Counts:
    """What a coalescer has done so far, for metrics: requests, batches, batches sent again, expired requests."""

    requests: int = 0
    batches: int = 0
    retries: int = 0
    expired: int = 0


class Coalescer:
    """Commits single requests through a gateway of batches.

    `deadline_s`: how long a request may wait for its answer, tries included, in seconds. `jitter` returns a
    number in [0, 1).
    """

    def __init__(
        self,
        gateway: CommitGateway,
        *,
        deadline_s: float = 60.0,
        max_batch: int = FULL_BATCH,
        max_under_way: int = MAX_UNDER_WAY,
        max_full_under_way: int = MAX_FULL_UNDER_WAY,
        jitter: Callable[[], float] = random.random,
        new_id: Callable[[], str] = lambda: str(uuid.uuid4()),
    ) -> None:
        self._gateway = gateway
        self._deadline_s = deadline_s
        self._max_batch = min(max_batch, MAX_BATCH)
        self._max_under_way = max_under_way
        self._max_full_under_way = max_full_under_way
        self._jitter = jitter
        self._new_id = new_id
        self._lanes: dict[tuple[Scope, str], _Lane] = {}
        self._pumps: set[asyncio.Task[None]] = set()
        self._closed = False
        self.counts = Counts()

    async def commit(self, scope: Scope, table_id: str, request: CommitRequest) -> Outcome:
        """Commit one request and return what became of it.

        When no answer can be had before the deadline, the outcome's refusal is UNAVAILABLE: the request may or
        may not be committed, and the same request under the same key finds out.
        """
        if self._closed:
            return _unavailable(request, "this process is shutting down")
        loop = asyncio.get_running_loop()
        member = _Waiting(request, loop.create_future())
        self.counts.requests += 1
        lane = self._lane(scope, table_id)
        lane.waiting.append(member)
        lane.changed.set()
        expiry = loop.call_later(self._deadline_s, self._expire, member)
        try:
            return await member.answer
        finally:
            expiry.cancel()

    async def aclose(self) -> None:
        """Take no more requests, and wait until every request taken has its answer or reached its deadline."""
        self._closed = True
        while self._pumps:
            for lane in self._lanes.values():
                lane.changed.set()
            await asyncio.wait(set(self._pumps))

    def _lane(self, scope: Scope, table_id: str) -> _Lane:
        lane = self._lanes.get((scope, table_id))
        if lane is None:
            lane = self._lanes[scope, table_id] = _Lane(scope, table_id)
            pump = asyncio.create_task(self._pump(lane))
            self._pumps.add(pump)
            pump.add_done_callback(self._pumps.discard)
        return lane

    def _expire(self, member: _Waiting) -> None:
        if not member.gone:
            self.counts.expired += 1
            member.answer.set_result(_unavailable(member.request, f"no answer within {self._deadline_s:g} s"))

    async def _pump(self, lane: _Lane) -> None:
        """Send a lane's batches until it has been idle for a while."""
        loop = asyncio.get_running_loop()
        while True:
            lane.changed.clear()
            self._forget_the_gone(lane)
            pause = lane.not_before - loop.time()
            if not lane.again and not lane.waiting:
                if not lane.sending and not await self._lingers(lane):
                    del self._lanes[lane.scope, lane.table_id]
                    return
                if lane.sending:
                    await lane.changed.wait()
            elif len(lane.sending) >= self._limit(lane):
                await lane.changed.wait()
            elif pause > 0:
                await asyncio.sleep(pause)
            else:
                await self._gather(lane)
                self._send_next(lane)

    async def _lingers(self, lane: _Lane) -> bool:
        """Wait for new work of an idle lane; False if none came while it still counts as busy."""
        left = lane.last_done + LINGER_S - asyncio.get_running_loop().time()
        if self._closed or left <= 0:
            return False
        try:
            await asyncio.wait_for(lane.changed.wait(), left)
        except TimeoutError:
            return bool(lane.waiting)
        return True

    def _limit(self, lane: _Lane) -> int:
        """Return how many batches may be under way when the next one leaves."""
        full = len(lane.waiting) >= self._max_batch and not lane.again
        return self._max_full_under_way if full else self._max_under_way

    def _most(self, lane: _Lane) -> int:
        """Return how many members the next batch may have.

        Those who were turned away together, because a run ended, come back in one batch that nearly fills a round:
        the next run's first round begins when the first batch is there.
        """
        nearly = self._max_full_under_way - 1
        return min(MAX_BATCH, self._max_batch * nearly) if lane.failures else self._max_batch

    async def _gather(self, lane: _Lane) -> None:
        """Wait a moment for more requests if the table is busy, as long as they keep coming.

        A lone caller, one request after the other, never waits.
        """
        loop = asyncio.get_running_loop()
        if lane.again or (not lane.sending and lane.last_size <= 1):
            return
        end = loop.time() + min(MAX_GATHER_S, max(GATHER_STEP_S, lane.took_s * GATHER_SHARE))
        seen = 0
        while seen < len(lane.waiting) < self._max_batch and loop.time() < end:
            seen = len(lane.waiting)
            await asyncio.sleep(GATHER_STEP_S)

    def _forget_the_gone(self, lane: _Lane) -> None:
        if any(member.gone for member in lane.waiting):
            lane.waiting = deque(member for member in lane.waiting if not member.gone)
        if lane.again:
            lane.again = deque(batch for batch in lane.again if not all(member.gone for member in batch.members))

    def _send_next(self, lane: _Lane) -> None:
        if lane.again:
            batch = lane.again.popleft()
        else:
            taken = [lane.waiting.popleft() for _ in range(min(len(lane.waiting), self._most(lane)))]
            members = [member for member in taken if not member.gone]
            if not members:
                return
            batch = _Batch(members, self._new_id())
        self.counts.batches += 1
        task = asyncio.create_task(self._send(lane, batch))
        lane.sending.add(task)

        def done(finished: asyncio.Task[None]) -> None:
            lane.sending.discard(finished)
            lane.changed.set()

        task.add_done_callback(done)

    async def _send(self, lane: _Lane, batch: _Batch) -> None:
        loop = asyncio.get_running_loop()
        started = loop.time()
        try:
            outcomes = await self._gateway.commit(
                lane.scope, lane.table_id, [member.request for member in batch.members], batch_id=batch.batch_id
            )
            _check_answers(batch, outcomes)
        except TryAgain as error:
            self._put_back(lane, batch, error)
        except BatchRefused as error:
            self._split(lane, batch, error)
        except Exception as error:
            for member in batch.members:
                if not member.gone:
                    member.answer.set_exception(error)
        else:
            lane.failures = 0
            lane.took_s = loop.time() - started
            lane.last_size = len(batch.members)
            for member, outcome in zip(batch.members, outcomes, strict=True):
                if not member.gone:
                    member.answer.set_result(outcome)
        lane.last_done = loop.time()

    def _put_back(self, lane: _Lane, batch: _Batch, error: TryAgain) -> None:
        """Queue a batch without answer before everything younger, and let the lane pause."""
        self.counts.retries += 1
        now = asyncio.get_running_loop().time()
        if now >= lane.not_before:
            # Batches that were under way together fail for one reason, and it counts once.
            lane.failures += 1
            pause = min(MAX_PAUSE_S, FIRST_PAUSE_S * 2 ** min(lane.failures - 1, 10))
            lane.not_before = now + pause * (0.5 + self._jitter() / 2)
        lane.not_before = max(lane.not_before, now + error.after_s)
        if error.in_doubt:
            lane.again.append(batch)
        else:
            lane.waiting.extendleft(member for member in reversed(batch.members) if not member.gone)

    def _split(self, lane: _Lane, batch: _Batch, error: BatchRefused) -> None:
        """Halve a refused batch until the member that spoils it stands alone; only that one is refused."""
        if len(batch.members) == 1:
            (member,) = batch.members
            if not member.gone:
                member.answer.set_result(Outcome(idempotency_key=member.request.idempotency_key, refusal=error.refusal))
            return
        middle = len(batch.members) // 2
        for half in (batch.members[:middle], batch.members[middle:]):
            lane.again.append(_Batch(half, self._new_id()))


def _check_answers(batch: _Batch, outcomes: list[Outcome]) -> None:
    asked = [member.request.idempotency_key for member in batch.members]
    answered = [outcome.idempotency_key for outcome in outcomes]
    if asked != answered:
        raise InvariantViolated(f"a batch of {len(asked)} keys was answered for {len(answered)} others")


def _unavailable(request: CommitRequest, why: str) -> Outcome:
    return Outcome(
        idempotency_key=request.idempotency_key,
        refusal=Refusal(
            code=Code.UNAVAILABLE,
            message=f"the commit's outcome is not known yet: {why}",
            field="idempotency_key",
            value=request.idempotency_key,
            remedy=("Send the same request again under the same key: it is committed once, however often it is sent."),
        ),
    )
