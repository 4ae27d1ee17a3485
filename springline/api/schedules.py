"""Routes of one schedule: define, pause, resume, trigger, preview."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice
from typing import Annotated, Any, Final
from zoneinfo import ZoneInfo

from fastapi import Body, Path, Query, Request, Response
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictBool

from springline import bounds
from springline.api.automation import ScheduleParam, next_due_at, shown_schedule
from springline.api.commits import REPLAYED_HEADER
from springline.api.context import FromDeps, Operator, Reader, Writer, errors
from springline.api.lists import FromAsked, Instant, Json, RevisionBody, answer, unknown
from springline.api.manifests import FromManifests
from springline.api.ports import Deps
from springline.api.run_requests import PREFIX as RUNS
from springline.api.run_requests import RequestedBody
from springline.api.runs import milliseconds
from springline.api.urls import CheckedRouter
from springline.api.workspaces import Workspace
from springline.backfills.requests import MAX_REQUEST_ID, checked_request_id
from springline.control.runs.planning import CannotPlan, plan_tasks
from springline.control.schedules.deciding import ScheduleView, jitter_of
from springline.definitions.ids import ID_RULE, problem_of_id
from springline.definitions.instants import BadTiming, local_text, problem_of_asked, zone_named
from springline.definitions.manifest import DeployedManifest, ScheduleDefinition
from springline.definitions.partitions import FieldProblem
from springline.definitions.schedules import NothingToMake, selection_problem, timing_problems
from springline.deployed.reading import ManifestReader
from springline.errors import Code, Refused, refused
from springline.ledger.events import RunRequested
from springline.ledger.timestamps import format_ms
from springline.projection.schema import RUN_KEY_INDEX, X_RUN_KEYS
from springline.projection.schema import RUNS as RUN_ROWS
from springline.published.reader import PublishedReader
from springline.runs.requesting import REQUESTED, what_is_deployed
from springline.schedules.changing import (
    Make,
    ScheduleChange,
    Schedules,
    no_schedule,
    put_definition,
    switched,
    without,
)
from springline.schedules.reading import TABLES, known_schedule, planner

router = CheckedRouter(prefix="/api/v1", tags=["automation"])

PREFIX: Final = "/api/v1/schedules"
MOST_PREVIEWED: Final = 1_000
MOST_PREVIEWED_NAMES: Final = 100_000
"""Names of assets and partitions in one preview: those of 1,000 large runs would not fit into the memory."""


class ScheduleBody(ScheduleDefinition):
    """The definition of a schedule."""

    model_config = ConfigDict(title="ScheduleBody", frozen=True, extra="forbid")

    enabled: StrictBool | None = Field(default=None, description="Whether it is on; null: as it is, a new one on.")


class TriggerBody(BaseModel):
    """How a schedule is triggered."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    request_id: (
        Annotated[
            str,
            Field(
                max_length=MAX_REQUEST_ID,
                json_schema_extra=bounds.judged("One line of characters that can be printed."),
            ),
        ]
        | None
    ) = Field(
        default=None,
        description="The same request under the same id is the same run, for ever. Without an id it is named by the "
        "second: two within one are one.",
    )


class ChangedBody(BaseModel):
    """What a change of a schedule came to."""

    schedule_id: str
    changed: bool = Field(description="Whether a new definition was recorded: not if it says what there was.")
    enabled: bool
    ticks: int = Field(description="Ticks of instants that the definition before still owed, recorded in front of it.")
    next_due_at: str | None = Field(description="The next instant; null if there is none, or the schedule is off.")


class ScheduleShown(BaseModel):
    """A schedule: its definition, where it stands, and when it is due next."""

    schedule: Json
    revision: RevisionBody


class PreviewedInstant(BaseModel):
    """An instant at which a schedule is due."""

    due_at: str = Field(description="RFC 3339, UTC.")
    local: str = Field(description="The same in the schedule's zone.")
    assets: list[str] = Field(description="What its run would make, by the definitions deployed now.")
    partitions: list[str] | None = Field(description="Of these partitions; null if no asset has any.")
    problem: str | None = Field(description="Why it would ask for no run; null if it would ask for one.")


class PreviewBody(BaseModel):
    """The instants at which a schedule is due."""

    schedule_id: str
    timezone: str
    delayed_by_seconds: int = Field(description="By its jitter: how much later than an instant its run is asked for.")
    items: list[PreviewedInstant] = Field(
        description=f"Fewer than are asked for if their runs name more than {MOST_PREVIEWED_NAMES:,} assets and "
        "partitions; ask for more behind the last one."
    )


class PreviewQuery(BaseModel):
    """What a preview takes."""

    count: Annotated[
        int, Field(ge=1, le=MOST_PREVIEWED, description="How many instants."), BeforeValidator(bounds.whole)
    ] = 10
    after: Annotated[Instant | None, Field(description="Only instants behind this one; by default behind now.")] = None


DefinedId = Annotated[
    str,
    Path(
        max_length=bounds.MAX_ID,
        description="The schedule's id.",
        examples=["nightly"],
        json_schema_extra=bounds.judged(ID_RULE),
    ),
]
_Body = Annotated[
    ScheduleBody,
    Body(
        openapi_examples={
            "nightly": {
                "summary": "Every night at four, by the clock of Oslo",
                "value": {"cron": "0 4 * * *", "timezone": "Europe/Oslo", "select": ["*delays"]},
            },
            "interval": {
                "summary": "Every quarter of an hour, one run at a time",
                "value": {"interval_seconds": 900, "select": ["raw_flights"], "overlap": "skip"},
            },
        }
    ),
]


_Trigger = Annotated[
    TriggerBody | None,
    Body(
        openapi_examples={
            "once": {"summary": "A request that can be repeated", "value": {"request_id": "close-of-2024-01"}},
        }
    ),
]


@router.get(
    "/schedules/{schedule_id}", summary="A schedule", response_model=ScheduleShown, responses=errors(404, 409, 503)
)
async def one_schedule(schedule_id: ScheduleParam, asked: FromAsked) -> Response:
    """Show a schedule: its definition and settings, its last tick, and when it is due next."""
    snapshot = await asked.snapshot(*TABLES)

    def read() -> Response:
        row = snapshot["schedule_definitions"].get(schedule_id)
        if row is None:
            raise unknown("schedule", schedule_id, snapshot.revision)
        return answer(snapshot.revision, {"schedule": shown_schedule(snapshot, row, _now_ms())})

    return await asyncio.to_thread(read)


@router.put(
    "/schedules/{schedule_id}",
    summary="Define a schedule",
    response_model=ChangedBody,
    response_description="The schedule was changed, or is that already.",
    responses={201: {"model": ChangedBody, "description": "The schedule is new."}, **errors(404, 409, 413, 503)},
)
async def define(
    schedule_id: DefinedId,
    body: _Body,
    workspace: Operator,
    deps: FromDeps,
    manifests: FromManifests,
    request: Request,
    response: Response,
) -> ChangedBody:
    """Define a schedule, or change one that no pipeline file declares. Safe to repeat.

    What the definition before still owes up to now is decided on first, and recorded with the new one.
    """
    wrong = problem_of_id(schedule_id)
    if wrong is not None:
        raise refused(
            Code.INVALID_REQUEST,
            f"the id {bounds.shown(schedule_id, 120)!r} {wrong[0]}",
            field="schedule_id",
            value=schedule_id,
            remedy=wrong[1],
        )
    for timing in timing_problems(body):
        raise _unfit(timing, body)
    manifest = await what_is_deployed(manifests, workspace.store, workspace.scope)
    problem = selection_problem(manifest.nodes, body.select)
    if problem is not None:
        raise _unfit(problem, body)
    make = put_definition(schedule_id, body, body.enabled, manifest.manifest_id)
    changed, created = await _changed(deps, workspace, request, ScheduleChange(schedule_id, make), manifest)
    if created:
        response.status_code = 201
    response.headers["Location"] = f"{PREFIX}/{schedule_id}"
    return changed


@router.delete(
    "/schedules/{schedule_id}",
    summary="Delete a schedule",
    response_model=ChangedBody,
    responses=errors(404, 409, 503),
)
async def delete(
    schedule_id: ScheduleParam, workspace: Operator, deps: FromDeps, manifests: FromManifests, request: Request
) -> ChangedBody:
    """Delete a schedule that no pipeline file declares; what is due until now is decided on. Safe to repeat.

    Its ticks stay on record, its runs go on, and a schedule may be defined again under its id.
    """
    return await _switch(without(schedule_id), schedule_id, workspace, deps, manifests, request)


@router.post(
    "/schedules/{schedule_id}/pause",
    summary="Pause a schedule",
    response_model=ChangedBody,
    responses=errors(404, 409, 503),
)
async def pause(
    schedule_id: ScheduleParam, workspace: Operator, deps: FromDeps, manifests: FromManifests, request: Request
) -> ChangedBody:
    """Let a schedule ask for no run any more; what is due until now is asked for. Runs go on. Safe to repeat."""
    return await _switch(switched(schedule_id, enabled=False), schedule_id, workspace, deps, manifests, request)


@router.post(
    "/schedules/{schedule_id}/resume",
    summary="Resume a schedule",
    response_model=ChangedBody,
    responses=errors(404, 409, 503),
)
async def resume(
    schedule_id: ScheduleParam, workspace: Operator, deps: FromDeps, manifests: FromManifests, request: Request
) -> ChangedBody:
    """Let a schedule ask for runs again, from now on. The instants of the pause are put on record as skipped."""
    return await _switch(switched(schedule_id, enabled=True), schedule_id, workspace, deps, manifests, request)


@router.post(
    "/schedules/{schedule_id}/trigger",
    status_code=201,
    summary="Trigger a schedule now",
    response_model=RequestedBody,
    response_description="A run is asked for.",
    responses={
        200: {"model": RequestedBody, "description": "It was asked for before under this id: nothing was written."},
        **errors(400, 404, 409, 503),
    },
)
async def trigger(
    schedule_id: ScheduleParam,
    workspace: Writer,
    deps: FromDeps,
    manifests: FromManifests,
    request: Request,
    response: Response,
    body: _Trigger = None,
) -> RequestedBody:
    """Ask for a run of a schedule now, paused or not.

    With a `request_id` the request may be repeated, after a lost answer or 503 too. Without one it is a run for each
    second in which it comes.
    """
    request_id = None if body is None or body.request_id is None else checked_request_id(body.request_id)
    manifest = await what_is_deployed(manifests, workspace.store, workspace.scope)
    triggered = await _schedules(deps, workspace, request).trigger(schedule_id, manifest, request_id)
    wanted = triggered.wanted
    await deps.runs.launch(workspace.scope, triggered.run_key)
    snapshot = await _published(request).snapshot(workspace.scope, (X_RUN_KEYS.name, RUN_KEY_INDEX.name, RUN_ROWS.name))

    def read() -> RequestedBody:
        key: Any = snapshot[X_RUN_KEYS.name].get(triggered.run_key)
        asked: Any = snapshot[RUN_KEY_INDEX.name].get(triggered.run_key)
        run_id = None if key is None else str(key[X_RUN_KEYS.index("run_id")])
        run: Any = None if run_id is None else snapshot[RUN_ROWS.name].get(run_id)
        if wanted is not None:
            manifest_id, tasks = wanted.code_version, _tasks(manifest, wanted)
        else:
            manifest_id = None if asked is None else asked[RUN_KEY_INDEX.index("code_version")]
            tasks = None if run is None else run[RUN_ROWS.index("tasks_total")]
        return RequestedBody(
            run_id=run_id,
            run_key=triggered.run_key,
            manifest_id=manifest_id,
            state=REQUESTED if run is None else str(run[RUN_ROWS.index("state")]),
            tasks=tasks,
        )

    found = await asyncio.to_thread(read)
    response.headers[REPLAYED_HEADER] = "true" if wanted is None else "false"
    if wanted is None:
        response.status_code = 200
    if found.run_id is not None:
        response.headers["Location"] = f"{RUNS}/{found.run_id}"
    return found


@router.get(
    "/schedules/{schedule_id}/preview",
    summary="The next instants of a schedule",
    response_model=PreviewBody,
    responses=errors(404, 409, 503),
)
async def preview(
    schedule_id: ScheduleParam,
    query: Annotated[PreviewQuery, Query()],
    workspace: Reader,
    manifests: FromManifests,
    request: Request,
) -> PreviewBody:
    """List the next instants of a schedule, also of one that is off, and what its runs would make."""
    snapshot = await _published(request).snapshot(workspace.scope, TABLES)
    current = await manifests.latest(workspace.store, workspace.scope)
    manifest = None if current is None else current.manifest
    after = milliseconds(query.after)
    after_s = (_now_ms() if after is None else after) // 1_000
    problem = problem_of_asked(after_s)
    if problem is not None:
        raise refused(Code.INVALID_REQUEST, f"after {problem[0]}", field="after", value=query.after, remedy=problem[1])

    def read() -> PreviewBody:
        known = known_schedule(snapshot, schedule_id)
        if known is None or known.view.deleted:
            raise no_schedule(schedule_id)
        return PreviewBody(
            schedule_id=schedule_id,
            timezone=known.view.timezone,
            delayed_by_seconds=jitter_of(known.view),
            items=list(_previewed(known.view, manifest, after_s, query.count)),
        )

    return await asyncio.to_thread(read)


def _previewed(
    view: ScheduleView, manifest: DeployedManifest | None, after: int, count: int
) -> Iterator[PreviewedInstant]:
    plan = planner(manifest)
    try:
        timing = view.timing()
        zone: ZoneInfo | None = None if view.interval_s is not None else zone_named(view.timezone)
    except BadTiming as error:
        raise refused(
            Code.DEFINITION_CONFLICT,
            f"schedule {view.schedule_id} cannot be read: {error.field} {error.message}",
            field=error.field,
            value=view.cron,
            remedy=error.remedy,
        ) from error
    named = 0
    for instant in islice(timing.after(after), count):
        if named > MOST_PREVIEWED_NAMES:
            return
        assets: list[str] = []
        partitions: list[str] | None = None
        problem: str | None = None
        try:
            run = plan(view.select, datetime.fromtimestamp(instant, UTC))
            assets = list(run.assets)
            partitions = None if run.partitions is None else list(run.partitions)
        except NothingToMake as error:
            problem = error.message
        named += len(assets) + len(partitions or ())
        yield PreviewedInstant(
            due_at=format_ms(instant * 1_000),
            local=local_text(instant, zone),
            assets=assets,
            partitions=partitions,
            problem=problem,
        )


def _tasks(manifest: DeployedManifest, wanted: RunRequested) -> int | None:
    """Return how many tasks the run of a request has; None if it cannot be planned, which its end says."""
    try:
        return len(plan_tasks(manifest, wanted.asset_selection, wanted.partition_selection))
    except CannotPlan:
        return None


def _unfit(problem: FieldProblem, body: ScheduleBody) -> Refused:
    return refused(
        Code.INVALID_REQUEST,
        f"the schedule cannot be: {problem.message}",
        field=problem.field,
        value=getattr(body, problem.field, None),
        remedy=problem.remedy,
    )


async def _switch(
    make: Make, schedule_id: str, workspace: Workspace, deps: Deps, manifests: ManifestReader, request: Request
) -> ChangedBody:
    current = await manifests.latest(workspace.store, workspace.scope)
    manifest = None if current is None else current.manifest
    found, _ = await _changed(deps, workspace, request, ScheduleChange(schedule_id, make), manifest)
    return found


async def _changed(
    deps: Deps, workspace: Workspace, request: Request, change: ScheduleChange, manifest: DeployedManifest | None
) -> tuple[ChangedBody, bool]:
    """Make a change; return what it came to, and whether the schedule is new."""
    schedules = _schedules(deps, workspace, request)
    (outcome,) = await schedules.change([change], manifest)
    snapshot = await schedules.reader.snapshot(workspace.scope, TABLES)
    known = await asyncio.to_thread(known_schedule, snapshot, change.schedule_id)
    body = ChangedBody(
        schedule_id=change.schedule_id,
        changed=outcome.defined,
        enabled=known is not None and known.view.enabled,
        ticks=outcome.ticks,
        next_due_at=next_due_at(known, _now_ms()),
    )
    return body, outcome.created


def _schedules(deps: Deps, workspace: Workspace, request: Request) -> Schedules:
    return Schedules(_published(request), deps.ledger, workspace.scope, _now_ms)


def _published(request: Request) -> PublishedReader:
    found: PublishedReader = request.app.state.published
    return found


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
