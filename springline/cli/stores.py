"""`springline table recover | verify | clean-staging`: from storage alone, without Temporal and without the API."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, TypeVar

import typer

from springline.cli.documents import Document, DocumentVerdict, hint
from springline.cli.failures import store_refusal
from springline.cli.presence import check_workspace
from springline.cli.tables import TableArgument
from springline.errors import Code, Refused, refused
from springline.exits import EXIT_CONFLICT, EXIT_DONE
from springline.paths import Scope
from springline.storage.port import StoreError
from springline.storage.scoped import ScopedStore
from springline.storage.url import open_store

R = TypeVar("R")

StoreOption = Annotated[
    str | None,
    typer.Option(
        "--store",
        metavar="URL",
        envvar="SPRINGLINE_STORE_URL",
        help="file:///absolute/folder or gs://bucket/prefix; an emulator by STORAGE_EMULATOR_HOST.",
    ),
]
_TENANT = typer.Option("--tenant", metavar="T", envvar="SPRINGLINE_TENANT", help="The tenant.")
_WORKSPACE = typer.Option("--workspace", metavar="W", envvar="SPRINGLINE_WORKSPACE", help="The tenant's workspace.")
TenantOption = Annotated[str, _TENANT]
WorkspaceOption = Annotated[str, _WORKSPACE]
OptionalTenant = Annotated[str | None, _TENANT]
OptionalWorkspace = Annotated[str | None, _WORKSPACE]


def recover(
    table: TableArgument,
    *,
    tenant: TenantOption,
    workspace: WorkspaceOption,
    store: StoreOption = None,
    markers: Annotated[
        bool, typer.Option("--markers", help="Read the whole log, and write every marker that is missing.")
    ] = False,
    replace_damaged: Annotated[
        bool,
        typer.Option(
            "--replace-damaged",
            help="Replace what cannot be read of registry, coordinator and markers by what the log and the claims say.",
        ),
    ] = False,
) -> Document:
    """Complete or abandon whatever a table has in flight, from storage alone. Safe while everything is running.

    A coordinator that is gone is made anew of the log. Prints what was in flight before, what was done (completed,
    abandoned, released, void) and what is in flight after.
    """

    async def work(scoped: ScopedStore) -> dict[str, Any]:
        # Reading a log needs Arrow, which takes most of a second to import: so import it only in these commands.
        from springline.cli.recover import recover_table  # noqa: PLC0415

        return await recover_table(scoped, table, markers=markers, damaged=replace_damaged)

    return on_store(store, tenant, workspace, work)


def verify(
    table: TableArgument,
    *,
    tenant: TenantOption,
    workspace: WorkspaceOption,
    store: StoreOption = None,
    deep: Annotated[
        bool,
        typer.Option("--deep", help="List all markers, too: each says which bytes the log file of its version had."),
    ] = False,
) -> DocumentVerdict:
    """Look whether a table's registry, coordinator, log and markers agree, from storage alone. Changes nothing.

    Exit code: 0 they do, 3 they do not: each finding names an object, what is wrong, and what to do.
    """

    async def work(scoped: ScopedStore) -> dict[str, Any]:
        from springline.cli.recover import verify_table  # noqa: PLC0415 - as above

        return await verify_table(scoped, table, deep=deep)

    found = on_store(store, tenant, workspace, work)
    return DocumentVerdict(found, EXIT_DONE if found["ok"] else EXIT_CONFLICT)


def clean_staging(
    table: TableArgument,
    *,
    tenant: TenantOption,
    workspace: WorkspaceOption,
    store: StoreOption = None,
    apply: Annotated[bool, typer.Option("--apply", help="Remove them; without it, only count.")] = False,
) -> Document:
    """Remove staged payloads that are older than 7 days and that no reservation names."""

    async def work(scoped: ScopedStore) -> Document:
        from springline.cli.recover import find_table  # noqa: PLC0415 - as above
        from springline.commit.staging import clean_staging as clean  # noqa: PLC0415

        found = await find_table(scoped, table)
        return await clean(scoped, found.table_id, time.time_ns() // 1_000_000, dry_run=not apply)

    document = on_store(store, tenant, workspace, work)
    if not apply:
        hint("nothing was removed: `removed` counts what --apply would remove")
    return document


def on_store(url: str | None, tenant: str, workspace: str, work: Callable[[ScopedStore], Awaitable[R]]) -> R:
    """Open the store, do `work` in the workspace's part of it, and close it again.

    Raises `Refused` (INVALID_REQUEST for no store or a misconfigured one, NOT_FOUND for a store without objects of
    the workspace, UNAVAILABLE for one without a clear answer) and the errors of `work`; `InvalidPath` for a tenant or
    workspace that is not a valid name.
    """
    scope = Scope(tenant, workspace)
    given = checked_store_url(url)

    async def run() -> R:
        store = open_store(given)
        try:
            await check_workspace(store, scope)
            return await work(ScopedStore(store, scope))
        finally:
            await store.aclose()

    try:
        return asyncio.run(run())
    except StoreError as error:
        raise Refused(store_refusal(error, given)) from error


def checked_store_url(url: str | None) -> str:
    """Return the store's URL; raises `Refused` (INVALID_REQUEST) if there is none, or it is a memory store."""
    if not url:
        raise refused(
            Code.INVALID_REQUEST,
            "no store is given",
            field="--store",
            value=url,
            remedy="Give --store URL, for example file:///srv/lake or gs://bucket, set SPRINGLINE_STORE_URL, or keep "
            "it in a profile (`springline profile set`).",
        )
    if url.startswith("memory:"):
        raise refused(
            Code.INVALID_REQUEST,
            "a store in memory belongs to one process, and this one has just started",
            field="--store",
            value=url,
            remedy="Name the store that holds the tables: file:///absolute/folder or gs://bucket/prefix.",
        )
    return url
