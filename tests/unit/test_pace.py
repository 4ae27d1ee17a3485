"""What a table learns of a store that takes one write a second to one name, in virtual time."""

from __future__ import annotations

import asyncio

from springline import paths
from springline.commit.pace import FIRST_WRITES, WRITE_INTERVAL_S, WritePace
from springline.commit.table import Table
from springline.delta.coordinator import Coordinator
from springline.storage.faults import Decision, FaultyStore, Quota, on
from springline.storage.memory import MemoryStore
from tests.support.virtual_time import run

TABLE_ID = "01946b1c-0000-7000-8000-0000000000aa"


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def refused_then_taken(pace: WritePace, clock: Clock, after_s: float) -> None:
    pace.refused()
    clock.now += after_s
    pace.taken(clock.now)


def test_nothing_is_held_back_before_anything_was_refused() -> None:
    clock = Clock()
    pace = WritePace(clock)
    for _ in range(10):
        assert pace.wait_s() == 0
        pace.taken(clock.now)
        clock.now += 0.01
    assert not pace.slow


def test_after_a_refusal_writes_wait_for_their_second() -> None:
    clock = Clock()
    pace = WritePace(clock)
    pace.taken(clock.now)
    refused_then_taken(pace, clock, 1.0)
    assert pace.slow
    clock.now += 0.3
    assert WRITE_INTERVAL_S - 0.3 < pace.wait_s() < WRITE_INTERVAL_S - 0.2
    clock.now += 5
    assert pace.wait_s() == 0


def test_a_write_that_is_taken_soon_after_another_proves_that_there_is_no_quota() -> None:
    clock = Clock()
    pace = WritePace(clock)
    pace.taken(clock.now)
    # The store was out of reach for a moment; the second try came within the second.
    refused_then_taken(pace, clock, 0.1)
    assert not pace.slow


def test_one_write_tries_again_from_time_to_time_and_ever_less_often() -> None:
    clock = Clock()
    pace = WritePace(clock)
    pace.taken(clock.now)
    refused_then_taken(pace, clock, 1.0)
    held = []
    for _ in range(2):
        count = 0
        while pace.slow:
            clock.now += pace.wait_s()
            pace.taken(clock.now)
            count += 1
        held.append(count)
        assert pace.wait_s() == 0
        refused_then_taken(pace, clock, 1.0)
    assert held == [FIRST_WRITES, 2 * FIRST_WRITES]
    while pace.slow:
        clock.now += pace.wait_s()
        pace.taken(clock.now)
    clock.now += 0.1
    pace.taken(clock.now)
    refused_then_taken(pace, clock, 1.0)
    clock.now += pace.wait_s()
    assert pace.slow


def test_swaps_go_out_once_a_second_and_are_refused_only_until_that_is_known() -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        store = FaultyStore(MemoryStore(), latency=0.03, quota=Quota(1.0, clock=loop.time))
        table = Table(store, TABLE_ID, paths.default_table_root(TABLE_ID))
        token: str | None = None
        took: list[float] = []
        for version in range(6):
            began = loop.time()
            token = await table.swap(Coordinator(version), token)
            assert token is not None
            took.append(loop.time() - began)
        assert took[0] < 0.1
        assert all(WRITE_INTERVAL_S <= one < WRITE_INTERVAL_S + 0.1 for one in took[1:]), took
        refused = table.throttled
        assert refused > 0
        token = await table.swap(Coordinator(6), token)
        assert table.throttled == refused, "the second swap was refused, those after it were held back"

    run(scenario())


def test_a_passing_fault_does_not_slow_a_table_down() -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        store = FaultyStore(MemoryStore(), latency=0.01, hook=on(lambda _: True, Decision.FAIL_BEFORE, nth=2))
        table = Table(store, TABLE_ID, paths.default_table_root(TABLE_ID))
        token: str | None = None
        for version in range(10):
            token = await table.swap(Coordinator(version), token)
            assert token is not None
        assert table.throttled == 1
        assert loop.time() < 0.5

    run(scenario())
