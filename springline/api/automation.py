"""Routes that read schedules, evaluations of sensors and backfills of the published state."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from operator import itemgetter
from typing import Annotated, Any, Literal

import msgspec
from fastapi import Path, Query, Response
from pydantic import Field

from springline import bounds
from springline.api.context import Reader, errors
from springline.api.lists import (
    ANY_OF,
    BackfillBody,
    FromAsked,
    Id,
    Instant,
    Json,
    LatestQuery,
    ListBody,
    PageQuery,
    answer,
    shown_rows,
    unknown,
)
from springline.api.manifests import FromManifests
from springline.api.runs import filled, milliseconds
from springline.api.urls import CheckedRouter
from springline.backfills.reading import counted, known_backfill, progress_of
from springline.control.schedules.deciding import jitter_of
from springline.definitions.instants import BadTiming
from springline.definitions.manifest import sensor_ids
from springline.ledger.identifiers import backfill_chunk_id
from springline.ledger.timestamps import format_ms
from springline.projection.golden import golden_row
from springline.projection.schema import (
    BACKFILL_CHUNKS,
    BACKFILLS,
    RUNS,
    SCHEDULE,
    SCHEDULE_DEFINITIONS,
    SCHEDULE_STATE,
    SCHEDULE_TICKS,
    SENSOR_EVALS,
    X_CHUNKS,
    X_DEFINITIONS,
    Row,
    Table,
)
from springline.published.lists import between, equals, status_of
from springline.published.snapshot import StateSnapshot, Where
from springline.runs.backfilled import TABLES as BACKFILL_TABLES
from springline.schedules.overdue import overdue_since_ms
from springline.schedules.reading import TABLES as SCHEDULE_TABLES
from springline.schedules.reading import KnownSchedule, known_schedule
from springline.ulids import ulid_time_ms

router = CheckedRouter(prefix="/api/v1", tags=["automation"])

BackfillState = Literal["PENDING", "RUNNING", "PAUSED", "SUCCEEDED", "FAILED", "CANCELLED"]
MOST_CHUNKS = 200
"""Chunks that the answer about a backfill holds: the latest."""
_OF_THE_END = ("outcome", "done", "failed", "skipped", "reason_code", "planned_at", "ended_at")
TickStatus = Literal["triggered", "skipped", "failed"]
EvalStatus = Literal["triggered", "no_new_data", "error", "skipped_stale_cursor"]
ScheduleParam = Annotated[str, Path(max_length=bounds.MAX_ID, description="The schedule's id.", examples=["daily-etl"])]
SensorParam = Annotated[str, Path(max_length=bounds.MAX_ID, description="The sensor's id.", examples=["files"])]
BackfillParam = Annotated[str, Path(max_length=bounds.MAX_ID, description="The backfill's id.", examples=["bf_1"])]


class SchedulesQuery(PageQuery):
    """Filters of schedules."""

    enabled: bool | None = None


class OfScheduleQuery(LatestQuery):
    """Filters of one schedule's ticks."""

    status: Annotated[list[TickStatus], ANY_OF] = []
    since: Annotated[Instant | None, Field(description="Scheduled for this instant or later.")] = None
    until: Annotated[Instant | None, Field(description="Scheduled for before this instant.")] = None


class TicksQuery(OfScheduleQuery):
    """Filters of ticks."""

    schedule_id: Id | None = None


class OfSensorQuery(LatestQuery):
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
    """List definitions of schedules.

    `last` is the latest tick decided on, null before the first; `settings` is what only we know of a definition;
    `next_due_at` the next instant, also while its jitter puts it off, and `overdue_since` the one that has come and is
    not decided on yet, null if there is none.
    """
    now_ms = time.time_ns() // 1_000_000
    wheres = filled(SCHEDULE_DEFINITIONS, enabled=query.enabled)

    def dress(snapshot: StateSnapshot, rows: Sequence[Row]) -> list[Json]:
        return [shown_schedule(snapshot, row, now_ms) for row in rows]

    also = [one for one in SCHEDULE_TABLES if one != "schedule_definitions"]
    return await asked.page("schedule_definitions", query, wheres, also=also, dress=dress)


@router.get(
    "/schedules/{schedule_id}/ticks",
    summary="List the ticks of a schedule",
    response_model=ListBody,
    responses=errors(404, 409, 503),
)
async def schedule_ticks(
    schedule_id: ScheduleParam, query: Annotated[OfScheduleQuery, Query()], asked: FromAsked
) -> Response:
    """List one schedule's ticks in the order of their ids, or with `latest` those first that were due last.

    `late_ms`: how long after its instant a tick was decided on.
    """
    snapshot = await asked.snapshot("schedule_definitions", "schedule_state", "schedule_ticks")
    if all(snapshot[table].get(schedule_id) is None for table in ("schedule_definitions", "schedule_state")):
        raise unknown("schedule", schedule_id, snapshot.revision)
    of_schedule = equals(SCHEDULE_TICKS, "schedule_id", [schedule_id])
    wheres = [of_schedule, *_spans(SCHEDULE_TICKS, "scheduled_for", query)]
    return await asked.page(
        "schedule_ticks", query, wheres, snapshot=snapshot, dress=_with_lateness, time="scheduled_for"
    )


@router.get("/ticks", summary="List ticks", response_model=ListBody, responses=errors(409, 503))
async def ticks(query: Annotated[TicksQuery, Query()], asked: FromAsked) -> Response:
    """List ticks of all schedules in the order of their ids, or with `latest` those first that were due last."""
    wheres = filled(SCHEDULE_TICKS, schedule_id=query.schedule_id)
    spans = _spans(SCHEDULE_TICKS, "scheduled_for", query)
    return await asked.page("schedule_ticks", query, wheres + spans, dress=_with_lateness, time="scheduled_for")


@router.get(
    "/sensors/{sensor_id}/evaluations",
    summary="List the evaluations of a sensor",
    response_model=ListBody,
    responses=errors(404, 409, 503),
)
async def sensor_evaluations(
    sensor_id: SensorParam,
    query: Annotated[OfSensorQuery, Query()],
    asked: FromAsked,
    workspace: Reader,
    manifests: FromManifests,
) -> Response:
    """List one sensor's evaluations in the order of their ids, or with `latest` the latest first.

    There are none of one that is deployed and not evaluated yet.
    """
    snapshot = await asked.snapshot("sensor_state", "sensor_evals")
    if snapshot["sensor_state"].get(sensor_id) is None:
        current = await manifests.latest(workspace.store, workspace.scope)
        if sensor_id not in sensor_ids(None if current is None else current.manifest):
            raise unknown("sensor", sensor_id, snapshot.revision)
    of_sensor = equals(SENSOR_EVALS, "sensor_id", [sensor_id])
    wheres = [of_sensor, *_spans(SENSOR_EVALS, "evaluated_at", query)]
    return await asked.page("sensor_evals", query, wheres, snapshot=snapshot, time="evaluated_at")


@router.get("/evaluations", summary="List evaluations", response_model=ListBody, responses=errors(409, 503))
async def evaluations(query: Annotated[EvaluationsQuery, Query()], asked: FromAsked) -> Response:
    """List evaluations of all sensors in the order of their ids, or with `latest` the latest first."""
    wheres = filled(SENSOR_EVALS, sensor_id=query.sensor_id)
    spans = _spans(SENSOR_EVALS, "evaluated_at", query)
    return await asked.page("sensor_evals", query, wheres + spans, time="evaluated_at")


@router.get("/backfills", summary="List backfills", response_model=ListBody, responses=errors(409, 503))
async def backfills(query: Annotated[BackfillsQuery, Query()], asked: FromAsked) -> Response:
    """List backfills in the order of their ids; `progress` is null of those that another system has made."""
    now_ms = time.time_ns() // 1_000_000

    def far(snapshot: StateSnapshot, name: str) -> Json | None:
        known = known_backfill(snapshot, name)
        return None if known is None else progress_of(known, counted(snapshot, name, now_ms), now_ms).model_dump()

    def dress(snapshot: StateSnapshot, rows: Sequence[Row]) -> list[Json]:
        return [one | {"progress": far(snapshot, one["backfill_id"])} for one in shown_rows("backfills", rows)]

    also = [one for one in BACKFILL_TABLES if one != "backfills"]
    return await asked.page("backfills", query, filled(BACKFILLS, state=query.state), also=also, dress=dress)


@router.get(
    "/backfills/{backfill_id}", summary="A backfill", response_model=BackfillBody, responses=errors(404, 409, 503)
)
async def backfill(backfill_id: BackfillParam, asked: FromAsked) -> Response:
    """Show a backfill: how far it is, its latest chunks in order, and the states of their runs as they are now.

    `GET /backfills/{id}/chunks` lists all chunks.
    """
    snapshot = await asked.snapshot(*BACKFILL_TABLES, "runs")
    now_ms = time.time_ns() // 1_000_000

    def read() -> Response:
        row = snapshot["backfills"].get(backfill_id)
        if row is None:
            raise unknown("backfill", backfill_id, snapshot.revision)
        known = known_backfill(snapshot, backfill_id)
        counts = counted(snapshot, backfill_id, now_ms)
        chunks = _latest_chunks(snapshot, backfill_id, counts.planned)
        states = dict(sorted(Counter(one["run_state"] or "NONE" for one in chunks).items()))
        body: dict[str, Any] = {
            "backfill": golden_row(BACKFILLS, row),
            "chunks": chunks,
            "run_states": states,
            "settings": None if known is None else msgspec.to_builtins(known.member),
            "progress": None if known is None else progress_of(known, counts, now_ms).model_dump(),
        }
        return answer(snapshot.revision, body)

    return await asyncio.to_thread(read)


def _latest_chunks(snapshot: StateSnapshot, backfill_id: str, planned: int) -> list[Json]:
    """Return the latest chunks of a backfill, in order, with their ends and the states of their runs."""
    rows = snapshot["backfill_chunks"]
    if planned > MOST_CHUNKS:
        names = [backfill_chunk_id(backfill_id, index) for index in range(planned - MOST_CHUNKS, planned)]
        gotten = rows.get_all(names)
        found = [gotten[name] for name in names if name in gotten]
    else:
        of_it = rows.select(equals(BACKFILL_CHUNKS, "backfill_id", [backfill_id]))
        order = itemgetter(BACKFILL_CHUNKS.index("chunk_index"), BACKFILL_CHUNKS.index("chunk_id"))
        found = sorted(of_it, key=order)
    ends = snapshot["x_chunks"].get_all(map(BACKFILL_CHUNKS.key_of, found))
    return _shown_chunks(snapshot, [(row, ends.get(BACKFILL_CHUNKS.key_of(row))) for row in found])


def chunks_by_ends(snapshot: StateSnapshot, ends: Sequence[Row]) -> list[Json]:
    """Return the chunks that rows of our own table are of, as answers show them, with the states of their runs."""
    rows = snapshot["backfill_chunks"].get_all(map(X_CHUNKS.key_of, ends))
    return _shown_chunks(snapshot, [(rows.get(X_CHUNKS.key_of(end)), end) for end in ends])


def _shown_chunks(snapshot: StateSnapshot, found: Sequence[tuple[Row | None, Row | None]]) -> list[Json]:
    """Return chunks as answers show them, each from its row and our own of it, with the states of their runs."""
    run_ids = [None if row is None else _run_of_chunk(row) for row, _ in found]
    runs = snapshot["runs"].get_all(one for one in run_ids if one is not None)
    return [
        _shown_chunk(row, {} if end is None else golden_row(X_CHUNKS, end), None if name is None else runs.get(name))
        for (row, end), name in zip(found, run_ids, strict=True)
    ]


def _run_of_chunk(row: Row) -> str | None:
    run_id = row[BACKFILL_CHUNKS.index("run_id")]
    return run_id if isinstance(run_id, str) else None


def _shown_chunk(row: Row | None, end: Json, run: Row | None) -> Json:
    shown = {} if row is None else golden_row(BACKFILL_CHUNKS, row)
    told = {name: end[name] for name in _OF_THE_END if name in end}
    return shown | told | {"run_state": None if run is None else run[RUNS.index("state")]}


def _spans(table: Table, column: str, query: OfScheduleQuery | OfSensorQuery) -> list[Where]:
    wheres: list[Where] = []
    if query.status:
        wheres.append(status_of(table, "status", query.status))
    if query.since is not None or query.until is not None:
        wheres.append(between(table, column, milliseconds(query.since), milliseconds(query.until)))
    return wheres


def shown_schedule(snapshot: StateSnapshot, row: Row, now_ms: int) -> Json:
    """Return a schedule with its settings, its last tick, and when it is due next."""
    schedule_id = str(SCHEDULE_DEFINITIONS.key_of(row))
    last = snapshot["schedule_state"].get(schedule_id)
    own = snapshot["x_definitions"].get((SCHEDULE, schedule_id))
    settings = None if own is None else golden_row(X_DEFINITIONS, own).get("settings")
    known = known_schedule(snapshot, schedule_id)
    late_ms = None if known is None else overdue_since_ms(snapshot, known.view, now_ms)
    return golden_row(SCHEDULE_DEFINITIONS, row) | {
        "last": None if last is None else golden_row(SCHEDULE_STATE, last),
        "settings": settings or {},
        "next_due_at": next_due_at(known, now_ms),
        "overdue_since": None if late_ms is None else format_ms(late_ms),
    }


def next_due_at(known: KnownSchedule | None, now_ms: int) -> str | None:
    """Return the next instant of a schedule; None if there is none, it is off, or another system's.

    One that has come and that its jitter still puts off is the next: nothing could be decided on it yet.
    """
    if known is None or not known.view.enabled or known.view.deleted:
        return None
    try:
        due_to = now_ms // 1_000 - jitter_of(known.view)
        upcoming = next(known.view.timing().after(max(known.view.evaluated_to, due_to)), None)
    except BadTiming:
        return None
    return None if upcoming is None else format_ms(upcoming * 1_000)


def _with_lateness(_snapshot: StateSnapshot, rows: Sequence[Row]) -> list[Json]:
    return [_late(row, shown) for row, shown in zip(rows, shown_rows("schedule_ticks", rows), strict=True)]


def _late(row: Row, shown: Json) -> Json:
    decided = ulid_time_ms(str(row[SCHEDULE_TICKS.index("row_version")]))
    due: Any = row[SCHEDULE_TICKS.index("scheduled_for")]
    if decided is None or due is None:
        return shown
    return shown | {"decided_at": format_ms(decided), "late_ms": decided - due}
