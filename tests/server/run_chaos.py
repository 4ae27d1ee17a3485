"""Runs of a pipeline while everything that executes them is killed, and what must be true of them in the end.

Each function of the pipeline writes a line into a file before it does anything else: what ran is known from elsewhere
than the ledger.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from temporalio.client import WorkflowExecutionStatus, WorkflowHandle
from temporalio.service import RPCError

from springline import names
from springline.cli.pipelines import body_of, describe
from springline.client.backfills import BackfillsOfWorkspace
from springline.client.http import ApiClient
from springline.client.runs import RunsOfWorkspace
from springline.errors import Code, Refused
from springline.local.processes import Child, module_command
from springline.local.stack import API, TEMPORAL
from springline.projection.schema import FINISHED_RUN
from springline.published.head import read_head
from springline.published.reader import PublishedReader
from tests.server.appends import Appends, Stopwatch
from tests.server.cluster import Cluster
from tests.support.rows import SCOPE

EXECUTIONS = "executions"
TASKS = 12
BEGIN = """
import os, time
from pathlib import Path
from springline.sdk import Context, asset

EXECUTIONS = Path(__file__).parent / "executions"
made = asset(heartbeat="3s", retries=8, retry_delay="200ms")

def begin(context):
    place = os.open(EXECUTIONS, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(place, f"{context.run_id} {context.task_key} {context.attempt} {time.monotonic()}\\n".encode())
    os.close(place)
"""
"""What every pipeline here begins with. The clock is the machine's: processes can compare it."""
FLOW = (
    BEGIN
    + """
def begin_and_fail_once(context):
    begin(context)
    if context.attempt == 1:
        raise RuntimeError("the first attempt fails")

@made
def raw_flights(context: Context) -> int:
    begin(context)
    return 3

@made
def raw_airports(context: Context) -> None:
    begin_and_fail_once(context)

@made
def raw_weather(context: Context) -> None:
    begin(context)
    time.sleep(0.5)

@made
def flights(context: Context, raw_flights: int) -> int:
    begin_and_fail_once(context)
    return raw_flights + 1

@asset(heartbeat="3s", retries=8, retry_delay="200ms", deps=[raw_airports])
def airports(context: Context) -> None:
    begin(context)
    if context.attempt == 1:
        os._exit(9)

@asset(heartbeat="3s", retries=8, retry_delay="200ms", deps=[raw_weather])
def weather(context: Context) -> None:
    begin(context)
    time.sleep(1)

@asset(heartbeat="3s", retries=8, retry_delay="200ms", deps=[airports, weather])
def joined(context: Context, flights: int) -> int:
    begin(context)
    return flights + 1

@made
def delays(context: Context, joined: int) -> int:
    begin(context)
    time.sleep(3)
    return joined + 1

@made
def cancellations(context: Context, joined: int) -> int:
    begin_and_fail_once(context)
    return joined + 2

@made
def by_airport(context: Context, delays: int, cancellations: int) -> int:
    begin(context)
    return delays + cancellations

@made
def by_day(context: Context, delays: int) -> int:
    begin(context)
    time.sleep(0.2)
    return delays

@made
def report(context: Context, by_airport: int, by_day: int) -> None:
    begin(context)
    assert by_airport + by_day == 19
"""
)


class Execution(NamedTuple):
    """A function that was begun: when, in seconds of the machine's clock."""

    run_id: str
    task: str
    attempt: int
    at_s: float


class RunChaos:
    """A deployed pipeline, two workers of users and two of ours, and the runs that were started."""

    def __init__(self, cluster: Cluster, appends: Appends, seed: int, flow: str = FLOW, users: int = 2) -> None:
        self.cluster = cluster
        self.appends = appends
        self.folder = cluster.folder / "pipeline"
        self.folder.mkdir()
        self.flow = self.folder / "flow.py"
        self.flow.write_text(flow)
        self.users = users
        self.runs: list[str] = []
        self.disowned: set[str] = set()
        """Runs whose workflow was taken from them: what it had begun and not recorded yet, nobody knows of."""
        self.kills: Counter[str] = Counter()
        self._random = Random(seed)
        self._reader = PublishedReader(appends.store)
        self._users: list[Child] = []
        self._api = ApiClient(cluster.stack.api_url, cluster.stack.token(), deadline_s=180)
        self._asked = RunsOfWorkspace(self._api)
        self.backfills = BackfillsOfWorkspace(self._api)

    @classmethod
    async def open(cls, cluster: Cluster, seed: int, flow: str = FLOW, users: int = 2) -> RunChaos:
        """Start the workers and deploy the pipeline. `cluster` has the API."""
        chaos = cls(cluster, await Appends.open(cluster, SCOPE), seed, flow, users)
        chaos.revive()
        await cluster.ready(*cluster.workers)
        await asyncio.to_thread(chaos.deploy)
        return chaos

    async def aclose(self) -> None:
        """Stop the workers of users."""
        for child in self._users:
            child.kill()
        self._api.close()
        await self.appends.aclose()

    def deploy(self) -> None:
        """Deploy the pipeline through the API."""
        found = describe(str(self.flow), None)
        assert not found["problems"], found["problems"]
        self._api.call("POST", "/api/v1/manifests", body=body_of(found))

    def post(self, route: str, body: Mapping[str, Any] | None = None) -> None:
        """Ask the API for something, however often it dies meanwhile."""
        self._api.call("POST", route, body=body)

    # Workers.

    def revive(self) -> None:
        """Start anew whatever is dead."""
        self.cluster.workers = [child for child in self.cluster.workers if child.running]
        while len(self.cluster.workers) < 2:
            self.cluster.fork_worker()
        self._users = [child for child in self._users if child.running]
        while len(self._users) < self.users:
            self.start_user_worker()
        for name in self.cluster.stack.dead_children():
            self.cluster.stack.start_child(name, wait=False)

    @property
    def user_workers(self) -> list[Child]:
        """The workers of users that are there."""
        return [child for child in self._users if child.running]

    def start_user_worker(self) -> Child:
        """Start `springline work` on the pipeline."""
        child = Child(
            f"user-{len(self._users)}",
            module_command("springline.cli", "work", self.flow.name, "--concurrency", "4"),
            env=self.cluster.stack.user_environment(),
            cwd=self.folder,
            log=self.folder / "users.log",
        )
        child.start()
        self._users.append(child)
        return child

    def kill(self, kind: str) -> None:
        """End something at once: one of the workers, the API or the Temporal server."""
        self.kills[kind] += 1
        if kind == "user":
            # Only the worker: the processes of its attempts must end by themselves.
            victim = self._random.choice(self._users)
            assert victim.pid is not None
            with contextlib.suppress(ProcessLookupError):
                os.kill(victim.pid, signal.SIGKILL)
            victim.wait()
        elif kind == "worker":
            self._random.choice(self.cluster.workers).kill()
        else:
            self.cluster.stack.kill(kind)

    async def kill_at_random(self, seconds: float, every_s: float) -> None:
        """Kill something every few seconds, and start it again a moment later."""
        watch = Stopwatch()
        while watch.seconds < seconds:
            await asyncio.sleep(self._random.uniform(0.5, 1.5) * every_s)
            await asyncio.to_thread(self.kill, self._random.choice(["user", "user", "worker", "worker", API, TEMPORAL]))
            await asyncio.sleep(self._random.uniform(0, 0.5))
            self.revive()

    # Runs.

    async def start(self, number: int) -> str:
        """Start a run of everything through the API, however often it dies meanwhile."""
        answer = await asyncio.to_thread(self._asked.start, "*", run_key=f"chaos-{number}")
        run_id: str = answer["run_id"]
        self.runs.append(run_id)
        return run_id

    async def cancel(self, run_id: str) -> None:
        """Cancel a run; one that has ended meanwhile stays as it is."""
        try:
            await asyncio.to_thread(self._asked.cancel, run_id, "chaos")
        except Refused as error:
            assert error.refusal.code is Code.EVENT_CONFLICT, error

    async def terminate(self, run_id: str) -> None:
        """Terminate a run's workflow by hand, as an operator may by mistake."""
        self.disowned.add(run_id)
        handle = self.appends.client.get_workflow_handle(names.run_workflow_id(SCOPE.tenant, SCOPE.workspace, run_id))
        await self._insist(lambda: handle.terminate("by mistake"))

    async def wipe(self) -> None:
        """Have Temporal lose everything, while all that works goes on working."""
        self.disowned.update(self.runs)
        await asyncio.to_thread(self.cluster.stack.wipe_temporal)
        self.disowned.update(one.run_id for one in self.executions())
        await self.appends.reconnect()

    async def _insist(self, call: Callable[[], Awaitable[Any]]) -> Any:
        """Call the Temporal server until it answers: it may be away for a moment."""
        while True:
            try:
                return await call()
            except RPCError as error:
                if error.message.startswith("workflow execution already completed"):
                    return None
                await asyncio.sleep(0.2)

    async def begun(self, run_id: str, *, executions: int = 1) -> None:
        """Wait until functions of a run were executed so many times."""
        while sum(one.run_id == run_id for one in self.executions()) < executions:  # noqa: ASYNC110 - a file, nobody tells
            await asyncio.sleep(0.05)

    def executions(self) -> list[Execution]:
        """Return what was executed, in order."""
        place = self.folder / EXECUTIONS
        if not place.exists():
            return []
        lines = [line.split() for line in place.read_text().splitlines()]
        return [Execution(run_id, task, int(attempt), float(at_s)) for run_id, task, attempt, at_s in lines]

    # The end.

    async def rows(self, table: str) -> list[dict[str, Any]]:
        """Return the rows of a table as it is published."""
        rows = (await self._reader.snapshot(SCOPE, [table]))[table]
        columns = [column.name for column in rows.table.columns]
        return [dict(zip(columns, row, strict=True)) for row in rows]

    async def ended(self, within_s: float) -> float:
        """Wait for the end of every run and its workflow; return after how many seconds that was."""
        watch = Stopwatch()
        while watch.seconds < within_s:
            self.revive()
            states = {row["run_id"]: row["state"] for row in await self.rows("runs")}
            if all(states.get(run_id) in FINISHED_RUN for run_id in self.runs) and not await self.open_workflows():
                return watch.seconds
            await asyncio.sleep(0.2)
        raise AssertionError(f"not ended within {within_s:g} s: {await self.told()}")

    async def open_workflows(self) -> list[str]:
        """Return the runs whose workflow has not ended, or that have none."""
        found = []
        for run_id in self.runs:
            workflow_id = names.run_workflow_id(SCOPE.tenant, SCOPE.workspace, run_id)
            described = await self._insist(self.appends.client.get_workflow_handle(workflow_id).describe)
            if described is None or described.status is WorkflowExecutionStatus.RUNNING:
                found.append(run_id)
        return found

    async def told(self) -> dict[str, Any]:
        """Return what is known of runs that have not ended."""
        states = {row["run_id"]: row["state"] for row in await self.rows("runs")}
        tasks = await self.rows("tasks")
        launcher = self.appends.client.get_workflow_handle(names.run_launcher_id(SCOPE.tenant, SCOPE.workspace))
        told: dict[str, Any] = {"launcher": await self._status(launcher)}
        for run_id in self.runs:
            if states.get(run_id) in FINISHED_RUN and run_id not in await self.open_workflows():
                continue
            workflow_id = names.run_workflow_id(SCOPE.tenant, SCOPE.workspace, run_id)
            status = await self._status(self.appends.client.get_workflow_handle(workflow_id))
            own = {row["task_key"]: (row["state"], row["attempt"]) for row in tasks if row["run_id"] == run_id}
            told[run_id] = {"state": states.get(run_id), "workflow": status, "tasks": own}
        return told

    @staticmethod
    async def _status(handle: WorkflowHandle[Any, Any]) -> Any:
        with contextlib.suppress(RPCError):
            described = await handle.describe()
            return described.status, described.start_time, described.close_time, await handle.query(names.STATUS_QUERY)
        return None

    async def check(self) -> None:
        """Check that nothing was lost, nothing doubled, and that everything that ran is on record."""
        attempts, notes, tasks = [await self.rows(name) for name in ("x_attempts", "x_notes", "tasks")]
        recorded: defaultdict[tuple[str, str, int], set[str]] = defaultdict(set)
        outcomes: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
        numbers: defaultdict[tuple[str, str], set[int]] = defaultdict(set)
        for row in [*attempts, *notes]:
            recorded[(row["run_id"], row["task_key"], row["attempt"])].add(row["attempt_id"])
        for row in attempts:
            outcomes[(row["run_id"], row["task_key"])].append(row["outcome"].lower())
            numbers[(row["run_id"], row["task_key"])].add(row["attempt"])
        for task in tasks:
            whose = task["run_id"], task["task_key"]
            own, known = set(range(1, task["attempt"] + 1)), numbers[whose]
            noted = {number for run_id, key, number in recorded if (run_id, key) == whose}
            # A cancellation ends a task in the fold before its attempt has: a note tells of that one.
            assert known <= own <= noted, (task, sorted(known), sorted(noted))
            assert outcomes[whose].count("succeeded") == (task["state"] == "SUCCEEDED"), (task, outcomes[whose])
        for ran, times in Counter((one.run_id, one.task, one.attempt) for one in self.executions()).items():
            on_record = len(recorded[ran])
            assert on_record >= (1 if ran[0] in self.disowned else times), (ran, times, recorded[ran])
        head = await read_head(self.appends.scoped)
        assert head is not None
        ours = head.manifest.springline
        assert ours is not None
        bodies = self.appends.event_files()
        assert ours.events.count == len(bodies)
        assert ours.digest.whole == self.appends.folded(bodies)


@contextlib.asynccontextmanager
async def pipeline(folder: Path, seed: int, flow: str = FLOW, users: int = 2) -> AsyncIterator[RunChaos]:
    """Run a cluster with the API, and a pipeline on it with so many workers of users."""
    with Cluster(folder, api=True) as cluster:
        chaos = await RunChaos.open(cluster, seed, flow, users)
        try:
            yield chaos
        finally:
            await chaos.aclose()
