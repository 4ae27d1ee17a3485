"""Which partitions of what an asset depends on one of its own partitions needs."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from springline.definitions.partitions import Dimension, FieldProblem, PartitionKind, Partitions, split_key

MAX_OFFSET: Final = 100_000

_FIELD: Final = "mapping"
_ONE_NAME: Final = "Call the dimensions that belong together by one name, or use all_partitions()."


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

    def many(self, upstream: Partitions, downstream: Partitions | None) -> bool:
        """Say whether more than one upstream partition may be needed: an argument is then a dict by partition key.

        It may, too, of an upstream with a dimension that the asset lacks.
        """
        if self.kind in (MappingKind.ALL, MappingKind.WINDOW):
            return True
        return is_multi(upstream) and (downstream is None or None in paired(upstream, downstream))

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
    kinds; the overlapping window for other kinds of time. Static and time need to be told. In two dimensions a mapping
    holds for each that both assets have: see `paired`.
    """
    wrong = None if declared is None else declared.problem()
    if wrong is not None:
        return wrong
    if is_multi(upstream) or is_multi(downstream):
        return _in_dimensions(declared, upstream, downstream)
    if declared is None:
        return _default(upstream, downstream)
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
        if partitions.dimensions is not None:
            first, second = (_placing(one.partitions) for one in partitions.dimensions)
            across = partitions.across
            pairs = [(key, split_key(key)) for key in keys]
            placed = sorted((first(two[0]) * across + second(two[1]), key) for key, two in pairs if two is not None)
        elif partitions.by_time:
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
    if mapping.kind is not MappingKind.ALL and (is_multi(upstream.partitions) or is_multi(downstream)):
        return _needed_in_dimensions(mapping, upstream, downstream, key)
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


def problem_of_unpaired_time(
    declared: PartitionMapping | None, upstream: Partitions | None, downstream: Partitions | None
) -> FieldProblem | None:
    """Return what is wrong where both have a dimension by time, and nothing says that the two belong together.

    All of the upstream's time would be taken, for each day: it is refused unless it is said. Only a declaration is
    judged so: what was deployed before is run as it was.
    """
    if declared is not None or upstream is None or downstream is None:
        return None
    above, below = _dimensions(upstream), _dimensions(downstream)
    if not (len(above) == len(below) == 2 and above[0].partitions.by_time and below[0].partitions.by_time):
        return None
    if above[0].name == below[0].name or None not in paired(upstream, downstream):
        return None
    return _bad(
        f"nothing says how the time of {_what(upstream)} belongs to that of {_what(downstream)}",
        f"Call both by one name, such as {above[0].name}, or say dep(asset, identity()) to take all of it.",
    )


def have_equal_keys(one: Partitions | None, other: Partitions) -> bool:
    """Say whether a key of one asset's partition is one of the other's, too, but for where both start and end."""
    if one is None or is_multi(one) != is_multi(other):
        return False
    pairs = zip(_dimensions(one), _dimensions(other), strict=True)
    return all(_why_not_identical(two[1].partitions, two[0].partitions) is None for two in pairs)


def is_multi(partitions: Partitions | None) -> bool:
    """Say whether partitions lie in two dimensions."""
    return partitions is not None and partitions.dimensions is not None


def paired(upstream: Partitions, downstream: Partitions) -> list[int | None]:
    """Return for each dimension of an upstream the place of that of the asset below it that belongs to it, or None.

    Of two dimensions on both sides those of one name belong together; one alone belongs to that which is like it: time
    to time, and static to static. Of two static ones it is the first that has its keys.
    """
    above, below = _dimensions(upstream), _dimensions(downstream)
    if len(above) == len(below):
        names = {one.name: place for place, one in enumerate(below)}
        return [names.get(one.name) for one in above]
    if len(below) == 1:
        own = below[0].partitions
        place = next((at for at, one in enumerate(above) if _alike(one.partitions, own)), None)
        return [0 if at == place else None for at in range(len(above))]
    return [next((at for at, one in enumerate(below) if _alike(above[0].partitions, one.partitions)), None)]


def _alike(above: Partitions, below: Partitions) -> bool:
    if above.by_time or below.by_time:
        return above.by_time and below.by_time
    return _why_not_identical(above, below) is None


def _dimensions(partitions: Partitions) -> tuple[Dimension, ...]:
    return (Dimension("", partitions),) if partitions.dimensions is None else partitions.dimensions


def _in_dimensions(
    declared: PartitionMapping | None, upstream: Partitions | None, downstream: Partitions | None
) -> PartitionMapping | FieldProblem:
    """Return the effective mapping where one side at least has two dimensions."""
    if upstream is None or downstream is None:
        if declared is None or declared.kind is MappingKind.ALL:
            return PartitionMapping(MappingKind.ALL)
        if declared.kind is MappingKind.LATEST and upstream is not None and upstream.time is not None:
            return declared
        return _bad(f"{_what(upstream)} have no key in common with {_what(downstream)}", "Use all_partitions().")
    if declared is not None and declared.kind is MappingKind.ALL:
        return declared
    below = _dimensions(downstream)
    places = zip(_dimensions(upstream), paired(upstream, downstream), strict=True)
    matched = [(one.partitions, below[at].partitions) for one, at in places if at is not None]
    if not matched:
        return _bad(
            f"{_what(upstream)} and {_what(downstream)} have no dimension in common",
            _ONE_NAME,
        )
    if declared is None:
        times = [pair for pair in matched if pair[0].by_time and pair[1].by_time]
        differ = any(_why_not_identical(*pair) is not None for pair in times)
        declared = PartitionMapping(MappingKind.WINDOW if differ else MappingKind.IDENTITY)
    if declared.kind is MappingKind.LATEST and upstream.time is None:
        return _bad(f"there is no latest one of {_what(upstream)}", "Use it for partitions by time.")
    if declared.kind is MappingKind.WINDOW and not any(one.by_time and two.by_time for one, two in matched):
        remedy = _ONE_NAME if upstream.time is not None and downstream.time is not None else "Use all_partitions()."
        return _bad(f"a window maps time to time, and not {_what(upstream)} to {_what(downstream)}", remedy)
    for one, two in matched:
        moved = declared.kind is not MappingKind.IDENTITY and one.by_time and two.by_time
        problem = None if moved else _why_not_identical(one, two)
        if problem is not None:
            return problem
    return declared


def needed_places(
    mapping: PartitionMapping, upstream: Partitions, downstream: Partitions | None, key: str | None, last: int
) -> tuple[range | None, range | None]:
    """Return where the partitions lie that are needed of an upstream, in each of its dimensions; None: anywhere.

    `last`: the place in time of the latest partition, for `latest`. Of an upstream in one dimension the second is None.
    For all mappings but `all`.
    """
    above = _dimensions(upstream)
    own: list[tuple[Partitions, str] | None] = [None] * len(above)
    if downstream is not None and key is not None:
        parts = (key,) if downstream.dimensions is None else split_key(key)
        assert parts is not None
        below = _dimensions(downstream)
        own = [None if at is None else (below[at].partitions, parts[at]) for at in paired(upstream, downstream)]
    spans: list[range | None] = []
    for dimension, two in zip(above, own, strict=True):
        partitions = dimension.partitions
        if partitions.by_time and mapping.kind is MappingKind.LATEST:
            spans.append(range(last, last + 1))
        elif two is None:
            spans.append(None)
        elif partitions.by_time and mapping.kind is MappingKind.WINDOW:
            window = two[0].window(two[1])
            assert window is not None
            overlap = partitions.overlapping(*window)
            first = max(0, overlap.start + mapping.start_offset)
            spans.append(range(first, max(first, overlap.stop + mapping.end_offset)))
        else:
            # A key from before another start, or that the upstream has no more, is none of its own.
            found = partitions.problem_of_key(two[1]) is None
            at = partitions.position(two[1]) if found else 0
            spans.append(range(at, at + found))
    return spans[0], spans[1] if len(spans) > 1 else None


def _needed_in_dimensions(
    mapping: PartitionMapping, upstream: SomePartitions, downstream: Partitions | None, key: str | None
) -> tuple[str, ...]:
    """Return which of some upstream partitions are needed, dimension by dimension; in the order of the partitions."""
    above, positions = upstream.partitions, upstream.positions
    across = above.across
    last = positions[-1] // across if positions else 0
    along, wanted = needed_places(mapping, above, downstream, key, last)
    first, behind = 0, len(positions)
    if along is not None:
        first, behind = bisect_left(positions, along.start * across), bisect_left(positions, along.stop * across)
    if wanted is None:
        return upstream.keys[first:behind]
    if along is not None and len(along) == 1 and len(wanted) == 1:
        # One partition, as of most: not all of a day are looked at for each of them.
        at = along.start * across + wanted.start
        place = bisect_left(positions, at)
        return upstream.keys[place : place + 1] if positions[place : place + 1] == (at,) else ()
    return tuple(upstream.keys[at] for at in range(first, behind) if positions[at] % across in wanted)


def _placing(partitions: Partitions) -> Callable[[str], int]:
    """Return what finds the position of a key quickly."""
    if partitions.by_time:
        return partitions.position
    places = {key: number for number, key in enumerate(partitions.keys)}
    return places.__getitem__


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
    if partitions is not None and partitions.dimensions is not None:
        return f"partitions by {' and '.join(one.name for one in partitions.dimensions)}"
    return "no partitions" if partitions is None else f"{partitions.kind} partitions"


def _bad(message: str, remedy: str) -> FieldProblem:
    return FieldProblem(_FIELD, message, remedy)
