"""Instants of cron lines and intervals: against an oracle that walks along the clock, in every zone there is."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice, pairwise
from zoneinfo import ZoneInfo, available_timezones

import pytest

from springline.definitions.cron import Dialect
from springline.definitions.instants import BadTiming, local_text, problem_of_asked, timing_of, tz_version
from tests.definitions.clock_walk import transitions, walked

LINES = (
    *("30 2 * * *", "0 2 * * *", "30 1 * * sun", "0 0 * * *", "59 23 * * *", "0 3 29 2 *", "0 1-4 * * *"),
    *("*/15 * * * *", "5 * * * *", "0 */2 * * *", "*/20 1-3 * * *", "15 */5 13 * 5", "0 0-23 * * *", "45 */3 1 * *"),
)
DAY = 86_400
END = 2_145_916_800
"""2038."""
ZONES = sorted(available_timezones())
CHANGING = ("America/New_York", "Europe/Oslo", "Australia/Lord_Howe", "Africa/Casablanca", "Pacific/Apia", "Asia/Gaza")


def utc(*parts: int) -> int:
    return int(datetime(*parts, tzinfo=UTC).timestamp())  # type: ignore[misc, arg-type]


def named(text: str, zone: str, after: int, until: int, dialect: Dialect = "unix") -> list[int]:
    return timing_of(text, zone, dialect=dialect).between(after, until, 1_000_000)


def check_near_changes(zone: str, dice: random.Random, changes: int, lines: int) -> int:
    """Compare lines with the oracle around changes of a zone's clock; return how many were compared."""
    found = list(transitions(zone, 0, END))
    times = dice.sample(found, min(changes, len(found))) or [dice.randrange(END)]
    for at in times:
        for line in dice.sample(LINES, lines):
            begin, end = at - dice.randrange(3_600, 30 * 3_600), at + 30 * 3_600
            assert named(line, zone, begin, end) == list(walked(line, zone, begin, end)), f"{line} in {zone}, {at}"
    return len(times) * lines


@pytest.mark.parametrize("zone", CHANGING)
def test_instants_near_changes_are_those_that_the_clock_shows(zone: str) -> None:
    assert check_near_changes(zone, random.Random(zone), 1, 3) >= 3


def test_instants_in_other_zones_are_those_that_the_clock_shows() -> None:
    dice = random.Random(7)
    assert sum(check_near_changes(zone, dice, 1, 1) for zone in dice.sample(ZONES, 16)) == 16


@pytest.mark.full
@pytest.mark.timeout(3_600)
@pytest.mark.parametrize("zone", ZONES)
def test_instants_in_every_zone_are_those_that_the_clock_shows(zone: str) -> None:
    check_near_changes(zone, random.Random(zone), 5, 4)


@pytest.mark.parametrize(
    ("line", "zone", "after", "wanted"),
    [
        (
            "30 2 * * *",
            "America/New_York",
            utc(2025, 3, 9, 4),
            ["2025-03-09T03:00:00-04:00", "2025-03-10T02:30:00-04:00"],
        ),
        (
            "0 2 * * *",
            "America/New_York",
            utc(2025, 3, 9, 4),
            ["2025-03-09T03:00:00-04:00", "2025-03-10T02:00:00-04:00"],
        ),
        (
            "30 1 * * *",
            "America/New_York",
            utc(2025, 11, 2, 3),
            ["2025-11-02T01:30:00-04:00", "2025-11-03T01:30:00-05:00"],
        ),
        (
            "*/30 2 * * *",
            "America/New_York",
            utc(2025, 3, 9, 4),
            ["2025-03-09T03:00:00-04:00", "2025-03-10T02:00:00-04:00"],
        ),
        ("0 4 * * *", "Pacific/Apia", utc(2011, 12, 30, 9), ["2011-12-31T00:00:00+14:00", "2011-12-31T04:00:00+14:00"]),
    ],
)
def test_a_time_in_a_gap_moves_to_its_end_and_of_two_copies_the_first_counts(
    line: str, zone: str, after: int, wanted: list[str]
) -> None:
    found = islice(timing_of(line, zone).after(after), 2)
    assert [local_text(at, ZoneInfo(zone)) for at in found] == wanted


def test_a_line_that_counts_hours_follows_elapsed_time() -> None:
    begin = utc(2025, 11, 2, 3)
    assert [at - begin for at in named("0 * * * *", "America/New_York", begin, begin + 6 * 3_600)] == [
        hour * 3_600 for hour in range(1, 7)
    ]
    night = utc(2025, 4, 5, 13)
    found = named("*/15 * * * *", "Australia/Lord_Howe", night, night + 4 * 3_600)
    assert {later - earlier for earlier, later in pairwise(found)} == {900}


@pytest.mark.parametrize("zone", CHANGING)
def test_what_must_hold_over_many_years(zone: str) -> None:
    """Strictly increasing; once for each day of the calendar; no hole longer than a period and the greatest shift."""
    begin, end = 0, END
    daily = named("30 2 * * *", zone, begin, end)
    assert all(earlier < later for earlier, later in pairwise(daily))
    tz = ZoneInfo(zone)
    first, last = (datetime.fromtimestamp(at, tz).date().toordinal() for at in (daily[0], daily[-1]))
    assert len(daily) in (last - first, last - first + 1, last - first + 2)
    for at in daily:
        shown = datetime.fromtimestamp(at, tz)
        assert (shown.hour, shown.minute) >= (2, 30) or shown.hour == shown.minute == 0, "never before its time"
    hourly = named("0 * * * *", zone, begin, end)
    assert all(0 < later - earlier <= 2 * 3_600 for earlier, later in pairwise(hourly))


@pytest.mark.parametrize("dialect", ["unix", "reference"])
def test_leap_days_year_ends_and_rare_days(dialect: Dialect) -> None:
    assert named("0 0 29 2 *", "UTC", utc(2023, 1, 1), utc(2033, 1, 1), dialect) == [
        utc(2024, 2, 29),
        utc(2028, 2, 29),
        utc(2032, 2, 29),
    ]
    assert named("59 59 23 31 12 *", "UTC", utc(2024, 1, 1), utc(2026, 1, 1), dialect) == [
        utc(2024, 12, 31, 23, 59, 59),
        utc(2025, 12, 31, 23, 59, 59),
    ]


def test_the_reference_wants_both_days_and_finds_one_in_28_years() -> None:
    # Monday is 2 there; 29 February on a Monday.
    assert named("0 0 29 2 2", "UTC", utc(2025, 1, 1), utc(2060, 1, 1), "reference") == [utc(2044, 2, 29)]


def test_a_search_is_bounded() -> None:
    assert next(timing_of("0 0 29 2 *", "UTC").after(utc(9990, 1, 1)), None) == utc(9992, 2, 29)
    assert list(timing_of("0 0 29 2 *", "UTC").after(utc(9998, 1, 1))) == []


def test_intervals_are_multiples_since_1970_whenever_they_were_defined() -> None:
    timing = timing_of("", "UTC", interval_s=900)
    assert timing.between(utc(2025, 1, 1, 0, 1), utc(2025, 1, 1, 0, 45), 10) == [
        utc(2025, 1, 1, 0, minute) for minute in (15, 30, 45)
    ]
    assert timing.between(900, 1_800, 10) == [1_800]


def test_every_second_is_named() -> None:
    begin = utc(2025, 1, 1)
    assert named("* * * * * *", "UTC", begin, begin + 5) == [begin + second for second in range(1, 6)]


@pytest.mark.parametrize("line", LINES)
@pytest.mark.parametrize("zone", ["Europe/Oslo", "Australia/Lord_Howe"])
def test_wherever_one_begins_the_instants_are_the_same(line: str, zone: str) -> None:
    dice = random.Random(line)
    for at in (utc(2025, 3, 29), utc(2025, 10, 25), utc(2025, 4, 5)):
        whole = named(line, zone, at, at + 3 * DAY)
        pieces: list[int] = []
        begin = at
        while begin < at + 3 * DAY:
            end = min(at + 3 * DAY, begin + dice.randrange(1, 9 * 3_600))
            pieces += named(line, zone, begin, end)
            begin = end
        assert pieces == whole
        for most in (1, 3, 1_000):
            assert timing_of(line, zone).latest(at, at + 3 * DAY, most) == whole[-most:]


def bad_timings() -> Iterator[tuple[str, str, int | None, str]]:
    yield "0 4 * * *", "Mars/Base", None, "timezone"
    yield "0 4 * * *", "../etc/passwd", None, "timezone"
    yield "0 4 * * *", "", None, "timezone"
    yield "0 4 * *", "UTC", None, "cron"
    yield "", "UTC", 0, "interval"
    yield "", "UTC", 367 * DAY, "interval"


@pytest.mark.parametrize(("cron", "zone", "interval", "field"), list(bad_timings()))
def test_what_names_no_instants_is_told_by_its_field(cron: str, zone: str, interval: int | None, field: str) -> None:
    with pytest.raises(BadTiming) as found:
        timing_of(cron, zone, interval_s=interval)
    assert found.value.field == field


def test_the_version_of_the_tz_database_is_known() -> None:
    version = tz_version()
    assert version is not None
    assert version[:4].isdecimal()


def test_one_may_ask_about_the_years_1970_to_2199() -> None:
    first, behind = (int(datetime(year, 1, 1, tzinfo=UTC).timestamp()) for year in (1970, 2200))
    assert [problem_of_asked(one) is None for one in (first - 1, first, behind - 1, behind)] == [
        False,
        True,
        True,
        False,
    ]
    problem, remedy = problem_of_asked(behind) or ("", "")
    assert "1970 to 2199" in problem
    assert "1970 to 2199" in remedy
