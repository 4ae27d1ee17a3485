"""The cells of `bench.ledger` that append through the embedded stack: from a caller's request until readers see it."""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path
from typing import Any

import uuid_utils

from bench.ledger_cells import SCOPE, Cell, WrongState
from bench.measure import percentile
from bench.rebuild_worker import READ_SECONDS
from entrypoints.connection import connect
from entrypoints.temporal_ledger import TemporalLedgerGateway
from springline.ledger.request import AppendRequest, NewEvent, VisibilityStatus
from springline.local.stack import EmbeddedStack
from springline.published.head import read_head
from springline.sequencer.coalescer import LedgerCoalescer
from springline.storage.local import LocalStore
from springline.storage.scoped import ScopedStore

WARM_UP_S, MEASURED_S = 2.0, 8.0


async def appends(cell: Cell) -> dict[str, Any]:
    """Append from as many callers as the cell has, one event each time; only visible answers count.

    Raises `WrongState` if the published state does not hold exactly what was answered for.
    """
    with tempfile.TemporaryDirectory(prefix="springline-bench-") as folder:
        slow = {READ_SECONDS: str(cell.latency_ms / 1000)} if cell.latency_ms else {}
        stack = EmbeddedStack(
            Path(folder),
            scope=SCOPE,
            api=False,
            environment=slow,
            worker_module="bench.rebuild_worker" if slow else "worker",
            say=lambda _line: None,
        )
        async with stack:
            client = await connect(address=stack.temporal_address)
            ledger = LedgerCoalescer(TemporalLedgerGateway(client))
            begin = time.perf_counter() + WARM_UP_S
            end = begin + MEASURED_S
            found = await asyncio.gather(*(_caller(ledger, caller, begin, end) for caller in range(cell.callers)))
            await ledger.aclose()
            answered = sum(count for count, _ in found)
            times = sorted(one for _, some in found for one in some)
            store = LocalStore(Path(stack.store_url.removeprefix("file://")))
            head = await read_head(ScopedStore(store, SCOPE))
            await store.aclose()
            ours = None if head is None else head.manifest.springline
            if ours is None or ours.events.count != answered:
                raise WrongState(
                    f"{cell.name}: {answered} events were answered for, the state has {ours and ours.events}"
                )
    return {
        "per second": round(len(times) / MEASURED_S, 1),
        "seconds": MEASURED_S,
        "p50 ms": round(percentile(times, 0.5) * 1000, 1),
        "p99 ms": round(percentile(times, 0.99) * 1000, 1),
    }


async def _caller(ledger: LedgerCoalescer, caller: int, begin: float, end: float) -> tuple[int, list[float]]:
    """Append one event after the other until `end`; return how many, and the seconds of those sent after `begin`."""
    count, times = 0, list[float]()
    while (sent := time.perf_counter()) < end:
        data = {
            "type": "run_triggered",
            "run_id": f"run-{caller}-{count}",
            "plan_id": "p",
            "root_assets": [],
            "trigger": {"type": "manual", "user_id": "bench"},
        }
        request = AppendRequest(request_id=str(uuid_utils.uuid7()), events=[NewEvent(data=data)])
        outcome = await ledger.append(SCOPE, request)
        if outcome.refusal is not None or outcome.visibility_status is not VisibilityStatus.VISIBLE:
            raise WrongState(f"an append was answered with {outcome}")
        count += 1
        if sent >= begin:
            times.append(time.perf_counter() - sent)
    return count, times
