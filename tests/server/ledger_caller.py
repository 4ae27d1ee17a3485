"""A process that appends: `python -m tests.server.ledger_caller TENANT WORKSPACE NAME CALLERS REQUESTS`.

`CALLERS` at once, `REQUESTS` each, one after the other. Prints one line of JSON for each answer: the request, the
outcome, and how many seconds it took from asking until readers see the events.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

from entrypoints.connection import connect
from entrypoints.temporal_ledger import TemporalLedgerGateway
from springline.ledger.request import AppendOutcome, AppendRequest
from springline.paths import Scope
from springline.sequencer.coalescer import LedgerCoalescer
from tests.ledger_events import run_request

Answer = tuple[AppendRequest, AppendOutcome, float]


async def call(ledger: LedgerCoalescer, scope: Scope, name: str, requests: int) -> list[Answer]:
    """Append one request after the other."""
    answers: list[Answer] = []
    for number in range(requests):
        asked = run_request(f"{name}-{number}")
        began = time.perf_counter()
        outcome = await ledger.append(scope, asked)
        answers.append((asked, outcome, time.perf_counter() - began))
    return answers


async def main(scope: Scope, name: str, callers: int, requests: int) -> None:
    """Append, and print what became of everything."""
    ledger = LedgerCoalescer(TemporalLedgerGateway(await connect()))
    called = await asyncio.gather(*(call(ledger, scope, f"{name}-{number}", requests) for number in range(callers)))
    await ledger.aclose()
    for answers in called:
        for asked, outcome, seconds in answers:
            line = {
                "request": asked.model_dump(mode="json"),
                "outcome": outcome.model_dump(mode="json"),
                "seconds": seconds,
            }
            sys.stdout.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    _, tenant, workspace, name, callers, requests = sys.argv
    asyncio.run(main(Scope(tenant, workspace), name, int(callers), int(requests)))
