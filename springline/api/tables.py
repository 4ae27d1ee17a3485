"""Routes of tables: create, adopt, list, status, history."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Body, Path, Query, Response
from pydantic import ConfigDict, Field

from springline import bounds, paths
from springline.api.context import FromDeps, Reader, Writer, errors
from springline.api.lists import PageQuery
from springline.api.models import (
    DamagedEntry,
    HistoryBody,
    ListedTable,
    TableBody,
    TablesBody,
    TableStatusBody,
)
from springline.api.ports import Deps
from springline.api.urls import CheckedRouter
from springline.api.workspaces import Workspace
from springline.commit.inspect import list_tables, table_history, table_view
from springline.commit.tables import already_adopted, already_created
from springline.delta.create import check_creation
from springline.delta.described import described
from springline.delta.table_request import (
    MAX_NAME_LENGTH,
    AdoptTable,
    CreateTable,
    TableEntry,
    check_name,
    roots_of_location,
)
from springline.errors import Code, Refused
from springline.storage.together import together

router = CheckedRouter(prefix="/api/v1/delta/tables", tags=["tables"])

TableParam = Annotated[
    str,
    Path(max_length=bounds.MAX_TABLE_REFERENCE, description="The table's id or its name.", examples=["flights"]),
]


class CreateAsked(CreateTable):
    """A table as a caller asks for it: here, and only here, an unknown field is refused."""

    model_config = ConfigDict(extra="forbid", title="CreateTable")


class AdoptAsked(AdoptTable):
    """A folder as a caller names it: here, and only here, an unknown field is refused."""

    model_config = ConfigDict(extra="forbid", title="AdoptTable")


CreateSpec = Annotated[
    CreateAsked,
    Body(
        openapi_examples={
            "plain": {
                "summary": "A table in its default place",
                "value": {
                    "name": "flights",
                    "columns": [
                        {"name": "carrier", "type": "string", "nullable": False},
                        {"name": "departed", "type": "timestamp"},
                        {"name": "month", "type": "integer"},
                    ],
                    "partition_columns": ["month"],
                },
            },
            "placed": {
                "summary": "A table in a folder of the workspace, with table properties",
                "value": {
                    "name": "orders",
                    "columns": [{"name": "id", "type": "long"}],
                    "location": "warehouse/orders",
                    "properties": {"delta.appendOnly": "true"},
                },
            },
        }
    ),
]
AdoptSpec = Annotated[
    AdoptAsked,
    Body(
        openapi_examples={
            "folder": {"summary": "A folder", "value": {"name": "legacy", "location": "warehouse/legacy"}}
        }
    ),
]

_EXISTED: dict[str, Any] = {"model": TableBody, "description": "The same request made this table before."}


@router.post(
    "",
    status_code=201,
    summary="Create a table",
    response_description="The table is registered and has version 0.",
    responses={200: _EXISTED, **errors(400, 409, 413, 503)},
)
async def create(spec: CreateSpec, workspace: Writer, deps: FromDeps, response: Response) -> TableBody:
    """Write version 0 of a new Delta table and register it under a name.

    Safe to repeat: the same request again is answered with the same table, and 200.
    """
    check_creation(spec)
    if spec.location is not None:
        spec = spec.model_copy(update={"location": _judged(spec.location, workspace)})
    return await _once(
        find=lambda: already_created(workspace.store, workspace.scope, workspace.registry, spec),
        make=lambda: deps.tables.create(workspace.scope, spec),
        answer=_Answer(workspace, deps, response),
    )


@router.post(
    "/adopt",
    status_code=201,
    summary="Adopt an existing Delta folder",
    response_description="The table is registered; its log is untouched.",
    responses={200: _EXISTED, **errors(400, 409, 413, 503)},
)
async def adopt(spec: AdoptSpec, workspace: Writer, deps: FromDeps, response: Response) -> TableBody:
    """Register a Delta table that another engine wrote into a folder of this workspace. Safe to repeat."""
    check_name(spec.name)
    spec = spec.model_copy(update={"location": _judged(spec.location, workspace)})
    return await _once(
        find=lambda: already_adopted(workspace.store, workspace.scope, workspace.registry, spec),
        make=lambda: deps.tables.adopt(workspace.scope, spec),
        answer=_Answer(workspace, deps, response),
    )


class TablesQuery(PageQuery):
    """What the list of tables takes."""

    cursor: Annotated[
        Annotated[str, Field(max_length=1024, json_schema_extra=bounds.judged("One that this list answered."))] | None,
        Field(description="`next_cursor` of the page before."),
    ] = None
    name_prefix: Annotated[str, Field(max_length=MAX_NAME_LENGTH, description="Only names that begin like this.")] = ""


class HistoryQuery(PageQuery):
    """What a table's history takes."""

    cursor: Annotated[
        str | None, Field(max_length=19, pattern="^[0-9]{1,19}$", description="`next_cursor` of the page before.")
    ] = None


@router.get("", summary="Tables of the workspace", responses=errors(400, 503))
async def list_all(query: Annotated[TablesQuery, Query()], workspace: Reader, deps: FromDeps) -> TablesBody:
    """List the tables that are registered. A page may hold fewer than `limit` and still have a `next_cursor`."""
    page = await list_tables(workspace.store, limit=query.limit, cursor=query.cursor, name_prefix=query.name_prefix)
    return TablesBody(
        items=[
            ListedTable(
                table_id=one.entry.table_id,
                name=one.entry.name if one.named else None,
                location=deps.location(workspace.scope, one.entry.root),
                created_at_ms=one.entry.created_at_ms,
            )
            for one in page.tables
        ],
        damaged=[DamagedEntry(object=one.object, problem=one.problem) for one in page.damaged],
        next_cursor=page.cursor,
    )


@router.get("/{table}/history", summary="Versions of a table", responses=errors(400, 404, 503))
async def history(table: TableParam, query: Annotated[HistoryQuery, Query()], workspace: Reader) -> HistoryBody:
    """Tell of each version, newest first: when, by which operation, under which keys, with how many rows."""
    entry = await workspace.registry.entry(table)
    before = None if query.cursor is None else int(query.cursor)
    rows = await table_history(workspace.table(entry), limit=query.limit, before=before)
    more = len(rows) == query.limit and rows[-1].version > 0
    return HistoryBody(items=rows, next_cursor=str(rows[-1].version) if more else None)


@router.get("/{table}", summary="Status of a table", responses=errors(404, 409, 503))
async def status(table: TableParam, workspace: Reader, deps: FromDeps) -> TableStatusBody:
    """Tell what is stored of a table (version, reservation in flight, schema) and what its sequencer is doing.

    What is stored is read anew; what the sequencer is doing may be a second old.
    """
    entry = await workspace.registry.entry(table)
    view, sequencer = await together(
        table_view(workspace.table(entry)), deps.sequencers.status(workspace.scope, entry.table_id)
    )
    stored = described(view.metadata, view.protocol)
    return TableStatusBody(
        table=entry,
        location=deps.location(workspace.scope, entry.root),
        latest_version=view.latest_version,
        coordinator_version=view.coordinator_version,
        inflight=view.inflight,
        last_checkpoint=view.last_checkpoint,
        columns=stored.columns,
        partition_columns=stored.partition_columns,
        properties=stored.properties,
        protocol=stored.protocol,
        metadata=view.metadata,
        problems=stored.problems,
        sequencer=sequencer,
    )


def _judged(location: str, workspace: Workspace) -> str:
    """Return a location in the form that every process reads alike; raises `Refused` for a bad one."""
    roots = roots_of_location(location, workspace.scope, workspace.store.url)
    return location if len(roots) > 1 else workspace.scope.full(paths.ObjectPath(roots[0]))


@dataclass(frozen=True, slots=True)
class _Answer:
    """The parts of an answer about one table."""

    workspace: Workspace
    deps: Deps
    response: Response

    def of(self, entry: TableEntry, status: int) -> TableBody:
        self.response.status_code = status
        self.response.headers["Location"] = f"{router.prefix}/{entry.table_id}"
        return TableBody(table=entry, location=self.deps.location(self.workspace.scope, entry.root))


async def _once(
    *,
    find: Callable[[], Awaitable[TableEntry | None]],
    make: Callable[[], Awaitable[TableEntry]],
    answer: _Answer,
) -> TableBody:
    """Make a table unless it exists; also finds one that the same request has made meanwhile."""
    found = await find()
    if found is not None:
        return answer.of(found, 200)
    try:
        return answer.of(await make(), 201)
    except Refused as error:
        if error.refusal.code not in (Code.NAME_TAKEN, Code.ROOT_TAKEN):
            raise
        found = await find()
        if found is None:
            raise
        return answer.of(found, 200)
