"""Workers of a pipeline file, with real processes over a store in memory."""

from __future__ import annotations

import asyncio
import textwrap
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

from springline.control.runs.messages import AttemptEnded, AttemptOrder, TakenInput, TakenOutput
from springline.storage.memory import MemoryStore
from springline.work.attempts import AttemptMaker, Watching
from springline.work.pool import ProcessPool

RUN = "run_1"


def order(asset: str, **fields: Any) -> AttemptOrder:
    attempt = fields.pop("attempt", 1)
    task = asset if fields.get("partition_key") is None else f"{asset}[{fields['partition_key']}]"
    given = {
        "tenant": "acme",
        "workspace": "dev",
        "run_id": RUN,
        "task_key": task,
        "asset_key": asset,
        "attempt": attempt,
        "attempt_id": f"a-{task}-{attempt}",
        "scope": RUN,
        "manifest_id": "01JHMP8000000000000000000A",
        "location": "flow",
        **fields,
    }
    return AttemptOrder(**given)


def taken(made: AttemptOrder) -> TakenOutput:
    return TakenOutput(
        task_key=made.task_key, attempt_id=made.attempt_id, scope=made.scope, partition_key=made.partition_key
    )


def takes(argument: str, *outputs: AttemptOrder, many: bool = False) -> list[TakenInput]:
    return [TakenInput(argument=argument, many=many, outputs=[taken(one) for one in outputs])]


async def gone(pid: int) -> bool:
    """Say whether a process has ended; one that was killed just now may need a moment."""
    for _ in range(250):
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        await asyncio.sleep(0.02)
    return False


@dataclass
class Worker:
    pool: ProcessPool
    maker: AttemptMaker
    store: MemoryStore
    lines: list[str]
    started: list[int] = field(default_factory=list)
    told: list[tuple[float, str | None]] = field(default_factory=list)
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    has_told: asyncio.Event = field(default_factory=asyncio.Event)

    async def make(self, asset: str | AttemptOrder, **fields: Any) -> AttemptEnded:
        wanted = order(asset, **fields) if isinstance(asset, str) else asset
        heard = Watching(self.started.append, self._hear)
        return await self.maker.make(wanted, self.stop, heard)

    def _hear(self, done: float, message: str | None) -> None:
        self.told.append((done, message))
        self.has_told.set()


Open = Callable[..., Awaitable[Worker]]


@pytest.fixture
async def opened(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> AsyncIterator[Open]:
    pools: list[ProcessPool] = []

    async def worker(
        source: str, *, concurrency: int = 1, grace_s: float = 10, memory_bytes: int | None = None, **options: Any
    ) -> Worker:
        file = tmp_path / "flow.py"
        file.write_text(textwrap.dedent(source))
        lines: list[str] = []
        pool = ProcessPool(str(file), concurrency, lines.append, **options)
        pools.append(pool)
        described = await pool.open()
        store = MemoryStore()
        maker = AttemptMaker(
            pool,
            store,
            location="flow",
            assets={*described["keys"], *described["task_keys"]},
            worker_id="w1",
            grace_s=grace_s,
            now_ms=iter(range(1_000, 10**9)).__next__,
            memory_bytes=memory_bytes,
        )
        return Worker(pool, maker, store, lines)

    caplog.set_level("INFO", logger="springline.attempt")
    yield worker
    for pool in pools:
        await pool.aclose()
