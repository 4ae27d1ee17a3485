"""The route of what attempts have printed."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, cast

from fastapi import Query, Request
from pydantic import BaseModel, Field

from springline import bounds
from springline.api.context import errors
from springline.api.lists import FromAsked, Id, unknown
from springline.api.runs import RunParam
from springline.api.urls import CheckedRouter
from springline.api.workspaces import Workspaces
from springline.errors import Code, refused
from springline.ledger.timestamps import format_ms
from springline.projection.rows import AttemptRow, TaskRow
from springline.projection.schema import X_ATTEMPTS
from springline.runs.attempt_logs import read_log

router = CheckedRouter(prefix="/api/v1", tags=["runs"])

MOST_CHUNKS = 32
"""Of one answer: 4 MiB, or little more."""


class LogQuery(BaseModel):
    """Whose log, and from where on."""

    task_key: Id
    attempt: Annotated[
        int | None,
        Field(ge=1, le=bounds.MAX_VERSION, description="Counted from 1; by default the last one that has begun."),
    ] = None
    after: Annotated[
        int, Field(ge=0, le=bounds.MAX_VERSION - MOST_CHUNKS, description="`next` of the answer before; 0: the begin.")
    ] = 0
    limit: Annotated[int, Field(ge=1, le=MOST_CHUNKS, description="Most chunks of lines.")] = MOST_CHUNKS


class LogLineBody(BaseModel):
    """A line that an attempt has printed, and when its worker read it."""

    at: str
    text: str


class LogBody(BaseModel):
    """Lines of an attempt, in order."""

    run_id: str
    task_key: str
    attempt: int | None = Field(description="Null: none has begun.")
    lines: list[LogLineBody]
    next: int = Field(description="To be given as `after`, for what comes behind these lines.")
    more: bool = Field(description="There may be more behind them, already or soon.")
    ended: bool = Field(description="The attempt has ended: what it has printed is kept, as far as it can be.")


@router.get(
    "/runs/{run_id}/logs", summary="The log of an attempt", response_model=LogBody, responses=errors(404, 409, 503)
)
async def run_logs(
    run_id: RunParam, query: Annotated[LogQuery, Query()], asked: FromAsked, request: Request
) -> LogBody:
    """Show what an attempt of a task has printed and logged, and the error that has ended it.

    Workers keep at most 4 MiB of an attempt, and the end of what is longer, about 2 s after it was printed.
    """
    snapshot = await asked.snapshot("runs", "tasks", X_ATTEMPTS.name)

    def read() -> tuple[TaskRow, dict[int, int]] | None:
        if snapshot["runs"].get(run_id) is None:
            return None
        row = snapshot["tasks"].get((run_id, query.task_key))
        if row is None:
            raise unknown("task", query.task_key, snapshot.revision)
        ended = [AttemptRow(*cast(Any, one)) for one in snapshot[X_ATTEMPTS.name].below((run_id, query.task_key))]
        return TaskRow(*cast(Any, row)), {one.attempt: one.log_chunks or 0 for one in ended}

    held = await asyncio.to_thread(read)
    if held is None:
        raise await asked.no_run(run_id)
    task, ended = held
    latest = max([task.attempt, *ended])
    attempt = query.attempt or latest
    if query.attempt is not None and query.attempt > latest:
        raise refused(
            Code.NOT_FOUND,
            f"task {query.task_key!r} of run {run_id!r} has had {latest} attempts",
            field="attempt",
            value=query.attempt,
            remedy="Leave it out for the last one.",
        )
    if attempt == 0:
        return LogBody(run_id=run_id, task_key=query.task_key, attempt=None, lines=[], next=0, more=True, ended=False)
    workspaces: Workspaces = request.app.state.workspaces
    store = workspaces.of(asked.scope).store
    found = await read_log(
        store, run_id, query.task_key, attempt, after=query.after, most=query.limit, written=ended.get(attempt, 0)
    )
    is_over = attempt in ended or attempt < task.attempt
    return LogBody(
        run_id=run_id,
        task_key=query.task_key,
        attempt=attempt,
        lines=[LogLineBody(at=format_ms(one.at_ms), text=one.text) for chunk in found for one in chunk.lines],
        next=found[-1].number if found else query.after,
        more=len(found) == query.limit or not is_over,
        ended=is_over,
    )
