"""Which partitions a backfill is over, as values and rules: a span by position, or a list of keys.

A span costs nothing, however long: the keys of a chunk are computed from where it lies. What cannot be said by a span
is a list, in the order of the partitions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Final, Literal, Protocol

from springline.definitions.partitions import Partitions
from springline.definitions.schedules import last_complete
from springline.definitions.selection import BadSelection, select_nodes, with_tasks

MAX_PARTITIONS: Final = 1_000_000
"""Of one backfill."""
MOST_LISTED: Final = 5_000
"""Keys that stand in the event of a backfill; more of them are in objects of their own."""
MOST_LISTED_BYTES: Final = 100 * 1024
"""Likewise, their bytes as JSON: an event holds little more than twice that."""
KEYS_FILTER: Final = "springline.keys"
"""The filter in the selector of a backfill that names the list of its partitions in the store."""

Order = Literal["oldest_first", "newest_first"]


class BadChoice(ValueError):
    """Assets or partitions over which there can be no backfill. `field` and `value` name what, `remedy` what to do."""

    def __init__(self, field: str, value: object, message: str, remedy: str) -> None:
        super().__init__(f"{message}. {remedy}")
        self.field = field
        self.value = value
        self.message = message
        self.remedy = remedy


class BackfilledAsset(Protocol):
    """What choosing has to know of an asset or a task."""

    @property
    def asset_key(self) -> str | None:
        """Its key if it is an asset, None for a task."""

    @property
    def partitions(self) -> Partitions | None:
        """How it is cut into partitions, None if it is not."""

    @property
    def dependencies(self) -> Sequence[_Edge]:
        """What it needs."""


class _Edge(Protocol):
    @property
    def asset(self) -> str:
        """The key of the asset that is needed."""


@dataclass(frozen=True, slots=True)
class PartitionsAsked:
    """The partitions that somebody asks for: keys, or all from `start` to `end`, both included, that fit `match`.

    Without `start` it is the first partition, without `end` the last one that is complete. `match` is a pattern such as
    `2024-*-01`, or `*|eu` in two dimensions, where `start` and `end` may be keys of time alone. With `everything`,
    nothing else is given.
    """

    keys: tuple[str, ...] | None = None
    start: str | None = None
    end: str | None = None
    match: str | None = None
    everything: bool = False


@dataclass(frozen=True, slots=True)
class Span:
    """Partitions by position, from `first` up to and without `behind`."""

    partitions: Partitions
    first: int
    behind: int

    def __len__(self) -> int:
        """Return how many there are."""
        return self.behind - self.first

    def keys(self, places: range) -> list[str]:
        """Return the keys at places, counted from 0 within the span."""
        return [self.partitions.key_at(self.first + place) for place in places]


def places_of(index: int, size: int, total: int, order: Order) -> range:
    """Return the places of the partitions that a chunk makes, in the order in which it does.

    Args:
        index: of the chunk, from 0.
        size: partitions of a chunk; the last one may have fewer.
        total: partitions of the backfill.
        order: of the chunks, and within each.
    """
    begin, end = index * size, min(total, (index + 1) * size)
    if order == "oldest_first":
        return range(begin, end)
    return range(total - 1 - begin, total - 1 - end, -1)


def chunk_of(place: int, size: int, total: int, order: Order) -> int:
    """Return the index of the chunk that makes the partition at a place: `places_of` the other way round."""
    return (place if order == "oldest_first" else total - 1 - place) // size


def backfilled_assets(
    assets: Mapping[str, BackfilledAsset], terms: Sequence[str]
) -> tuple[tuple[str, ...], Partitions]:
    """Return the assets that a backfill is to make, and how they are cut into partitions. Raises `BadChoice`.

    A task without partitions that one of them needs is left out: it comes along in the run of each chunk.
    """
    try:
        selected = select_nodes(assets, terms)
        cut_up = {key for key in selected if assets[key].partitions is not None}
        along = {key for key in with_tasks(assets, cut_up) if assets[key].partitions is None}
        chosen = sorted(selected - along)
    except BadSelection as error:
        raise bad_selection(error) from error
    cuts: dict[Partitions, str] = {}
    for key in chosen:
        cut = assets[key].partitions
        if cut is None:
            raise BadChoice(
                "select",
                key,
                f"asset {key} has no partitions, and a backfill goes from partition to partition",
                f"Leave it out, and make it by `springline run start {key}`.",
            )
        cuts.setdefault(cut, key)
    if len(cuts) > 1:
        first, second = list(cuts.values())[:2]
        raise BadChoice(
            "select",
            list(terms),
            f"{first} and {second} are cut into partitions in different ways",
            "Give each a backfill of its own, what is upstream first; where a parameter takes the output of the other "
            "one, start runs of both with the partitions of each, or name it in deps and read what it has written.",
        )
    return tuple(chosen), next(iter(cuts))


def bad_selection(error: BadSelection) -> BadChoice:
    """Return what is wrong with a selection as an error of the field `select`."""
    message = f"{error.message[0].upper()}{error.message[1:].rstrip('.')}"
    return BadChoice("select", error.term, message, error.remedy)


def chosen_partitions(partitions: Partitions, asked: PartitionsAsked, now: datetime) -> Span | list[str]:
    """Return the partitions that are asked for: a span, or keys in the order of the partitions.

    Raises `BadChoice`: for keys that no partition has, for none at all, and for more than `MAX_PARTITIONS`.
    """
    _check_form(asked)
    if asked.keys is not None:
        return _listed(partitions, asked.keys)
    span = _span(partitions, asked, now)
    if not len(span):
        raise BadChoice("end", asked.end, "no partition is complete yet", "Give an end, or wait for the first.")
    if len(span) > MAX_PARTITIONS:
        raise BadChoice(
            "end" if asked.end is not None else "start",
            asked.end if asked.end is not None else asked.start,
            f"there are {len(span)} partitions from {partitions.key_at(span.first)!r} to "
            f"{partitions.key_at(span.behind - 1)!r}, and {MAX_PARTITIONS} is the most of one backfill",
            "Give start and end that lie nearer together, or several backfills one after the other.",
        )
    if asked.match is None:
        return span
    found = [key for key in _keys_of(span) if fnmatchcase(key, asked.match)]
    if not found:
        raise BadChoice(
            "match",
            asked.match,
            f"none of the {len(span)} partitions from {partitions.key_at(span.first)!r} to "
            f"{partitions.key_at(span.behind - 1)!r} fits {asked.match!r}",
            f"Give a pattern of keys such as {partitions.key_at(span.first)!r}, with * and ? where they may differ.",
        )
    return found


def _check_form(asked: PartitionsAsked) -> None:
    ranged = asked.start is not None or asked.end is not None or asked.match is not None
    if sum((asked.keys is not None, ranged, asked.everything)) != 1:
        said = "nothing says which partitions" if not ranged else "partitions are said in more than one way"
        if asked.keys is not None and asked.everything:
            said = "partitions are said in more than one way"
        raise BadChoice(
            "partitions",
            None if asked.keys is None else len(asked.keys),
            said,
            "Give keys as partitions, or start, end and match, or all, or stale.",
        )


def _listed(partitions: Partitions, keys: Sequence[str]) -> list[str]:
    if not keys:
        raise BadChoice("partitions", [], "there are no partitions", "Name at least one.")
    static = {key: place for place, key in enumerate(partitions.keys)}
    places: dict[int, str] = {}
    for key in keys:
        problem = None if key in static else partitions.problem_of_key(key)
        if problem is not None:
            raise BadChoice(
                "partitions", key, f"partition {key!r:.200} {problem}", "Give keys of partitions that there are."
            )
        places[static[key] if static else partitions.position(key)] = key
    if len(places) > MAX_PARTITIONS:
        raise BadChoice(
            "partitions",
            len(places),
            f"there are {len(places)} partitions, and {MAX_PARTITIONS} is the most of one backfill",
            "Give fewer, or a range.",
        )
    return [places[place] for place in sorted(places)]


def _span(partitions: Partitions, asked: PartitionsAsked, now: datetime) -> Span:
    ends = []
    for field, asked_key in (("start", asked.start), ("end", asked.end)):
        key = asked_key
        if key is not None and partitions.time is not None and partitions.time.problem_of_key(key) is None:
            # Of a day in two dimensions: from its first partition to its last.
            key = partitions.keys_at_time(key)[0 if field == "start" else -1]
        problem = None if key is None else partitions.problem_of_key(key)
        if problem is not None:
            raise BadChoice(
                field, asked_key, f"{field} {asked_key!r:.200} {problem}", "Give the key of a partition that there is."
            )
        ends.append(None if key is None else partitions.position(key))
    first = ends[0] if ends[0] is not None else 0
    last = ends[1] if ends[1] is not None else _last(partitions, now)
    if ends[1] is None and last < first:
        raise BadChoice(
            "start",
            asked.start,
            "no partition is complete yet" if asked.start is None else f"partition {asked.start!r} is not complete yet",
            "Give an end, too, or wait.",
        )
    if last < first:
        raise BadChoice(
            "end", asked.end, f"end {asked.end!r} lies before start {partitions.key_at(first)!r}", "Swap them."
        )
    return Span(partitions, first, last + 1)


def _last(partitions: Partitions, now: datetime) -> int:
    """Return the position of the last partition that is complete, -1 if none is."""
    if partitions.time is None:
        return len(partitions.keys_at_time()) - 1
    if partitions.dimensions is not None:
        return (_last(partitions.time, now) + 1) * partitions.across - 1
    if partitions.end is not None:
        behind = _position_of_end(partitions)
        if partitions.window(partitions.key_at(behind - 1))[1] <= now:  # type: ignore[index]
            return behind - 1
    key = last_complete(partitions, now)
    return -1 if key is None or partitions.problem_of_key(key) is not None else partitions.position(key)


def _position_of_end(partitions: Partitions) -> int:
    """Return the position that the end of partitions by time would have."""
    assert partitions.end is not None
    return Partitions(partitions.kind, partitions.start, None, partitions.timezone).position(partitions.end)


def _keys_of(span: Span) -> Iterator[str]:
    for place in range(span.first, span.behind):
        yield span.partitions.key_at(place)
