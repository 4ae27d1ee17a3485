"""What heavy requests do to batches: they fill them by weight, and one that is too heavy for any travels alone."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from springline.errors import Code, Refusal
from springline.requests.coalescer import MAX_FULL_UNDER_WAY, Kind, RequestCoalescer
from springline.requests.gateway import TryAgain
from tests.support.virtual_time import run

FULL = 100


@dataclass(frozen=True)
class Parcel:
    name: str
    weight: int


KIND: Kind[Parcel, str] = Kind(
    request_id=lambda parcel: parcel.name,
    answered_id=lambda answer: answer.partition(":")[0],
    refuse=lambda parcel, refusal: f"{parcel.name}: {refusal.code}",
    unavailable=lambda parcel, why: Refusal(code=Code.UNAVAILABLE, message=why),
    weight=lambda parcel: parcel.weight,
    full_weight=FULL,
)


class Carrier:
    """Delivers what arrives, after as many `losses` as it is told."""

    def __init__(self, losses: int = 0) -> None:
        self.losses = losses
        self.batches: list[list[Parcel]] = []
        self.under_way = self.most_under_way = 0

    async def __call__(self, lane: str, requests: Sequence[Parcel], *, batch_id: str) -> list[str]:
        self.batches.append(list(requests))
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            await asyncio.sleep(0.05)
        finally:
            self.under_way -= 1
        if self.losses:
            self.losses -= 1
            raise TryAgain("turned away", in_doubt=False)
        return [f"{parcel.name}: delivered" for parcel in requests]

    @property
    def weights(self) -> list[int]:
        return [sum(parcel.weight for parcel in batch) for batch in self.batches]


async def send_all(coalescer: RequestCoalescer[str, Parcel, str], parcels: list[Parcel]) -> None:
    answers = await asyncio.gather(*(coalescer.ask("lane", parcel) for parcel in parcels))
    assert answers == [f"{parcel.name}: delivered" for parcel in parcels]


def test_a_batch_is_full_by_weight_before_it_is_by_members() -> None:
    async def scenario() -> None:
        carrier = Carrier()
        await send_all(RequestCoalescer(carrier, KIND), [Parcel(str(n), 30) for n in range(10)])
        assert carrier.weights == [90, 90, 90, 30]
        assert [parcel.name for batch in carrier.batches for parcel in batch] == [str(n) for n in range(10)]
        assert carrier.most_under_way > 2, "full batches go out beyond the two"

    run(scenario())


def test_what_is_heavier_than_a_full_batch_travels_alone_and_in_its_turn() -> None:
    async def scenario() -> None:
        carrier = Carrier()
        parcels = [Parcel("light", 1), Parcel("heavy", 5 * FULL), Parcel("last", 1)]
        await send_all(RequestCoalescer(carrier, KIND), parcels)
        assert carrier.weights == [1, 500, 1]

    run(scenario())


def test_those_who_were_turned_away_come_back_in_a_batch_that_nearly_fills_a_round() -> None:
    async def scenario() -> None:
        carrier = Carrier(losses=MAX_FULL_UNDER_WAY)
        parcels = [Parcel(str(n), 50) for n in range(2 * MAX_FULL_UNDER_WAY)]
        await send_all(RequestCoalescer(carrier, KIND), parcels)
        assert carrier.weights[MAX_FULL_UNDER_WAY:] == [(MAX_FULL_UNDER_WAY - 1) * FULL, FULL]

    run(scenario())


@settings(max_examples=100, deadline=None)
@given(weights=st.lists(st.integers(0, 2 * FULL), min_size=1, max_size=60), losses=st.integers(0, 5))
def test_no_batch_is_too_heavy_unless_it_has_one_member(weights: list[int], losses: int) -> None:
    async def scenario() -> None:
        carrier = Carrier(losses)
        coalescer = RequestCoalescer(carrier, KIND, deadline_s=1e6)
        await send_all(coalescer, [Parcel(str(number), weight) for number, weight in enumerate(weights)])
        most = FULL * (MAX_FULL_UNDER_WAY - 1) if losses else FULL
        for weight, batch in zip(carrier.weights, carrier.batches, strict=True):
            assert len(batch) == 1 or weight <= most
        await coalescer.aclose()

    run(scenario())
