"""`schedule(...)`: declaring when runs of which assets are asked for.

A declaration never raises. What is wrong with it is kept, and told with everything else that is wrong with the file.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from types import FrameType
from typing import Any, Final

from springline.definitions.durations import duration_ms
from springline.definitions.ids import meant, problem_of_id
from springline.definitions.limits import (
    DEFAULT_CATCHUP_MINUTES,
    DEFAULT_CATCHUP_TICKS,
    MAX_ACTIVE_RUNS_OF_SCHEDULE,
    MAX_CATCHUP_MINUTES,
    MAX_CATCHUP_TICKS,
    MAX_JITTER_S,
    MAX_SELECT,
    MAX_TERM,
)
from springline.definitions.schedules import OVERLAPS, Overlap, timing_problems
from springline.sdk.assets import Asset
from springline.sdk.collecting import Declarations
from springline.sdk.errors import SourceProblem
from springline.sdk.selecting import NoTerm, terms_of

_OPTIONS: Final = (
    *("cron", "every", "timezone", "select", "catchup_window", "max_catchup_ticks", "overlap", "max_active_runs"),
    "jitter",
)
_OTHER_NAMES: Final = {
    "tz": "timezone",
    "execution_timezone": "timezone",
    "cron_schedule": "cron",
    "interval": "every",
    "assets": "select",
    "selection": "select",
    "target": "select",
    "catchup": "catchup_window",
    "concurrency": "max_active_runs",
}
"""What other tools call it."""


@dataclass(frozen=True, slots=True)
class _Due:
    cron: str | None
    interval_seconds: int | None
    timezone: str


class Schedule:
    """A schedule as it is declared.

    Attributes:
        schedule_id: unique in the workspace.
        file, line: where it is declared.
        select: terms of the selection.
        problems: what is wrong with the declaration by itself.
    """

    def __init__(self, schedule_id: Any, options: Mapping[str, Any], frame: FrameType | None) -> None:
        self.file = "<unknown>" if frame is None else frame.f_code.co_filename
        self.line = None if frame is None else frame.f_lineno
        self.schedule_id = str(schedule_id)
        self._problems: list[tuple[str, str]] = []
        problem = problem_of_id(schedule_id)
        if problem is not None:
            self._problems.append((f"has an id that {problem[0]}", problem[1]))
        for name in options:
            if name not in _OPTIONS:
                instead = _OTHER_NAMES.get(name)
                near = f"Did you mean {instead}? " if instead else meant(name, _OPTIONS)
                self._problems.append((f"has the unknown option {name}", f"{near}There are {', '.join(_OPTIONS)}."))
        given = {name: value for name, value in options.items() if value is not None}
        self.cron = self._text("cron", given.get("cron"))
        self.interval_seconds = self._seconds("every", given.get("every"), 1, 366 * 86_400)
        self.timezone = self._text("timezone", given.get("timezone")) or "UTC"
        window = self._seconds("catchup_window", given.get("catchup_window"), 60, MAX_CATCHUP_MINUTES * 60)
        self.catchup_window_minutes = DEFAULT_CATCHUP_MINUTES if window is None else window // 60
        ticks = self._whole("max_catchup_ticks", given.get("max_catchup_ticks"), 1, MAX_CATCHUP_TICKS)
        self.max_catchup_ticks = DEFAULT_CATCHUP_TICKS if ticks is None else ticks
        self.overlap: Overlap = self._overlap(given.get("overlap", "allow"))
        self.max_active_runs = self._whole(
            "max_active_runs", given.get("max_active_runs"), 1, MAX_ACTIVE_RUNS_OF_SCHEDULE
        )
        self.jitter_seconds = self._seconds("jitter", given.get("jitter"), 0, MAX_JITTER_S)
        self.select = self._selection(options.get("select"))
        told = {name for name in ("cron", "every") if name in given}
        due = {name for name, value in (("cron", self.cron), ("every", self.interval_seconds)) if value is not None}
        for wrong in timing_problems(_Due(self.cron, self.interval_seconds, self.timezone)):
            # A cron line or interval that is no text or no duration is told already.
            if due or not told or wrong.field != "cron":
                self._problems.append((f"cannot be: {wrong.message}", wrong.remedy))
        DECLARED_SCHEDULES.add(self)

    def __repr__(self) -> str:
        return f"<schedule {self.schedule_id}>"

    @property
    def problems(self) -> list[SourceProblem]:
        """What is wrong with the declaration by itself."""
        return [self.problem(message, remedy) for message, remedy in self._problems]

    def problem(self, message: str, remedy: str) -> SourceProblem:
        """Return a problem of this schedule, at its place."""
        return SourceProblem(self.file, self.line, f"schedule {self.schedule_id} {message}", remedy)

    def _text(self, name: str, value: Any) -> str | None:
        if value is None or isinstance(value, str):
            return value
        self._problems.append((f"has {name} {_short(value)}, which is no text", "Give a text."))
        return None

    def _seconds(self, name: str, value: Any, least: int, most: int) -> int | None:
        if value is None:
            return None
        try:
            ms = duration_ms(value)
        except ValueError as error:
            self._problems.append((f"has {name} {_short(value)}, which {error}", "Give a duration such as '15m'."))
            return None
        seconds = ms // 1_000
        if ms % 1_000 or not least <= seconds <= most:
            range_of = f"from {least} s to {most // 60:,} min"
            self._problems.append(
                (f"has {name} {_short(value)}, which is out of range", f"Give whole seconds, {range_of}.")
            )
            return None
        return seconds

    def _whole(self, name: str, value: Any, least: int, most: int) -> int | None:
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            said = "is no whole number" if isinstance(value, bool) or not isinstance(value, int) else "is out of range"
            self._problems.append(
                (f"has {name} {_short(value)}, which {said}", f"Give a number from {least} to {most}.")
            )
            return None
        return value

    def _overlap(self, value: Any) -> Overlap:
        for one in OVERLAPS:
            if value == one:
                return one
        near = meant(value, OVERLAPS) if isinstance(value, str) else ""
        remedy = f"{near}There are {', '.join(OVERLAPS)}."
        self._problems.append((f"has overlap {_short(value)}, which there is not", remedy))
        return "allow"

    def _selection(self, value: Any) -> list[str]:
        remedy = "Give what it makes: select='*delays', an asset, or a list of them."
        if value is None:
            self._problems.append(("selects nothing", remedy))
            return []
        try:
            found = terms_of(value)
        except NoTerm as error:
            self._problems.append((f"selects {_short(error.value)}, which is no asset", remedy))
            return []
        if not found or len(found) > MAX_SELECT or any(len(term) > MAX_TERM for term in found):
            self._problems.append(
                (f"selects {len(found)} terms", f"Give 1 to {MAX_SELECT}, of at most {MAX_TERM} characters each.")
            )
            return []
        return list(dict.fromkeys(found))


def schedule(
    schedule_id: str,
    cron: str | None = None,
    *,
    every: str | timedelta | None = None,
    timezone: str | None = None,
    select: str | Asset[..., Any] | Sequence[str | Asset[..., Any]] | None = None,
    catchup_window: str | timedelta | None = None,
    max_catchup_ticks: int | None = None,
    overlap: Overlap | None = None,
    max_active_runs: int | None = None,
    jitter: str | timedelta | None = None,
    **unknown: Any,
) -> Schedule:
    """Declare when runs of some assets are asked for. Nothing runs; what is wrong is told when the file is validated.

    The instant picks the partition: of an asset by time the last that is complete, of a static one all.

    Args:
        schedule_id: unique in the workspace.
        cron: a cron line of five fields, or six with seconds first; 0 and 7 are Sunday.
        every: instead of `cron`, an interval such as "15m": due at its whole multiples since 1970, UTC.
        timezone: of the cron line, such as "Europe/Oslo"; by default UTC.
        select: what is made: `"*delays"` with all that it depends on, an asset, or a list of them.
        catchup_window: instants further back are not caught up after an outage; by default a day.
        max_catchup_ticks: how many missed instants are caught up, the latest ones; by default 10.
        overlap: while a run of it has not ended: "allow" another (the default), "skip" the instant, or let the last
            instant wait ("queue_one").
        max_active_runs: how many of its runs may be under way at once.
        jitter: runs are asked for up to so much later, always the same for one schedule.
    """
    options = {
        "cron": cron,
        "every": every,
        "timezone": timezone,
        "select": select,
        "catchup_window": catchup_window,
        "max_catchup_ticks": max_catchup_ticks,
        "overlap": overlap,
        "max_active_runs": max_active_runs,
        "jitter": jitter,
        **unknown,
    }
    return Schedule(schedule_id, options, sys._getframe(1))


DECLARED_SCHEDULES: Final[Declarations[Schedule]] = Declarations()


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
