"""Routes of the ledger: append events, ingest foreign ones, and the status of the workspace.

See docs/protocol.md#ledger-rounds, docs/formats.md#ledger-requests.
"""

from __future__ import annotations

import time
from typing import Annotated, Any

from fastapi import Body, Response
from pydantic import BaseModel, ConfigDict, Field

from springline.api.commits import REPLAYED_HEADER
from springline.api.context import FromDeps, Operator, Writer, errors
from springline.api.lists import REVISION_HEADER, FromAsked, RevisionBody, answer
from springline.api.urls import CheckedRouter
from springline.control.admission.round import check_count, drafts_of
from springline.errors import Code, Refused
from springline.keys import check_key
from springline.ledger.request import (
    MAX_REQUEST_EVENTS,
    AppendMode,
    AppendOutcome,
    AppendRequest,
    EventData,
    IngestOutcome,
    IngestRequest,
    NewEvent,
    VisibilityStatus,
    ingest_out_of_bounds,
)

router = CheckedRouter(prefix="/api/v1", tags=["ledger"])

_ID = "01946b1c-0000-7000-8000-000000000001"
_RUN = "run_j6jvo6bdv773wa242jsrxjtwti"


class EventAsked(NewEvent):
    """An event as a caller sends it: here, and only here, an unknown field is refused."""

    model_config = ConfigDict(extra="forbid", title="NewEvent")

    data: EventData


class AppendAsked(AppendRequest):
    """A request as a caller sends it: here, and only here, an unknown field is refused."""

    model_config = ConfigDict(extra="forbid", title="AppendRequest")

    events: Annotated[list[EventAsked], Field(min_length=1, max_length=MAX_REQUEST_EVENTS)]  # type: ignore[assignment]


class IngestAsked(IngestRequest):
    """Foreign events as a caller names them: here, and only here, an unknown field is refused."""

    model_config = ConfigDict(extra="forbid", title="IngestRequest")


AppendBody = Annotated[
    AppendAsked,
    Body(
        openapi_examples={
            "run": {
                "summary": "A run and its plan, both or neither",
                "value": {
                    "request_id": _ID,
                    "events": [
                        {
                            "data": {
                                "type": "run_triggered",
                                "run_id": _RUN,
                                "plan_id": f"plan:{_RUN}",
                                "trigger": {"type": "manual", "user_id": "ada@example.com"},
                                "root_assets": ["mart.b"],
                                "labels": {"team": "sales"},
                            }
                        },
                        {
                            "data": {
                                "type": "plan_created",
                                "run_id": _RUN,
                                "plan_id": f"plan:{_RUN}",
                                "tasks": [
                                    {"key": "raw.a", "depends_on": [], "asset_key": "raw.a"},
                                    {"key": "mart.b", "depends_on": ["raw.a"], "asset_key": "mart.b"},
                                ],
                            }
                        },
                    ],
                },
            },
            "each": {
                "summary": "Reports of two tasks, each by itself",
                "value": {
                    "request_id": "01946b1c-0000-7000-8000-000000000002",
                    "mode": "each",
                    "events": [
                        {
                            "data": {
                                "type": "task_started",
                                "run_id": _RUN,
                                "task_key": task,
                                "attempt": 1,
                                "attempt_id": f"{task}-1",
                                "worker_id": "worker-1",
                            }
                        }
                        for task in ("raw.a", "mart.b")
                    ],
                },
            },
        }
    ),
]


class RefusedAppendBody(BaseModel):
    """Why one event of a request `each` was refused; texts are cut where they are long."""

    index: int = Field(description="Its place in the request, from 0.")
    code: Code = Field(description="As in an error body.")
    message: str = Field(description="What is wrong, in a sentence.")
    field: str | None = Field(description="Where it is wrong, such as `events[2].data.attempt`.")
    value: Any = Field(description="What was found there.")
    remedy: str | None = Field(description="What to do about it.")


class AppendedBody(BaseModel):
    """What became of a request's events, in order; the same request id gets the same answer for ever."""

    model_config = ConfigDict(title="AppendedBody")

    request_id: str
    events: list[dict[str, Any]] = Field(
        description="Those taken, in the order of the request: `event_id`, `event_type`, `idempotency_key`, "
        "`ledger_path`, `outcome`, and `completed` for events that the sequencer added, which come last."
    )
    refused: list[RefusedAppendBody] = Field(
        description="Those that were not taken, in the order of the request, each with its reason; empty for a request "
        "that is taken whole. All others of the request are in `events`."
    )
    visibility_status: VisibilityStatus
    manifest_id: str | None
    manifest_revision: str | None
    replayed: bool


class DigestBody(BaseModel):
    """The digest of the published state: equal digests mean equal states."""

    digest: str = Field(description="Of the tables that the reference has, too.")
    own_digest: str | None = Field(description="Of the tables of our own; null if the revision does not hold them.")
    tables: dict[str, dict[str, Any]] = Field(description="By table: `rows`, and `sum` of the rows' digests.")
    revision: RevisionBody


class LedgerStatusBody(BaseModel):
    """Where the ledger of a workspace stands."""

    events: int = Field(description="How many events the published state holds.")
    rounds_folded: int
    watermarks: dict[str, Any]
    sequencer: dict[str, Any] | None = Field(
        description="Phase, counts and lag of the workspace's workflow; null while it rests or cannot be asked."
    )
    revision: RevisionBody


_LATER: dict[str, Any] = {
    "model": AppendedBody,
    "description": "The events are durable and will be folded, but the published state does not show them yet.",
}


@router.post(
    "/ledger/events",
    summary="Append events",
    response_model=AppendedBody,
    response_description="The events are in the ledger and in the published state.",
    responses={202: _LATER, **errors(400, 409, 413, 503)},
)
async def append(body: AppendBody, workspace: Writer, deps: FromDeps) -> Response:
    """Append events, all or none or each by itself, exactly once per request id.

    Ids, times and idempotency keys are made by the sequencer, which refuses or completes what would lead into a
    state that can never move. A request in mode `each` is answered with 200 (or 202) whatever became of its events:
    `refused` names those that were not taken. After a lost answer, or 503, send the same request again under the same
    id.
    """
    check_request(body)
    outcome = await deps.ledger.append(workspace.scope, body)
    if outcome.refusal is not None:
        raise Refused(outcome.refusal)
    return _answered(outcome, {REPLAYED_HEADER: "true" if outcome.replayed else "false"})


@router.post(
    "/ledger/ingest",
    summary="Take in foreign events",
    response_model=IngestOutcome,
    response_description="What became of each: accepted, known, deferred or refused with a reason.",
    responses={202: _LATER | {"model": IngestOutcome}, **errors(400, 413, 503)},
)
async def ingest(body: IngestAsked, workspace: Operator, deps: FromDeps) -> Response:
    """Accept events that lie in the ledger though the sequencer did not write them; late ones lead to a refold.

    Safe to repeat. An event that is refused is recorded with its reason and holds up none of the others.
    """
    refusal = ingest_out_of_bounds(body)
    if refusal is not None:
        raise Refused(refusal)
    outcome = await deps.ledger.ingest(workspace.scope, body)
    if outcome.refusal is not None:
        raise Refused(outcome.refusal)
    return _answered(outcome, {})


@router.get(
    "/ledger/status", summary="Where the ledger stands", response_model=LedgerStatusBody, responses=errors(409, 503)
)
async def status(asked: FromAsked, deps: FromDeps) -> Response:
    """Tell how far the published state is, and what the sequencer is doing."""
    head = await asked.published.head(asked.scope)
    sequencer = await deps.ledger.status(asked.scope)
    body = {"events": head.events, "rounds_folded": head.rounds_folded, "watermarks": head.watermarks}
    return answer(head.revision, {**body, "sequencer": sequencer})


@router.get("/state/digest", summary="Digest of the state", response_model=DigestBody, responses=errors(409, 503))
async def digest(asked: FromAsked) -> Response:
    """Return the digest of the published state, and of each table."""
    found = await asked.published.digest(asked.scope)
    return answer(found.head.revision, {"digest": found.state, "own_digest": found.own, "tables": found.tables})


def check_request(request: AppendRequest) -> None:
    """Refuse a request that is wrong by itself, before it goes to the sequencer.

    Raises `Refused`: INVALID_KEY for a request id that is not a canonical UUIDv7, INVALID_REQUEST naming a field that
    an event lacks, that its type does not have, or whose value is not valid. Events that are taken each by itself are
    judged by the sequencer alone: what is wrong with one is part of the request's answer, which is kept.
    """
    check_key(request.request_id, field="request_id")
    if request.mode is AppendMode.EACH:
        check_count(request)
    else:
        drafts_of(request, time.time_ns() // 1_000_000)


_OF_COMMITS = {"latest_version", "commits_since"}
"""What refusals of the ledger never have."""


def _answered(outcome: AppendOutcome | IngestOutcome, headers: dict[str, str]) -> Response:
    visible = outcome.visibility_status is not VisibilityStatus.PERSISTED_NOT_VISIBLE
    if outcome.manifest_id is not None:
        headers = headers | {REVISION_HEADER: outcome.manifest_id}
    return Response(
        outcome.model_dump_json(exclude={"refusal": True, "refused": {"__all__": _OF_COMMITS}}),
        status_code=200 if visible else 202,
        media_type="application/json",
        headers=headers,
    )
