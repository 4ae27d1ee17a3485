"""Timestamps: what is read, what is written, and that both agree with the calendar."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from springline.ledger import timestamps
from springline.ledger.timestamps import date_of_ms, format_ms, format_timestamp, parse_timestamp

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
TEN = 1_736_935_200_000_000_000
"""2025-01-15T10:00:00Z"""


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("2025-01-15T10:00:00Z", 0),
        ("2025-01-15t10:00:00z", 0),
        ("2025-01-15 10:00:00Z", 0),
        ("2025-01-15T10:00:00UTC", 0),
        ("2025-01-15T10:00:00 utc", 0),
        ("2025-01-15T11:30:00+01:30", 0),
        ("2025-01-15T08:30:00-0130", 0),
        ("2025-01-15T08:30:00\u221201:30", 0),
        ("2025-01-15T11:30:00+01 30", 0),
        ("2025-01-16T09:59:00+23:59", 0),
        ("2025-01-15T09:59:60Z", 0),
        ("2025-01-15T09:59:60.5Z", 500_000_000),
        ("2025-01-15T10:00:00.1Z", 100_000_000),
        ("2025-01-15T10:00:00.001Z", 1_000_000),
        ("2025-01-15T10:00:00.000001Z", 1_000),
        ("2025-01-15T10:00:00.123456789Z", 123_456_789),
        ("2025-01-15T10:00:00.1234567899999Z", 123_456_789),
        ("2025-01-15T10:00:00.123456789+00:00", 123_456_789),
        ("2025-1-15T10:0:0Z", 0),
        (" 2025 - 01 - 15T 10 : 00 : 00 Z ", 0),
        ("+2025-01-15T10:00:00Z", 0),
        ("2025-01-15T10:00:00.123456Z", 123_456_000),
    ],
)
def test_forms_that_are_read(text: str, ns: int) -> None:
    assert parse_timestamp(text) == TEN + ns
    assert parse_timestamp(text) == TEN + ns, "the same from the cache"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2025-01-15",
        "2025-01-15T10:00Z",
        "2025-01-15T10:00:00",
        "2025-01-15T10:00:00+01",
        "2025-01-15T10:00:00+24:00",
        "2025-01-15T10:00:00+01:60",
        "2025-01-15T10:00:00.Z",
        "2025-01-15T10:00:00,5Z",
        "2025-01-15T10:00:61Z",
        "2025-01-15T10:60:00Z",
        "2025-01-15T24:00:00Z",
        "2025-02-29T10:00:00Z",
        "1900-02-29T10:00:00Z",
        "2025-13-15T10:00:00Z",
        "2025-00-15T10:00:00Z",
        "2025-01-00T10:00:00Z",
        "2025-04-31T10:00:00Z",
        "20250-01-15T10:00:00Z",
        "+262143-01-15T10:00:00Z",
        "2025-01-15X10:00:00Z",
        "2025-01-15T10:00:00ZZ",
        "2025-01-15T10:00:00Zx",
        "2025-01-15T10:00:00.123_456Z",
        "2025-01-15T10:00:00.12\u0663456Z",
        "2025-01-15T10:00:00.123456 ",
        "2025-01-15T10:00:00.123456789z9",
        "2025-01-15T10:00:0\u0661Z",
        "1736935200",
        "2025-01-15T10:00:00\x1cZ",
        "now",
    ],
)
def test_forms_that_are_refused(text: str) -> None:
    parse_timestamp("2025-01-15T10:00:00Z")
    with pytest.raises(ValueError, match="is no timestamp"):
        parse_timestamp(text)


@given(st.integers(-62_135_596_800_000_000_000, 253_402_300_799_999_999_999))
def test_what_is_written_is_read_again(ns: int) -> None:
    text = format_timestamp(ns)
    assert parse_timestamp(text) == ns
    whole = EPOCH + timedelta(microseconds=ns // 1_000)
    assert text[:19] == whole.strftime("%Y-%m-%dT%H:%M:%S").rjust(19, "0")
    fraction = text[19:-1]
    assert text[-1] == "Z"
    assert len(fraction) in (0, 4, 7, 10)
    assert fraction == (f".{ns % 10**9:09}"[: len(fraction)] if fraction else "")
    assert len(fraction) == 0 or not fraction.endswith("000"), "a shorter form would be exact"


@given(st.integers(-(10**15), 10**15))
def test_milliseconds_and_nanoseconds_have_one_text(ms: int) -> None:
    assert format_ms(ms) == format_timestamp(ms * 1_000_000)
    assert parse_timestamp(format_ms(ms)) == ms * 1_000_000
    assert format_ms(ms).startswith(date_of_ms(ms))


@given(st.datetimes(timezones=st.timezones()))
def test_offsets(instant: datetime) -> None:
    try:
        expected = instant.astimezone(UTC)
    except OverflowError:
        return
    minutes = timedelta(minutes=1)
    offset = instant.utcoffset()
    if offset is None or offset % minutes:
        return
    ns = (expected - EPOCH) // timedelta(microseconds=1) * 1_000
    assert parse_timestamp(instant.isoformat()) == ns


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (0, "1970-01-01T00:00:00Z"),
        (-1, "1969-12-31T23:59:59.999Z"),
        (253_402_300_800_000, "+10000-01-01T00:00:00Z"),
        (-62_167_219_200_000, "0000-01-01T00:00:00Z"),
        (-62_167_219_200_001, "-0001-12-31T23:59:59.999Z"),
        (951_782_400_000, "2000-02-29T00:00:00Z"),
    ],
)
def test_years_beyond_four_digits(ms: int, text: str) -> None:
    assert format_ms(ms) == text
    assert parse_timestamp(text) == ms * 1_000_000


def test_every_day_of_four_centuries() -> None:
    day = date(1900, 1, 1)
    ms = (day - date(1970, 1, 1)).days * 86_400_000
    for _ in range(146_097):
        assert date_of_ms(ms) == day.isoformat()
        day += timedelta(days=1)
        ms += 86_400_000
    assert day == date(2300, 1, 1)


def test_the_cache_of_minutes_stays_small() -> None:
    for minute in range(5_000):
        text = format_ms(minute * 60_000)
        assert parse_timestamp(text) == minute * 60_000_000_000
        assert len(timestamps._MINUTES) <= timestamps._MAX_MINUTES
