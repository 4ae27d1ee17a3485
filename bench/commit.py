"""`make bench`: commits per second and their latency, over stores, writers and tables, beside a peer.

    python -m bench.commit [--quick] [--seconds S] [--only NAME ...] [--list] [--out FILE]

Exit code 0 if every cell's result was right, targets met or not; 1 if a table did not hold what its writers were
told; 2 for bad options.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
import tempfile
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any

import uuid_utils
from rich.console import Console

from bench import report
from bench.engine import SCOPE, run_cell
from bench.matrix import Cell, Kind, chosen
from bench.measure import Figures
from bench.peer import run_peer
from bench.verify import WrongResult
from springline.local.processes import signals_unwind
from springline.local.stack import EmbeddedStack

RESULTS = Path(__file__).parent / "results" / "commit.json"
SECONDS = 8.0
QUICK_SECONDS = 2.5
WARM_UP_SHARE = 0.3
"""Share of a cell's seconds that its writers run before anything counts: pollers scale, caches fill."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the chosen cells, print and write what came of them; return the exit code."""
    options = _options(arguments)
    console = Console()
    console.width = max(console.width, report.WIDTH)
    try:
        cells = chosen(options.only)
    except ValueError as error:
        console.print(str(error), style="red", highlight=False)
        return 2
    if options.list:
        report.cells_table(console, cells)
        return 0
    seconds = options.seconds or (QUICK_SECONDS if options.quick else SECONDS)
    with signals_unwind(), tempfile.TemporaryDirectory(prefix="springline-bench-") as folder:
        results, wrong = _run_all(console, cells, Path(folder), seconds)
    report.print_results(console, results)
    report.write_results(options.out, results, seconds=seconds, warm_up=seconds * WARM_UP_SHARE)
    console.print(f"written to {options.out}", style="dim", highlight=False, soft_wrap=True)
    for line in wrong:
        console.print(line, style="bold red")
    if results and (names := report.missed(results)):
        console.print(f"targets missed: {', '.join(names)}", style="red")
    return 1 if wrong else 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.commit", description="Measure commits.")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_SECONDS:g} s a cell: an impression, not a result")
    parser.add_argument("--seconds", type=float, help=f"seconds measured per cell (default {SECONDS:g})")
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="a cell; wildcards, repeatable")
    parser.add_argument("--list", action="store_true", help="show the cells' names and stop")
    parser.add_argument("--out", type=Path, default=RESULTS, help="results file (JSON)")
    return parser.parse_args(arguments)


def _run_all(
    console: Console, cells: Sequence[Cell], folder: Path, seconds: float
) -> tuple[dict[str, tuple[Cell, Figures]], list[str]]:
    results: dict[str, tuple[Cell, Figures]] = {}
    wrong: list[str] = []
    with EmbeddedStack(folder / "stack", scope=SCOPE, workers=0, api=False, say=_silent) as stack:
        for number, cell in enumerate(cells, start=1):
            with console.status(f"[{number}/{len(cells)}] {cell.name}"):
                try:
                    figures = _run(cell, stack, folder / cell.name, seconds * cell.seconds_factor)
                except (WrongResult, ExceptionGroup) as error:
                    wrong.append(f"{cell.name}: {_reason(error)}")
                    console.print(f"[{number}/{len(cells)}] {wrong[-1]}", style="bold red", markup=False)
                    continue
            results[cell.name] = (cell, figures)
            line = f"[{number}/{len(cells)}] {cell.name}: {report.one_line(figures)}"
            console.print(line, markup=False, highlight=False)
    return results, wrong


def _run(cell: Cell, stack: EmbeddedStack, folder: Path, seconds: float) -> Figures:
    warm_up = seconds * WARM_UP_SHARE
    if cell.kind is Kind.PEER:
        return run_peer(cell, folder, _new_key, seconds=seconds, warm_up=warm_up)
    # A fresh database for each cell, so that no cell pays for those before it.
    stack.wipe_temporal()
    return asyncio.run(_cancelled_by_signals(run_cell(cell, stack, folder, _new_key, seconds=seconds, warm_up=warm_up)))


async def _cancelled_by_signals(work: Coroutine[Any, Any, Figures]) -> Figures:
    """Do `work`; a signal cancels it, so that it ends its parts in order, and then ends the program.

    An exception raised by a handler in the midst of the event loop would end them in any order, and workers that
    lose their client that way wait for ever.
    """
    loop, task = asyncio.get_running_loop(), asyncio.ensure_future(work)
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    for number in before:
        loop.add_signal_handler(number, task.cancel)
    try:
        return await task
    except asyncio.CancelledError:
        sys.exit(130)
    finally:
        for number, handler in before.items():
            loop.remove_signal_handler(number)
            signal.signal(number, handler)


def _reason(error: BaseException) -> str:
    """Return what went wrong first: a task group's error says only that there was one."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}"


def _new_key() -> str:
    return str(uuid_utils.uuid7())


def _silent(_line: str) -> None:
    return


if __name__ == "__main__":
    sys.exit(main())
