"""Routes of backfills: create, dry run, chunks, pause, resume, cancel, retry what failed."""

from __future__ import annotations

import asyncio
import time
from typing import Annotated, Any, Final, Literal

from fastapi import Body, Depends, Query, Response
from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictStr

from springline import bounds
from springline.api.automation import BackfillParam, chunks_by_ends
from springline.api.commits import REPLAYED_HEADER
from springline.api.context import FromDeps, FromPrincipal, FromPublished, Writer, errors
from springline.api.lists import ANY_OF, REVISION_HEADER, FromAsked, ListBody, PageQuery, unknown
from springline.api.manifests import FromManifests
from springline.api.urls import CheckedRouter
from springline.backfills.changing import Backfills, ChangedBackfill, NothingStale
from springline.backfills.requests import MAX_REQUEST_ID, BackfillAsked, StaleJudged, StaleReason, Wanted
from springline.control.backfills.messages import NOTHING_STALE
from springline.definitions.backfills import MAX_PARTITIONS
from springline.ledger.identifiers import backfill_id_of
from springline.projection.schema import X_CHUNKS
from springline.published.lists import equals

router = CheckedRouter(prefix="/api/v1", tags=["automation"])

ChunkOutcome = Literal["succeeded", "failed", "cancelled"]
PREFIX: Final = "/api/v1/backfills"


def _written(workspace: Writer, deps: FromDeps, manifests: FromManifests, published: FromPublished) -> Backfills:
    return Backfills(deps.store, published, manifests, deps.ledger, workspace.scope, _now_ms)


FromBackfills = Annotated[Backfills, Depends(_written)]

_RequestId = Annotated[
    StrictStr,
    Field(max_length=MAX_REQUEST_ID, json_schema_extra=bounds.judged("One line of characters that can be printed.")),
]


class BackfillStartBody(BackfillAsked):
    """A backfill that is asked for."""

    model_config = ConfigDict(title="BackfillStartBody", frozen=True, extra="forbid")

    request_id: _RequestId | None = Field(
        default=None,
        description="The same request under the same id is the same backfill, for ever. "
        "Without an id, every request is a new backfill.",
    )
    dry_run: StrictBool = Field(default=False, description="Only say what the backfill would be.")


class RetryBody(BaseModel):
    """A request to make again what failed."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    request_id: _RequestId | None = Field(default=None, description="As in `POST /backfills`.")


class StaleAssetToMake(BaseModel):
    """How many of the partitions that were looked at are stale of an asset, and why."""

    asset: str
    stale: int
    states: dict[str, int] = Field(description="How many are stale for which reason, the first that holds.")


class StaleToMake(BaseModel):
    """What was stale of the selection when the request was accepted."""

    revision: str = Field(description="The published revision that it was judged by, as the header has it.")
    as_of: str = Field(description="The instant that it was judged at.")
    partitions: int = Field(
        description="How many partitions were stale, counted for each asset. The backfill makes each of its partitions "
        "of each of its assets: what it makes beyond these is current, and made with them."
    )
    reasons: list[StaleReason] = Field(description="Those that counted; empty: all.")
    assets: list[StaleAssetToMake] = Field(
        default_factory=list, description="Of a dry run: the assets that are stale, what is upstream first."
    )


class BackfillAskedBody(BaseModel):
    """A backfill that was asked for or changed, as it is then."""

    backfill_id: str | None = Field(description="Null for a dry run without a request id, and if nothing is stale.")
    state: str = Field(
        description="Of the backfill; PLANNED for a dry run; NOTHING_STALE if what is stale was asked for and nothing "
        "is: then there is no backfill."
    )
    total_partitions: Annotated[int, Field(ge=0, le=MAX_PARTITIONS)]
    chunks: int = Field(description="How many runs it takes.")
    assets: list[str] = Field(description="The assets that it makes.")
    stale: StaleToMake | None = Field(default=None, description="Of a backfill of what was stale; of others null.")
    first: list[str] = Field(default_factory=list, description="Of a dry run: the partitions that come first.")


class ChunksQuery(PageQuery):
    """Filters of a backfill's chunks."""

    outcome: Annotated[list[ChunkOutcome], ANY_OF] = []


_Start = Annotated[
    BackfillStartBody,
    Body(
        openapi_examples={
            "range": {
                "summary": "A year of an asset, ten days in a run, four runs at once",
                "value": {
                    "select": ["raw_flights"],
                    "start": "2023-01-01",
                    "end": "2023-12-31",
                    "max_concurrent_runs": 4,
                },
            },
            "filter": {
                "summary": "The first day of each month, the newest first",
                "value": {
                    "select": ["raw_flights"],
                    "start": "2023-01-01",
                    "match": "*-01",
                    "order": "newest_first",
                },
            },
            "stale": {"summary": "What is stale", "value": {"select": ["*delays"], "stale": True}},
            "all": {"summary": "Every complete partition", "value": {"select": ["*delays"], "all": True}},
        }
    ),
]
_KNOWN: dict[str, Any] = {
    "model": BackfillAskedBody,
    "description": "The same request was made before under this id, it was a dry run, or nothing is stale: nothing was "
    "written.",
}


@router.post(
    "/backfills",
    status_code=201,
    summary="Start a backfill",
    response_model=BackfillAskedBody,
    response_description="The backfill runs.",
    responses={200: _KNOWN, **errors(404, 409, 413, 503)},
)
async def start(
    body: _Start,
    backfills: FromBackfills,
    deps: FromDeps,
    principal: FromPrincipal,
) -> Response:
    """Make partitions of assets, some in each run and some runs at a time, until all are done.

    The definitions are those that are deployed now. With a `request_id` the request may be repeated, after a lost
    answer or 503 too. With `stale` the partitions are those that are stale now: the backfill keeps them, and the
    answer tells by which revision they were found.
    """
    asked = BackfillAsked.model_validate(body.model_dump(by_alias=True, exclude={"request_id", "dry_run"}))
    if body.dry_run:
        return _json(200, _would_be(await backfills.planned(asked), body.request_id), {})
    name = deps.new_name() if body.request_id is None else body.request_id
    found = await backfills.create(asked, name, principal.subject)
    if isinstance(found, NothingStale):
        body_of_none = BackfillAskedBody(
            backfill_id=None,
            state=NOTHING_STALE,
            total_partitions=0,
            chunks=0,
            assets=[],
            stale=_stale_of(found.stale),
        )
        return _json(200, body_of_none, {REPLAYED_HEADER: "false"})
    return _told(found, is_new=True)


@router.get(
    "/backfills/{backfill_id}/chunks",
    summary="List the chunks of a backfill",
    response_model=ListBody,
    responses=errors(404, 409, 503),
)
async def chunks(backfill_id: BackfillParam, query: Annotated[ChunksQuery, Query()], asked: FromAsked) -> Response:
    """List one backfill's chunks by id: their partitions, their runs, and how they ended."""
    snapshot = await asked.snapshot("backfills", "x_chunks", "backfill_chunks", "runs")
    if await asyncio.to_thread(snapshot["backfills"].get, backfill_id) is None:
        raise unknown("backfill", backfill_id, snapshot.revision)
    wheres = [equals(X_CHUNKS, "backfill_id", [backfill_id])]
    if query.outcome:
        wheres.append(equals(X_CHUNKS, "outcome", [one.upper() for one in query.outcome]))
    return await asked.page("x_chunks", query, wheres, snapshot=snapshot, dress=chunks_by_ends)


@router.post(
    "/backfills/{backfill_id}/pause",
    summary="Pause a backfill",
    response_model=BackfillAskedBody,
    responses=errors(404, 409, 503),
)
async def pause(
    backfill_id: BackfillParam,
    backfills: FromBackfills,
    principal: FromPrincipal,
) -> Response:
    """Let a backfill ask for no more runs; those that are asked for go on. Safe to repeat."""
    return _told(await backfills.pause(backfill_id, principal.subject))


@router.post(
    "/backfills/{backfill_id}/resume",
    summary="Resume a backfill",
    response_model=BackfillAskedBody,
    responses=errors(404, 409, 503),
)
async def resume(
    backfill_id: BackfillParam,
    backfills: FromBackfills,
    principal: FromPrincipal,
) -> Response:
    """Let a paused backfill go on from where it stands. Safe to repeat."""
    return _told(await backfills.resume(backfill_id, principal.subject))


@router.post(
    "/backfills/{backfill_id}/cancel",
    summary="Cancel a backfill",
    response_model=BackfillAskedBody,
    responses=errors(404, 409, 503),
)
async def cancel(
    backfill_id: BackfillParam,
    backfills: FromBackfills,
    principal: FromPrincipal,
) -> Response:
    """End a backfill: it asks for no more runs, and those that it asked for are cancelled. Safe to repeat."""
    return _told(await backfills.cancel(backfill_id, principal.subject))


@router.post(
    "/backfills/{backfill_id}/retry-failed",
    status_code=201,
    summary="Make again what failed in a backfill",
    response_model=BackfillAskedBody,
    response_description="A new backfill, of exactly the partitions that are not done.",
    responses={200: _KNOWN, **errors(404, 409, 503)},
)
async def retry_failed(
    backfill_id: BackfillParam,
    backfills: FromBackfills,
    deps: FromDeps,
    principal: FromPrincipal,
    body: RetryBody | None = None,
) -> Response:
    """Start a backfill of the partitions that failed, or were skipped, in one that has failed or was cancelled.

    The definitions are those that are deployed now, chunk size, limit, order and priority those of the other one.
    """
    name = body.request_id if body is not None and body.request_id is not None else deps.new_name()
    found = await backfills.retry_failed(backfill_id, name, principal.subject)
    return _told(found, is_new=True)


def _would_be(wanted: Wanted, request_id: str | None) -> BackfillAskedBody:
    is_one = wanted.total > 0
    return BackfillAskedBody(
        backfill_id=backfill_id_of(request_id) if is_one and request_id is not None else None,
        state="PLANNED" if is_one else NOTHING_STALE,
        total_partitions=wanted.total,
        chunks=wanted.chunks,
        assets=list(wanted.assets),
        stale=_stale_of(wanted.stale),
        first=wanted.examples,
    )


def _stale_of(judged: StaleJudged | None, *, with_assets: bool = True) -> StaleToMake | None:
    if judged is None:
        return None
    shown = judged.counts if with_assets else ()
    assets = [{"asset": one.asset, "stale": one.stale, "states": dict(one.states)} for one in shown]
    return StaleToMake.model_validate(
        {
            "revision": judged.revision,
            "as_of": judged.as_of,
            "partitions": judged.partitions,
            "reasons": judged.reasons,
            "assets": assets,
        }
    )


def _told(found: ChangedBackfill, *, is_new: bool = False) -> Response:
    body = BackfillAskedBody(
        backfill_id=found.backfill_id,
        state=found.state,
        total_partitions=found.total,
        chunks=found.chunks,
        assets=list(found.assets),
        # Not which they are: the same request again has the same answer, and that is not kept.
        stale=_stale_of(found.stale, with_assets=False),
    )
    headers = {
        "Location": f"{PREFIX}/{found.backfill_id}",
        REPLAYED_HEADER: "true" if found.replayed else "false",
    }
    return _json(201 if is_new and not found.replayed else 200, body, headers)


def _json(status: int, body: BackfillAskedBody, headers: dict[str, str]) -> Response:
    if body.stale is not None:
        headers = headers | {REVISION_HEADER: body.stale.revision}
    return Response(body.model_dump_json(), status_code=status, media_type="application/json", headers=headers)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
