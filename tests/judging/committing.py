"""Tables in a folder, committed to by the steps behind API and activities, and opened by foreign readers.

A `Bed` is a table with rows, made once; each payload is tried on a copy of it, so that no trial sees another's.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from uuid_utils import uuid7

from springline import paths
from springline.commit.complete import finalize, write_log, write_marker
from springline.commit.reserve import reserve
from springline.commit.staging import stage
from springline.commit.table import CommitTable
from springline.commit.tables import create_table
from springline.delta.messages import (
    CommitMode,
    CommitOutcome,
    CommitRequest,
    CommitResult,
    LogKind,
    RoundOrder,
    TableRef,
)
from springline.delta.payload import parse_payload
from springline.delta.table_request import CreateTable
from springline.errors import Refused
from springline.storage.local import LocalStore
from springline.storage.scoped import ScopedStore

SCOPE = paths.Scope("acme", "prod")
TABLE_ID = "01946b1c-0000-7000-8000-0000000000aa"
NOW_MS = 1_736_899_200_000
COLUMNS = [{"name": "id", "type": "long"}, {"name": "s", "type": "string"}]
COPY = "copy.parquet"
ROWS = 2

Lines = Sequence[Mapping[str, Any] | str]


def payload(lines: Lines) -> bytes:
    """Return a payload's bytes; a line may be given as text, to say what no dictionary can."""
    return "".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines).encode()


def data_file(columns: Mapping[str, pa.Array]) -> tuple[pa.Table, bytes]:
    """Return the rows and the bytes of a Parquet file."""
    table = pa.table(dict(columns))
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    return table, sink.getvalue().to_pybytes()


@dataclass(frozen=True)
class Trial:
    """What became of a payload: refused at stage or at commit (then nothing was written), or committed."""

    refused_at: str | None
    outcome: CommitOutcome | None
    folder: Path
    refusal: Any = None

    @property
    def accepted(self) -> bool:
        return self.refused_at is None


class Bed:
    """A table in a folder that was filled by the product's own steps."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = paths.new_table_root(TABLE_ID, SCOPE)

    @property
    def location(self) -> Path:
        """The table's own folder."""
        return self.folder / SCOPE.full(paths.workspace_path(self.root))

    def table(self) -> CommitTable:
        store = ScopedStore(LocalStore(self.folder, fsync=False), SCOPE)
        return CommitTable(store, TABLE_ID, self.root)

    async def create(self, spec: Mapping[str, Any] | None = None) -> None:
        """Create the table at version 0."""
        store = ScopedStore(LocalStore(self.folder, fsync=False), SCOPE)
        body = {"name": "judged", "columns": COLUMNS, **(spec or {})}
        await create_table(store, SCOPE, CreateTable.model_validate(body), TABLE_ID, NOW_MS)

    def put(self, name: str, data: bytes) -> None:
        file = self.location / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)

    def copy(self, folder: Path) -> Bed:
        """Return the same table in another folder; data files are shared, nobody writes them."""
        shutil.copytree(
            self.folder,
            folder,
            copy_function=lambda source, target: (
                os.link(source, target) if source.endswith(".parquet") else shutil.copyfile(source, target)
            ),
        )
        return Bed(folder)

    def objects(self) -> dict[str, bytes]:
        """Return what the folder holds, but for locks and the store's own files."""
        return {
            str(file.relative_to(self.folder)): file.read_bytes()
            for file in self.folder.rglob("*")
            if file.is_file() and ".springline" not in file.parts
        }

    async def latest(self) -> int:
        held = await self.table().read_coordinator()
        assert held is not None
        return held.state.latest_version

    async def commit(
        self, data: bytes, mode: CommitMode = CommitMode.STRICT, *, read_version: int | None = None
    ) -> Trial:
        """Stage and commit as the API, the workflow and its activities do."""
        table = self.table()
        try:
            parse_payload(data)
        except Refused as error:
            return Trial("stage", None, self.location, error.refusal)
        staged = await stage(table.store, TABLE_ID, str(uuid7()), data)
        read = await self.latest() if read_version is None else read_version
        request = CommitRequest(
            idempotency_key=str(uuid7()),
            mode=mode,
            read_version=read,
            staged_path=staged.path,
            staged_version=staged.version,
        )
        outcome = await commit_request(table, request)
        if outcome.refusal is not None:
            return Trial("commit", outcome, self.location, outcome.refusal)
        return Trial(None, outcome, self.location)


def order_of(table: CommitTable, *requests: CommitRequest, now_ms: int = NOW_MS) -> RoundOrder:
    """Return the order of a round of these requests."""
    ref = TableRef(tenant="acme", workspace="prod", table_id=table.table_id)
    return RoundOrder(table=ref, round_id=str(uuid7()), now_ms=now_ms, requests=list(requests))


async def commit_request(table: CommitTable, request: CommitRequest) -> CommitOutcome:
    """Carry one request through reserve, log, marker and finalize; return its answer."""
    while True:
        order = order_of(table, request)
        result = await reserve(table, order)
        if result.outcomes:
            return result.outcomes[0]
        if result.reservation is None:
            continue
        step = result.reservation.step_of(order.table)
        log = await write_log(table, step)
        if log.kind is not LogKind.LOGGED:
            continue
        step = step.model_copy(update={"version": log.version, "coordinator_version": log.coordinator_version})
        marked = await write_marker(table, step)
        await finalize(table, step)
        answer = CommitResult(version=step.version, delta_log_path=marked.delta_log_path)
        return CommitOutcome(idempotency_key=request.idempotency_key, result=answer)
