"""How a rebuild is cut into parts."""

from __future__ import annotations

import pytest

from springline.projection.config import FoldConfig
from springline.rebuild.plan import MOST_SHARDS, shards_for, slices_of

CONFIG = FoldConfig("acme", "prod")


@pytest.mark.parametrize(
    ("events", "sizes"),
    [
        (0, []),
        (1, [1]),
        (1_000, [1_000]),
        (1_001, [1_000, 1]),
        (16_000, [1_000] * 16),
        (16_001, [1_001] * 15 + [986]),
        (160_000, [10_000] * 16),
        (165_000, [10_000] * 16 + [5_000]),
    ],
)
def test_events_are_cut_into_slices_that_workers_read_side_by_side(events: int, sizes: list[int]) -> None:
    ids = [f"{number:026}" for number in range(events)]
    slices = slices_of(ids)
    assert [len(one) for one in slices] == sizes
    assert [event_id for one in slices for event_id in one] == ids


@pytest.mark.parametrize(("events", "shards"), [(0, 1), (4_999, 1), (5_000, 2), (100_000, 8), (1_000_000, MOST_SHARDS)])
def test_the_fold_is_split_for_many_events(events: int, shards: int) -> None:
    assert shards_for(events, CONFIG) == shards
    assert shards_for(events, FoldConfig("acme", "prod", retention_days=7)) == 1
