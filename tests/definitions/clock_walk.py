"""An oracle for the instants of cron lines: it walks along the clock on the wall, one step after the other.

It shares no code with the product: fields are matched by their own small reader, offsets are those that the zone tells.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

_MONTH_NAMES = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_NAMES = {name: number for number, name in enumerate(_MONTH_NAMES, 1)}
_DAYS = {name: number for number, name in enumerate(("sun", "mon", "tue", "wed", "thu", "fri", "sat"))}


def field(text: str, least: int, most: int, names: dict[str, int]) -> set[int]:
    found: set[int] = set()
    for one in text.split(","):
        span, _, step = one.partition("/")
        if span in ("*", "?"):
            low, high = least, most
        else:
            parts = [names[part] if part in names else int(part) for part in span.split("-")]
            low, high = parts[0], parts[-1] if len(parts) > 1 or not step else most
        found |= {number for number in range(low, high + 1) if (number - low) % int(step or 1) == 0}
    return found


class Line:
    """A cron line, read anew."""

    def __init__(self, text: str, dialect: str = "unix") -> None:
        parts = text.split()
        if len(parts) == 5:
            parts = ["0", *parts]
        second, minute, hour, day, month, weekday = parts
        self.seconds = field(second, 0, 59, {})
        self.minutes = field(minute, 0, 59, {})
        self.hours = field(hour, 0, 23, {})
        self.days = field(day, 1, 31, {})
        self.months = field(month, 1, 12, _NAMES)
        unix = dialect == "unix"
        numbers = field(weekday, 0 if unix else 1, 7, _DAYS if unix else {k: v + 1 for k, v in _DAYS.items()})
        self.weekdays = {one % 7 if unix else one - 1 for one in numbers}
        self.either = unix and day[0] not in "*?" and weekday[0] not in "*?"
        self.elapsed = hour in ("*", "?") or hour.startswith(("*/", "?/"))
        self.has_seconds = self.seconds != {0}

    def fits(self, wall: datetime) -> bool:
        if wall.second not in self.seconds or wall.minute not in self.minutes or wall.hour not in self.hours:
            return False
        if wall.month not in self.months:
            return False
        by_number, by_weekday = wall.day in self.days, wall.isoweekday() % 7 in self.weekdays
        return (by_number or by_weekday) if self.either else (by_number and by_weekday)


def walked(text: str, zone_name: str, after: int, until: int, dialect: str = "unix") -> Iterator[int]:
    """Yield the instants behind `after` and not behind `until`: second by second of every minute that may matter."""
    line, zone = Line(text, dialect), ZoneInfo(zone_name)
    step = 1 if line.has_seconds else 60
    at = after // step * step
    while at <= until:
        offset = _offset(zone, at)
        # Within a step the offset changes at most at its end, or is walked by the second.
        if step == 60 and (_offset(zone, at + 60) != offset or offset % 60):
            for second in range(at, at + 60):
                if after < second <= until and _fires(line, zone, second):
                    yield second
        elif at > after and _fires(line, zone, at):
            yield at
        at += step


def _fires(line: Line, zone: ZoneInfo, at: int) -> bool:
    now = datetime.fromtimestamp(at, UTC).astimezone(zone)
    wall = now.replace(tzinfo=None, fold=0)
    if line.elapsed:
        return line.fits(wall)
    if now.fold == 0 and line.fits(wall):
        return True
    skipped = _offset(zone, at) - _offset(zone, at - 1)
    if skipped <= 0:
        return False
    begin = wall - timedelta(seconds=skipped)
    step = 1 if line.has_seconds or begin.second else 60
    return any(line.fits(begin + timedelta(seconds=one)) for one in range(0, skipped, step))


def _offset(zone: ZoneInfo, at: int) -> int:
    found = datetime.fromtimestamp(at, zone).utcoffset()
    assert found is not None
    return found.days * 86_400 + found.seconds


def transitions(zone_name: str, begin: int, end: int, step: int = 6 * 3600) -> Iterator[int]:
    """Yield the first instants of new offsets of a zone, between two instants."""
    zone = ZoneInfo(zone_name)
    before = _offset(zone, begin)
    for at in range(begin + step, end, step):
        now = _offset(zone, at)
        if now != before:
            low, high = at - step, at
            while high - low > 1:
                middle = (low + high) // 2
                low, high = (middle, high) if _offset(zone, middle) == before else (low, middle)
            yield high
        before = now
