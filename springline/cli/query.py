"""`springline query`: SQL over the published state, read from the store."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Any

import typer

from springline.cli.documents import Listing
from springline.cli.grid import plain
from springline.cli.stores import StoreOption, TenantOption, WorkspaceOption, on_store
from springline.definitions.sizes import memory_bytes
from springline.errors import Code, refused
from springline.exits import EXIT_INTERRUPTED, leave

if TYPE_CHECKING:
    from springline.published.query import QueryAnswer
    from springline.published.snapshot import Revision


_MIB = 1024 * 1024
_LEAST_MEMORY = 16 * _MIB


def query(
    sql: Annotated[str, typer.Argument(metavar="SQL", help="One SELECT over runs, tasks, timers, ...")],
    *,
    tenant: TenantOption,
    workspace: WorkspaceOption,
    store: StoreOption = None,
    timeout: Annotated[float, typer.Option("--timeout", metavar="SECONDS", min=0.001, help="Most time.")] = 60.0,
    memory: Annotated[
        str, typer.Option("--memory", metavar="SIZE", help="Most memory of the engine, such as 512MiB; a number: MiB.")
    ] = "1GiB",
    max_rows: Annotated[
        int, typer.Option("--max-rows", metavar="N", min=1, help="Most rows of the answer.")
    ] = 1_000_000,
) -> Listing:
    """Ask the published state in SQL (DuckDB). It can read the published tables and reach nothing else.

    Times are TIMESTAMP in UTC, columns that hold JSON are JSON text: `labels->>'$.team'`. A query that goes beyond
    its limits is refused; Ctrl-C ends it at once, with exit code 130.
    """
    limits = (timeout, _mebibytes(memory), max_rows)
    answer, revision = on_store(store, tenant, workspace, lambda scoped: _asked(scoped, sql, limits))
    names = _distinct([name for name, _ in answer.columns])

    def document() -> dict[str, Any]:
        rows = [dict(zip(names, map(plain, row), strict=True)) for row in answer.rows]
        columns = [{"name": name, "type": kind} for name, (_, kind) in zip(names, answer.columns, strict=True)]
        return {"columns": columns, "rows": rows, "revision": revision.as_json()}

    rows = "row" if len(answer.rows) == 1 else "rows"
    return Listing(document, names, answer.rows, f"{len(answer.rows)} {rows} of revision {revision.manifest_id}")


def _mebibytes(text: str) -> int:
    plain = text.strip()
    try:
        size = memory_bytes(f"{plain}MiB" if plain.isdecimal() else plain, least=_LEAST_MEMORY)
    except ValueError as error:
        raise refused(
            Code.INVALID_REQUEST,
            f"--memory {text!r} {error}",
            field="--memory",
            value=text,
            remedy="Give a size such as 512MiB or 2GiB, or a number of MiB.",
        ) from None
    return size // _MIB


async def _asked(scoped: Any, sql: str, limits: tuple[float, int, int]) -> tuple[QueryAnswer, Revision]:
    # Arrow and DuckDB take most of a second to import: so import them only in this command.
    from springline.published.query import Database, Limits, tables_named  # noqa: PLC0415
    from springline.published.reader import read_published  # noqa: PLC0415

    seconds, memory_mb, rows = limits
    names = tables_named(sql)
    _, snapshot = await read_published(scoped, names)
    database: Database | None = None

    def work() -> QueryAnswer:
        nonlocal database
        database = Database({name: snapshot[name] for name in names}, Limits(seconds, memory_mb, rows))
        try:
            return database.ask(sql)
        finally:
            database.close()

    try:
        return await asyncio.to_thread(work), snapshot.revision
    except asyncio.CancelledError:
        # By Ctrl-C. The thread ends once DuckDB has noticed; the user need not wait for that.
        if database is not None:
            database.interrupt()
        leave(EXIT_INTERRUPTED)


def _distinct(names: list[str]) -> list[str]:
    """Return distinct names: a repeated one gets its position appended."""
    seen: set[str] = set()
    distinct = []
    for place, name in enumerate(names, 1):
        chosen = name if name not in seen else f"{name}_{place}"
        seen.add(chosen)
        distinct.append(chosen)
    return distinct
