"""Turns: one at a time, the job that began earliest first, and never lost to somebody who gave up."""

from __future__ import annotations

import asyncio
from contextlib import nullcontext, suppress

from springline.storage.threads import Turns, long_job


async def test_short_work_goes_before_all_and_then_what_was_lost_before_and_then_what_began_earlier() -> None:
    turns, order = Turns(), list[str]()
    lost: dict[str, int | None] = {"first": 0, "second": 0, "lost": 1, "lost again": 2, "short": None}
    gates = {name: asyncio.Event() for name in lost}

    async def job(name: str) -> None:
        times = lost[name]
        with nullcontext() if times is None else long_job(lost=times):
            await gates[name].wait()
            async with turns.turn():
                order.append(name)

    tasks = [asyncio.create_task(job(name)) for name in lost]
    await asyncio.sleep(0)
    async with turns.turn():
        for name in ("second", "lost", "first", "lost again", "short"):
            gates[name].set()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        assert order == []
    await asyncio.gather(*tasks)
    assert order == ["short", "lost again", "lost", "first", "second"]


async def test_a_turn_is_held_alone() -> None:
    turns, inside = Turns(), 0

    async def work() -> None:
        nonlocal inside
        async with turns.turn():
            inside += 1
            assert inside == 1
            await asyncio.sleep(0)
            inside -= 1

    await asyncio.gather(*(work() for _ in range(20)))


async def test_who_gives_up_holds_nobody_up() -> None:
    turns = Turns()

    async def work() -> str:
        async with turns.turn():
            return "done"

    async with turns.turn():
        waiting = [asyncio.create_task(work()) for _ in range(3)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        await asyncio.sleep(0)
    # The turn has just been given to the second, who gives up before noticing.
    waiting[1].cancel()
    with suppress(asyncio.CancelledError):
        await waiting[1]
    assert waiting[0].cancelled()
    assert waiting[1].cancelled()
    assert await asyncio.wait_for(waiting[2], 5) == "done"
    assert await asyncio.wait_for(work(), 5) == "done"


async def test_a_failure_ends_a_turn() -> None:
    turns = Turns()
    with suppress(ValueError):
        async with turns.turn():
            raise ValueError
    async with asyncio.timeout(5), turns.turn():
        return
