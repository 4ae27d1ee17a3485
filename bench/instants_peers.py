"""Which instants peers name for cron lines: each asked by its own library, in an environment of its own.

Each program reads `[[line, zone, start, end], ...]` as JSON, times in seconds since 1970, and prints a list: the
instants from `start` until before `end`, or what the peer says instead of them. Temporal is asked over the wire.
"""

from __future__ import annotations

import json
import subprocess
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp
from temporalio.api.workflowservice.v1 import ListScheduleMatchingTimesRequest
from temporalio.client import Client, Schedule, ScheduleActionStartWorkflow, ScheduleSpec, ScheduleState
from temporalio.service import RPCError

from bench.runs_peers import DAGSTER, PREFECT
from springline.local.run import ToolFailed

AIRFLOW: Final = ("apache-airflow==3.3.2",)
ANSWER_MOST_S: Final = 300.0
MOST: Final = 1_000
"""Instants of one line: none of the lines has so many."""
_SHORT: Final = 160

Asked = tuple[str, str, int, int]
"""A line, its zone, and from when until before when in seconds since 1970."""
Answer = list[int] | str
"""The instants that are named, or why there are none."""

_PROGRAM: Final = """\
import json
import sys

{functions}

answers = []
for line, zone, start, end in json.load(sys.stdin):
    found = []
    try:
        for instant in instants(line, zone, start, end):
            if instant >= end or len(found) >= {most}:
                break
            if instant >= start:
                found.append(int(instant))
    except Exception as error:
        found = f"{{type(error).__name__}}: {{error}}"
    answers.append(found)
json.dump(answers, sys.stdout)
"""
_DAGSTER: Final = """\
from dagster import ScheduleDefinition, job, op
from dagster._utils.schedules import schedule_execution_time_iterator


@op
def nothing():
    pass


@job
def nothings():
    nothing()


def instants(line, zone, start, end):
    ScheduleDefinition(job=nothings, cron_schedule=line, execution_timezone=zone)
    for at in schedule_execution_time_iterator(start, line, zone, ascending=True):
        yield at.timestamp()
"""
_AIRFLOW: Final = """\
import pendulum
from airflow.timetables.base import TimeRestriction
from airflow.timetables.trigger import CronTriggerTimetable


def instants(line, zone, start, end):
    timetable = CronTriggerTimetable(line, timezone=zone)
    timetable.validate()
    window = TimeRestriction(pendulum.from_timestamp(start), pendulum.from_timestamp(end), True)
    last = None
    while True:
        info = timetable.next_dagrun_info(last_automated_data_interval=last, restriction=window)
        if info is None:
            return
        last = info.data_interval
        yield info.run_after.timestamp()
"""
_PREFECT: Final = """\
import asyncio
from datetime import datetime, timezone

from prefect.server.schemas.schedules import CronSchedule


def instants(line, zone, start, end):
    begin, until = (datetime.fromtimestamp(at, timezone.utc) for at in (start, end))
    schedule = CronSchedule(cron=line, timezone=zone)
    for at in asyncio.run(schedule.get_dates(n={most}, start=begin, end=until)):
        yield at.timestamp()
"""
PROGRAMS: Final = {
    "Dagster": (DAGSTER, _PROGRAM.format(functions=_DAGSTER, most=MOST)),
    "Airflow": (AIRFLOW, _PROGRAM.format(functions=_AIRFLOW, most=MOST)),
    "Prefect": (PREFECT, _PROGRAM.format(functions=_PREFECT.format(most=MOST), most=MOST)),
}
"""Of each peer: the packages that its program needs, and the program."""


def answered_by(python: Path, program: str, asked: Sequence[Asked], folder: Path) -> list[Answer]:
    """Return what a peer names for each line. Raises `ToolFailed` if it does not answer.

    `python` has its packages; it works in `folder`, below which it may leave what it likes.
    """
    file = folder / "named.py"
    file.write_text(program)
    homes = {name: str(folder) for name in ("HOME", "AIRFLOW_HOME", "DAGSTER_HOME", "PREFECT_HOME")}
    try:
        done = subprocess.run(
            [python, file],
            input=json.dumps(asked),
            env={"PATH": "/usr/bin:/bin", **homes},
            capture_output=True,
            text=True,
            timeout=ANSWER_MOST_S,
            check=True,
        )
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        raise ToolFailed(f"{python} names no instants: {str(error.stderr or error)[-2_000:]}") from error
    # What comes before are warnings of the peer itself.
    answers: list[Answer] = json.loads(done.stdout.strip().splitlines()[-1])
    return [one if isinstance(one, list) else _short(one) for one in answers]


async def answered_by_temporal(client: Client, asked: Sequence[Asked]) -> list[Answer]:
    """Return what the schedules of a Temporal server name for each line."""
    return [await _of_temporal(client, one) for one in asked]


async def _of_temporal(client: Client, asked: Asked) -> Answer:
    line, zone, start, end = asked
    name = f"instants-{uuid.uuid4()}"
    # Temporal counts from behind the start.
    first, last = Timestamp(seconds=start - 1, nanos=999_999_999), Timestamp(seconds=end - 1, nanos=999_999_999)
    try:
        handle = await client.create_schedule(
            name,
            Schedule(
                action=ScheduleActionStartWorkflow("Nothing", id=name, task_queue="nobody"),
                spec=ScheduleSpec(cron_expressions=[line], time_zone_name=zone),
                state=ScheduleState(paused=True),
            ),
        )
        try:
            found = await client.workflow_service.list_schedule_matching_times(
                ListScheduleMatchingTimesRequest(
                    namespace=client.namespace, schedule_id=name, start_time=first, end_time=last
                )
            )
        finally:
            await handle.delete()
    except RPCError as error:
        return _short(f"refused: {error.message}")
    return [one.seconds for one in found.start_time]


def seconds(text: str) -> int:
    """Return an instant in UTC, such as `2026-03-29T01:00`, in seconds since 1970."""
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _SHORT else f"{line[: _SHORT - 3]}..."
