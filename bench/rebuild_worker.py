"""The real worker over a store whose every call takes a while: `SPRINGLINE_BENCH_READ_SECONDS`."""

from __future__ import annotations

import os
from collections.abc import Callable

import worker
from springline.storage.faults import FaultyStore
from springline.storage.port import ObjectStore

READ_SECONDS = "SPRINGLINE_BENCH_READ_SECONDS"
OPEN_STORE = "open_store"
"""What the worker opens its store with."""


def main() -> None:
    """Run the worker."""
    seconds = float(os.environ.get(READ_SECONDS, "0"))
    open_real: Callable[[str], ObjectStore] = getattr(worker, OPEN_STORE)

    def open_slow(url: str) -> ObjectStore:
        return FaultyStore(open_real(url), latency=lambda _operation: seconds, keep_trace=False)

    setattr(worker, OPEN_STORE, open_slow)
    worker.main()


if __name__ == "__main__":
    main()
