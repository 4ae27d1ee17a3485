"""`make bench-pipelines`: a pipeline of ten assets over 24 hours, beside plain Python, Dagster and Prefect.

    python -m bench.pipelines [--seconds S] [--hours N] [--concurrency N] [--only NAME ...]

Each task sleeps so many seconds, then appends 1,000 rows to the table of its asset. `plain` makes each hour in a
process of its own, ten calls in a row; `springline` makes the same functions deployed, on the embedded stack with one
worker; `dagster` and `prefect` make each hour in a run of their own, as many at once. `overhead` is what each takes
longer than plain Python. `deploy` is the deploy of 1,000 assets to ours, `plan` the plan of 10,000 tasks. Prints one
JSON document. Exit code 0 if every row is there once, 1 if not, 4 if a peer cannot be installed or does not end.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final

import deltalake
import httpx
import pyarrow as pa
from deltalake import write_deltalake

from bench.pipelines_peers import Made, Pipeline
from bench.runs_side import Meter, Wrong, until_ready
from bench.runs_springline import GRACE_S, READY, SCOPE
from springline.client import Springline
from springline.control.runs.planning import plan_tasks
from springline.definitions.manifest import DeployedManifest
from springline.local.cache import Cache, cache_root
from springline.local.processes import Child, module_command, signals_unwind
from springline.local.run import ToolFailed, run_tool
from springline.local.stack import EmbeddedStack

PLAIN: Final = "plain"
OURS: Final = "springline"
PARTS: Final = (PLAIN, "dagster", "prefect", OURS, "deploy", "plan")
ASSETS: Final = 10
ROWS: Final = 1_000
DEPLOYED: Final = 1_000
PLANNED: Final = 10_000
START: Final = datetime(2026, 1, 1, tzinfo=UTC)
RUN_MOST_S: Final = 1_800.0
_FLOW: Final = """\
import time

import pyarrow as pa
from springline.sdk import Context, asset, hourly


def made(number):
    needs = [f"a{{number - 1}}"] if number else []

    @asset(key=f"a{{number}}", partitions=hourly(start="2026-01-01T00"), deps=needs)
    def one(context: Context) -> None:
        time.sleep({seconds})
        rows = pa.table({{"hour": [context.partition_key] * {rows}, "n": list(range({rows}))}})
        context.table(f"a{{number}}").append(rows)

    return one


assets = [made(number) for number in range({assets})]
"""
_MANY: Final = """\
from springline.sdk import asset


def nothing() -> None: ...


for number in range({count}):
    globals()[f"many_{{number:05}}"] = asset(key=f"many_{{number:05}}")(nothing)
"""


def hours(count: int) -> list[str]:
    """Return the keys of so many partitions."""
    return [(START + timedelta(hours=number)).strftime("%Y-%m-%dT%H") for number in range(count)]


def _hour(folder: str, hour: str, seconds: float) -> None:
    for number in range(ASSETS):
        time.sleep(seconds)
        rows = pa.table({"hour": [hour] * ROWS, "n": list(range(ROWS))})
        write_deltalake(f"{folder}/a{number}", rows, mode="append")


def plain(folder: Path, keys: Sequence[str], seconds: float, concurrency: int) -> Made:
    """Make the pipeline by plain Python, an hour in a process at a time."""
    began = time.perf_counter()
    with Meter() as meter, ProcessPoolExecutor(concurrency, multiprocessing.get_context("spawn")) as processes:
        waiting = [processes.submit(_hour, str(folder), key, seconds) for key in keys]
        for one in waiting:
            one.result()
    return Made(time.perf_counter() - began, meter.cpu_s, meter.peak_mib, complete=True)


def with_tables(folder: Path, keys: Sequence[str], make: Callable[[Path], Made]) -> Made:
    """Make the pipeline over empty tables below a folder, and count their rows."""
    empty = pa.schema({"hour": pa.string(), "n": pa.int64()}).empty_table()
    for number in range(ASSETS):
        write_deltalake(f"{folder}/a{number}", empty)
    made = make(folder)
    rows = [deltalake.DeltaTable(f"{folder}/a{number}").to_pyarrow_table().num_rows for number in range(ASSETS)]
    return replace(made, complete=made.complete and rows == [ROWS * len(keys)] * ASSETS)


def deployed(folder: Path, keys: Sequence[str], seconds: float, concurrency: int, wanted: set[str]) -> dict[str, Any]:
    """Make the pipeline on the embedded stack, and deploy many assets to it."""
    (folder / "flow.py").write_text(_FLOW.format(seconds=seconds, rows=ROWS, assets=ASSETS))
    (folder / "many.py").write_text(_MANY.format(count=DEPLOYED))
    found: dict[str, Any] = {}
    with (
        EmbeddedStack(folder / "stack", scope=SCOPE, say=lambda _line: None) as stack,
        Springline(stack.api_url, stack.token(), deadline_s=300) as lake,
    ):
        environment = stack.user_environment()

        def deploy(file: str) -> float:
            began = time.perf_counter()
            command = module_command("springline.cli", "deploy", file)
            run_tool(command, what=f"deploying {file}", say=lambda _line: None, env=environment, cwd=folder)
            return time.perf_counter() - began

        deploy("flow.py")
        if "deploy" in wanted:
            found["deploy"] = {"assets": DEPLOYED, "wall_s": deploy("many.py"), "again_s": deploy("many.py")}
        if OURS in wanted:
            command = module_command("springline.cli", "work", "flow.py", "--concurrency", str(concurrency))
            worker = Child("work", command, env=environment, cwd=folder, log=folder / "work.log")
            worker.start()
            try:
                until_ready(worker, lambda: READY in worker.log.read_text())
                with Meter() as meter:
                    began = time.perf_counter()
                    ended = lake.run([f"a{number}" for number in range(ASSETS)], keys).wait(RUN_MOST_S)
                    took = time.perf_counter() - began
                rows = [lake.table(f"a{number}").to_arrow().num_rows for number in range(ASSETS)]
                complete = ended["run"]["state"] == "SUCCEEDED" and rows == [ROWS * len(keys)] * ASSETS
                found[OURS] = Made(took, meter.cpu_s, meter.peak_mib, complete)
            finally:
                worker.stop(GRACE_S)
    return found


def planned() -> dict[str, Any]:
    """Plan a run of many tasks, as a request for one does."""
    count = PLANNED // 100
    partitions = {"kind": "static", "keys": [f"p{number:03}" for number in range(100)]}
    assets = [
        {
            "key": f"a{number}",
            "location": "bench",
            "partitions": partitions,
            "dependencies": [{"asset": f"a{number - 1}"}] if number else [],
        }
        for number in range(count)
    ]
    manifest = DeployedManifest.model_validate(
        {
            "format": 1,
            "manifest_id": "01JHMP8000000000000000000A",
            "deployed_at_ms": 0,
            "fingerprint": "0" * 64,
            "locations": [{"location": "bench", "manifest_id": "01JHMP8000000000000000000A"}],
            "assets": assets,
            "schedules": [],
            "sensors": [],
        }
    )
    began = time.perf_counter()
    tasks = plan_tasks(manifest, [f"a{number}" for number in range(count)], partitions["keys"])
    return {"tasks": len(tasks), "wall_s": time.perf_counter() - began}


def main() -> int:
    """Measure, and print what was measured."""
    parser = argparse.ArgumentParser(prog="bench.pipelines", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=1.0, help="how long each task sleeps")
    parser.add_argument("--hours", type=int, default=24, help="partitions")
    parser.add_argument("--concurrency", type=int, default=8, help="tasks at once")
    parser.add_argument("--only", action="append", choices=PARTS, default=[])
    given = parser.parse_args()
    wanted = set(given.only or PARTS)
    keys = hours(given.hours)
    ideal = given.seconds * ASSETS * len(keys) / given.concurrency
    found: dict[str, Any] = {"cores": os.cpu_count(), "load": os.getloadavg()[0], "ideal_s": ideal}
    if "plan" in wanted:
        found["plan"] = planned()
    with tempfile.TemporaryDirectory(prefix="springline-bench-") as name, signals_unwind():
        folder = Path(name)
        sides: dict[str, Callable[[Path], Made]] = {
            PLAIN: lambda tables: plain(tables, keys, given.seconds, given.concurrency),
        }
        for peer, make in {"dagster": Pipeline.in_dagster, "prefect": Pipeline.in_prefect}.items():
            sides[peer] = partial(_peer, make, folder / f"{peer}-home", keys, given)
        try:
            for side in [one for one in sides if one in wanted]:
                found[side] = with_tables(folder / side, keys, sides[side])
        except (Wrong, ToolFailed, httpx.HTTPError) as error:
            sys.stderr.write(f"{type(error).__name__}: {error}\n")
            return 4
        if wanted & {OURS, "deploy"}:
            (folder / OURS).mkdir()
            found |= deployed(folder / OURS, keys, given.seconds, given.concurrency, wanted)
    made = {name: one for name, one in found.items() if isinstance(one, Made)}
    if PLAIN in made:
        found["overhead"] = {name: one.wall_s / made[PLAIN].wall_s - 1 for name, one in made.items() if name != PLAIN}
    sys.stdout.write(json.dumps(found | {name: asdict(one) for name, one in made.items()}, indent=2) + "\n")
    return 0 if all(one.complete for one in made.values()) else 1


def _peer(
    make: Callable[[Pipeline, Cache], Made], home: Path, keys: Sequence[str], given: argparse.Namespace, tables: Path
) -> Made:
    pipeline = Pipeline(home, tables, keys, ASSETS, ROWS, given.seconds, given.concurrency, RUN_MOST_S)
    return make(pipeline, Cache(cache_root()))


if __name__ == "__main__":
    sys.exit(main())
