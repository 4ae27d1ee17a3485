"""What `bench.runs` asks of every orchestrator, and what it makes of the answers: the same for all of them."""

from __future__ import annotations

import itertools
import os
import statistics
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Protocol, Self

import httpx
import psutil

from springline.local.processes import Child
from springline.local.run import ToolFailed

WIDE: Final = "wide"
SINGLE: Final = "single"
CHAIN: Final = "chain"
ONE: Final = "one"

POLL_S: Final = 1.0
"""Between two questions whether all is over: what measures must not cost what is measured."""
IDLE_POLL_S: Final = 0.25
"""The same where one run of one task is under way, and processor time is not measured."""
MEMORY_POLL_S: Final = 1.0
END_MOST_S: Final = 900.0
START_MOST_S: Final = 90.0
RECORDED_MOST_S: Final = 10.0
STARTS_AT_ONCE: Final = 8


class Wrong(Exception):
    """Runs did not end."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much of everything: `runs` of `tasks` tasks at once, a run of `single`, a chain of `chain`, `idle` of one."""

    runs: int
    tasks: int
    single: int
    chain: int
    idle: int

    @property
    def flows(self) -> Mapping[str, int]:
        """The tasks of each flow."""
        return {WIDE: self.tasks, SINGLE: self.single, CHAIN: self.chain, ONE: 1}


@dataclass(frozen=True, slots=True)
class Span:
    """A task as the orchestrator's own records tell it. Seconds since the epoch."""

    key: str
    started_s: float
    ended_s: float


@dataclass(frozen=True, slots=True)
class Ended:
    """A run that has ended, as the orchestrator's own records tell it. Seconds since the epoch."""

    succeeded: bool
    ended_s: float
    tasks: Sequence[Span]


class Side(Protocol):
    """An orchestrator that runs on this machine, with the four flows deployed."""

    def start(self, flow: str) -> str:
        """Ask for a run and return its id; from several threads at once."""

    def over(self, run_ids: Sequence[str]) -> bool:
        """Tell whether all runs have ended, by one question about their states."""

    def read(self, run_id: str) -> Ended:
        """Return what is on record of a run that has ended."""


@dataclass(frozen=True, slots=True)
class Figures:
    """What one orchestrator came to; None for what was not measured.

    `load`: the highest load average of the machine meanwhile. `problems`: what went wrong with runs, a line each.
    """

    sizes: Sizes
    tasks_per_s: float | None
    cpu_ms_a_task: float | None
    single_per_s: float | None
    single_cpu_ms_a_task: float | None
    hop_ms: float | None
    first_task_ms: float | None
    load: float
    problems: Sequence[str]


class Measuring:
    """One orchestrator under measurement. `say` takes a line for each cell."""

    def __init__(self, side: Side, sizes: Sizes, say: Callable[[str], None]) -> None:
        self._side = side
        self._sizes = sizes
        self._say = say
        self._problems: list[str] = []
        self._load = 0.0

    def figures(self) -> Figures:
        """Measure what the sizes ask for; a size of 0 leaves it out. Raises `Wrong` if runs do not end."""
        sizes = self._sizes
        self._ended(ONE)
        first, hop = self._first_task_ms(), self._hop_ms()
        single = self._rate(SINGLE, 1) if sizes.single else (None, None)
        many = self._rate(WIDE, sizes.runs) if sizes.runs and sizes.tasks else (None, None)
        return Figures(sizes, *many, *single, hop, first, round(self._load, 1), self._problems)

    def _first_task_ms(self) -> float | None:
        """Return the median time from a request to the start of the run's only task."""
        took: list[float] = []
        for _ in range(self._sizes.idle):
            began = time.time()
            took += [(span.started_s - began) * 1000 for ended in self._ended(ONE) for span in ended.tasks]
        if not took:
            return None
        self._told(f"request to first task start: {statistics.median(took):,.0f} ms p50 of {len(took)}")
        return statistics.median(took)

    def _hop_ms(self) -> float | None:
        """Return the median time from the start of a task of a chain to the start of the next."""
        if self._sizes.chain < 2:
            return None
        (ended,) = self._ended(CHAIN)
        pairs = list(itertools.pairwise(sorted(ended.tasks, key=lambda span: span.key)))
        self._problems += [
            f"{later.key} began before {one.key} had ended, which it needs"
            for one, later in pairs
            if later.started_s < one.ended_s
        ]
        if not pairs:
            return None
        took = statistics.median((later.started_s - one.started_s) * 1000 for one, later in pairs)
        self._told(f"chain of {self._sizes.chain}: {took:,.1f} ms a hop p50")
        return took

    def _rate(self, flow: str, runs: int) -> tuple[float | None, float | None]:
        """Return tasks a second from the first request to the last end, and processor ms a task of all processes."""
        cpu, began = children_cpu_seconds(), time.time()
        run_ids = self._start(flow, runs)
        self._wait(run_ids, POLL_S)
        used = children_cpu_seconds() - cpu
        found = self._read(run_ids, flow)
        tasks = sum(len(ended.tasks) for ended in found)
        if not tasks:
            return None, None
        rate, each = tasks / (max(ended.ended_s for ended in found) - began), used / tasks * 1000
        what = f"{runs} run{'' if runs == 1 else 's'} x {self._sizes.flows[flow]} tasks"
        self._told(f"{what}: {rate:.2f} tasks/s, {each:,.1f} ms of processor time a task")
        return rate, each

    def _told(self, line: str) -> None:
        load = os.getloadavg()[0]
        self._load = max(self._load, load)
        self._say(f"{line} (load {load:.1f})")

    def _ended(self, flow: str) -> list[Ended]:
        run_ids = self._start(flow, 1)
        self._wait(run_ids, IDLE_POLL_S)
        return self._read(run_ids, flow)

    def _start(self, flow: str, runs: int) -> list[str]:
        """Ask for runs, some at a time, and return their ids."""
        with ThreadPoolExecutor(STARTS_AT_ONCE) as threads:
            return list(threads.map(lambda _: self._side.start(flow), range(runs)))

    def _wait(self, run_ids: Sequence[str], poll_s: float) -> None:
        deadline = time.monotonic() + END_MOST_S
        while not self._side.over(run_ids):
            if time.monotonic() > deadline:
                raise Wrong(f"not all of {len(run_ids)} runs have ended after {END_MOST_S:.0f} s")
            time.sleep(poll_s)

    def _read(self, run_ids: Sequence[str], flow: str) -> list[Ended]:
        """Return what is on record of runs that have ended, and note those that are not as they must be."""
        found: list[Ended] = []
        for run_id in run_ids:
            deadline = time.monotonic() + RECORDED_MOST_S
            # Some keep their records of tasks behind the end of the run.
            while problem := problem_of(ended := self._side.read(run_id), self._sizes.flows[flow]):
                if time.monotonic() > deadline:
                    self._problems.append(f"{flow} {run_id}: {problem}")
                    break
                time.sleep(POLL_S)
            found.append(ended)
        return found


def problem_of(ended: Ended, tasks: int) -> str | None:
    """Return what is wrong with a run that had to succeed with each of its tasks made once; None if nothing is."""
    if not ended.succeeded:
        return "did not succeed"
    made = {span.key for span in ended.tasks}
    if len(made) != tasks or len(ended.tasks) != tasks:
        return f"has {len(ended.tasks)} attempts of {len(made)} tasks on record instead of {tasks}"
    return None


def until_ready(child: Child, ready: Callable[[], bool]) -> None:
    """Return when a program is ready; raises `ToolFailed`, with the end of its log, if it ends or takes too long."""
    deadline = time.monotonic() + START_MOST_S
    while True:
        with suppress(httpx.TransportError):
            if ready():
                return
        if not child.running or time.monotonic() > deadline:
            raise ToolFailed(f"{child.name} is not ready after {START_MOST_S:.0f} s:\n{child.log_tail()}")
        time.sleep(0.25)


def children_cpu_seconds() -> float:
    """Return the processor seconds of all processes below this one, with those that have ended.

    What measures is this process, whose own time is left out.
    """
    here = psutil.Process()
    own = here.cpu_times()
    total = float(own.children_user + own.children_system)
    for process in here.children(recursive=True):
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system + times.children_user + times.children_system
    return total


class Meter:
    """A context in which the processes below this one are measured: their processor seconds, and memory at its peak.

    `peak_mib` is the most resident memory of all of them together at one moment of those looked at, shared pages
    counted for each.
    """

    def __init__(self) -> None:
        self.cpu_s = 0.0
        self.peak_mib = 0.0
        self._ended = threading.Event()
        self._looking = threading.Thread(target=self._look, name="meter", daemon=True)

    def __enter__(self) -> Self:
        self.cpu_s = -children_cpu_seconds()
        self._looking.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._looking.join()
        self.cpu_s += children_cpu_seconds()

    def _look(self) -> None:
        here = psutil.Process()
        while not self._ended.wait(MEMORY_POLL_S):
            resident = 0
            for process in here.children(recursive=True):
                with suppress(psutil.NoSuchProcess):
                    resident += process.memory_info().rss
            self.peak_mib = max(self.peak_mib, resident / 2**20)
