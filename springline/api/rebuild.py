"""Routes of rebuilds: start, watch, cancel, and read the report (docs/protocol.md#rebuild)."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Body, Query, Response
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from springline import bounds
from springline.api.context import FromDeps, Operator, Reader, errors
from springline.api.urls import CheckedRouter
from springline.errors import Code, Refused, refused
from springline.paths import (
    REBUILD_MANIFEST_PATTERN,
    REBUILD_REPORT_PATTERN,
    ObjectPath,
    orchestration_rebuild,
    parse_rebuild_report,
)
from springline.rebuild.messages import RebuildMode, RebuildRequest, RebuildView, checked_manifest_path

PREFIX = "/api/v1/rebuild"
RUNBOOK_PATH = "/rebuild"
"""The path that the reference's runbooks name; it needs a token like any other."""

WAIT_S = 25.0
MOST_WAIT_S = 300.0

router = CheckedRouter(tags=["rebuild"])

_MANIFEST = orchestration_rebuild("2026-02-21")
_Ignored = Annotated[
    Any,
    AfterValidator(bounds.check_free),
    Field(
        description="Of the reference's contract: accepted, and not used.",
        json_schema_extra=bounds.judged("At most 1,024 characters as JSON.", maxLength=bounds.MAX_FREE_JSON),
    ),
]


class RebuildBody(BaseModel):
    """What to rebuild from, and how."""

    model_config = ConfigDict(extra="forbid", title="RebuildBody")

    rebuild_manifest_path: str = Field(
        max_length=bounds.MAX_OBJECT_PATH,
        description="An object of the workspace that lists `event_paths`, `segment_paths` or `parts`.",
        json_schema_extra=bounds.judged("A path without odd segments.", pattern=REBUILD_MANIFEST_PATTERN),
    )
    mode: RebuildMode = Field(
        default=RebuildMode.CATCH_UP,
        description="catch-up: from the visible watermark. full: from nothing, switched in at the end. "
        "verify: as full, publishes nothing and reports differences.",
    )
    allow_missing: bool = Field(
        default=False, description="Publish although events are missing, damaged or not listed."
    )
    fencing_token: _Ignored = None
    lock_path: _Ignored = None
    epoch: _Ignored = None
    request_id: _Ignored = None


class RebuildResultBody(BaseModel):
    """What a rebuild came to."""

    model_config = ConfigDict(title="RebuildResultBody")

    events_processed: int = Field(description="Distinct events that were folded.")
    manifest_id: str | None
    manifest_revision: str | None
    visibility_status: str = Field(description="`visible`; `not_published` for a verification.")
    mode: RebuildMode
    events_skipped: int = Field(description="Listed events at or below the watermark that catch-up starts from.")
    duplicates: int
    gap_count: int = Field(description="Accepted events that the manifest does not list.")
    missing: int
    damaged: int
    later_events: int = Field(description="Events accepted meanwhile, folded on top.")
    last_event_id: str | None
    digest_before: str | None
    digest_after: str | None
    equal: bool | None = Field(description="What a verification found.")
    differences: int
    report_path: str | None
    reused_parts: int = Field(description="Parts that an earlier attempt had finished.")
    seconds: float
    timings: dict[str, float] = Field(description="Seconds of each phase.")


RebuildAsked = Annotated[
    RebuildBody,
    Body(
        openapi_examples={
            "runbook": {"summary": "Catch up", "value": {"rebuild_manifest_path": _MANIFEST}},
            "full": {"summary": "From nothing", "value": {"rebuild_manifest_path": _MANIFEST, "mode": "full"}},
        }
    ),
]
WaitQuery = Annotated[
    float, Query(ge=0, le=MOST_WAIT_S, description="How long to wait for the end, in seconds; 202 after that.")
]
RunQuery = Annotated[str | None, Query(max_length=bounds.MAX_REQUEST_ID, description="One run; default: the newest.")]

_STARTED: dict[str, Any] = {"model": RebuildView, "description": "It is under way: how far, and under which run."}


@router.post(
    PREFIX,
    summary="Rebuild the projections",
    response_model=RebuildResultBody,
    response_description="It has ended, and what it came to.",
    responses={202: _STARTED, **errors(400, 404, 409, 503)},
)
async def start(body: RebuildAsked, workspace: Operator, deps: FromDeps, wait: WaitQuery = WAIT_S) -> Response:
    """Rebuild the projections of the workspace from events that are named one by one. One at a time.

    Readers see the old state until the new one is there. A rebuild that cannot be done as asked publishes nothing and
    says what is missing or damaged.
    """
    checked_manifest_path(body.rebuild_manifest_path)
    request = RebuildRequest(
        rebuild_manifest_path=body.rebuild_manifest_path, mode=body.mode, allow_missing=body.allow_missing
    )
    run_id = await deps.rebuilds.start(workspace.scope, request)
    result = await deps.rebuilds.result(workspace.scope, run_id, wait) if wait > 0 else None
    if result is not None:
        return _json(200, RebuildResultBody.model_validate(result))
    return _json(202, await _view(deps, workspace, run_id))


router.add_api_route(
    RUNBOOK_PATH,
    start,
    methods=["POST"],
    summary="Rebuild the projections (path of the reference's runbooks)",
    response_model=RebuildResultBody,
    responses={202: _STARTED, **errors(400, 404, 409, 503)},
    operation_id="rebuild_of_runbooks",
)


@router.get(PREFIX, summary="How far a rebuild is", responses=errors(404, 503))
async def progress(workspace: Reader, deps: FromDeps, run_id: RunQuery = None) -> RebuildView:
    """Tell how far the workspace's newest rebuild is, or how it ended."""
    return await _view(deps, workspace, run_id)


@router.delete(
    PREFIX,
    status_code=202,
    summary="Cancel the rebuild",
    response_description="It is asked to end; what it was doing when it was.",
    responses=errors(404, 503),
)
async def cancel(workspace: Operator, deps: FromDeps) -> RebuildView:
    """Cancel the rebuild that runs. Nothing is published, and what is finished is used by the next one."""
    view = await deps.rebuilds.cancel(workspace.scope)
    if view is None:
        raise refused(
            Code.NOT_FOUND,
            "no rebuild of the workspace is running",
            field="rebuild",
            remedy="Nothing needs to be cancelled. "
            f"`springline rebuild explain`, or GET {PREFIX}, tells how the last one ended.",
        )
    return view


@router.get(f"{PREFIX}/report", summary="The report of a rebuild", responses=errors(404, 409, 503))
async def report(
    workspace: Reader,
    deps: FromDeps,
    path: Annotated[
        Annotated[
            str,
            Field(
                max_length=bounds.MAX_OBJECT_PATH,
                json_schema_extra=bounds.judged("A path that a result has named.", pattern=REBUILD_REPORT_PATTERN),
            ),
        ]
        | None,
        Query(
            description="`report_path` of a result; default: the newest rebuild's.",
        ),
    ] = None,
) -> Response:
    """Return the report object that a rebuild wrote at its end."""
    wanted = path if path is not None else await _newest_report(deps, workspace)
    if parse_rebuild_report(wanted) is None:
        raise refused(
            Code.INVALID_REQUEST,
            f"{wanted[:200]!r} is not the path of a rebuild's report",
            field="path",
            value=wanted[:200],
            remedy="Give the report_path of a rebuild's result.",
        )
    stored = await workspace.store.get(ObjectPath(wanted))
    if stored is None:
        raise refused(
            Code.NOT_FOUND,
            f"there is no report at {wanted}",
            field="path",
            value=wanted,
            remedy="Give the report_path of a rebuild's result; reports are kept for a week at least.",
        )
    return Response(stored.data, media_type="application/json")


async def _newest_report(deps: FromDeps, workspace: Reader) -> str:
    view = await _view(deps, workspace, None)
    found = view.result.get("report_path") if view.result is not None else None
    if not isinstance(found, str):
        raise refused(
            Code.NOT_FOUND,
            f"the newest rebuild is {view.status.value} and has no report",
            field="path",
            value=view.run_id,
            remedy=f"GET {PREFIX} tells how far it is or why it stopped; give `path` for the report of another one.",
        )
    return found


async def _view(deps: FromDeps, workspace: Reader, run_id: str | None) -> RebuildView:
    view = await deps.rebuilds.view(workspace.scope, run_id)
    if view is None:
        raise _unknown(run_id)
    return view


def _unknown(run_id: str | None) -> Refused:
    which = "no rebuild of the workspace" if run_id is None else f"no rebuild {run_id[:100]!r} of the workspace"
    return refused(
        Code.NOT_FOUND,
        f"Temporal knows {which}",
        field="rebuild" if run_id is None else "run_id",
        value=None if run_id is None else run_id[:100],
        remedy=f"Start one with POST {PREFIX}; runs are forgotten when the namespace's retention is over.",
    )


def _json(status: int, body: BaseModel) -> Response:
    return Response(body.model_dump_json(), status_code=status, media_type="application/json")
