"""Routes that ask for runs: start one, cancel one, make part of one again."""

from __future__ import annotations

import asyncio
import json
from typing import Annotated, Any, Final

import msgspec
from fastapi import Body, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from springline.api.commits import REPLAYED_HEADER
from springline.api.context import FromDeps, FromPrincipal, Reader, Writer, errors
from springline.api.lists import Asked
from springline.api.lists import asked as reading
from springline.api.manifests import FromManifests
from springline.api.ports import Deps
from springline.api.runs import RunParam
from springline.api.urls import CheckedRouter
from springline.api.workspaces import Workspace
from springline.control.runs.messages import RunDoing
from springline.deployed.reading import ManifestReader
from springline.errors import Code, refused
from springline.ledger.events import RunCancelRequested
from springline.ledger.member import CancelMember
from springline.projection.golden import golden_row
from springline.projection.schema import FINISHED_RUN, RUNS, TASKS, X_RUNS
from springline.runs.requesting import RequestedRun, RunRequests, append_event
from springline.runs.requests import (
    USER_REQUEST,
    Asker,
    ParentRun,
    RerunAsked,
    RunAsked,
    rerun_request,
    run_request,
)

router = CheckedRouter(prefix="/api/v1", tags=["runs"])

PREFIX: Final = "/api/v1/runs"
MAX_REASON: Final = 1_000

_RUN = "run_j6jvo6bdv773wa242jsrxjtwti"


class RunStartBody(RunAsked):
    """A run that is asked for."""

    model_config = ConfigDict(title="RunStartBody", frozen=True, extra="forbid")


class RerunBody(RerunAsked):
    """The part of a run that is to be made again: `from` or `tasks`."""

    model_config = ConfigDict(title="RerunBody", frozen=True, extra="forbid")


class CancelBody(BaseModel):
    """Why a run is cancelled."""

    model_config = ConfigDict(extra="forbid")

    reason: Annotated[str, Field(max_length=MAX_REASON)] | None = Field(default=None, description="For people.")


class RequestedBody(BaseModel):
    """A run that was asked for."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "run_id": _RUN,
                    "run_key": "api:01JHMPJNXR000AQKFF0000000S",
                    "manifest_id": "01JHMPFQ6G000AQKFF00000004",
                    "state": "RUNNING",
                    "tasks": 2,
                }
            ]
        }
    )

    run_id: str | None = Field(
        description="Null while the request is kept and readers do not see it yet (202): ask for it by its key then."
    )
    run_key: str
    manifest_id: str | None = Field(description="The definitions that the run is made by; null if that is not known.")
    state: str = Field(description="Of the run; REQUESTED if it has not begun.")
    tasks: int | None = Field(description="How many tasks it has; null if that is not known.")


class CancelledBody(BaseModel):
    """A run whose cancellation is recorded."""

    run_id: str
    state: str = Field(description="CANCELLED, or what the run is until its attempts under way have ended.")
    cancel_requested: bool


class DoingBody(BaseModel):
    """A run, and what its workflow says."""

    run_id: str
    state: str
    doing: RunDoing | None = Field(description="Null if the run has ended, or no workflow of it answers just now.")


StartBody = Annotated[
    RunStartBody,
    Body(
        openapi_examples={
            "partitions": {
                "summary": "Two days of an asset and of all that it depends on",
                "value": {"select": ["*delays"], "partitions": ["2024-01-30", "2024-01-31"]},
            },
            "keyed": {
                "summary": "A request that can be repeated",
                "value": {
                    "select": ["raw_flights*"],
                    "partitions": ["2024-01-31"],
                    "run_key": "flights-2024-01-31",
                    "config": {"rows": 1_000},
                    "labels": {"team": "sales"},
                    "priority": 10,
                },
            },
        }
    ),
]
_Cancel = Annotated[
    CancelBody | None, Body(openapi_examples={"why": {"summary": "With a reason", "value": {"reason": "wrong day"}}})
]
_Again = Annotated[
    RerunBody,
    Body(
        openapi_examples={
            "failed": {"summary": "What did not succeed", "value": {"from": "failed"}},
            "tasks": {"summary": "Tasks by name", "value": {"tasks": ["delays", "raw_flights[2024-01-31]"]}},
        }
    ),
]

_KNOWN: dict[str, Any] = {
    "model": RequestedBody,
    "description": "The same request was made before under this key: nothing was written.",
}
_KEPT: dict[str, Any] = {
    "model": RequestedBody,
    "description": "The request is recorded, but the published state does not show it yet.",
}


@router.post(
    "/runs",
    status_code=201,
    summary="Start a run",
    response_model=RequestedBody,
    response_description="The run is asked for, and begins at once unless limits hold it back.",
    responses={200: _KNOWN, 202: _KEPT, **errors(400, 404, 409, 413, 503)},
)
async def start(
    body: StartBody,
    workspace: Writer,
    principal: FromPrincipal,
    deps: FromDeps,
    manifests: FromManifests,
    request: Request,
) -> Response:
    """Ask for a run of selected assets. What cannot be planned is refused at once, and nothing is written.

    So is a config that an asset's model surely refuses: a required field is missing, or another name is forbidden.

    With a `run_key` the request may be repeated, after a lost answer or 503 too: there is one run for each key, for
    ever. A key that stands for another request is refused.
    """
    asker = Asker(principal.subject, request.state.request_id)
    wanted = run_request(body, asker, deps.new_name)
    return _told(await _requests(request, workspace, deps, manifests).request(wanted))


@router.post(
    "/runs/{run_id}/rerun",
    status_code=201,
    summary="Make part of a run again",
    response_model=RequestedBody,
    response_description="A new run, with the tasks that are to be made again.",
    responses={200: _KNOWN, 202: _KEPT, **errors(400, 404, 409, 503)},
)
async def rerun(
    run_id: RunParam,
    body: _Again,
    workspace: Writer,
    principal: FromPrincipal,
    deps: FromDeps,
    manifests: FromManifests,
    request: Request,
) -> Response:
    """Ask for a run that makes tasks of another one again: those that did not succeed, or those that are named.

    The other run has ended. What is not made again is taken from it. Labels and configuration are the other run's;
    definitions are those that are deployed now, and the configuration is judged by them. Asked for again, it is the
    same rerun: to repeat that one, name it.
    """
    parent = await _parent(reading(request, workspace), run_id)
    wanted = rerun_request(body, parent, Asker(principal.subject, request.state.request_id))
    return _told(await _requests(request, workspace, deps, manifests).request(wanted))


@router.post(
    "/runs/{run_id}/cancel",
    status_code=200,
    summary="Cancel a run",
    response_model=CancelledBody,
    response_description="The run is cancelled.",
    responses={
        202: {"model": CancelledBody, "description": "No task of it begins any more; attempts under way end now."},
        **errors(400, 404, 409, 503),
    },
)
async def cancel(
    run_id: RunParam,
    workspace: Writer,
    principal: FromPrincipal,
    deps: FromDeps,
    manifests: FromManifests,
    request: Request,
    body: _Cancel = None,
) -> Response:
    """Cancel a run, or withdraw it if it is only asked for. Safe to repeat until it has ended."""
    ask = reading(request, workspace)
    reason = None if body is None else body.reason
    withdrawn = await _requests(request, workspace, deps, manifests).withdraw(run_id, principal.subject, reason)
    if not withdrawn:
        _not_ended(await _run(ask, run_id))
    if not withdrawn and not await deps.runs.cancel(workspace.scope, run_id, principal.subject, reason):
        event = RunCancelRequested(
            run_id=run_id,
            requested_by=principal.subject,
            reason=reason,
            springline=msgspec.to_builtins(CancelMember(reason_code=USER_REQUEST)),
        )
        await append_event(deps.ledger, workspace.scope, event)
    row = await _run(ask, run_id)
    found = CancelledBody(run_id=run_id, state=row["state"], cancel_requested=True)
    return _json(200 if row["state"] in FINISHED_RUN else 202, found)


@router.get(
    "/runs/{run_id}/doing",
    summary="What a run is doing, and what it waits for",
    responses=errors(404, 409, 503),
)
async def doing(run_id: RunParam, workspace: Reader, deps: FromDeps, request: Request) -> DoingBody:
    """Ask the run's workflow: tasks by state, what runs longest, what the run waits for and why.

    `doing` is null for a run that has ended, and while no workflow of it answers.
    """
    row = await _run(reading(request, workspace), run_id)
    found = None if row["state"] in FINISHED_RUN else await deps.runs.status(workspace.scope, run_id)
    return DoingBody(run_id=run_id, state=row["state"], doing=found)


def _requests(request: Request, workspace: Workspace, deps: Deps, manifests: ManifestReader) -> RunRequests:
    """Return where requests for runs of a workspace come in."""
    published = request.app.state.published
    return RunRequests(deps.store, published, manifests, deps.ledger, deps.runs, workspace.scope)


def _told(found: RequestedRun) -> Response:
    body = RequestedBody(
        run_id=found.run_id,
        run_key=found.run_key,
        manifest_id=found.manifest_id,
        state=found.state,
        tasks=found.tasks,
    )
    headers = {REPLAYED_HEADER: "true" if found.replayed else "false"}
    if found.run_id is None:
        return _json(202, body, headers)
    headers["Location"] = f"{PREFIX}/{found.run_id}"
    return _json(200 if found.replayed else 201, body, headers)


async def _parent(ask: Asked, run_id: str) -> ParentRun:
    """Return a run of which part is to be made again; raises `Refused` unless it has ended."""
    row = await _run(ask, run_id)
    if row["state"] not in FINISHED_RUN:
        raise refused(
            Code.EVENT_CONFLICT,
            f"run {run_id!r} has not ended: it is {row['state']}",
            field="run_id",
            value=run_id,
            remedy="Wait for its end, or cancel it first.",
        )
    snapshot = await ask.snapshot(TASKS.name, X_RUNS.name)

    def read() -> ParentRun:
        own = snapshot[X_RUNS.name].get(run_id)
        config = None if own is None else golden_row(X_RUNS, own).get("config")
        tasks = [golden_row(TASKS, one) for one in snapshot[TASKS.name].below((run_id,))]
        return ParentRun(
            run_id,
            row["state"],
            _object(row.get("labels")),
            _object(config),
            {one["task_key"]: one["state"] for one in tasks},
        )

    return await asyncio.to_thread(read)


async def _run(ask: Asked, run_id: str) -> dict[str, Any]:
    """Return the row of a run; raises `Refused` if there is none."""
    snapshot = await ask.snapshot(RUNS.name)
    row = await asyncio.to_thread(snapshot[RUNS.name].get, run_id)
    if row is None:
        raise await ask.no_run(run_id)
    return golden_row(RUNS, row)


def _not_ended(row: dict[str, Any]) -> None:
    if row["state"] in FINISHED_RUN:
        raise refused(
            Code.EVENT_CONFLICT,
            f"run {row['run_id']!r} has ended: {row['state']}",
            field="run_id",
            value=row["run_id"],
            remedy="There is nothing left to cancel.",
        )


def _object(text: Any) -> dict[str, Any]:
    """Return a column that holds a JSON object, which may be shown as its text."""
    found = json.loads(text) if isinstance(text, str) else text
    return found if isinstance(found, dict) else {}


def _json(status: int, body: BaseModel, headers: dict[str, str] | None = None) -> Response:
    return Response(body.model_dump_json(), status_code=status, media_type="application/json", headers=headers)
