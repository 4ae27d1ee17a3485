"""What `bench.runs` asks of every orchestrator, and what it makes of the answers: the same for all of them."""

from __future__ import annotations

import itertools
import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, Protocol

import psutil

WIDE: Final = "wide"
SINGLE: Final = "single"
CHAIN: Final = "chain"
ONE: Final = "one"

POLL_S: Final = 1.0
"""Between two questions whether all is over: what measures must not cost what is measured."""
IDLE_POLL_S: Final = 0.25
"""The same where one run of one task is under way, and processor time is not measured."""
END_MOST_S: Final = 900.0
STARTS_AT_ONCE: Final = 8


class Wrong(Exception):
    """Runs did not end as they had to, or not at all."""


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
    """What one orchestrator came to; None for what was not measured. `load`: the machine's load average meanwhile."""

    tasks_per_s: float | None
    cpu_ms_a_task: float | None
    single_per_s: float | None
    single_cpu_ms_a_task: float | None
    hop_ms: float | None
    first_task_ms: float | None
    load: float


def measure(side: Side, sizes: Sizes, say: Callable[[str], None]) -> Figures:
    """Measure what `sizes` asks for, a size of 0 leaves it out.

    Raises `Wrong` if a run does not succeed with each of its tasks made once.
    """
    _ended(side, _start(side, ONE, 1), sizes, IDLE_POLL_S)
    loads = [os.getloadavg()[0]]
    many = single = (None, None)
    hop = first = None
    if sizes.idle:
        first = statistics.median(_first_task_ms(side, sizes) for _ in range(sizes.idle))
        say(f"request to first task start: {first:.0f} ms p50 of {sizes.idle}")
        loads.append(os.getloadavg()[0])
    if sizes.chain:
        hop = statistics.median(_hops_ms(side, sizes))
        say(f"chain of {sizes.chain}: {hop:.1f} ms a hop p50")
        loads.append(os.getloadavg()[0])
    if sizes.single:
        single = _rate(side, SINGLE, 1, sizes)
        say(f"1 run x {sizes.single} tasks: {single[0]:.1f} tasks/s, {single[1]:.1f} ms of processor time a task")
        loads.append(os.getloadavg()[0])
    if sizes.runs:
        many = _rate(side, WIDE, sizes.runs, sizes)
        say(
            f"{sizes.runs} runs x {sizes.tasks} tasks: {many[0]:.1f} tasks/s, "
            f"{many[1]:.1f} ms of processor time a task"
        )
        loads.append(os.getloadavg()[0])
    return Figures(*many, *single, hop, first, max(loads))


def _first_task_ms(side: Side, sizes: Sizes) -> float:
    began = time.time()
    (ended,) = _ended(side, _start(side, ONE, 1), sizes, IDLE_POLL_S).values()
    return (ended.tasks[0].started_s - began) * 1000


def _hops_ms(side: Side, sizes: Sizes) -> list[float]:
    """Return how long it took from the start of each task of a chain to that of the next one."""
    (ended,) = _ended(side, _start(side, CHAIN, 1), sizes, IDLE_POLL_S).values()
    spans = sorted(ended.tasks, key=lambda span: span.key)
    for one, following in itertools.pairwise(spans):
        if following.started_s < one.ended_s:
            raise Wrong(f"{following.key} began before {one.key}, which it needs, had ended")
    return [(following.started_s - one.started_s) * 1000 for one, following in itertools.pairwise(spans)]


def _rate(side: Side, flow: str, runs: int, sizes: Sizes) -> tuple[float, float]:
    """Return tasks a second from the first request to the last end, and processor ms a task of all processes."""
    tasks = runs * sizes.flows[flow]
    cpu, began = children_cpu_seconds(), time.time()
    run_ids = _start(side, flow, runs)
    _wait(side, run_ids, POLL_S)
    used = children_cpu_seconds() - cpu
    last = max(ended.ended_s for ended in _read(side, run_ids, sizes.flows[flow]).values())
    return tasks / (last - began), used / tasks * 1000


def _start(side: Side, flow: str, runs: int) -> dict[str, str]:
    """Ask for runs, some at a time; return the flow of each by its id."""
    with ThreadPoolExecutor(STARTS_AT_ONCE) as threads:
        return dict.fromkeys(threads.map(lambda _: side.start(flow), range(runs)), flow)


def _ended(side: Side, started: Mapping[str, str], sizes: Sizes, poll_s: float) -> dict[str, Ended]:
    _wait(side, started, poll_s)
    (flow,) = set(started.values())
    return _read(side, started, sizes.flows[flow])


def _wait(side: Side, run_ids: Mapping[str, str], poll_s: float) -> None:
    deadline = time.monotonic() + END_MOST_S
    while not side.over(list(run_ids)):
        if time.monotonic() > deadline:
            raise Wrong(f"not all of {len(run_ids)} runs have ended after {END_MOST_S:.0f} s")
        time.sleep(poll_s)


def _read(side: Side, run_ids: Mapping[str, str], tasks: int) -> dict[str, Ended]:
    found = {run_id: side.read(run_id) for run_id in run_ids}
    for run_id, ended in found.items():
        made = {span.key for span in ended.tasks}
        if not ended.succeeded or len(made) != tasks or len(ended.tasks) != tasks:
            said = "succeeded" if ended.succeeded else "did not succeed"
            raise Wrong(f"run {run_id} {said}, with {len(ended.tasks)} attempts of {len(made)} of its {tasks} tasks")
    return found


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
