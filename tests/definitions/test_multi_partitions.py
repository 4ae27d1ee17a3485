"""Partitions in two dimensions: keys, expansion, mappings dimension by dimension, schedules, backfills, manifests."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from springline.definitions.backfills import BadChoice, PartitionsAsked, Span, chosen_partitions
from springline.definitions.composing import compose
from springline.definitions.mappings import (
    MappingKind,
    PartitionMapping,
    SomePartitions,
    effective_mapping,
    needed_keys,
)
from springline.definitions.nodes import AssetDefinition
from springline.definitions.partitions import (
    Dimension,
    FieldProblem,
    PartitionKind,
    Partitions,
    join_keys,
    split_key,
)
from springline.definitions.schedules import scheduled_run
from springline.errors import Refused
from tests.support.definitions import asset, part

DAYS = Partitions(PartitionKind.DAILY, "2024-01-01", "2024-01-05")
MONTHS = Partitions(PartitionKind.MONTHLY, "2024-01")
REGIONS = Partitions(PartitionKind.STATIC, keys=("eu", "us", "a|b", "50%", "%7C"))
SIZES = Partitions(PartitionKind.STATIC, keys=("s", "l"))


def multi(**dimensions: Partitions) -> Partitions:
    return Partitions(PartitionKind.MULTI, dimensions=tuple(Dimension(name, one) for name, one in dimensions.items()))


BOTH = multi(day=DAYS, region=REGIONS)
STATIC = multi(size=SIZES, region=REGIONS)
DAY = {"name": "day", "partitions": {"kind": "daily", "start": "2024-01-01"}}
PLAIN: dict[str, Any] = {
    "kind": "multi",
    "dimensions": [
        DAY,
        {"name": "region", "partitions": {"kind": "static", "keys": ["eu", "us"]}},
    ],
}
NOON = datetime(2024, 1, 3, 12, tzinfo=UTC)

texts = st.text(alphabet="ab|%7C2-5é", min_size=1, max_size=6)


@given(texts, texts)
def test_a_key_is_read_as_it_was_made(first: str, second: str) -> None:
    assert split_key(join_keys((first, second))) == (first, second)


@given(texts)
def test_what_is_read_is_made_so_again(key: str) -> None:
    parts = split_key(key)
    if parts is not None:
        assert join_keys(parts) == key


@given(st.lists(texts, min_size=1, max_size=4, unique=True), st.lists(texts, min_size=1, max_size=4, unique=True))
def test_the_keys_are_the_product_each_at_its_position(first: list[str], second: list[str]) -> None:
    both = multi(
        a=Partitions(PartitionKind.STATIC, keys=tuple(first)), b=Partitions(PartitionKind.STATIC, keys=tuple(second))
    )
    assert list(both.problems()) == []
    keys = both.keys_at_time()
    assert [split_key(key) for key in keys] == list(itertools.product(first, second))
    assert len(set(keys)) == len(keys)
    assert [both.key_at(number) for number in range(len(keys))] == keys
    assert [both.position(key) for key in keys] == list(range(len(keys)))
    assert all(both.problem_of_key(key) is None for key in keys)
    with pytest.raises(IndexError):
        both.key_at(len(keys))


def test_days_and_regions() -> None:
    assert list(BOTH.problems()) == []
    keys = [BOTH.key_at(number) for number in range(20)]
    assert keys[:6] == [
        "2024-01-01|eu",
        "2024-01-01|us",
        "2024-01-01|a%7Cb",
        "2024-01-01|50%25",
        "2024-01-01|%257C",
        "2024-01-02|eu",
    ]
    with pytest.raises(IndexError):
        BOTH.key_at(20)
    with pytest.raises(IndexError):
        BOTH.key_at(-1)
    assert (BOTH.begun_by(NOON), BOTH.ended_by(NOON), STATIC.ended_by(NOON)) == (15, 10, 10)
    assert BOTH.window("2024-01-02|eu") == DAYS.window("2024-01-02")
    assert STATIC.window("s|eu") is None
    assert BOTH.parts("2024-01-02|a%7Cb") == {"day": "2024-01-02", "region": "a|b"}
    assert DAYS.parts("2024-01-02") == {}
    assert (BOTH.time, STATIC.time, DAYS.time, REGIONS.time) == (DAYS, None, DAYS, None)
    assert not BOTH.by_time


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("2024-01-01", "is no pair of keys, such as '2024-01-01|eu'"),
        ("2024-01-01|eu|x", "is no pair"),
        ("2024-01-01|a|b", "is no pair"),
        ("2024-01-01|50%", "is no pair"),
        ("2024-01-09|eu", "has the day '2024-01-09', which lies at or after the end"),
        ("2024-01-01|ue", "has the region 'ue', which is none of the keys: there are eu, us"),
    ],
)
def test_what_is_no_key(key: str, said: str) -> None:
    assert said in str(BOTH.problem_of_key(key))


@pytest.mark.parametrize(
    ("wrong", "field", "said"),
    [
        (Partitions(PartitionKind.MULTI), "dimensions", "there are 0 dimensions"),
        (multi(day=DAYS), "dimensions", "there are 1 dimensions"),
        (multi(a=SIZES, b=SIZES, c=SIZES), "dimensions", "there are 3 dimensions"),
        (multi(region=REGIONS, day=DAYS), "dimensions", "time is in the second place, day"),
        (multi(day=DAYS, month=MONTHS), "dimensions", "both are by time, day and month"),
        (multi(day=DAYS, both=BOTH), "dimensions", "the dimension both has dimensions itself"),
        (multi(day=Partitions(PartitionKind.DAILY), region=SIZES), "dimensions", "the dimension day: daily partitions"),
        (Partitions(PartitionKind.MULTI, keys=("a",), dimensions=BOTH.dimensions), "keys", "have no keys"),
        (Partitions(PartitionKind.MULTI, start="x", dimensions=BOTH.dimensions), "start", "have no start"),
        (Partitions(PartitionKind.STATIC, keys=("a",), dimensions=BOTH.dimensions), "dimensions", "have no dimensions"),
        (multi(**{"a b": DAYS, "region": SIZES}), "dimensions", "the dimension 'a b' holds ' '"),
        (
            multi(
                a=Partitions(PartitionKind.STATIC, keys=tuple(map(str, range(101)))),
                b=Partitions(PartitionKind.STATIC, keys=tuple(map(str, range(100)))),
            ),
            "dimensions",
            "there are 10100 pairs of keys",
        ),
        (
            multi(day=DAYS, b=Partitions(PartitionKind.STATIC, keys=("x" * 190,))),
            "dimensions",
            "the longest pair of keys has",
        ),
    ],
)
def test_what_cannot_be(wrong: Partitions, field: str, said: str) -> None:
    found = list(wrong.problems())
    assert [one.field for one in found][:1] == [field], found
    assert said in found[0].message
    assert found[0].remedy


def mapped(kind: str | None, above: Partitions | None, below: Partitions | None, *offsets: int) -> Any:
    declared = None if kind is None else PartitionMapping(MappingKind(kind), *offsets)
    return effective_mapping(declared, above, below)


@pytest.mark.parametrize(
    ("kind", "above", "below", "found"),
    [
        (None, BOTH, BOTH, "identity"),
        (None, BOTH, DAYS, "identity"),
        (None, DAYS, BOTH, "identity"),
        (None, REGIONS, BOTH, "identity"),
        (None, BOTH, REGIONS, "identity"),
        (None, BOTH, MONTHS, "window"),
        (None, MONTHS, BOTH, "window"),
        (None, multi(month=MONTHS, region=REGIONS), BOTH, "identity"),
        (None, multi(day=MONTHS, region=REGIONS), BOTH, "window"),
        (None, BOTH, None, "all"),
        (None, None, BOTH, "all"),
        ("all", BOTH, SIZES, "all"),
        ("latest", BOTH, None, "latest"),
        ("latest", BOTH, REGIONS, "latest"),
        ("window", BOTH, BOTH, "window"),
    ],
)
def test_what_a_mapping_is(kind: str | None, above: Partitions | None, below: Partitions | None, found: str) -> None:
    mapping = mapped(kind, above, below)
    assert isinstance(mapping, PartitionMapping), mapping
    assert mapping.kind == found


@pytest.mark.parametrize(
    ("kind", "above", "below", "said"),
    [
        (None, BOTH, SIZES, "have no dimension in common"),
        (None, multi(a=DAYS, b=SIZES), BOTH, "have no dimension in common"),
        ("identity", BOTH, MONTHS, "have no key in common"),
        ("identity", BOTH, None, "have no key in common with no partitions"),
        ("latest", STATIC, STATIC, "there is no latest one of partitions by size and region"),
        ("window", STATIC, STATIC, "a window maps time to time"),
        (None, multi(day=DAYS, region=SIZES), BOTH, "'eu' is not one of the upstream's keys"),
    ],
)
def test_what_is_no_mapping(kind: str | None, above: Partitions | None, below: Partitions | None, said: str) -> None:
    mapping = mapped(kind, above, below)
    assert isinstance(mapping, FieldProblem), mapping
    assert said in mapping.message
    assert mapping.remedy


def days_of(key: str | None) -> list[str]:
    return ["2024-01-01", "2024-01-02", "2024-01-03", "2024-01-04"] if key is None else [key]


@given(st.sets(st.integers(0, 19)), st.integers(0, 3), st.integers(0, 4), st.integers(-2, 0), st.integers(0, 1))
def test_needed_keys_are_those_of_a_literal_reading(
    chosen: set[int], day: int, region: int, start: int, end: int
) -> None:
    planned = [BOTH.key_at(number) for number in sorted(chosen)]
    some = SomePartitions.of(BOTH, planned)
    assert list(some.keys) == planned
    days, regions = days_of(None), list(REGIONS.keys)
    key = join_keys((days[day], regions[region]))
    parts = {one: split_key(one) for one in planned}

    def of(mapping: PartitionMapping, below: Partitions | None, own: str | None) -> list[str]:
        return list(needed_keys(mapping, some, below, own))

    identity, window = PartitionMapping(MappingKind.IDENTITY), PartitionMapping(MappingKind.WINDOW, start, end)
    near = {days[at] for at in range(max(0, day + start), min(4, day + end + 1))}
    assert of(identity, BOTH, key) == [one for one in planned if one == key]
    assert of(identity, DAYS, days[day]) == [one for one in planned if parts[one][0] == days[day]]  # type: ignore[index]
    assert of(identity, REGIONS, regions[region]) == [
        one
        for one in planned
        if parts[one][1] == regions[region]  # type: ignore[index]
    ]
    assert of(window, BOTH, key) == [
        one
        for one in planned
        if parts[one][0] in near and parts[one][1] == regions[region]  # type: ignore[index]
    ]
    assert of(window, DAYS, days[day]) == [one for one in planned if parts[one][0] in near]  # type: ignore[index]
    assert of(PartitionMapping(MappingKind.ALL), BOTH, key) == planned
    latest = max((parts[one][0] for one in planned), default="")  # type: ignore[index]
    last = PartitionMapping(MappingKind.LATEST)
    assert of(last, None, None) == [one for one in planned if parts[one][0] == latest]  # type: ignore[index]
    assert of(last, BOTH, key) == [one for one in planned if parts[one] == (latest, regions[region])]


def test_one_dimension_above_two() -> None:
    some = SomePartitions.of(DAYS, days_of(None))
    identity = PartitionMapping(MappingKind.IDENTITY)
    assert needed_keys(identity, some, BOTH, "2024-01-02|us") == ("2024-01-02",)
    assert needed_keys(PartitionMapping(MappingKind.WINDOW, -1), some, BOTH, "2024-01-02|us") == (
        "2024-01-01",
        "2024-01-02",
    )
    assert needed_keys(PartitionMapping(MappingKind.LATEST), some, BOTH, "2024-01-02|us") == ("2024-01-04",)
    regions = SomePartitions.of(REGIONS, REGIONS.keys)
    assert needed_keys(identity, regions, BOTH, "2024-01-02|a%7Cb") == ("a|b",)


def test_a_parameter_takes_many_where_a_dimension_is_left_open() -> None:
    identity = PartitionMapping(MappingKind.IDENTITY)
    assert identity.many(BOTH, DAYS)
    assert not identity.many(BOTH, BOTH)
    assert not identity.many(DAYS, BOTH)
    assert PartitionMapping(MappingKind.LATEST).many(BOTH, None)


def test_two_dimensions_of_one_definition_are_told_apart() -> None:
    both = multi(origin=SIZES, target=SIZES)
    some = SomePartitions.of(both, both.keys_at_time())
    assert needed_keys(PartitionMapping(MappingKind.IDENTITY), some, both, "s|l") == ("s|l",)


def test_a_schedule_makes_all_of_the_last_complete_day() -> None:
    nodes = compose(None, part("flights", asset("raw", partitions=PLAIN)))
    assert nodes.manifest["format"] == 2

    raw = AssetDefinition.model_validate(asset("raw", partitions=PLAIN))
    found = scheduled_run({"raw": raw}, ["raw"], NOON)
    assert found.partitions == ("2024-01-02|eu", "2024-01-02|us")


def asked(**more: Any) -> PartitionsAsked:
    return PartitionsAsked(**more)


def test_backfills_over_ranges_and_selections() -> None:
    span = chosen_partitions(BOTH, asked(start="2024-01-02", end="2024-01-03"), NOON)
    assert isinstance(span, Span)
    assert (len(span), span.keys(range(1)), span.keys(range(9, 10))) == (10, ["2024-01-02|eu"], ["2024-01-03|%257C"])
    everything = chosen_partitions(BOTH, asked(everything=True), NOON)
    assert (len(everything), isinstance(everything, Span)) == (10, True)
    assert chosen_partitions(BOTH, asked(start="2024-01-02|us", end="2024-01-02|us"), NOON).keys(range(1)) == [  # type: ignore[union-attr]
        "2024-01-02|us"
    ]
    assert chosen_partitions(BOTH, asked(match="*|us"), NOON) == ["2024-01-01|us", "2024-01-02|us"]
    assert chosen_partitions(BOTH, asked(keys=("2024-01-04|us", "2024-01-01|eu")), NOON) == [
        "2024-01-01|eu",
        "2024-01-04|us",
    ]
    assert len(chosen_partitions(STATIC, asked(everything=True), NOON)) == 10
    with pytest.raises(BadChoice, match="has the region 'xx'"):
        chosen_partitions(BOTH, asked(keys=("2024-01-04|xx",)), NOON)


def test_definitions_are_deployed_and_refused() -> None:
    wanted = part(
        "flights", asset("raw", partitions=PLAIN), asset("mart", "raw", partitions=PLAIN["dimensions"][0]["partitions"])
    )
    composition = compose(None, wanted)
    stored = composition.manifest["assets"][1]["partitions"]
    assert stored["dimensions"][0] == {
        "name": "day",
        "partitions": {"kind": "daily", "start": "2024-01-01", "keys": []},
    }
    with pytest.raises(Refused, match="have no dimension in common"):
        compose(
            None,
            part("f", asset("raw", partitions=PLAIN), asset("x", "raw", partitions={"kind": "static", "keys": ["q"]})),
        )
    with pytest.raises(ValueError, match="the dimension region: there are no keys"):
        part(
            "f",
            asset(
                "raw",
                partitions={
                    **PLAIN,
                    "dimensions": [PLAIN["dimensions"][0], {"name": "region", "partitions": {"kind": "static"}}],
                },
            ),
        )
