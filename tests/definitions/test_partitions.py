"""Partitions: keys and positions belong together, windows touch, and what is no definition or key is told."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from springline.definitions.mappings import MappingKind, PartitionMapping, effective_mapping
from springline.definitions.partitions import FieldProblem, PartitionKind, Partitions
from springline.sdk import all_partitions, daily, hourly, identity, latest, monthly, static, weekly, window

ZONES = ["UTC", "Europe/Oslo", "America/New_York", "America/Sao_Paulo", "Pacific/Apia", "Asia/Kathmandu"]
BY_TIME: dict[str, Any] = {"hourly": hourly, "daily": daily, "weekly": weekly, "monthly": monthly}


@st.composite
def by_time(draw: st.DrawFn) -> Partitions:
    kind = draw(st.sampled_from(list(BY_TIME)))
    start = draw(st.datetimes(datetime(1900, 1, 1), datetime(2100, 1, 1)))
    start = start.replace(minute=0, second=0, microsecond=0)
    if kind != "hourly":
        start = start.replace(hour=0)
    if kind == "monthly":
        start = start.replace(day=1)
    zone = {} if kind == "hourly" else {"timezone": draw(st.sampled_from(ZONES))}
    made: Partitions = BY_TIME[kind](start, **zone)
    assert list(made.problems()) == []
    return made


@given(by_time(), st.integers(0, 90_000))
def test_keys_and_positions_belong_together(partitions: Partitions, position: int) -> None:
    key = partitions.key_at(position)
    assert partitions.problem_of_key(key) is None
    assert partitions.position(key) == position


@given(by_time(), st.integers(0, 5_000))
def test_windows_touch_and_hold_their_key(partitions: Partitions, position: int) -> None:
    first = partitions.window(partitions.key_at(position))
    second = partitions.window(partitions.key_at(position + 1))
    assert first is not None
    assert second is not None
    assert first[1] == second[0]
    # A day that a zone has left out, such as 30 December 2011 in Apia, is empty.
    assert first[0] <= first[1]
    span = {"hourly": 0.04, "daily": 1, "weekly": 7, "monthly": 31}[partitions.kind]
    assert first[1] - first[0] <= timedelta(days=span, hours=25)


@given(by_time(), st.integers(1, 1_000))
def test_nothing_lies_before_the_start_or_at_the_end(partitions: Partitions, count: int) -> None:
    end = partitions.key_at(count)
    bounded = Partitions(partitions.kind, partitions.start, end, partitions.timezone)
    assert list(bounded.problems()) == []
    assert bounded.problem_of_key(bounded.key_at(count - 1)) is None
    assert "end" in str(bounded.problem_of_key(end))
    with pytest.raises(IndexError):
        bounded.key_at(count)
    with pytest.raises(IndexError):
        bounded.key_at(-1)
    later = Partitions(partitions.kind, end, None, partitions.timezone)
    assert "before the first" in str(later.problem_of_key(str(partitions.start)))


def test_days_are_those_of_the_clock() -> None:
    oslo = daily("2024-03-30", timezone="Europe/Oslo")
    assert oslo.window("2024-03-31") == (
        datetime(2024, 3, 30, 23, tzinfo=UTC),
        datetime(2024, 3, 31, 22, tzinfo=UTC),
    )
    began = oslo.window("2024-10-27")
    assert began is not None
    assert began[1] - began[0] == timedelta(hours=25)
    # Midnight is skipped there: the day begins at the gap's end.
    paulo = daily("2018-11-01", timezone="America/Sao_Paulo").window("2018-11-04")
    assert paulo is not None
    assert paulo[0].astimezone(ZoneInfo("America/Sao_Paulo")).hour == 1


def test_keys_of_each_kind() -> None:
    assert hourly("2024-01-31").key_at(25) == "2024-02-01T01"
    assert hourly(datetime(2024, 1, 1, 1, tzinfo=ZoneInfo("Europe/Oslo"))).start == "2024-01-01T00"
    assert daily("2024-02-28").key_at(1) == "2024-02-29"
    assert weekly("2024-01-03").key_at(1) == "2024-01-10"
    assert monthly("2023-11").key_at(2) == "2024-01"
    assert monthly("2023-11-01").start == "2023-11"
    assert static("eu", "us") == static(["eu", "us"]) == static(("eu",), "us")
    assert static("eu", "us").key_at(1) == "us"
    assert static("eu", "us").position("us") == 1
    assert static("eu").window("eu") is None
    with pytest.raises(IndexError):
        static("eu").key_at(1)
    with pytest.raises(IndexError):
        monthly("9998-01").key_at(12)
    with pytest.raises(IndexError):
        daily("2024-01-01").key_at(10**9)


@pytest.mark.parametrize(
    ("partitions", "field", "said"),
    [
        (daily("2024-13-01"), "start", "no day of the calendar"),
        (daily("2024-1-1"), "start", "no key of daily"),
        (daily("yesterday"), "start", "no key of daily"),
        (daily(20240101), "start", "no key of daily"),  # type: ignore[arg-type]
        (daily(None), "start", "no start"),  # type: ignore[arg-type]
        (daily("0999-01-01"), "start", "outside the years"),
        (daily("9999-01-01"), "start", "outside the years"),
        (daily("2024-01-01", end="2024-01-01"), "end", "not after start"),
        (daily("2024-01-02", end="2024-01-01"), "end", "not after start"),
        (daily("2024-01-02", end="soon"), "end", "no key"),
        (weekly("2024-01-01", end="2024-01-09"), "end", "whole number of weeks"),
        (daily("2024-01-01", timezone="Europe/Olso"), "timezone", "tz database"),
        (daily("2024-01-01", timezone="America"), "timezone", "tz database"),
        (daily("2024-01-01", timezone="../etc"), "timezone", "tz database"),
        (daily("2024-01-01", timezone=""), "timezone", "tz database"),
        (Partitions(PartitionKind.HOURLY, "2024-01-01T00", timezone="UTC"), "timezone", "hours of UTC"),
        (monthly("2024-01-15"), "start", "no key of monthly"),
        (hourly(datetime(2024, 1, 1, 5, 30)), "start", "no key"),
        (daily(datetime(2024, 1, 1, 5)), "start", "no key"),
        (hourly("2024-01-01T24"), "start", "hour of the clock"),
        (Partitions(PartitionKind.DAILY, "2024-01-01", keys=("a",)), "keys", "take no keys"),
        (Partitions(PartitionKind.STATIC, "2024-01-01", keys=("a",)), "start", "no start"),
        (static(), "keys", "no keys"),
        (static([]), "keys", "no keys"),
        (static("a", "a"), "keys", "twice"),
        (static(""), "keys", "empty"),
        (static("a\n"), "keys", "printed"),
        (static("a" * 201), "keys", "201 characters"),
        (static(3), "keys", "int"),  # type: ignore[arg-type]
        (static(str(n) for n in range(10_001)), "keys", "10000 is the most"),
    ],
)
def test_what_is_no_definition(partitions: Partitions, field: str, said: str) -> None:
    problems = list(partitions.problems())
    assert [one.field for one in problems] == [field]
    assert said in problems[0].message
    assert problems[0].remedy.endswith((".", "?"))


def test_a_misspelt_zone_is_told_the_nearest() -> None:
    (problem,) = daily("2024-01-01", timezone="Europe/Olso").problems()
    assert "Europe/Oslo" in problem.remedy


@pytest.mark.parametrize(
    ("partitions", "key", "said"),
    [
        (daily("2024-01-01"), "2023-12-31", "before the first"),
        (daily("2024-01-01", end="2024-02-01"), "2024-02-01", "at or after the end"),
        (daily("2024-01-01"), "2024-02-30", "no key of daily"),
        (daily("2024-01-01"), "2024-01", "no key of daily"),
        (daily("2024-01-01"), "\u0662\u0660\u0662\u0664-01-01", "no key of daily"),
        (weekly("2024-01-01"), "2024-01-09", "weeks begin on Monday"),
        (static("eu", "us"), "eru", "Did you mean eu?"),
    ],
)
def test_what_is_no_key(partitions: Partitions, key: str, said: str) -> None:
    assert said in str(partitions.problem_of_key(key))


KINDS: list[Partitions | None] = [
    None,
    hourly("2024-01-01"),
    daily("2024-01-01"),
    daily("2020-06-01", end="2025-01-01"),
    daily("2024-01-01", timezone="Europe/Oslo"),
    weekly("2024-01-01"),
    weekly("2024-01-02"),
    monthly("2024-01"),
    static("eu", "us", "no"),
    static("eu", "us"),
]
MAPPINGS: list[PartitionMapping | None] = [
    None,
    identity(),
    all_partitions(),
    latest(),
    window(),
    window(-6),
    window(1, 0),
    PartitionMapping(MappingKind.ALL, 1, 1),
]


@pytest.mark.parametrize("mapping", MAPPINGS)
def test_a_mapping_is_one_that_partitions_admit_or_a_problem(mapping: PartitionMapping | None) -> None:
    for upstream in KINDS:
        for downstream in KINDS:
            check_mapping(mapping, upstream, downstream)


def check_mapping(mapping: PartitionMapping | None, upstream: Partitions | None, downstream: Partitions | None) -> None:
    found = effective_mapping(mapping, upstream, downstream)
    if isinstance(found, FieldProblem):
        assert found.field == "mapping"
        assert found.message
        assert found.remedy
        return
    assert mapping is None or found == mapping
    assert found.problem() is None
    if found.kind is MappingKind.IDENTITY:
        assert upstream is not None
        assert downstream is not None
        for position in (0, 1):
            key = downstream.key_at(position)
            problem = upstream.problem_of_key(key)
            # Starts and ends may differ; apart from that, each key is the upstream's, too.
            assert problem is None or "lies" in problem
    if found.kind is MappingKind.WINDOW:
        assert upstream is not None
        assert upstream.by_time
        assert downstream is not None
        assert downstream.by_time
    if found.kind is MappingKind.LATEST:
        assert upstream is not None
        assert upstream.by_time


@pytest.mark.parametrize(
    ("upstream", "downstream", "kind"),
    [
        (None, None, "all"),
        (None, daily("2024-01-01"), "all"),
        (daily("2024-01-01"), None, "all"),
        (daily("2024-01-01"), daily("2020-01-01"), "identity"),
        (daily("2024-01-01"), monthly("2024-01"), "window"),
        (daily("2024-01-01"), daily("2024-01-01", timezone="Europe/Oslo"), "window"),
        (weekly("2024-01-01"), weekly("2024-01-02"), "window"),
        (static("a", "b"), static("b"), "identity"),
    ],
)
def test_what_partitions_suggest(upstream: Partitions | None, downstream: Partitions | None, kind: str) -> None:
    found = effective_mapping(None, upstream, downstream)
    assert isinstance(found, PartitionMapping)
    assert found.kind == kind


@pytest.mark.parametrize(
    ("upstream", "downstream"),
    [(static("a"), static("a", "b")), (static("a"), daily("2024-01-01")), (daily("2024-01-01"), static("a"))],
)
def test_what_partitions_do_not_suggest_needs_to_be_told(upstream: Partitions, downstream: Partitions) -> None:
    assert isinstance(effective_mapping(None, upstream, downstream), FieldProblem)
    assert effective_mapping(all_partitions(), upstream, downstream) == all_partitions()


@given(st.integers(-10, 10), st.integers(-10, 10))
def test_windows_do_not_run_backwards(start: int, end: int) -> None:
    assume(start != 0 or end != 0)
    assert (window(start, end).problem() is None) == (start <= end)


@pytest.mark.parametrize("offset", ["1", 1.0, True, None, 100_001])
def test_offsets_are_whole_numbers(offset: Any) -> None:
    problem = window(offset, 100_000).problem()
    assert problem is not None
    assert "whole numbers" in problem.remedy
