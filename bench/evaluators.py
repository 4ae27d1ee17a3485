"""`make bench-evaluators`: schedules against thresholds. One JSON document: each figure, passed or not, and why.

    python -m bench.evaluators [--quick] [--only NAME ...] [--out FILE]

Exit code 0 if every threshold is met, 1 if not, 2 for bad options, 4 if something did not come to an end.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from bench.evaluators_pure import decisions_a_second, pass_ms
from bench.evaluators_stack import SCOPE, TooSlow, burst, deployed, idle, idle_cores, spread, stack_in, token_of
from springline.client import Springline
from springline.local.processes import signals_unwind
from springline.local.run import ToolFailed
from springline.local.stack import EmbeddedStack

RESULTS: Final = Path(__file__).parent / "results" / "evaluators.json"


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is measured."""

    burst: int = 1_000
    spread: int = 10_000
    ticks: int = 1_000_000
    runs: int = 100_000
    workspaces: int = 100
    schedules: int = 10
    idle_s: int = 60


QUICK: Final = Sizes(burst=100, spread=500, ticks=20_000, runs=2_000, workspaces=5, idle_s=15)


@dataclass(frozen=True, slots=True)
class Threshold:
    """A figure, what it has to be, and why. `is_rate`: it must reach the limit; others must not exceed it."""

    name: str
    unit: str
    limit: float
    why: str
    is_rate: bool = False


@dataclass(frozen=True, slots=True)
class Result:
    """What a figure came to. `load`: the machine's load average of the minute behind it. `problem`: no figure."""

    name: str
    value: float | None
    unit: str
    limit: float
    why: str
    passed: bool
    load: float
    problem: str | None = None


THRESHOLDS: Final = (
    Threshold(
        "decisions",
        "instants/s",
        50_000,
        "an hour without an evaluator, with 10,000 schedules of every minute, is decided in 12 s of one core. "
        "Processor time, so that other work on the machine does not count",
        is_rate=True,
    ),
    Threshold(
        "history",
        "ratio",
        1.2,
        "a workspace does not get slower with age: a pass over 200 schedules with a history of ticks and runs costs "
        "what one without costs. 0.2 is what two measurements differ by",
    ),
    Threshold("idle", "s", 0.3, "a run begins when a user expects it, by the clock on the wall; p99 of one schedule"),
    Threshold("burst", "s", 5.0, "everybody's midnight: p99 of schedules that are due in the same second"),
    Threshold("spread", "s", 60.0, "no backlog: what is due in a minute is decided on before the next begins"),
    Threshold(
        "idle_cores", "cores", 0.05, "workspaces in which nothing is due are free: worker, API and Temporal together"
    ),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and write the document; return the exit code."""
    options = _options(arguments)
    sizes = QUICK if options.quick else Sizes()
    wanted = [one for one in THRESHOLDS if any(fnmatch.fnmatch(one.name, name) for name in options.only or ["*"])]
    if not wanted:
        sys.stderr.write(f"no such figure; there are {', '.join(one.name for one in THRESHOLDS)}\n")
        return 2
    results = []
    with signals_unwind(), _places() as stacks:
        figures = _figures(sizes, stacks)
        for threshold in wanted:
            results.append(_measured(threshold, figures[threshold.name]))
            _say(_line(results[-1]))
    document = {
        "passed": all(one.passed for one in results),
        "sizes": asdict(sizes),
        "cores": os.cpu_count(),
        "figures": [asdict(one) for one in results],
    }
    text = json.dumps(document, indent=2) + "\n"
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(text)
    sys.stdout.write(text)
    if any(one.problem is not None for one in results):
        return 4
    return 0 if document["passed"] else 1


def judged(threshold: Threshold, value: float | None, load: float, problem: str | None = None) -> Result:
    """Return whether a figure is good enough."""
    met = value is not None and (value >= threshold.limit if threshold.is_rate else value <= threshold.limit)
    return Result(threshold.name, value, threshold.unit, threshold.limit, threshold.why, met, load, problem)


def _measured(threshold: Threshold, figure: Callable[[], float]) -> Result:
    try:
        value = figure()
    except (TooSlow, ToolFailed) as error:
        return judged(threshold, None, os.getloadavg()[0], f"{type(error).__name__}: {error}")
    return judged(threshold, value, os.getloadavg()[0])


class _Stacks:
    """Stacks in folders of their own; the one that figures share is started by the first of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._close: list[Callable[[], object]] = []
        self._shared: tuple[Springline, str] | None = None

    def shared(self) -> tuple[Springline, str]:
        """Return a client of the shared stack, and the id of what is deployed there."""
        if self._shared is None:
            place = stack_in(self.folder / "shared")
            stack = place.__enter__()
            self._close.append(lambda: place.__exit__(None, None, None))
            lake = Springline(stack.api_url, token_of(stack, SCOPE), deadline_s=300)
            self._close.append(lake.close)
            self._shared = lake, deployed(stack, SCOPE)
        return self._shared

    def alone(self, measure: Callable[[EmbeddedStack], float]) -> float:
        """Return what is measured on a stack of its own, while no other runs."""
        self.end()
        with stack_in(self.folder / "alone") as stack:
            return measure(stack)

    def end(self) -> None:
        """End the shared stack."""
        while self._close:
            self._close.pop()()
        self._shared = None


@contextmanager
def _places() -> Iterator[_Stacks]:
    with tempfile.TemporaryDirectory(prefix="springline-bench-") as folder:
        stacks = _Stacks(Path(folder))
        try:
            yield stacks
        finally:
            stacks.end()


def _figures(sizes: Sizes, stacks: _Stacks) -> dict[str, Callable[[], float]]:
    return {
        "decisions": decisions_a_second,
        "history": lambda: pass_ms(sizes.ticks, sizes.runs) / pass_ms(0, 0),
        "idle": lambda: idle(*stacks.shared(), sizes.idle_s),
        "burst": lambda: burst(*stacks.shared(), sizes.burst, _say)[0],
        "spread": lambda: spread(*stacks.shared(), sizes.spread, _say),
        "idle_cores": lambda: stacks.alone(
            lambda stack: idle_cores(stack, sizes.workspaces, sizes.schedules, 2 * sizes.idle_s, _say)
        ),
    }


def _line(one: Result) -> str:
    value = one.problem if one.value is None else f"{one.value:,.3g} {one.unit}"
    return f"{'ok  ' if one.passed else 'FAIL'} {one.name}: {value} (limit {one.limit:,g}; load {one.load:.1f})"


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.evaluators", description="Measure schedules.")
    parser.add_argument("--quick", action="store_true", help="little of everything: an impression, not a result")
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="wildcards, repeatable")
    parser.add_argument("--out", type=Path, default=RESULTS, help="results file (JSON)")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
