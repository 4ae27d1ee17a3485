"""Running one cell of `bench.ledger` in this process."""

from __future__ import annotations

import asyncio
import gc
import tempfile
import time
from itertools import islice
from pathlib import Path
from typing import Any

import orjson

from bench.ledger_cells import CONFIG, SCOPE, Cell, Source, Work
from springline.ledger.envelope import parse_event
from springline.local.processes import peak_memory_bytes
from springline.paths import ObjectPath, canonical_ulid_event
from springline.projection.digest import Digest
from springline.projection.fold.loop import fold_all
from springline.projection.schema import TABLES
from springline.projection.state import State
from springline.storage.local import LocalStore
from springline.storage.port import IfAbsent
from springline.storage.scoped import ScopedStore

READ_AT_ONCE = 10_000


def run_cell(cell: Cell, data: Path) -> dict[str, Any]:
    """Measure a cell with the events in `data`, one body a line; return its figures by name."""
    with data.open("rb") as file:
        bodies = [line[:-1] for line in islice(file, cell.events + cell.prepared)]
    if cell.work is Work.APPENDS:
        from bench.ledger_latency import appends  # noqa: PLC0415 - a whole stack is no part of the other cells

        return asyncio.run(appends(cell))
    if cell.work is Work.ONE_GO:
        return _with_share(_one_go(cell, bodies), bodies)
    from bench.ledger_rounds import rounds  # noqa: PLC0415 - the sequencer is no part of the other cells

    return _with_share(asyncio.run(rounds(cell, bodies)), bodies)


def _one_go(cell: Cell, bodies: list[bytes]) -> dict[str, Any]:
    if cell.source is Source.FILES:
        return asyncio.run(_from_files(bodies))
    best = _fold(bodies)
    for _ in range(_repetitions(len(bodies))):
        gc.collect()
        best = min(best, _fold(bodies), key=lambda one: one["seconds"])
    return best


def _fold(bodies: list[bytes]) -> dict[str, Any]:
    before = peak_memory_bytes()
    began = time.perf_counter()
    state = State(CONFIG)
    fold_all(state, map(parse_event, bodies))
    seconds = time.perf_counter() - began
    peak = peak_memory_bytes()
    return {
        "per second": round(len(bodies) / seconds),
        "seconds": round(seconds, 4),
        "us per event": round(seconds / len(bodies) * 1e6, 2),
        "MiB": round((peak - before) / 2**20, 1),
        **_digest(state),
    }


async def _from_files(bodies: list[bytes]) -> dict[str, Any]:
    """Fold from one file for each event, read as the sequencer reads them."""
    with tempfile.TemporaryDirectory(prefix="springline-bench-") as folder:
        local = LocalStore(Path(folder), fsync=False)
        store = ScopedStore(local, SCOPE)
        names: list[ObjectPath] = []
        for body in bodies:
            names.append(canonical_ulid_event(orjson.loads(body)["event_id"]))
            await store.put(names[-1], body, IfAbsent())
        bodies.clear()
        before = peak_memory_bytes()
        began = time.perf_counter()
        state = State(CONFIG)
        for start in range(0, len(names), READ_AT_ONCE):
            found = await store.read_many(names[start : start + READ_AT_ONCE], concurrency=64)
            fold_all(state, (parse_event(body) for body in found if body is not None))
        seconds = time.perf_counter() - began
        peak = peak_memory_bytes()
        bodies += [body for body in await store.read_many(names[:READ_AT_ONCE]) if body is not None]
        await local.aclose()
        return {
            "per second": round(len(names) / seconds),
            "seconds": round(seconds, 4),
            "us per event": round(seconds / len(names) * 1e6, 2),
            "MiB": round((peak - before) / 2**20, 1),
            **_digest(state),
        }


def _digest(state: State) -> dict[str, Any]:
    began = time.perf_counter()
    digest = Digest.of({name: state.rows(name) for name in TABLES})
    return {"digest": digest.state(), "digest seconds": round(time.perf_counter() - began, 3)}


def _with_share(figures: dict[str, Any], bodies: list[bytes]) -> dict[str, Any]:
    """Add the rate at which the same events are parsed, and the share of it that the cell reached."""
    best = float("inf")
    for _ in range(1 + _repetitions(len(bodies))):
        began = time.perf_counter()
        for body in bodies:
            orjson.loads(body)
        best = min(best, time.perf_counter() - began)
    parsed = len(bodies) / best
    return {**figures, "orjson": round(parsed), "share": round(figures["per second"] / parsed, 4)}


def _repetitions(events: int) -> int:
    """Return how often more than once a cell is measured, so that small ones are not all noise."""
    return max(0, min(20, 200_000 // max(1, events) - 1))
