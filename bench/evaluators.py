"""`make bench-evaluators`: schedules, sensors and backfills against thresholds, in one JSON document.

It says of each figure whether it passed, and why that is asked of it.

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
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Generic, TypeVar

from bench.evaluators_backfills import Backfilling, backfilling
from bench.evaluators_pure import chunks_a_second, decisions_a_second, pass_ms
from bench.evaluators_sensors import Polling, Pushed, polled, pushed
from bench.evaluators_stack import SCOPE, TooSlow, burst, deployed, idle, idle_cores, spread, stack_in, token_of
from bench.measure import percentile
from springline.client import Springline
from springline.local.processes import signals_unwind
from springline.local.run import ToolFailed
from springline.local.stack import EmbeddedStack

R = TypeVar("R")
RESULTS: Final = Path(__file__).parent / "results" / "evaluators.json"


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is measured. Of messages 100,000 are the full size, which takes hours: a part tells the rates."""

    burst: int = 1_000
    spread: int = 10_000
    ticks: int = 1_000_000
    runs: int = 100_000
    workspaces: int = 100
    schedules: int = 10
    idle_s: int = 60
    sensors: int = 500
    sensor_every_s: int = 30
    sensors_s: int = 120
    good_sensors: int = 20
    hanging_s: int = 60
    messages: int = 3_000
    backfills: int = 5
    chunks: int = 1_000
    partitions: int = 1_000_000
    first_chunks: int = 200
    pauses: int = 5


QUICK: Final = Sizes(
    burst=100,
    spread=500,
    ticks=20_000,
    runs=2_000,
    workspaces=5,
    idle_s=15,
    sensors=30,
    sensor_every_s=5,
    sensors_s=20,
    good_sensors=5,
    hanging_s=20,
    messages=200,
    backfills=1,
    chunks=600,
    partitions=10_000,
    first_chunks=50,
    pauses=1,
)
"""Shorter intervals of sensors, too: what they cost is not comparable."""


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
    Threshold(
        "sensors",
        "s",
        2.0,
        "500 sensors that look each 30 s: p99 of how much later than due a worker calls a function. What waits for a "
        "file waits half an interval anyway; 2 s are not felt beside that",
    ),
    Threshold(
        "sensors_cores",
        "cores",
        0.5,
        "and they leave three quarters of a small machine to work: our worker, API, Temporal and the users' worker "
        "with its processes together, meanwhile",
    ),
    Threshold(
        "hanging",
        "s",
        2.0,
        "sensors that raise, hang, die or are slow hold up nobody: p99 of the others of the same file and worker",
    ),
    Threshold(
        "messages",
        "messages/s",
        50,
        "100,000 callbacks are in the ledger within about half an hour, over HTTP from clients that wait for each "
        "answer, while our workers evaluate them on the same machine",
        is_rate=True,
    ),
    Threshold(
        "messages_evaluated",
        "messages/s",
        10,
        "and the backlog goes down by itself: 100,000 are evaluated, each once, within three hours. It counts from the "
        "first push",
        is_rate=True,
    ),
    Threshold(
        "chunks",
        "chunks/s",
        1_000,
        "what decides is never what a backfill waits for: a million partitions in chunks of ten are decided within two "
        "minutes. Processor time, with keys and events",
        is_rate=True,
    ),
    Threshold(
        "planning",
        "chunks/s",
        400,
        "a thousand runs, the most at once, are asked for within 3 s: the real evaluator and ledger, in requests of "
        "500 events, counted from the request for the backfill to its last chunk in the ledger",
        is_rate=True,
    ),
    Threshold(
        "backfill_memory",
        "MiB",
        64,
        "the keys of a million partitions are never held: as a list they alone take more than this. By how much the "
        "worker grows at most while the first chunks are planned",
    ),
    Threshold(
        "backfill_page", "s", 0.2, "a page that people wait for, of a million partitions: p99 of 20, after the first"
    ),
    Threshold(
        "backfill_pause",
        "s",
        1.0,
        "whoever sees that a backfill goes wrong stops it before much more is asked for: the longest from the request "
        "until the evaluator says that it is paused, while chunks are planned; behind it nothing is",
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
    with signals_unwind(), places(sizes) as stacks:
        figures = figures_of(stacks)
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


class _Once(Generic[R]):
    """A measurement that several figures are made of: it is made for the first, and fails for all if it fails."""

    def __init__(self) -> None:
        self._found: list[R] = []
        self._failed: TooSlow | ToolFailed | None = None

    def of(self, before: Callable[[], object], measure: Callable[[], R]) -> R:
        """Return what was measured; the first time, `measure` it behind `before`. Raises what it raised."""
        if self._failed is not None:
            raise self._failed
        if not self._found:
            before()
            try:
                self._found.append(measure())
            except (TooSlow, ToolFailed) as error:
                self._failed = error
                raise
        return self._found[0]


class Stacks:
    """Stacks in folders of their own, one at a time; one that figures share is started by the first of them."""

    def __init__(self, sizes: Sizes, folder: Path) -> None:
        self.sizes = sizes
        self.folder = folder
        self._open = ExitStack()
        self._shared: tuple[Springline, str] | None = None
        self._backfilling: Backfilling | None = None
        self._polling = _Once[Polling]()
        self._pushed = _Once[Pushed]()

    def shared(self) -> tuple[Springline, str]:
        """Return a client of the stack that schedules share, and the id of what is deployed there."""
        if self._shared is None:
            self.end()
            stack = self._open.enter_context(stack_in(self.folder / "shared"))
            lake = self._open.enter_context(Springline(stack.api_url, token_of(stack, SCOPE), deadline_s=300))
            self._shared = lake, deployed(stack, SCOPE)
        return self._shared

    def backfilling(self) -> Backfilling:
        """Return what makes backfills, on a stack that they share."""
        if self._backfilling is None:
            self.end()
            stack = self._open.enter_context(stack_in(self.folder / "backfills"))
            self._backfilling = self._open.enter_context(backfilling(stack, _say))
        return self._backfilling

    def polling(self) -> Polling:
        """Return what many sensors came to, measured once, on a stack of their own."""
        sizes, folder = self.sizes, self.folder / "sensors"
        return self._polling.of(
            self.end, lambda: polled(folder, sizes.sensors, sizes.sensor_every_s, sizes.sensors_s, _say)
        )

    def pushed(self) -> Pushed:
        """Return what messages came to, measured once, on a stack of their own."""
        return self._pushed.of(self.end, lambda: pushed(self.folder / "messages", self.sizes.messages, _say))

    def hanging(self) -> Polling:
        """Return what sensors came to beside some that fail, on a stack of their own."""
        self.end()
        sizes = self.sizes
        return polled(self.folder / "hanging", sizes.good_sensors, 5, sizes.hanging_s, _say, worst=True)

    def alone(self, measure: Callable[[EmbeddedStack], float]) -> float:
        """Return what is measured on a stack of its own, while no other runs."""
        self.end()
        with stack_in(self.folder / "alone") as stack:
            return measure(stack)

    def end(self) -> None:
        """End the stack that is shared."""
        self._open.close()
        self._shared = self._backfilling = None


@contextmanager
def places(sizes: Sizes) -> Iterator[Stacks]:
    """Return where stacks may run; at the end the last one is ended."""
    with tempfile.TemporaryDirectory(prefix="springline-bench-") as folder:
        stacks = Stacks(sizes, Path(folder))
        try:
            yield stacks
        finally:
            stacks.end()


def figures_of(stacks: Stacks) -> dict[str, Callable[[], float]]:
    """Return what measures each figure, in the order of the thresholds."""
    sizes = stacks.sizes
    return {
        "decisions": decisions_a_second,
        "history": lambda: pass_ms(sizes.ticks, sizes.runs) / pass_ms(0, 0),
        "idle": lambda: idle(*stacks.shared(), sizes.idle_s),
        "burst": lambda: burst(*stacks.shared(), sizes.burst, _say)[0],
        "spread": lambda: spread(*stacks.shared(), sizes.spread, _say),
        "idle_cores": lambda: stacks.alone(
            lambda stack: idle_cores(stack, sizes.workspaces, sizes.schedules, 2 * sizes.idle_s, _say)
        ),
        "sensors": lambda: percentile(stacks.polling().late, 0.99),
        "sensors_cores": lambda: stacks.polling().cores,
        "hanging": lambda: percentile(stacks.hanging().late, 0.99),
        "messages": lambda: stacks.pushed().accepted,
        "messages_evaluated": lambda: stacks.pushed().evaluated,
        "chunks": chunks_a_second,
        "planning": lambda: stacks.backfilling().planning(sizes.backfills, sizes.chunks),
        "backfill_memory": lambda: stacks.backfilling().memory_mib(sizes.partitions, sizes.first_chunks),
        "backfill_page": lambda: stacks.backfilling().page_s(sizes.partitions, sizes.first_chunks),
        "backfill_pause": lambda: stacks.backfilling().pause_s(sizes.partitions, sizes.pauses),
    }


def _line(one: Result) -> str:
    value = one.problem if one.value is None else f"{one.value:,.3g} {one.unit}"
    return f"{'ok  ' if one.passed else 'FAIL'} {one.name}: {value} (limit {one.limit:,g}; load {one.load:.1f})"


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.evaluators", description="Measure schedules, sensors and backfills."
    )
    parser.add_argument("--quick", action="store_true", help="little of everything: an impression, not a result")
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="wildcards, repeatable")
    parser.add_argument("--out", type=Path, default=RESULTS, help="results file (JSON)")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
