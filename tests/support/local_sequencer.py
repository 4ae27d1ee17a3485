"""The commit protocol's real steps run in this process: what a table's workflow does, without Temporal."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from ulid import ULID
from uuid_utils import uuid7

from springline.commit.finish import finalize, finish_markers
from springline.commit.log import LogKind, write_log
from springline.commit.registry import Registry
from springline.commit.reserve import Round, reserve
from springline.commit.table import Table
from springline.commit.tables import adopt_table, create_table
from springline.delta.registry import TableEntry
from springline.delta.request import CommitRequest, CommitResult, Outcome
from springline.delta.table_request import AdoptTable, CreateTable
from springline.paths import Scope
from springline.requests.coalescer import MAX_BATCH
from springline.storage.port import ObjectStore
from springline.storage.scoped import ScopedStore

NOW_MS = 1_736_935_200_000


def new_name() -> str:
    return str(ULID())


class LocalTables:
    """Creates and adopts tables at once."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    async def create(self, scope: Scope, spec: CreateTable) -> TableEntry:
        return await create_table(ScopedStore(self._store, scope), scope, spec, str(uuid7()), NOW_MS)

    async def adopt(self, scope: Scope, spec: AdoptTable) -> TableEntry:
        return await adopt_table(ScopedStore(self._store, scope), scope, spec, str(uuid7()), NOW_MS)


class LocalSequencer:
    """A commit gateway that runs rounds itself, one at a time for each table."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._locks: dict[tuple[Scope, str], asyncio.Lock] = defaultdict(asyncio.Lock)
        self.batches: list[list[str]] = []

    async def commit(
        self, scope: Scope, table_id: str, requests: Sequence[CommitRequest], *, batch_id: str
    ) -> list[Outcome]:
        assert 1 <= len(requests) <= MAX_BATCH
        self.batches.append([request.idempotency_key for request in requests])
        store = ScopedStore(self._store, scope)
        table = Table(store, table_id, await Registry(store).root_of(table_id))
        async with self._locks[scope, table_id]:
            return [await self._one(table, request) for request in requests]

    async def status(self, scope: Scope, table_id: str) -> dict[str, Any] | None:
        return None

    async def _one(self, table: Table, request: CommitRequest) -> Outcome:
        key = request.idempotency_key
        while True:
            result = await reserve(table, Round(str(uuid7()), NOW_MS, [request]))
            if key in result.outcomes:
                return result.outcomes[key]
            reserved = result.reserved
            if reserved is None:
                continue
            log = await write_log(table, reserved.inflight, reserved.token, reserved.payload)
            if log.kind is not LogKind.LOGGED:
                continue
            await finish_markers(table, log.inflight, log.inflight.staged_payload_sha256)
            await finalize(table, log.inflight, log.token)
            path = table.log_path(log.inflight.version)
            return Outcome(idempotency_key=key, result=CommitResult(version=log.inflight.version, delta_log_path=path))
