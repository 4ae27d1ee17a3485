"""Dagster and Prefect as sides of `bench.runs`, each in an environment of its own below the user's cache folder.

Both are set up as for one machine: what they poll they ask for each second, and four runs are under way at once.
"""

from __future__ import annotations

import datetime
import os
import sys
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import httpx
import psutil

from bench.runs_side import CHAIN, ONE, SINGLE, WIDE, Ended, Sizes, Span, until_ready
from springline.local.cache import Cache
from springline.local.ports import LOOPBACK, free_ports
from springline.local.processes import Child
from springline.local.run import ToolFailed, run_tool

DAGSTER: Final = ("dagster==1.13.28", "dagster-webserver==1.13.28")
PREFECT: Final = ("prefect==3.9.1",)
IN_PROCESS: Final = "in_process"
MULTIPROCESS: Final = "multiprocess"

STOP_MOST_S: Final = 10.0
RUNS_AT_ONCE: Final = 4
ANSWER_MOST_S: Final = 60.0

_DAGSTER_SETTINGS: Final = """\
telemetry: {{enabled: false}}
run_coordinator:
  module: dagster.core.run_coordinator
  class: QueuedRunCoordinator
  config: {{max_concurrent_runs: {at_once}, dequeue_interval_seconds: 1}}
"""
_DAGSTER_FLOW: Final = """\
from dagster import (
    Definitions, DependencyDefinition, GraphDefinition, In, Nothing, in_process_executor, multiprocess_executor, op
)

EXECUTORS = {{
    "in_process": in_process_executor,
    "multiprocess": multiprocess_executor.configured({{"max_concurrent": {cores}}}),
}}


def nothing(name, waits):
    @op(name=name, ins={{"after": In(Nothing)}} if waits else {{}})
    def made():
        pass

    return made


def graph(flow, tasks):
    names = [f"{{flow}}_{{number:05}}" for number in range(tasks)]
    chained = flow == "chain"
    needs = zip(names[1:], names) if chained else ()
    return GraphDefinition(
        name=flow,
        node_defs=[nothing(name, chained and name != names[0]) for name in names],
        dependencies={{name: {{"after": DependencyDefinition(needed)}} for name, needed in needs}},
    )


graphs = [graph(flow, tasks) for flow, tasks in {flows}.items()]
defs = Definitions(
    jobs=[
        one.to_job(name=f"{{one.name}}_{{name}}", executor_def=executor)
        for one in graphs
        for name, executor in EXECUTORS.items()
    ]
)
"""
_DAGSTER_LOADED: Final = """\
query { repositoriesOrError { ... on RepositoryConnection { nodes { name } } } }
"""
_DAGSTER_LAUNCH: Final = """\
mutation ($asked: ExecutionParams!) {
  launchRun(executionParams: $asked) {
    __typename
    ... on LaunchRunSuccess { run { runId } }
    ... on PythonError { message }
    ... on PipelineNotFoundError { message }
  }
}
"""
_DAGSTER_STATES: Final = """\
query ($ids: [String]) { runsOrError(filter: {runIds: $ids}) { ... on Runs { results { status } } } }
"""
_DAGSTER_RUN: Final = """\
query ($id: ID!) {
  runOrError(runId: $id) { ... on Run { status endTime stepStats { stepKey status startTime endTime } } }
}
"""
_DAGSTER_OVER: Final = frozenset({"SUCCESS", "FAILURE", "CANCELED"})

_PREFECT_FLOW: Final = """\
from prefect import flow, task


@task
def nothing():
    pass


def submitted(name, number, waits_for=()):
    return nothing.with_options(task_run_name=f"{{name}}_{{number:05}}").submit(wait_for=waits_for)


def independent(name, tasks):
    for future in [submitted(name, number) for number in range(tasks)]:
        future.result()


@flow
def wide():
    independent("wide", {wide})


@flow
def single():
    independent("single", {single})


@flow
def one():
    independent("one", {one})


@flow
def chain():
    last = []
    for number in range({chain}):
        last = [submitted("chain", number, last)]
    for future in last:
        future.result()
"""
_PREFECT_DEPLOY: Final = """\
import sys

from prefect import flow

for name in sys.argv[2:]:
    found = flow.from_source(source=sys.argv[1], entrypoint=f"flow.py:{name}")
    found.deploy(name="bench", work_pool_name="bench", build=False, push=False, print_next_steps=False)
"""
_PREFECT_OVER: Final = ["COMPLETED", "FAILED", "CRASHED", "CANCELLED"]


def environment_of(packages: Sequence[str], cache: Cache) -> Path:
    """Return the Python of a virtual environment with these packages, made unless it is in the cache.

    Raises `ToolFailed` if they cannot be installed.
    """
    what = "-".join(one.replace("==", "-") for one in packages)
    name = f"bench-{what}-py{sys.version_info.major}.{sys.version_info.minor}"

    def build(folder: Path) -> None:
        cache.say(f"installing {' and '.join(packages)} for comparison, about a minute")
        run_tool([sys.executable, "-m", "venv", folder], what=f"making {name}", say=cache.say)
        pip: list[str | Path] = [folder / "bin" / "python", "-m", "pip", "--quiet", "--disable-pip-version-check"]
        run_tool([*pip, "install", *packages], what=f"installing {packages[0]}", say=cache.say)

    # Its programs name the folder they were installed in, which was renamed: only `python -m` works.
    return cache.obtain(name, build) / "bin" / "python"


class DagsterSide:
    """A webserver, a daemon with a queue of runs and a code server; jobs, each with one of the two executors."""

    def __init__(self, http: httpx.Client, executor: str) -> None:
        self._http = http
        self._executor = executor

    def loaded(self) -> bool:
        """Tell whether the jobs are known: the webserver answers before the code server does."""
        return bool(self._asked(_DAGSTER_LOADED)["repositoriesOrError"].get("nodes"))

    def start(self, flow: str, partition: str | None = None) -> str:
        """Put a run, of a partition if one is given, into the queue and return its id."""
        where = {"repositoryLocationName": "flow.py", "repositoryName": "__repository__"}
        asked: dict[str, Any] = {
            "selector": {**where, "pipelineName": f"{flow}_{self._executor}"},
            "mode": "default",
        }
        if partition is not None:
            asked["executionMetadata"] = {"tags": [{"key": "dagster/partition", "value": partition}]}
        answer = self._asked(_DAGSTER_LAUNCH, asked=asked)["launchRun"]
        if "run" not in answer:
            raise ToolFailed(f"Dagster launches no run of {flow}: {answer}")
        return str(answer["run"]["runId"])

    def over(self, run_ids: Sequence[str]) -> bool:
        """Tell whether all runs have ended."""
        found = self._asked(_DAGSTER_STATES, ids=list(run_ids))["runsOrError"]["results"]
        return len(found) == len(run_ids) and all(one["status"] in _DAGSTER_OVER for one in found)

    def read(self, run_id: str) -> Ended:
        """Return what is on record of a run that has ended."""
        found = self._asked(_DAGSTER_RUN, id=run_id)["runOrError"]
        spans = [
            Span(one["stepKey"], one["startTime"], one["endTime"])
            for one in found["stepStats"]
            if one["status"] == "SUCCESS"
        ]
        return Ended(found["status"] == "SUCCESS", found["endTime"] or time.time(), spans)

    def _asked(self, query: str, **variables: Any) -> dict[str, Any]:
        answer = self._http.post("/graphql", json={"query": query, "variables": variables}).raise_for_status().json()
        if "errors" in answer:
            raise ToolFailed(f"Dagster answers {answer['errors']}")
        data: dict[str, Any] = answer["data"]
        return data


class PrefectSide:
    """A server over SQLite and a worker of a process pool: one process for each run."""

    def __init__(self, http: httpx.Client, flows: Sequence[str]) -> None:
        self._http = http
        self._deployments = {flow: str(self._got(f"/deployments/name/{flow}/bench")["id"]) for flow in flows}

    def start(self, flow: str, **parameters: str) -> str:
        """Schedule a run for now and return its id."""
        asked = {"state": {"type": "SCHEDULED"}, "idempotency_key": str(uuid.uuid4()), "parameters": parameters}
        return str(self._posted(f"/deployments/{self._deployments[flow]}/create_flow_run", asked)["id"])

    def over(self, run_ids: Sequence[str]) -> bool:
        """Tell whether all runs have ended."""
        states = {"type": {"any_": _PREFECT_OVER}}
        wanted = {"flow_runs": {"id": {"any_": list(run_ids)}, "state": states}}
        return bool(self._posted("/flow_runs/count", wanted) == len(run_ids))

    def read(self, run_id: str) -> Ended:
        """Return what is on record of a run that has ended."""
        run = self._got(f"/flow_runs/{run_id}")
        tasks: list[dict[str, Any]] = []
        wanted = {"flow_runs": {"id": {"any_": [run_id]}}, "limit": 200}
        while page := self._posted("/task_runs/filter", {**wanted, "offset": len(tasks)}):
            tasks += page
        spans = [
            Span(one["name"], _epoch_s(one["start_time"]), _epoch_s(one["end_time"]))
            for one in tasks
            if one["state_type"] == "COMPLETED" and one["start_time"] and one["end_time"]
        ]
        ended_s = _epoch_s(run["end_time"]) if run["end_time"] else time.time()
        return Ended(run["state_type"] == "COMPLETED", ended_s, spans)

    def _got(self, path: str) -> Any:
        return self._http.get(f"/api{path}").raise_for_status().json()

    def _posted(self, path: str, body: Mapping[str, Any]) -> Any:
        """Return the answer; asked again while the server says "not now", as Prefect's own client does."""
        deadline = time.monotonic() + ANSWER_MOST_S
        while (answer := self._http.post(f"/api{path}", json=body)).status_code == httpx.codes.SERVICE_UNAVAILABLE:
            if time.monotonic() > deadline:
                break
            time.sleep(0.5)
        return answer.raise_for_status().json()


@contextmanager
def dagster_side(folder: Path, sizes: Sizes, python: Path, executor: str) -> Iterator[DagsterSide]:
    """Run Dagster with the four flows of a bench of runs."""
    flow = _DAGSTER_FLOW.format(cores=os.cpu_count() or 1, flows=dict(sizes.flows))
    with dagster(folder, flow, python, executor, RUNS_AT_ONCE) as side:
        yield side


@contextmanager
def dagster(folder: Path, flow: str, python: Path, executor: str, at_once: int) -> Iterator[DagsterSide]:
    """Run Dagster as `dagster dev` does, with its default storage (SQLite); end all of its processes at the end.

    `flow` is the text of its definitions; so many runs are under way `at_once`.
    """
    home = folder / "home"
    home.mkdir(parents=True)
    (home / "dagster.yaml").write_text(_DAGSTER_SETTINGS.format(at_once=at_once))
    (folder / "flow.py").write_text(flow)
    (port,) = free_ports(1)
    environment = _own_environment({"DAGSTER_HOME": str(home)})
    command: list[str | Path] = [python, "-m", "dagster", "dev", "-h", LOOPBACK, "-p", str(port), "-f", "flow.py"]
    with (
        _running(Child("dagster", command, env=environment, cwd=folder, log=folder / "dagster.log")) as child,
        httpx.Client(base_url=f"http://{LOOPBACK}:{port}", timeout=ANSWER_MOST_S) as http,
    ):
        side = DagsterSide(http, executor)
        until_ready(child, side.loaded)
        yield side


@contextmanager
def prefect_side(folder: Path, sizes: Sizes, python: Path) -> Iterator[PrefectSide]:
    """Run Prefect with the four flows of a bench of runs."""
    with prefect(folder, _PREFECT_FLOW.format(**sizes.flows), python, [WIDE, SINGLE, CHAIN, ONE], RUNS_AT_ONCE) as side:
        yield side


@contextmanager
def prefect(folder: Path, flow: str, python: Path, flows: Sequence[str], at_once: int) -> Iterator[PrefectSide]:
    """Run Prefect's server, deploy the flows and run a worker; end all of its processes at the end.

    `flow` is the text of its flows, whose names are `flows`; so many runs are under way `at_once`.
    """
    folder.mkdir()
    (folder / "flow.py").write_text(flow)
    (folder / "deploy.py").write_text(_PREFECT_DEPLOY)
    (port,) = free_ports(1)
    url = f"http://{LOOPBACK}:{port}"
    own = {
        "PREFECT_HOME": str(folder / "home"),
        "PREFECT_API_URL": f"{url}/api",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_WORKER_QUERY_SECONDS": "1",
    }
    environment = _own_environment(own)
    program: list[str | Path] = [python, "-m", "prefect"]

    def child(name: str, *arguments: str) -> Child:
        return Child(name, [*program, *arguments], env=environment, cwd=folder, log=folder / f"{name}.log")

    with ExitStack() as stack:
        serving = child("server", "server", "start", "--host", LOOPBACK, "--port", str(port))
        server = stack.enter_context(_running(serving))
        http = stack.enter_context(httpx.Client(base_url=url, timeout=ANSWER_MOST_S))
        until_ready(server, lambda: http.get("/api/health").is_success)
        pool: list[str | Path] = [*program, "work-pool", "create", "bench", "--type", "process"]
        deploy: list[str | Path] = [python, "deploy.py", folder, *flows]
        for command in (pool, deploy):
            run_tool(command, what="deploying to Prefect", say=lambda _line: None, env=environment, cwd=folder)
        limit = ("--type", "process", "--limit", str(at_once))
        stack.enter_context(_running(child("worker", "worker", "start", "--pool", "bench", *limit)))
        yield PrefectSide(http, flows)


@contextmanager
def _running(child: Child) -> Iterator[Child]:
    """Run a program; end it at the end, and what it has started."""
    child.start()
    try:
        yield child
    finally:
        started: list[psutil.Process] = []
        with suppress(psutil.NoSuchProcess):
            started = psutil.Process(child.pid).children(recursive=True)
        child.stop(STOP_MOST_S)
        for process in started:
            with suppress(psutil.NoSuchProcess):
                process.kill()


def _own_environment(own: Mapping[str, str]) -> dict[str, str]:
    """Return an environment without what the user has set for these programs, and without our modules."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("DAGSTER_", "PREFECT_", "SPRINGLINE_", "PYTHONPATH"))
    }
    return {**kept, **own}


def _epoch_s(timestamp: str) -> float:
    return datetime.datetime.fromisoformat(timestamp).timestamp()
