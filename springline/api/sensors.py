"""Routes of sensors: where they stand, what they have decided, pushing to them, and what operators do to them."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Final

from fastapi import Body, Path, Query, Response, Security
from pydantic import BaseModel, ConfigDict, Field, StrictBool

from springline import bounds
from springline.api.commits import REPLAYED_HEADER
from springline.api.context import FromDeps, FromPrincipal, FromPublished, FromWorkspace, Reader, errors
from springline.api.lists import FromAsked, Json, ListBody, PageQuery, RevisionBody, answer, unknown
from springline.api.manifests import FromManifests
from springline.api.tokens import OPERATE, WRITE
from springline.api.urls import CheckedRouter
from springline.control.admission.automation import sensor_cursor
from springline.control.sensors.messages import SensorAsked, SensorDecision, SensorDoing
from springline.definitions.composing import CurrentManifest
from springline.definitions.limits import MAX_SENSOR_CURSOR
from springline.errors import Code, Refused, refused
from springline.ledger.timestamps import format_ms
from springline.projection.golden import golden_row
from springline.projection.schema import SENSOR_STATE
from springline.published.lists import cursor_for, key_of_cursor
from springline.published.snapshot import StateSnapshot
from springline.sensors.changing import MAX_PAYLOAD_BYTES, Sensors, check_cursor, check_payload
from springline.sensors.reading import (
    MOST_MESSAGES,
    TABLES,
    own_sensor_row,
    sensor_row,
    waiting_messages,
)

router = CheckedRouter(prefix="/api/v1", tags=["sensors"])

PREFIX: Final = "/api/v1/sensors"


def _sensors(workspace: FromWorkspace, deps: FromDeps, manifests: FromManifests, published: FromPublished) -> Sensors:
    return Sensors(workspace.store, published, manifests, deps.ledger, workspace.scope)


OperatedSensors = Annotated[Sensors, Security(_sensors, scopes=[OPERATE])]
WrittenSensors = Annotated[Sensors, Security(_sensors, scopes=[WRITE])]
SensorParam = Annotated[str, Path(max_length=bounds.MAX_ID, description="The sensor's id.", examples=["files"])]


class SensorShown(BaseModel):
    """A sensor: its definition, where it stands, and what its workflow says."""

    sensor: Json
    doing: SensorDoing | None = Field(description="Null if no workflow of it answers just now.")
    revision: RevisionBody


class SensorChangedBody(BaseModel):
    """What a change of a sensor came to."""

    sensor_id: str
    changed: bool = Field(description="False: it was so already, and nothing was written.")


class SensorCursorBody(BaseModel):
    """The cursor that a sensor is to have."""

    model_config = ConfigDict(extra="forbid")

    cursor: Annotated[str, Field(max_length=MAX_SENSOR_CURSOR)] = Field(
        description="As its function writes it.",
        json_schema_extra=bounds.judged(f"At most {MAX_SENSOR_CURSOR:,} bytes in UTF-8."),
    )


class SensorMessageBody(BaseModel):
    """A message for a sensor."""

    model_config = ConfigDict(extra="forbid")

    message_id: Annotated[str, Field(min_length=1, max_length=bounds.MAX_KEY)] = Field(
        description="Given by the sender: the same message again is the same message.",
        json_schema_extra=bounds.judged("An id that can be part of a URL."),
    )
    payload: Any = Field(
        default=None,
        description="JSON, what the function finds in `context.message.payload`.",
        json_schema_extra=bounds.judged(
            f"Numbers are whole; at most {MAX_PAYLOAD_BYTES // 1024} KiB.", maxLength=MAX_PAYLOAD_BYTES
        ),
    )


class SensorPushedBody(BaseModel):
    """A message that is in the ledger."""

    sensor_id: str
    message_id: str
    event_id: str = Field(description="The event that keeps it until it is evaluated.")
    replayed: bool = Field(description="It was pushed before.")


class SensorEvaluateBody(BaseModel):
    """How a sensor is evaluated now."""

    model_config = ConfigDict(extra="forbid")

    dry_run: StrictBool = Field(default=False, description="Only say what it would ask for: nothing is recorded.")
    cursor: Annotated[str, Field(max_length=MAX_SENSOR_CURSOR)] | None = Field(
        default=None,
        description="Of a dry run: evaluate as if this were the cursor.",
        json_schema_extra=bounds.judged("Only with dry_run."),
    )
    payload: Any = Field(
        default=None,
        description="Of a dry run: evaluate as if this had been pushed.",
        json_schema_extra=bounds.judged("Only with dry_run; numbers are whole.", maxLength=MAX_PAYLOAD_BYTES),
    )


_Evaluate = Annotated[
    SensorEvaluateBody,
    Body(
        openapi_examples={
            "now": {"summary": "Evaluate now", "value": {}},
            "dry": {"summary": "Only say what it would ask for", "value": {"dry_run": True}},
        }
    ),
]
_Message = Annotated[
    SensorMessageBody,
    Body(
        openapi_examples={
            "file": {
                "summary": "A file has arrived",
                "value": {"message_id": "m-17", "payload": {"file": "incoming/2024-01-31.csv"}},
            }
        }
    ),
]


@router.get("/sensors", summary="List sensors", response_model=ListBody, responses=errors(409, 503))
async def sensors(
    query: Annotated[PageQuery, Query()], asked: FromAsked, workspace: Reader, manifests: FromManifests
) -> Response:
    """List the sensors that are deployed, and those of other systems that were evaluated, by id.

    `definition` is null for one that is not deployed; `cursor` counts for the next evaluation; `messages` wait for it.
    """
    snapshot = await asked.snapshot(*TABLES)
    current = await manifests.latest(workspace.store, workspace.scope)
    filters = query.filters()
    after = None if query.cursor is None else str(key_of_cursor(query.cursor, asked.route, filters, columns=1))

    def read() -> Response:
        definitions = _definitions(current)
        names = {*definitions, *(str(key) for key in snapshot["sensor_state"].keys)}
        behind = sorted(one for one in names if after is None or one > after)
        page = behind[: query.limit]
        cursor = cursor_for(asked.route, filters, page[-1]) if len(behind) > len(page) else None
        items = [_shown(snapshot, one, definitions.get(one)) for one in page]
        return answer(snapshot.revision, {"items": items, "next_cursor": cursor})

    return await asyncio.to_thread(read)


@router.get("/sensors/{sensor_id}", summary="A sensor", response_model=SensorShown, responses=errors(404, 409, 503))
async def one_sensor(
    sensor_id: SensorParam, asked: FromAsked, workspace: Reader, deps: FromDeps, manifests: FromManifests
) -> Response:
    """Show a sensor: its definition, its cursor, messages that wait, what it is doing, and its last decisions."""
    snapshot = await asked.snapshot(*TABLES)
    current = await manifests.latest(workspace.store, workspace.scope)
    definition = _definitions(current).get(sensor_id)
    if definition is None and snapshot["sensor_state"].get(sensor_id) is None:
        raise unknown("sensor", sensor_id, snapshot.revision)
    doing = None if definition is None else await deps.sensors.status(workspace.scope, sensor_id)

    def read() -> Response:
        body = {
            "sensor": _shown(snapshot, sensor_id, definition),
            "doing": None if doing is None else doing.model_dump(mode="json"),
        }
        return answer(snapshot.revision, body)

    return await asyncio.to_thread(read)


@router.post("/sensors/{sensor_id}/pause", summary="Pause a sensor", responses=errors(404, 409, 503))
async def pause(
    sensor_id: SensorParam,
    sensors: OperatedSensors,
    principal: FromPrincipal,
) -> SensorChangedBody:
    """Let a sensor be evaluated no more; messages wait. An evaluation that is under way is not recorded."""
    changed = await sensors.change(sensor_id, "paused", principal.subject)
    return SensorChangedBody(sensor_id=sensor_id, changed=changed)


@router.post("/sensors/{sensor_id}/resume", summary="Resume a sensor", responses=errors(404, 409, 503))
async def resume(
    sensor_id: SensorParam,
    sensors: OperatedSensors,
    principal: FromPrincipal,
) -> SensorChangedBody:
    """Let a sensor be evaluated again, from its cursor; messages that waited come first."""
    changed = await sensors.change(sensor_id, "resumed", principal.subject)
    return SensorChangedBody(sensor_id=sensor_id, changed=changed)


@router.post("/sensors/{sensor_id}/reset", summary="Reset a sensor's cursor", responses=errors(404, 409, 503))
async def reset(
    sensor_id: SensorParam,
    sensors: OperatedSensors,
    principal: FromPrincipal,
) -> SensorChangedBody:
    """Let a sensor begin without a cursor. Runs that it has asked for under a run key are not made again."""
    changed = await sensors.change(sensor_id, "reset", principal.subject)
    return SensorChangedBody(sensor_id=sensor_id, changed=changed)


@router.put("/sensors/{sensor_id}/cursor", summary="Set a sensor's cursor", responses=errors(404, 409, 413, 503))
async def set_cursor(
    sensor_id: SensorParam,
    body: Annotated[
        SensorCursorBody,
        Body(openapi_examples={"name": {"summary": "Behind a file", "value": {"cursor": "incoming/a.csv"}}}),
    ],
    sensors: OperatedSensors,
    principal: FromPrincipal,
) -> SensorChangedBody:
    """Let a sensor go on from another cursor. An evaluation that is under way, from the old one, is not recorded."""
    changed = await sensors.change(sensor_id, "cursor_set", principal.subject, body.cursor)
    return SensorChangedBody(sensor_id=sensor_id, changed=changed)


@router.post(
    "/sensors/{sensor_id}/evaluate",
    summary="Evaluate a sensor now",
    response_description="What the evaluation came to, or of a dry run would.",
    responses=errors(404, 409, 413, 503),
)
async def evaluate(
    sensor_id: SensorParam,
    body: _Evaluate,
    sensors: WrittenSensors,
    deps: FromDeps,
) -> SensorDecision:
    """Evaluate a sensor without waiting for its interval. A dry run says what it would ask for, also of a paused one.

    What takes longer than half a minute is answered with 503, and goes on: the sensor shows what came of it.
    """
    asked = SensorAsked(
        dry_run=body.dry_run,
        cursor=body.cursor,
        payload=body.payload,
        has_payload="payload" in body.model_fields_set,
    )
    if not body.dry_run and (body.cursor is not None or asked.has_payload):
        raise _of_dry_run("payload" if body.cursor is None else "cursor")
    if body.cursor is not None:
        check_cursor(body.cursor)
    check_payload(body.payload)
    await sensors.deployed(sensor_id)
    return await deps.sensors.evaluate(sensors.scope, sensor_id, asked)


@router.post(
    "/sensors/{sensor_id}/messages",
    status_code=201,
    summary="Push a message to a sensor",
    response_model=SensorPushedBody,
    response_description="The message is in the ledger, and is evaluated soon.",
    responses={
        200: {"model": SensorPushedBody, "description": "The same message was pushed before: nothing was written."},
        **errors(404, 409, 413, 503),
    },
)
async def push(
    sensor_id: SensorParam,
    body: _Message,
    sensors: WrittenSensors,
    response: Response,
) -> SensorPushedBody:
    """Push a message to a sensor. Safe to repeat: a message id stands for one message.

    An id that was used for another payload is refused. While the sensor is paused, messages wait.
    """
    found = await sensors.push(sensor_id, body.message_id, body.payload)
    response.headers[REPLAYED_HEADER] = "true" if found.replayed else "false"
    if found.replayed:
        response.status_code = 200
    return SensorPushedBody(
        sensor_id=sensor_id, message_id=body.message_id, event_id=found.event_id, replayed=found.replayed
    )


def _of_dry_run(field: str) -> Refused:
    """Return the refusal of a cursor or payload for an evaluation that counts."""
    return refused(
        Code.INVALID_REQUEST,
        "cursor and payload are of a dry run: an evaluation that counts goes by the sensor's own",
        field=field,
        remedy="Give dry_run, or set the cursor, or push the message.",
    )


def _definitions(current: CurrentManifest | None) -> dict[str, Json]:
    found = [] if current is None else current.manifest.sensors
    return {str(one["sensor_id"]): one for one in found if "sensor_id" in one}


def _shown(snapshot: StateSnapshot, sensor_id: str, definition: Json | None) -> Json:
    row, own = sensor_row(snapshot, sensor_id), own_sensor_row(snapshot, sensor_id)
    stored = snapshot["sensor_state"].get(sensor_id)
    messages = waiting_messages(snapshot, sensor_id)
    oldest = min((one.received_at for one in messages), default=None)
    state = {"sensor_id": sensor_id} if stored is None else golden_row(SENSOR_STATE, stored)
    return state | {
        "cursor": sensor_cursor(row, own),
        "definition": definition,
        "paused": own is not None and own.paused,
        "changed_by": None if own is None else own.changed_by,
        "messages": len(messages),
        "messages_more": len(messages) == MOST_MESSAGES,
        "oldest_message_at": None if oldest is None else format_ms(oldest),
    }
