"""The commit protocol's real steps run in this process: what a table's workflow does, without Temporal."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from ulid import ULID
from uuid_utils import uuid7

from springline.batching import MAX_BATCH
from springline.commit.registry import Registry
from springline.commit.table import CommitTable
from springline.commit.tables import adopt_table, create_table
from springline.delta.messages import CommitOutcome, CommitRequest
from springline.delta.table_request import AdoptTable, CreateTable, TableEntry
from springline.paths import Scope
from springline.storage.port import ObjectStore
from springline.storage.scoped import ScopedStore
from tests.judging.committing import commit_request

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
    ) -> list[CommitOutcome]:
        assert 1 <= len(requests) <= MAX_BATCH
        self.batches.append([request.idempotency_key for request in requests])
        store = ScopedStore(self._store, scope)
        table = CommitTable(store, table_id, await Registry(store).root_of(table_id))
        async with self._locks[scope, table_id]:
            return [await commit_request(table, request) for request in requests]

    async def status(self, scope: Scope, table_id: str) -> dict[str, Any] | None:
        return None
