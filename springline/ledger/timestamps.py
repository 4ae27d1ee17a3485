"""Instants as integer nanoseconds or milliseconds since 1970 UTC, and their texts (docs/formats.md#timestamps).

No `datetime`: it has microseconds only, and ends with the year 9999.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

NS_PER_MS: Final = 1_000_000
NS_PER_SECOND: Final = 1_000_000_000

_NS_PER_MINUTE: Final = 60 * NS_PER_SECOND
_NS_PER_DAY: Final = 86_400 * NS_PER_SECOND
_MAX_YEAR: Final = 262_142
_MIN_YEAR: Final = -262_143

# White space as Unicode defines it; Python's own class also holds four control characters.
_SPACE: Final = "[\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]*"
_TEXT = re.compile(
    f"{_SPACE}([0-9]{{1,4}}|[+-][0-9]{{1,9}}){_SPACE}-{_SPACE}([0-9]{{1,2}}){_SPACE}-{_SPACE}([0-9]{{1,2}})"
    f"[Tt ]{_SPACE}([0-9]{{1,2}}){_SPACE}:{_SPACE}([0-9]{{1,2}}){_SPACE}:{_SPACE}([0-9]{{1,2}})"
    rf"(?:\.([0-9]+))?{_SPACE}(?:[Zz]|[Uu][Tt][Cc]|([+\-\u2212])([0-9]{{2}})(?::|{_SPACE[:-1]})*([0-5][0-9])){_SPACE}"
)
_WRITTEN = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:")

_SECONDS: Final = {f"{second:02}": second * NS_PER_SECOND for second in range(61)}
_TAILS: Final = {"Z": 0} | {f".{ms:03}Z": ms * NS_PER_MS for ms in range(1_000)}
_SECOND_TEXTS: Final = tuple(_SECONDS)[:60]
_FRACTION_TEXTS: Final = ("Z", *(f".{ms:03}Z" for ms in range(1, 1_000)))
_SCALES: Final = {6: 1_000, 9: 1}
_SHORTEST_MICROSECONDS: Final = len("2025-01-15T10:00:00.000000Z")
_MINUTES: dict[str, int] = {}
_MAX_MINUTES: Final = 4_096


def parse_timestamp(text: str) -> int:
    """Return the nanoseconds since 1970 UTC that `text` means; raises `ValueError`.

    Every form the reference reads: `T`, `t` or a space before the time; `Z`, `UTC` or a numeric offset, with or
    without its colon; fractions of any length, cut after the ninth digit; a leap second `60`, which is the
    second after `59`; parts without leading zeros and with white space around them; years of more than four
    digits with their sign. Zone and seconds are obligatory.
    """
    try:
        start = _MINUTES[text[:17]] + _SECONDS[text[17:19]]
        if len(text) < _SHORTEST_MICROSECONDS:
            return start + _TAILS[text[19:]]
    except KeyError:
        return _parse_any(text)
    digits = text[20:-1]
    scale = _SCALES.get(len(digits))
    if scale is not None and text[19] == "." and text[-1] == "Z" and digits.isdecimal() and digits.isascii():
        return start + int(digits) * scale
    return _parse_any(text)


def _parse_any(text: str) -> int:
    match = _TEXT.fullmatch(text)
    if match is None:
        raise ValueError(f"{text[:80]!r} is no timestamp: write it like 2025-01-15T10:00:00.250Z")
    year, month, day, hour, minute, second = (int(match[part]) for part in range(1, 7))
    if hour > 23 or minute > 59 or second > 60:
        raise ValueError(f"{text[:80]!r} is no timestamp: no clock shows {hour:02}:{minute:02}:{second:02}")
    start = _days(year, month, day, text) * _NS_PER_DAY + (hour * 60 + minute) * _NS_PER_MINUTE
    if _WRITTEN.match(text) and match[8] is None:
        if len(_MINUTES) >= _MAX_MINUTES:
            _MINUTES.clear()
        _MINUTES[text[:17]] = start
    fraction = int((match[7] or "0")[:9].ljust(9, "0"))
    return start + second * NS_PER_SECOND + fraction - _offset_ns(match, text)


def _offset_ns(match: re.Match[str], text: str) -> int:
    if match[8] is None:
        return 0
    minutes = int(match[9]) * 60 + int(match[10])
    if minutes >= 24 * 60:
        raise ValueError(f"{text[:80]!r} is no timestamp: its offset is a day or more")
    return (minutes if match[8] == "+" else -minutes) * _NS_PER_MINUTE


def _days(year: int, month: int, day: int, text: str) -> int:
    """Return the days from 1970-01-01 to a day of the Gregorian calendar."""
    if not _MIN_YEAR <= year <= _MAX_YEAR or not 1 <= month <= 12 or not 1 <= day <= _month_length(year, month):
        raise ValueError(f"{text[:80]!r} is no timestamp: the calendar has no {year:04}-{month:02}-{day:02}")
    shifted = year if month > 2 else year - 1  # years that begin in March end with their leap day
    day_of_year = (153 * ((month + 9) % 12) + 2) // 5 + day - 1
    return 365 * shifted + shifted // 4 - shifted // 100 + shifted // 400 + day_of_year - 719_468


def _month_length(year: int, month: int) -> int:
    if month == 2:
        return 29 if year % 4 == 0 and (year % 100 != 0 or year % 400 == 0) else 28
    return 30 if month in (4, 6, 9, 11) else 31


@lru_cache(maxsize=4_096)
def _date_text(days: int) -> str:
    """Return the date `days` after 1970-01-01; years beyond four digits have a sign."""
    era, day_of_era = divmod(days + 719_468, 146_097)
    year_of_era = (day_of_era - day_of_era // 1_460 + day_of_era // 36_524 - day_of_era // 146_096) // 365
    day_of_year = day_of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    shifted_month = (5 * day_of_year + 2) // 153
    day = day_of_year - (153 * shifted_month + 2) // 5 + 1
    month = shifted_month + 3 if shifted_month < 10 else shifted_month - 9
    year = era * 400 + year_of_era + (1 if month <= 2 else 0)
    return f"{year:04}-{month:02}-{day:02}" if 0 <= year <= 9_999 else f"{year:+05}-{month:02}-{day:02}"


def date_of_ms(ms: int) -> str:
    """Return the UTC date, `YYYY-MM-DD`, of an instant in milliseconds since 1970."""
    return _date_text(ms // 86_400_000)


def format_timestamp(ns: int) -> str:
    """Return the written form of nanoseconds since 1970 UTC: 0, 3, 6 or 9 digits, the fewest that are exact."""
    ms, below_ms = divmod(ns, NS_PER_MS)
    if below_ms == 0:
        return format_ms(ms)
    seconds, fraction = divmod(ns, NS_PER_SECOND)
    whole = _whole_seconds(seconds)
    if fraction % 1_000 == 0:
        return f"{whole}.{fraction // 1_000:06}Z"
    return f"{whole}.{fraction:09}Z"


def format_ms(ms: int) -> str:
    """Return the written form of milliseconds since 1970 UTC: 0 or 3 digits."""
    minutes, of_minute = divmod(ms, 60_000)
    second, fraction = divmod(of_minute, 1_000)
    return _minute_text(minutes) + _SECOND_TEXTS[second] + _FRACTION_TEXTS[fraction]


@lru_cache(maxsize=4_096)
def _minute_text(minutes: int) -> str:
    return _whole_seconds(minutes * 60)[:-2]


def _whole_seconds(seconds: int) -> str:
    days, of_day = divmod(seconds, 86_400)
    minutes, second = divmod(of_day, 60)
    hour, minute = divmod(minutes, 60)
    return f"{_date_text(days)}T{hour:02}:{minute:02}:{second:02}"
