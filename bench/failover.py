"""`make bench-failover`: how late schedules are decided on when the worker of their evaluator is killed.

    python -m bench.failover [--kills N] [--out FILE]

A schedule is due each second, on a stack with two workers. Each time the one is killed that made the last pass, as the
evaluator itself says. What a kill costs is the greatest lateness of the instants around it. Exit code 0 if the p99 is
within the threshold, 1 if not, 4 if the evaluator does not come back.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from temporalio.client import Client
from temporalio.service import RPCError

from bench.evaluators_stack import SCOPE, TooSlow, define, deployed, token_of
from bench.measure import percentile
from springline import names
from springline.client import Springline
from springline.ledger.timestamps import format_ms
from springline.local.processes import signals_unwind
from springline.local.run import ToolFailed
from springline.local.stack import EmbeddedStack

RESULTS: Final = Path(__file__).parent / "results" / "failover.json"
LIMIT_S: Final = 3.0
WHY: Final = "users take a schedule that is some seconds late for one that is on time; Temporal notices a death in 2 s"
KILLS: Final = 50
SETTLES_S: Final = 4.0
"""Between two kills, so that the cost of one is not the next one's."""
BACK_S: Final = 60.0
_SCHEDULE: Final = "often"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and write the document; return the exit code."""
    options = _options(arguments)
    with signals_unwind(), tempfile.TemporaryDirectory(prefix="springline-bench-") as folder:
        try:
            costs = asyncio.run(_measured(Path(folder), options.kills))
        except (TooSlow, ToolFailed) as error:
            sys.stderr.write(f"{type(error).__name__}: {error}\n")
            return 4
    document = document_of(costs)
    text = json.dumps(document, indent=2) + "\n"
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(text)
    sys.stdout.write(text)
    return 0 if document["passed"] else 1


def document_of(costs: Sequence[float]) -> dict[str, Any]:
    """Return what is written of the costs of kills, in s."""
    p99 = percentile(costs, 0.99)
    return {
        "passed": p99 <= LIMIT_S,
        "kills": len(costs),
        "p50_s": round(percentile(costs, 0.5), 3),
        "p99_s": round(p99, 3),
        "limit_s": LIMIT_S,
        "why": WHY,
        "load": round(os.getloadavg()[0], 1),
        "cores": os.cpu_count(),
    }


async def _measured(folder: Path, kills: int) -> list[float]:
    costs: list[float] = []
    with EmbeddedStack(folder, scope=SCOPE, workers=2, say=lambda _line: None) as stack:
        client = await Client.connect(stack.temporal_address)
        with Springline(stack.api_url, token_of(stack, SCOPE), deadline_s=120) as lake:
            define(lake, deployed(stack, SCOPE), [(_SCHEDULE, "", {"interval_seconds": 1, "overlap": "allow"})])
            for number in range(kills):
                at_s = time.time()
                name = await _worker_of_the_evaluator(client, stack)
                await asyncio.to_thread(stack.kill, name)
                await asyncio.to_thread(stack.restart, name)
                costs.append(await asyncio.to_thread(_cost, lake, at_s))
                sys.stderr.write(f"kill {number + 1} of {kills}: {name}, {costs[-1]:.2f} s\n")
                await asyncio.sleep(SETTLES_S)
    return costs


async def _worker_of_the_evaluator(client: Client, stack: EmbeddedStack) -> str:
    """Return the worker of the stack that made the last pass."""
    handle = client.get_workflow_handle(names.schedule_evaluator_id(SCOPE.tenant, SCOPE.workspace))
    deadline = time.monotonic() + BACK_S
    while time.monotonic() < deadline:
        with suppress(RPCError):
            status: dict[str, Any] = await handle.query(names.STATUS_QUERY)
            pid = str(status.get("worker") or "").partition("@")[0]
            for name in stack.worker_names:
                if str(stack.child(name).pid) == pid:
                    return name
        await asyncio.sleep(0.2)
    raise TooSlow(f"no worker of the stack has made a pass within {BACK_S:g} s")


def _cost(lake: Springline, at_s: float) -> float:
    """Return the greatest lateness of the instants around a kill, in s, when those behind it are decided on."""
    deadline = time.monotonic() + BACK_S
    since = format_ms(int(at_s - 2) * 1_000)
    while time.monotonic() < deadline:
        found = [one for one in lake.schedules.ticks(_SCHEDULE, since=since)]
        late: list[float] = [one["late_ms"] / 1_000 for one in found]
        if late and late[-1] < 1 and time.time() - at_s > LIMIT_S + 2:
            return max(late)
        time.sleep(0.5)
    raise TooSlow(f"the schedule is not on time {BACK_S:g} s after a kill")


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.failover", description="Measure failover.")
    parser.add_argument("--kills", type=int, default=KILLS, choices=range(1, 1_001), metavar="N", help="how many")
    parser.add_argument("--out", type=Path, default=RESULTS, help="results file (JSON)")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
