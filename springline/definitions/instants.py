"""Which instants a cron line or an interval names, where clocks change too: one policy, whoever asks and whenever.

A line whose hour is `*` or `*/n` follows elapsed time: it names every instant at which the clock on the wall fits it.
Every other line means times on that clock, each once: of one that the clock shows twice the first, of one that it skips
the end of the gap. Equal instants are one. An interval names the whole multiples of itself since 1970.

An instant is in whole seconds since 1970. Of the outside only the tz database is read.
"""

from __future__ import annotations

import calendar
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from heapq import heappop, heappush
from importlib import resources
from itertools import islice
from typing import Final
from zoneinfo import TZPATH, ZoneInfo, available_timezones

from springline.definitions.cron import SECONDS_A_DAY, BadCron, CronLine, Dialect, parse_cron
from springline.definitions.ids import meant

ASKED_ABOUT: Final = range(0, 7_258_118_400)
"""The seconds of the years 1970 to 2199: of these one may ask what is due then, or behind."""
_YEARS_ASKED_ABOUT: Final = "1970 to 2199"
MAX_INTERVAL_S: Final = 366 * SECONDS_A_DAY
_EPOCH: Final = date(1970, 1, 1).toordinal()
_LAST_DAY: Final = date(9998, 12, 31).toordinal() - _EPOCH
_YEARS_AHEAD: Final = 41
"""A day of a month on a weekday comes again within 40 years, also where a century has no leap day."""
_PROBES_H: Final = (0, 6, 12, 18, 26)
"""Hours ahead at which offsets are looked at: no clock was ever set by more than a day."""


class BadTiming(ValueError):
    """A line, zone or interval that names no instants. `field`: which of them; `message` goes on from its value."""

    def __init__(self, field: str, message: str, remedy: str) -> None:
        super().__init__(f"{field} {message}. {remedy}")
        self.field = field
        self.message = message
        self.remedy = remedy


def problem_of_asked(instant: int) -> tuple[str, str] | None:
    """Return what is wrong with an instant about which one asks what is due then, and the remedy; None if nothing is.

    The problem goes on from the instant's name.
    """
    if instant in ASKED_ABOUT:
        return None
    return (
        f"lies outside the years {_YEARS_ASKED_ABOUT}: no schedule was ever due then, nor is soon",
        f"Give an instant of the years {_YEARS_ASKED_ABOUT}.",
    )


@dataclass(frozen=True, slots=True)
class Timing:
    """When a schedule is due: a cron line in a zone, or an interval in seconds."""

    line: CronLine | None
    zone: ZoneInfo | None
    interval_s: int | None = None

    def after(self, instant: int) -> Iterator[int]:
        """Yield the instants named behind `instant`, in order; at an end there is none within 41 years of the last."""
        if self.interval_s is not None:
            return _multiples(self.interval_s, instant)
        assert self.line is not None
        assert self.zone is not None
        if self.line.follows_elapsed_time:
            return _elapsed(self.line, self.zone, instant)
        return _on_the_clock(self.line, self.zone, instant)

    def between(self, after: int, until: int, most: int) -> list[int]:
        """Return the first `most` instants behind `after` and not behind `until`."""
        found: list[int] = []
        for instant in islice(self.after(after), most):
            if instant > until:
                break
            found.append(instant)
        return found

    def latest(self, after: int, until: int, most: int) -> list[int]:
        """Return the last `most` instants behind `after` and not behind `until`, in order."""
        span = 60 * most
        while True:
            begin = max(after, until - span)
            found = self.between(begin, until, span + 1)
            if len(found) >= most or begin == after:
                return found[-most:]
            span *= 8


def timing_of(cron: str, timezone: str, *, dialect: Dialect = "unix", interval_s: int | None = None) -> Timing:
    """Return when a schedule is due. Raises `BadTiming`."""
    if interval_s is not None:
        if not 1 <= interval_s <= MAX_INTERVAL_S:
            raise BadTiming("interval", f"of {interval_s} s is out of range", "Give one from 1 s to 366 days.")
        return Timing(None, None, interval_s)
    return _timing(cron, timezone, dialect)


# A pass looks at all schedules, and since the one before few have moved.
@lru_cache(maxsize=32_768)
def first_after(instant: int, cron: str, timezone: str, dialect: Dialect, interval_s: int | None) -> int | None:
    """Return the first instant behind one, None if there is none within 41 years. Raises `BadTiming`."""
    return next(timing_of(cron, timezone, dialect=dialect, interval_s=interval_s).after(instant), None)


@lru_cache(maxsize=4096)
def _timing(cron: str, timezone: str, dialect: Dialect) -> Timing:
    try:
        line = parse_cron(cron, dialect)
    except BadCron as error:
        raise BadTiming("cron", f"{cron[:120]!r} {error.message}", error.remedy) from error
    return Timing(line, zone_named(timezone))


def zone_named(name: str) -> ZoneInfo:
    """Return a zone of the tz database. Raises `BadTiming`."""
    try:
        return ZoneInfo(name)
    except (ValueError, OSError, LookupError):
        # Not found, no possible name, or a folder of the database.
        near = meant(name[:80], available_timezones())
        raise BadTiming(
            "timezone", f"{name[:80]!r} is not in the tz database", f"{near}Give a name such as 'Europe/Oslo'."
        ) from None


@lru_cache(maxsize=1)
def tz_version() -> str | None:
    """Return the version of the tz database in use, such as 2025b; None if it does not say."""
    for folder in TZPATH:
        for name, prefix in (("tzdata.zi", "# version "), ("+VERSION", "")):
            try:
                with open(f"{folder}/{name}", encoding="utf-8") as file:  # noqa: PTH123 - no path library among rules
                    first = file.readline().strip()
            except OSError:
                continue
            if first.startswith(prefix):
                return first.removeprefix(prefix)
    try:
        return resources.files("tzdata").joinpath("zoneinfo/tzdata.zi").read_text("utf-8").split("\n", 1)[0][10:]
    except (ModuleNotFoundError, OSError):
        return None


def local_text(instant: int, zone: ZoneInfo | None) -> str:
    """Return an instant as RFC 3339 with the offset of a zone, None: of UTC."""
    return datetime.fromtimestamp(instant, zone or UTC).isoformat()


def _multiples(interval_s: int, instant: int) -> Iterator[int]:
    at = (instant // interval_s + 1) * interval_s
    while True:
        yield at
        at += interval_s


def _on_the_clock(line: CronLine, zone: ZoneInfo, instant: int) -> Iterator[int]:
    """Yield each time on the clock once: the first of two, the end of a gap."""
    last = instant
    for wall in _walls(line, instant + _offset(zone, instant)):
        at = _first_copy(zone, wall)
        if at > last:
            yield at
            last = at


def _elapsed(line: CronLine, zone: ZoneInfo, instant: int) -> Iterator[int]:
    """Yield every instant at which the clock on the wall fits."""
    start = instant + min(_offset(zone, instant + 3600 * hours) for hours in _PROBES_H)
    waiting: list[int] = []
    for wall in _walls(line, start):
        first, second = _copies(zone, wall)
        # Later times on the clock have later first copies.
        while waiting and waiting[0] <= wall - _offset_at(zone, wall, 0):
            at = heappop(waiting)
            if at > instant:
                yield at
                instant = at
        for copy in (first, second):
            if copy is not None and copy > instant:
                heappush(waiting, copy)
    while waiting:
        at = heappop(waiting)
        if at > instant:
            yield at
            instant = at


def _walls(line: CronLine, start: int) -> Iterator[int]:
    """Yield the times on a clock that fit, from `start` on: seconds since 1970 if the clock showed UTC."""
    times = _times(line)
    day, second = divmod(start, SECONDS_A_DAY)
    last_year = date.fromordinal(day + _EPOCH).year
    while day <= _LAST_DAY:
        on = date.fromordinal(day + _EPOCH)
        if on.year > last_year + _YEARS_AHEAD:
            return
        if on.month not in line.months:
            # To the next month at once: a line may name one day of four years.
            day += calendar.monthrange(on.year, on.month)[1] - on.day + 1
            second = 0
            continue
        if line.names_day(on.month, on.day, on.isoweekday() % 7):
            base = day * SECONDS_A_DAY
            last_year = on.year
            for at in islice(times, bisect_left(times, second), None):
                yield base + at
        day += 1
        second = 0


@lru_cache(maxsize=256)
def _times(line: CronLine) -> tuple[int, ...]:
    return tuple(
        hour * 3600 + minute * 60 + second for hour in line.hours for minute in line.minutes for second in line.seconds
    )


_NAIVE_EPOCH: Final = datetime(1970, 1, 1)
_UTC_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def _offset(zone: ZoneInfo, instant: int) -> int:
    """Return how far the clock is ahead of UTC at an instant, in seconds."""
    return _seconds((_UTC_EPOCH + timedelta(seconds=instant)).astimezone(zone).utcoffset())


def _offset_at(zone: ZoneInfo, wall: int, fold: int) -> int:
    """Return how far the clock is ahead of UTC when it shows `wall`, for the first or the second time."""
    shown = _NAIVE_EPOCH + timedelta(seconds=wall)
    # The zone is asked itself: it wants no datetime that has it, and making one takes as long as the answer.
    return _seconds(zone.utcoffset(shown.replace(fold=fold) if fold else shown))


def _seconds(offset: timedelta | None) -> int:
    assert offset is not None
    return offset.days * SECONDS_A_DAY + offset.seconds


# Many schedules are due at the same times on the same clocks.
@lru_cache(maxsize=16_384)
def _copies(zone: ZoneInfo, wall: int) -> tuple[int | None, int | None]:
    """Return the instants at which the clock shows a time: none in a gap, two where it goes back."""
    first = wall - _offset_at(zone, wall, 0)
    second = wall - _offset_at(zone, wall, 1)
    if first == second:
        return first, None
    if first < second:
        return first, second
    return None, None


@lru_cache(maxsize=16_384)
def _first_copy(zone: ZoneInfo, wall: int) -> int:
    """Return the instant at which the clock shows a time first; of a time in a gap the gap's end."""
    before, behind = _offset_at(zone, wall, 0), _offset_at(zone, wall, 1)
    if before >= behind:
        return wall - before
    # The clock is set forward somewhere between these two instants: at the first with the new offset.
    low, high = wall - behind, wall - before
    while low < high:
        middle = (low + high) // 2
        if _offset(zone, middle) >= behind:
            high = middle
        else:
            low = middle + 1
    return low
