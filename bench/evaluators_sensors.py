"""Sensors on the embedded stack with a users' worker: lateness, what they cost, and messages that are pushed.

The sensors are functions of users, each called in a process of their worker: that is the dearest kind. One that is
ready-made, such as objects below a prefix, is evaluated by our own worker in the step that looks whether it is due.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from bench.evaluators_stack import Say, TooSlow, stack_in
from bench.measure import percentile
from bench.runs_side import children_cpu_seconds, until_ready
from bench.runs_springline import GRACE_S, READY
from springline.client import Springline
from springline.local.processes import Child, module_command
from springline.local.run import run_tool
from springline.local.stack import EmbeddedStack
from springline.paths import Scope

SCOPE: Final = Scope("bench", "sensors")
NOTES: Final = "notes.txt"
CALLS: Final = "calls.txt"
HOOKS: Final = 20
"""Sensors among which messages are spread."""
SENDERS: Final = 16
"""Threads that push at once."""
WORST: Final = ("raises", "hangs", "dies", "slow")
"""Sensors that are not to hold up the others."""
NOTED_S: Final = 1_800.0
_FLOW: Final = '''\
"""Sensors that find nothing, sensors that fail, and sensors of messages."""

import os
import time
from pathlib import Path

from springline.sdk import asset, sensor

FOLDER = Path(__file__).parent


@asset
def raw() -> None: ...


def nothing(context):
    called(context)


def called(context):
    note("{calls}", f"{{context.sensor_id}} {{time.time()}}")


def note(name, what):
    place = os.open(FOLDER / name, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(place, (what + "\\n").encode())
    os.close(place)


def raises(context):
    called(context)
    raise ValueError("it fails each time")


def hangs(context):
    called(context)
    time.sleep(3_600)


def dies(context):
    called(context)
    os._exit(9)


def slow(context):
    called(context)
    time.sleep(8)


def takes(context):
    note("{notes}", context.message.message_id)


for number in range({polls}):
    sensor(sensor_id=f"poll-{{number:03}}", every="{every_s}s", select=raw)(nothing)
if {worst}:
    for function in (raises, hangs, dies, slow):
        sensor(sensor_id=function.__name__, every="1s", timeout="10s", select=raw)(function)
for number in range({hooks}):
    sensor(sensor_id=f"hook-{{number:03}}", push=True, select=raw)(takes)
'''


@dataclass(frozen=True, slots=True)
class Polling:
    """What sensors came to: lateness in s, each evaluation of each, and the cores that all processes took meanwhile."""

    late: Sequence[float]
    cores: float


def flow_of(*, polls: int = 0, every_s: int = 30, worst: bool = False, hooks: int = 0) -> str:
    """Return a pipeline file with so many sensors that find nothing, and so many of messages."""
    return _FLOW.format(notes=NOTES, calls=CALLS, polls=polls, every_s=every_s, worst=worst, hooks=hooks)


def polled(folder: Path, count: int, every_s: int, seconds: float, say: Say, *, worst: bool = False) -> Polling:
    """Let so many sensors look each `every_s` seconds, and measure for so long; `worst`: beside some that fail.

    It begins an interval after each has looked once: at first all are due in the same second, and processes start.
    """
    with working(folder, flow_of(polls=count, every_s=every_s, worst=worst)):
        say(f"{count} sensors look each {every_s} s")
        began = time.monotonic()
        ids = [f"poll-{number:03}" for number in range(count)]
        _each_is_called(folder / CALLS, ids)
        say(f"each has looked once {time.monotonic() - began:.0f} s after the deploy")
        time.sleep(every_s)
        since, before = time.time(), children_cpu_seconds()
        time.sleep(seconds)
        until, cores = time.time(), (children_cpu_seconds() - before) / seconds
        calls = calls_in((folder / CALLS).read_text())
    if worst and not all(one in calls for one in WORST):
        raise TooSlow(f"the sensors that fail were not evaluated: {[one for one in WORST if one not in calls]}")
    late = []
    for sensor_id in ids:
        within = [
            late_s for due_s, late_s in lateness(calls[sensor_id], every_s) if since <= due_s < until - every_s / 2
        ]
        if len(within) < (seconds - every_s / 2) // (2 * every_s):
            raise TooSlow(f"sensor {sensor_id} was evaluated {len(within)} times within {seconds:g} s")
        late += within
    say(f"{len(late):,} evaluations: p50 {percentile(late, 0.5):.3f} s, p99 {percentile(late, 0.99):.3f} s late")
    return Polling(late, cores)


@dataclass(frozen=True, slots=True)
class Pushed:
    """Messages a second that were taken into the ledger, and that were evaluated, until the last one was."""

    accepted: float
    evaluated: float


def pushed(folder: Path, count: int, say: Say) -> Pushed:
    """Push so many messages over HTTP, and wait until each of them is evaluated, once.

    They are spread among sensors as callbacks of many systems are; the messages of one sensor are evaluated one after
    the other. Evaluation begins with the first message, and takes its part of the machine while others are pushed.
    """
    with working(folder, flow_of(hooks=HOOKS)) as stack:
        with Springline(stack.api_url, stack.token(), deadline_s=300) as lake:
            began = time.monotonic()
            with ThreadPoolExecutor(SENDERS) as senders:
                answers = list(senders.map(lambda number: _push(lake, number), range(count)))
            accepted_s = time.monotonic() - began
        say(f"{count:,} messages are in the ledger after {accepted_s:.1f} s")
        if len({one["event_id"] for one in answers}) != count:
            raise TooSlow(f"{count:,} messages were answered with fewer events")
        taken = _noted(folder / NOTES, count)
        evaluated_s = time.monotonic() - began
    wrong = {one: times for one, times in taken.items() if times != 1}
    if wrong or len(taken) != count:
        raise TooSlow(f"{len(taken):,} of {count:,} messages were evaluated, and not each once: {list(wrong)[:5]}")
    return Pushed(count / accepted_s, count / evaluated_s)


def _push(lake: Springline, number: int) -> dict[str, Any]:
    return lake.sensors.push(f"hook-{number % HOOKS:03}", {"number": number}, message_id=f"m-{number:06}")


def _noted(place: Path, count: int) -> Counter[str]:
    """Return how often each thing is noted, when so many are."""
    deadline = time.monotonic() + NOTED_S
    while True:
        noted = Counter(place.read_text().splitlines() if place.exists() else [])
        if len(noted) >= count:
            return noted
        if time.monotonic() > deadline:
            raise TooSlow(f"{len(noted):,} of {count:,} messages are evaluated after {NOTED_S:g} s")
        time.sleep(0.5)


def calls_in(noted: str) -> dict[str, list[float]]:
    """Return when the function of each sensor was called, in s since 1970, as functions have noted it."""
    calls: dict[str, list[float]] = defaultdict(list)
    for line in noted.splitlines():
        sensor_id, at = line.split(" ")
        calls[sensor_id].append(float(at))
    return calls


def lateness(calls: Sequence[float], every_s: float) -> list[tuple[float, float]]:
    """Return when each call but the first was due, an interval after the one before, and how late it was, in s."""
    return [(before + every_s, max(0.0, at - before - every_s)) for before, at in pairwise(calls)]


def _each_is_called(place: Path, ids: Sequence[str]) -> None:
    """Wait until each sensor's function was called once. Raises `TooSlow`."""
    deadline = time.monotonic() + NOTED_S
    while True:
        lacking = set(ids) - set(calls_in(place.read_text()) if place.exists() else ())
        if not lacking:
            return
        if time.monotonic() > deadline:
            raise TooSlow(f"{len(lacking):,} of {len(ids):,} sensors are not evaluated after {NOTED_S:g} s")
        time.sleep(0.5)


@contextmanager
def working(folder: Path, flow: str, *, workers: int = 1) -> Iterator[EmbeddedStack]:
    """Run a stack with so many workers of ours, a pipeline deployed, and a users' worker for it."""
    folder.mkdir(parents=True)
    (folder / "flow.py").write_text(flow)
    with stack_in(folder / "stack", SCOPE, workers=workers) as stack:
        environment = stack.user_environment()
        command = module_command("springline.cli", "work", "flow.py", "--concurrency", "2")
        worker = Child("work", command, env=environment, cwd=folder, log=folder / "work.log")
        worker.start()
        try:
            until_ready(worker, lambda: READY in worker.log.read_text())
            deploy = module_command("springline.cli", "deploy", "flow.py")
            run_tool(deploy, what="deploying to Springline", say=lambda _line: None, env=environment, cwd=folder)
            yield stack
        finally:
            worker.stop(GRACE_S)
