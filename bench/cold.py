"""`python -m bench.cold`: what a large workspace costs a process that has just been started.

    python -m bench.cold [--tasks N ...] [--folder FOLDER] [--core N] [--out FILE]

For each size a workspace is made (some minutes for a million tasks; `--folder` keeps it for the next time), and the
embedded stack is started over it, all of its processes on one core. The worker is restarted, and then: how long the
first append takes and the ones behind it, how many attempts any step needed, what worker and API take of memory, and
how long the first page of tasks and a query of the command line take. Processor seconds stand beside the times,
because machines are busy. Exit code 0 if all answers were right, targets met or not; 2 for bad options.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
import psutil
from rich import box
from rich.console import Console
from rich.table import Table
from temporalio.client import Client

from bench.cold_workspace import EVENTS_OF_A_RUN, TASKS_OF_A_RUN, publish_workspace, run_id_of
from bench.measure import percentile
from springline import names
from springline.client import Springline
from springline.client.http import Unavailable
from springline.client.table import new_key
from springline.ledger.request import AppendOutcome, VisibilityStatus
from springline.local.processes import peak_memory_bytes
from springline.local.stack import API, EmbeddedStack
from springline.paths import Scope
from springline.storage.local import LocalStore
from springline.storage.scoped import ScopedStore

RESULTS: Final = Path(__file__).parent / "results" / "cold.json"
SCOPE: Final = Scope("acme", "prod")
SIZES: Final = (100_000, 1_000_000)
LATER_APPENDS: Final = 30
FIRST_MOST_S: Final = 600.0
WORKER: Final = "worker-1"


@dataclass(frozen=True, slots=True)
class Target:
    """The most that a figure should be for a million tasks."""

    figure: str
    most: float


TARGETS: Final = (
    Target("first append s", 15),
    Target("second append s", 5),
    Target("most attempts", 2),
    Target("worker MiB", 1536),
    Target("api MiB", 1024),
    Target("query s", 2),
    Target("first page s", 2),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure the chosen sizes, print and write what came of them; return the exit code."""
    options = _options(arguments)
    console = Console()
    results: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory(prefix="springline-bench-") as scratch:
        for tasks in options.tasks:
            source = _workspace(console, options.folder or Path(scratch), tasks)
            store = Path(scratch) / "store"
            shutil.copytree(source, store)
            results[str(tasks)] = asyncio.run(_measure(store, Path(scratch), tasks, options.core))
            shutil.rmtree(store)
            console.print(f"{tasks:,} tasks: {results[str(tasks)]}", highlight=False)
    _print(console, results)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(results, indent=2) + "\n")
    console.print(f"written to {options.out}", style="dim", highlight=False, soft_wrap=True)
    return 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.cold", description="Measure cold starts.")
    parser.add_argument("--tasks", type=int, nargs="+", default=list(SIZES), metavar="N", help="sizes to measure")
    parser.add_argument("--folder", type=Path, help="where workspaces are kept from one time to the next")
    parser.add_argument("--core", type=int, default=0, help="the core that all processes of the stack run on")
    parser.add_argument("--out", type=Path, default=RESULTS, help="results file (JSON)")
    options = parser.parse_args(arguments)
    if any(tasks < 1_000 for tasks in options.tasks):
        parser.error("--tasks: give at least 1000")
    return options


def _workspace(console: Console, folder: Path, tasks: int) -> Path:
    """Return the store's folder of a workspace with so many tasks, made unless it is there."""
    runs = tasks // TASKS_OF_A_RUN
    path = folder / f"tasks-{tasks}"
    if path.exists():
        return path
    making = folder / f"making-{tasks}"
    shutil.rmtree(making, ignore_errors=True)

    async def make() -> None:
        store = LocalStore(making, fsync=False)
        await publish_workspace(ScopedStore(store, SCOPE), SCOPE, runs)
        await store.aclose()

    with console.status(f"making {runs:,} runs of {TASKS_OF_A_RUN} tasks, {EVENTS_OF_A_RUN * runs:,} events"):
        asyncio.run(make())
    making.rename(path)
    return path


async def _measure(store: Path, scratch: Path, tasks: int, core: int) -> dict[str, Any]:
    stack = EmbeddedStack(scratch, scope=SCOPE, store_url=store.as_uri(), say=lambda _line: None)
    with _on_core(core):
        await asyncio.to_thread(stack.start)
        await asyncio.to_thread(stack.restart, WORKER)
    try:
        lake = Springline(stack.api_url, stack.token())
        worker = psutil.Process(stack.child(WORKER).pid)
        runs = tasks // TASKS_OF_A_RUN
        cpu = _cpu(worker)
        first = await asyncio.to_thread(_append, lake, runs - 1)
        first_cpu = _cpu(worker) - cpu
        later = [await asyncio.to_thread(_append, lake, runs - 2 - number) for number in range(LATER_APPENDS)]
        attempts = await _most_attempts(stack.temporal_address)
        page = await asyncio.to_thread(_page, stack)
        with _on_core(core):
            query, query_cpu = await asyncio.to_thread(_query, stack, tasks)
        return {
            "first append s": round(first, 2),
            "first append cpu s": round(first_cpu, 2),
            "second append s": round(later[0], 2),
            "append p50 s": round(percentile(sorted(later), 0.5), 3),
            "most attempts": attempts,
            "worker MiB": round(peak_memory_bytes(worker.pid) / 2**20),
            "api MiB": round(peak_memory_bytes(stack.child(API).pid) / 2**20),
            "first page s": round(page, 2),
            "query s": round(query, 2),
            "query cpu s": round(query_cpu, 2),
        }
    finally:
        await asyncio.to_thread(stack.stop)


def _append(lake: Springline, number: int) -> float:
    """Finish the task that a run has under way; return how long it took until readers see it."""
    run_id = run_id_of(number)
    key = f"task_{TASKS_OF_A_RUN - 1:03}"
    event = {
        "type": "task_finished",
        "run_id": run_id,
        "task_key": key,
        "attempt": 1,
        "attempt_id": f"att_{run_id}:{key}",
        "worker_id": "worker-1",
        "outcome": "succeeded",
    }
    request_id, began = new_key(), time.perf_counter()
    while True:
        try:
            outcome: AppendOutcome = lake.ledger.append([event], request_id=request_id)
        except Unavailable:
            if time.perf_counter() - began > FIRST_MOST_S:
                raise
            continue
        if outcome.visibility_status is VisibilityStatus.VISIBLE:
            return time.perf_counter() - began


async def _most_attempts(address: str) -> int:
    """Return the most attempts that any step of the workspace's sequencer has needed."""
    client = await Client.connect(address)
    most = 0
    query = f'WorkflowType = "{names.LEDGER_WORKFLOW}"'
    async for execution in client.list_workflows(query):
        handle = client.get_workflow_handle(execution.id, run_id=execution.run_id)
        async for event in handle.fetch_history_events():
            if event.HasField("activity_task_started_event_attributes"):
                most = max(most, event.activity_task_started_event_attributes.attempt)
    return most


def _page(stack: EmbeddedStack) -> float:
    """Read the first page of tasks; return how long it took."""
    began = time.perf_counter()
    answer = httpx.get(
        f"{stack.api_url}/api/v1/tasks", headers={"Authorization": f"Bearer {stack.token()}"}, timeout=120
    )
    seconds = time.perf_counter() - began
    items = answer.raise_for_status().json()["items"]
    if len(items) != 100 or [one["run_id"] for one in items] != sorted(one["run_id"] for one in items):
        raise ValueError(f"the first page has {len(items)} tasks")
    return seconds


def _query(stack: EmbeddedStack, tasks: int) -> tuple[float, float]:
    """Count the tasks from the command line; return the seconds that passed and those of the processor."""
    command = [str(Path(sys.executable).parent / "springline"), "query", "SELECT count(*) AS n FROM tasks"]
    where = ["--tenant", SCOPE.tenant, "--workspace", SCOPE.workspace, "--format", "csv"]
    before, began = os.times(), time.perf_counter()
    ended = subprocess.run(
        [*command, *where], env=stack.child_environment(), capture_output=True, text=True, check=True
    )
    seconds, after = time.perf_counter() - began, os.times()
    if ended.stdout.split() != ["n", str(tasks)]:
        raise ValueError(f"the query answered {ended.stdout}")
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return seconds, cpu


@contextmanager
def _on_core(core: int) -> Iterator[None]:
    """Have processes that are started in this block run on one core, where the system can say so."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _print(console: Console, results: dict[str, dict[str, Any]]) -> None:
    sizes = list(results)
    table = Table(box=box.SIMPLE_HEAD)
    for header in ("figure", *(f"{int(size):,} tasks" for size in sizes), "growth", "target", ""):
        table.add_column(header, justify="left" if header in ("figure", "target", "") else "right")
    targets = {target.figure: target.most for target in TARGETS}
    for figure in results[sizes[0]]:
        values = [results[size][figure] for size in sizes]
        growth = f"{values[-1] / values[0]:.1f}" if len(values) > 1 and values[0] else ""
        most = targets.get(figure) if sizes[-1] == str(SIZES[-1]) else None
        met = "" if most is None else "met" if values[-1] <= most else "[red]missed[/red]"
        table.add_row(figure, *(f"{value:,}" for value in values), growth, "" if most is None else f"<= {most:g}", met)
    console.print(table)


if __name__ == "__main__":
    sys.exit(main())
