"""Routes that tell which partitions of assets are stale, and why (docs/protocol.md#staleness)."""

from __future__ import annotations

import asyncio
import time
from itertools import islice
from typing import Annotated, Any, Final, Literal

from fastapi import Query, Response
from pydantic import BaseModel, BeforeValidator, Field

from springline import bounds
from springline.api.context import Reader, errors
from springline.api.lists import FromAsked, Json, PageQuery, RevisionBody, answer
from springline.api.manifests import FromManifests, KeyParam, unknown_asset
from springline.api.urls import CheckedRouter
from springline.definitions.graph import upstream_of
from springline.definitions.selection import BadSelection, select
from springline.errors import Code, refused
from springline.ledger.timestamps import format_ms
from springline.projection.golden import golden_row
from springline.projection.schema import PARTITION_STATUS
from springline.published.lists import cursor_for, key_of_cursor
from springline.runs.requests import MAX_TERM
from springline.staleness.judging import REASONS, PartitionState
from springline.staleness.reading import TABLES, AssetCounts, AssetStands, PartitionStand

router = CheckedRouter(prefix="/api/v1", tags=["definitions"])

MOST_JUDGED: Final = 20_000
"""Partitions that one answer judges at most: a page whose filter few partitions match ends early."""
MOST_COUNTED: Final = 10_000

_NAMES: Final = [one.value for one in (PartitionState.CURRENT, PartitionState.OPEN, *REASONS)]

PartitionStateName = Literal[
    "CURRENT",
    "OPEN",
    "NEVER_MATERIALIZED",
    "CODE_CHANGED",
    "UPSTREAM_NEVER_MATERIALIZED",
    "UPSTREAM_CHANGED",
    "FRESHNESS_POLICY",
]


class PartitionsOfAssetQuery(PageQuery):
    """Filters of one asset's partitions."""

    latest: Annotated[bool, Field(description="The last partition first.")] = False
    stale: Annotated[bool | None, Field(description="Only partitions that are stale, or that are not.")] = None


class StalenessQuery(PageQuery):
    """Filters of assets, and how many partitions of each are looked at."""

    select: Annotated[
        list[Annotated[str, Field(max_length=MAX_TERM)]],
        Field(
            max_length=bounds.MAX_FILTER_VALUES,
            description="Only these assets, as a run selects them: `*delays`, `raw_flights*`; may be repeated.",
            json_schema_extra=bounds.judged("Each names an asset that is deployed."),
        ),
    ] = []
    last: Annotated[
        int,
        Field(ge=1, le=MOST_COUNTED, description="So many of the latest partitions of each asset are counted."),
        BeforeValidator(bounds.whole),
    ] = 1_000


class LastAttempt(BaseModel):
    """The last attempt at a partition."""

    run_id: str | None
    at: str | None
    outcome: str | None


class StandingPartition(BaseModel):
    """A partition, and how it stands."""

    partition_key: str | None = Field(description="Null for an asset without partitions.")
    state: PartitionStateName
    stale: bool = Field(description="Whether it should be made, or made again: `state` says why.")
    stale_since: str | None = Field(description="RFC 3339; null if it is not stale, or that is not known.")
    upstream: str | None = Field(description="The asset that it is stale because of; null if it is not another one.")
    materialized_at: str | None
    run_id: str | None = Field(description="The run that made it.")
    code_version: str | None
    table: str | None = Field(description="The Delta table that it is in.")
    version: int | None = Field(description="The version that it was written as.")
    last_attempt: LastAttempt | None


class AssetPartitionsBody(BaseModel):
    """One page of the partitions of an asset whose time has begun, in their order or the last one first."""

    asset: str
    partitions: int = Field(description="How many there are; 1 for an asset without partitions.")
    items: list[StandingPartition]
    next_cursor: str | None = Field(description="Send it as `cursor` for the next page; null on the last one.")
    manifest_id: str = Field(description="The definitions that they are judged by.")
    as_of: str = Field(description="The instant that they are judged at.")
    revision: RevisionBody


class StaleAsset(BaseModel):
    """How the latest partitions of an asset stand."""

    asset: str
    partitions: int = Field(description="How many there are whose time has begun; 1 for an asset without partitions.")
    counted: int = Field(description="How many of them, the latest, the other numbers are of.")
    stale: int
    states: dict[str, int] = Field(description="How many are in each state that occurs.")
    latest_materialized_at: str | None


class StalenessBody(BaseModel):
    """One page of assets, by key."""

    items: list[StaleAsset]
    next_cursor: str | None = Field(description="Send it as `cursor` for the next page; null on the last one.")
    manifest_id: str | None = Field(description="The definitions that they are judged by; null if nothing is deployed.")
    as_of: str
    revision: RevisionBody


@router.get(
    "/assets/{key}/partitions",
    summary="How the partitions of an asset stand",
    response_model=AssetPartitionsBody,
    responses=errors(404, 409, 503),
)
async def partitions_of_asset(
    key: KeyParam,
    query: Annotated[PartitionsOfAssetQuery, Query()],
    asked: FromAsked,
    workspace: Reader,
    manifests: FromManifests,
) -> Response:
    """List an asset's partitions: which are current, which are stale, since when and because of what.

    Told from rows and definitions as they are now, and never stored. A page may hold fewer partitions than asked for
    and still have a cursor: where a filter wants few of many.
    """
    current = await manifests.latest(workspace.store, workspace.scope)
    known = {} if current is None else current.manifest.nodes
    if current is None or key not in known or known[key].asset_key is None:
        raise unknown_asset(key, known)
    snapshot = await asked.snapshot(*TABLES)
    now_ms = _now_ms()
    filters = query.filters()
    after = None if query.cursor is None else str(key_of_cursor(query.cursor, asked.route, filters, columns=1))
    stands = AssetStands(snapshot, current.manifest, now_ms)

    def read() -> Response:
        total = stands.count(key)
        first, behind = _span(stands, key, total, after, latest=query.latest)
        following = stands.latest_first(key, behind) if query.latest else stands.stands(key, first, behind)
        left = behind - first
        items: list[Json] = []
        last: str | None = None
        for judged, one in enumerate(islice(following, min(left, MOST_JUDGED)), 1):
            if query.stale is None or one.verdict.stale is query.stale:
                items.append(_shown(one))
            last = one.key if judged < left else None
            if len(items) == query.limit:
                break
        body = {
            "asset": key,
            "partitions": total,
            "items": items,
            "next_cursor": None if last is None else cursor_for(asked.route, filters, last),
            "manifest_id": current.manifest.manifest_id,
            "as_of": format_ms(now_ms),
        }
        return answer(snapshot.revision, body)

    return await asyncio.to_thread(read)


@router.get(
    "/staleness",
    summary="How many partitions of each asset are stale",
    response_model=StalenessBody,
    responses=errors(409, 503),
)
async def staleness(
    query: Annotated[StalenessQuery, Query()], asked: FromAsked, workspace: Reader, manifests: FromManifests
) -> Response:
    """List the assets of the latest manifest by key, with how their latest partitions stand."""
    current = await manifests.latest(workspace.store, workspace.scope)
    filters = query.filters()
    after = "" if query.cursor is None else str(key_of_cursor(query.cursor, asked.route, filters, columns=1))
    snapshot = await asked.snapshot(*TABLES)
    now_ms = _now_ms()

    def read() -> Response:
        nodes = {} if current is None else current.manifest.nodes
        selected = _chosen(upstream_of(nodes), query.select)
        chosen = sorted(key for key in selected if key > after and nodes[key].asset_key is not None)
        items: list[Json] = []
        cursor: str | None = None
        judged = 0
        if current is not None:
            stands = AssetStands(snapshot, current.manifest, now_ms)
            for number, key in enumerate(chosen, 1):
                found = stands.counts(key, query.last)
                items.append(_counted(found))
                judged += found.counted
                if (len(items) == query.limit or judged >= MOST_JUDGED) and number < len(chosen):
                    cursor = cursor_for(asked.route, filters, key)
                    break
        body = {
            "items": items,
            "next_cursor": cursor,
            "manifest_id": None if current is None else current.manifest.manifest_id,
            "as_of": format_ms(now_ms),
        }
        return answer(snapshot.revision, body)

    return await asyncio.to_thread(read)


def _chosen(upstream: dict[str, list[str]], terms: list[str]) -> set[str]:
    if not terms:
        return set(upstream)
    try:
        return select(upstream, terms)
    except BadSelection as error:
        raise refused(
            Code.INVALID_REQUEST,
            error.message.rstrip("."),
            field="select",
            value=error.term,
            remedy=error.remedy,
        ) from error


def _span(stands: AssetStands, key: str, total: int, after: str | None, *, latest: bool) -> tuple[int, int]:
    """Return from which position to before which one the partitions behind a cursor lie."""
    partitions = stands.assets[key].partitions
    if after is None or partitions is None:
        return 0, total
    if partitions.problem_of_key(after) is not None:
        raise refused(
            Code.INVALID_REQUEST,
            "the cursor names a partition that the asset has no more: its definition has changed",
            field="cursor",
            remedy="Begin the list again, without a cursor.",
        )
    position = partitions.position(after)
    return (0, min(total, position)) if latest else (min(total, position + 1), total)


def _shown(one: PartitionStand) -> Json:
    row: dict[str, Any] = {} if one.row is None else golden_row(PARTITION_STATUS, _plain(one))
    attempt = None
    if one.row is not None and one.row.last_attempt_at is not None:
        attempt = {
            "run_id": row.get("last_attempt_run_id"),
            "at": row.get("last_attempt_at"),
            "outcome": row.get("last_attempt_outcome"),
        }
    return {
        "partition_key": one.key,
        "state": one.verdict.state.value,
        "stale": one.verdict.stale,
        "stale_since": _instant(one.verdict.since_ms),
        "upstream": one.verdict.upstream,
        "materialized_at": None if one.made is None else format_ms(one.made.at_ms),
        "run_id": one.run_id,
        "code_version": None if one.made is None else one.made.code_version,
        "table": row.get("delta_table"),
        "version": row.get("delta_version"),
        "last_attempt": attempt,
    }


def _plain(one: PartitionStand) -> tuple[Any, ...]:
    return tuple(getattr(one.row, column.name) for column in PARTITION_STATUS.columns)


def _counted(found: AssetCounts) -> Json:
    return {
        "asset": found.asset,
        "partitions": found.partitions,
        "counted": found.counted,
        "stale": found.stale,
        "states": {one: found.states[one] for one in _NAMES if found.states[one]},
        "latest_materialized_at": _instant(found.latest_ms),
    }


def _instant(at_ms: int | None) -> str | None:
    return None if at_ms is None else format_ms(at_ms)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
