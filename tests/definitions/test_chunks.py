"""Where a partition of a backfill is: the chunk of a place, and the places of a chunk."""

from __future__ import annotations

from typing import get_args

import pytest

from springline.definitions.backfills import Order, chunk_of, places_of


@pytest.mark.parametrize("order", get_args(Order))
@pytest.mark.parametrize(("total", "size"), [(1, 1), (25, 10), (30, 10), (7, 100), (9, 1)])
def test_each_place_is_in_the_chunk_that_makes_it(order: Order, total: int, size: int) -> None:
    chunks = -(-total // size)
    made = {place: index for index in range(chunks) for place in places_of(index, size, total, order)}
    assert made == {place: chunk_of(place, size, total, order) for place in range(total)}
