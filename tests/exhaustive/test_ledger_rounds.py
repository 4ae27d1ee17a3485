"""Every crash at every storage operation of the ledger's steps, whoever goes on, and whatever comes between.

See docs/protocol.md#ledger.

story     what one run is asked to do: requests, foreign events
fault     at one storage operation: the process dies before it, after it, or with the write on its way
after     who goes on: the same run in a fresh process; another run; another run once the reference has published
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from itertools import count, islice
from typing import Any

import pytest

from springline.ledger.request import AppendRequest
from springline.paths import orchestration_round
from springline.published import merge
from springline.storage.faults import Decision, FaultyStore, ProcessDied, plan
from springline.storage.memory import MemoryStore
from springline.storage.operations import WRITES, Operation, OperationKind
from tests.support.one_thread import one_thread  # noqa: F401 - a fixture
from tests.support.reference import compact
from tests.support.sequencer_run import Run
from tests.support.sequencer_world import (
    SCOPE,
    ask,
    ask_each,
    body_of,
    event_id,
    finished,
    planned,
    seed_event,
    started,
    triggered,
)
from tests.support.yardstick import check_state

Record = Callable[[str, object], None]

pytestmark = pytest.mark.usefixtures("one_thread")

REQUESTS = [
    ask(1, triggered("r"), planned("r", "a")),
    ask(2, started("r", "a")),
    ask(3, finished("r", "a")),
    ask_each(4, triggered("e"), started("e", "x"), planned("e", "x")),
    ask_each(5, finished("e", "x")),
    ask(6, started("e", "x")),
]
REFUSED = {3: [1], 4: [0]}
"""Places of refused events by request; each of them could be taken once all requests are answered."""
FOREIGN = [body_of(0, triggered("f")), body_of(1, planned("f", "x")), body_of(2, started("f", "x"))]
THEIRS = body_of(3, finished("f", "x"))
"""What the reference publishes in between: an event that comes late to everything of ours."""


class After(Enum):
    """Who goes on after a crash."""

    SAME_ORDER = "the same run repeats the step in a fresh process"
    ANOTHER_RUN = "another run opens the workspace"
    REFERENCE_FIRST = "the reference publishes, and another run opens the workspace"


@dataclass(frozen=True)
class Story:
    """What a run is asked for: request numbers of ours, or places of foreign events."""

    name: str
    steps: tuple[int | tuple[int, ...], ...]
    """A number: that request of ours is appended. A tuple: these foreign events are taken in."""

    def requests(self) -> list[AppendRequest]:
        """Return the requests of ours."""
        return [REQUESTS[step] for step in self.steps if isinstance(step, int)]

    def refused(self) -> list[list[int]]:
        """Return the places of the events that are refused, by request."""
        return [REFUSED.get(step, []) for step in self.steps if isinstance(step, int)]

    def events(self) -> int:
        """Return how many events the workspace holds in the end."""
        foreign = {place for step in self.steps if isinstance(step, tuple) for place in step}
        asked = sum(len(request.events) for request in self.requests())
        return asked - sum(map(len, self.refused())) + len(foreign)


STORIES = [
    Story("two rounds of ours", (0, 1)),
    Story("ours behind a foreign one", ((0, 1), 0)),
    Story("a late one behind ours", ((1, 2), 0, (0,))),
    Story("events taken each by itself", (3, 4, 5)),
]
EACH = STORIES[-1]


def seeded() -> tuple[MemoryStore, list[str]]:
    """Return a store with the foreign events, and their paths."""
    store = MemoryStore()
    return store, [seed_event(store, body) for body in FOREIGN]


async def tell(run: Run, story: Story, paths: list[str]) -> None:
    """Have a run do all of a story."""
    for step in story.steps:
        if isinstance(step, int):
            (answer,) = await run.append(REQUESTS[step])
            assert answer.refusal is None, answer
            assert [one.index for one in answer.refused] == REFUSED.get(step, [])
        else:
            await run.ingest(*(paths[place] for place in step))


def faults(kind: OperationKind) -> tuple[Decision, ...]:
    """Return the ways in which a process can die at an operation."""
    return (Decision.DIE_BEFORE, Decision.DIE_AFTER, Decision.DIE_LATE) if kind in WRITES else (Decision.DIE_BEFORE,)


async def check_end(store: MemoryStore, story: Story, *, more: int) -> None:
    """Check that nothing is lost or doubled, that requests have one answer for ever, and that the ledger goes on."""
    bodies = await check_state(store)
    assert len(bodies) == story.events() + more
    last = Run(store, 90)
    for request, refused in zip(story.requests(), story.refused(), strict=True):
        (answer,) = await last.append(request)
        assert answer.replayed, answer
        assert [one.index for one in answer.refused] == refused
        assert len(answer.events) == len(request.events) - len(refused)
        assert {event.event_id.encode() for event in answer.events} <= {b for b in map(_id_of, bodies)}
    (fresh,) = await last.append(ask(50, triggered("fresh")))
    assert fresh.refusal is None
    assert len(await check_state(store)) == len(bodies) + 1


def _id_of(body: bytes) -> bytes:
    return body.split(b'"event_id":"', 1)[1].split(b'"', 1)[0]


async def history(story: Story, step: int, decision: Decision, after: After, *, late_last: bool) -> None:
    """Run a story with one death, and what comes after it, and check the end."""
    inner, paths = seeded()
    more = 0
    faulty = FaultyStore(inner, hook=plan({step: decision}))
    numbers = count(1)
    process = (lambda: faulty.actor(f"again-{next(numbers)}")) if after is After.SAME_ORDER else None
    run = Run(faulty, 1, process=process)
    try:
        await tell(run, story, paths)
    except ProcessDied:
        assert after is not After.SAME_ORDER
    if not late_last:
        await faulty.deliver_late()
    # A workspace in which we had not begun would be taken over as it is: another test's business.
    if after is After.REFERENCE_FIRST and SCOPE.full(orchestration_round(1)) in inner.objects:
        seed_event(inner, THEIRS)
        more = int(await compact(inner, [event_id(3)]))
    if after is not After.SAME_ORDER:
        await tell(Run(inner, 2), story, paths)
    await faulty.deliver_late()
    await Run(inner, 3).settle()
    await check_end(inner, story, more=more)


async def operations(story: Story) -> list[OperationKind]:
    """Return the kinds of storage operations of an undisturbed story, in order."""
    inner, paths = seeded()
    faulty = FaultyStore(inner)
    await tell(Run(faulty, 1), story, paths)
    await check_end(inner, story, more=0)
    return [traced.operation.kind for traced in faulty.trace]


def histories(kinds: list[OperationKind]) -> Iterator[tuple[int, Decision, After, bool]]:
    """Yield every death with everybody who may go on."""
    for step, kind in enumerate(kinds):
        for decision in faults(kind):
            for after in After:
                yield step, decision, after, False
                if decision is Decision.DIE_LATE:
                    yield step, decision, after, True


async def two_runs(story: Story, first: int, second: int | None) -> bool:
    """Run a story by an old run up to its operation `first`, by a new one up to `second`, and then both to the end.

    `second` None: the new one does all before the old one goes on. False if one of them has ended before.
    """
    inner, paths = seeded()
    gates = {"old": (first, asyncio.Event()), "new": (second, asyncio.Event())}
    stopped = {name: asyncio.Event() for name in gates}

    async def hook(operation: Operation) -> Decision:
        at, gate = gates[operation.actor]
        if at is not None and operation.actor_index >= at and not gate.is_set():
            stopped[operation.actor].set()
            await gate.wait()
        return Decision.PROCEED

    faulty = FaultyStore(inner, hook=hook)

    async def go_on(name: str, task: asyncio.Task[None]) -> bool:
        """Let a run move until it stops at its gate; True if it does, False if it has ended."""
        waiting = asyncio.ensure_future(stopped[name].wait())
        await asyncio.wait([task, waiting], return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        return not task.done()

    old = asyncio.ensure_future(tell(Run(faulty.actor("old"), 1), story, paths))
    if not await go_on("old", old):
        await old
        return False
    new = asyncio.ensure_future(tell(Run(faulty.actor("new"), 2), story, paths))
    both = await go_on("new", new)
    gates["old"][1].set()
    await old
    gates["new"][1].set()
    await new
    await Run(inner, 3).settle()
    await check_end(inner, story, more=0)
    return both or second is None


@pytest.fixture(params=[20_000, 6], ids=["deltas", "bases"])
def base_rows(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Set how many rows a base is written for."""
    monkeypatch.setattr(merge, "MIN_BASE_ROWS", request.param)
    return int(request.param)


def named(story: Story) -> str:
    return story.name.replace(" ", "-")


def explore(record: Record, what: str, histories_of: Coroutine[Any, Any, int]) -> None:
    """Run histories and record how many there were."""
    number = asyncio.run(histories_of)
    assert number
    record("explored", f"ledger rounds, {what}: {number} histories checked")


async def deaths(story: Story, every: int = 1) -> int:
    number = 0
    for step, decision, after, late_last in islice(histories(await operations(story)), 0, None, every):
        try:
            await history(story, step, decision, after, late_last=late_last)
        except Exception as error:
            raise AssertionError(f"{story.name}: {decision} at {step}, then {after}, {late_last=}") from error
        number += 1
    return number


async def takeovers(story: Story, seconds: Callable[[int], Iterable[int | None]]) -> int:
    number = 0
    for first in range(len(await operations(story))):
        for second in seconds(first):
            try:
                both = await two_runs(story, first, second)
            except Exception as error:
                raise AssertionError(f"{story.name}: {first=} {second=}") from error
            number += 1
            if not both:
                break
    return number


@pytest.mark.parametrize("every", [13, pytest.param(1, marks=pytest.mark.proof)])
@pytest.mark.parametrize("story", [STORIES[0], EACH], ids=named)
def test_every_death_at_every_operation(story: Story, every: int, record_property: Record) -> None:
    explore(record_property, "every death", deaths(story, every))


@pytest.mark.proof
@pytest.mark.parametrize("story", [STORIES[0], EACH], ids=named)
def test_an_old_run_goes_on_after_a_new_one_took_over(story: Story, record_property: Record) -> None:
    explore(record_property, "an old run goes on", takeovers(story, lambda _: [None]))


@pytest.mark.proof
@pytest.mark.parametrize("story", STORIES[1:3], ids=named)
def test_an_old_run_goes_on_among_foreign_events(story: Story, record_property: Record) -> None:
    explore(record_property, "an old run goes on", takeovers(story, lambda _: [None]))


@pytest.mark.parametrize("apart", [97, pytest.param(7, marks=pytest.mark.proof)])
def test_two_runs_interleaved(apart: int, record_property: Record) -> None:
    explore(
        record_property, "two runs interleaved", takeovers(STORIES[0], lambda first: range(first % apart, 60, apart))
    )


@pytest.mark.full
@pytest.mark.timeout(3_600)
@pytest.mark.usefixtures("base_rows")
@pytest.mark.parametrize("story", STORIES, ids=named)
def test_every_death_of_every_story(story: Story, record_property: Record) -> None:
    explore(record_property, "every death", deaths(story))


@pytest.mark.full
@pytest.mark.timeout(3_600)
@pytest.mark.parametrize("story", STORIES, ids=named)
def test_two_runs_interleaved_everywhere(story: Story, record_property: Record) -> None:
    explore(record_property, "two runs interleaved", takeovers(story, lambda _: range(200)))
