"""Routes that explain: why something ran, did not run, or waits, from the ledger alone."""

from __future__ import annotations

import time
from typing import Annotated, Final

from fastapi import Path, Query, Request
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from springline import bounds
from springline.api.context import Reader, errors
from springline.api.lists import Id, Instant
from springline.api.manifests import FromManifests
from springline.api.runs import milliseconds
from springline.api.urls import CheckedRouter
from springline.definitions.instants import problem_of_asked
from springline.errors import Code, refused
from springline.explaining.reading import explain
from springline.explaining.story import Explanation, Question
from springline.explaining.subjects import SUBJECTS
from springline.published.reader import PublishedReader

PREFIX: Final = "/api/v1/explain"
MOST_ATTEMPTS: Final = 2**32 - 1
MOST_CHUNKS: Final = 2**32 - 1

router = CheckedRouter(tags=["explain"])


class ExplainQuery(BaseModel):
    """What a question says beyond the subject's id."""

    model_config = ConfigDict(extra="forbid")

    task: Annotated[
        Id | None,
        Field(
            description="Of a task or an attempt: the task's key.",
            json_schema_extra=bounds.judged("A question about a task or an attempt needs it; no other takes it."),
        ),
    ] = None
    attempt: Annotated[
        Annotated[int, Field(ge=1, le=MOST_ATTEMPTS), BeforeValidator(bounds.whole)] | None,
        Field(
            description="Of an attempt: its number, from 1.",
            json_schema_extra=bounds.judged("A question about an attempt needs it; no other takes it."),
        ),
    ] = None
    chunk: Annotated[
        Annotated[int, Field(ge=0, le=MOST_CHUNKS), BeforeValidator(bounds.whole)] | None,
        Field(
            description="Of a chunk: its index in the backfill, from 0.",
            json_schema_extra=bounds.judged("A question about a chunk needs it; no other takes it."),
        ),
    ] = None
    partition: Annotated[
        Id | None,
        Field(
            description="Of a partition: its key; none for an asset without partitions.",
            json_schema_extra=bounds.judged("A question about a partition needs it; no other takes it."),
        ),
    ] = None
    at: Annotated[
        Instant | None,
        Field(
            description="Of a schedule: the instant; by default where it stands now.",
            json_schema_extra=bounds.judged("Only a question about a schedule takes it."),
        ),
    ] = None
    since: Annotated[
        Instant | None, Field(description="Read events from here on; by default what its rows suggest.")
    ] = None
    until: Annotated[Instant | None, Field(description="Read events up to here.")] = None


_Subject = Annotated[
    str,
    Path(
        pattern=f"^({'|'.join(SUBJECTS)})$",
        max_length=max(map(len, SUBJECTS)),
        description="What is asked about.",
        examples=["run"],
    ),
]
_Identity = Annotated[
    str,
    Path(
        max_length=bounds.MAX_ID,
        description=(
            "The id of the schedule, run, sensor, evaluation or backfill, or the key of the asset; "
            "of a run the key that it was asked for under, too."
        ),
        examples=["nightly"],
    ),
]


@router.get(
    f"{PREFIX}/{{subject}}/{{identity}}",
    summary="Why it ran, did not run, or waits",
    responses=errors(404, 409, 503),
)
async def explained(
    subject: _Subject,
    identity: _Identity,
    query: Annotated[ExplainQuery, Query()],
    workspace: Reader,
    manifests: FromManifests,
    request: Request,
) -> Explanation:
    """Tell from rows and events why a schedule, a run, a sensor or a backfill stands as it does, and who decided what.

    So of a task, an attempt, an evaluation, a chunk and a partition. Sensors and partitions are judged by the deployed
    definitions.

    Temporal is not asked: the answer is the same after it has lost everything.
    """
    asked = SUBJECTS[subject]
    for name in ("task", "attempt", "chunk", "partition", "at"):
        given = getattr(query, name)
        if given is not None and name not in asked.takes:
            raise refused(
                Code.INVALID_REQUEST,
                f"a question about a {subject} does not take {name}",
                field=name,
                value=given,
                remedy=f"Leave it out, or ask about: {', '.join(_taking(name))}.",
            )
    at_ms = milliseconds(query.at)
    problem = None if at_ms is None else problem_of_asked(at_ms // 1_000)
    if problem is not None:
        raise refused(Code.INVALID_REQUEST, f"at {problem[0]}", field="at", value=query.at, remedy=problem[1])
    question = Question(
        identity=identity,
        now_ms=time.time_ns() // 1_000_000,
        task=query.task,
        attempt=query.attempt,
        chunk=query.chunk,
        partition=query.partition,
        at_ms=at_ms,
        since_ms=milliseconds(query.since),
        until_ms=milliseconds(query.until),
    )
    published: PublishedReader = request.app.state.published
    store = request.app.state.deps.store
    return await explain(store, published, manifests, workspace.scope, asked, question)


def _taking(name: str) -> list[str]:
    return [subject for subject, one in SUBJECTS.items() if name in one.takes]
