"""Routes that workers over HTTP call back, and the one to which foreign systems report their timers.

A callback is recorded before it is answered, and the run is woken behind that (docs/protocol.md#http-workers). Names of
fields are in camelCase, as in the envelope; snake_case is taken, too.
"""

from __future__ import annotations

import time
from typing import Annotated, Any, Final, Literal, cast

import uuid_utils
from fastapi import Body, Depends, Path, Request, Response
from fastapi.security import HTTPBearer
from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StrictInt,
    ValidationInfo,
    field_validator,
)
from pydantic.alias_generators import to_camel

from springline import bounds
from springline.api.answers import CALLBACKS_PREFIX
from springline.api.commits import REPLAYED_HEADER
from springline.api.context import FromDeps, Writer, callback_errors, errors
from springline.api.lists import Instant
from springline.api.manifests import FromManifests
from springline.api.ports import Deps
from springline.api.urls import CheckedRouter
from springline.api.workspaces import Workspaces
from springline.control.runs.callbacks import (
    USER_REQUESTED,
    CalledError,
    Caller,
    Completed,
    judge_completed,
    judge_heartbeat,
    judge_started,
)
from springline.deployed.reading import ManifestReader
from springline.errors import Code, Refused, refused
from springline.ledger.envelope import as_event
from springline.ledger.events import TimerFired
from springline.ledger.identifiers import parse_callback_task_id, parse_timer_id
from springline.ledger.json_text import canonical_json
from springline.ledger.nested import ErrorCategory, OutputVisibility, TaskMetrics, TaskOutput, TimerType
from springline.ledger.request import AppendRequest, NewEvent
from springline.ledger.timestamps import format_ms
from springline.published.reader import PublishedReader
from springline.runs.called import Callbacks, CalledBack, Judge
from springline.runs.task_tokens import TaskClaims, refuse_foreign

router = CheckedRouter(tags=["callbacks"])

MAX_RESULT_BYTES: Final = 256 * 1024
"""Of the body that says how an attempt has ended: what is larger belongs into a store, and its path into `output`."""
MAX_WORKER_ID: Final = 200
MAX_MESSAGE: Final = 1_000
MAX_TRACE: Final = 100_000
"""Characters of a stack trace that are taken; fewer are kept."""
MAX_PROGRESS_BYTES: Final = 16 * 1024
_MAX_U32: Final = 4_294_967_295
_LINE: Final = bounds.judged("One line of characters that can be printed, at most 1,024 bytes.")

_ATTEMPT_ID = "att_c41ebb8f97fc52406977fe2c"


def _short_line(text: str) -> str:
    problem = bounds.problem_of_bounded(text, bounds.MAX_ID, in_bytes=True)
    if problem is not None:
        raise ValueError(problem[0])
    return text


_Line = Annotated[
    str, Field(min_length=1, max_length=bounds.MAX_ID, json_schema_extra=_LINE), AfterValidator(_short_line)
]
_Worker = Annotated[
    str, Field(min_length=1, max_length=MAX_WORKER_ID, json_schema_extra=_LINE), AfterValidator(_short_line)
]
_Count = Annotated[StrictInt, Field(ge=0, le=bounds.MAX_VERSION), BeforeValidator(bounds.whole)]


class _Called(BaseModel):
    """Base of what workers send: camelCase, and snake_case as well."""

    model_config = ConfigDict(extra="forbid", alias_generator=to_camel, validate_by_name=True, validate_by_alias=True)


class _OfAttempt(_Called):
    """What every callback says: of which attempt it is, and by which worker."""

    attempt: Annotated[
        StrictInt,
        Field(ge=1, le=_MAX_U32, description="As in the envelope."),
        BeforeValidator(bounds.whole),
    ]
    attempt_id: Annotated[_Line, Field(description="As in the envelope.")]
    worker_id: Annotated[_Worker, Field(description="What the worker calls itself, the same in all its callbacks.")]
    traceparent: Annotated[str, Field(max_length=bounds.MAX_ID)] | None = Field(
        default=None, description="Taken, and not used."
    )


class StartedCall(_OfAttempt):
    """An attempt has started."""

    model_config = ConfigDict(title="StartedCall")

    started_at: Instant | None = Field(default=None, description="By the worker's clock. The time of receipt counts.")


class HeartbeatCall(_OfAttempt):
    """An attempt is alive."""

    model_config = ConfigDict(title="HeartbeatCall")

    heartbeat_at: Instant | None = Field(default=None, description="Taken, and not used: the time of receipt counts.")
    progress_pct: Annotated[StrictInt, Field(ge=0, le=100), BeforeValidator(bounds.whole)] | None = Field(
        default=None, description="Of all work."
    )
    message: Annotated[str, Field(max_length=MAX_MESSAGE)] | None = Field(default=None, description="For people.")


class OutputCalled(_Called):
    """What an attempt has made, and where it is."""

    materialization_id: _Line | None = Field(default=None, description="By default the attempt's id.")
    row_count: _Count | None = None
    byte_size: _Count | None = None
    output_path: Annotated[str, Field(max_length=bounds.MAX_OBJECT_PATH)] | None = None
    delta_table: _Line | None = None
    delta_version: _Count | None = None
    delta_partition: _Line | None = None
    output_visibility_state: OutputVisibility | None = Field(
        default=None, description="VISIBLE by default. PENDING: the same end with another state follows."
    )
    published_at: Instant | None = None
    publish_error: Annotated[str, Field(max_length=MAX_MESSAGE)] | None = None


class ErrorCalled(_Called):
    """Why an attempt has failed."""

    category: ErrorCategory = Field(description="USER_CODE and TIMEOUT use up a retry; INFRASTRUCTURE does not.")
    message: Annotated[str, Field(max_length=MAX_TRACE)] = Field(description="For people; long ones are cut.")
    stack_trace: Annotated[str, Field(max_length=MAX_TRACE)] | None = Field(
        default=None, description="For people; long ones are cut."
    )
    retryable: StrictBool | None = Field(default=None, description="By default as the category has it.")


class MetricsCalled(_Called):
    """The resources that an attempt has used."""

    cpu_time_ms: _Count | None = None
    peak_memory_bytes: _Count | None = None
    io_read_bytes: _Count | None = None
    io_write_bytes: _Count | None = None


class CompletedCall(_OfAttempt):
    """An attempt has ended."""

    model_config = ConfigDict(title="CompletedCall")

    outcome: Literal["SUCCEEDED", "FAILED", "CANCELLED"]
    completed_at: Instant | None = Field(default=None, description="By the worker's clock.")
    output: OutputCalled | None = Field(
        default=None,
        validation_alias=AliasChoices("output", "result"),
        description="Of a success. `result` is another name for it.",
    )
    error: ErrorCalled | None = Field(default=None, description="Of a failure or a cancellation.")
    metrics: MetricsCalled | None = None
    cancelled_during_phase: Annotated[str, Field(max_length=MAX_MESSAGE)] | None = None
    partial_progress: (
        Annotated[
            dict[str, Any],
            Field(
                max_length=bounds.MAX_EVENT_FIELDS,
                json_schema_extra=bounds.judged(f"At most {MAX_PROGRESS_BYTES} bytes as JSON, without fractions."),
            ),
        ]
        | None
    ) = Field(default=None, description="What was done before it ended, for people and programs.")

    @field_validator("partial_progress")
    @classmethod
    def _short(cls, value: Any, _: ValidationInfo) -> Any:
        if value is not None and len(canonical_json(value)) > MAX_PROGRESS_BYTES:
            raise ValueError(f"has more than {MAX_PROGRESS_BYTES} bytes as JSON")
        return value


class StartedAnswer(BaseModel):
    """The attempt is this worker's: it may begin."""

    acknowledged: bool
    serverTime: str


class HeartbeatAnswer(StartedAnswer):
    """The worker was heard."""

    shouldCancel: bool = Field(description="Whether to stop, and to call back `completed` with CANCELLED.")
    cancelReason: str | None = Field(default=None, description="`user_requested`, if it is to stop.")


class CompletedAnswer(StartedAnswer):
    """The end is recorded."""

    finalState: str = Field(description="The outcome that is recorded; FAILED also where another attempt follows.")


class TimerCall(_Called):
    """A timer has fired."""

    model_config = ConfigDict(title="TimerCall")

    timer_id: Annotated[
        str,
        Field(min_length=1, max_length=bounds.MAX_ID, json_schema_extra=bounds.judged("Not blank, on one line.")),
        AfterValidator(_short_line),
    ]
    timer_type: (
        Annotated[
            Literal["RETRY", "HEARTBEAT_CHECK", "CRON", "SLA_CHECK"],
            Field(json_schema_extra=bounds.judged("Needed if the timer's id does not say it.")),
        ]
        | None
    ) = None
    run_id: _Line | None = None
    task_key: _Line | None = None
    attempt: Annotated[StrictInt, Field(ge=1, le=_MAX_U32), BeforeValidator(bounds.whole)] | None = None
    fire_at: Instant | None = Field(default=None, description="Taken, and not used: the time of receipt counts.")


class TimerAnswer(BaseModel):
    """The timer is recorded as fired, once however often it is reported."""

    acknowledged: bool
    effectiveOnce: bool


_bearer = HTTPBearer(
    scheme_name="TaskToken",
    bearerFormat="JWT",
    description="The taskToken of an envelope: it is for the one attempt that the envelope brought.",
    auto_error=False,
)


def _claims(request: Request, _: Annotated[object, Depends(_bearer)]) -> TaskClaims:
    """Return what the token of a callback says; the middleware has verified it."""
    return cast(TaskClaims, request.state.attempt)


FromClaims = Annotated[TaskClaims, Depends(_claims)]
TaskParam = Annotated[
    str,
    Path(
        max_length=4_000,
        description="The taskId of the envelope.",
        examples=["ct1_cnVuX2o2anZvNmJkdjc3M3dhMjQyanNyeGp0d3RpAHJhdy5h"],
        json_schema_extra=bounds.judged("As in the envelope."),
    ),
]
_WHO: Final = {"attempt": 1, "attemptId": _ATTEMPT_ID, "workerId": "prices-7f9c"}
StartedBody = Annotated[StartedCall, Body(openapi_examples={"started": {"summary": "It begins", "value": _WHO}})]
HeartbeatBody = Annotated[
    HeartbeatCall,
    Body(openapi_examples={"alive": {"summary": "Half of it is done", "value": {**_WHO, "progressPct": 50}}}),
]
CompletedBody = Annotated[
    CompletedCall,
    Body(
        openapi_examples={
            "succeeded": {
                "summary": "It has written rows",
                "value": {
                    **_WHO,
                    "outcome": "SUCCEEDED",
                    "output": {"rowCount": 3, "deltaTable": "prices", "deltaVersion": 7},
                },
            },
            "failed": {
                "summary": "It has failed, and may be tried again",
                "value": {
                    **_WHO,
                    "outcome": "FAILED",
                    "error": {"category": "USER_CODE", "message": "no price for OSL"},
                },
            },
        }
    ),
]
TimerBody = Annotated[
    TimerCall,
    Body(
        openapi_examples={
            "retry": {
                "summary": "The end of a wait",
                "value": {"timerId": "timer:retry:run_j6jvo6bdv773wa242jsrxjtwti:raw.a:1:1736935240"},
            }
        }
    ),
]


@router.post(
    f"{CALLBACKS_PREFIX}{{task_id}}/started",
    summary="An attempt has started",
    responses=callback_errors(),
)
async def started(
    task_id: TaskParam,
    body: StartedBody,
    claims: FromClaims,
    deps: FromDeps,
    manifests: FromManifests,
    request: Request,
    response: Response,
) -> StartedAnswer:
    """Claim an attempt before working on it. Whoever is told that another worker has it must not begin.

    Safe to repeat by the same worker.
    """
    call = _Door(request, deps, manifests, claims, task_id, body)
    await call.take(lambda called: judge_started(called, call.caller, body.started_at), response)
    await call.wake()
    return StartedAnswer(acknowledged=True, serverTime=_now())


@router.post(
    f"{CALLBACKS_PREFIX}{{task_id}}/heartbeat",
    summary="An attempt is alive",
    responses=callback_errors(410),
    response_model_exclude_none=True,
)
async def heartbeat(
    task_id: TaskParam,
    body: HeartbeatBody,
    claims: FromClaims,
    deps: FromDeps,
    manifests: FromManifests,
    request: Request,
    response: Response,
) -> HeartbeatAnswer:
    """Say that an attempt goes on, several times within its heartbeat timeout; learn whether it is to stop."""
    call = _Door(request, deps, manifests, claims, task_id, body)
    done = await call.take(
        lambda called: judge_heartbeat(called, call.caller, body.progress_pct, body.message), response
    )
    return HeartbeatAnswer(
        acknowledged=True,
        serverTime=_now(),
        shouldCancel=done.should_cancel,
        cancelReason=USER_REQUESTED if done.should_cancel else None,
    )


@router.post(
    f"{CALLBACKS_PREFIX}{{task_id}}/completed",
    summary="An attempt has ended",
    responses=callback_errors(),
)
async def completed(
    task_id: TaskParam,
    body: CompletedBody,
    claims: FromClaims,
    deps: FromDeps,
    manifests: FromManifests,
    request: Request,
    response: Response,
) -> CompletedAnswer:
    """Say how an attempt has ended. Safe to repeat: the same end is answered as before.

    An output that was PENDING is told to be VISIBLE, or FAILED, by the same end with that state.
    """
    _refuse_large(await request.body())
    call = _Door(request, deps, manifests, claims, task_id, body)
    said = _said(body)
    await call.take(lambda called: judge_completed(called, call.caller, said), response)
    await call.wake()
    return CompletedAnswer(acknowledged=True, serverTime=_now(), finalState=body.outcome)


@router.post(
    "/internal/timers/fired",
    summary="A timer has fired",
    responses=errors(400, 409, 413, 503),
)
async def timer_fired(body: TimerBody, workspace: Writer, deps: FromDeps) -> TimerAnswer:
    """Record that a timer of a foreign system has fired, once however often it is reported.

    The timer was requested before, or its id says what it is for.
    """
    named = parse_timer_id(body.timer_id)
    kind = body.timer_type or (None if named is None else named.timer_type)
    if kind is None:
        raise refused(
            Code.INVALID_REQUEST,
            "unable to resolve timer_type from payload: the timer's id does not say it",
            field="timerType",
            value=body.timer_id,
            remedy="Give timerType: RETRY, HEARTBEAT_CHECK, CRON or SLA_CHECK.",
        )
    event = TimerFired(
        timer_id=body.timer_id,
        timer_type=cast(TimerType, kind.lower()),
        run_id=body.run_id,
        task_key=body.task_key,
        attempt=body.attempt,
    )
    request = AppendRequest(request_id=str(uuid_utils.uuid7()), events=[NewEvent(data=as_event(event))])
    outcome = await deps.ledger.append(workspace.scope, request)
    if outcome.refusal is not None:
        field = _CAMEL.get((outcome.refusal.field or "").removeprefix("events[0].data."))
        raise Refused(outcome.refusal.model_copy(update={"field": field}))
    return TimerAnswer(acknowledged=True, effectiveOnce=True)


_CAMEL: Final = {name: to_camel(name) for name in TimerCall.model_fields}


class _Door:
    """Where one callback comes in; raises `Refused` if its token is for another attempt."""

    def __init__(
        self,
        request: Request,
        deps: Deps,
        manifests: ManifestReader,
        claims: TaskClaims,
        task_id: str,
        body: _OfAttempt,
    ) -> None:
        refuse_foreign(claims, task_id, body.attempt, body.attempt_id)
        named = parse_callback_task_id(task_id)
        if named is None or named[0] != claims.run_id:
            raise refused(
                Code.INVALID_TOKEN,
                "run_id_mismatch: the token is for a task of another run",
                field="task_id",
                value=bounds.on_one_line(task_id),
                remedy="Use taskId and taskToken of one envelope.",
            )
        self.caller = Caller(named[0], named[1], body.attempt, body.attempt_id, body.worker_id)
        self._deps = deps
        self._scope = claims.scope
        workspace = cast(Workspaces, request.app.state.workspaces).of(claims.scope)
        published = cast(PublishedReader, request.app.state.published)
        self._callbacks = Callbacks(claims.scope, workspace.store, published, manifests, deps.ledger)

    async def take(self, judge: Judge, response: Response) -> CalledBack:
        """Record the callback; raises `Refused`. The answer's header says whether it was a repeat."""
        done = await self._callbacks.take(self.caller, judge)
        response.headers[REPLAYED_HEADER] = "true" if done.replayed else "false"
        return done

    async def wake(self) -> None:
        """Tell the run that its rows have changed."""
        await self._deps.runs.wake(self._scope, self.caller.run_id)


def _said(body: CompletedCall) -> Completed:
    output = None if body.output is None else TaskOutput(**body.output.model_dump())
    error = None if body.error is None else CalledError(**body.error.model_dump())
    metrics = None if body.metrics is None else TaskMetrics(**body.metrics.model_dump())
    progress = None if body.partial_progress is None else canonical_json(body.partial_progress).decode()
    return Completed(
        outcome=body.outcome,
        output=output,
        error=error,
        metrics=metrics,
        completed_at=body.completed_at,
        cancelled_during_phase=body.cancelled_during_phase,
        partial_progress_json=progress,
    )


def _refuse_large(data: bytes) -> None:
    if len(data) > MAX_RESULT_BYTES:
        raise refused(
            Code.PAYLOAD_TOO_LARGE,
            f"the end of an attempt has {len(data)} bytes, and {MAX_RESULT_BYTES} is the most",
            field="body",
            value=len(data),
            remedy="Write the result into a store, and name it in output.outputPath.",
        )


def _now() -> str:
    return format_ms(time.time_ns() // 1_000_000)
