"""Routes of definitions: deploy a code location, read manifests and assets (docs/formats.md#deployed-manifest)."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from typing import Annotated, Any, cast

from fastapi import APIRouter, Body, Depends, Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field, StrictBool

from springline import bounds
from springline.api.context import FromDeps, Operator, Reader, errors
from springline.api.lists import PageQuery
from springline.definitions.composing import CurrentManifest
from springline.definitions.graph import downstream_of
from springline.definitions.ids import meant
from springline.definitions.manifest import CodeLocation, DefinedMapping, DefinitionId, DeployedAsset, DeployedManifest
from springline.definitions.mappings import PartitionMapping, effective_mapping
from springline.deployed.deploying import deploy
from springline.deployed.reading import ManifestReader, read_manifest
from springline.deployed.register import register
from springline.errors import Code, Refused, refused
from springline.paths import InvalidPath, deployed_manifest
from springline.published.lists import cursor_for, key_of_cursor

PREFIX = "/api/v1/manifests"
_ULID_PATTERN = "^[0-7][0-9A-HJKMNP-TV-Z]{25}$"

router = APIRouter(prefix="/api/v1", tags=["definitions"])


class DeployAsked(CodeLocation):
    """The definitions of a code location, and whether they are to be compared only."""

    model_config = ConfigDict(title="DeployBody")

    dry_run: StrictBool = Field(default=False, description="Judge and compare; write nothing.")


class AssetChangeBody(BaseModel):
    """An asset that differs."""

    key: str
    fields: dict[str, dict[str, Any]] = Field(description="For each that differs `from` and `to`; null: not set.")


class ChangesBody(BaseModel):
    """The changes that a deploy makes, by key."""

    added: list[str]
    changed: list[AssetChangeBody]
    removed: list[str]


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


class AssetBody(BaseModel):
    """An asset as it is deployed."""

    asset: DeployedAsset
    mappings: dict[str, DefinedMapping] = Field(
        description="By dependency: which of its partitions a partition needs, also where the definition says nothing."
    )
    dependents: list[str] = Field(description="The assets that depend on it.")
    manifest_id: str


class ListedAsset(BaseModel):
    """An asset in a list."""

    asset: DeployedAsset
    dependents: list[str] = Field(description="The assets that depend on it.")


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
async def deploy_location(body: DeployBody, workspace: Operator, deps: FromDeps, response: Response) -> DeployedBody:
    """Put the definitions of one code location in the place of those before; those of others stay. Safe to repeat.

    Everything is judged again: unknown dependencies, circles, partitions that do not fit, keys of other code locations.
    """
    outcome = await deploy(
        workspace.store,
        body,
        deps.new_name,
        dry_run=body.dry_run,
        register=partial(register, deps.store, workspace.scope),
    )
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
    by_key = {} if found is None else {one.key: one for one in found.manifest.assets}
    asset = by_key.get(key)
    if found is None or asset is None:
        raise _unknown(key, by_key)
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


def nothing_deployed() -> Refused:
    """Return the refusal of a request that needs definitions in a workspace that has none."""
    return refused(
        Code.NOT_FOUND,
        "nothing is deployed in this workspace",
        field="manifest",
        remedy="Deploy a pipeline file first: `springline deploy FILE`.",
    )


def _dependents(found: CurrentManifest) -> dict[str, list[str]]:
    return downstream_of({one.key: [edge.asset for edge in one.dependencies] for one in found.manifest.assets})


def _unknown(key: str, by_key: dict[str, DeployedAsset]) -> Refused:
    near = meant(key, by_key)
    return refused(
        Code.NOT_FOUND,
        f"no asset {bounds.on_one_line(key)!r} is deployed in this workspace",
        field="key",
        value=key,
        remedy=f"{near}GET /api/v1/assets lists them.",
    )
