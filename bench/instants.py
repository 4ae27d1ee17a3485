"""`make bench-instants`: which instants we and four peers name for the same cron lines.

    python -m bench.instants [--only NAME ...] [--out FILE]

Dagster, Airflow and Prefect are asked by the code that their own schedulers call, Temporal by what its server says of
schedules. Each line is asked about over a window in which something is unusual: clocks change, or a day does not exist.
What is right is written here beside each line, by hand and not by what we compute: a line of hours names each hour that
elapses, and any other each time on the clock once, the first of two, the end of a gap (docs/protocol.md#schedules). Who
follows another policy is not wrong; who loses or doubles an instant is. Prints a table and writes one JSON document.
Exit code 0 if we name what is right, 1 if not, 4 if a peer cannot be installed or does not answer.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from rich import box
from rich.console import Console
from rich.table import Table
from temporalio.client import Client

from bench.instants_peers import MOST, PROGRAMS, Answer, Asked, answered_by, answered_by_temporal, seconds
from bench.runs_peers import environment_of
from springline.definitions.instants import BadTiming, timing_of
from springline.local.cache import Cache, cache_root
from springline.local.processes import signals_unwind
from springline.local.run import ToolFailed
from springline.local.stack import EmbeddedStack
from springline.paths import Scope

RESULTS: Final = Path(__file__).parent / "results" / "instants.json"
OURS: Final = "Springline"
TEMPORAL: Final = "Temporal"
SCOPE: Final = Scope("bench", "instants")
SIDES: Final = (OURS, *PROGRAMS, TEMPORAL)
_TOLD: Final = 3
"""So many instants are told one by one; of more the number, and the greatest distance of two."""


@dataclass(frozen=True, slots=True)
class Case:
    """A line and a window; `start` and `end` in UTC, without seconds, `end` exclusive.

    `right`: the instants that it should name, in UTC, or how many at equal distances; None: it should be refused.
    """

    what: str
    line: str
    zone: str
    start: str
    end: str
    right: tuple[str, ...] | int | None

    @property
    def asked(self) -> Asked:
        """The line as sides are asked about it."""
        return self.line, self.zone, seconds(self.start), seconds(self.end)

    def is_right(self, answer: Answer) -> bool:
        """Say whether an answer is what it should be."""
        if self.right is None or isinstance(answer, str):
            return self.right is None and isinstance(answer, str)
        if isinstance(self.right, int):
            distances = {later - earlier for earlier, later in pairwise(answer)}
            return len(answer) == self.right and len(distances) <= 1
        return answer == [seconds(one) for one in self.right]


CASES: Final = (
    Case(
        "daily, in the hour that is skipped",
        "30 2 * * *",
        "Europe/Oslo",
        "2026-03-28T23:00",
        "2026-03-29T22:00",
        ("2026-03-29T01:00",),
    ),
    Case(
        "daily, in the hour that comes twice",
        "30 2 * * *",
        "Europe/Oslo",
        "2026-10-24T22:00",
        "2026-10-25T23:00",
        ("2026-10-25T00:30",),
    ),
    Case("hourly, a day of 23 hours", "0 * * * *", "Europe/Oslo", "2026-03-28T23:00", "2026-03-29T22:00", 23),
    Case("hourly, a day of 25 hours", "0 * * * *", "Europe/Oslo", "2026-10-24T22:00", "2026-10-25T23:00", 25),
    Case("each quarter, a day of 25 hours", "*/15 * * * *", "Europe/Oslo", "2026-10-24T22:00", "2026-10-25T23:00", 100),
    Case(
        "three hours of which one is skipped",
        "30 1-3 * * *",
        "Europe/Oslo",
        "2026-03-28T23:00",
        "2026-03-29T22:00",
        ("2026-03-29T00:30", "2026-03-29T01:00", "2026-03-29T01:30"),
    ),
    Case(
        "midnight that is skipped",
        "0 0 * * *",
        "Africa/Cairo",
        "2026-04-23T12:00",
        "2026-04-24T12:00",
        ("2026-04-23T22:00",),
    ),
    Case(
        "midnight that comes twice",
        "0 0 * * *",
        "America/Havana",
        "2026-11-01T03:00",
        "2026-11-02T04:00",
        ("2026-11-01T04:00",),
    ),
    Case(
        "hourly, clocks go back half an hour",
        "0 * * * *",
        "Australia/Lord_Howe",
        "2026-04-04T12:00",
        "2026-04-04T18:00",
        (
            *("2026-04-04T12:00", "2026-04-04T13:00", "2026-04-04T14:00"),
            *("2026-04-04T15:30", "2026-04-04T16:30", "2026-04-04T17:30"),
        ),
    ),
    Case(
        "daily, over a day that did not exist",
        "0 12 * * *",
        "Pacific/Apia",
        "2011-12-29T10:00",
        "2011-12-31T10:00",
        ("2011-12-29T22:00", "2011-12-30T10:00", "2011-12-30T22:00"),
    ),
    Case(
        "the 13th or a Friday",
        "0 0 13 * 5",
        "UTC",
        "2026-12-01T00:00",
        "2026-12-20T00:00",
        ("2026-12-04T00:00", "2026-12-11T00:00", "2026-12-13T00:00", "2026-12-18T00:00"),
    ),
    Case("Sunday as 7", "0 0 * * 7", "UTC", "2026-12-01T00:00", "2026-12-08T00:00", ("2026-12-06T00:00",)),
    Case("29 February", "0 0 29 2 *", "UTC", "2026-01-01T00:00", "2029-01-01T00:00", ("2028-02-29T00:00",)),
    Case("31 April", "0 0 31 4 *", "UTC", "2026-01-01T00:00", "2029-01-01T00:00", None),
    Case("each ten seconds, six fields", "*/10 * * * * *", "UTC", "2026-12-01T00:00", "2026-12-01T00:01", 6),
    Case("a minute that there is not", "60 * * * *", "UTC", "2026-12-01T00:00", "2026-12-01T04:00", None),
    Case("a zone that there is not", "0 0 * * *", "Europe/Olso", "2026-12-01T00:00", "2026-12-03T00:00", None),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Ask, print and write the document; return the exit code."""
    options = _options(arguments)
    with signals_unwind(), tempfile.TemporaryDirectory(prefix="springline-bench-") as folder:
        try:
            answers = {name: _answers(name, Path(folder)) for name in SIDES if name in (options.only or SIDES)}
        except ToolFailed as error:
            sys.stderr.write(f"{error}\n")
            return 4
    document = document_of(answers)
    _print(Console(), answers)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(document, indent=2) + "\n")
    sys.stdout.write(f"written to {options.out}\n")
    return 0 if document["passed"] else 1


def ours(asked: Asked) -> Answer:
    """Return what we name for a line, or how we refuse it."""
    line, zone, start, end = asked
    try:
        found = timing_of(line, zone).between(start - 1, end - 1, MOST)
    except BadTiming as error:
        return f"refused: {error}"
    return found


def document_of(answers: dict[str, list[Answer]]) -> dict[str, Any]:
    """Return what is written of answers, by side; ours decide whether it passes."""
    right = {
        side: [case.is_right(answer) for case, answer in zip(CASES, found, strict=True)]
        for side, found in answers.items()
    }
    return {
        "passed": all(right.get(OURS, [])),
        "right": {side: sum(found) for side, found in right.items()},
        "cases": [
            {
                "what": case.what,
                "line": case.line,
                "zone": case.zone,
                "start": case.start,
                "end": case.end,
                "answers": {side: {"right": right[side][at], "answer": answers[side][at]} for side in answers},
            }
            for at, case in enumerate(CASES)
        ],
    }


def told(case: Case, answer: Answer) -> str:
    """Return an answer for people: times on the clock of the line's zone."""
    if isinstance(answer, str):
        return "refused" if answer.startswith("refused") or "nvalid" in answer else "fails"
    if not answer:
        return "none"
    if len(answer) <= _TOLD:
        try:
            zone = ZoneInfo(case.zone)
        except ZoneInfoNotFoundError:
            return f"{len(answer)} times"
        return ", ".join(_clock(instant, zone) for instant in answer)
    distances = sorted({later - earlier for earlier, later in pairwise(answer)})
    apart = " to ".join(str(timedelta(seconds=one)) for one in dict.fromkeys((distances[0], distances[-1])))
    return f"{len(answer)} times, {apart} apart"


def _clock(instant: int, zone: ZoneInfo) -> str:
    at = datetime.fromtimestamp(instant, zone)
    return f"{at:%d %b %H:%M}{at.isoformat()[-6:]}"


def _answers(side: str, folder: Path) -> list[Answer]:
    asked = [case.asked for case in CASES]
    if side == OURS:
        return [ours(one) for one in asked]
    place = folder / side
    place.mkdir()
    if side == TEMPORAL:
        with EmbeddedStack(place, scope=SCOPE, say=lambda _line: None) as stack:
            return asyncio.run(_of_server(stack.temporal_address, asked))
    packages, program = PROGRAMS[side]
    return answered_by(environment_of(packages, Cache(cache_root())), program, asked, place)


async def _of_server(address: str, asked: Sequence[Asked]) -> list[Answer]:
    return await answered_by_temporal(await Client.connect(address), asked)


def _print(console: Console, answers: dict[str, list[Answer]]) -> None:
    table = Table(box=box.SIMPLE_HEAD, show_lines=True)
    table.add_column("line")
    for side in answers:
        table.add_column(side)
    for at, case in enumerate(CASES):
        cells = []
        for found in answers.values():
            text = told(case, found[at])
            cells.append(text if case.is_right(found[at]) else f"[red]{text}[/red]")
        table.add_row(f"{case.what}\n{case.line} {case.zone}", *cells)
    console.print(table)
    for side, count in document_of(answers)["right"].items():
        console.print(f"{side}: {count} of {len(CASES)} as they should be")


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.instants", description="Compare the instants of cron lines.")
    parser.add_argument("--only", action="append", choices=SIDES, help="ask these alone; repeatable")
    parser.add_argument("--out", type=Path, default=RESULTS, help="results file (JSON)")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
