"""Stored facts about tables, for people and programs: one table, one key, the tables of a workspace."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from pydantic import BaseModel

from springline import paths
from springline.commit.complete import read_markers
from springline.commit.registry import DamagedRecord, decode_entry, decode_record
from springline.commit.snapshot import load_snapshot, probe_latest
from springline.commit.table import CommitTable
from springline.delta.checkpoints import parse_last_checkpoint
from springline.delta.conflicts import ABANDONED_OPERATION, committed_version
from springline.delta.coordinator import Coordinator, Inflight
from springline.delta.described import HistoryRow, history_row
from springline.delta.markers import Marker
from springline.delta.table_request import Claim, TableEntry
from springline.errors import Code, InvariantViolated, refused
from springline.keys import check_key
from springline.paths import ObjectPath
from springline.storage.scoped import ScopedStore
from springline.storage.together import in_batches, together


class InflightView(BaseModel):
    """A reservation in the coordinator, for operators. Times in Unix milliseconds."""

    commit_id: str
    version: int
    mode: str
    keys: list[str]
    staged_path: str
    started_at_ms: int
    log_written: bool
    markers_written: int


class TableView(BaseModel):
    """A table as stored: from its coordinator and its log."""

    table_id: str
    root: str
    latest_version: int
    coordinator_version: int | None
    """`latest_version` in the coordinator object; behind the log while a commit is in flight or after a rival's."""
    inflight: InflightView | None
    last_checkpoint: int | None
    protocol: dict[str, Any] | None
    metadata: dict[str, Any] | None


class Fate(StrEnum):
    """Fates of a key."""

    COMMITTED = "committed"
    IN_FLIGHT = "in_flight"
    UNKNOWN_KEY = "unknown_key"


class KeyView(BaseModel):
    """The definite answer to "what became of key K?"; `meaning` says it in a sentence."""

    idempotency_key: str
    fate: Fate
    meaning: str
    version: int | None = None
    delta_log_path: str | None = None
    mode: str | None = None
    committed_at_ms: int | None = None
    fingerprint: str | None = None
    """The committed request, `operation:fingerprint`, if it has one; the same request gets the first answer."""
    marker_path: str
    inflight: InflightView | None = None


async def table_view(table: CommitTable) -> TableView:
    """Read the table's coordinator and log; changes nothing."""
    held = await table.read_coordinator()
    state = held.state if held else Coordinator(-1)
    hint, snapshot = await together(
        table.store.get(paths.delta_last_checkpoint(table.root)),
        load_snapshot(table.store, table.root, at_least=state.latest_version),
    )
    checkpoint = parse_last_checkpoint(hint.data) if hint else None
    return TableView(
        table_id=table.table_id,
        root=table.root,
        latest_version=snapshot.version,
        coordinator_version=state.latest_version if held else None,
        inflight=await _inflight_view(table, state.inflight) if state.inflight else None,
        last_checkpoint=checkpoint.version if checkpoint else None,
        protocol=snapshot.protocol,
        metadata=snapshot.metadata,
    )


async def latest_version(table: CommitTable) -> int:
    """Return the newest version of the table, of any writer, which a client uses as `read_version`."""
    held = await table.read_coordinator()
    return await probe_latest(table.store, table.root, held.state.latest_version if held else -1)


async def key_view(table: CommitTable, key: str) -> KeyView:
    """Return the fate of `key`; raises `Refused` if it is not a key. The marker decides, then the reservation."""
    check_key(key)
    # The coordinator first: a commit that ends between the two reads then shows up by its marker.
    held = await table.read_coordinator()
    (marker,) = await read_markers(table, [key])
    marker_path = paths.delta_marker(table.table_id, key)
    if marker is not None:
        return await _committed(table, key, marker, marker_path)
    inflight = held.state.inflight if held else None
    if inflight is not None and key in inflight.keys:
        view = await _inflight_view(table, inflight)
        return KeyView(
            idempotency_key=key,
            fate=Fate.IN_FLIGHT,
            meaning=f"Version {inflight.version} is reserved for it; "
            + ("its log file is written, so it is committed." if view.log_written else "its log is not written yet."),
            version=inflight.version,
            delta_log_path=table.log_path(inflight.version),
            mode=view.mode,
            marker_path=marker_path,
            inflight=view,
        )
    return KeyView(
        idempotency_key=key,
        fate=Fate.UNKNOWN_KEY,
        meaning="No commit of this table carries this key: it was never sent, was refused, or still waits its turn. "
        "Sending it (again) is safe.",
        marker_path=marker_path,
    )


async def _committed(table: CommitTable, key: str, marker: Marker, marker_path: str) -> KeyView:
    log = await table.store.get(paths.workspace_path(marker.delta_log_path))
    operation = committed_version(marker.version, log.data).operation if log else None
    suffix = "" if log else " (log clean-up has removed that log file since)"
    if operation == ABANDONED_OPERATION:
        suffix = " (that version is a fill: call an operator)"
    return KeyView(
        idempotency_key=key,
        fate=Fate.COMMITTED,
        meaning=f"Committed as version {marker.version}{suffix}. The same request gets this answer for ever.",
        version=marker.version,
        delta_log_path=marker.delta_log_path,
        mode=marker.mode.value if marker.mode else "strict",
        committed_at_ms=marker.committed_at_ms,
        fingerprint=marker.fingerprint,
        marker_path=marker_path,
    )


async def _inflight_view(table: CommitTable, inflight: Inflight) -> InflightView:
    log, markers = await together(
        table.store.head(table.log_path(inflight.version)), read_markers(table, inflight.keys)
    )
    return InflightView(
        commit_id=inflight.commit_id,
        version=inflight.version,
        mode=inflight.mode.value if inflight.mode else "strict",
        keys=list(inflight.keys),
        staged_path=inflight.staged_path,
        started_at_ms=inflight.started_at_ms,
        log_written=log is not None,
        markers_written=sum(marker is not None for marker in markers),
    )


ENTRIES_TOGETHER = 256
MOST_LOOKED_AT = 20_000
"""Registry entries that one page reads at most: with a filter that few tables match, a page ends early."""
LOGS_TOGETHER = 16
"""Log files in memory at once: foreign ones may be large."""
MOST_MISSING = 64
"""After this many versions in a row without a log file, the search for older ones ends."""


@dataclass(frozen=True, slots=True)
class Listed:
    """A registered table; `named` says whether its name's claim leads to it."""

    entry: TableEntry
    named: bool


@dataclass(slots=True)
class TablesPage:
    """Tables in the order of their ids, which is that of their creation. `cursor`: where the next page begins."""

    tables: list[Listed] = field(default_factory=list)
    damaged: list[DamagedRecord] = field(default_factory=list)
    cursor: str | None = None


async def list_tables(
    store: ScopedStore, *, limit: int, cursor: str | None = None, name_prefix: str = ""
) -> TablesPage:
    """Return at most `limit` tables whose names begin with `name_prefix`, from `cursor` of an earlier page on.

    A page may have fewer and still have a cursor. It names the damaged entries that it comes across, and they count.
    Raises `Refused` (INVALID_REQUEST) for an invalid cursor.
    """
    prefix = paths.table_entries_prefix()
    start = None if cursor is None else _start(prefix, cursor)
    page = TablesPage()
    looked_at = 0
    async for infos in in_batches(store.list(prefix, start_after=start), ENTRIES_TOGETHER):
        batch = [info.path for info in infos]
        for path, found in zip(batch, await _entries(store, batch), strict=True):
            looked_at += 1
            if isinstance(found, DamagedRecord):
                page.damaged.append(found)
            elif found is not None and found.entry.name.startswith(name_prefix):
                page.tables.append(found)
            if len(page.tables) + len(page.damaged) >= limit or looked_at >= MOST_LOOKED_AT:
                page.cursor = path.removeprefix(prefix)
                return page
    return page


def _start(prefix: ObjectPath, cursor: str) -> ObjectPath:
    try:
        return paths.page_cursor(f"{prefix}{cursor}", prefix)
    except paths.InvalidPath as error:
        raise refused(
            Code.INVALID_REQUEST,
            f"cursor {cursor[:100]!r} is none that a list of tables has answered",
            field="cursor",
            value=cursor[:100],
            remedy="Send next_cursor of the page before, or none for the first page.",
        ) from error


async def _entries(store: ScopedStore, batch: Sequence[ObjectPath]) -> list[Listed | DamagedRecord | None]:
    """Read the registry's objects; None for one that was deleted after it was listed."""
    found = [
        None if data is None else _judged(path, data, store.scope)
        for path, data in zip(batch, await store.read_many(batch), strict=True)
    ]
    entries = [one for one in found if isinstance(one, TableEntry)]
    claims = await store.read_many([paths.name_claim(entry.name) for entry in entries])
    owners = {entry.table_id: _owner(entry.name, claim) for entry, claim in zip(entries, claims, strict=True)}
    return [
        Listed(one, named=owners[one.table_id] == one.table_id) if isinstance(one, TableEntry) else one for one in found
    ]


def _judged(path: ObjectPath, data: bytes, scope: paths.Scope) -> TableEntry | DamagedRecord:
    if paths.parse_table_entry(path) is None:
        return DamagedRecord(path, "its name is not that of a table's entry")
    try:
        return decode_entry(data, path, scope)
    except InvariantViolated as error:
        return DamagedRecord(path, str(error))


def _owner(name: str, claim: bytes | None) -> str | None:
    """Return the id of the table that a name's claim leads to; a claim that cannot be read leads to none."""
    try:
        return None if claim is None else decode_record(claim, paths.name_claim(name), Claim).table_id
    except InvariantViolated:
        return None


async def table_history(table: CommitTable, *, limit: int, before: int | None = None) -> list[HistoryRow]:
    """Return the newest versions of a table, at most `limit`, newest first; `before`: only those below that version.

    Versions whose log files clean-up has removed are left out.
    """
    newest = await latest_version(table)
    version = newest if before is None else min(newest, before - 1)
    rows: list[HistoryRow] = []
    missing = 0
    while version >= 0 and len(rows) < limit and missing < MOST_MISSING:
        versions = range(version, max(-1, version - min(LOGS_TOGETHER, limit - len(rows))), -1)
        logs = await table.store.read_many([table.log_path(one) for one in versions])
        for one, log in zip(versions, logs, strict=True):
            missing = missing + 1 if log is None else 0
            if log is not None:
                # Off the event loop: a log file of many megabytes would delay other requests.
                rows.append(await asyncio.to_thread(history_row, one, log))
        version = versions[-1] - 1
    return rows
