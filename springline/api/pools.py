"""Routes of pools: how many attempts run at once in each, who has slots, who waits, and how an operator sets it."""

from __future__ import annotations

from typing import Annotated

from fastapi import Body, Path, Request
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictInt

from springline import bounds
from springline.api.context import FromDeps, FromPrincipal, Operator, Reader, errors
from springline.api.manifests import FromManifests
from springline.api.ports import Deps
from springline.api.urls import CheckedRouter
from springline.api.workspaces import Workspace
from springline.control.runs.messages import PoolRows
from springline.definitions.ids import meant
from springline.definitions.limits import MAX_SLOTS
from springline.deployed.pools import PoolSetting, PoolSize, set_pool
from springline.deployed.reading import ManifestReader
from springline.errors import Code, Refused, refused
from springline.ledger.timestamps import format_ms
from springline.projection.schema import RUNNING
from springline.published.reader import PublishedReader
from springline.runs.pools import read_pools
from springline.ulids import ulid_time_ms

router = CheckedRouter(prefix="/api/v1", tags=["pools"])

PREFIX = "/api/v1/pools"


class DeclaredBody(BaseModel):
    """What a code location declares of a pool."""

    location: str
    slots: int


class SetBody(BaseModel):
    """What an operator has set of a pool."""

    slots: int
    set_by: str
    set_at: str


class ListedPool(BaseModel):
    """A pool in a list."""

    pool: str
    slots: int | None = Field(
        description="How many attempts run at once: what is set, else the least declared. "
        "Null: without a limit, because neither is there."
    )
    taken: int = Field(
        description="Attempts that have a slot; more than `slots` while a pool that was made smaller empties itself."
    )
    waiting: int = Field(description="Runs with tasks that wait for a slot.")
    declared: list[DeclaredBody]
    set: SetBody | None = Field(description="Null if no operator has set it.")


class PoolsBody(BaseModel):
    """All pools of the workspace, by name."""

    items: list[ListedPool]


class HolderBody(BaseModel):
    """An attempt that has a slot, or is on record and about to have it."""

    run_id: str
    task_key: str
    attempt: int
    state: str
    since: str | None
    certain: bool = Field(
        description="False: the manifest of its run is lost or damaged, which says what pool it has. It counts in "
        "every one, until it has ended."
    )


class PoolBody(ListedPool):
    """A pool, with who has its slots and who waits for them."""

    holders: list[HolderBody]
    waiting_runs: list[str]


class PoolAsked(BaseModel):
    """The size that a pool is to have."""

    model_config = ConfigDict(title="PoolSizeBody", extra="forbid")

    slots: Annotated[StrictInt, Field(ge=0, le=MAX_SLOTS), BeforeValidator(bounds.whole)] | None = Field(
        description="0: nothing of it begins. Null: as it is declared."
    )


PoolParam = Annotated[str, Path(max_length=bounds.MAX_ID, description="The pool's name.", examples=["warehouse"])]


@router.get("/pools", summary="Pools of the workspace", responses=errors(409, 503))
async def pools(workspace: Reader, deps: FromDeps, manifests: FromManifests, request: Request) -> PoolsBody:
    """List the pools that are declared, set, or named by an asset, by name."""
    found = await _read(workspace, deps, manifests, request)
    return PoolsBody(items=[_listed(size, rows) for size, rows in found.values()])


@router.get("/pools/{pool}", summary="A pool", responses=errors(404, 409, 503))
async def one_pool(
    pool: PoolParam, workspace: Reader, deps: FromDeps, manifests: FromManifests, request: Request
) -> PoolBody:
    """Show who has the slots of a pool, since when, and which runs wait."""
    found = await _read(workspace, deps, manifests, request)
    if pool not in found:
        raise _unknown(pool, found)
    return _shown(*found[pool])


@router.put("/pools/{pool}", summary="Set the size of a pool", responses=errors(404, 409, 503))
async def set_size(
    pool: PoolParam,
    body: Annotated[
        PoolAsked,
        Body(
            openapi_examples={
                "five": {"summary": "Five at once, whatever is declared", "value": {"slots": 5}},
                "declared": {"summary": "As it is declared", "value": {"slots": None}},
            }
        ),
    ],
    workspace: Operator,
    principal: FromPrincipal,
    deps: FromDeps,
    manifests: FromManifests,
    request: Request,
) -> PoolBody:
    """Let a pool have so many slots, whatever pipeline files declare; safe to repeat.

    What waits begins within seconds. What runs goes on, also if fewer may run now.
    """
    found = await _read(workspace, deps, manifests, request)
    if pool not in found:
        raise _unknown(pool, found)
    at_ms = ulid_time_ms(deps.new_name()) or 0
    wanted = None if body.slots is None else PoolSetting(slots=body.slots, set_by=principal.subject, set_at_ms=at_ms)
    await set_pool(workspace.store, pool, wanted)
    after = await _read(workspace, deps, manifests, request)
    return _shown(*after.get(pool, (PoolSize(pool), PoolRows())))


async def _read(
    workspace: Workspace, deps: Deps, manifests: ManifestReader, request: Request
) -> dict[str, tuple[PoolSize, PoolRows]]:
    published: PublishedReader = request.app.state.published
    return await read_pools(deps.store, published, manifests, workspace.scope)


def _listed(size: PoolSize, rows: PoolRows) -> ListedPool:
    setting = size.setting
    return ListedPool(
        pool=size.name,
        slots=size.slots,
        taken=len(rows.holders),
        waiting=len(rows.ready),
        declared=[DeclaredBody(location=one.location, slots=one.slots) for one in size.declared],
        set=None
        if setting is None
        else SetBody(slots=setting.slots, set_by=setting.set_by, set_at=format_ms(setting.set_at_ms)),
    )


def _shown(size: PoolSize, rows: PoolRows) -> PoolBody:
    ordered = sorted(rows.holders, key=lambda one: (one.state != RUNNING, one.since_ms or 0, one.run_id, one.task_key))
    return PoolBody(
        **_listed(size, rows).model_dump(),
        holders=[
            HolderBody(
                run_id=one.run_id,
                task_key=one.task_key,
                attempt=one.attempt,
                state=one.state,
                since=None if one.since_ms is None else format_ms(one.since_ms),
                certain=one.is_certain,
            )
            for one in ordered
        ],
        waiting_runs=rows.ready,
    )


def _unknown(pool: str, found: dict[str, tuple[PoolSize, PoolRows]]) -> Refused:
    return refused(
        Code.NOT_FOUND,
        f"no pool {bounds.on_one_line(pool)!r} is declared in this workspace, and no asset names it",
        field="pool",
        value=pool,
        remedy=f"{meant(pool, found)}GET {PREFIX} lists them; pool({pool!r}, slots=3) in a pipeline file declares it.",
    )
