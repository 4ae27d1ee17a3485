"""The report over HTTP: one HTML page of what happened in the workspace and what is wrong now."""

from __future__ import annotations

import asyncio
import time
from typing import Annotated, Final

from fastapi import Query, Request, Response
from fastapi.responses import HTMLResponse
from pydantic import BaseModel, BeforeValidator, Field

from springline import bounds
from springline.api.context import Reader, errors
from springline.api.lists import REVISION_HEADER, Instant
from springline.api.manifests import FromManifests
from springline.api.runs import milliseconds
from springline.api.urls import CheckedRouter
from springline.errors import Code, refused
from springline.ledger.timestamps import format_ms
from springline.published.reader import PublishedReader
from springline.report.facts import TimeSpan
from springline.report.gathering import TABLES, gather
from springline.report.page import POLICY, page_of

router = CheckedRouter(tags=["service"])

PATH: Final = "/report"
DEFAULT_HOURS: Final = 24
MOST_HOURS: Final = 24 * 366
_HEADERS: Final = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


class ReportQuery(BaseModel):
    """The time that a report is about."""

    since: Annotated[Instant | None, Field(description="From this instant; by default `hours` before the end.")] = None
    until: Annotated[Instant | None, Field(description="Up to this instant; by default now.")] = None
    hours: Annotated[
        int,
        Field(ge=1, le=MOST_HOURS, description="How long, without `since`."),
        BeforeValidator(bounds.whole),
    ] = DEFAULT_HOURS


@router.get(
    PATH,
    summary="A report for people",
    response_model=None,
    response_description="One HTML page that needs nothing else.",
    # Errors stay JSON: a response class of the route would be that of all answers.
    responses={200: {"content": {"text/html": {"schema": {"type": "string"}}}}, **errors(409, 503)},
)
async def report(
    query: Annotated[ReportQuery, Query()], workspace: Reader, manifests: FromManifests, request: Request
) -> Response:
    """Show what happened in the workspace and what is wrong now, as one HTML page that works offline.

    Runs with their attempts, ticks, sensors, backfills, partitions, commits of tasks and the ledger's lag, all from
    rows of the published state. What is too much to be drawn is counted.
    """
    now_ms = time.time_ns() // 1_000_000
    span = span_of(milliseconds(query.since), milliseconds(query.until), query.hours, now_ms)
    published: PublishedReader = request.app.state.published
    snapshot = await published.snapshot(workspace.scope, TABLES)
    head = await published.head(workspace.scope)
    current = await manifests.latest(workspace.store, workspace.scope)
    manifest = None if current is None else current.manifest

    def make() -> bytes:
        return page_of(gather(workspace.scope, head, snapshot, manifest, span, now_ms)).encode()

    # Off the event loop: a report looks at every run of its time.
    page = await asyncio.to_thread(make)
    return HTMLResponse(page, headers=_HEADERS | {REVISION_HEADER: snapshot.revision.manifest_id})


def span_of(since_ms: int | None, until_ms: int | None, hours: int, now_ms: int) -> TimeSpan:
    """Return the time that a report is about. Raises `Refused` (INVALID_REQUEST) if it is none or too long."""
    until = now_ms if until_ms is None else until_ms
    since = until - hours * 3_600_000 if since_ms is None else since_ms
    if since >= until:
        raise refused(
            Code.INVALID_REQUEST,
            f"the report's time begins at {_told(since)} and ends at {_told(until)}, not behind it",
            field="since",
            value=_told(since),
            remedy="Give an instant before the end, or hours instead.",
        )
    if until - since > MOST_HOURS * 3_600_000 or not 0 <= since < _LAST_MS or until >= _LAST_MS:
        raise refused(
            Code.INVALID_REQUEST,
            f"the report's time from {_told(since)} to {_told(until)} cannot be shown",
            field="since",
            value=_told(since),
            remedy=f"Give a time of at most {MOST_HOURS // 24} days, behind 1970.",
        )
    return TimeSpan(since, until)


_LAST_MS: Final = 253_402_300_799_000 - 366 * 86_400_000


def _told(at_ms: int) -> str:
    try:
        return format_ms(at_ms)
    except (ValueError, OverflowError, OSError):
        return str(at_ms)
