"""`python -m bench.rebuild`: events per second and memory of rebuilds, everything included.

    python -m bench.rebuild [--events N,N,...] [--only NAME ...] [--list] [--out FILE]

A rebuild in mode `full`, through the real workflow on a Temporal development server with one or two worker processes:
reading, checking, folding, assembling, proving, publishing and reporting. Beside every figure stands the rate at which
`orjson.loads` alone parses the same events on one core in the same run; machines are noisy, and the share of it is
steadier than the rate. Exit code 0 if every state was the one that its events give, targets met or not; 1 if not; 2 for
bad options.
"""

from __future__ import annotations

import argparse
import fnmatch
import itertools
import json
import math
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from rich import box
from rich.console import Console
from rich.table import Table

from bench.ledgers import realistic_ledger
from bench.rebuild_run import Measured, Workbench

RESULTS = Path(__file__).parent / "results" / "rebuild.json"
SEED = 20_250_115
SIZES = (10_000, 100_000, 1_000_000)
LATENCY_S = 0.03
REFERENCE_READS_S = 1 / LATENCY_S
"""The reference reads one event after the other: so many a second when a read takes 30 ms."""
EXPLAINED = """\
objects: one object for each event; segments: sealed segments of 10,000. slow: 30 ms for each call of the store. read, \
fold: seconds from the first to the last of these parts. share: of the rate of orjson.loads alone on one core. MiB: \
peak memory of a worker. Targets (shares, two workers): objects 0.05 at 100k, cost per event at 1M within 1.5x of it; \
segments 0.1; slow objects 50x the reference; two workers 1.6x of one in read and fold."""


@dataclass(frozen=True)
class Cell:
    """One rebuild to measure."""

    source: str
    events: int
    workers: int

    @property
    def name(self) -> str:
        """How it is chosen."""
        return f"{self.source}-{self.events // 1000}k-w{self.workers}"

    @property
    def latency_s(self) -> float:
        """What each call of the store costs, in seconds."""
        return LATENCY_S if self.source == "slow" else 0.0


def cells_of(sizes: Sequence[int]) -> list[Cell]:
    """Return all cells, the small ones first; with a slow store only up to 100,000 events."""
    kinds = itertools.product(sorted(sizes), ("objects", "segments", "slow"), (1, 2))
    return [Cell(source, size, workers) for size, source, workers in kinds if source != "slow" or size <= 100_000]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the chosen cells, print and write what came of them; return the exit code."""
    options = _options(arguments)
    console = Console()
    console.width = max(console.width, 130)
    cells = [
        cell
        for cell in cells_of(options.events)
        if not options.only or any(fnmatch.fnmatch(cell.name, pattern) for pattern in options.only)
    ]
    if not cells:
        console.print(f"no cell is called {', '.join(options.only)}; --list shows them", style="red")
        return 2
    if options.list:
        for cell in cells:
            console.print(cell.name, highlight=False)
        return 0
    rows: list[dict[str, Any]] = []
    for size, group in itertools.groupby(cells, key=lambda cell: cell.events):
        with tempfile.TemporaryDirectory(prefix="springline-bench-") as folder:
            with console.status(f"making {size:,} events"):
                bench = Workbench(Path(folder), realistic_ledger(SEED, size))
                parse_rate = orjson_rate(bench.bodies)
            for cell in group:
                with console.status(cell.name):
                    measured = bench.measure(cell.source == "segments", cell.workers, cell.latency_s)
                rows.append(_row(cell, measured, parse_rate))
                console.print(json.dumps(rows[-1]), style="dim", highlight=False, soft_wrap=True)
    _print(console, rows)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(rows, indent=2) + "\n")
    wrong = [row["cell"] for row in rows if not row["right"]]
    for name in wrong:
        console.print(f"{name}: the state is not the one that its events give", style="bold red")
    return 1 if wrong else 0


def orjson_rate(bodies: Sequence[bytes]) -> float:
    """Return how many of the events `orjson.loads` alone parses in a second on one core: the best of three passes."""
    some = bodies[:200_000]
    best = float("inf")
    for _ in range(3):
        began = time.perf_counter()
        for body in some:
            orjson.loads(body)
        best = min(best, time.perf_counter() - began)
    return len(some) / best


def _row(cell: Cell, measured: Measured, parse_rate: float) -> dict[str, Any]:
    rate = cell.events / measured.seconds
    return {
        "cell": cell.name,
        "events": cell.events,
        "workers": cell.workers,
        "seconds": round(measured.seconds, 2),
        "events_per_s": round(rate),
        "orjson_per_s": round(parse_rate),
        "share": round(rate / parse_rate, 4),
        "read_s": round(measured.read_s, 2),
        "fold_s": round(measured.fold_s, 2),
        "peak_mib": round(measured.peak_mib),
        "times_reference": round(rate / REFERENCE_READS_S, 1) if cell.source == "slow" else None,
        "right": measured.right,
    }


def _print(console: Console, rows: Sequence[dict[str, Any]]) -> None:
    table = Table(box=box.SIMPLE_HEAD, caption=EXPLAINED, caption_justify="left", caption_style="dim")
    for heading in ("cell", "seconds", "events/s", "orjson/s", "share", "read s", "fold s", "MiB", "x ref.", "right"):
        table.add_column(heading, justify="left" if heading == "cell" else "right")
    fields = ("cell", "seconds", "events_per_s", "orjson_per_s", "share", "read_s", "fold_s", "peak_mib")
    for row in rows:
        shown = [f"{row[name]:,}" if isinstance(row[name], int) else str(row[name]) for name in fields]
        table.add_row(*shown, str(row["times_reference"] or ""), "yes" if row["right"] else "NO")
    console.print(table)
    for line in _comparisons({row["cell"]: row for row in rows}):
        console.print(line, highlight=False)


def _comparisons(by_name: dict[str, dict[str, Any]]) -> list[str]:
    """Return what the targets compare: two workers with one, and sizes with each other."""
    lines: list[str] = []
    for name, two in by_name.items():
        one = by_name.get(name.replace("-w2", "-w1")) if name.endswith("-w2") else None
        if one is not None and two["read_s"] + two["fold_s"] > 0:
            gain = (one["read_s"] + one["fold_s"]) / (two["read_s"] + two["fold_s"])
            lines.append(f"{name}: {gain:.2f}x of one worker in read and fold")
        small = by_name.get(name.replace("-1000k-", "-100k-")) if "-1000k-" in name else None
        if small is not None:
            cost = (two["seconds"] / two["events"]) / (small["seconds"] / small["events"])
            lines.append(f"{name}: {cost:.2f}x the cost per event at 100k")
    return lines + _growth(by_name.values())


def _growth(rows: Iterable[dict[str, Any]]) -> list[str]:
    """Return how the time grows with the number of events, from each size to the next: 1 is linear, 2 quadratic."""
    lines: list[str] = []
    by_kind: dict[str, list[dict[str, Any]]] = {}
    for row in sorted(rows, key=lambda row: row["events"]):
        by_kind.setdefault(f"{row['cell'].partition('-')[0]}-w{row['workers']}", []).append(row)
    for kind, its_rows in by_kind.items():
        for one, more in itertools.pairwise(its_rows):
            exponent = math.log(more["seconds"] / one["seconds"]) / math.log(more["events"] / one["events"])
            lines.append(f"{kind}: time grows as events^{exponent:.2f} from {one['events']:,} to {more['events']:,}")
    return lines


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.rebuild", description="Measure rebuilds.")
    sizes = ",".join(map(str, SIZES))
    parser.add_argument("--events", type=_sizes, default=SIZES, metavar="N,N", help=f"sizes; default {sizes}")
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="a cell; wildcards, repeatable")
    parser.add_argument("--list", action="store_true", help="show the cells' names and stop")
    parser.add_argument("--out", type=Path, default=RESULTS, help="results file (JSON)")
    return parser.parse_args(arguments)


def _sizes(text: str) -> tuple[int, ...]:
    sizes = tuple(int(part) for part in text.split(","))
    if not all(1_000 <= size <= 10_000_000 for size in sizes):
        raise argparse.ArgumentTypeError("give sizes from 1,000 to 10,000,000")
    return sizes


if __name__ == "__main__":
    sys.exit(main())
