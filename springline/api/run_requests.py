"""Routes that ask for runs: start one, cancel one, make part of one again."""

from __future__ import annotations

import asyncio
import json
from typing import Annotated, Any, Final

import msgspec
import uuid_utils
from fastapi import APIRouter, Body, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from springline.api.commits import REPLAYED_HEADER
from springline.api.context import FromDeps, FromPrincipal, Writer, errors
from springline.api.lists import Asked, unknown
from springline.api.lists import asked as reading
from springline.api.manifests import FromManifests, nothing_deployed
from springline.api.ports import Deps
from springline.api.runs import RunParam
from springline.api.workspaces import Workspace
from springline.control.runs.progress import as_event
from springline.definitions.manifest import DeployedManifest
from springline.deployed.reading import ManifestReader
from springline.errors import Code, Refused, refused
from springline.ledger.events import Payload, RunCancelRequested
from springline.ledger.member import CancelMember
from springline.ledger.request import AppendOutcome, AppendRequest, NewEvent
from springline.paths import Scope
from springline.projection.golden import golden_row
from springline.projection.schema import FINISHED_RUN, RUN_KEY_INDEX, RUNS, TASKS, X_RUN_KEYS, X_RUNS
from springline.published.lists import equals
from springline.runs.requests import (
    USER_REQUEST,
    Asker,
    KeyedRequest,
    ParentRun,
    RerunAsked,
    RunAsked,
    key_reused,
    rerun_request,
    run_request,
)

router = APIRouter(prefix="/api/v1", tags=["runs"])

PREFIX: Final = "/api/v1/runs"
REQUESTED: Final = "REQUESTED"
"""The state of a run that is asked for and has not begun."""
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

    With a `run_key` the request may be repeated, after a lost answer or 503 too: there is one run for each key, for
    ever. A key that stands for another request is refused.
    """
    asker = Asker(principal.subject, request.state.request_id)
    wanted = run_request(body, asker, deps.new_name)
    return await _Door(deps, workspace, manifests, reading(request, workspace)).request(wanted)


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
    definitions are those that are deployed now. Asked for again, it is the same rerun: to repeat that one, name it.
    """
    door = _Door(deps, workspace, manifests, reading(request, workspace))
    parent = await door.parent(run_id)
    return await door.request(rerun_request(body, parent, Asker(principal.subject, request.state.request_id)))


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
    request: Request,
    body: _Cancel = None,
) -> Response:
    """Cancel a run. Safe to repeat until it has ended."""
    ask = reading(request, workspace)
    await _check_begun(ask, run_id)
    _not_ended(await _run(ask, run_id))
    reason = None if body is None else body.reason
    if not await deps.runs.cancel(workspace.scope, run_id, principal.subject, reason):
        event = RunCancelRequested(
            run_id=run_id,
            requested_by=principal.subject,
            reason=reason,
            springline=msgspec.to_builtins(CancelMember(reason_code=USER_REQUEST)),
        )
        await _append(deps, workspace.scope, event)
    row = await _run(ask, run_id)
    found = CancelledBody(run_id=run_id, state=row["state"], cancel_requested=True)
    return _json(200 if row["state"] in FINISHED_RUN else 202, found)


class _Door:
    """Where requests for runs of one workspace come in."""

    def __init__(self, deps: Deps, workspace: Workspace, manifests: ManifestReader, ask: Asked) -> None:
        self._deps = deps
        self._workspace = workspace
        self._manifests = manifests
        self._ask = ask

    async def request(self, wanted: KeyedRequest) -> Response:
        """Record a request that is new, let its run begin, and tell of it; raises `Refused`."""
        scope = self._workspace.scope
        replayed = await self._is_known(wanted)
        planned: int | None = None
        if not replayed:
            manifest = await self._manifest()
            # Off the event loop: a plan may have thousands of tasks.
            event, tasks = await asyncio.to_thread(wanted.compile, manifest)
            planned = len(tasks)
            outcome = await _append(self._deps, scope, event)
            replayed = outcome.events[0].outcome == "duplicate"
        await self._deps.runs.launch(scope, wanted.run_key)
        return await self._told(wanted, replayed=replayed, planned=planned)

    async def parent(self, run_id: str) -> ParentRun:
        """Return a run of which part is to be made again; raises `Refused` unless it has ended."""
        row = await _run(self._ask, run_id)
        if row["state"] not in FINISHED_RUN:
            raise refused(
                Code.EVENT_CONFLICT,
                f"run {run_id!r} has not ended: it is {row['state']}",
                field="run_id",
                value=run_id,
                remedy="Wait for its end, or cancel it first.",
            )
        snapshot = await self._ask.snapshot(TASKS.name, X_RUNS.name)

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

    async def _is_known(self, wanted: KeyedRequest) -> bool:
        """Say whether the same request was made before under its key; raises `Refused` if another one was."""
        first = await self._first(wanted.run_key)
        if first is None:
            return False
        if first["request_fingerprint"] != wanted.fingerprint:
            raise key_reused(wanted.run_key, first["run_id"])
        return True

    async def _first(self, run_key: str) -> dict[str, Any] | None:
        snapshot = await self._ask.snapshot(X_RUN_KEYS.name)
        row = await asyncio.to_thread(snapshot[X_RUN_KEYS.name].get, run_key)
        return None if row is None else golden_row(X_RUN_KEYS, row)

    async def _manifest(self) -> DeployedManifest:
        found = await self._manifests.latest(self._workspace.store, self._workspace.scope)
        if found is None or not found.manifest.assets:
            raise nothing_deployed()
        return found.manifest

    async def _told(self, wanted: KeyedRequest, *, replayed: bool, planned: int | None) -> Response:
        snapshot = await self._ask.snapshot(X_RUN_KEYS.name, RUN_KEY_INDEX.name, RUNS.name)

        def read() -> tuple[dict[str, Any] | None, dict[str, Any], dict[str, Any]]:
            first = snapshot[X_RUN_KEYS.name].get(wanted.run_key)
            if first is None:
                return None, {}, {}
            known = golden_row(X_RUN_KEYS, first)
            asked = snapshot[RUN_KEY_INDEX.name].get(wanted.run_key)
            run = snapshot[RUNS.name].get(known["run_id"])
            return (
                known,
                {} if asked is None else golden_row(RUN_KEY_INDEX, asked),
                {} if run is None else golden_row(RUNS, run),
            )

        first, asked, run = await asyncio.to_thread(read)
        if first is not None and first["request_fingerprint"] != wanted.fingerprint:
            # Another request under the key came between: that one stays.
            raise key_reused(wanted.run_key, first["run_id"])
        run_id = None if first is None else first["run_id"]
        body = RequestedBody(
            run_id=run_id,
            run_key=wanted.run_key,
            manifest_id=run.get("code_version") or asked.get("code_version"),
            state=run.get("state", REQUESTED),
            tasks=run.get("tasks_total") or planned,
        )
        headers = {REPLAYED_HEADER: "true" if replayed else "false"}
        if run_id is None:
            return _json(202, body, headers)
        headers["Location"] = f"{PREFIX}/{run_id}"
        return _json(200 if replayed else 201, body, headers)


async def _run(ask: Asked, run_id: str) -> dict[str, Any]:
    """Return the row of a run; raises `Refused` if there is none."""
    snapshot = await ask.snapshot(RUNS.name)
    row = await asyncio.to_thread(snapshot[RUNS.name].get, run_id)
    if row is None:
        raise unknown("run", run_id, snapshot.revision)
    return golden_row(RUNS, row)


async def _check_begun(ask: Asked, run_id: str) -> None:
    """Raise `Refused` if a run is asked for and has not begun: no event can be about it."""
    snapshot = await ask.snapshot(RUNS.name, RUN_KEY_INDEX.name)

    def waits() -> bool:
        asked_for = equals(RUN_KEY_INDEX, "run_id", [run_id])
        return snapshot[RUNS.name].get(run_id) is None and bool(snapshot[RUN_KEY_INDEX.name].select(asked_for))

    if await asyncio.to_thread(waits):
        raise refused(
            Code.EVENT_CONFLICT,
            f"run {run_id!r} is asked for and has not begun",
            field="run_id",
            value=run_id,
            remedy="Cancel it again when it has begun; it waits for its turn, or for the end of a hold.",
        )


def _not_ended(row: dict[str, Any]) -> None:
    if row["state"] in FINISHED_RUN:
        raise refused(
            Code.EVENT_CONFLICT,
            f"run {row['run_id']!r} has ended: {row['state']}",
            field="run_id",
            value=row["run_id"],
            remedy="There is nothing left to cancel.",
        )


async def _append(deps: Deps, scope: Scope, event: Payload) -> AppendOutcome:
    """Append an event and return its outcome; raises `Refused`, naming the field of the route's own request."""
    request = AppendRequest(request_id=str(uuid_utils.uuid7()), events=[NewEvent(data=as_event(event))])
    outcome = await deps.ledger.append(scope, request)
    if outcome.refusal is not None:
        field = (outcome.refusal.field or "").removeprefix("events[0].data.") or None
        raise Refused(outcome.refusal.model_copy(update={"field": field}))
    return outcome


def _object(text: Any) -> dict[str, Any]:
    """Return a column that holds a JSON object, which may be shown as its text."""
    found = json.loads(text) if isinstance(text, str) else text
    return found if isinstance(found, dict) else {}


def _json(status: int, body: BaseModel, headers: dict[str, str] | None = None) -> Response:
    return Response(body.model_dump_json(), status_code=status, media_type="application/json", headers=headers)
