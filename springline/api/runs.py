"""Routes that read runs, tasks, partitions and timers of the published state."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated, Any, Literal, cast

from fastapi import Path, Query, Response
from pydantic import AfterValidator, Field

from springline import bounds
from springline.api.context import FromDeps, errors
from springline.api.lists import (
    ANY_OF,
    FromAsked,
    Id,
    Instant,
    Json,
    LatestQuery,
    ListBody,
    PageQuery,
    RunBody,
    answer,
    metadata_of,
    metadata_told,
    notes_told,
    shown_rows,
)
from springline.api.manifests import FromManifests
from springline.api.urls import CheckedRouter
from springline.ledger.timestamps import parse_timestamp
from springline.projection.golden import golden_row
from springline.projection.rows import RunRow, TaskRow
from springline.projection.schema import PARTITION_STATUS, RUNS, TASKS, TIMERS, X_ATTEMPTS, X_NOTES, Row, Table
from springline.published.lists import between, equals, labelled
from springline.published.snapshot import StateSnapshot, Where
from springline.runs.pools import waits_of_run

router = CheckedRouter(prefix="/api/v1", tags=["runs"])

RunState = Literal["TRIGGERED", "RUNNING", "SUCCEEDED", "FAILED", "CANCELLED"]
TaskState = Literal[
    "PLANNED",
    "BLOCKED",
    "READY",
    "DISPATCHED",
    "RUNNING",
    "RETRY_WAIT",
    "SKIPPED",
    "CANCELLED",
    "FAILED",
    "SUCCEEDED",
]
TimerState = Literal["SCHEDULED", "FIRED", "CANCELLED"]
TimerType = Literal["RETRY", "HEARTBEAT_CHECK", "CRON", "SLA_CHECK"]
RunParam = Annotated[
    str, Path(max_length=bounds.MAX_ID, description="The run's id.", examples=["run_j6jvo6bdv773wa242jsrxjtwti"])
]


_LABELS = r"^[^=\u0000]+=[^\u0000]*$"


def _label(text: str) -> str:
    name, separator, _ = text.partition("=")
    if not separator or not name:
        raise ValueError(f"{text!r} is not NAME=VALUE")
    return text


class RunsQuery(LatestQuery):
    """Filters of runs; all that are given must hold."""

    state: Annotated[list[RunState], ANY_OF] = []
    run_key: Annotated[Id | None, Field(description="The key the run was asked for under.")] = None
    since: Annotated[Instant | None, Field(description="Triggered at this instant or later.")] = None
    until: Annotated[Instant | None, Field(description="Triggered before this instant.")] = None
    label: Annotated[
        list[
            Annotated[
                str, AfterValidator(_label), Field(max_length=bounds.MAX_LABEL, json_schema_extra={"pattern": _LABELS})
            ]
        ],
        Field(max_length=bounds.MAX_FILTER_VALUES, description="NAME=VALUE; may be repeated, all must hold."),
    ] = []


class RunTasksQuery(PageQuery):
    """Filters of one run's tasks."""

    state: Annotated[list[TaskState], ANY_OF] = []
    asset_key: Id | None = None


class TasksQuery(RunTasksQuery):
    """Filters of tasks."""

    run_id: Id | None = None


class AttemptsQuery(PageQuery):
    """Filters of one run's attempts."""

    task_key: Id | None = None


class PartitionsQuery(PageQuery):
    """Filters of partitions."""

    asset_key: Id | None = None


class TimersQuery(PageQuery):
    """Filters of timers."""

    state: Annotated[list[TimerState], ANY_OF] = []
    timer_type: Annotated[list[TimerType], ANY_OF] = []
    run_id: Id | None = None


@router.get("/runs", summary="List runs", response_model=ListBody, responses=errors(409, 503))
async def runs(query: Annotated[RunsQuery, Query()], asked: FromAsked) -> Response:
    """List runs in the order of their ids, or with `latest` those first that were triggered last."""
    wheres = filled(RUNS, state=query.state, run_key=query.run_key)
    if query.since is not None or query.until is not None:
        wheres.append(between(RUNS, "triggered_at", milliseconds(query.since), milliseconds(query.until)))
    if query.label:
        pairs = [one.partition("=") for one in query.label]
        wheres.append(labelled(RUNS, "labels", [(name, value) for name, _, value in pairs]))
    return await asked.page("runs", query, wheres, time="triggered_at")


@router.get("/runs/{run_id}", summary="A run", response_model=RunBody, responses=errors(404, 409, 503))
async def run(run_id: RunParam, asked: FromAsked, deps: FromDeps, manifests: FromManifests) -> Response:
    """Show a run with its tasks, what they wait for, its entries of the catalog, what its tasks have written, what the
    checks of it have found, and what their functions have told.
    """
    of_tasks = ("tasks", "dep_satisfaction", "catalog_run_index", X_ATTEMPTS.name, X_NOTES.name)
    snapshot = await asked.snapshot("runs", *of_tasks)
    of_catalog = (asked.scope.tenant, asked.scope.workspace, run_id)

    def read() -> tuple[Row, list[Row], dict[str, Any]] | None:
        row = snapshot["runs"].get(run_id)
        if row is None:
            return None
        tasks = snapshot["tasks"].below((run_id,))
        attempts = shown_rows(X_ATTEMPTS.name, snapshot[X_ATTEMPTS.name].below((run_id,)))
        shown = {
            "run": golden_row(RUNS, row),
            "tasks": shown_rows("tasks", tasks),
            "dependencies": shown_rows("dep_satisfaction", snapshot["dep_satisfaction"].below((run_id,))),
            "catalog": shown_rows("catalog_run_index", snapshot["catalog_run_index"].below(of_catalog)),
            "writes": _told(attempts, "tables"),
            "checks": _told(attempts, "checks"),
            "metadata": metadata_told(snapshot, (run_id,)),
            "notes": notes_told(snapshot, run_id),
        }
        return row, tasks, shown

    # Off the event loop, because it decodes parts of files.
    held = await asyncio.to_thread(read)
    if held is None:
        raise await asked.no_run(run_id)
    row, tasks, shown = held
    found = RunRow(*cast(Any, row)), [TaskRow(*cast(Any, task)) for task in tasks]
    waits_for = await waits_of_run(deps.store, asked.published, manifests, asked.scope, *found)
    return answer(snapshot.revision, {**shown, "waits_for": waits_for})


def _with_metadata(held: StateSnapshot, rows: Sequence[Row]) -> list[Json]:
    """Return attempts with what their functions have told."""
    told = metadata_of(held, [cast(Any, X_ATTEMPTS.key_of(row)) for row in rows])
    return [{**shown, "metadata": one} for shown, one in zip(shown_rows(X_ATTEMPTS.name, rows), told, strict=True)]


def _told(attempts: Sequence[Json], column: str) -> list[Json]:
    """Return what attempts have written (`tables`), or what their checks have found (`checks`).

    One that found its task sealed tells what the one before it has sealed.
    """
    return [{name: one[name] for name in ("task_key", "attempt", column)} for one in attempts if one.get(column)]


@router.get(
    "/runs/{run_id}/tasks", summary="List the tasks of a run", response_model=ListBody, responses=errors(404, 409, 503)
)
async def run_tasks(run_id: RunParam, query: Annotated[RunTasksQuery, Query()], asked: FromAsked) -> Response:
    """List one run's tasks in the order of their keys."""
    snapshot = await asked.snapshot("runs", "tasks")
    if await asyncio.to_thread(snapshot["runs"].get, run_id) is None:
        raise await asked.no_run(run_id)
    wheres = filled(TASKS, state=query.state, asset_key=query.asset_key)
    return await asked.page("tasks", query, wheres, prefix=(run_id,), snapshot=snapshot)


@router.get(
    "/runs/{run_id}/attempts",
    summary="List the attempts of a run",
    response_model=ListBody,
    responses=errors(404, 409, 503),
)
async def run_attempts(run_id: RunParam, query: Annotated[AttemptsQuery, Query()], asked: FromAsked) -> Response:
    """List the attempts of one run that have ended, in the order of their tasks' keys and of their ids."""
    snapshot = await asked.snapshot("runs", X_ATTEMPTS.name, X_NOTES.name)
    if await asyncio.to_thread(snapshot["runs"].get, run_id) is None:
        raise await asked.no_run(run_id)
    prefix = (run_id,) if query.task_key is None else (run_id, query.task_key)
    return await asked.page(X_ATTEMPTS.name, query, prefix=prefix, snapshot=snapshot, dress=_with_metadata)


@router.get("/tasks", summary="List tasks", response_model=ListBody, responses=errors(409, 503))
async def tasks(query: Annotated[TasksQuery, Query()], asked: FromAsked) -> Response:
    """List tasks in the order of their runs' ids and their keys."""
    wheres = filled(TASKS, state=query.state, asset_key=query.asset_key)
    return await asked.page("tasks", query, wheres, prefix=() if query.run_id is None else (query.run_id,))


@router.get("/partitions", summary="List partitions", response_model=ListBody, responses=errors(409, 503))
async def partitions(query: Annotated[PartitionsQuery, Query()], asked: FromAsked) -> Response:
    """List what is known of partitions, in the order of assets and partition keys."""
    prefix = () if query.asset_key is None else (query.asset_key,)
    return await asked.page(PARTITION_STATUS.name, query, prefix=prefix)


@router.get("/timers", summary="List timers", response_model=ListBody, responses=errors(409, 503))
async def timers(query: Annotated[TimersQuery, Query()], asked: FromAsked) -> Response:
    """List timers in the order of their ids."""
    wheres = filled(TIMERS, state=query.state, timer_type=query.timer_type, run_id=query.run_id)
    return await asked.page("timers", query, wheres)


def filled(table: Table, **wanted: Sequence[str] | bool | None) -> list[Where]:
    """Return column filters for the given parameters: one value, or several of which one must match."""
    wheres = []
    for column, value in wanted.items():
        if isinstance(value, str | bool):
            wheres.append(equals(table, column, [value]))
        elif value:
            wheres.append(equals(table, column, value))
    return wheres


def milliseconds(instant: str | None) -> int | None:
    """Return an instant as epoch milliseconds, rounded up, so that a row within its millisecond lies before it."""
    return None if instant is None else -(-parse_timestamp(instant) // 1_000_000)
