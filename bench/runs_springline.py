"""Springline as a side of `bench.runs`: a stack of ours and a users' worker, as a data engineer starts them.

The stack is the embedded one, in a new workspace or in one with many runs behind it, or what docker-compose.yml runs.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from itertools import islice
from pathlib import Path
from typing import Final

from bench.cold_workspace import publish_workspace
from bench.runs_side import CHAIN, SINGLE, WIDE, Ended, Sizes, Span, until_ready
from springline.client import Springline
from springline.ledger.timestamps import parse_timestamp
from springline.local.processes import Child, module_command, module_path
from springline.local.run import ToolFailed, run_tool
from springline.local.stack import EmbeddedStack
from springline.paths import Scope
from springline.storage.gcs import EMULATOR_VARIABLE
from springline.storage.local import LocalStore
from springline.storage.scoped import ScopedStore
from tests.server.topology import Topology

SCOPE: Final = Scope("bench", "runs")
GRACE_S: Final = 10.0
READY: Final = "worker ready"
"""What a users' worker says in its log when it takes attempts."""
OVER: Final = ("SUCCEEDED", "FAILED", "CANCELLED")
_FLOW: Final = '''\
"""Assets that do nothing."""

from springline.sdk import asset


def nothing() -> None: ...


for number in range({wide}):
    globals()[f"wide_{{number:05}}"] = asset(key=f"wide_{{number:05}}")(nothing)
for number in range({single}):
    globals()[f"single_{{number:05}}"] = asset(key=f"single_{{number:05}}")(nothing)
for number in range({chain}):
    needs = [f"chain_{{number - 1:05}}"] if number else []
    globals()[f"chain_{{number:05}}"] = asset(key=f"chain_{{number:05}}", deps=needs)(nothing)
one_00000 = asset(key="one_00000")(nothing)
'''


class SpringlineSide:
    """A stack with the flows deployed and a worker that takes their attempts."""

    def __init__(self, lake: Springline, sizes: Sizes) -> None:
        self._lake = lake
        self._selects = {flow: [f"{flow}_{number:05}" for number in range(sizes.flows[flow])] for flow in sizes.flows}

    def start(self, flow: str) -> str:
        """Ask for a run and return its id."""
        return str(self._lake.runs.start(self._selects[flow])["run_id"])

    def over(self, run_ids: Sequence[str]) -> bool:
        """Tell whether all runs have ended: one request, for no more than a thousand runs."""
        latest = self._lake.state.runs(state=OVER, latest=True, limit=1_000)
        return {one["run_id"] for one in islice(latest, 1_000)} >= set(run_ids)

    def read(self, run_id: str) -> Ended:
        """Return what the rows say of a run that has ended."""
        run = self._lake.state.run(run_id)["run"]
        attempts = self._lake.state.attempts(run_id, limit=1_000)
        spans = [
            Span(one["task_key"], _seconds(one["true_started_at"]), _seconds(one["true_ended_at"])) for one in attempts
        ]
        return Ended(run["state"] == "SUCCEEDED", _seconds(run["completed_at"]), spans)


@contextmanager
def springline_side(folder: Path, sizes: Sizes, concurrency: int, *, behind: int = 0) -> Iterator[SpringlineSide]:
    """Run the embedded stack and the worker, which makes `concurrency` attempts at once; end both at the end.

    The workspace has `behind` runs of five tasks that ended before.
    """
    folder.mkdir()
    store = folder / "store"
    if behind:
        asyncio.run(_ended_runs(store, behind))
    with (
        EmbeddedStack(
            folder / "stack", scope=SCOPE, store_url=store.as_uri() if behind else None, say=lambda _line: None
        ) as stack,
        _working(folder, sizes, concurrency, stack.user_environment()) as side,
    ):
        yield side


@contextmanager
def composed_side(folder: Path, sizes: Sizes, concurrency: int) -> Iterator[SpringlineSide]:
    """Run what docker-compose.yml runs, as processes, and the worker beside it; end both at the end.

    That is PostgreSQL, a Temporal server, an emulator of Google's storage, two workers of ours and the API. Raises
    `ToolFailed` if they do not become healthy.
    """
    folder.mkdir()
    logs = folder / "logs"
    logs.mkdir()
    with ExitStack() as opened:
        try:
            topology = opened.enter_context(Topology(logs))
        except AssertionError as error:
            raise ToolFailed(str(error)) from error
        command = ("springline", "token", "--tenant", SCOPE.tenant, "--workspace", SCOPE.workspace, "--field", "token")
        environment = {name: value for name, value in os.environ.items() if not name.startswith("TEMPORAL_")} | {
            "PYTHONPATH": module_path(os.environ.get("PYTHONPATH")),
            "TEMPORAL_ADDRESS": f"{topology.addresses['temporal']}:7233",
            "TEMPORAL_NAMESPACE": "springline",
            EMULATOR_VARIABLE: topology.url("gcs", 4443),
            "SPRINGLINE_STORE_URL": "gs://springline",
            "SPRINGLINE_API_URL": topology.url("api", 8080),
            "SPRINGLINE_TOKEN": topology.run("api", *command).strip(),
            "SPRINGLINE_TENANT": SCOPE.tenant,
            "SPRINGLINE_WORKSPACE": SCOPE.workspace,
        }
        yield opened.enter_context(_working(folder, sizes, concurrency, environment))


@contextmanager
def _working(folder: Path, sizes: Sizes, concurrency: int, environment: Mapping[str, str]) -> Iterator[SpringlineSide]:
    """Deploy the flows to the stack that `environment` names, and run the worker for them."""
    flows = {WIDE: sizes.tasks, SINGLE: sizes.single, CHAIN: sizes.chain}
    (folder / "flow.py").write_text(_FLOW.format(**flows))
    deploy = module_command("springline.cli", "deploy", "flow.py")
    run_tool(deploy, what="deploying to Springline", say=lambda _line: None, env=environment, cwd=folder)
    command = module_command("springline.cli", "work", "flow.py", "--concurrency", str(concurrency))
    worker = Child("work", command, env=environment, cwd=folder, log=folder / "work.log")
    worker.start()
    try:
        until_ready(worker, lambda: READY in worker.log.read_text())
        with Springline(environment["SPRINGLINE_API_URL"], environment["SPRINGLINE_TOKEN"], deadline_s=300) as lake:
            yield SpringlineSide(lake, sizes)
    finally:
        worker.stop(GRACE_S)


async def _ended_runs(folder: Path, runs: int) -> None:
    store = LocalStore(folder, fsync=False)
    try:
        await publish_workspace(ScopedStore(store, SCOPE), SCOPE, runs, under_way=0)
    finally:
        await store.aclose()


def _seconds(timestamp: str) -> float:
    return parse_timestamp(timestamp) / 1e9
