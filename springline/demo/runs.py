"""The demo's second part: a year of flights as a pipeline while what executes it is killed; and the proof."""

from __future__ import annotations

import asyncio
import random
import subprocess
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import duckdb
import orjson
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable
from pyarrow import parquet

from springline import paths
from springline.client import Springline
from springline.config import PREFIX
from springline.control.runs.ends import ENDED_APART
from springline.demo.automation import SENSOR, Arrivals, DemoAutomation, check_automation, start_backfill
from springline.demo.data import MONTHS, ROW
from springline.ledger.identifiers import sensor_run_key
from springline.local.processes import module_command, module_path
from springline.local.run import ToolFailed
from springline.local.stack import API, EmbeddedStack
from springline.projection.schema import FINISHED_RUN
from springline.published.reader import PublishedReader
from springline.storage.url import open_store
from springline.work.request import WorkRequest

FLOW: Final = Path(__file__).with_name("months.py")
LOCATION: Final = "months"
SCHEDULE: Final = "every-three-seconds"
BEGUN: Final = "begun.txt"
USERS: Final = ("users-1", "users-2")
"""The workers of users among the stack's processes."""
CONCURRENCY: Final = 2
STALLED_S: Final = 180.0
_QUERIES: Final = (
    "runs",
    "tasks",
    "schedule_ticks",
    "sensor_evals",
    "backfill_chunks",
    "x_chunks",
    "x_attempts",
    "x_notes",
)
_GLANCE_S: Final = 1.0
"""Between two looks at what is made beside the pipeline."""

_LATEST: Final = (
    "SELECT carrier, sum(minutes) / sum(flights) AS late FROM delays GROUP BY ALL ORDER BY late DESC LIMIT 3"
)

Rows = list[dict[str, Any]]


@dataclass
class MonthsStanding:
    """How far everything is: the pipeline's tasks by state; files that came, and those and months that are done."""

    tasks: Counter[str] = field(default_factory=Counter)
    files: int = 0
    files_done: int = 0
    months_done: int = 0
    run_is_over: bool = False
    all_is_over: bool = False


@dataclass
class MonthsRun:
    """What became of the pipeline. `problems` is empty if all is right."""

    run_id: str = ""
    took_s: float = 0.0
    kills: Counter[str] = field(default_factory=Counter)
    begun: int = 0
    rows: int = 0
    report: list[str] = field(default_factory=list)
    outcomes: Counter[str] = field(default_factory=Counter)
    runs: Counter[str] = field(default_factory=Counter)
    ticks: Counter[str] = field(default_factory=Counter)
    automation: DemoAutomation = field(default_factory=DemoAutomation)
    digest: str = ""
    offline: dict[str, Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


class _Killer(threading.Thread):
    """Kills a worker of users, our worker or the API about every `every_s` seconds, and starts it again."""

    def __init__(self, stack: EmbeddedStack, every_s: float, seed: int) -> None:
        super().__init__(name="killer", daemon=True)
        self.kills: Counter[str] = Counter()
        self.failure: Exception | None = None
        self._stack, self._every_s = stack, every_s
        self._random = random.Random(seed)
        self._ended = threading.Event()

    def run(self) -> None:
        """Kill and restart until told to stop."""
        (worker,) = self._stack.worker_names
        kinds = {"our worker": [worker], "a worker of users": list(USERS), "the API": [API]}
        try:
            turn = list(kinds)
            while not self._ended.wait(self._random.uniform(0.5, 1.5) * self._every_s):
                kind = turn[self.kills.total() % len(turn)]
                victim = self._random.choice(kinds[kind])
                self._stack.kill(victim)
                self.kills[kind] += 1
                self._stack.start_child(victim, wait=False)
                self._stack.wait_through_kills(victim)
        except Exception as error:
            self.failure = error

    def stop(self) -> None:
        """Stop killing; returns when everything is up."""
        self._ended.set()
        self.join()


def run_months(
    stack: EmbeddedStack,
    source: pa.Table,
    *,
    every_s: float,
    task_s: float,
    seed: int,
    progress: Callable[[MonthsStanding, int, int], None],
) -> MonthsRun:
    """Make every month of a year under kills, with a schedule, a sensor and a backfill beside it.

    Then compare all of it with what it must be. `source` has the flights. `task_s`: how long each step of a task takes
    at least, in seconds, and how long after a file the next one comes. `progress` is called with how far everything is,
    how many files come, and the number of kills. Raises `ToolFailed` if it cannot go on.
    """
    folder = stack.folder / "months"
    folder.mkdir()
    for number, month in enumerate(MONTHS, 1):
        parquet.write_table(source.filter(pc.equal(source["month"], number)), folder / f"{month}.parquet")
    (folder / BEGUN).touch()
    arrivals = Arrivals(folder, source, task_s)
    done = MonthsRun()
    _start_users(stack, folder, task_s)
    command_line(stack, "deploy", str(FLOW))
    killer = _Killer(stack, every_s, seed)
    began = time.monotonic()
    with Springline(stack.api_url, stack.token(), deadline_s=180) as lake:
        answer = lake.runs.start("*report", MONTHS, run_key="a-year-of-flights")
        done.run_id = answer["run_id"]
        done.automation.backfill_id = start_backfill(lake)
        killer.start()
        arrivals.start()
        try:
            _wait(lake, done, killer, arrivals, progress)
        finally:
            arrivals.stop()
            killer.stop()
        if killer.failure is not None:
            raise ToolFailed(f"what was killed did not come back: {killer.failure}")
        done.took_s, done.kills = time.monotonic() - began, killer.kills
        # Schedule and sensor end here, and what they have asked for is waited for: nothing is under way any more.
        command_line(stack, "schedule", "pause", SCHEDULE)
        command_line(stack, "sensor", "pause", SENSOR)
        _wait_for_all(lake)
        done.digest = lake.state.digest()["digest"]
        _check_tables(lake, source, done)
        found = asyncio.run(_rows(stack))
        _check_rows(folder, found, done)
        done.automation.files = arrivals.came
        check_automation(lake, folder, source, found, done.automation)
        done.problems += done.automation.problems
    _fold_offline(stack, done, seed)
    return done


def command_line(stack: EmbeddedStack, *arguments: str) -> str:
    """Return what a command of `springline` prints against the stack; raises `ToolFailed` if it fails."""
    ended = subprocess.run(
        module_command("springline.cli", *arguments),
        env=stack.user_environment(),
        cwd=stack.folder,
        capture_output=True,
        text=True,
        check=False,
    )
    if ended.returncode != 0:
        raise ToolFailed(f"springline {' '.join(arguments[:2])} ended with code {ended.returncode}:\n{ended.stderr}")
    return ended.stdout


def _start_users(stack: EmbeddedStack, folder: Path, task_s: float) -> None:
    """Start the workers of users: `springline work months.py`, twice."""
    more = {
        f"{PREFIX}DEMO_FOLDER": str(folder),
        f"{PREFIX}DEMO_TASK_SECONDS": f"{task_s:g}",
        "PYTHONPATH": module_path(None),
    }
    for name in USERS:
        request = WorkRequest(
            file=str(FLOW),
            tenant=stack.scope.tenant,
            workspace=stack.scope.workspace,
            location=LOCATION,
            concurrency=CONCURRENCY,
            ready_file=str(stack.ready_file(name)),
        )
        command = module_command("entrypoints.work", request.model_dump_json())
        stack.add_child(name, command, env=stack.user_environment() | more, cwd=folder)
        stack.start_child(name, wait=False)
    for name in USERS:
        stack.wait_through_kills(name)


def _wait(
    lake: Springline,
    done: MonthsRun,
    killer: _Killer,
    arrivals: Arrivals,
    progress: Callable[[MonthsStanding, int, int], None],
) -> None:
    """Wait for the end of the pipeline's run, of the backfill, and of a run for each file."""
    seen, changed, glanced = MonthsStanding(), time.monotonic(), 0.0
    while True:
        glance = time.monotonic() - glanced >= _GLANCE_S
        now = _standing(lake, done, arrivals, seen, glance=glance)
        glanced = time.monotonic() if glance else glanced
        progress(now, arrivals.total, killer.kills.total())
        if now.all_is_over:
            return
        if now != seen:
            seen, changed = now, time.monotonic()
        if time.monotonic() - changed > STALLED_S or killer.failure is not None:
            if killer.failure is None and now.run_is_over:
                # What is missing is told when all is compared.
                done.problems.append(f"nothing moves for {STALLED_S:.0f} s, and not all is done")
                return
            raise ToolFailed(f"run {done.run_id} stands still: {killer.failure or dict(now.tasks)}")
        time.sleep(0.3)


def _standing(
    lake: Springline, done: MonthsRun, arrivals: Arrivals, before: MonthsStanding, *, glance: bool
) -> MonthsStanding:
    """Return how far everything is; what is beside the pipeline as it was `before`, unless it is to be glanced at."""
    shown = lake.runs.get(done.run_id)
    now = replace(before, tasks=Counter(task["state"] for task in shown["tasks"]), files=len(arrivals.came))
    now.run_is_over = shown["run"]["state"] in FINISHED_RUN
    if glance:
        backfill = lake.backfills.get(done.automation.backfill_id)
        now.months_done = (backfill["progress"] or {}).get("done", 0)
        own = sensor_run_key(SENSOR, "")
        of_files = [run for run in lake.state.runs() if (run["run_key"] or "").startswith(own)]
        now.files_done = sum(run["state"] in FINISHED_RUN for run in of_files)
        is_quiet = backfill["backfill"]["state"] in FINISHED_RUN and now.files_done >= arrivals.total
        now.all_is_over = now.run_is_over and is_quiet and not arrivals.is_alive()
    return now


def _wait_for_all(lake: Springline) -> None:
    """Wait until every run has ended, those of the schedule too."""
    deadline = time.monotonic() + STALLED_S
    while any(run["state"] in ("TRIGGERED", "RUNNING") for run in lake.state.runs()):
        if time.monotonic() > deadline:
            raise ToolFailed("runs of the schedule do not end")
        time.sleep(0.2)


def _check_tables(lake: Springline, source: pa.Table, done: MonthsRun) -> None:
    """Compare the tables, read by a foreign library, with what the source says that they must be."""
    read = pa.table(DeltaTable(lake.table("loaded_flights").location).to_pyarrow_table())
    done.rows = read.num_rows
    if not read.select(source.column_names).sort_by(ROW).cast(source.schema).equals(source):
        done.problems.append(f"loaded_flights has {read.num_rows} rows and is not the source, {source.num_rows} rows")
    at_once = (
        "SELECT month, carrier, count(*), sum(dep_delay)::BIGINT FROM flights "
        "WHERE dep_time IS NOT NULL GROUP BY ALL ORDER BY ALL"
    )
    of_source = duckdb.from_arrow(source).query("flights", at_once).fetchall()
    delays = duckdb.from_arrow(DeltaTable(lake.table("delays").location).to_pyarrow_table())
    told = delays.query("delays", "SELECT month, carrier, flights, minutes FROM delays ORDER BY ALL").fetchall()
    done.report = [f"{carrier} {minutes:.1f} min" for carrier, minutes in delays.query("delays", _LATEST).fetchall()]
    if told != of_source:
        done.problems.append(f"delays has {len(told)} rows, and they differ from those computed at once")


async def _rows(stack: EmbeddedStack) -> dict[str, Rows]:
    """Return the rows of every table that is looked at, as they are published."""
    store = open_store(stack.store_url)
    try:
        snapshot = await PublishedReader(store).snapshot(stack.scope, _QUERIES)
        found: dict[str, Rows] = {}
        for name in _QUERIES:
            columns = [column.name for column in snapshot[name].table.columns]
            found[name] = [dict(zip(columns, row, strict=True)) for row in snapshot[name]]
    finally:
        await store.aclose()
    return found


def _check_rows(folder: Path, found: Mapping[str, Rows], done: MonthsRun) -> None:
    """See that every attempt that began is on record, that none counts twice, and which ticks were due."""
    recorded: defaultdict[tuple[str, str, int], set[str]] = defaultdict(set)
    apart = (row for row in found["x_notes"] if row["note"] == ENDED_APART)
    for row in (*found["x_attempts"], *apart):
        recorded[(row["run_id"], row["task_key"], row["attempt"])].add(row["attempt_id"])
    begun = [line.rsplit(" ", 2) for line in (folder / BEGUN).read_text().splitlines()]
    done.begun = len(begun)
    for (run_id, key, attempt), times in Counter((one[0], one[1], int(one[2])) for one in begun).items():
        if len(recorded[run_id, key, attempt]) < times:
            done.problems.append(f"attempt {attempt} of {key} began {times} times and is not on record as often")
    succeeded = Counter(
        (row["run_id"], row["task_key"]) for row in found["x_attempts"] if row["outcome"] == "SUCCEEDED"
    )
    for task in found["tasks"]:
        if task["state"] != "SUCCEEDED" or succeeded[task["run_id"], task["task_key"]] != 1:
            done.problems.append(f"{task['task_key']} of {task['run_id']} is {task['state']}")
    done.outcomes = Counter(_outcome(row) for row in found["x_attempts"])
    done.runs = Counter(row["state"] for row in found["runs"])
    _check_ticks(found["schedule_ticks"], found["runs"], done)


def _outcome(attempt: Mapping[str, Any]) -> str:
    if attempt["outcome"] == "SUCCEEDED":
        return "succeeded"
    lost = attempt["category"] == "INFRASTRUCTURE"
    return "lost with a worker, and made again" if lost else "failed by the pipeline's own code, and made again"


def _check_ticks(ticks: Rows, runs: Rows, done: MonthsRun) -> None:
    """See that every instant between the first tick and the last has one, and each that was to run a run."""
    instants = sorted(tick["scheduled_for"] // 1_000 for tick in ticks)
    if instants and instants != list(range(instants[0], instants[-1] + 1, 3)):
        done.problems.append(f"the ticks of {SCHEDULE} have gaps, or come twice")
    keys = {run["run_key"] for run in runs}
    for tick in ticks:
        status = orjson.loads(tick["status"])["status"]
        done.ticks[status] += 1
        if status == "triggered" and tick["run_key"] not in keys:
            done.problems.append(f"tick {tick['tick_id']} has no run")


def _fold_offline(stack: EmbeddedStack, done: MonthsRun, seed: int) -> None:
    """Fold every event that is in the store, in random order and batches, and compare with what is published."""
    store = stack.folder / "store"
    events = store / stack.scope.full(paths.ledger_prefix())
    own = store / stack.scope.prefix
    listed = [str(file.relative_to(own)) for file in sorted(events.glob("*/*.json"))]
    manifest, out = stack.folder / "events.json", stack.folder / "state.json.gz"
    manifest.write_bytes(orjson.dumps({"event_paths": listed}))
    options = ("--batch", "100", "--order", f"random:{seed}")
    place = ("--store", stack.store_url, "--tenant", stack.scope.tenant, "--workspace", stack.scope.workspace)
    said = command_line(stack, "state", "fold", *place, "--manifest", str(manifest), "--out", str(out), *options)
    done.offline = orjson.loads(said)
    if done.offline["events"] != len(listed):
        done.problems.append(f"{len(listed)} events are there, {done.offline['events']} were folded")
    if done.offline["digest"] != done.digest:
        done.problems.append(f"the published digest is {done.digest}, the folded one {done.offline['digest']}")
