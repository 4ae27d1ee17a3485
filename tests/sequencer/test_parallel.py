"""Many calls at a time: order, bound, and what a failure does to the rest."""

from __future__ import annotations

import asyncio

import pytest

from springline.storage.together import each


async def test_results_come_in_order_and_calls_overlap_up_to_the_bound() -> None:
    running = most = 0

    async def call(item: int) -> int:
        nonlocal running, most
        running += 1
        most = max(most, running)
        for _ in range(10 - item % 7):
            await asyncio.sleep(0)
        running -= 1
        return item * item

    assert await each(call, range(20), concurrency=4) == [item * item for item in range(20)]
    assert most == 4
    assert await each(call, [], concurrency=4) == []


async def test_a_failure_ends_what_has_not_begun_and_the_first_item_is_blamed() -> None:
    begun: list[int] = []

    async def call(item: int) -> None:
        begun.append(item)
        await asyncio.sleep(0)
        if item in (1, 2):
            raise LookupError(item)

    with pytest.raises(LookupError, match="1"):
        await each(call, range(100), concurrency=3)
    assert len(begun) < 10


async def test_there_must_be_room_for_one() -> None:
    with pytest.raises(ValueError, match="concurrency"):
        await each(asyncio.sleep, [0], concurrency=0)
