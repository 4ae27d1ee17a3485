"""Requests and answers of lists of the published state: filters, pages, and the revision that they were read from."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, cast

import orjson
from fastapi import Depends, Request, Response
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from springline import bounds
from springline.api.context import Reader
from springline.control.runs.apart import detail_of, note_words
from springline.control.runs.ends import METADATA, metadata_in
from springline.errors import Code, Refused, refused
from springline.ledger.timestamps import parse_timestamp
from springline.paths import Scope
from springline.projection.golden import golden_row
from springline.projection.rows import NoteRow
from springline.projection.schema import RUN_KEY_INDEX, RUNS, TABLES, X_NOTES, Row
from springline.published.lists import all_of, cursor_for, key_of_cursor, moment_of_cursor
from springline.published.reader import PublishedReader
from springline.published.snapshot import LatestPage, Page, Revision, StateSnapshot, TableRows, Where
from springline.runs.loading import is_of_a_manifest
from springline.runs.requesting import waiting_request

REVISION_HEADER = "Springline-Revision"
MAX_PAGE = 1_000
DEFAULT_PAGE = 100

Json = dict[str, Any]
Dress = Callable[[StateSnapshot, Sequence[Row]], list[Json]]
"""Returns the rows of a page as they are shown, with the fields that are computed on reading."""


def _instant(text: str) -> str:
    parse_timestamp(text)
    return text


Instant = Annotated[
    str,
    AfterValidator(_instant),
    Field(
        max_length=bounds.MAX_INSTANT,
        description="RFC 3339 with a zone.",
        examples=["2025-01-15T10:00:00Z"],
        json_schema_extra=bounds.judged("A day of the calendar and a time of the clock.", format="date-time"),
    ),
]


Id = Annotated[str, Field(max_length=bounds.MAX_ID)]
"""An id or key of the ledger, as a parameter."""
ANY_OF = Field(max_length=bounds.MAX_FILTER_VALUES, description="One of these; may be repeated.")


class PageQuery(BaseModel):
    """What every list takes."""

    limit: Annotated[int, Field(ge=1, le=MAX_PAGE, description="Most rows of a page.")] = DEFAULT_PAGE
    cursor: Annotated[
        Annotated[
            str,
            Field(
                max_length=bounds.MAX_CURSOR,
                json_schema_extra=bounds.judged(
                    "One that this list answered, with the same filters.", pattern="^[A-Za-z0-9_-]+$"
                ),
            ),
        ]
        | None,
        Field(description="`next_cursor` of the page before."),
    ] = None

    def filters(self) -> Json:
        """Return the parameters that select the list, without those that select the page."""
        return self.model_dump(mode="json", exclude={"limit", "cursor"}, exclude_defaults=True)


class LatestQuery(PageQuery):
    """What a list takes whose rows have a time."""

    latest: Annotated[bool, Field(description="The latest first, instead of the order of ids.")] = False


class RevisionBody(BaseModel):
    """The published state that an answer was read from; `manifest_id` is all zeros before the first publish."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "manifest_id": "00000000000000000042",
                    "manifest_revision": "01JHMPJNXR000AQKFF0000000S",
                    "published_at": "2025-01-15T10:01:39Z",
                    "last_visible_event_id": "01JHMPJNXR000AQKFF0000000S",
                }
            ]
        }
    )

    manifest_id: str
    manifest_revision: str
    published_at: str | None
    last_visible_event_id: str | None


class ListBody(BaseModel):
    """One page of a list, in the order of the rows' keys, or with `latest` those of the latest time first.

    Fields without a value are left out of a row.
    """

    items: list[Json]
    next_cursor: str | None = Field(description="Send it as `cursor` for the next page; null on the last one.")
    revision: RevisionBody


class RunBody(BaseModel):
    """A run with everything that belongs to it."""

    run: Json
    tasks: list[Json]
    dependencies: list[Json]
    catalog: list[Json]
    writes: list[Json] = Field(
        description="What tasks have written: `task_key`, `attempt`, and `tables` in order, each with `table`, "
        "`version`, `idempotency_key`, `operation` and `rows`."
    )
    metadata: list[Json] = Field(
        description="What functions have told by `context.add_metadata`: `task_key`, `attempt`, "
        "`attempt_id` and `metadata`."
    )
    notes: list[Json] = Field(
        description="What no end of an attempt tells: `task_key`, `attempt`, `attempt_id`, `note` (`ended_apart`, how "
        "it ended when it was not the task's own any more; `sealed`, what it sealed of a task that did not succeed), "
        "`detail`, and `text` in words."
    )
    waits_for: dict[str, str] = Field(description="Of tasks that wait for a slot of a pool: by their keys, in words.")
    revision: RevisionBody


class BackfillBody(BaseModel):
    """A backfill with its latest chunks; `run_state` of a chunk is its run's, null while there is none."""

    backfill: Json
    chunks: list[Json]
    settings: Json | None = Field(default=None, description="Null if another system has made it, as is `progress`.")
    progress: Json | None = Field(
        default=None,
        description="Partitions by what became of them; chunks; partitions of the last minute and the last five, for "
        "each second times 1,000; the estimate in ms; since when the oldest chunk runs; the last event.",
    )
    run_states: dict[str, int] = Field(description="How many chunks there are by the state of their run.")
    revision: RevisionBody


@dataclass(frozen=True, slots=True)
class Asked:
    """The context of a read: the workspace, and the reader of its published state."""

    scope: Scope
    published: PublishedReader
    route: str

    async def snapshot(self, *tables: str) -> StateSnapshot:
        """Return the published state of the workspace with these tables."""
        return await self.published.snapshot(self.scope, tables)

    async def no_run(self, run_id: str) -> Refused:
        """Return the refusal for a run that is not in the published state; one that is asked for is told apart."""
        snapshot = await self.snapshot(RUNS.name, RUN_KEY_INDEX.name)
        row = await asyncio.to_thread(waiting_request, snapshot, run_id)
        if row is None or not is_of_a_manifest(row.code_version):
            return unknown("run", run_id, snapshot.revision)
        return refused(
            Code.NOT_FOUND,
            f"run {run_id!r} is asked for, as {row.run_key}, and has not begun",
            field="run_id",
            value=run_id,
            remedy="It is there when it begins: others are under way before it, or the workspace is held "
            "(`springline hold show`). Cancelling withdraws it.",
        )

    async def page(
        self,
        table: str,
        query: PageQuery,
        wheres: Sequence[Where] = (),
        *,
        prefix: tuple[str, ...] = (),
        snapshot: StateSnapshot | None = None,
        also: Sequence[str] = (),
        dress: Dress | None = None,
        time: str | None = None,
    ) -> Response:
        """Answer one page of a table, from `snapshot` if it was read before; `dress` may use the tables `also`.

        `time`: the column whose latest come first if the query wants that.
        """
        schema = TABLES[table]
        filters = query.filters()
        where = all_of(wheres)
        look: Callable[[TableRows], Page | LatestPage]
        if time is not None and isinstance(query, LatestQuery) and query.latest:
            moment = None if query.cursor is None else moment_of_cursor(query.cursor, self.route, filters)
            look = partial(TableRows.latest, column=time, limit=query.limit, after=moment, where=where)
        else:
            columns = len(schema.key)
            after = None if query.cursor is None else key_of_cursor(query.cursor, self.route, filters, columns)
            look = partial(TableRows.page, limit=query.limit, after=after, prefix=prefix, where=where)
        held = await self.snapshot(table, *also) if snapshot is None else snapshot

        def read() -> Response:
            page = look(held[table])
            items = shown_rows(table, page.rows) if dress is None else dress(held, page.rows)
            cursor = None if page.last is None else cursor_for(self.route, filters, page.last)
            return answer(held.revision, {"items": items, "next_cursor": cursor})

        # Off the event loop: searching many rows for a few would delay other requests.
        return await asyncio.to_thread(read)


def asked(request: Request, workspace: Reader) -> Asked:
    """Return the context of a read."""
    return Asked(workspace.scope, request.app.state.published, request.url.path)


FromAsked = Annotated[Asked, Depends(asked)]


def answer(revision: Revision, body: Mapping[str, Any]) -> Response:
    """Return `body` with the revision that it was read from, in the body and in a header."""
    return Response(
        orjson.dumps({**body, "revision": revision.as_json()}),
        media_type="application/json",
        headers={REVISION_HEADER: revision.manifest_id},
    )


def unknown(what: str, identity: str, revision: Revision) -> Refused:
    """Return the refusal for an id that is not in the published state."""
    return refused(
        Code.NOT_FOUND,
        f"revision {revision.manifest_id} of this workspace holds no {what} {identity!r}",
        field=f"{what}_id",
        value=identity,
        remedy=f"Check the id; what was appended a moment ago is there once its answer said `visible`. "
        f"The list of {what}s is one level up.",
    )


def metadata_told(held: StateSnapshot, prefix: tuple[str, ...]) -> list[Json]:
    """Return what the functions of attempts have told, of those whose keys begin so: task, attempt, `metadata`."""
    notes = [NoteRow(*cast(Any, one)) for one in held[X_NOTES.name].below(prefix)]
    return [
        {
            "task_key": one.task_key,
            "attempt": one.attempt,
            "attempt_id": one.attempt_id,
            "metadata": metadata_in(one.detail),
        }
        for one in notes
        if one.note == METADATA
    ]


def notes_told(held: StateSnapshot, run_id: str) -> list[Json]:
    """Return the notes on attempts of a run but what their functions have told."""
    notes = [NoteRow(*cast(Any, one)) for one in held[X_NOTES.name].below((run_id,))]
    return [
        {
            "task_key": one.task_key,
            "attempt": one.attempt,
            "attempt_id": one.attempt_id,
            "note": one.note,
            "detail": detail_of(one.detail),
            "text": note_words(run_id, one.note, one.detail),
        }
        for one in notes
        if one.note != METADATA
    ]


def metadata_of(held: StateSnapshot, attempts: Sequence[tuple[str, str, str]]) -> list[Json]:
    """Return what the functions of attempts have told, empty of one that has told nothing.

    An attempt is named by its run's id, its task's key and its own id.
    """
    notes = held[X_NOTES.name].get_all((*one, METADATA) for one in attempts)
    found = [notes.get((*one, METADATA)) for one in attempts]
    return [{} if note is None else metadata_in(NoteRow(*cast(Any, note)).detail) for note in found]


def shown_rows(table: str, rows: Sequence[Row]) -> list[Json]:
    """Return rows in the form of answers."""
    return [golden_row(TABLES[table], row) for row in rows]
