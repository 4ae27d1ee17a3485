"""How pipelines say what their partitions are, and how those of two assets belong together.

Nothing here raises: what is wrong with a definition is told together with everything else that is wrong with its file.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, date, datetime
from typing import Any

from springline.definitions.mappings import MappingKind, PartitionMapping
from springline.definitions.partitions import Dimension, PartitionKind, Partitions

_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


def hourly(start: str | datetime, *, end: str | datetime | None = None) -> Partitions:
    """Return one partition for each hour of UTC from `start` on, without `end`; keys are such as `2024-01-31T05`."""
    return _by_time(PartitionKind.HOURLY, start, end, None)


def daily(start: str | date, *, end: str | date | None = None, timezone: str = "UTC") -> Partitions:
    """Return one partition for each day of `timezone` from `start` on, without `end`; keys are such as `2024-01-31`."""
    return _by_time(PartitionKind.DAILY, start, end, timezone)


def weekly(start: str | date, *, end: str | date | None = None, timezone: str = "UTC") -> Partitions:
    """Return one partition for each week from the day `start` on, without `end`; keys are the first days.

    Weeks begin on the weekday of `start`.
    """
    return _by_time(PartitionKind.WEEKLY, start, end, timezone)


def monthly(start: str | date, *, end: str | date | None = None, timezone: str = "UTC") -> Partitions:
    """Return one partition for each month from that of `start` on, without `end`; keys are such as `2024-01`."""
    return _by_time(PartitionKind.MONTHLY, start, end, timezone)


def static(*keys: str | Iterable[str]) -> Partitions:
    """Return partitions that are listed by key, in this order: `static("eu", "us")` or `static(["eu", "us"])`."""
    listed: list[Any] = []
    for one in keys:
        listed += [one] if isinstance(one, str) or not isinstance(one, Iterable) else list(one)
    return Partitions(PartitionKind.STATIC, keys=tuple(listed))


def multi_partitions(*unnamed: Any, **dimensions: Partitions) -> Partitions:
    """Return partitions in two dimensions: `multi_partitions(day=daily("2024-01-01"), region=static("eu", "us"))`.

    One is by time and comes first, the other static; or both are static. Keys are such as `2024-01-31|eu`; a function
    finds each part in `context.partition_keys`.
    """
    found = [Dimension(name, one) for name, one in dimensions.items()]
    # Told with everything else that is wrong: a dimension without a name has no key of its own.
    found += [Dimension("", one) for one in unnamed]
    # Whoever writes them the other way round means the same.
    found.sort(key=lambda one: not (isinstance(one.partitions, Partitions) and one.partitions.by_time))
    return Partitions(PartitionKind.MULTI, dimensions=tuple(found))


def identity() -> PartitionMapping:
    """Need the upstream partition of the same key; of partitions in two dimensions the same in each that both have."""
    return PartitionMapping(MappingKind.IDENTITY)


def all_partitions() -> PartitionMapping:
    """Need every upstream partition; an argument is a dict of outputs by partition key."""
    return PartitionMapping(MappingKind.ALL)


def latest() -> PartitionMapping:
    """Need the last upstream partition that has ended; in two dimensions, that of the same key in the other one."""
    return PartitionMapping(MappingKind.LATEST)


def window(start: int = 0, end: int = 0) -> PartitionMapping:
    """Need the upstream partitions whose time overlaps, moved by so many upstream partitions at both ends.

    `window(start=-6)` on daily partitions is the day and the six before it. An argument is a dict of outputs by
    partition key. In two dimensions it moves in time, within the same key of the other one.
    """
    return PartitionMapping(MappingKind.WINDOW, start, end)


def _by_time(kind: PartitionKind, start: Any, end: Any, timezone: str | None) -> Partitions:
    return Partitions(kind, _key(kind, start), _key(kind, end), None if timezone == "UTC" else timezone)


def _key(kind: PartitionKind, given: Any) -> Any:
    """Return the key that a date, an instant or a text means; what means none is judged later, as it is."""
    if isinstance(given, datetime):
        if kind is PartitionKind.HOURLY and given.tzinfo is not None:
            given = given.astimezone(UTC)
        begins = given.replace(minute=0) if kind is PartitionKind.HOURLY else given.replace(hour=0, minute=0)
        if given != begins.replace(second=0, microsecond=0):
            return given.isoformat()
        given = given.strftime("%Y-%m-%dT%H") if kind is PartitionKind.HOURLY else given.date()
    if isinstance(given, date):
        given = given.isoformat()
    if isinstance(given, str) and _DAY.fullmatch(given):
        if kind is PartitionKind.HOURLY:
            return f"{given}T00"
        if kind is PartitionKind.MONTHLY and given.endswith("-01"):
            return given[: -len("-01")]
    return given
