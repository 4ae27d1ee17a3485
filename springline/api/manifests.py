"""Routes of definitions: deploy a code location, read manifests and assets (docs/formats.md#deployed-manifest)."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from typing import Annotated, Any, cast

from fastapi import Body, Depends, Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field, StrictBool

from springline import bounds
from springline.api.context import FromDeps, Operator, Reader, errors
from springline.api.lists import PageQuery
from springline.api.urls import CheckedRouter
from springline.definitions.composing import CurrentManifest
from springline.definitions.graph import downstream_of, upstream_of
from springline.definitions.ids import meant
from springline.definitions.manifest import CodeLocation, DeployedAsset, DeployedManifest, DeployedNode
from springline.definitions.mappings import PartitionMapping, effective_mapping
from springline.definitions.nodes import DefinedMapping, DefinitionId
from springline.deployed.deploying import deploy
from springline.deployed.reading import ManifestReader, read_manifest
from springline.deployed.register import register
from springline.errors import Code, Refused, refused
from springline.paths import InvalidPath, deployed_manifest
from springline.published.lists import cursor_for, key_of_cursor
from springline.runs.requesting import nothing_deployed
from springline.schedules.changing import Schedules

PREFIX = "/api/v1/manifests"
_ULID_PATTERN = "^[0-7][0-9A-HJKMNP-TV-Z]{25}$"

router = CheckedRouter(prefix="/api/v1", tags=["definitions"])


class DeployAsked(CodeLocation):
    """The definitions of a code location, and whether they are to be compared only."""

    model_config = ConfigDict(title="DeployBody")

    dry_run: StrictBool = Field(default=False, description="Judge and compare; write nothing.")


class AssetChangeBody(BaseModel):
    """An asset that differs."""

    key: str
    fields: dict[str, dict[str, Any]] = Field(description="For each that differs `from` and `to`; null: not set.")


class PoolChangeBody(BaseModel):
    """A pool of which the code location declares other slots than before; null: it declared, or declares, none."""

    name: str
    before: int | None
    after: int | None


class ChangesBody(BaseModel):
    """The changes that a deploy makes, by key."""

    added: list[str]
    changed: list[AssetChangeBody]
    removed: list[str]
    pools: list[PoolChangeBody]


class DeployedBody(BaseModel):
    """What a deploy came to."""

    location: str
    manifest_id: str | None = Field(description="The latest manifest; null if nothing is deployed.")
    fingerprint: str = Field(
        description="Of the workspace's definitions, equal for equal ones; of a dry run, as it would be."
    )
    assets: int = Field(description="Assets of the whole workspace, then.")
    deployed: bool = Field(description="Whether a manifest was written: not by a dry run, nor if nothing changed.")
    dry_run: bool
    changes: ChangesBody
    tasks: ChangesBody = Field(description="The changes of tasks between assets, by key.")
    schedules: ChangesBody = Field(description="The changes of schedules, by id.")
    sensors: ChangesBody = Field(description="The changes of sensors, by id.")


class AssetBody(BaseModel):
    """An asset as it is deployed."""

    asset: DeployedAsset
    mappings: dict[str, DefinedMapping] = Field(
        description="By dependency: which of its partitions a partition needs, also where the definition says nothing."
    )
    dependents: list[str] = Field(description="The assets and tasks that depend on it.")
    manifest_id: str


class ListedAsset(BaseModel):
    """An asset in a list."""

    asset: DeployedAsset
    dependents: list[str] = Field(description="The assets and tasks that depend on it.")


class AssetsBody(BaseModel):
    """One page of assets, by key."""

    items: list[ListedAsset]
    next_cursor: str | None = Field(description="Send it as `cursor` for the next page; null on the last one.")
    manifest_id: str | None = Field(description="The manifest that they were read from; null if nothing is deployed.")


class AssetsQuery(PageQuery):
    """What the list of assets takes."""

    location: Annotated[DefinitionId | None, Field(description="Only those of this code location.")] = None


DeployBody = Annotated[
    DeployAsked,
    Body(
        openapi_examples={
            "two assets": {
                "summary": "A daily asset, and one that depends on it",
                "value": {
                    "location": "flights",
                    "assets": [
                        {
                            "key": "raw_flights",
                            "partitions": {"kind": "daily", "start": "2024-01-01"},
                            "retries": 3,
                            "timeout_ms": 600_000,
                        },
                        {"key": "delays", "dependencies": [{"asset": "raw_flights", "argument": "raw_flights"}]},
                    ],
                },
            }
        }
    ),
]
KeyParam = Annotated[
    str,
    Path(
        max_length=bounds.MAX_ID,
        description="The asset's key.",
        examples=["raw_flights"],
    ),
]
ManifestParam = Annotated[
    str,
    Path(
        max_length=bounds.MAX_ID,
        description="The manifest's id.",
        json_schema_extra=bounds.judged("A ULID.", pattern=_ULID_PATTERN),
    ),
]


def reader_of(request: Request) -> ManifestReader:
    """Return the process's reader of manifests."""
    return cast(ManifestReader, request.app.state.manifests)


FromManifests = Annotated[ManifestReader, Depends(reader_of)]


@router.post(
    "/manifests",
    status_code=201,
    summary="Deploy a code location",
    response_description="A new manifest is the latest one.",
    responses={
        200: {"model": DeployedBody, "description": "Nothing was written: nothing changed, or it was a dry run."},
        **errors(400, 409, 413, 503),
    },
)
async def deploy_location(
    body: DeployBody,
    workspace: Operator,
    deps: FromDeps,
    manifests: FromManifests,
    request: Request,
    response: Response,
) -> DeployedBody:
    """Put the definitions of one code location in the place of those before; those of others stay. Safe to repeat.

    Everything is judged again: unknown dependencies, circles, partitions that do not fit, keys of other code locations.
    Schedules are recorded behind: changed ones as events, and what left the file is off. Whether one is on stays what
    operators made it.
    """
    for number, asset in enumerate(body.assets):
        if asset.url is None:
            continue
        problem = deps.http_workers.problem(asset.url)
        if deps.task_tokens is None:
            problem = (
                "nothing could be posted to: there is no secret for tokens of attempts",
                "Have an operator set SPRINGLINE_TASK_SECRET of API and workers.",
            )
        if problem is not None:
            raise refused(
                Code.INVALID_REQUEST,
                f"asset {asset.key} has the url {asset.url}, which {problem[0]}",
                field=f"assets[{number}].url",
                value=asset.url,
                remedy=problem[1],
            )
    schedules = Schedules(
        request.app.state.published, deps.ledger, workspace.scope, lambda: time.time_ns() // 1_000_000
    )
    if not body.dry_run:
        before = await manifests.latest(workspace.store, workspace.scope)
        if before is not None:
            await schedules.check_held(body.location, body.schedules, before.manifest)
    outcome = await deploy(
        workspace.store,
        body,
        deps.new_name,
        dry_run=body.dry_run,
        register=partial(register, deps.store, workspace.scope),
    )
    if not body.dry_run:
        current = await manifests.latest(workspace.store, workspace.scope)
        if current is not None:
            await schedules.deployed(body.location, current.manifest)
            woken = [*(one.sensor_id for one in body.sensors), *outcome.sensors.removed]
            if woken:
                await deps.sensors.wake(workspace.scope, woken)
    if not outcome.deployed:
        response.status_code = 200
    if outcome.manifest_id is not None:
        response.headers["Location"] = f"{PREFIX}/{outcome.manifest_id}"
    return DeployedBody(
        location=body.location,
        manifest_id=outcome.manifest_id,
        fingerprint=outcome.fingerprint,
        assets=outcome.assets,
        deployed=outcome.deployed,
        dry_run=body.dry_run,
        changes=ChangesBody.model_validate(asdict(outcome.changes)),
        tasks=ChangesBody.model_validate(asdict(outcome.tasks)),
        schedules=ChangesBody.model_validate(asdict(outcome.schedules)),
        sensors=ChangesBody.model_validate(asdict(outcome.sensors)),
    )


@router.get("/manifests/latest", summary="The latest manifest", responses=errors(404, 409, 503))
async def latest(workspace: Reader, manifests: FromManifests) -> DeployedManifest:
    """Return all definitions of the workspace, as they were deployed last."""
    found = await manifests.latest(workspace.store, workspace.scope)
    if found is None:
        raise nothing_deployed()
    return found.manifest


@router.get("/manifests/{manifest_id}", summary="A manifest", responses=errors(400, 404, 409, 503))
async def one_manifest(manifest_id: ManifestParam, workspace: Reader) -> DeployedManifest:
    """Return all definitions of the workspace, as they were at one deploy. Manifests never change."""
    try:
        deployed_manifest(manifest_id)
    except InvalidPath as error:
        raise refused(
            Code.INVALID_REQUEST,
            f"{bounds.on_one_line(manifest_id)} is no manifest's id",
            field="manifest_id",
            value=manifest_id,
            remedy=f"{error.remedy[0].upper()}{error.remedy[1:]}.",
        ) from None
    found = await read_manifest(workspace.store, manifest_id)
    if found is None:
        raise refused(
            Code.NOT_FOUND,
            f"there is no manifest {manifest_id} in this workspace",
            field="manifest_id",
            value=manifest_id,
            remedy=f"GET {PREFIX}/latest has the id of the latest one, and of the one before.",
        )
    return found.manifest


@router.get("/assets", summary="Assets of the workspace", responses=errors(400, 409, 503))
async def list_assets(
    query: Annotated[AssetsQuery, Query()], request: Request, workspace: Reader, manifests: FromManifests
) -> AssetsBody:
    """List the assets of the latest manifest, by key."""
    found = await manifests.latest(workspace.store, workspace.scope)
    route, filters = request.url.path, query.filters()
    after = None if query.cursor is None else str(key_of_cursor(query.cursor, route, filters, columns=1))
    if found is None:
        return AssetsBody(items=[], next_cursor=None, manifest_id=None)
    dependents = _dependents(found)
    rows = [
        one
        for one in found.manifest.assets
        if (query.location is None or one.location == query.location) and (after is None or one.key > after)
    ]
    page = rows[: query.limit]
    cursor = cursor_for(route, filters, page[-1].key) if len(rows) > len(page) else None
    return AssetsBody(
        items=[ListedAsset(asset=one, dependents=dependents[one.key]) for one in page],
        next_cursor=cursor,
        manifest_id=found.manifest.manifest_id,
    )


@router.get("/assets/{key}", summary="An asset", responses=errors(404, 409, 503))
async def one_asset(key: KeyParam, workspace: Reader, manifests: FromManifests) -> AssetBody:
    """Return an asset of the latest manifest, with what depends on it."""
    found = await manifests.latest(workspace.store, workspace.scope)
    by_key: Mapping[str, DeployedNode] = {} if found is None else found.manifest.nodes
    asset = by_key.get(key)
    if found is None or not isinstance(asset, DeployedAsset):
        raise unknown_asset(key, by_key)
    mappings = {}
    for one in asset.dependencies:
        upstream = by_key.get(one.asset)
        mapping = effective_mapping(one.mapping, upstream.partitions, asset.partitions) if upstream else None
        if isinstance(mapping, PartitionMapping):
            mappings[one.asset] = DefinedMapping(mapping.kind, mapping.start_offset, mapping.end_offset)
    return AssetBody(
        asset=asset,
        mappings=mappings,
        dependents=_dependents(found)[key],
        manifest_id=found.manifest.manifest_id,
    )


def _dependents(found: CurrentManifest) -> dict[str, list[str]]:
    return downstream_of(upstream_of(found.manifest.nodes))


def unknown_asset(key: str, by_key: Mapping[str, DeployedNode]) -> Refused:
    """Return the refusal of an asset that is not among those that are deployed."""
    if key in by_key:
        return refused(
            Code.NOT_FOUND,
            f"{bounds.on_one_line(key)!r} is a task and makes no asset",
            field="key",
            value=key,
            remedy=f"GET {PREFIX}/latest has its definition under tasks; `springline asset list` shows the assets.",
        )
    near = meant(key, [one.key for one in by_key.values() if one.asset_key is not None])
    return refused(
        Code.NOT_FOUND,
        f"no asset {bounds.on_one_line(key)!r} is deployed in this workspace",
        field="key",
        value=key,
        remedy=f"{near}`springline asset list` shows them, as GET /api/v1/assets does.",
    )
