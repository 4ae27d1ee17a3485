"""The tables of a workspace, and what was committed to one of them: pages for people and programs that look around.

Nothing on the path of a commit comes here: the list of tables is a listing of the registry.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from springline import paths
from springline.commit.inspect import latest_version
from springline.commit.registry import DamagedRecord, decode_entry, decode_record
from springline.commit.table import CommitTable
from springline.delta.history import HistoryRow, history_row
from springline.delta.table_request import Claim, TableEntry
from springline.errors import Code, InvariantViolated, refused
from springline.paths import ObjectPath
from springline.storage.scoped import ScopedStore
from springline.storage.together import in_batches

ENTRIES_TOGETHER = 256
MOST_LOOKED_AT = 20_000
"""Registry entries that one page looks at: a filter that fits few tables then ends a page early."""
LOGS_TOGETHER = 16
"""Log files in memory at once: foreign ones may be large."""
MOST_MISSING = 64
"""Versions in a row without a log file, after which no older one is looked for."""


@dataclass(frozen=True, slots=True)
class Listed:
    """A registered table; `named` says whether it is the one that its name leads to."""

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

    A page may hold fewer and still have a cursor. Damaged entries that the page comes by are named in it, and count.
    Raises `Refused` (INVALID_REQUEST) for a cursor that is none.
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
    """Read the registry's objects; None is one that is gone since it was listed."""
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
    """Return the id of the table that a name leads to; a claim that cannot be read leads to none."""
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
                # Off the event loop: a log file of many megabytes takes long enough for others to notice.
                rows.append(await asyncio.to_thread(history_row, one, log))
        version = versions[-1] - 1
    return rows
