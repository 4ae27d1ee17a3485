"""The peer: writers that append the same tiny batches with `deltalake`, straight to a local folder.

Threads of this process, as our own writers share one process too; the library works outside the interpreter's
lock. Each writer keeps its table handle, which is about half as costly as opening the table for every append.
Retries are the library's own (15 tries); when they are used up, the append has failed, is counted as such, and
the writer goes on with the next.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import deltalake
import pyarrow as pa
from deltalake.exceptions import DeltaError

from bench.matrix import Cell
from bench.measure import CpuMeter, Done, Figures, Window, completed_in, percentile
from bench.verify import verify_rows


@dataclass(slots=True)
class _Journal:
    """What one writer did; the times of failures, and the keys that failed."""

    done: list[Done] = field(default_factory=list)
    failed: list[tuple[str, float]] = field(default_factory=list)


def run_peer(cell: Cell, folder: Path, new_key: Callable[[], str], *, seconds: float, warm_up: float) -> Figures:
    """Measure `cell` in `folder`, which must not exist yet. Blocks. Raises `bench.verify.WrongResult`."""
    deltalake.write_deltalake(folder, batch_of("seed"))
    stop = threading.Event()
    journals = [_Journal() for _ in range(cell.writers)]
    threads = [
        threading.Thread(target=_write, args=(folder, new_key, stop, journal), name=f"peer-{number}")
        for number, journal in enumerate(journals)
    ]
    meter = CpuMeter(os.getpid(), children=False)
    for thread in threads:
        thread.start()
    time.sleep(warm_up)
    meter.start()
    window = Window(time.perf_counter(), time.perf_counter() + seconds)
    time.sleep(seconds)
    cpu = meter.used() / seconds
    stop.set()
    for thread in threads:
        thread.join()
    done = [one for journal in journals for one in journal.done]
    failed = [one for journal in journals for one in journal.failed]
    version = verify_rows(str(folder), ["seed", *(one.key for one in done)], maybe=[key for key, _ in failed])
    counted, elapsed = completed_in(window, done)
    took = [(one.ended - one.began) * 1000 for one in counted]
    return Figures(
        seconds=elapsed,
        commits=len(counted),
        rate=len(counted) / elapsed,
        p50_ms=percentile(took, 0.5),
        p99_ms=percentile(took, 0.99),
        versions=version,
        members_per_round=1.0,
        cpu_here=cpu,
        failures=sum(window.start <= when < window.end for _, when in failed),
        verified=f"{len(done)} rows in {version} versions",
    )


def batch_of(key: str) -> pa.Table:
    """Return the one-row batch that a commit appends."""
    return pa.table({"key": [key], "value": [1]})


def _write(folder: Path, new_key: Callable[[], str], stop: threading.Event, journal: _Journal) -> None:
    table = deltalake.DeltaTable(folder)
    while not stop.is_set():
        key = new_key()
        began = time.perf_counter()
        try:
            deltalake.write_deltalake(table, batch_of(key), mode="append")
        except DeltaError:
            journal.failed.append((key, time.perf_counter()))
            table = deltalake.DeltaTable(folder)
        else:
            journal.done.append(Done("", key, table.version(), began, began, time.perf_counter()))
