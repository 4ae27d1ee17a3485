"""`python -m bench.ledger`: events per second and memory of folding and publishing.

    python -m bench.ledger [--quick] [--only NAME ...] [--list] [--out FILE]

Each cell runs in a process of its own, so that its peak memory is its own. Beside every figure stands the rate at
which `orjson.loads` alone parses the same events on one core in the same process: machines differ and are noisy, and
the share of it is steadier than the rate. Exit code 0 if every cell's result was right, targets met or not; 1 if a
cell's state was not the one that its events give; 2 for bad options.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from bench.ledger_cells import CELLS, Cell, chosen
from bench.ledger_run import run_cell
from bench.ledgers import realistic_ledger

RESULTS = Path(__file__).parent / "results" / "ledger.json"
SEED = 20_250_115
WIDTH = 140
QUICK_MOST = 100_000

EXPLAINED = """\
fold: parse and fold into all 17 tables, from events in memory or from one local file each; the digest of the result \
is timed apart. fold+publish: the sequencer's steps `fold` and `publish` (delta files, index, manifest, pointer, and \
bases and segments when due), round after round; admission and the writing of event objects are not in it. append: \
one event through the embedded stack (Temporal, a worker, local files) until its answer says that it is visible. \
share: of the parse rate. MiB: peak memory of the process above what it had with its input loaded. ref.: the \
reference system's own figures, measured beforehand on a machine like this one."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the chosen cells, print and write what came of them; return the exit code."""
    options = _options(arguments)
    if options.cell:
        (cell,) = [one for one in CELLS if one.name == options.cell]
        sys.stdout.write(json.dumps(run_cell(cell, Path(options.data))) + "\n")
        return 0
    console = Console()
    console.width = max(console.width, WIDTH)
    try:
        cells = chosen(options.only)
    except ValueError as error:
        console.print(str(error), style="red", highlight=False)
        return 2
    if options.quick:
        cells = [cell for cell in cells if cell.events + cell.prepared <= QUICK_MOST]
    if options.list:
        for cell in cells:
            console.print(cell.name, *(str(target) for target in cell.targets), highlight=False)
        return 0
    results, wrong = _run_all(console, cells)
    _print(console, results)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(results, indent=2) + "\n")
    console.print(f"written to {options.out}", style="dim", highlight=False, soft_wrap=True)
    for line in wrong:
        console.print(line, style="bold red")
    return 1 if wrong else 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.ledger", description="Measure the ledger.")
    parser.add_argument("--quick", action="store_true", help=f"only cells of up to {QUICK_MOST:,} events")
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="a cell; wildcards, repeatable")
    parser.add_argument("--list", action="store_true", help="show the cells' names and stop")
    parser.add_argument("--out", type=Path, default=RESULTS, help="results file (JSON)")
    parser.add_argument("--cell", help=argparse.SUPPRESS)
    parser.add_argument("--data", help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def _run_all(console: Console, cells: Sequence[Cell]) -> tuple[dict[str, dict[str, Any]], list[str]]:
    results: dict[str, dict[str, Any]] = {}
    wrong: list[str] = []
    with tempfile.TemporaryDirectory(prefix="springline-bench-") as folder:
        data = Path(folder) / "events.jsonl"
        most = max(cell.events + cell.prepared for cell in cells)
        with console.status(f"making {most:,} events"), data.open("wb") as file:
            for body in realistic_ledger(SEED, most):
                file.write(body + b"\n")
        for number, cell in enumerate(cells, start=1):
            with console.status(f"[{number}/{len(cells)}] {cell.name}"):
                ended = subprocess.run(
                    [sys.executable, "-m", "bench.ledger", "--cell", cell.name, "--data", str(data)],
                    capture_output=True,
                    text=True,
                    check=False,
                )
            if ended.returncode != 0:
                wrong.append(f"{cell.name}: {ended.stderr.strip().splitlines()[-1] if ended.stderr else 'no answer'}")
                console.print(f"[{number}/{len(cells)}] {wrong[-1]}", style="bold red", markup=False)
                continue
            results[cell.name] = json.loads(ended.stdout.strip().splitlines()[-1])
            console.print(f"[{number}/{len(cells)}] {cell.name}: {_short(results[cell.name])}", highlight=False)
    _add_slowdown(results)
    return results, wrong


def _add_slowdown(results: dict[str, dict[str, Any]]) -> None:
    """Add to the cell of a million events how much more an event costs there than at ten thousand."""
    large, small = results.get("fold-1m-memory"), results.get("fold-10k-memory")
    if large is not None and small is not None:
        large["slowdown"] = round(small["share"] / large["share"], 2)


def _short(figures: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value:,}" for name, value in figures.items() if isinstance(value, int | float))


def _print(console: Console, results: dict[str, dict[str, Any]]) -> None:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    headers = (
        "cell",
        "work",
        "events/s",
        "share",
        "orjson/s",
        "MiB",
        "p50 ms",
        "p99 ms",
        "calls",
        "target",
        "",
        "ref.",
    )
    for header in headers:
        table.add_column(header, justify="left" if header in ("cell", "work", "target", "", "ref.") else "right")
    for cell in CELLS:
        figures = results.get(cell.name)
        if figures is None:
            continue
        verdicts = [(target, target.met(figures[target.metric])) for target in cell.targets if target.metric in figures]
        table.add_row(
            cell.name,
            cell.work.value,
            *(
                _cell(figures.get(name))
                for name in ("per second", "share", "orjson", "MiB", "p50 ms", "p99 ms", "calls")
            ),
            ", ".join(f"{target} ({figures[target.metric]:,})" for target, _ in verdicts),
            " ".join("met" if met else "[red]missed[/red]" for _, met in verdicts),
            cell.reference,
        )
    console.print(table)
    console.print(EXPLAINED, style="dim", highlight=False)


def _cell(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:,.3g}"


if __name__ == "__main__":
    sys.exit(main())
