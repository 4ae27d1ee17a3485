"""Which partitions of what an asset depends on one of its own partitions needs."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from springline.definitions.partitions import FieldProblem, PartitionKind, Partitions

MAX_OFFSET: Final = 100_000

_FIELD: Final = "mapping"


class MappingKind(StrEnum):
    """How partitions of two assets belong together."""

    IDENTITY = "identity"
    """The partition of the same key."""
    ALL = "all"
    """Every partition; of an asset without partitions, the asset."""
    LATEST = "latest"
    """The last partition that has ended."""
    WINDOW = "window"
    """The partitions whose time overlaps, moved by `start_offset` and `end_offset` partitions."""


@dataclass(frozen=True, slots=True)
class PartitionMapping:
    """Which upstream partitions a partition needs; offsets are for `window` alone, counted in upstream partitions.

    `window` with `start_offset` -6 on daily partitions is the day and the six before it.
    """

    kind: MappingKind
    start_offset: int = 0
    end_offset: int = 0

    @property
    def many(self) -> bool:
        """Say whether more than one upstream partition may be needed: an argument is then a dict by partition key."""
        return self.kind in (MappingKind.ALL, MappingKind.WINDOW)

    def problem(self) -> FieldProblem | None:
        """Return what is wrong with the mapping by itself; None if nothing is."""
        offsets = (self.start_offset, self.end_offset)
        if not all(isinstance(one, int) and not isinstance(one, bool) and abs(one) <= MAX_OFFSET for one in offsets):
            return _bad(
                f"the window from {offsets[0]!r} to {offsets[1]!r} is none",
                f"Give whole numbers of partitions from {-MAX_OFFSET} to {MAX_OFFSET}, such as window(start=-6).",
            )
        if self.kind is not MappingKind.WINDOW and any(offsets):
            return _bad(f"the mapping {self.kind} has offsets", "Give offsets to a window only.")
        if self.start_offset > self.end_offset:
            return _bad(
                f"the window begins at {self.start_offset}, behind its end {self.end_offset}",
                "Give start at or below end, such as window(start=-6, end=0).",
            )
        return None


def effective_mapping(
    declared: PartitionMapping | None, upstream: Partitions | None, downstream: Partitions | None
) -> PartitionMapping | FieldProblem:
    """Return the mapping of a dependency, by default what the partitions of both assets suggest; or what is wrong.

    Without `declared`: all of an asset without partitions, or for an asset without partitions; the same key for equal
    kinds; the overlapping window for other kinds of time. Static and time need to be told.
    """
    if declared is None:
        return _default(upstream, downstream)
    wrong = declared.problem()
    if wrong is not None:
        return wrong
    match declared.kind:
        case MappingKind.ALL:
            return declared
        case MappingKind.LATEST:
            if upstream is None or not upstream.by_time:
                return _bad(f"there is no latest one of {_what(upstream)}", "Use it for partitions by time.")
            return declared
        case MappingKind.IDENTITY:
            problem = _why_not_identical(upstream, downstream)
            return declared if problem is None else problem
        case MappingKind.WINDOW:
            if upstream is None or downstream is None or not (upstream.by_time and downstream.by_time):
                return _bad(
                    f"a window maps time to time, and not {_what(upstream)} to {_what(downstream)}",
                    "Use all_partitions(), or give both assets partitions by time.",
                )
            return declared


@dataclass(frozen=True, slots=True)
class SomePartitions:
    """Some partitions of an asset, such as those that a run makes: their keys in order, and their positions."""

    partitions: Partitions
    keys: tuple[str, ...]
    positions: tuple[int, ...]
    known: frozenset[str]

    @classmethod
    def of(cls, partitions: Partitions, keys: Iterable[str]) -> SomePartitions:
        """Return the partitions with these keys, which have no problem, each once."""
        keys = set(keys)
        if partitions.by_time:
            placed = sorted((partitions.position(key), key) for key in keys)
        else:
            places = {key: number for number, key in enumerate(partitions.keys)}
            placed = sorted((places[key], key) for key in keys)
        return cls(partitions, tuple(key for _, key in placed), tuple(at for at, _ in placed), frozenset(keys))


def needed_keys(
    mapping: PartitionMapping, upstream: SomePartitions, downstream: Partitions | None, key: str | None
) -> tuple[str, ...]:
    """Return which of some upstream partitions a partition needs by its effective mapping, in order.

    `key` is the partition's; None, as `downstream`, for an asset without partitions. Of `latest` it is the last one of
    `upstream`, whatever the key.
    """
    match mapping.kind:
        case MappingKind.ALL:
            return upstream.keys
        case MappingKind.LATEST:
            return upstream.keys[-1:]
        case MappingKind.IDENTITY:
            assert key is not None
            return (key,) if key in upstream.known else ()
        case MappingKind.WINDOW:
            assert downstream is not None
            assert key is not None
            window = downstream.window(key)
            assert window is not None
            overlap = upstream.partitions.overlapping(*window)
            first = bisect_left(upstream.positions, overlap.start + mapping.start_offset)
            behind = bisect_left(upstream.positions, overlap.stop + mapping.end_offset)
            return upstream.keys[first:behind]


def _default(upstream: Partitions | None, downstream: Partitions | None) -> PartitionMapping | FieldProblem:
    if upstream is None or downstream is None:
        return PartitionMapping(MappingKind.ALL)
    if _why_not_identical(upstream, downstream) is None:
        return PartitionMapping(MappingKind.IDENTITY)
    if upstream.by_time and downstream.by_time:
        return PartitionMapping(MappingKind.WINDOW)
    return _bad(
        f"nothing says how {_what(upstream)} belong to {_what(downstream)}",
        "Say it, for example deps=[dep(asset, all_partitions())].",
    )


def _why_not_identical(upstream: Partitions | None, downstream: Partitions | None) -> FieldProblem | None:
    """Return why a key of one asset is none of the other; starts and ends by time may differ."""
    if upstream is None or downstream is None:
        return _bad(f"{_what(upstream)} have no key in common with {_what(downstream)}", "Use all_partitions().")
    if upstream.kind is not downstream.kind:
        return _bad(
            f"{_what(upstream)} have no key in common with {_what(downstream)}",
            "Use a window for two kinds of time, else all_partitions().",
        )
    if not upstream.by_time:
        there = set(upstream.keys)
        missing = [key for key in downstream.keys if key not in there]
        if missing:
            return _bad(
                f"partition {missing[0]!r} is not one of the upstream's keys",
                "Give the upstream all keys, or use all_partitions().",
            )
        return None
    if (upstream.timezone or "UTC") != (downstream.timezone or "UTC"):
        return _bad(
            f"the days of {upstream.timezone or 'UTC'} are not those of {downstream.timezone or 'UTC'}",
            "Give both one timezone, or use a window.",
        )
    if upstream.kind is PartitionKind.WEEKLY and upstream.first_weekday != downstream.first_weekday:
        return _bad("the weeks begin on different days", "Begin both on one weekday, or use a window.")
    return None


def _what(partitions: Partitions | None) -> str:
    return "no partitions" if partitions is None else f"{partitions.kind} partitions"


def _bad(message: str, remedy: str) -> FieldProblem:
    return FieldProblem(_FIELD, message, remedy)
