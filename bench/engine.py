"""Running a cell of ours: tuned Temporal server, workers, writers, then the check of what they left.

Workers, coalescer and writers share this process and its one event loop, because memory stores live in it; the
Temporal server is a process of its own, tuned exactly like the embedded stack's.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

from bench.matrix import Cell
from bench.matrix import Kind as StoreKind
from bench.measure import CpuMeter, Figures, Window, completed_in, percentile
from bench.verify import WrongResult, verify_rows, verify_table
from bench.writers import Journal, Writers
from entrypoints.connection import connect
from entrypoints.temporal import TemporalCommitGateway
from springline import names, paths
from springline.commit.coalescer import CommitCoalescer
from springline.commit.registry import is_table_id
from springline.commit.tables import create_table
from springline.delta.coordinator import decode_coordinator
from springline.delta.table_request import CreateTable, TableEntry
from springline.local.stack import TEMPORAL, EmbeddedStack
from springline.paths import Scope
from springline.storage.faults import FaultyStore, OperationKind, Quota
from springline.storage.local import LocalStore
from springline.storage.memory import MemoryStore
from springline.storage.port import ObjectStore
from springline.storage.scoped import ScopedStore
from worker import build_workers

SCOPE = Scope("bench", "bench")
_COLUMNS = [{"name": "key", "type": "string", "nullable": True}, {"name": "value", "type": "long", "nullable": True}]
_REST_S = 30.0
"""How long tables may take to come to rest when the last writer has its answer."""
_WRITE_PER_S = 1.0
"""The quota: what Google Cloud Storage takes of one object name."""


async def run_cell(
    cell: Cell, stack: EmbeddedStack, folder: Path, new_key: Callable[[], str], *, seconds: float, warm_up: float
) -> Figures:
    """Measure `cell` with the stack's Temporal server, in `folder` if it needs files.

    Raises `bench.verify.WrongResult` if a table does not hold exactly what its writers were told.
    """
    async with AsyncExitStack() as opened:
        inner = _inner_store(cell, folder)
        opened.push_async_callback(inner.aclose)
        store = FaultyStore(
            inner,
            latency=cell.latency_ms / 1000,
            quota=Quota(_WRITE_PER_S) if cell.quota else None,
            keep_trace=False,
        )
        tables = [await _create(inner, number, new_key()) for number in range(cell.tables)]
        client = await connect(address=stack.temporal_address)
        for worker in build_workers(client, store, queues=names.ALL_QUEUES):
            await opened.enter_async_context(worker)
        writers = Writers(
            scope=SCOPE,
            coalescer=CommitCoalescer(TemporalCommitGateway(client)),
            store=ScopedStore(store, SCOPE),
            data_store=None if cell.kind is StoreKind.MEMORY else ScopedStore(inner, SCOPE),
            new_key=new_key,
            stop=asyncio.Event(),
            journal=Journal(),
        )
        opened.push_async_callback(writers.coalescer.aclose)
        server = stack.child(TEMPORAL).pid
        assert server is not None
        figures = await _measured(cell, writers, tables, store, server, seconds=seconds, warm_up=warm_up)
        await _come_to_rest(ScopedStore(inner, SCOPE), tables)
        return await _verified(cell, figures, inner, folder, tables, writers.journal)


async def _measured(
    cell: Cell,
    writers: Writers,
    tables: list[TableEntry],
    store: FaultyStore,
    server: int,
    *,
    seconds: float,
    warm_up: float,
) -> Figures:
    here, there = CpuMeter(os.getpid(), children=False), CpuMeter(server, children=True)
    running = asyncio.create_task(writers.run(tables, cell.writers))
    try:
        await _unless_failed(running, warm_up)
        calls = store.requests.copy()
        finished = len(writers.journal.done)
        here.start()
        there.start()
        started = time.perf_counter()
        await _unless_failed(running, seconds)
        window = Window(started, time.perf_counter())
        cpu = [meter.used() / (window.end - window.start) for meter in (here, there)]
        calls = store.requests - calls
        finished = len(writers.journal.done) - finished
    finally:
        writers.stop.set()
        await running
    done, elapsed = completed_in(window, writers.journal.done)
    whole = [(one.ended - one.began) * 1000 for one in done]
    unstaged = [(one.ended - one.staged) * 1000 for one in done]
    rounds = len({(one.table_id, one.version) for one in done})
    return Figures(
        seconds=elapsed,
        commits=len(done),
        rate=len(done) / elapsed,
        p50_ms=percentile(whole, 0.5),
        p99_ms=percentile(whole, 0.99),
        p50_unstaged_ms=percentile(unstaged, 0.5),
        p99_unstaged_ms=percentile(unstaged, 0.99),
        members_per_round=len(done) / rounds if rounds else None,
        store_calls_per_commit=calls.total() / finished if finished else None,
        store_calls=_by_kind(calls),
        cpu_here=cpu[0],
        cpu_server=cpu[1],
        failures=writers.journal.unanswered,
        retries=writers.coalescer.counts.retries,
    )


def _by_kind(calls: Counter[tuple[OperationKind, str]]) -> dict[str, int]:
    """Return the numbers of calls by what they are; what lies in a table's own folder is one group."""
    numbers: Counter[str] = Counter()
    for (kind, group), number in calls.items():
        own_folder = is_table_id(group.rpartition("/")[2])
        numbers[f"{kind} {'table folder' if own_folder else group}"] += number
    return dict(sorted(numbers.items()))


async def _unless_failed(running: asyncio.Task[None], seconds: float) -> None:
    """Wait `seconds`, or raise what ended the writers before."""
    await asyncio.wait([running], timeout=seconds)
    if running.done():
        running.result()
        raise WrongResult("the writers ended before they were told to")


def _inner_store(cell: Cell, folder: Path) -> MemoryStore | LocalStore:
    if cell.kind is StoreKind.MEMORY:
        return MemoryStore()
    return LocalStore(folder, fsync=cell.kind is StoreKind.FILES_FSYNC)


async def _create(inner: ObjectStore, number: int, table_id: str) -> TableEntry:
    spec = CreateTable(name=f"table_{number}", columns=_COLUMNS)
    return await create_table(ScopedStore(inner, SCOPE), SCOPE, spec, table_id, int(time.time() * 1000))


async def _come_to_rest(store: ObjectStore, tables: list[TableEntry]) -> None:
    """Wait until no table has anything in flight: the last rounds are still to be finalized."""
    async with asyncio.timeout(_REST_S):
        for table in tables:
            path = paths.delta_coordinator(table.table_id)
            while True:
                stored = await store.get(path)
                if stored is not None and decode_coordinator(stored.data, path).inflight is None:
                    break
                await asyncio.sleep(0.05)


async def _verified(
    cell: Cell, figures: Figures, inner: ObjectStore, folder: Path, tables: list[TableEntry], journal: Journal
) -> Figures:
    store = ScopedStore(inner, SCOPE)
    versions = 0
    for table in tables:
        done = [one for one in journal.done if one.table_id == table.table_id]
        versions += await verify_table(store, table, done)
        if cell.kind is not StoreKind.MEMORY:
            place = str(folder / SCOPE.full(paths.ObjectPath(table.root)))
            await asyncio.to_thread(verify_rows, place, [one.key for one in done])
    return replace(figures, versions=versions, verified=f"{len(journal.done)} commits in {versions} versions")
