"""`make bench-append`: the client's appends beside `deltalake` on the same frames, in one run, as ratios.

    python -m bench.append [--quick] [--only NAME ...] [--repeat N] [--out FILE]

Both sides take turns, so that whatever else the machine does meets both. Times are medians of the turns. Exit code 0
if every row was found afterwards, targets met or not; 1 if not; 2 for bad options.
"""

from __future__ import annotations

import argparse
import fnmatch
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

import deltalake
import orjson
import pyarrow as pa
from rich.console import Console
from rich.table import Table

from bench.append_writer import SCHEMA, frame, partitioned
from springline.client import Springline
from springline.client.scratch import flush
from springline.client.table import DeltaTable
from springline.local.processes import signals_unwind
from springline.local.stack import EmbeddedStack
from springline.paths import DELTA_LOG_FOLDER, Scope

RESULTS = Path(__file__).parent / "results" / "append.json"
SCOPE = Scope("bench", "append")
PROCESSES = 8
APPENDS = 20
GIB = 1024**3
WIDTH = 120


@dataclass(frozen=True, slots=True)
class Result:
    """What one cell came to: both sides' figures, what they are held against, and whether that was met."""

    ours: float
    theirs: float
    unit: str
    figure: float
    target: str
    met: bool
    note: str = ""


class Wrong(Exception):
    """The table does not hold what was appended."""


class Bench:
    """Tables of both sides, made for each cell."""

    def __init__(self, stack: EmbeddedStack, lake: Springline, folder: Path, *, repeat: int, quick: bool) -> None:
        self.stack = stack
        self.lake = lake
        self.folder = folder
        self.repeat = repeat
        self.quick = quick
        self._made = 0

    def tables(self, schema: pa.Schema, partition_by: Sequence[str] = ()) -> tuple[DeltaTable, Path]:
        """Return a new table of each side, with this schema."""
        self._made += 1
        ours = self.lake.create_table(f"cell-{self._made}", schema, partition_by=partition_by)
        theirs = self.folder / f"cell-{self._made}"
        empty = schema.empty_table()
        deltalake.write_deltalake(theirs, empty, partition_by=list(partition_by) or None)
        return ours, theirs

    def timed(
        self, rows: pa.Table, partition_by: Sequence[str] = (), *, repeat: int
    ) -> tuple[list[float], list[float], list[float]]:
        """Append the rows on both sides in turn; return the seconds of each, the first turn left out.

        What flushing the peer's files would take, which the client's append includes and the peer's does not, is
        measured beside, by the same calls, and returned last.
        """
        ours, theirs = self.tables(rows.schema, partition_by)
        took: tuple[list[float], list[float], list[float]] = ([], [], [])
        for turn in range(repeat + 1):
            sides: tuple[Callable[[], object], ...] = (
                lambda: ours.append(rows),
                lambda: deltalake.write_deltalake(theirs, rows, mode="append"),
            )
            for side in (0, 1) if turn % 2 else (1, 0):
                began = time.perf_counter()
                sides[side]()
                ended = time.perf_counter()
                if side == 1:
                    flush(_written(theirs), theirs)
                if turn:
                    took[side].append(ended - began)
                    if side == 1:
                        took[2].append(time.perf_counter() - ended)
        check(ours, rows.num_rows * (repeat + 1))
        return took

    def children(self, side: str, work: str, target: str, number: float, count: int = 1) -> list[dict[str, Any]]:
        """Run `count` writers at once and return what each printed."""
        command = [sys.executable, "-m", "bench.append_writer", side, work, target, str(number)]
        environment = self.stack.child_environment()
        environment |= {"SPRINGLINE_API_URL": self.stack.api_url, "SPRINGLINE_TOKEN": self.stack.token()}
        running = [
            subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                cwd=Path(__file__).parents[1],
            )
            for _ in range(count)
        ]
        for one in running:
            _pipe(one.stdout).readline()
        for one in running:
            _pipe(one.stdin).write(b"begin\n")
            _pipe(one.stdin).flush()
        outputs = [one.communicate()[0] for one in running]
        if any(one.returncode for one in running):
            raise Wrong(f"a writer of {side} ended with {[one.returncode for one in running]}")
        return [orjson.loads(output) for output in outputs]


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    assert pipe is not None
    return pipe


def _written(folder: Path) -> list[str]:
    """Return the data files of a table's newest version, and its folder."""
    log = max((folder / DELTA_LOG_FOLDER).glob("*.json"))
    lines = [orjson.loads(line) for line in log.read_bytes().split(b"\n") if line]
    return [str(folder), *(f"{folder}/{line['add']['path']}" for line in lines if "add" in line)]


def check(table: DeltaTable, rows: int) -> None:
    """Raise `Wrong` unless the table has so many rows, counted by a foreign reader."""
    found = deltalake.DeltaTable(table.location).to_pyarrow_dataset().count_rows()
    if found != rows:
        raise Wrong(f"{table.name} has {found} rows where {rows} were appended")


def ratio(bench: Bench, rows: pa.Table, most: float, partition_by: Sequence[str] = ()) -> Result:
    """Hold the median time of one append against `most` times deltalake's."""
    ours, theirs, flushed = (statistics.median(one) for one in bench.timed(rows, partition_by, repeat=bench.repeat))
    return Result(ours, theirs, "s", ours / theirs, f"at most {most:g}x", ours <= most * theirs, _flushing(flushed))


def small(bench: Bench) -> Result:
    """Hold the median latency of 1,000 rows against deltalake's and 50 ms."""
    turns = 20 if bench.quick else 60
    ours, theirs, flushed = (statistics.median(one) * 1000 for one in bench.timed(frame(1_000), repeat=turns))
    over = ours - theirs
    return Result(ours, theirs, "ms p50", over, "at most 50 ms over", over <= 50, _flushing(flushed / 1000))


def _flushing(seconds: float) -> str:
    """Tell what the peer leaves out: a power failure takes its last commits."""
    return f"flushing deltalake's files: {seconds * 1000:.0f} ms more"


def crowd(bench: Bench) -> Result:
    """Hold appends a second of eight processes on one table against twice deltalake's."""
    ours, theirs = bench.tables(SCHEMA)
    rates = []
    failed = []
    for side, target in (("springline", ours.name), ("deltalake", str(theirs))):
        done = bench.children(side, "appends", target, APPENDS, PROCESSES)
        slowest = max(sum(one["seconds"]) for one in done)
        failed.append(sum(len(one["errors"]) for one in done))
        rates.append((PROCESSES * APPENDS - failed[-1]) / slowest)
    check(ours, (PROCESSES * APPENDS - failed[0]) * 1_000)
    met = failed[0] == 0 and rates[0] >= 2 * rates[1]
    note = f"failed: {failed[0]} and {failed[1]}"
    return Result(rates[0], rates[1], "appends/s", rates[0] / rates[1], "at least 2x, none failed", met, note)


def memory(bench: Bench) -> Result:
    """Hold the peak memory of appending one frame of a gigabyte against deltalake's."""
    gigabytes = 0.25 if bench.quick else 1.0
    ours, theirs = bench.tables(SCHEMA)
    peaks = [
        bench.children(side, "frame", target, gigabytes)[0]["peak"] / GIB
        for side, target in (("springline", ours.name), ("deltalake", str(theirs)))
    ]
    met = peaks[0] <= 1.1 * peaks[1]
    return Result(peaks[0], peaks[1], "GiB peak", peaks[0] / peaks[1], "at most 1.1x", met, f"{gigabytes:g} GB")


def endless(bench: Bench) -> Result:
    """Hold the peak memory of appending a long stream of batches against 1 GiB."""
    gigabytes = 2.0 if bench.quick else 10.0
    ours, theirs = bench.tables(SCHEMA)
    mine = bench.children("springline", "reader", ours.name, gigabytes)[0]
    their = bench.children("deltalake", "reader", str(theirs), gigabytes)[0]
    peak = mine["peak"] / GIB
    note = f"{gigabytes:g} GB in {mine['seconds'][0]:.0f} s, deltalake {their['seconds'][0]:.0f} s"
    return Result(peak, their["peak"] / GIB, "GiB peak", peak, "under 1 GiB", peak < 1, note)


CELLS: Mapping[str, Callable[[Bench], Result]] = {
    "1M rows": lambda bench: ratio(bench, frame(1_000_000), 1.3),
    "100,000 rows": lambda bench: ratio(bench, frame(100_000), 1.5),
    "5,000 partitions of 10 rows": lambda bench: ratio(bench, partitioned(5_000, 10), 1.5, ["part"]),
    "1,000 rows": small,
    "8 processes x 20 x 1,000 rows": crowd,
    "one frame of 1 GB": memory,
    "a reader of 10 GB": endless,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the chosen cells, print and write what came of them; return the exit code."""
    options = _options(arguments)
    console = Console(width=max(Console().width, WIDTH))
    names = [name for name in CELLS if not options.only or any(fnmatch.fnmatch(name, one) for one in options.only)]
    if not names:
        console.print(f"no such cell; there are {', '.join(CELLS)}", style="red")
        return 2
    results: dict[str, Result] = {}
    wrong: list[str] = []
    with signals_unwind(), tempfile.TemporaryDirectory(prefix="springline-bench-") as temporary:
        folder = Path(temporary)
        with (
            EmbeddedStack(folder / "stack", scope=SCOPE, say=lambda _: None) as stack,
            Springline(stack.api_url, stack.token(), deadline_s=300) as lake,
        ):
            bench = Bench(
                stack, lake, folder / "peer", repeat=options.repeat or (3 if options.quick else 7), quick=options.quick
            )
            (folder / "peer").mkdir()
            for name in names:
                try:
                    results[name] = CELLS[name](bench)
                except Wrong as error:
                    wrong.append(f"{name}: {error}")
                    continue
                console.print(_line(name, results[name]), style="dim", highlight=False)
    console.print(_table(results))
    options.out.parent.mkdir(exist_ok=True)
    options.out.write_bytes(
        orjson.dumps({name: asdict(one) for name, one in results.items()}, option=orjson.OPT_INDENT_2)
    )
    for line in wrong:
        console.print(line, style="bold red")
    if missed := [name for name, one in results.items() if not one.met]:
        console.print(f"targets missed: {', '.join(missed)}", style="red")
    return 1 if wrong else 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.append", description="Measure the client's appends.")
    parser.add_argument(
        "--quick", action="store_true", help="fewer turns, smaller streams: an impression, not a result"
    )
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="a cell; wildcards, repeatable")
    parser.add_argument("--repeat", type=int, help="turns of each timed cell")
    parser.add_argument("--out", type=Path, default=RESULTS, help="results file (JSON)")
    return parser.parse_args(arguments)


def _line(name: str, one: Result) -> str:
    return f"{name}: {one.ours:.3g} {one.unit}, deltalake {one.theirs:.3g}: {one.figure:.2f} ({one.target}) {one.note}"


def _table(results: Mapping[str, Result]) -> Table:
    table = Table(title="Appends, Springline beside deltalake")
    for heading in ("cell", "springline", "deltalake", "unit", "figure", "target", "met", "note"):
        table.add_column(heading, justify="right" if heading in ("springline", "deltalake", "figure") else "left")
    for name, one in results.items():
        met = "[green]yes[/]" if one.met else "[red]no[/]"
        figures = (f"{one.ours:.3g}", f"{one.theirs:.3g}", one.unit, f"{one.figure:.2f}")
        table.add_row(name, *figures, one.target, met, one.note)
    return table


if __name__ == "__main__":
    sys.exit(main())
