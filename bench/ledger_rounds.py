"""The cells of `bench.ledger` that fold and publish: the sequencer's own steps, round after round."""

from __future__ import annotations

import hashlib
import tempfile
import time
from itertools import count
from pathlib import Path
from typing import Any

from bench.ledger_cells import CONFIG, SCOPE, Cell, Source, WrongState
from springline.ledger.envelope import parse_event
from springline.projection.digest import Digest
from springline.projection.fold.loop import fold_all
from springline.projection.schema import TABLES
from springline.projection.state import State
from springline.sequencer.messages import FoldOrder, Head, OpenOrder, PublishOrder, WorkspaceRef
from springline.sequencer.rounds import Ours, RoundEvent, RoundRecord, create_round
from springline.sequencer.workspace import Sequencer
from springline.storage.faults import FaultyStore
from springline.storage.local import LocalStore
from springline.storage.memory import MemoryStore
from springline.storage.scoped import ScopedStore
from springline.ulids import new_ulid

NOW_MS = 1_900_000_000_000
WORKSPACE = WorkspaceRef(tenant=SCOPE.tenant, workspace=SCOPE.workspace)
PREPARED_AT_ONCE = 20_000


async def rounds(cell: Cell, bodies: list[bytes]) -> dict[str, Any]:
    """Prepare the state, then fold and publish the cell's events in its batches; only the latter is timed.

    Raises `WrongState` if the published digest is not that of the in-order fold.
    """
    with tempfile.TemporaryDirectory(prefix="springline-bench-") as folder:
        inner = MemoryStore() if cell.source is Source.MEMORY else LocalStore(Path(folder))
        store = FaultyStore(inner, keep_trace=False)
        run = _Run(ScopedStore(store, SCOPE))
        await run.open()
        for start in range(0, cell.prepared, PREPARED_AT_ONCE):
            await run.round(bodies[start : min(cell.prepared, start + PREPARED_AT_ONCE)])
        store.latency = cell.latency_ms / 1000
        calls = store.requests.total()
        starts = range(cell.prepared, len(bodies), cell.batch)
        times = [await run.round(bodies[start : start + cell.batch]) for start in starts]
        calls = store.requests.total() - calls
        state = State(CONFIG)
        fold_all(state, map(parse_event, bodies))
        expected = Digest.of({name: state.rows(name) for name in TABLES}).state()
        if run.digest != expected:
            raise WrongState(f"{cell.name}: published {run.digest}, the in-order fold has {expected}")
        await inner.aclose()
        ordered = sorted(times)
        events = len(bodies) - cell.prepared
        return {
            "per second": round(events / sum(times)),
            "seconds": round(sum(times), 3),
            "rounds": len(times),
            "p50 ms": round(ordered[len(ordered) // 2] * 1000, 1),
            "p99 ms": round(ordered[int(len(ordered) * 0.99)] * 1000, 1),
            "calls": round(calls / len(times), 1),
            "digest": run.digest,
        }


class _Run:
    """A sequencer that is given round after round."""

    def __init__(self, store: ScopedStore) -> None:
        self._store = store
        self._sequencer = Sequencer(store, CONFIG)
        self._numbers = count(1)
        self._head: Head | None = None
        self.digest = ""

    async def open(self) -> None:
        """Find out where the workspace stands."""
        self._head = (await self._sequencer.open(OpenOrder(workspace=WORKSPACE))).head

    async def round(self, bodies: list[bytes]) -> float:
        """Record a round, then fold and publish it; return the seconds that the latter took."""
        assert self._head is not None
        record = RoundRecord(
            number=self._head.rounds_folded + 1,
            writer="bench",
            order_sha256=hashlib.sha256(b"%d" % self._head.rounds_folded).hexdigest(),
            begun_on=self._head.state_manifest,
            kind="own",
            created_at_ms=NOW_MS,
            events=[RoundEvent.of(parse_event(body).event_id, body) for body in bodies],
        )
        created = await create_round(self._store, record)
        assert isinstance(created, Ours)
        order = FoldOrder(
            workspace=WORKSPACE,
            head=self._head,
            round=created.stored.pending,
            delta_id=self._ulid(),
            snapshot_id=self._ulid(),
            manifest_revision=self._ulid(),
            now_ms=NOW_MS,
        )
        began = time.perf_counter()
        folded = await self._sequencer.fold(order)
        published = await self._sequencer.publish(
            PublishOrder(
                workspace=WORKSPACE,
                head=self._head,
                round=order.round,
                folded=folded,
                manifest_revision=order.manifest_revision,
                now_ms=NOW_MS,
            )
        )
        seconds = time.perf_counter() - began
        assert published.kind == "visible"
        self._head, self.digest = published.head, folded.digest
        return seconds

    def _ulid(self) -> str:
        return new_ulid(None, NOW_MS, next(self._numbers))
