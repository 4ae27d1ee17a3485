"""Partitions of an asset: which there are, by what keys, and which span of time each one covers.

A definition is a value, so that a million partitions cost nothing: keys are computed by position. Text in, text out: a
key is what stands in URLs, tables and logs, such as `2024-01-31`. Of the outside only the tz database is read.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from enum import StrEnum
from typing import Final
from zoneinfo import ZoneInfo, available_timezones

from springline.definitions.ids import meant, problem_of_id

MAX_STATIC_KEYS: Final = 10_000
MAX_PARTITION_KEY: Final = 200
"""Characters of a partition's key."""
MAX_ZONE: Final = 64

FIRST_YEAR: Final = 1000
LAST_YEAR: Final = 9998
"""Beyond these years a window may not be an instant that Python can hold."""


class PartitionKind(StrEnum):
    """How an asset is cut into partitions."""

    HOURLY = "hourly"
    DAILY = "daily"
    WEEKLY = "weekly"
    MONTHLY = "monthly"
    STATIC = "static"
    MULTI = "multi"
    """In two dimensions: one by time and one static, or two static ones."""


DIMENSIONS: Final = 2
"""How many dimensions there are, where there is more than one."""
_BETWEEN: Final = "|"


_FORMS: Final = {
    PartitionKind.HOURLY: ("%Y-%m-%dT%H", re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}"), "2024-01-31T05"),
    PartitionKind.DAILY: ("%Y-%m-%d", re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}"), "2024-01-31"),
    PartitionKind.WEEKLY: ("%Y-%m-%d", re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}"), "2024-01-29"),
    PartitionKind.MONTHLY: ("%Y-%m", re.compile(r"[0-9]{4}-[0-9]{2}"), "2024-01"),
}
_FORMS_LONGEST: Final = "2024-01-31T05"
_STEPS: Final = {
    PartitionKind.HOURLY: timedelta(hours=1),
    PartitionKind.DAILY: timedelta(days=1),
    PartitionKind.WEEKLY: timedelta(days=7),
}


@dataclass(frozen=True, slots=True)
class FieldProblem:
    """What is wrong with one field of a definition: `message` names the value, `remedy` says what to do."""

    field: str
    message: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Partitions:
    """The partitions of an asset.

    By time: one for each hour, day, week or month from `start` on, up to and without `end`. Both are keys of the kind.
    Days, weeks and months are those of `timezone`; hours are those of UTC, because where clocks go back two hours have
    one name. Weeks begin on the weekday of `start`. Static: `keys`. In two dimensions: one for each pair of keys of its
    `dimensions`, `2024-01-31|eu`; all of a day lie beside each other.
    """

    kind: PartitionKind
    start: str | None = None
    end: str | None = None
    timezone: str | None = None
    keys: tuple[str, ...] = ()
    dimensions: tuple[Dimension, ...] | None = None

    @property
    def by_time(self) -> bool:
        """Say whether each partition is a span of time, and nothing else: those in two dimensions are not."""
        return self.kind in _FORMS

    @property
    def time(self) -> Partitions | None:
        """The partitions by time that these are, or that are their first dimension; None if there are none."""
        first = self if self.dimensions is None else self.dimensions[0].partitions
        return first if first.by_time else None

    def problems(self) -> Iterator[FieldProblem]:
        """Yield what is wrong with the definition. All other methods are for a definition without problems."""
        if self.kind is PartitionKind.MULTI:
            yield from self._problems_of_multi()
            return
        if self.dimensions is not None:
            yield FieldProblem("dimensions", f"{self.kind} partitions have no dimensions", "Leave dimensions out.")
        if self.kind not in _FORMS:
            yield from self._problems_of_static()
            return
        form = _FORMS[self.kind][2]
        if self.keys:
            yield FieldProblem("keys", f"{self.kind} partitions take no keys", "Leave keys out, or use static(...).")
        wall = self._wall("start", self.start)
        if isinstance(wall, FieldProblem):
            yield wall
        if self.end is not None:
            last = self._wall("end", self.end)
            if isinstance(last, FieldProblem):
                yield last
            elif isinstance(wall, datetime) and last <= wall:
                yield FieldProblem(
                    "end",
                    f"end {self.end!r} is not after start {self.start!r}",
                    f"Give the first {self.kind} partition that is no longer part of it, such as {form!r}, or no end.",
                )
            elif isinstance(wall, datetime) and self.kind is PartitionKind.WEEKLY and (last - wall).days % 7:
                yield FieldProblem(
                    "end",
                    f"end {self.end!r} is no whole number of weeks after start {self.start!r}",
                    f"Weeks begin on the weekday of start, {wall:%A}: end on one, too.",
                )
        if self.timezone is not None:
            yield from self._problems_of_zone(self.timezone)

    def _problems_of_multi(self) -> Iterator[FieldProblem]:
        example = "Give two, such as multi_partitions(day=daily('2024-01-01'), region=static('eu', 'us'))."
        for name in ("start", "end", "timezone"):
            if getattr(self, name) is not None:
                yield FieldProblem(name, f"partitions in two dimensions have no {name}", f"Give {name} to a dimension.")
        if self.keys:
            yield FieldProblem("keys", "partitions in two dimensions have no keys", "Give keys to a dimension.")
        found = self.dimensions or ()
        if any(not one.name for one in found):
            yield FieldProblem("dimensions", "a dimension has no name", example)
            return
        if len(found) != DIMENSIONS or len({one.name for one in found}) != DIMENSIONS:
            yield FieldProblem("dimensions", f"there are {len({one.name for one in found})} dimensions", example)
            return
        for one in found:
            wrong = problem_of_id(one.name)
            if wrong is not None:
                yield FieldProblem("dimensions", f"the dimension {one.name!r:.120} {wrong[0]}", wrong[1])
            if one.partitions.kind is PartitionKind.MULTI:
                yield FieldProblem("dimensions", f"the dimension {one.name} has dimensions itself", example)
                return
            for problem in one.partitions.problems():
                yield FieldProblem("dimensions", f"the dimension {one.name}: {problem.message}", problem.remedy)
                return
        first, second = (one.partitions for one in found)
        if second.by_time:
            what = f"both are by time, {found[0].name} and" if first.by_time else "time is in the second place,"
            yield FieldProblem(
                "dimensions",
                f"{what} {found[1].name}",
                "Put the one dimension by time first, and a static one behind it.",
            )
            return
        if not first.by_time and len(first.keys) * len(second.keys) > MAX_STATIC_KEYS:
            yield FieldProblem(
                "dimensions",
                f"there are {len(first.keys) * len(second.keys)} pairs of keys, and {MAX_STATIC_KEYS} is the most",
                "Give fewer keys.",
            )
        longest = sum(max(map(len, _quoted(one))) for one in (first.keys or (_FORMS_LONGEST,), second.keys)) + 1
        if longest > MAX_PARTITION_KEY:
            yield FieldProblem(
                "dimensions",
                f"the longest pair of keys has {longest} characters, and {MAX_PARTITION_KEY} is the most",
                "Give shorter keys.",
            )

    def _problems_of_static(self) -> Iterator[FieldProblem]:
        for name in ("start", "end", "timezone"):
            if getattr(self, name) is not None:
                yield FieldProblem(name, f"static partitions have no {name}", f"Leave {name} out.")
        if not self.keys:
            yield FieldProblem("keys", "there are no keys", "Give at least one, such as static(['eu', 'us']).")
        if len(self.keys) > MAX_STATIC_KEYS:
            yield FieldProblem(
                "keys", f"there are {len(self.keys)} keys, and {MAX_STATIC_KEYS} is the most", "Give fewer keys."
            )
        seen: set[str] = set()
        for key in self.keys:
            problem = _problem_of_text(key)
            if problem is None and key in seen:
                problem = "is there twice"
            seen.add(key)
            if problem is not None:
                yield FieldProblem("keys", f"key {key!r:.220} {problem}", "Give distinct texts of one line.")
                return

    def _problems_of_zone(self, zone: str) -> Iterator[FieldProblem]:
        if self.kind is PartitionKind.HOURLY:
            yield FieldProblem(
                "timezone",
                f"hourly partitions are hours of UTC and take no timezone, not {zone!r}",
                "Leave timezone out: where clocks go back, two hours have one name.",
            )
        elif _zone(zone) is None:
            near = meant(zone, available_timezones())
            yield FieldProblem(
                "timezone",
                f"timezone {zone!r:.80} is not in the tz database",
                f"{near}Give a name such as 'Europe/Oslo'.",
            )

    def problem_of_key(self, key: str) -> str | None:
        """Return why no partition has this key, to go on from the key; None if one has it."""
        if self.dimensions is not None:
            parts = split_key(key)
            if parts is None:
                return f"is no pair of keys, such as {self.key_at(0)!r}"
            for one, part in zip(self.dimensions, parts, strict=True):
                problem = one.partitions.problem_of_key(part)
                if problem is not None:
                    return f"has the {one.name} {part!r:.200}, which {problem}"
            return None
        if self.kind is PartitionKind.STATIC:
            return None if key in self.keys else f"is none of the keys: {meant(key, self.keys)}{_some(self.keys)}"
        wall = self._wall("key", key)
        if isinstance(wall, FieldProblem):
            return f"is no key of {self.kind} partitions, such as {_FORMS[self.kind][2]!r}"
        if wall < self._first:
            return f"lies before the first partition, {self.start!r}"
        if self.end is not None and wall >= self._parsed(self.end):
            return f"lies at or after the end, {self.end!r}"
        if self.kind is PartitionKind.WEEKLY and (wall - self._first).days % 7:
            return f"is no first day of a week: weeks begin on {self._first:%A}"
        return None

    def position(self, key: str) -> int:
        """Return where a partition stands, from 0; `key` has no problem."""
        if self.dimensions is not None:
            first, second = self.dimensions
            parts = split_key(key)
            assert parts is not None
            return first.partitions.position(parts[0]) * self.across + second.partitions.position(parts[1])
        if self.kind is PartitionKind.STATIC:
            return self.keys.index(key)
        return self._position_of(self._parsed(key))

    def key_at(self, position: int) -> str:
        """Return the key of the partition at a position, from 0. Raises `IndexError` if there is none."""
        if self.dimensions is not None:
            along, across = divmod(position, self.across)
            first, second = self.dimensions
            return join_keys((first.partitions.key_at(along), second.partitions.key_at(across)))
        if self.kind is PartitionKind.STATIC:
            if not 0 <= position < len(self.keys):
                raise IndexError(f"there is no partition {position} of {len(self.keys)}")
            return self.keys[position]
        wall = self._wall_at(position)
        if position < 0 or wall.year > LAST_YEAR or (self.end is not None and wall >= self._parsed(self.end)):
            raise IndexError(f"there is no partition {position}")
        return wall.strftime(_FORMS[self.kind][0])

    def window(self, key: str) -> tuple[datetime, datetime] | None:
        """Return begin and end, in UTC, of the time that a partition covers; None for static ones.

        The windows of neighbours touch: a day has 23 or 25 hours where clocks change.
        """
        if self.dimensions is not None:
            parts = split_key(key)
            assert parts is not None
            return self.dimensions[0].partitions.window(parts[0])
        if self.kind is PartitionKind.STATIC:
            return None
        at = self.position(key)
        return self._begin(at), self._begin(at + 1)

    def overlapping(self, begin: datetime, end: datetime) -> range:
        """Return the positions of the partitions by time that overlap the time from `begin` up to `end`.

        It is as if there were no first partition and no last: positions before the first are negative. So a window
        that is moved from there does not depend on where the asset starts.
        """
        first = self._near(begin)
        while self._begin(first + 1) > begin:
            first -= 1
        while self._begin(first + 1) <= begin:
            first += 1
        behind = self._near(end)
        while self._begin(behind) < end:
            behind += 1
        while self._begin(behind - 1) >= end:
            behind -= 1
        return range(first, behind)

    def ended_by(self, instant: datetime) -> int:
        """Return how many partitions have ended at an instant: those are the first ones. Of static ones all have."""
        return self._before(instant, 0)

    def begun_by(self, instant: datetime) -> int:
        """Return how many partitions have begun at an instant: those are the first ones. Of static ones all have."""
        return self._before(instant, 1)

    def _before(self, instant: datetime, behind: int) -> int:
        """Return how many partitions lie before the one that holds an instant, and `behind` more."""
        if self.dimensions is not None:
            return self.dimensions[0].partitions._before(instant, behind) * self.across
        if self.kind is PartitionKind.STATIC:
            return len(self.keys)
        (holding, *_) = self.overlapping(instant, instant + timedelta(microseconds=1))
        count = holding + behind
        if self.end is not None:
            count = min(count, self._position_of(self._parsed(self.end)))
        return max(0, count)

    def parts(self, key: str) -> dict[str, str]:
        """Return the keys that a key in two dimensions is made of, by dimension; of other partitions none."""
        parts = split_key(key) if self.dimensions is not None else None
        return {} if parts is None else {one.name: part for one, part in zip(self.dimensions or (), parts, strict=True)}

    def keys_at_time(self, key: str | None = None) -> list[str]:
        """Return the keys of a span of time: `key` of partitions by time, all pairs with it of those in two dimensions.

        Without `key`, of partitions without time: all.
        """
        if self.dimensions is None:
            return list(self.keys) if key is None else [key]
        first, second = (one.partitions for one in self.dimensions)
        return [join_keys((one, other)) for one in (first.keys if key is None else (key,)) for other in second.keys]

    @property
    def across(self) -> int:
        """How many keys the second dimension has; 1 without one."""
        return 1 if self.dimensions is None else len(self.dimensions[1].partitions.keys)

    @property
    def first_weekday(self) -> int:
        """The weekday on which the first partition begins, Monday is 0."""
        return self._first.weekday()

    @property
    def _first(self) -> datetime:
        assert self.start is not None
        return self._parsed(self.start)

    def _position_of(self, wall: datetime) -> int:
        first = self._first
        if self.kind is PartitionKind.MONTHLY:
            return (wall.year - first.year) * 12 + wall.month - first.month
        return (wall - first) // _STEPS[self.kind]

    def _near(self, instant: datetime) -> int:
        """Return a position whose partition lies near an instant, or holds it."""
        return self._position_of(instant.astimezone(self._tzinfo).replace(tzinfo=None))

    def _begin(self, position: int) -> datetime:
        return self._instant(self._wall_at(position))

    def _wall_at(self, position: int) -> datetime:
        first = self._first
        if self.kind is PartitionKind.MONTHLY:
            years, month = divmod(first.month - 1 + position, 12)
            try:
                return datetime(first.year + years, month + 1, 1)
            except ValueError:
                raise IndexError(f"there is no partition {position}") from None
        try:
            return first + position * _STEPS[self.kind]
        except OverflowError:
            raise IndexError(f"there is no partition {position}") from None

    @property
    def _tzinfo(self) -> tzinfo:
        zone: tzinfo | None = UTC if self.timezone is None else _zone(self.timezone)
        assert zone is not None
        return zone

    def _instant(self, wall: datetime) -> datetime:
        # A time that the clocks skip is the end of the gap, and of one that they show twice the first is meant.
        return wall.replace(tzinfo=self._tzinfo).astimezone(UTC)

    def _parsed(self, key: str) -> datetime:
        return datetime.fromisoformat(f"{key}-01" if self.kind is PartitionKind.MONTHLY else key)

    def _wall(self, field: str, text: object) -> datetime | FieldProblem:
        _, pattern, example = _FORMS[self.kind]
        remedy = f"Give a key such as {example!r}."
        if text is None:
            return FieldProblem(field, f"{self.kind} partitions have no {field}", remedy)
        if not isinstance(text, str) or not pattern.fullmatch(text):
            return FieldProblem(field, f"{field} {text!r:.80} is no key of {self.kind} partitions", remedy)
        try:
            wall = self._parsed(text)
        except ValueError:
            return FieldProblem(field, f"{field} {text!r} is no day of the calendar or hour of the clock", remedy)
        if not FIRST_YEAR <= wall.year <= LAST_YEAR:
            years = f"{FIRST_YEAR} to {LAST_YEAR}"
            return FieldProblem(field, f"{field} {text!r} lies outside the years {years}", f"Use years {years}.")
        return wall


@dataclass(frozen=True, slots=True)
class Dimension:
    """One of two dimensions of partitions: its name, and how it is cut."""

    name: str
    partitions: Partitions


def join_keys(keys: Iterable[str]) -> str:
    """Return the key of a partition in two dimensions: the key in each, with a bar between.

    A bar within a key is written as `%7C`, and a percent sign as `%25`: two pairs never share a key.
    """
    return _BETWEEN.join(_quoted(keys))


def split_key(key: str) -> tuple[str, str] | None:
    """Return the two keys that `join_keys` has made a key of, None if it has not."""
    parts = [one.replace("%7C", _BETWEEN).replace("%25", "%") for one in key.split(_BETWEEN)]
    if len(parts) != DIMENSIONS or join_keys(parts) != key:
        return None
    return parts[0], parts[1]


def _quoted(keys: Iterable[str]) -> list[str]:
    return [one.replace("%", "%25").replace(_BETWEEN, "%7C") for one in keys]


def _zone(name: str) -> ZoneInfo | None:
    try:
        return ZoneInfo(name)
    except (ValueError, OSError, LookupError):
        # Not found, no possible name, or a folder of the database.
        return None


def _problem_of_text(key: object) -> str | None:
    if not isinstance(key, str):
        return f"is a {type(key).__name__} and no text"
    if not key:
        return "is empty"
    if len(key) > MAX_PARTITION_KEY:
        return f"has {len(key)} characters, and {MAX_PARTITION_KEY} is the most"
    if not key.isprintable():
        return "holds a character that cannot be printed"
    return None


def _some(keys: tuple[str, ...]) -> str:
    shown = ", ".join(keys[:5])
    return f"there are {shown}{f' and {len(keys) - 5} more' if len(keys) > 5 else ''}"
