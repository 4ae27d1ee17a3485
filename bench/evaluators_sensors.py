"""Sensors on the embedded stack with a users' worker: lateness, what they cost, and messages that are pushed.

The sensors are functions of users, each called in a process of their worker: that is the dearest kind. One that is
ready-made, such as objects below a prefix, is evaluated by our own worker in the step that looks whether it is due, and
takes one activity where these take one to three.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent
from temporalio.service import RPCError, RPCStatusCode

from bench.evaluators_stack import Say, TooSlow, stack_in
from bench.measure import percentile
from bench.runs_side import children_cpu_seconds, until_ready
from bench.runs_springline import GRACE_S, READY
from entrypoints.connection import connect
from springline import names
from springline.client import Springline
from springline.local.processes import Child, module_command
from springline.local.run import run_tool
from springline.local.stack import EmbeddedStack
from springline.paths import Scope

SCOPE: Final = Scope("bench", "sensors")
NOTES: Final = "notes.txt"
HOOKS: Final = 20
"""Sensors among which messages are spread."""
SENDERS: Final = 16
"""Threads that push at once."""
WORST: Final = ("raises", "hangs", "dies", "slow")
"""Sensors that are not to hold up the others."""
NOTED_S: Final = 1_800.0
_HISTORIES: Final = 10
"""Histories that are read at once."""
_FLOW: Final = '''\
"""Sensors that find nothing, sensors that fail, and sensors of messages."""

import os
import time
from pathlib import Path

from springline.sdk import asset, sensor

PLACE = Path(__file__).parent / "{notes}"
SEEN = set()


@asset
def raw() -> None: ...


def nothing(context):
    """Look, and find nothing; the first time in this process, note that."""
    if context.sensor_id not in SEEN:
        SEEN.add(context.sensor_id)
        note(context.sensor_id)


def note(what):
    place = os.open(PLACE, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(place, (what + "\\n").encode())
    os.close(place)


def raises(context):
    raise ValueError("it fails each time")


def hangs(context):
    time.sleep(3_600)


def dies(context):
    os._exit(9)


def slow(context):
    time.sleep(8)


def takes(context):
    note(context.message.message_id)


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


@dataclass(frozen=True, slots=True)
class Call:
    """A call of a sensor's function: when it was due and when a worker began it, in s since 1970."""

    due_s: float
    began_s: float


def flow_of(*, polls: int = 0, every_s: int = 30, worst: bool = False, hooks: int = 0) -> str:
    """Return a pipeline file with so many sensors that find nothing, and so many of messages."""
    return _FLOW.format(notes=NOTES, polls=polls, every_s=every_s, worst=worst, hooks=hooks)


def polled(folder: Path, count: int, every_s: int, seconds: float, say: Say, *, worst: bool = False) -> Polling:
    """Let so many sensors look each `every_s` seconds, and measure for so long; `worst`: beside some that fail.

    It begins an interval after each has looked once: at first all are due in the same second, and processes start.
    """
    with _working(folder, flow_of(polls=count, every_s=every_s, worst=worst)) as stack:
        say(f"{count} sensors look each {every_s} s")
        began = time.monotonic()
        ids = [f"poll-{number:03}" for number in range(count)]
        _noted(folder / NOTES, count)
        say(f"each has looked once {time.monotonic() - began:.0f} s after the deploy")
        time.sleep(every_s)
        since, before = time.time(), children_cpu_seconds()
        time.sleep(seconds)
        until, cores = time.time(), (children_cpu_seconds() - before) / seconds
        calls = asyncio.run(_calls_of(stack, ids))
        failed = asyncio.run(_calls_of(stack, WORST)) if worst else {}
    if worst and not all(failed[one] for one in WORST):
        raise TooSlow(f"the sensors that fail were not evaluated: {[one for one in WORST if not failed[one]]}")
    late = []
    for sensor_id, found in calls.items():
        within = [one.began_s - one.due_s for one in found if since <= one.due_s < until - every_s / 2]
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
    with _working(folder, flow_of(hooks=HOOKS)) as stack:
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
            raise TooSlow(f"{len(noted):,} of {count:,} sensors or messages are evaluated after {NOTED_S:g} s")
        time.sleep(0.5)


async def _calls_of(stack: EmbeddedStack, sensor_ids: Sequence[str]) -> dict[str, list[Call]]:
    """Return the calls of functions, as the histories of the sensors' workflows have them."""
    client = await connect(address=stack.temporal_address)
    at_once = asyncio.Semaphore(_HISTORIES)

    async def one(sensor_id: str) -> list[Call]:
        async with at_once:
            workflow_id = names.sensor_workflow_id(SCOPE.tenant, SCOPE.workspace, sensor_id)
            history = client.get_workflow_handle(workflow_id).fetch_history_events()
            try:
                return calls_in([event async for event in history])
            except RPCError as error:
                if error.status is RPCStatusCode.NOT_FOUND:
                    raise TooSlow(f"nobody has evaluated sensor {sensor_id}") from error
                raise

    return dict(zip(sensor_ids, await asyncio.gather(*map(one, sensor_ids)), strict=True))


def calls_in(history: Sequence[HistoryEvent]) -> list[Call]:
    """Return the calls in a sensor's history: the order of each says since when it was due; it began later.

    A call that has not ended is none: Temporal notes the beginning of an activity when it ends.
    """
    found: list[Call] = []
    due: dict[int, float] = {}
    for event in history:
        if event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED:
            scheduled = event.activity_task_scheduled_event_attributes
            if scheduled.activity_type.name == names.EVALUATE_SENSOR:
                due_ms = json.loads(scheduled.input.payloads[0].data)["due_ms"]
                if due_ms is not None:
                    due[event.event_id] = due_ms / 1_000
        elif event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_STARTED:
            begun = event.activity_task_started_event_attributes
            if begun.scheduled_event_id in due:
                found.append(Call(due[begun.scheduled_event_id], event.event_time.ToNanoseconds() / 1e9))
    return found


@contextmanager
def _working(folder: Path, flow: str) -> Iterator[EmbeddedStack]:
    """Run a stack with a pipeline deployed, and a users' worker for it."""
    folder.mkdir(parents=True)
    (folder / "flow.py").write_text(flow)
    with stack_in(folder / "stack", SCOPE) as stack:
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
