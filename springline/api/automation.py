"""Routes that read schedules, sensors and backfills of the published state."""

from __future__ import annotations

import asyncio
from collections import Counter
from operator import itemgetter
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Response
from pydantic import Field

from springline import bounds
from springline.api.context import errors
from springline.api.lists import (
    ANY_OF,
    BackfillBody,
    FromAsked,
    Id,
    Instant,
    Json,
    ListBody,
    PageQuery,
    answer,
    unknown,
)
from springline.api.runs import filled, milliseconds
from springline.projection.golden import golden_row
from springline.projection.schema import (
    BACKFILL_CHUNKS,
    BACKFILLS,
    RUNS,
    SCHEDULE_DEFINITIONS,
    SCHEDULE_STATE,
    SCHEDULE_TICKS,
    SENSOR_EVALS,
    SENSOR_STATE,
    Row,
    Table,
)
from springline.published.lists import between, equals, status_of
from springline.published.snapshot import StateSnapshot, Where

router = APIRouter(prefix="/api/v1", tags=["automation"])

BackfillState = Literal["PENDING", "RUNNING", "PAUSED", "SUCCEEDED", "FAILED", "CANCELLED"]
TickStatus = Literal["triggered", "skipped", "failed"]
EvalStatus = Literal["triggered", "no_new_data", "error", "skipped_stale_cursor"]
ScheduleParam = Annotated[str, Path(max_length=bounds.MAX_ID, description="The schedule's id.", examples=["daily-etl"])]
SensorParam = Annotated[str, Path(max_length=bounds.MAX_ID, description="The sensor's id.", examples=["files"])]
BackfillParam = Annotated[str, Path(max_length=bounds.MAX_ID, description="The backfill's id.", examples=["bf_1"])]


class SchedulesQuery(PageQuery):
    """Filters of schedules."""

    enabled: bool | None = None


class OfScheduleQuery(PageQuery):
    """Filters of one schedule's ticks."""

    status: Annotated[list[TickStatus], ANY_OF] = []
    since: Annotated[Instant | None, Field(description="Scheduled for this instant or later.")] = None
    until: Annotated[Instant | None, Field(description="Scheduled for before this instant.")] = None


class TicksQuery(OfScheduleQuery):
    """Filters of ticks."""

    schedule_id: Id | None = None


class OfSensorQuery(PageQuery):
    """Filters of one sensor's evaluations."""

    status: Annotated[list[EvalStatus], ANY_OF] = []
    since: Annotated[Instant | None, Field(description="Evaluated at this instant or later.")] = None
    until: Annotated[Instant | None, Field(description="Evaluated before this instant.")] = None


class EvaluationsQuery(OfSensorQuery):
    """Filters of evaluations."""

    sensor_id: Id | None = None


class BackfillsQuery(PageQuery):
    """Filters of backfills."""

    state: Annotated[list[BackfillState], ANY_OF] = []


@router.get("/schedules", summary="List schedules", response_model=ListBody, responses=errors(409, 503))
async def schedules(query: Annotated[SchedulesQuery, Query()], asked: FromAsked) -> Response:
    """List definitions of schedules; `last` is the latest tick decided on, null before the first."""
    wheres = filled(SCHEDULE_DEFINITIONS, enabled=query.enabled)
    return await asked.page("schedule_definitions", query, wheres, also=["schedule_state"], dress=_with_last_tick)


@router.get(
    "/schedules/{schedule_id}/ticks",
    summary="List the ticks of a schedule",
    response_model=ListBody,
    responses=errors(404, 409, 503),
)
async def schedule_ticks(
    schedule_id: ScheduleParam, query: Annotated[OfScheduleQuery, Query()], asked: FromAsked
) -> Response:
    """List one schedule's ticks in the order of their ids."""
    snapshot = await asked.snapshot("schedule_definitions", "schedule_state", "schedule_ticks")
    if all(snapshot[table].get(schedule_id) is None for table in ("schedule_definitions", "schedule_state")):
        raise unknown("schedule", schedule_id, snapshot.revision)
    of_schedule = equals(SCHEDULE_TICKS, "schedule_id", [schedule_id])
    wheres = [of_schedule, *_spans(SCHEDULE_TICKS, "scheduled_for", query)]
    return await asked.page("schedule_ticks", query, wheres, snapshot=snapshot)


@router.get("/ticks", summary="List ticks", response_model=ListBody, responses=errors(409, 503))
async def ticks(query: Annotated[TicksQuery, Query()], asked: FromAsked) -> Response:
    """List ticks of all schedules in the order of their ids."""
    wheres = filled(SCHEDULE_TICKS, schedule_id=query.schedule_id)
    return await asked.page("schedule_ticks", query, wheres + _spans(SCHEDULE_TICKS, "scheduled_for", query))


@router.get("/sensors", summary="List sensors", response_model=ListBody, responses=errors(409, 503))
async def sensors(query: Annotated[PageQuery, Query()], asked: FromAsked) -> Response:
    """List where sensors stand: cursor, version of their state, last evaluation."""
    return await asked.page(SENSOR_STATE.name, query)


@router.get(
    "/sensors/{sensor_id}/evaluations",
    summary="List the evaluations of a sensor",
    response_model=ListBody,
    responses=errors(404, 409, 503),
)
async def sensor_evaluations(
    sensor_id: SensorParam, query: Annotated[OfSensorQuery, Query()], asked: FromAsked
) -> Response:
    """List one sensor's evaluations in the order of their ids."""
    snapshot = await asked.snapshot("sensor_state", "sensor_evals")
    if snapshot["sensor_state"].get(sensor_id) is None:
        raise unknown("sensor", sensor_id, snapshot.revision)
    of_sensor = equals(SENSOR_EVALS, "sensor_id", [sensor_id])
    wheres = [of_sensor, *_spans(SENSOR_EVALS, "evaluated_at", query)]
    return await asked.page("sensor_evals", query, wheres, snapshot=snapshot)


@router.get("/evaluations", summary="List evaluations", response_model=ListBody, responses=errors(409, 503))
async def evaluations(query: Annotated[EvaluationsQuery, Query()], asked: FromAsked) -> Response:
    """List evaluations of all sensors in the order of their ids."""
    wheres = filled(SENSOR_EVALS, sensor_id=query.sensor_id)
    return await asked.page("sensor_evals", query, wheres + _spans(SENSOR_EVALS, "evaluated_at", query))


@router.get("/backfills", summary="List backfills", response_model=ListBody, responses=errors(409, 503))
async def backfills(query: Annotated[BackfillsQuery, Query()], asked: FromAsked) -> Response:
    """List backfills in the order of their ids."""
    return await asked.page("backfills", query, filled(BACKFILLS, state=query.state))


@router.get(
    "/backfills/{backfill_id}", summary="A backfill", response_model=BackfillBody, responses=errors(404, 409, 503)
)
async def backfill(backfill_id: BackfillParam, asked: FromAsked) -> Response:
    """Show a backfill with its chunks in order, and the states of their runs as they are now."""
    snapshot = await asked.snapshot("backfills", "backfill_chunks", "runs")

    def read() -> Response:
        row = snapshot["backfills"].get(backfill_id)
        if row is None:
            raise unknown("backfill", backfill_id, snapshot.revision)
        of_backfill = sorted(
            snapshot["backfill_chunks"].select(equals(BACKFILL_CHUNKS, "backfill_id", [backfill_id])),
            key=itemgetter(BACKFILL_CHUNKS.index("chunk_index"), BACKFILL_CHUNKS.index("chunk_id")),
        )
        chunks = [_with_run_state(snapshot, chunk) for chunk in of_backfill]
        states = Counter(chunk["run_state"] or "NONE" for chunk in chunks)
        body: dict[str, Any] = {"backfill": golden_row(BACKFILLS, row), "chunks": chunks, "run_states": states}
        return answer(snapshot.revision, body)

    # Off the event loop: parts of files are decoded for it.
    return await asyncio.to_thread(read)


def _spans(table: Table, column: str, query: OfScheduleQuery | OfSensorQuery) -> list[Where]:
    wheres: list[Where] = []
    if query.status:
        wheres.append(status_of(table, "status", query.status))
    if query.since is not None or query.until is not None:
        wheres.append(between(table, column, milliseconds(query.since), milliseconds(query.until)))
    return wheres


def _with_last_tick(snapshot: StateSnapshot, row: Row, shown: Json) -> Json:
    last = snapshot["schedule_state"].get(SCHEDULE_DEFINITIONS.key_of(row))
    return shown | {"last": None if last is None else golden_row(SCHEDULE_STATE, last)}


def _with_run_state(snapshot: StateSnapshot, chunk: Row) -> Json:
    run_id = chunk[BACKFILL_CHUNKS.index("run_id")]
    run = snapshot["runs"].get(run_id) if isinstance(run_id, str) else None
    return golden_row(BACKFILL_CHUNKS, chunk) | {"run_state": None if run is None else run[RUNS.index("state")]}
