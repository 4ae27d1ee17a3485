"""Which upstream partitions a partition needs, against a search through all of them."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from springline.definitions.mappings import (
    MappingKind,
    PartitionMapping,
    SomePartitions,
    effective_mapping,
    needed_keys,
)
from springline.definitions.partitions import FieldProblem, PartitionKind, Partitions
from springline.sdk import all_partitions, daily, hourly, identity, latest, monthly, static, weekly, window

BY_TIME: dict[str, Any] = {"hourly": hourly, "daily": daily, "weekly": weekly, "monthly": monthly}
ZONES = ["UTC", "Europe/Oslo", "America/Sao_Paulo", "Pacific/Apia"]
STEP_DAYS = {"hourly": 1, "daily": 1, "weekly": 7, "monthly": 1}


@st.composite
def parts(draw: st.DrawFn) -> Partitions:
    kind = draw(st.sampled_from(list(BY_TIME)))
    start = draw(st.datetimes(datetime(2011, 10, 1), datetime(2012, 3, 1))).replace(minute=0, second=0, microsecond=0)
    if kind != "hourly":
        start = start.replace(hour=0)
    if kind == "monthly":
        start = start.replace(day=1)
    zone = {} if kind == "hourly" else {"timezone": draw(st.sampled_from(ZONES))}
    made: Partitions = BY_TIME[kind](start, **zone)
    return made


def earlier(partitions: Partitions) -> Partitions:
    """The same partitions, from long before the first of them on."""
    start = datetime.fromisoformat(f"{partitions.start}-01" if partitions.kind == "monthly" else str(partitions.start))
    back = start - timedelta(days=364)
    if partitions.kind == "monthly":
        return monthly(back.replace(day=1), timezone=partitions.timezone or "UTC")
    again: Partitions = (
        hourly(back) if partitions.kind == "hourly" else BY_TIME[partitions.kind](back, timezone=partitions.timezone)
    )
    return again


@given(parts(), parts(), st.integers(0, 40), st.integers(-8, 8), st.integers(0, 8), st.data())
def test_a_window_holds_what_overlaps_and_what_it_is_moved_to(
    upstream: Partitions, downstream: Partitions, position: int, start: int, more: int, data: st.DataObject
) -> None:
    mapping = effective_mapping(window(start, start + more), upstream, downstream)
    assert isinstance(mapping, PartitionMapping)
    key = downstream.key_at(position)
    planned = data.draw(st.sets(st.integers(0, 80)))
    some = SomePartitions.of(upstream, [upstream.key_at(one) for one in planned])

    mine = downstream.window(key)
    assert mine is not None
    whole = earlier(upstream)
    first = whole.position(str(upstream.start))
    overlapping = []
    near = upstream.overlapping(*mine)
    for at in range(first + near.start - 40, first + near.stop + 40):
        if at < 0:
            continue
        theirs = whole.window(whole.key_at(at))
        assert theirs is not None
        if theirs[0] < mine[1] and theirs[1] > mine[0]:
            overlapping.append(at - first)
    if not overlapping:
        # A day that its zone left out lies within one upstream partition or between two.
        assert mine[0] == mine[1]
        return
    wanted = {one for one in planned if overlapping[0] + start <= one <= overlapping[-1] + start + more}
    assert needed_keys(mapping, some, downstream, key) == tuple(upstream.key_at(one) for one in sorted(wanted))


def test_each_mapping_by_example() -> None:
    days = daily("2024-01-01")
    some = SomePartitions.of(days, ["2024-01-03", "2024-01-01", "2024-01-02", "2024-01-03"])
    assert some.keys == ("2024-01-01", "2024-01-02", "2024-01-03")
    assert needed_keys(all_partitions(), some, None, None) == some.keys
    assert needed_keys(latest(), some, None, None) == ("2024-01-03",)
    assert needed_keys(latest(), some, days, "2024-01-01") == ("2024-01-03",)
    assert needed_keys(identity(), some, days, "2024-01-02") == ("2024-01-02",)
    assert needed_keys(identity(), some, days, "2024-01-04") == ()
    assert needed_keys(window(-1), some, days, "2024-01-03") == ("2024-01-02", "2024-01-03")
    assert needed_keys(window(-1, -1), some, days, "2024-01-01") == ()
    assert needed_keys(window(), some, monthly("2024-01"), "2024-01") == some.keys
    assert needed_keys(window(), some, monthly("2024-01"), "2024-02") == ()
    month = SomePartitions.of(monthly("2024-01"), ["2024-01", "2024-02"])
    assert needed_keys(window(), month, days, "2024-02-01") == ("2024-02",)
    assert needed_keys(window(-1), month, days, "2024-02-01") == ("2024-01", "2024-02")
    assert needed_keys(latest(), SomePartitions.of(days, []), days, "2024-01-01") == ()


def test_static_partitions_keep_the_order_of_their_definition() -> None:
    areas = static("us", "eu", "asia")
    some = SomePartitions.of(areas, ["asia", "us"])
    assert some.keys == ("us", "asia")
    assert needed_keys(identity(), some, areas, "eu") == ()
    assert needed_keys(identity(), some, areas, "us") == ("us",)


def test_a_window_does_not_depend_on_where_the_upstream_starts() -> None:
    days = daily("2024-01-01")
    late = SomePartitions.of(daily("2024-01-20"), ["2024-01-20", "2024-01-21"])
    # The day after each: without the earlier days of the asset, the first one would be its own day after.
    assert needed_keys(window(1, 1), late, days, "2024-01-18") == ()
    assert needed_keys(window(1, 1), late, days, "2024-01-19") == ("2024-01-20",)


@pytest.mark.parametrize("kind", [one for one in PartitionKind if one is not PartitionKind.MULTI])
def test_the_mapping_by_default_of_equal_partitions_is_the_same_key(kind: PartitionKind) -> None:
    same = static("a", "b") if kind is PartitionKind.STATIC else BY_TIME[kind](datetime(2024, 1, 1))
    mapping = effective_mapping(None, same, same)
    assert not isinstance(mapping, FieldProblem)
    assert mapping.kind is MappingKind.IDENTITY
    key = same.key_at(1)
    assert needed_keys(mapping, SomePartitions.of(same, [same.key_at(0), key]), same, key) == (key,)
