"""A worker that dies where it is told: `python -m tests.server.killable_worker ORDERS [--write-seconds S]`.

`ORDERS` is a folder. A file `{activity}.before` or `{activity}.after` in it is an order to the first worker whose
activity makes a write: it claims the order by renaming it, and ends itself with SIGKILL before or after that write.
A file `{activity}.reading` is one to the first worker whose activity reads.
Several workers can share the folder; one of them dies. `--write-seconds` makes every write take so long.

It is the real worker over the real store: only opening the store is replaced.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from temporalio import activity

import worker
from springline.storage.faults import Decision, FaultyStore, Hook, Operation, OperationKind
from springline.storage.port import ObjectStore

PHASES = ("before", "after")
READING = ("reading",)
OPEN_STORE = "open_store"
"""What the worker opens its store with."""
MARK = "writing"
"""`writing.{activity}` in the orders' folder holds the process id of the worker that last wrote in that activity."""


def dying(inner: ObjectStore, orders: Path) -> Hook:
    """Return the hook that obeys the orders in a folder."""

    async def obey(operation: Operation) -> Decision:
        if not activity.in_activity():
            return Decision.PROCEED
        name = activity.info().activity_type
        writes = operation.kind is OperationKind.PUT
        if writes:
            (orders / f"{MARK}.{name}").write_text(str(os.getpid()))
        for phase in PHASES if writes else READING:
            order = orders / f"{name}.{phase}"
            try:
                order.rename(orders / f"{order.name}.{os.getpid()}")
            except FileNotFoundError:
                continue
            if phase == "after":
                assert operation.data is not None
                assert operation.precondition is not None
                await inner.put(operation.path, operation.data, operation.precondition)
            os.kill(os.getpid(), signal.SIGKILL)
            await asyncio.Event().wait()
        return Decision.PROCEED

    return obey


def main() -> None:
    """Run the worker over a store that obeys orders."""
    parser = argparse.ArgumentParser()
    parser.add_argument("orders", type=Path)
    parser.add_argument("--write-seconds", type=float, default=0.0)
    options, rest = parser.parse_known_args()
    open_real: Callable[[str], ObjectStore] = getattr(worker, OPEN_STORE)

    def open_dying(url: str) -> ObjectStore:
        inner = open_real(url)

        def latency(operation: Operation) -> float:
            return float(options.write_seconds) if operation.kind is OperationKind.PUT else 0.0

        return FaultyStore(inner, hook=dying(inner, options.orders), latency=latency, keep_trace=False)

    setattr(worker, OPEN_STORE, open_dying)
    sys.argv[1:] = rest
    worker.main()


if __name__ == "__main__":
    main()
