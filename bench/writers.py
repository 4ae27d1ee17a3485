"""Closed-loop append writers on the real path: stage, commit through a coalescer, go on when answered."""

from __future__ import annotations

import asyncio
import io
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import orjson
import pyarrow.parquet as pq

from bench.measure import Done
from bench.peer import batch_of
from bench.verify import file_of_key
from springline import paths
from springline.commit.coalescer import CommitCoalescer
from springline.commit.staging import stage
from springline.delta.messages import CommitMode, CommitRequest
from springline.delta.table_request import TableEntry
from springline.errors import Code
from springline.paths import Scope
from springline.storage.port import IfAbsent, ObjectStore

_TRIES = 10
"""How often a writer asks again for an answer that did not come in time, as a client library does."""


class WriterFailed(Exception):
    """A writer was refused: nothing in a benchmark deserves that."""


@dataclass(slots=True)
class Journal:
    """What all writers of a cell did."""

    done: list[Done] = field(default_factory=list)
    unanswered: int = 0


@dataclass(frozen=True, slots=True)
class Writers:
    """What the writers of a cell have in common.

    `store` is the workspace's store as they stage to it; `data_store`, where data files go, None if a cell
    writes none: the memory cells measure the control plane alone, the file cells do what the peer does.
    """

    scope: Scope
    coalescer: CommitCoalescer
    store: ObjectStore
    data_store: ObjectStore | None
    new_key: Callable[[], str]
    stop: asyncio.Event
    journal: Journal

    async def run(self, tables: list[TableEntry], per_table: int) -> None:
        """Run `per_table` writers on each of `tables` until `stop` is set and the last commits are answered."""
        async with asyncio.TaskGroup() as group:
            for table in tables:
                for _ in range(per_table):
                    group.create_task(self._write(table))

    async def _write(self, table: TableEntry) -> None:
        seen = 0
        while not self.stop.is_set():
            key = self.new_key()
            began = time.perf_counter()
            size = await self._write_data(table, key)
            staged = await stage(self.store, table.table_id, key, _payload(key, size))
            staged_at = time.perf_counter()
            request = CommitRequest(
                idempotency_key=key,
                mode=CommitMode.APPEND,
                read_version=seen,
                staged_path=staged.path,
                staged_version=staged.version,
            )
            seen = await self._commit(table, request)
            self.journal.done.append(Done(table.table_id, key, seen, began, staged_at, time.perf_counter()))

    async def _write_data(self, table: TableEntry, key: str) -> int:
        """Write the commit's Parquet file, one row; return its size in bytes."""
        if self.data_store is None:
            return 1
        buffer = io.BytesIO()
        pq.write_table(batch_of(key), buffer)
        data = buffer.getvalue()
        await self.data_store.put(paths.delta_data_file(table.root, file_of_key(key)), data, IfAbsent())
        return len(data)

    async def _commit(self, table: TableEntry, request: CommitRequest) -> int:
        for _ in range(_TRIES):
            outcome = await self.coalescer.commit(self.scope, table.table_id, request)
            if outcome.result is not None:
                return outcome.result.version
            if outcome.refusal is None or outcome.refusal.code is not Code.UNAVAILABLE:
                raise WriterFailed(f"key {request.idempotency_key} was refused: {outcome.refusal}")
            self.journal.unanswered += 1
        raise WriterFailed(f"key {request.idempotency_key} got no answer in {_TRIES} tries")


def _payload(key: str, size: int) -> bytes:
    """Return the staged actions of a commit that adds one file of one row."""
    stats = {
        "numRecords": 1,
        "minValues": {"key": key, "value": 1},
        "maxValues": {"key": key, "value": 1},
        "nullCount": {"key": 0, "value": 0},
    }
    add = {
        "path": file_of_key(key),
        "partitionValues": {},
        "size": size,
        "modificationTime": int(time.time() * 1000),
        "dataChange": True,
        "stats": orjson.dumps(stats).decode(),
    }
    return orjson.dumps({"add": add}) + b"\n"
