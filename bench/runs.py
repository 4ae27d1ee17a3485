"""`make bench-runs`: from a request for a run to its end, for tasks that do nothing, beside Dagster and Prefect.

    python -m bench.runs [--quick] [--runs N] [--single N] [--chain N] [--idle N] [--concurrency N]
                         [--behind N] [--without-peers] [--only NAME ...] [--out FILE]

Each orchestrator runs by itself, all of its processes on this machine. Ours is run three times, each with a users'
worker: the embedded stack, the same in a workspace that has `--behind` ended runs, and what docker-compose.yml runs,
with a Temporal server on PostgreSQL and an emulator of Google's storage (Linux, and no Docker is needed).
Peers are installed from the Python package index, once, and do fewer of the same runs, because they are slow. Exit
code 0 if all of our runs succeeded with each task made once, targets met or not; 1 if not; 2 for bad options; 4 if a
peer cannot be installed, does not start or does not end its runs.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

import httpx
from rich import box
from rich.console import Console
from rich.table import Table

from bench.runs_peers import (
    DAGSTER,
    IN_PROCESS,
    MULTIPROCESS,
    PREFECT,
    dagster_side,
    environment_of,
    prefect_side,
)
from bench.runs_side import Figures, Measuring, Side, Sizes, Wrong
from bench.runs_springline import composed_side, springline_side
from springline.local.cache import Cache, cache_root
from springline.local.processes import signals_unwind
from springline.local.run import ToolFailed

RESULTS: Final = Path(__file__).parent / "results" / "runs.json"
OURS: Final = "springline"
AGED: Final = "springline behind {:,} runs"
COMPOSED: Final = "springline on PostgreSQL"
BEHIND: Final = 100_000
WIDTH: Final = 130
TASKS: Final = 20
OUR_SIZES: Final = Sizes(runs=50, tasks=TASKS, single=500, chain=50, idle=20)
PEER_SIZES: Final = Sizes(runs=4, tasks=TASKS, single=100, chain=10, idle=3)
SLOW_SIZES: Final = Sizes(runs=0, tasks=TASKS, single=6, chain=3, idle=1)
"""For an executor that starts a process for each task."""
QUICK: Final[Mapping[Sizes, Sizes]] = {
    OUR_SIZES: Sizes(runs=10, tasks=TASKS, single=100, chain=10, idle=5),
    PEER_SIZES: Sizes(runs=2, tasks=TASKS, single=50, chain=5, idle=1),
    SLOW_SIZES: Sizes(runs=0, tasks=TASKS, single=3, chain=2, idle=0),
}
EXPLAINED: Final = """\
runs: tasks a second from the first of so many requests at once to the end of the last run, as the orchestrator's own \
records tell it. cpu: processor time a task of all processes, server, database and the emulator of Google's storage \
included, what measures left out. \
single: one run of independent tasks. hop: from the start of a task of a chain to the start of the next. first: from a \
request to the start of the run's only task, while nothing else runs. load: the machine's load average meanwhile. \
Dagster in process and Prefect run a run's tasks in one process, Dagster multiprocess each in one of its own; \
Springline keeps processes warm, each for one attempt at a time."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A column: what it is called and of which figure, its target (rates must reach it, times must not exceed it)."""

    heading: str
    of: Callable[[Figures], float | None]
    target: float
    is_rate: bool = False

    def met(self, figures: Figures) -> bool:
        """Say whether the figure is good enough; what was not measured is."""
        value = self.of(figures)
        return value is None or (value >= self.target if self.is_rate else value <= self.target)


FIGURES: Final = (
    Figure("runs: tasks/s", lambda one: one.tasks_per_s, 60, is_rate=True),
    Figure("cpu ms/task", lambda one: one.cpu_ms_a_task, 25),
    Figure("single: tasks/s", lambda one: one.single_per_s, 50, is_rate=True),
    Figure("cpu ms/task", lambda one: one.single_cpu_ms_a_task, 25),
    Figure("hop ms p50", lambda one: one.hop_ms, 150),
    Figure("first ms p50", lambda one: one.first_task_ms, 500),
)


@dataclass(frozen=True, slots=True)
class Contender:
    """An orchestrator: how much it does, and how it is run in a folder that is not there yet."""

    sizes: Sizes
    run: Callable[[Path], AbstractContextManager[Side]]


def contenders(sizes: Sizes, concurrency: int, cache: Cache, *, behind: int, quick: bool) -> dict[str, Contender]:
    """Return all orchestrators by name, ours first, with its sizes; whoever runs a peer installs it first.

    Ours is there a second time in a workspace with `behind` ended runs, and a third time on PostgreSQL.
    """
    few, fewest = ((QUICK[one] if quick else one) for one in (PEER_SIZES, SLOW_SIZES))

    def dagster(executor: str, sizes: Sizes) -> Contender:
        return Contender(sizes, lambda folder: dagster_side(folder, sizes, environment_of(DAGSTER, cache), executor))

    return {
        OURS: Contender(sizes, lambda folder: springline_side(folder, sizes, concurrency)),
        AGED.format(behind): Contender(
            sizes, lambda folder: springline_side(folder, sizes, concurrency, behind=behind)
        ),
        COMPOSED: Contender(sizes, lambda folder: composed_side(folder, sizes, concurrency)),
        "dagster in process": dagster(IN_PROCESS, few),
        "dagster multiprocess": dagster(MULTIPROCESS, fewest),
        "prefect": Contender(few, lambda folder: prefect_side(folder, few, environment_of(PREFECT, cache))),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure the chosen orchestrators, print and write what came of them; return the exit code."""
    options = _options(arguments)
    console = Console(width=max(Console().width, WIDTH))
    cache = Cache(cache_root())
    sizes = QUICK[OUR_SIZES] if options.quick else OUR_SIZES
    given = {name: getattr(options, name) for name in ("runs", "single", "chain", "idle")}
    sizes = replace(sizes, **{name: size for name, size in given.items() if size is not None})
    known = contenders(sizes, options.concurrency, cache, behind=options.behind, quick=options.quick)
    ours = [name for name in known if name.startswith(OURS)]
    wanted = ours if options.without_peers else options.only or list(known)
    chosen = {name: one for name, one in known.items() if any(fnmatch.fnmatch(name, pattern) for pattern in wanted)}
    if not chosen:
        console.print(f"no such orchestrator; there are {', '.join(known)}", style="red")
        return 2
    results: dict[str, Figures] = {}
    failed: dict[str, str] = {}
    with signals_unwind(), tempfile.TemporaryDirectory(prefix="springline-bench-") as folder:
        for number, (name, contender) in enumerate(chosen.items()):
            try:
                results[name] = _measured(console, name, contender, Path(folder) / str(number))
            except (Wrong, ToolFailed, httpx.HTTPError) as error:
                failed[name] = f"{type(error).__name__}: {error}"
                console.print(f"{name}: {failed[name]}", style="bold red", markup=False)
    _print(console, results)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps({name: asdict(one) for name, one in results.items()}, indent=2) + "\n")
    console.print(f"written to {options.out}", style="dim", highlight=False, soft_wrap=True)
    if any(name in failed or (name in results and results[name].problems) for name in ours):
        return 1
    return 4 if failed else 0


def _measured(console: Console, name: str, contender: Contender, folder: Path) -> Figures:
    def say(line: str) -> None:
        console.print(f"{name}: {line}", style="dim", highlight=False, markup=False)

    with console.status(name), contender.run(folder) as side:
        return Measuring(side, contender.sizes, say).figures()


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.runs", description="Measure runs.")
    parser.add_argument("--quick", action="store_true", help="little of everything: an impression, not a result")
    parser.add_argument("--runs", type=_size(1_000), metavar="N", help=f"runs of {TASKS} tasks at once")
    parser.add_argument("--single", type=_size(5_000), metavar="N", help="tasks of the one run")
    parser.add_argument("--chain", type=_size(500), metavar="N", help="tasks of the chain")
    parser.add_argument("--idle", type=_size(1_000), metavar="N", help="runs of one task, one by one")
    parser.add_argument("--concurrency", type=_size(64, least=1), default=4, metavar="N", help="attempts at once")
    behind = f"ended runs in the second workspace, {BEHIND:,} if not given"
    parser.add_argument("--behind", type=_size(1_000_000, least=1), default=BEHIND, metavar="N", help=behind)
    peers = parser.add_mutually_exclusive_group()
    peers.add_argument("--without-peers", action="store_true", help="Springline alone")
    peers.add_argument("--only", action="append", default=[], metavar="NAME", help="wildcards, repeatable")
    parser.add_argument("--out", type=Path, default=RESULTS, help="results file (JSON)")
    return parser.parse_args(arguments)


def _size(most: int, least: int = 0) -> Callable[[str], int]:
    def size(text: str) -> int:
        if not text.isdecimal() or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"{text!r}: give a whole number from {least} to {most:,}")
        return int(text)

    return size


def _print(console: Console, results: Mapping[str, Figures]) -> None:
    table = Table(box=box.SIMPLE_HEAD, caption=EXPLAINED, caption_justify="left", caption_style="dim")
    table.add_column("")
    for heading in (*(figure.heading for figure in FIGURES), "load"):
        table.add_column(heading, justify="right")
    for name, one in results.items():
        table.add_row(name, *(_cell(figure.of(one)) for figure in FIGURES), f"{one.load:.1f}")
    table.add_row("target", *(f"{'≥' if figure.is_rate else '≤'}{figure.target:g}" for figure in FIGURES), "")
    console.print(table)
    for line in ratios(results):
        console.print(line, highlight=False)
    for name, one in results.items():
        for problem in one.problems:
            console.print(f"{name}: {problem}", style="bold red" if name.startswith(OURS) else "yellow", markup=False)
    for name, one in results.items():
        if name.startswith(OURS) and (missed := [figure.heading for figure in FIGURES if not figure.met(one)]):
            console.print(f"targets missed by {name}: {', '.join(missed)}", style="red", markup=False)


def ratios(results: Mapping[str, Figures]) -> list[str]:
    """Return a line for each side that was measured in the same run as ours: how many times better or worse we are.

    Ours is the embedded stack in a new workspace. The other two stacks of ours are compared with it as peers are.
    """
    ours = results.get(OURS)
    lines: list[str] = []
    for name, peer in results.items():
        if ours is None or name == OURS:
            continue
        said = []
        for figure in FIGURES:
            mine, theirs = figure.of(ours), figure.of(peer)
            if mine and theirs:
                said.append(f"{figure.heading} {mine / theirs:.3g}x")
        lines.append(f"against {name}: {', '.join(said)}")
    return lines


def _cell(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


if __name__ == "__main__":
    sys.exit(main())
