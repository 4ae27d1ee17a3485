"""Slots that several workers share: never too many, none lost, one for each queue, the longest wait first."""

from __future__ import annotations

import asyncio
import random
from types import SimpleNamespace
from typing import Any

import pytest

from entrypoints.slots import SharedSlots


def ask(slots: SharedSlots, queue: str) -> asyncio.Task[Any]:
    return asyncio.create_task(slots.reserve_slot(SimpleNamespace(task_queue=queue)))


def use(slots: SharedSlots, permit: Any) -> None:
    slots.mark_slot_used(SimpleNamespace(permit=permit))  # type: ignore[arg-type]


def release(slots: SharedSlots, permit: Any) -> None:
    slots.release_slot(SimpleNamespace(permit=permit))  # type: ignore[arg-type]


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_queue_without_work_holds_one_slot_however_often_it_asks() -> None:
    slots = SharedSlots(3)
    idle = [ask(slots, "idle") for _ in range(3)]
    busy = [ask(slots, "busy") for _ in range(3)]
    await settled()
    assert [one.done() for one in idle + busy] == [True, False, False, True, False, False]
    use(slots, busy[0].result())
    await settled()
    assert [one.done() for one in busy] == [True, True, False]
    use(slots, busy[1].result())
    await settled()
    assert not busy[2].done(), "all three are taken"
    # The SDK releases them from threads of its own.
    await asyncio.to_thread(release, slots, busy[0].result())
    await asyncio.wait_for(busy[2], 5)
    assert not idle[1].done()
    for one in (*idle, *busy):
        one.cancel()


async def test_slots_are_handed_on_in_the_order_of_waiting() -> None:
    slots = SharedSlots(1)
    first, *others = [ask(slots, queue) for queue in "abc"]
    held = await first
    use(slots, held)
    again = ask(slots, "a")
    for one in (*others, again):
        release(slots, held)
        held = await asyncio.wait_for(one, 5)
        use(slots, held)


@pytest.mark.parametrize("granted", [False, True])
async def test_whoever_stops_waiting_loses_no_slot(granted: bool) -> None:
    slots = SharedSlots(1)
    held = await ask(slots, "a")
    use(slots, held)
    gone = ask(slots, "a")
    await settled()
    if granted:
        # It has the slot, and does not know it yet.
        release(slots, held)
    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)
    assert gone.cancelled()
    if not granted:
        release(slots, held)
    for queue in "ab":
        release(slots, await asyncio.wait_for(ask(slots, queue), 5))


@pytest.mark.parametrize("seed", range(20))
async def test_any_way_no_slot_is_lost_and_none_is_given_twice(seed: int) -> None:
    chance = random.Random(seed)
    slots = SharedSlots(4)
    asking: list[asyncio.Task[Any]] = []
    held: list[Any] = []
    for _ in range(300):
        match chance.randrange(4):
            case 0:
                asking.append(ask(slots, chance.choice("abc")))
            case 1 if asking:
                asking.pop(chance.randrange(len(asking))).cancel()
            case 2 if held:
                use(slots, chance.choice(held))
            case 3 if held:
                release(slots, held.pop(chance.randrange(len(held))))
        if chance.random() < 0.7:
            await settled()
        done = [one for one in asking if one.done()]
        asking = [one for one in asking if not one.done()]
        held += [one.result() for one in done]
        assert len(held) <= 4
    for one in asking:
        one.cancel()
    await settled()
    held += [one.result() for one in asking if not one.cancelled()]
    for permit in held:
        release(slots, permit)
    everything = [ask(slots, f"queue {number}") for number in range(5)]
    await settled()
    assert [one.done() for one in everything] == [True] * 4 + [False]
    everything[4].cancel()
