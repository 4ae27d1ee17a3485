"""Cron lines in two dialects, as values: which seconds of which days they name.

Unix's dialect is what users write: five fields, or six with seconds first; 0 and 7 are Sunday; where day of month and
day of week are both restricted, either one will do. The reference's dialect is that of definitions from elsewhere:
1 is Sunday, and both must fit. What a line means where clocks change is in `springline.definitions.instants`.

The library `cronsim` was tried: it takes a line whose minute is `*` for one that follows elapsed time, whatever its
hour, and knows neither the reference's dialect nor what two evaluators must agree on for ever. So this is our own.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal

Dialect = Literal["unix", "reference"]

MAX_LINE: Final = 200
"""Characters of a cron line."""
SECONDS_A_DAY: Final = 86_400

_MONTHS: Final = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_LONG_MONTHS: Final = (
    *("january", "february", "march", "april", "may", "june"),
    *("july", "august", "september", "october", "november", "december"),
)
_DAYS: Final = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_LONG_DAYS: Final = ("sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday")
_LONGEST: Final = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
"""Days of each month, in the years in which it has the most."""
_MACROS: Final = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_EVERY_HOURS: Final = re.compile(r"[*?](/[0-9]+)?")
_NUMBER: Final = re.compile(r"[0-9]{1,9}")


class BadCron(ValueError):
    """A line that cannot be read. `message` goes on from the line, `remedy` says what to do."""

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(f"{message}. {remedy}")
        self.message = message
        self.remedy = remedy


@dataclass(frozen=True, slots=True)
class CronLine:
    """What a line names, in local time. Days of the week: 0 is Sunday.

    `either_day`: a day fits by its number or by its weekday; else it must fit by both. `follows_elapsed_time`: its hour
    is `*` or `*/n`, so that it counts hours; every other line means times on the clock.
    """

    seconds: tuple[int, ...]
    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    either_day: bool
    follows_elapsed_time: bool

    def names_day(self, month: int, day: int, weekday: int) -> bool:
        """Say whether a day fits: its month, its number and its weekday, 0 is Sunday."""
        if month not in self.months:
            return False
        by_number, by_weekday = day in self.days, weekday in self.weekdays
        return (by_number or by_weekday) if self.either_day else (by_number and by_weekday)


@dataclass(frozen=True, slots=True)
class _Field:
    name: str
    least: int
    most: int
    names: tuple[tuple[str, ...], ...] = ()
    first_name: int = 0


_SECOND: Final = _Field("second", 0, 59)
_MINUTE: Final = _Field("minute", 0, 59)
_HOUR: Final = _Field("hour", 0, 23)
_DAY: Final = _Field("day of month", 1, 31)
_MONTH: Final = _Field("month", 1, 12, (_MONTHS, _LONG_MONTHS), 1)
_UNIX_WEEKDAY: Final = _Field("day of week", 0, 7, (_DAYS, _LONG_DAYS), 0)
_REFERENCE_WEEKDAY: Final = _Field("day of week", 1, 7, (_DAYS, _LONG_DAYS), 1)


def parse_cron(text: str, dialect: Dialect = "unix") -> CronLine:
    """Return what a line names. Raises `BadCron`, also for a line that names no day of any year."""
    if len(text) > MAX_LINE:
        raise BadCron(f"has {len(text)} characters, and {MAX_LINE} is the most", "Write several schedules.")
    line = text.strip().lower()
    if line.startswith("@"):
        if dialect != "unix" or line not in _MACROS:
            raise BadCron(f"begins with {line.split()[0]!r}", _macro_remedy(dialect))
        line = _MACROS[line]
    fields = line.split()
    if len(fields) not in (5, 6):
        raise BadCron(
            f"has {len(fields)} field{'' if len(fields) == 1 else 's'}, and a cron line has 5, or 6 with seconds",
            "Write minute, hour, day of month, month and day of week, such as '0 4 * * *'.",
        )
    if len(fields) == 5:
        fields.insert(0, "0")
    second, minute, hour, day, month, weekday = fields
    weekday_field = _UNIX_WEEKDAY if dialect == "unix" else _REFERENCE_WEEKDAY
    numbers = _parsed(weekday, weekday_field)
    found = CronLine(
        seconds=tuple(sorted(_parsed(second, _SECOND))),
        minutes=tuple(sorted(_parsed(minute, _MINUTE))),
        hours=tuple(sorted(_parsed(hour, _HOUR))),
        days=frozenset(_parsed(day, _DAY)),
        months=frozenset(_parsed(month, _MONTH)),
        weekdays=frozenset(one % 7 if dialect == "unix" else one - 1 for one in numbers),
        # As cron has it: a field that begins with a star restricts nothing, even if it has steps.
        either_day=dialect == "unix" and day[0] not in "*?" and weekday[0] not in "*?",
        follows_elapsed_time=_EVERY_HOURS.fullmatch(hour) is not None,
    )
    if not found.either_day and not any(_LONGEST[one - 1] >= min(found.days) for one in found.months):
        named = ", ".join(_MONTHS[one - 1].capitalize() for one in sorted(found.months))
        raise BadCron(f"names day {min(found.days)} of {named}, which no year has", "Name a day that there is.")
    return found


def _parsed(text: str, field: _Field) -> set[int]:
    found: set[int] = set()
    for part in text.split(","):
        found |= _part(part, text, field)
    return found


def _part(part: str, text: str, field: _Field) -> set[int]:
    span, slash, step_text = part.partition("/")
    step = 1
    if slash:
        if not _NUMBER.fullmatch(step_text) or not 1 <= int(step_text) <= field.most:
            raise _bad(field, text, f"has the step {step_text!r}", f"Give a step from 1 to {field.most}.")
        step = int(step_text)
    if span in ("*", "?"):
        first, last = field.least, field.most
    elif "-" in span[1:]:
        begin, _, end = span.partition("-")
        first, last = _number(begin, text, field), _number(end, text, field)
        if field is _UNIX_WEEKDAY and last == 0 and first > 0:
            last = 7
        if first > last:
            # Turned round, it would name what lies between instead of what lies around.
            highest = 6 if field is _UNIX_WEEKDAY else field.most
            remedy = f"To go on behind {highest}, write {f'{begin}-{highest},{field.least}-{end}'!r}."
            if slash:
                remedy = f"To go on behind {highest}, write the numbers one by one."
            raise _bad(field, text, f"has the range {span!r}, which ends before it begins", remedy)
    else:
        first = _number(span, text, field)
        last = field.most if slash else first
    return set(range(first, last + 1, step))


def _number(text: str, whole: str, field: _Field) -> int:
    if _NUMBER.fullmatch(text):
        number = int(text)
        if not field.least <= number <= field.most:
            raise _bad(field, whole, f"has {text}", f"Give a number from {field.least} to {field.most}.")
        return number
    for short_or_long in field.names:
        if text in short_or_long:
            return short_or_long.index(text) + field.first_name
    what = f"has {text!r}" if text else "has an empty part"
    extra = ""
    if any(one in text for one in "lw#"):
        extra = "L, W and # are not taken. "
    names = f" or a name such as {field.names[0][0]}" if field.names else ""
    raise _bad(field, whole, what, f"{extra}Give numbers from {field.least} to {field.most}{names}, with , - / and *.")


def _bad(field: _Field, text: str, message: str, remedy: str) -> BadCron:
    where = f"{field.name} {text[:80]!r}"
    return BadCron(f"{message} in its {where}", remedy)


def _macro_remedy(dialect: Dialect) -> str:
    if dialect != "unix":
        return "The reference's dialect knows no such names: write the five fields."
    return f"There are {', '.join(_MACROS)}; for an interval give every='15m'."
