"""Pools: how many attempts that name a pool run at once in a workspace, over all its runs, and who is next.

Two rules, apart from each other. **Who may begin** is decided by the rows alone (`has_slot`): an attempt of a pool
begins after its dispatch is on record, and only if among all that were on record before it, and have not ended, there
is room. That holds whatever is lost, late or doubled, and with any number of pools and runs at once. **Who is next** is
decided by the pool (`PoolSlots`), so that runs do not stand in line in vain: it gives slots by priority, then in turn.
What it knows can be lost: it is told again, and what it gives is only leave to be dispatched
(docs/protocol.md#run-pools).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final

from springline.control.runs.messages import (
    GivenSlot,
    PoolRows,
    SlotGrant,
    SlotHolder,
    SlotsAsked,
    SlotsGranted,
    SlotWanted,
    WaitingRun,
)
from springline.projection.schema import DISPATCHED

MOST_WANTED: Final = 50
"""Attempts that one message of a run names. A run that has got slots asks for further ones."""
ASKS_AGAIN_MS: Final = 60_000
"""A run that waits repeats what it wants this often: a lost message, or a lost pool, costs no more."""
GIVEN_MS: Final = 30_000
"""A slot given that the rows do not show after this is taken back, and with it all that the run has asked for."""
FORGOTTEN_MS: Final = 3 * ASKS_AGAIN_MS
"""A run that has not repeated what it wants for so long wants nothing any more."""


def has_slot(attempt_id: str, holders: Iterable[SlotHolder], slots: int | None) -> bool:
    """Say whether an attempt on record may begin: whether it is among the first `slots` of those under way.

    Of attempts that were all on record and have not ended, the one that came last finds all others before it. So never
    more than `slots` can have been told that they may begin, each of rows of its own, however old. Those that have
    begun stand before all that have not, which are in the order of their dispatches.

    Args:
        attempt_id: the attempt; False if it is not among the holders.
        holders: the attempts of the pool that are dispatched or run, as one revision of the rows has them, and others
            that may still run.
        slots: the size of the pool, None without a limit.
    """
    dispatched = [one for one in holders if one.state == DISPATCHED]
    own = next((one for one in dispatched if one.attempt_id == attempt_id), None)
    if own is None:
        return False
    begun = sum(one.state != DISPATCHED for one in holders)
    before = sum((one.version, *_name(one)) < (own.version, *_name(own)) for one in dispatched)
    return slots is None or begun + before < slots


class PoolSlots:
    """Who wants slots of a pool, and who was given some that the rows do not show yet.

    Args:
        name: the pool's.
        asked, given, turns: what another `PoolSlots` knew, see below; then `knows`.

    Attributes:
        asked: what each run wants, by its id.
        given: slots given and not seen in the rows, by run and task.
        turns: when each run that waits was given a slot last.
        rows: the rows and the size, as they were read last; None before.
    """

    def __init__(
        self,
        name: str,
        asked: Sequence[SlotsAsked] = (),
        given: Sequence[GivenSlot] = (),
        turns: Mapping[str, int] | None = None,
        *,
        knows: bool = False,
    ) -> None:
        self.name = name
        self._knows = knows
        self.asked = {one.run_id: one for one in asked}
        self.given = {(one.run_id, one.task_key): one for one in given}
        self.turns = dict(turns or {})
        self.rows: PoolRows | None = None
        self._heard: dict[str, int] = {}
        self._told: set[str] = set()

    @property
    def waiting(self) -> list[WaitingRun]:
        """The runs that wait, the longest first."""
        found = [
            WaitingRun(run_id=run_id, tasks=len(left) + one.more, since_ms=min(want.since_ms for want in left))
            for run_id, one in self.asked.items()
            if (left := self._left(one))
        ]
        return sorted(found, key=lambda one: (one.since_ms, one.run_id))

    @property
    def is_idle(self) -> bool:
        """Whether nobody wants a slot, and every slot given is seen in the rows."""
        return not self.asked and not self.given

    def ask(self, asked: SlotsAsked, now_ms: int) -> None:
        """Take in what a run wants; a message that an earlier number or the same one stands on is passed over."""
        run_id = asked.run_id
        before = self.asked.get(run_id)
        if before is not None and before.number >= asked.number:
            return
        self._heard[run_id] = now_ms
        self._told.discard(run_id)
        named = {(one.task_key, one.attempt) for one in asked.wanted}
        for key, one in list(self.given.items()):
            if one.run_id == run_id and (asked.anew or (one.task_key, one.attempt) not in named):
                # The run does not want it any more, or it is on record: then the next look at the rows finds it.
                del self.given[key]
        if asked.wanted:
            self.asked[run_id] = asked
        else:
            self.asked.pop(run_id, None)
            self.turns.pop(run_id, None)

    def look(self, rows: PoolRows, now_ms: int) -> dict[str, SlotsGranted]:
        """Compare with the rows, give what slots there are, and return what is to be told, by run.

        Args:
            rows: the pool as it is on record now.
            now_ms: now.
        """
        knows, self._knows, self.rows = self._knows, True, rows
        self._settle(rows, now_ms)
        grants: dict[str, list[SlotGrant]] = {}
        free = None if rows.slots is None else rows.slots - len(rows.holders) - len(self.given)
        while free is None or free > 0:
            found = self._next()
            if found is None:
                break
            run_id, want = found
            grants.setdefault(run_id, []).append(SlotGrant(task_key=want.task_key, attempt=want.attempt))
            self.given[run_id, want.task_key] = GivenSlot(
                run_id=run_id, task_key=want.task_key, attempt=want.attempt, since_ms=now_ms
            )
            # One turn behind whoever had one in this look.
            self.turns[run_id] = max(now_ms, max(self.turns.values(), default=0) + 1)
            free = None if free is None else free - 1
        told = {run_id: self._message(rows, grants=some) for run_id, some in grants.items()}
        for run_id, one in self.asked.items():
            # Whoever waits hears of it, once for each time that it asks.
            if run_id not in told and run_id not in self._told and self._left(one):
                told[run_id] = self._message(rows)
        self._told.update(told)
        if not knows:
            for run_id in rows.ready:
                if run_id not in self.asked:
                    told[run_id] = self._message(rows, asks_again=True)
        return told

    def _message(self, rows: PoolRows, *, grants: Sequence[SlotGrant] = (), asks_again: bool = False) -> SlotsGranted:
        return SlotsGranted(
            pool=self.name,
            grants=list(grants),
            slots=rows.slots,
            taken=len(rows.holders) + len(self.given),
            asks_again=asks_again,
        )

    def _settle(self, rows: PoolRows, now_ms: int) -> None:
        """Forget what the rows have overtaken: runs that have ended, slots that are on record, runs that are silent."""
        held = {(one.run_id, one.task_key): one.attempt for one in rows.holders}
        silent: set[str] = set()
        for key, one in list(self.given.items()):
            if held.get(key, 0) >= one.attempt or one.run_id in rows.over:
                del self.given[key]
            elif now_ms - one.since_ms >= GIVEN_MS:
                del self.given[key]
                silent.add(one.run_id)
        for run_id, asked in list(self.asked.items()):
            wanted = [one for one in asked.wanted if held.get((run_id, one.task_key), 0) < one.attempt]
            late = now_ms - self._heard.setdefault(run_id, now_ms) >= FORGOTTEN_MS
            if run_id in rows.over or run_id in silent or late or not wanted:
                del self.asked[run_id]
                self._told.discard(run_id)
            elif len(wanted) < len(asked.wanted):
                self.asked[run_id] = asked.model_copy(update={"wanted": wanted})
        # Of a run that wants nothing just now, its turn counts on: else it would come first again.
        for run_id in [
            one for one, at_ms in self.turns.items() if one not in self.asked and at_ms + GIVEN_MS <= now_ms
        ]:
            del self.turns[run_id]
        self._heard = {run_id: at_ms for run_id, at_ms in self._heard.items() if run_id in self.asked}

    def _left(self, asked: SlotsAsked) -> list[SlotWanted]:
        return [one for one in asked.wanted if (asked.run_id, one.task_key) not in self.given]

    def _next(self) -> tuple[str, SlotWanted] | None:
        """Return who gets the next slot.

        The greatest priority of a run is first, then that of an asset. Of equals, the run whose last slot, or else
        whose oldest wish, lies back the longest: runs take turns, and whoever waits comes before all that ask later.
        """
        best: tuple[tuple[int, int, int, str], str, SlotWanted] | None = None
        for run_id, asked in self.asked.items():
            left = self._left(asked)
            if not left:
                continue
            want = min(left, key=lambda one: (-one.priority, one.since_ms, one.task_key))
            oldest_ms = min(one.since_ms for one in left if one.priority == want.priority)
            turn_ms = max(oldest_ms, self.turns.get(run_id, 0))
            key = (-asked.priority, -want.priority, turn_ms, run_id)
            if best is None or key < best[0]:
                best = key, run_id, want
        return None if best is None else best[1:]


def waiting_words(pool: str, slots: int | None, taken: int) -> str:
    """Return what a task waits for, in words."""
    return f"waits for pool {pool}" if slots is None else f"waits for pool {pool} ({taken} of {slots} taken)"


class RunSlots:
    """What one run has to do with pools: what it has asked for, and what it was given.

    Attributes:
        granted: tasks and attempts with leave to be dispatched.
    """

    def __init__(self) -> None:
        self.granted: set[tuple[str, int]] = set()
        self._sent: dict[str, set[tuple[str, int]]] = {}
        self._sent_ms: dict[str, int] = {}
        self._since: dict[tuple[str, int], int] = {}
        self._numbers: dict[str, int] = {}
        self._released: set[str] = set()
        self._news: dict[str, tuple[int | None, int]] = {}

    def take(self, told: SlotsGranted) -> None:
        """Take in what a pool tells."""
        self.granted.update((one.task_key, one.attempt) for one in told.grants)
        self._news[told.pool] = told.slots, told.taken
        if told.asks_again:
            self._sent.pop(told.pool, None)

    def begins(self, pool: str, task_key: str, attempt: int) -> None:
        """Note that an attempt is wanted no more, because it begins: its pool finds it in the rows."""
        self.granted.discard((task_key, attempt))
        self._since.pop((task_key, attempt), None)
        self._sent.get(pool, set()).discard((task_key, attempt))

    def released(self, pool: str) -> None:
        """Note that the end of an attempt is on record: its pool is to be told that it may look."""
        self._released.add(pool)

    def since_ms(self, task_key: str, attempt: int, ready_ms: int | None, now_ms: int) -> int:
        """Return since when an attempt is wanted; `ready_ms` as its row has it, if it does."""
        return self._since.setdefault((task_key, attempt), now_ms if ready_ms is None else min(ready_ms, now_ms))

    def asks(
        self, run_id: str, priority: int, wanted: Mapping[str, Sequence[SlotWanted]], now_ms: int
    ) -> list[SlotsAsked]:
        """Return what is to be told to pools now, and count it as told.

        `wanted`: by pool what the run would begin, that which is under way without a slot first.
        """
        asked: list[SlotsAsked] = []
        for pool in sorted(wanted.keys() | self._sent.keys() | self._released):
            some = wanted.get(pool, ())
            named = {(one.task_key, one.attempt) for one in some[:MOST_WANTED]}
            repeats = bool(named) and self._sent_ms.get(pool, 0) + ASKS_AGAIN_MS <= now_ms
            if pool not in self._released and named == self._sent.get(pool, set()) and not repeats:
                continue
            self._released.discard(pool)
            self._sent[pool], self._sent_ms[pool] = named, now_ms
            anew = pool not in self._numbers
            number = self._numbers[pool] = max(self._numbers.get(pool, 0) + 1, now_ms)
            asked.append(
                SlotsAsked(
                    run_id=run_id,
                    pool=pool,
                    number=number,
                    priority=priority,
                    wanted=list(some[:MOST_WANTED]),
                    more=max(0, len(some) - MOST_WANTED),
                    anew=anew,
                )
            )
        return asked

    def repeats_ms(self) -> int | None:
        """Return when the run is to repeat what it wants, None if it wants nothing."""
        return min((self._sent_ms[pool] + ASKS_AGAIN_MS for pool, named in self._sent.items() if named), default=None)

    def words(self, pool: str) -> str:
        """Return what a task waits for that has no slot of a pool."""
        return waiting_words(pool, *self._news.get(pool, (None, 0)))


def may_begin(claims: Collection[str], holders: Sequence[SlotHolder], slots: int | None) -> list[str]:
    """Return those of some attempts of a pool, by their ids, that may begin (`has_slot`)."""
    return [one for one in claims if has_slot(one, holders, slots)]


def _name(one: SlotHolder) -> tuple[str, str]:
    return one.run_id, one.task_key
