"""Cron lines in both dialects: what they name, and everything that is refused."""

from __future__ import annotations

import pytest

from springline.definitions.cron import BadCron, Dialect, parse_cron


def test_a_line_names_seconds_of_days() -> None:
    line = parse_cron("*/30 5,10-12 3 * jan,jul mon-fri")
    assert (line.seconds, line.minutes, line.hours) == ((0, 30), (5, 10, 11, 12), (3,))
    assert (set(line.months), set(line.weekdays)) == ({1, 7}, {1, 2, 3, 4, 5})
    assert not line.either_day
    assert not line.follows_elapsed_time


@pytest.mark.parametrize(
    ("text", "dialect", "weekdays"),
    [
        ("0 0 * * 0", "unix", {0}),
        ("0 0 * * 7", "unix", {0}),
        ("0 0 * * 5-7", "unix", {5, 6, 0}),
        ("0 0 * * fri-sun", "unix", {5, 6, 0}),
        ("0 0 * * sunday", "unix", {0}),
        ("0 0 * * 1", "unix", {1}),
        ("0 0 * * 1", "reference", {0}),
        ("0 0 * * 7", "reference", {6}),
        ("0 0 * * sun", "reference", {0}),
        ("0 0 ? * 2/2", "reference", {1, 3, 5}),
    ],
)
def test_days_of_the_week_are_numbered_as_the_dialect_has_it(text: str, dialect: Dialect, weekdays: set[int]) -> None:
    assert parse_cron(text, dialect).weekdays == weekdays


def test_where_both_days_are_restricted_either_will_do_in_unix_and_both_must_fit_in_the_reference() -> None:
    unix, reference = parse_cron("0 0 13 * 5"), parse_cron("0 0 13 * 6", "reference")
    # Day, weekday: a 13th that is no Friday, a Friday that is no 13th, both.
    for line, wanted in ((unix, [True, True, True]), (reference, [False, False, True])):
        assert [line.names_day(6, *day) for day in ((13, 2), (14, 5), (13, 5))] == wanted
    # As cron has it, a field that begins with a star restricts nothing, even with steps.
    assert not parse_cron("0 0 */2 * 5").either_day


@pytest.mark.parametrize(("hour", "elapsed"), [("*", True), ("*/2", True), ("?", True), ("0-23", False), ("3", False)])
def test_only_a_star_follows_elapsed_time(hour: str, elapsed: bool) -> None:
    assert parse_cron(f"0 {hour} * * *").follows_elapsed_time is elapsed


def test_names_for_common_lines_are_unix_only() -> None:
    assert parse_cron("@daily") == parse_cron("0 0 * * *")
    assert parse_cron(" @Hourly ") == parse_cron("0 * * * *")
    with pytest.raises(BadCron, match="dialect knows no such names"):
        parse_cron("@daily", "reference")


BAD: list[tuple[str, Dialect, str]] = [
    ("", "unix", "has 0 fields"),
    ("* * * *", "unix", "has 4 fields"),
    ("* * * * * * *", "unix", "has 7 fields"),
    ("60 * * * *", "unix", "has 60 in its minute"),
    ("0 24 * * *", "unix", "has 24 in its hour"),
    ("0 0 0 * *", "unix", "has 0 in its day of month"),
    ("0 0 1 13 *", "unix", "has 13 in its month"),
    ("0 0 * * 8", "unix", "has 8 in its day of week"),
    ("0 0 * * 0", "reference", "has 0 in its day of week"),
    ("0 0 5-3 * *", "unix", "ends before it begins"),
    ("*/0 * * * *", "unix", "has the step '0'"),
    ("*/x * * * *", "unix", "has the step 'x'"),
    ("1,,2 * * * *", "unix", "has an empty part"),
    ("0 0 L * *", "unix", "L, W and # are not taken"),
    ("0 0 * * mon#2", "unix", "L, W and # are not taken"),
    ("0 0 * foo *", "unix", "a name such as jan"),
    ("@every 5m", "unix", "begins with '@every'"),
    ("0 0 30 2 *", "unix", "names day 30 of Feb, which no year has"),
    ("0 0 31 4,6,9,11 *", "unix", "names day 31 of Apr, Jun, Sep, Nov"),
    ("0 0 31 2 1", "reference", "names day 31 of Feb"),
    ("0 " * 200, "unix", "characters"),
    ("٣ * * * *", "unix", "in its minute"),
]


@pytest.mark.parametrize(("text", "dialect", "said"), BAD)
def test_what_cannot_be_read_is_told_with_its_field_and_a_remedy(text: str, dialect: Dialect, said: str) -> None:
    with pytest.raises(BadCron) as found:
        parse_cron(text, dialect)
    assert said in str(found.value)
    assert found.value.remedy.endswith(".")


def test_a_day_that_only_some_years_have_is_no_error() -> None:
    assert parse_cron("0 0 29 2 *").names_day(2, 29, 4)
    assert parse_cron("0 0 30 2 mon").either_day


@pytest.mark.parametrize(
    ("text", "dialect", "instead"),
    [
        ("0 22-2 * * *", "unix", "0 22-23,0-2 * * *"),
        ("50-10 * * * *", "unix", "50-59,0-10 * * * *"),
        ("0 0 25-5 * *", "unix", "0 0 25-31,1-5 * *"),
        ("0 0 1 nov-feb *", "unix", "0 0 1 nov-12,1-feb *"),
        ("0 0 * * fri-mon", "unix", "0 0 * * fri-6,0-mon"),
        ("0 0 * * 6-2", "reference", "0 0 * * 6-7,1-2"),
    ],
)
def test_a_range_over_the_end_is_told_how_to_be_written(text: str, dialect: Dialect, instead: str) -> None:
    with pytest.raises(BadCron) as caught:
        parse_cron(text, dialect)
    (field,) = set(instead.split()) - set(text.split())
    assert repr(field) in caught.value.remedy
    parse_cron(instead, dialect)


def test_a_range_over_the_end_with_steps_is_to_be_spelled_out() -> None:
    with pytest.raises(BadCron, match="one by one"):
        parse_cron("0 22-2/2 * * *")
