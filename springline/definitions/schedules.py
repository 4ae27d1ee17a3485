"""Schedules: when runs of which assets are asked for, as values and rules (docs/formats.md#deployed-manifest)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Final, Literal, Protocol

from springline.definitions.instants import BadTiming, timing_of
from springline.definitions.judging import Node
from springline.definitions.partitions import FieldProblem, PartitionKind, Partitions
from springline.definitions.selection import BadSelection, select_nodes

Overlap = Literal["allow", "skip", "queue_one"]
_SECOND: Final = timedelta(seconds=1)
OVERLAPS: Final[tuple[Overlap, ...]] = ("allow", "skip", "queue_one")


class DeclaredTiming(Protocol):
    """What says when a schedule is due: a cron line in a zone, or an interval."""

    @property
    def cron(self) -> str | None:
        """The cron line, None if it has an interval."""

    @property
    def interval_seconds(self) -> int | None:
        """Seconds between two instants, None if it has a cron line."""

    @property
    def timezone(self) -> str:
        """A name of the tz database."""


def timing_problems(declared: DeclaredTiming) -> Iterator[FieldProblem]:
    """Yield what is wrong with when a schedule is due."""
    if (declared.cron is None) == (declared.interval_seconds is None):
        what = "it has neither a cron line nor an interval" if declared.cron is None else "it has both"
        yield FieldProblem("cron", what, "Give a cron line such as '0 4 * * *', or an interval.")
    # Each by itself, so that everything is told at once.
    for part in (
        partial(timing_of, "@daily" if declared.cron is None else declared.cron, "UTC"),
        partial(timing_of, "@daily", declared.timezone),
        partial(timing_of, "@daily", "UTC", interval_s=declared.interval_seconds),
    ):
        try:
            part()
        except BadTiming as error:
            yield FieldProblem(error.field, f"{error.field} {error.message}", error.remedy)


class NothingToMake(Exception):
    """An instant at which a schedule can ask for no run. `reason_code` is for programs, `message` for people."""

    def __init__(self, reason_code: str, message: str) -> None:
        super().__init__(message)
        self.reason_code = reason_code
        self.message = message


CANNOT_SELECT: Final = "CANNOT_SELECT"
NO_PARTITION: Final = "NO_PARTITION"


@dataclass(frozen=True, slots=True)
class ScheduledRun:
    """What a run of a schedule makes: assets, and keys of partitions (None if no asset has any)."""

    assets: tuple[str, ...]
    partitions: tuple[str, ...] | None


def selection_problem(nodes: Mapping[str, Node], terms: Sequence[str]) -> FieldProblem | None:
    """Return why no run of this selection could be planned, whatever the instant; None if one can."""
    try:
        chosen = select_nodes(nodes, terms)
    except BadSelection as error:
        return FieldProblem("select", error.message.rstrip("."), error.remedy)
    for key in sorted(chosen):
        for edge in nodes[key].dependencies:
            if getattr(edge, "argument", None) is not None and edge.asset in nodes and edge.asset not in chosen:
                return FieldProblem(
                    "select",
                    f"the selection has {key}, which takes the output of {edge.asset}, and not {edge.asset}",
                    f"Select {edge.asset} too, for example by '*{key}'.",
                )
    return _mixed(nodes, sorted(chosen))


def _mixed(nodes: Mapping[str, Node], chosen: Sequence[str]) -> FieldProblem | None:
    """Return the problem of days and weeks in one selection: the key of a week is that of a day, too."""
    by_day: dict[tuple[object, ...], str] = {}
    for key in chosen:
        own = nodes[key].partitions
        if own is not None and own.kind in (PartitionKind.DAILY, PartitionKind.WEEKLY):
            weekday = own.first_weekday if own.kind is PartitionKind.WEEKLY else None
            by_day.setdefault((own.kind, own.timezone or "UTC", weekday), key)
    if len(by_day) < 2:
        return None
    first, second = sorted(by_day.values())[:2]
    return FieldProblem(
        "select",
        f"the selection has {first} and {second}, whose days or weeks differ and have keys of the same form",
        "Give each a schedule of its own.",
    )


class ScheduledSelection:
    """What the runs of a schedule make: assets, and partitions by the instant. Raises `NothingToMake`.

    A selection costs far more than the partitions of an instant: whoever plans for many instants selects once.
    """

    def __init__(self, nodes: Mapping[str, Node], terms: Sequence[str]) -> None:
        problem = selection_problem(nodes, terms)
        if problem is not None:
            raise NothingToMake(CANNOT_SELECT, f"{problem.message}. {problem.remedy}")
        self.assets = tuple(sorted(select_nodes(nodes, terms)))
        # Of assets with the same partitions the first speaks for all.
        self._partitions: dict[Partitions, str] = {}
        for asset in self.assets:
            partitions = nodes[asset].partitions
            if partitions is not None:
                self._partitions.setdefault(partitions, asset)

    def run_at(self, instant: datetime) -> ScheduledRun:
        """Return what a run at an instant makes. Raises `NothingToMake`.

        The instant picks the partition of each asset: of one by time the last that was complete at the instant, of a
        static one all.
        """
        keys = {key for partitions, asset in self._partitions.items() for key in _keys_at(asset, partitions, instant)}
        return ScheduledRun(self.assets, tuple(sorted(keys)) if self._partitions else None)


def scheduled_run(nodes: Mapping[str, Node], terms: Sequence[str], instant: datetime) -> ScheduledRun:
    """Return what a schedule's run at an instant makes, as `ScheduledSelection` does. Raises `NothingToMake`."""
    return ScheduledSelection(nodes, terms).run_at(instant)


def _keys_at(asset: str, partitions: Partitions, instant: datetime) -> Iterator[str]:
    time = partitions.time
    if time is None:
        yield from partitions.keys_at_time()
        return
    key = last_complete(time, instant)
    if key is None:
        raise NothingToMake(NO_PARTITION, f"no partition of {asset} was complete and is not behind its end")
    yield from partitions.keys_at_time(key)


def last_complete(partitions: Partitions, instant: datetime) -> str | None:
    """Return the key of the last partition by time that has ended at an instant.

    None before the end of the first, and as soon as one more than the last would have ended.
    """
    # The partition that holds the instant; the one before it is complete.
    (holding, *_) = partitions.overlapping(instant, instant.replace(microsecond=0) + _SECOND)
    try:
        return partitions.key_at(holding - 1)
    except IndexError:
        return None
