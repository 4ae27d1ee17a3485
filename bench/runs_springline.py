"""Springline as a side of `bench.runs`: the embedded stack and a users' worker, as a data engineer starts them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from bench.runs_side import CHAIN, SINGLE, WIDE, Ended, Sizes, Span, until_ready
from springline.client import Springline
from springline.ledger.timestamps import parse_timestamp
from springline.local.processes import Child, module_command
from springline.local.run import run_tool
from springline.local.stack import EmbeddedStack
from springline.paths import Scope

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
        """Tell whether all runs have ended: one request for each thousand runs of the workspace."""
        return {one["run_id"] for one in self._lake.state.runs(state=OVER, limit=1_000)} >= set(run_ids)

    def read(self, run_id: str) -> Ended:
        """Return what the rows say of a run that has ended."""
        run = self._lake.state.run(run_id)["run"]
        attempts = self._lake.state.attempts(run_id, limit=1_000)
        spans = [
            Span(one["task_key"], _seconds(one["true_started_at"]), _seconds(one["true_ended_at"])) for one in attempts
        ]
        return Ended(run["state"] == "SUCCEEDED", _seconds(run["completed_at"]), spans)


@contextmanager
def springline_side(folder: Path, sizes: Sizes, concurrency: int) -> Iterator[SpringlineSide]:
    """Run the stack and the worker, which makes `concurrency` attempts at once; end both at the end."""
    folder.mkdir()
    flows = {WIDE: sizes.tasks, SINGLE: sizes.single, CHAIN: sizes.chain}
    (folder / "flow.py").write_text(_FLOW.format(**flows))
    with (
        EmbeddedStack(folder / "stack", scope=SCOPE, say=lambda _line: None) as stack,
        Springline(stack.api_url, stack.token(), deadline_s=300) as lake,
    ):
        environment = stack.user_environment()
        deploy = module_command("springline.cli", "deploy", "flow.py")
        run_tool(deploy, what="deploying to Springline", say=lambda _line: None, env=environment, cwd=folder)
        command = module_command("springline.cli", "work", "flow.py", "--concurrency", str(concurrency))
        worker = Child("work", command, env=environment, cwd=folder, log=folder / "work.log")
        worker.start()
        try:
            until_ready(worker, lambda: READY in worker.log.read_text())
            yield SpringlineSide(lake, sizes)
        finally:
            worker.stop(GRACE_S)


def _seconds(timestamp: str) -> float:
    return parse_timestamp(timestamp) / 1e9
