"""A sensor and a backfill beside the demo's pipeline: what comes for them, and what must be true of it in the end.

What was due is known from the source and from the demo itself, and what was made from tables and from what functions
have noted. What the ledger says is compared with that.
"""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

import duckdb
import orjson
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable
from pyarrow import parquet

from springline.client import Springline
from springline.definitions.ids import task_key
from springline.demo.data import MONTHS, ROW
from springline.errors import Code, Refused
from springline.ledger.identifiers import sensor_run_key

SENSOR: Final = "new_files"
ROUTES: Final = "routes"
"""The asset that the backfill makes, and its table."""
CHUNK_SIZE: Final = 3
AT_ONCE: Final = 2
"""Chunks of the backfill that may be under way at the same time."""
ARRIVING: Final = "arriving"
ITEMS: Final = "items.txt"
LOOKS: Final = "looks.txt"

Rows = list[dict[str, Any]]


class ItemNote(NamedTuple):
    """That a function was at work on a file or a month: when, in seconds of the machine's clock, and in which run."""

    at_s: float
    run_id: str
    item: str


class SeenFiles(NamedTuple):
    """An evaluation of the sensor that is on record: how it ended, what it asked for runs of, and why it failed."""

    status: str
    files: list[str]
    error: str | None = None


class MadeChunk(NamedTuple):
    """A chunk of the backfill that is on record."""

    place: int
    months: list[str]
    outcome: str
    run_id: str


@dataclass
class DemoAutomation:
    """What became of the sensor and the backfill. `problems` is empty if all is right."""

    backfill_id: str = ""
    files: list[str] = field(default_factory=list)
    """Those that came, in their order."""
    looks: int = 0
    """How often the sensor's function was called."""
    evaluations: list[SeenFiles] = field(default_factory=list)
    chunks: list[MadeChunk] = field(default_factory=list)
    at_once: int = 0
    problems: list[str] = field(default_factory=list)


class Arrivals(threading.Thread):
    """Puts one file after the other where the sensor looks: the flights of each month that did not take off."""

    def __init__(self, folder: Path, source: pa.Table, every_s: float) -> None:
        super().__init__(name="arrivals", daemon=True)
        self._folder, self._every_s = folder, every_s
        (folder / ARRIVING).mkdir()
        (folder / LOOKS).touch()
        (folder / ITEMS).touch()
        grounded = cancelled(source)
        self._left = {
            f"{month}.parquet": rows
            for number, month in enumerate(MONTHS, 1)
            if (rows := grounded.filter(pc.equal(grounded["month"], number))).num_rows
        }
        self.total = len(self._left)
        self.came: list[str] = []
        self._ended = threading.Event()

    def run(self) -> None:
        """Put all of them, or those until told to stop."""
        for name, rows in self._left.items():
            # Nobody sees half of a file.
            written = self._folder / f"{name}.part"
            parquet.write_table(rows, written)
            written.rename(self._folder / ARRIVING / name)
            self.came.append(name)
            if self._ended.wait(self._every_s):
                return

    def stop(self) -> None:
        """Put no more."""
        self._ended.set()
        self.join()


def cancelled(source: pa.Table) -> pa.Table:
    """Return the flights that did not take off."""
    return source.filter(pc.is_null(source["dep_time"]))


def start_backfill(lake: Springline) -> str:
    """Ask for the routes of every month, and return the backfill's id."""
    asked = lake.backfills.create(
        ROUTES,
        start=MONTHS[0],
        end=MONTHS[-1],
        chunk_size=CHUNK_SIZE,
        max_concurrent_runs=AT_ONCE,
        request_id="a-year-of-routes",
    )
    return str(asked["backfill_id"])


def check_automation(
    lake: Springline, folder: Path, source: pa.Table, found: Mapping[str, Rows], done: DemoAutomation
) -> None:
    """Compare what was made with what was due, and then what is on record with what was made.

    `found`: the rows of `sensor_evals`, `backfill_chunks`, `x_chunks` and `runs`. `done` has what came.
    """
    notes = notes_in((folder / ITEMS).read_text())
    done.looks = len((folder / LOOKS).read_text().splitlines())
    of_files = [one for one in notes if one.item not in MONTHS]
    of_months = [one for one in notes if one.item in MONTHS]
    done.problems += problems_of_items("file", done.files, of_files)
    done.problems += problems_of_items("month of routes", MONTHS, of_months)
    done.at_once = most_at_once(of_months)
    if done.at_once > AT_ONCE:
        done.problems.append(f"{done.at_once} chunks were under way at once, and {AT_ONCE} is the most")
    _check_tables(lake, source, done)
    done.evaluations = evaluations_in(found["sensor_evals"])
    done.problems += problems_of_evaluations(done.evaluations, done.files, found["runs"], of_files)
    done.chunks = chunks_in(found["backfill_chunks"], found["x_chunks"], found["runs"])
    done.problems += problems_of_chunks(done.chunks, of_months)


def notes_in(text: str) -> list[ItemNote]:
    """Return what functions have noted, in its order."""
    return [ItemNote(float(at_s), run_id, item) for at_s, run_id, item in (line.split() for line in text.splitlines())]


def problems_of_items(what: str, due: Collection[str], notes: Iterable[ItemNote]) -> list[str]:
    """Say which item that was due was made by no run or by several, and which was made that was not due."""
    by: defaultdict[str, set[str]] = defaultdict(set)
    for one in notes:
        by[one.item].add(one.run_id)
    wrong = [f"{what} {item} was made by {len(by[item])} runs, and not by one" for item in due if len(by[item]) != 1]
    return wrong + [f"{what} {item} was made, and was not due" for item in sorted(by.keys() - set(due))]


def most_at_once(notes: Iterable[ItemNote]) -> int:
    """Return how many runs were at work at the same time at most, each from its first note to its last."""
    span: dict[str, tuple[float, float]] = {}
    for one in notes:
        first, last = span.get(one.run_id, (one.at_s, one.at_s))
        span[one.run_id] = min(first, one.at_s), max(last, one.at_s)
    # Where one ends and another begins at the same instant, they are counted together.
    return max((sum(first <= at <= last for first, last in span.values()) for at, _ in span.values()), default=0)


def evaluations_in(rows: Rows) -> list[SeenFiles]:
    """Return the sensor's evaluations in the order in which they counted."""
    own = sensor_run_key(SENSOR, "")
    found = []
    for row in sorted(rows, key=lambda one: str(one["row_version"])):
        if row["sensor_id"] == SENSOR:
            asked = orjson.loads(row["run_requests"] or "[]")
            files = [str(one["run_key"]).removeprefix(own) for one in asked]
            status = orjson.loads(row["status"])
            found.append(SeenFiles(status["status"], files, status.get("message")))
    return found


def problems_of_evaluations(
    evaluations: Iterable[SeenFiles], files: Sequence[str], runs: Rows, notes: Iterable[ItemNote]
) -> list[str]:
    """Say of which file not exactly one evaluation asked for a run, or of which another run was made than is known."""
    asked = Counter(file for one in evaluations for file in one.files)
    times = [(file, asked[file]) for file in [*files, *sorted(asked.keys() - set(files))]]
    wrong = [f"{count} evaluations asked for a run of {file}" for file, count in times if count != 1]
    wrong += [f"an evaluation asked for a run of {file}, which never came" for file in asked if file not in files]
    own = sensor_run_key(SENSOR, "")
    known = {
        (row["run_id"], str(row["run_key"]).removeprefix(own))
        for row in runs
        if str(row["run_key"] or "").startswith(own)
    }
    made = {(one.run_id, one.item) for one in notes}
    return wrong + [f"run {run_id} of {file} is not on record as it was made" for run_id, file in sorted(known ^ made)]


def chunks_in(chunks: Rows, ends: Rows, runs: Rows) -> list[MadeChunk]:
    """Return the chunks on record by their position."""
    ended = {row["chunk_id"]: row["outcome"] for row in ends}
    run_ids = {row["run_key"]: row["run_id"] for row in runs}
    return sorted(
        MadeChunk(
            row["chunk_index"],
            orjson.loads(row["partition_keys"]),
            str(ended.get(row["chunk_id"]) or "not ended"),
            str(run_ids.get(row["run_key"]) or "none"),
        )
        for row in chunks
    )


def problems_of_chunks(chunks: Sequence[MadeChunk], notes: Iterable[ItemNote]) -> list[str]:
    """Say where the chunks on record are not the year cut into chunks, or not what was made."""
    cut = [list(MONTHS[start : start + CHUNK_SIZE]) for start in range(0, len(MONTHS), CHUNK_SIZE)]
    if [(one.place, one.months) for one in chunks] != list(enumerate(cut)):
        return [f"the chunks on record are {[one.months for one in chunks]}, and not {cut}"]
    wrong = [f"chunk {one.place} is {one.outcome}" for one in chunks if one.outcome != "SUCCEEDED"]
    known = {(one.run_id, month) for one in chunks for month in one.months}
    made = {(one.run_id, one.item) for one in notes}
    return wrong + [
        f"run {run_id} of {task_key(ROUTES, month)} is not on record as it was made"
        for run_id, month in sorted(known ^ made)
    ]


def _check_tables(lake: Springline, source: pa.Table, done: DemoAutomation) -> None:
    """Compare both tables, read by a foreign library, with the source: whatever was made twice is there twice."""
    due = cancelled(source)
    read = _read(lake, "cancellations")
    rows = 0 if read is None else read.num_rows
    if read is None or not read.select(source.column_names).sort_by(ROW).cast(source.schema).equals(due):
        done.problems.append(f"cancellations has {rows} rows and is not those of the source, {due.num_rows} rows")
    at_once = "SELECT month, origin, dest, count(*) FROM flights GROUP BY ALL ORDER BY ALL"
    counted = duckdb.from_arrow(source).query("flights", at_once).fetchall()
    made = _read(lake, ROUTES)
    told = []
    if made is not None:
        as_made = "SELECT month, origin, dest, flights FROM routes ORDER BY ALL"
        told = duckdb.from_arrow(made).query("routes", as_made).fetchall()
    if told != counted:
        done.problems.append(f"routes has {len(told)} rows, and they differ from the {len(counted)} computed at once")


def _read(lake: Springline, name: str) -> pa.Table | None:
    """Return a table as it is, or None if nobody has made it."""
    try:
        location = lake.table(name).location
    except Refused as error:
        if error.refusal.code is not Code.TABLE_NOT_FOUND:
            raise
        return None
    return pa.table(DeltaTable(location).to_pyarrow_table())
