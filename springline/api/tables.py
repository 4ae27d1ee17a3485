"""Routes of tables: create, adopt, status."""

from __future__ import annotations

from typing import Annotated

import orjson
from fastapi import APIRouter, Path, Response

from springline.api.context import FromDeps, Reader, Writer, errors
from springline.api.models import TableBody, TableStatusBody
from springline.commit.inspect import table_view
from springline.delta.create import check_creation
from springline.delta.registry import TableEntry
from springline.delta.roots import root_of_location
from springline.delta.table_request import AdoptTable, CreateTable, check_name

router = APIRouter(prefix="/api/v1/delta/tables", tags=["tables"])

TableParam = Annotated[str, Path(description="The table's id or its name.", examples=["flights"])]


@router.post(
    "",
    status_code=201,
    summary="Create a table",
    response_description="The table is registered and has version 0.",
    responses=errors(400, 409, 413, 503),
)
async def create(spec: CreateTable, workspace: Writer, deps: FromDeps, response: Response) -> TableBody:
    """Write version 0 of a new Delta table and register it under a name.

    After a lost answer, ask for the table by its name; a name that is taken is refused with NAME_TAKEN.
    """
    check_creation(spec)
    if spec.location is not None:
        root_of_location(spec.location, workspace.scope)
    return _made(await deps.tables.create(workspace.scope, spec), workspace, deps, response)


@router.post(
    "/adopt",
    status_code=201,
    summary="Adopt an existing Delta folder",
    response_description="The table is registered; its log is untouched.",
    responses=errors(400, 409, 413, 503),
)
async def adopt(spec: AdoptTable, workspace: Writer, deps: FromDeps, response: Response) -> TableBody:
    """Register a Delta table that another engine wrote into a folder of this workspace."""
    check_name(spec.name)
    root_of_location(spec.location, workspace.scope)
    return _made(await deps.tables.adopt(workspace.scope, spec), workspace, deps, response)


@router.get("/{table}", summary="Status of a table", responses=errors(404, 503))
async def status(table: TableParam, workspace: Reader, deps: FromDeps) -> TableStatusBody:
    """Tell what is stored of a table (version, reservation in flight, schema) and what its sequencer is doing."""
    entry = await workspace.registry.entry(table)
    view = await table_view(workspace.table(entry))
    metadata = view.metadata or {}
    return TableStatusBody(
        table=entry,
        location=deps.location(workspace.scope, entry.root),
        latest_version=view.latest_version,
        coordinator_version=view.coordinator_version,
        inflight=view.inflight,
        last_checkpoint=view.last_checkpoint,
        columns=orjson.loads(metadata["schemaString"]) if "schemaString" in metadata else None,
        partition_columns=metadata.get("partitionColumns") or [],
        properties=metadata.get("configuration") or {},
        protocol=view.protocol,
        sequencer=await deps.sequencers.status(workspace.scope, entry.table_id),
    )


def _made(entry: TableEntry, workspace: Writer, deps: FromDeps, response: Response) -> TableBody:
    response.headers["Location"] = f"{router.prefix}/{entry.table_id}"
    return TableBody(table=entry, location=deps.location(workspace.scope, entry.root))
