"""What the ledger's queue hands to a round, and what is left behind."""

from __future__ import annotations

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st

from springline.ledger.request import (
    MAX_ROUND_BYTES,
    MAX_ROUND_EVENTS,
    AppendRequest,
    NewEvent,
    request_weight,
)
from workflows.ledger_queue import AppendTicket, append_queue, append_ticket


def ticket(key: str, *, events: int = 1, size: int = 0) -> AppendTicket:
    data = {"type": "t", "pad": "x" * size}
    return append_ticket(AppendRequest(request_id=key, events=[NewEvent(data=data)] * events))


def keys(tickets: list[AppendTicket]) -> list[str | None]:
    return [one.key for one in tickets]


async def test_of_two_requests_with_one_id_the_second_waits_and_keeps_its_place() -> None:
    queue = append_queue()
    for key in ("a", "b", "a", "c", "a"):
        queue.put(ticket(key))
    assert keys(queue.take()) == ["a", "b", "c"]
    queue.put(ticket("d"))
    assert keys(queue.take()) == ["a", "d"]
    assert keys(queue.take()) == ["a"]
    assert len(queue) == 0


async def test_a_round_is_full_by_events_or_by_bytes_and_takes_one_request_at_least() -> None:
    queue = append_queue()
    for key, events, size in (("a", 400, 0), ("b", 400, 0), ("c", 400, 0), ("d", 1, MAX_ROUND_BYTES), ("e", 1, 0)):
        queue.put(ticket(key, events=events, size=size))
    assert [keys(queue.take()) for _ in range(4)] == [["a", "b"], ["c"], ["d"], ["e"]]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abcdefgh"), st.integers(1, 500)), max_size=40))
def test_everybody_is_taken_once_and_in_order_of_their_ids(asked: list[tuple[str, int]]) -> None:
    async def scenario() -> None:
        queue = append_queue()
        put = [queue.put(ticket(key, events=events)) for key, events in asked]
        taken: list[AppendTicket] = []
        while queue:
            assert queue.units == sum(one.units for one in put) - sum(one.units for one in taken)
            some = queue.take()
            assert some
            assert len(some) == 1 or sum(one.units for one in some) <= MAX_ROUND_EVENTS
            assert len({one.key for one in some}) == len(some)
            taken += some
        assert sorted(map(id, taken)) == sorted(map(id, put))
        for key in "abcdefgh":
            assert [one for one in taken if one.key == key] == [one for one in put if one.key == key]
        assert (queue.units, queue.size) == (0, 0)

    asyncio.run(scenario())


def test_a_request_weighs_its_bytes_and_at_least_its_answer() -> None:
    light = AppendRequest(request_id="a", events=[NewEvent(data={"type": "t"})] * 10)
    heavy = AppendRequest(request_id="a", events=[NewEvent(data={"type": "t", "é": "ü" * 10_000}, idempotency_key="k")])
    assert light.payload_bytes == 10 * len(b'{"type":"t"}')
    assert request_weight(light) == 10 * 512
    assert request_weight(heavy) == heavy.payload_bytes == len('{"type":"t","é":""}'.encode()) + 20_000 + 1
