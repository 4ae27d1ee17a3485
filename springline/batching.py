"""Many concurrent requests of one process to one sequencer become few batches.

See docs/protocol.md#commit-rounds, docs/protocol.md#ledger-rounds, docs/protocol.md#temporal-rules.

A sequencer takes few messages at a time (Temporal admits 10 updates in flight per workflow) and settles many
requests as cheaply as one, so each process keeps two batches of a lane under way: one in work and one
waiting behind it. Requests that come meanwhile share the next batch, first come first served. A request that comes when
no batch is under way is sent at once. Only full batches go out beyond the two, up to as many as one round takes.
A batch is full by its number of members or by their weight, whichever comes first.

A batch is answered when its last member is, so its size is the unit in which callers wait for each other: a fifth of
a round, so that a round ends between batches and not within one, which would hold up answers that are long there.

A lane is a table or a workspace's ledger, each with a sequencer of its own. A gateway sends one batch there, reports
whether a failed batch may still be under way, and does not retry: only the coalescer retries.

A request that meets an unforeseen error is refused alone; the others in its round or batch go on. Faults of
the store and errors of the domain are foreseen: they pass through, because they concern all requests alike.
"""

from __future__ import annotations

import asyncio
import logging
import random
import uuid
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypedDict, TypeVar, Unpack

from springline.bounds import on_one_line
from springline.errors import Code, InvariantViolated, Refusal, SpringlineError
from springline.storage.port import StoreError

L = TypeVar("L", bound=Hashable)
Q = TypeVar("Q")
A = TypeVar("A")
L_contra = TypeVar("L_contra", bound=Hashable, contravariant=True)
Q_contra = TypeVar("Q_contra", contravariant=True)

MAX_UNDER_WAY = 2
MAX_BATCH = 500
"""The most members of one batch, even if a full one has fewer."""
FULL_BATCH = 100
"""Members of a full batch; a round takes five of them (docs/protocol.md#commit-rounds)."""
MAX_FULL_UNDER_WAY = 5
GATHER_STEP_S = 0.002
GATHER_SHARE = 0.1
"""Gathering takes at most this share of the recent time of a batch."""
MAX_GATHER_S = 0.2
"""For long rounds, as with a store that takes one write a second: a small batch would use little of its round."""
LINGER_S = 0.1
"""How long a lane is still called busy after its last batch: closed-loop callers come back within it."""
FIRST_PAUSE_S = 0.05
MAX_PAUSE_S = 2.0
DEADLINE_S = 60.0

_log = logging.getLogger("springline.batching")


class TryAgain(SpringlineError):
    """A batch got no answer; the same requests under the same keys may be sent again.

    `in_doubt`: the batch may still be under way, so it must be sent again unchanged and under the same
    `batch_id`, so that it joins the first. `after_s`: wait at least so long, in seconds.
    """

    def __init__(self, reason: str, *, in_doubt: bool, after_s: float = 0.0) -> None:
        super().__init__(reason)
        self.in_doubt = in_doubt
        self.after_s = after_s


class BatchRefused(SpringlineError):
    """The batch as a whole was refused for good, because of one member or of all: `refusal` says why."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal


class Send(Protocol[L_contra, Q_contra, A]):
    """Sends a batch of requests of one lane to its sequencer."""

    async def __call__(self, lane: L_contra, requests: Sequence[Q_contra], /, *, batch_id: str) -> list[A]:
        """Return one answer for each request, in their order.

        Raises `TryAgain` if there is no answer, and `BatchRefused` if there will never be one.
        """


FORESEEN = (SpringlineError, StoreError)
"""Errors that are raised on purpose; all others are faults of ours."""


def refused_alone(error: Exception, *, what: str, field: str, identity: str) -> Refusal:
    """Log an unforeseen error with its traceback, and return the refusal of the one request that met it.

    `what` names the work, `field` and `identity` the request. Raises `error` again if it is foreseen.
    """
    if isinstance(error, FORESEEN):
        raise error
    return failed_refusal(error, what=what, field=field, identity=identity)


def failed_refusal(error: Exception, *, what: str, field: str, identity: str, in_doubt: bool = False) -> Refusal:
    """Log any error of a single request, with its traceback, and return the request's refusal.

    `in_doubt`: the request may have been done all the same.
    """
    shown = on_one_line(identity, 100)
    _log.error("request %s failed while %s; the others go on", shown, what, exc_info=error)
    end = "; it is not known whether it was done" if in_doubt else "; it was not done"
    return Refusal(
        code=Code.REQUEST_FAILED,
        message=f"request {shown} met an error of ours while {what} ({type(error).__name__}){end}",
        field=field,
        value=identity,
        remedy="Report it with this message: the log holds the error under the same key. The same request may be sent "
        "again under the same key; other requests went on.",
    )


@dataclass(frozen=True, slots=True)
class RequestKind(Generic[Q, A]):
    """Functions of a coalescer for its kind of requests.

    `request_id` and `answered_id` name a request and the request that an answer is for; `refuse` makes an answer of
    a refusal; `unavailable` makes the refusal of a request that has no answer for a reason, which may or may not have
    taken effect. `weight` is what a request weighs, in bytes, and `full_weight` what a full batch does.
    """

    request_id: Callable[[Q], str]
    answered_id: Callable[[A], str]
    refuse: Callable[[Q, Refusal], A]
    unavailable: Callable[[Q, str], Refusal]
    weight: Callable[[Q], int] = lambda _request: 0
    full_weight: int = 1


class Options(TypedDict, total=False):
    """Options of a coalescer.

    `deadline_s`: how long a request may wait for its answer, tries included, in seconds (60). `max_batch`: members
    of a full batch. `max_under_way` and `max_full_under_way`: batches under way at once, and full ones. `jitter`
    returns a number in [0, 1), `new_id` the id of a batch.
    """

    deadline_s: float
    max_batch: int
    max_under_way: int
    max_full_under_way: int
    jitter: Callable[[], float]
    new_id: Callable[[], str]


@dataclass(eq=False, slots=True)
class _Waiting(Generic[Q, A]):
    """One caller's request, and the future of its answer."""

    request: Q
    answer: asyncio.Future[A]
    weight: int

    @property
    def gone(self) -> bool:
        return self.answer.done()


@dataclass(eq=False, slots=True)
class _Batch(Generic[Q, A]):
    """Members that are sent together, and the id under which they are joined if they are sent again."""

    members: list[_Waiting[Q, A]]
    batch_id: str


@dataclass(eq=False, slots=True)
class _Lane(Generic[L, Q, A]):
    """The requests of this process to one sequencer."""

    key: L
    waiting: deque[_Waiting[Q, A]] = field(default_factory=deque)
    again: deque[_Batch[Q, A]] = field(default_factory=deque)
    sending: set[asyncio.Task[None]] = field(default_factory=set)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    failures: int = 0
    not_before: float = 0.0
    last_done: float = float("-inf")
    last_size: int = 0
    took_s: float = 0.0


@dataclass(slots=True)
class Counts:
    """Counts of a coalescer, for metrics.

    Requests, batches, batches sent again, requests without an answer in time, and requests that failed alone by an
    unforeseen error.
    """

    requests: int = 0
    batches: int = 0
    retries: int = 0
    expired: int = 0
    failed: int = 0


class RequestCoalescer(Generic[L, Q, A]):
    """Sends single requests to sequencers, through `send`, in batches."""

    def __init__(self, send: Send[L, Q, A], kind: RequestKind[Q, A], **options: Unpack[Options]) -> None:
        self._send_batch = send
        self._kind = kind
        self._deadline_s = options.get("deadline_s", DEADLINE_S)
        self._max_batch = min(options.get("max_batch", FULL_BATCH), MAX_BATCH)
        self._max_under_way = options.get("max_under_way", MAX_UNDER_WAY)
        self._max_full_under_way = options.get("max_full_under_way", MAX_FULL_UNDER_WAY)
        self._jitter = options.get("jitter", random.random)
        self._new_id = options.get("new_id", _new_id)
        self._lanes: dict[L, _Lane[L, Q, A]] = {}
        self._pumps: set[asyncio.Task[None]] = set()
        self._closed = False
        self.counts = Counts()

    async def ask(self, lane_key: L, request: Q) -> A:
        """Send one request to the sequencer of a lane and return the answer.

        If there is none before the deadline, the answer is the refusal of `RequestKind.unavailable`.
        """
        if self._closed:
            return self._unavailable(request, "this process is shutting down")
        loop = asyncio.get_running_loop()
        member: _Waiting[Q, A] = _Waiting(request, loop.create_future(), self._kind.weight(request))
        self.counts.requests += 1
        lane = self._lane(lane_key)
        lane.waiting.append(member)
        lane.changed.set()
        expiry = loop.call_later(self._deadline_s, self._expire, member)
        try:
            return await member.answer
        finally:
            expiry.cancel()

    async def aclose(self) -> None:
        """Accept no more requests, and wait until every accepted one has its answer or reached its deadline."""
        self._closed = True
        while self._pumps:
            for lane in self._lanes.values():
                lane.changed.set()
            await asyncio.wait(set(self._pumps))

    def _lane(self, key: L) -> _Lane[L, Q, A]:
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = _Lane(key)
            pump = asyncio.create_task(self._pump(lane))
            self._pumps.add(pump)
            pump.add_done_callback(self._pumps.discard)
        return lane

    def _unavailable(self, request: Q, why: str) -> A:
        return self._kind.refuse(request, self._kind.unavailable(request, why))

    def _expire(self, member: _Waiting[Q, A]) -> None:
        if not member.gone:
            self.counts.expired += 1
            member.answer.set_result(self._unavailable(member.request, f"no answer within {self._deadline_s:g} s"))

    async def _pump(self, lane: _Lane[L, Q, A]) -> None:
        """Send a lane's batches until it has been idle for a while."""
        loop = asyncio.get_running_loop()
        while True:
            lane.changed.clear()
            self._forget_the_gone(lane)
            pause = lane.not_before - loop.time()
            if not lane.again and not lane.waiting:
                if not lane.sending and not await self._lingers(lane):
                    del self._lanes[lane.key]
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

    async def _lingers(self, lane: _Lane[L, Q, A]) -> bool:
        """Wait for new work of an idle lane; False if none came while it still counts as busy."""
        left = lane.last_done + LINGER_S - asyncio.get_running_loop().time()
        if self._closed or left <= 0:
            return False
        try:
            await asyncio.wait_for(lane.changed.wait(), left)
        except TimeoutError:
            return bool(lane.waiting)
        return True

    def _limit(self, lane: _Lane[L, Q, A]) -> int:
        """Return how many batches may be under way when the next one leaves."""
        full = self._fills_a_batch(lane) and not lane.again
        return self._max_full_under_way if full else self._max_under_way

    def _fills_a_batch(self, lane: _Lane[L, Q, A]) -> bool:
        waiting = lane.waiting
        return len(waiting) >= self._max_batch or sum(member.weight for member in waiting) >= self._kind.full_weight

    def _take(self, lane: _Lane[L, Q, A]) -> list[_Waiting[Q, A]]:
        """Take the next batch's members; one that is heavier than a full batch travels alone.

        Requests that were rejected together, because a run ended, are sent again in one batch that nearly fills a
        round: the next run's first round begins with the first batch.
        """
        fold = self._max_full_under_way - 1 if lane.failures else 1
        most = min(MAX_BATCH, self._max_batch * fold)
        left = self._kind.full_weight * fold
        taken: list[_Waiting[Q, A]] = []
        while lane.waiting and len(taken) < most and (not taken or lane.waiting[0].weight <= left):
            member = lane.waiting.popleft()
            left -= member.weight
            taken.append(member)
        return [member for member in taken if not member.gone]

    async def _gather(self, lane: _Lane[L, Q, A]) -> None:
        """Wait a moment for more requests if the table is busy, as long as they keep coming.

        A lone caller, one request after the other, never waits.
        """
        loop = asyncio.get_running_loop()
        if lane.again or (not lane.sending and lane.last_size <= 1):
            return
        end = loop.time() + min(MAX_GATHER_S, max(GATHER_STEP_S, lane.took_s * GATHER_SHARE))
        seen = 0
        while seen < len(lane.waiting) and not self._fills_a_batch(lane) and loop.time() < end:
            seen = len(lane.waiting)
            await asyncio.sleep(GATHER_STEP_S)

    def _forget_the_gone(self, lane: _Lane[L, Q, A]) -> None:
        if any(member.gone for member in lane.waiting):
            lane.waiting = deque(member for member in lane.waiting if not member.gone)
        if lane.again:
            lane.again = deque(batch for batch in lane.again if not all(member.gone for member in batch.members))

    def _send_next(self, lane: _Lane[L, Q, A]) -> None:
        if lane.again:
            batch = lane.again.popleft()
        else:
            members = self._take(lane)
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

    async def _send(self, lane: _Lane[L, Q, A], batch: _Batch[Q, A]) -> None:
        loop = asyncio.get_running_loop()
        started = loop.time()
        try:
            answers = await self._send_batch(
                lane.key, [member.request for member in batch.members], batch_id=batch.batch_id
            )
            self._check(batch, answers)
        except TryAgain as error:
            self._put_back(lane, batch, error)
        except BatchRefused as error:
            self._split(lane, batch, error)
        except Exception as error:
            # One member may be the cause of an unforeseen error: halving finds it, and it is refused alone.
            self._split(lane, batch, error)
        else:
            lane.failures = 0
            lane.took_s = loop.time() - started
            lane.last_size = len(batch.members)
            for member, answer in zip(batch.members, answers, strict=True):
                if not member.gone:
                    member.answer.set_result(answer)
        lane.last_done = loop.time()

    def _put_back(self, lane: _Lane[L, Q, A], batch: _Batch[Q, A], error: TryAgain) -> None:
        """Queue a batch without answer before all younger requests, and let the lane pause."""
        self.counts.retries += 1
        now = asyncio.get_running_loop().time()
        if now >= lane.not_before:
            # Batches that were under way together fail for the same reason, which counts once.
            lane.failures += 1
            pause = min(MAX_PAUSE_S, FIRST_PAUSE_S * 2 ** min(lane.failures - 1, 10))
            lane.not_before = now + pause * (0.5 + self._jitter() / 2)
        lane.not_before = max(lane.not_before, now + error.after_s)
        if error.in_doubt:
            lane.again.append(batch)
        else:
            lane.waiting.extendleft(member for member in reversed(batch.members) if not member.gone)

    def _split(self, lane: _Lane[L, Q, A], batch: _Batch[Q, A], error: Exception) -> None:
        """Halve a batch that cannot be sent until the member that makes it fail is alone; refuse only that one."""
        if len(batch.members) == 1:
            (member,) = batch.members
            if not member.gone:
                member.answer.set_result(self._kind.refuse(member.request, self._refusal(member.request, error)))
            return
        if not isinstance(error, BatchRefused):
            _log.warning("a batch of %s failed and is halved: %r", len(batch.members), error)
        middle = len(batch.members) // 2
        for half in (batch.members[:middle], batch.members[middle:]):
            lane.again.append(_Batch(half, self._new_id()))

    def _refusal(self, request: Q, error: Exception) -> Refusal:
        if isinstance(error, BatchRefused):
            return error.refusal
        self.counts.failed += 1
        identity = self._kind.request_id(request)
        what = "it was sent to its sequencer"
        return failed_refusal(error, what=what, field="request", identity=identity, in_doubt=True)

    def _check(self, batch: _Batch[Q, A], answers: list[A]) -> None:
        asked = [self._kind.request_id(member.request) for member in batch.members]
        answered = [self._kind.answered_id(answer) for answer in answers]
        if asked != answered:
            raise InvariantViolated(f"a batch of {len(asked)} requests was answered for {len(answered)} others")


def _new_id() -> str:
    return str(uuid.uuid4())
