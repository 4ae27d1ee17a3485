"""Write sets, over every step at which an attempt may die or wait: exactly one attempt's writes count, all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from springline.client.staging import TaskOfWrites, immediate_key, write_key
from springline.keys import check_key, key_has_time
from springline.paths import write_seal
from springline.storage.port import IfVersion, ObjectStore
from springline.work import attempts, seals
from springline.work.attempts import AttemptMaker
from springline.work.seals import Seal
from tests.support.one_thread import one_thread
from tests.work import write_world
from tests.work.write_world import Attempt, ModelTable, Step, World

pytestmark = pytest.mark.usefixtures(one_thread.__name__)

texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40)
tasks = st.builds(TaskOfWrites, texts, texts)


@given(tasks, texts, st.integers(1, 10**6), tasks, texts, st.integers(1, 10**6))
@example(TaskOfWrites("a", "b"), "c", 1, TaskOfWrites("ab", ""), "c", 1)
@example(TaskOfWrites("a", "b1"), "c", 1, TaskOfWrites("a", "b"), "1c", 1)
@example(TaskOfWrites("a", "b"), "c1", 1, TaskOfWrites("a", "b"), "c", 11)
def test_a_key_stands_for_scope_task_table_and_number(
    one: TaskOfWrites, table: str, first: int, other: TaskOfWrites, second_table: str, second: int
) -> None:
    key = write_key(one, table, first)
    assert check_key(key) == key
    assert not key_has_time(key), "no clock has a part in it"
    assert key == write_key(TaskOfWrites(one.scope, one.task_key), table, first)
    assert (key == write_key(other, second_table, second)) == ((one, table, first) == (other, second_table, second))


@given(tasks, texts, tasks, texts, st.integers(1, 100))
def test_an_immediate_key_stands_for_scope_task_and_its_text(
    one: TaskOfWrites, first: str, other: TaskOfWrites, second: str, number: int
) -> None:
    key = immediate_key(one, first)
    assert check_key(key) == key
    assert (key == immediate_key(other, second)) == ((one, first) == (other, second))
    assert key != write_key(one, first, number)


def varying(number: int) -> Sequence[Step]:
    """Each attempt writes other rows, in another order, to other tables."""
    rows = (f"a{number}", f"b{number}")
    steps = [
        Step("append", "t1", rows),
        Step("overwrite", "t2", (f"c{number}", f"d{number}")),
        Step("merge", "t2", (f"c-{number}",)),
        Step("delete", "t2", (f"d{number}",)),
        Step("append", "t1", (f"e{number}",)),
    ]
    return (
        steps
        if number == 1
        else [*steps[4:], *steps[1:4]]
        if number == 2
        else [*steps[1:2], Step("append", "t3", rows)]
    )


def same(_number: int) -> Sequence[Step]:
    """Each attempt writes the same."""
    return [Step("append", "t1", ("a",)), Step("append", "t1", ("a",)), Step("merge", "t1", ("a2",))]


def shorter(number: int) -> Sequence[Step]:
    """Later attempts write less."""
    return [Step("append", f"t{one}", (f"{number}",)) for one in range(max(1, 4 - number))]


PROGRAMS = (varying, same, shorter)


class Found(AssertionError):
    """A promise is broken."""


def check(world: World, *, over: bool = True) -> None:
    """Check every promise; `over`: an attempt has ended behind all others."""
    sealed = world.sealed_by()
    if world.sealed_before:
        raise Found(f"attempts {world.sealed_before} called the function of a sealed task")
    if sealed is None:
        if world.rows() or over:
            raise Found(f"no attempt has sealed, and there is {world.rows()}")
        return
    if over and world.rows() != world.expected(sealed):
        raise Found(f"attempt {sealed} counts, and there is {world.rows()}, not {world.expected(sealed)}")
    ends = [one for one in world.told if one.outcome == "succeeded"]
    if any(one.metadata != {"attempt": sealed} or one.tables != ends[0].tables for one in ends):
        raise Found("attempts of one task tell different ends")
    if any(one.category not in (None, "INFRASTRUCTURE") for one in world.told):
        raise Found(f"an attempt failed: {world.told}")


async def _healthy(program: Callable[[int], Sequence[Step]]) -> int:
    world, attempt = World(program), Attempt(1)
    await world.run(attempt)
    check(world)
    return len(attempt.steps)


async def deaths(program: Callable[[int], Sequence[Step]]) -> int:
    """An attempt dies, or its process, at each step; the next one goes on."""
    count = 0
    for how in ("die", "end process"):
        for at in range(await _healthy(program)):
            world = World(program)
            await world.run(Attempt(1, {at: how}))
            check(world, over=False)
            await world.run(Attempt(2))
            check(world)
            await world.run(Attempt(3), run_id="run_2")
            check(world)
            count += 1
    return count


async def overlaps(program: Callable[[int], Sequence[Step]]) -> int:
    """An attempt that is thought dead goes on at each step: behind another one, or in the middle of it."""
    count = 0
    steps = await _healthy(program)
    for first in range(steps):
        for second in range(steps):
            for then in ("die", "wait"):
                world = World(program)
                zombie, other = Attempt(1, {first: "wait"}), Attempt(2, {second: then})
                running = asyncio.create_task(world.run(zombie))
                await zombie.waits.wait()
                beside = asyncio.create_task(world.run(other))
                if then == "wait":
                    beside.add_done_callback(lambda _, other=other: other.waits.set())  # type: ignore[misc]
                    await other.waits.wait()
                else:
                    await beside
                    await world.run(Attempt(3))
                    check(world)
                zombie.goes_on.set()
                await running
                other.goes_on.set()
                await beside
                check(world)
                count += 1
    return count


@pytest.mark.proof
@pytest.mark.parametrize("program", PROGRAMS, ids=lambda one: one.__name__)
async def test_exactly_one_attempt_counts_whatever_dies(program: Callable[[int], Sequence[Step]]) -> None:
    assert await deaths(program) > 15


@pytest.mark.proof
@pytest.mark.parametrize("program", PROGRAMS, ids=lambda one: one.__name__)
async def test_exactly_one_attempt_counts_however_they_overlap(program: Callable[[int], Sequence[Step]]) -> None:
    assert await overlaps(program) > 100


async def test_a_cancelled_attempt_writes_all_or_nothing() -> None:
    ends = set()
    for at in range(await _healthy(varying)):
        world = World(varying)
        ended = await world.run(Attempt(1, {at: "cancel"}))
        assert ended is not None
        ends.add(ended.outcome)
        wanted = world.expected(1) if ended.outcome == "succeeded" else {}
        assert (world.rows(), world.is_sealed()) == (wanted, bool(wanted))
    assert ends == {"cancelled", "succeeded"}


async def test_an_attempt_that_is_to_stop_finishes_what_is_sealed() -> None:
    for at in range(await _healthy(varying)):
        world = World(varying)
        await world.run(Attempt(1, {at: "die"}))
        sealed = world.is_sealed()
        cancelled = Attempt(2)
        cancelled.stop.set()
        ended = await world.run(cancelled)
        assert ended is not None
        assert ended.outcome == ("succeeded" if sealed else "cancelled")
        assert world.rows() == (world.expected(1) if sealed else {})


async def test_a_rival_loses_nothing() -> None:
    for at in range(await _healthy(same)):
        world = World(same)
        attempt = Attempt(1, {at: "wait"})
        running = asyncio.create_task(world.run(attempt))
        await attempt.waits.wait()
        world.tables.setdefault("t1", ModelTable()).rows.append("rival")
        attempt.goes_on.set()
        await running
        rows = world.rows()["t1"]
        rows.remove("rival")
        assert rows == world.expected(1)["t1"]


async def test_a_rerun_of_what_failed_finishes_what_was_sealed() -> None:
    world = World(varying, refuses={"t2"})
    failed = await world.run(Attempt(1))
    assert failed is not None
    assert (failed.outcome, failed.category, failed.retryable) == ("failed", "CONFIGURATION", False)
    assert failed.reason_code == "write_refused"
    assert world.rows() == {"t1": ["a1", "b1"]}, "the writes before it are committed"
    world.told.clear()
    world.refuses.clear()
    rerun = await world.run(Attempt(1), run_id="run_2")
    assert rerun is not None
    assert (rerun.outcome, len(rerun.tables)) == ("succeeded", 5)
    check(world)


def turned(number: int) -> Sequence[Step]:
    """Each attempt writes the same tables in another order."""
    tables = ("t1", "t2", "t3")
    return [Step("append", table, (f"{table}-{number}",)) for table in (*tables[number - 1 :], *tables[: number - 1])]


async def test_a_lost_seal_is_refused_and_never_doubles() -> None:
    """Nobody but an operator removes a seal; the keys hold all the same."""
    for program in (varying, turned):
        world = World(program)
        await world.run(Attempt(1))
        (seal,) = [path for path in world.store.objects if "/effects/" in path]
        world.store.remove(seal)
        again = await world.run(Attempt(2))
        assert again is not None
        assert (again.outcome, again.reason_code) == ("failed", "write_refused")
        assert world.rows() == world.expected(1)


async def test_the_output_is_that_of_the_attempt_that_counts() -> None:
    world = World(same)
    steps = Attempt(1)
    await world.run(steps, keeps_output=True)
    for at in range(len(steps.steps)):
        world = World(same)
        zombie = Attempt(1, {at: "wait"})
        running = asyncio.create_task(world.run(zombie, keeps_output=True))
        await zombie.waits.wait()
        await world.run(Attempt(2), keeps_output=True)
        zombie.goes_on.set()
        await running
        check(world)
        outputs = {
            path.rsplit("/", 1)[1]: stored.data.rsplit(b"\n", 1)[1]
            for path, stored in world.store.objects.items()
            if "/outputs/" in path and not path.endswith("-sealed")
        }
        assert outputs == {f"a-t-{number}": str(world.sealed_by()).encode() for number in (1, 2)}


# What would be wrong, and is noticed.


async def _blind(*_: Any, **__: Any) -> None:
    return None


async def _overwriting(store: ObjectStore, wanted: Seal) -> Seal:
    path = write_seal(wanted.scope, wanted.task)
    before = await store.get(path)
    if before is not None:
        await store.put(path, seals.sealed_object(wanted), IfVersion(before.version))
        return wanted
    return await seals.seal(store, wanted)


async def _self_willed(store: ObjectStore, wanted: Seal) -> Seal:
    await seals.seal(store, wanted)
    return wanted


def _key_by_attempt(task: TaskOfWrites, table: str, number: int, job: Any) -> str:
    return write_key(TaskOfWrites(task.scope, f"{task.task_key}{job.attempt}"), table, number)


def _unordered(task: TaskOfWrites, table: str, _number: int, _job: Any) -> str:
    return write_key(task, table, 1)


async def _hasty(self: Any, order: Any, store: Any, process: Any, made: Any) -> Any:
    await process.settle(made.writes, ours=True, printed=None)
    return await _SEALING(self, order, store, process, made)


_SEALING = AttemptMaker._sealing
_SETTLED = AttemptMaker._settled


async def _tidy(self: Any, order: Any, process: Any, found: Any, *, ours: bool) -> Any:
    return await _SETTLED(self, order, process, found, ours=False)


async def _by_attempt(self: Any, order: Any, process: Any, found: Seal, *, ours: bool) -> Any:
    renamed = [one.model_copy(update={"key": f"{one.key}{order.attempt}"}) for one in found.writes]
    return await _SETTLED(self, order, process, found.model_copy(update={"writes": renamed}), ours=ours)


MUTANTS: dict[str, tuple[object, str, object]] = {
    "does not look for a seal": (attempts, "read_seal", _blind),
    "overwrites a seal": (attempts, "seal", _overwriting),
    "commits its own set, sealed or not": (attempts, "seal", _self_willed),
    "commits before it seals": (AttemptMaker, "_sealing", _hasty),
    "commits under keys of the attempt": (AttemptMaker, "_settled", _by_attempt),
    "makes keys by attempt": (write_world, "key_of", _key_by_attempt),
    "makes one key for all writes": (write_world, "key_of", _unordered),
    "removes what it has sealed": (AttemptMaker, "_settled", _tidy),
}


@pytest.mark.proof
@pytest.mark.parametrize("name", MUTANTS)
async def test_a_mutant_is_noticed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    target, attribute, broken = MUTANTS[name]
    monkeypatch.setattr(target, attribute, broken)
    with pytest.raises((Found, AssertionError, KeyError)):
        await deaths(varying)
        await overlaps(varying)
        await test_a_rerun_of_what_failed_finishes_what_was_sealed()
        await test_a_lost_seal_is_refused_and_never_doubles()
