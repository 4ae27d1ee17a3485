"""One history: contenders with faults and switches, then what comes after them, then the checks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import Enum

from springline.commit.complete import settle
from springline.commit.table import CommitTable
from springline.errors import InvariantViolated
from springline.storage.faults import Decision, FaultyStore, ProcessDied
from springline.storage.memory import MemoryStore
from springline.storage.scoped import ScopedStore
from tests.exhaustive.checker import Broken, LogFile, check_answers, check_store, check_writes
from tests.exhaustive.process import Call, Journal, Process, Stuck
from tests.exhaustive.schedule import Schedule
from tests.exhaustive.world import ROOT, SCOPE, TABLE_ID, Asked, Wish, World

REPLAYS = 3


class After(Enum):
    """What happens once the contenders are done or dead."""

    SAME_CALLER = "the same caller retries"
    ANOTHER_CALLER = "another caller comes"
    OTHER_PAYLOAD = "the same key comes with another payload"
    NOBODY = "nobody comes and a fresh process recovers from storage alone"


@dataclass(frozen=True)
class Scenario:
    """Who contends: the wishes of each sequencer run. `event` is what else happens to the store, at one instant."""

    name: str
    contenders: tuple[tuple[Wish, ...], ...]
    event: Callable[[MemoryStore], None] | None = None
    before: Callable[[MemoryStore], None] | None = None
    """What has happened to the store before anybody comes."""
    cold: bool = False
    """Whether every step of the contenders runs on a worker that remembers nothing."""


@dataclass(frozen=True)
class Plan:
    """One history of a scenario: where it switches, what fails, when the event happens.

    `newest_first`: operations that a process makes together happen in reverse. `revives`: a sequencer run whose
    worker died goes on with another. `late_last`: writes that are late arrive when all seems over, else before
    anybody else comes.
    """

    switches: tuple[int, ...] = ()
    faults: tuple[tuple[int, Decision], ...] = ()
    event_at: int | None = None
    newest_first: bool = False
    revives: bool = False
    late_last: bool = False


def other_request(wish: Wish) -> Wish:
    """Return a wish under the same key that is another request."""
    rows = None if wish.rows is None else f"other-{wish.rows}"
    return replace(wish, payload=f"other-{wish.payload}", rows=rows, copy=9)


class Failed(AssertionError):
    """A history that breaks an invariant, with all that is needed to see it again."""


@dataclass
class Ended:
    """What the contenders left: the store, their calls, and the operations that made it."""

    store: MemoryStore
    faulty: FaultyStore
    journal: Journal
    schedule: Schedule


@dataclass(frozen=True)
class Continuation:
    """What came after an ending: the calls, on a clock from 0, and the final log."""

    calls: tuple[Call, ...]
    log: tuple[LogFile, ...]


@dataclass
class Tally:
    """How much was checked: histories, and how many different endings they had."""

    histories: int = 0
    endings: int = 0


class Histories:
    """Runs the histories of one scenario.

    What comes after is a function of stored bytes and of the answers so far, so equal endings are continued
    once; the order of all calls is judged for each history.
    """

    def __init__(self, world: World, scenario: Scenario) -> None:
        self.world = world
        self.scenario = scenario
        self.asked = [[world.ask(wish) for wish in wishes] for wishes in scenario.contenders]
        self.first = [a for contender in self.asked for a in contender]
        by_key = {a.wish.key: a.wish for a in self.first}
        self.others = [world.ask(other_request(wish)) for wish in by_key.values()]
        self.newcomer = world.ask(Wish(99, "newcomer"))
        self.everybody = [*self.first, *self.others, self.newcomer]
        self.tally = Tally()
        self._continued: dict[object, Continuation] = {}

    async def contend(self, plan: Plan) -> Ended:
        """Run the contenders under `plan`."""
        store = self.world.base.copy()
        if self.scenario.before is not None:
            self.scenario.before(store)
        journal = Journal()
        event = self.scenario.event
        schedule = Schedule(
            switches=frozenset(plan.switches),
            faults=dict(plan.faults),
            events={} if event is None or plan.event_at is None else {plan.event_at: lambda: event(store)},
            newest_first=plan.newest_first,
            on_step=journal.tick,
        )
        faulty = FaultyStore(store, hook=schedule.hook)
        processes = {
            f"P{n}": Process(faulty, journal, f"P{n}", n + 1, revives=plan.revives, cold=self.scenario.cold)
            for n in range(len(self.asked))
        }
        ends = await schedule.run(
            {name: process.commit(asked) for (name, process), asked in zip(processes.items(), self.asked, strict=True)}
        )
        for error in ends.values():
            if error is not None and not isinstance(error, ProcessDied):
                raise error
        return Ended(store, faulty, journal, schedule)

    async def check(self, plan: Plan, afters: Sequence[After] = tuple(After)) -> Ended | None:
        """Check the history of `plan` followed by each of `afters`; None if a switch or event never came about.

        Raises `Failed`.
        """
        ended: Ended | None = None
        for after in afters:
            try:
                if ended is None or ended.faulty.late:
                    ended = await self.contend(plan)
                    if ended.schedule.useless or (plan.event_at or 0) >= len(ended.schedule.steps):
                        return None
                    if not plan.late_last:
                        await ended.faulty.deliver_late()
                    check_writes(ended.faulty)
                    check_store(ended.store, self.everybody, quiet=False)
                self.tally.histories += 1
                await self._judge(ended, after)
            except (Broken, Stuck, InvariantViolated) as broken:
                told = "" if ended is None else steps_of(ended.schedule)
                where = f"in {self.scenario.name!r} with {plan}, then {after.value}"
                raise Failed(f"{type(broken).__name__}: {broken}\n{where}\n{told}") from broken
        return ended

    async def _judge(self, ended: Ended, after: After) -> None:
        mark = (after, self._ending(ended))
        continuation = None if ended.faulty.late else self._continued.get(mark)
        if continuation is None:
            self.tally.endings += 1
            continuation = await self._continue(ended, after)
            self._continued[mark] = continuation
        shifted = [
            replace(call, call=call.call + ended.journal.now, ret=call.ret and call.ret + ended.journal.now)
            for call in continuation.calls
        ]
        check_answers([*ended.journal.calls, *shifted], continuation.log)

    def _ending(self, ended: Ended) -> object:
        base = self.world.base.objects
        now = ended.store.objects
        changed = frozenset((p, one.data) for p, one in now.items() if base.get(p) is not one)
        gone = frozenset(p for p in base if p not in now)
        answers = tuple(
            (call.asked.wish, call.result and call.result.version, call.refusal and call.refusal.code)
            for call in sorted(ended.journal.calls, key=lambda call: call.asked.request.staged_path)
        )
        return changed, gone, answers

    async def _continue(self, ended: Ended, after: After) -> Continuation:
        """Let happen what comes `after`, then late writes, then retries of the unanswered and replays of all."""
        store = ended.store if ended.faulty.late else ended.store.copy()
        faulty = FaultyStore(store)
        journal = Journal()
        numbers = iter(range(10, 1_000))

        async def commit(asked: Sequence[Asked]) -> None:
            number = next(numbers)
            await Process(faulty, journal, f"P{number}", number).commit(asked)

        if after is After.SAME_CALLER:
            for asked in self.asked:
                await commit(asked)
        elif after is After.ANOTHER_CALLER:
            await commit([self.newcomer])
        elif after is After.OTHER_PAYLOAD:
            await commit(self.others)
        else:
            await recover(faulty)
        check_store(store, self.everybody, quiet=True)
        if ended.faulty.late:
            await ended.faulty.deliver_late()
            await recover(faulty)
            check_store(store, self.everybody, quiet=True)
        answered = {c.asked.wish for c in (*ended.journal.calls, *journal.calls) if c.ret is not None}
        unanswered = [a for a in self.first if a.wish not in answered]
        for one in unanswered:
            await commit([one])
        accepted = [c.asked for c in (*ended.journal.calls, *journal.calls) if c.result is not None]
        once_each = list({a.request.idempotency_key: a for a in accepted}.values())
        process = Process(faulty, journal, "P9", 9)
        for _ in range(REPLAYS):
            await process.commit(once_each)
        log = check_store(store, self.everybody, quiet=True)
        check_writes(faulty)
        return Continuation(tuple(journal.calls), tuple(log))


async def recover(store: FaultyStore) -> None:
    """Complete what is in flight as `springline table recover` does: from storage alone."""
    await settle(CommitTable(ScopedStore(store.actor("recovery"), SCOPE), TABLE_ID, ROOT))


def steps_of(schedule: Schedule) -> str:
    """Return the operations of a history, one a line, as one reads a failure."""
    return "\n".join(
        f"  {step:3} {owner} {operation.kind} {operation.path.partition('workspace=')[2] or operation.path}"
        for step, (operation, owner) in enumerate(zip(schedule.steps, schedule.owners, strict=True))
    )
