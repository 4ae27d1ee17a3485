"""HTTP answers for refusals and all other errors, with one body for all of them.

See docs/formats.md#errors.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from springline.errors import Code, CommitSince, Refusal
from springline.misfits import field_of, misfit

RETRY_AFTER_S = 2
REQUEST_ID_HEADER = "X-Request-Id"


class ErrorBody(BaseModel):
    """What every answer but a successful one says: what is wrong, where, and what to do."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "code": "STALE_READ_VERSION",
                    "message": "read_version 6 is not the latest version 8",
                    "field": "read_version",
                    "value": 6,
                    "remedy": "Read the table at version 8, compute the commit again and send it with a new key.",
                    "latest_version": 8,
                    "commits_since": [{"version": 7, "operation": "WRITE", "key": None}],
                    "requestId": "01JHMP8000000000000000000A",
                }
            ]
        }
    )

    code: Code = Field(description="Machine-readable; never changes once shipped.")
    message: str = Field(description="What is wrong, in a sentence.")
    field: str | None = Field(description="Where it is wrong: a header, a field of the body, a claim of the token.")
    value: Any = Field(description="What was found there; long values are cut.")
    remedy: str | None = Field(description="What to do about it.")
    latest_version: int | None = Field(default=None, description="On version conflicts: the table's latest version.")
    commits_since: list[CommitSince] | None = Field(
        default=None, description="On version conflicts: what was committed since `read_version`, at most 100."
    )
    requestId: str = Field(description="The request's id, also in the header X-Request-Id and in the logs.")


class CallbackErrorBody(ErrorBody):
    """What a refused callback of a worker is told: beside the usual, in the words of other implementations."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "code": "ATTEMPT_MISMATCH",
                    "error": "attempt_mismatch",
                    "message": "attempt 2 of the task has begun",
                    "field": "attempt",
                    "value": 1,
                    "remedy": "Stop working on this attempt; what it reports is not taken any more.",
                    "state": "RUNNING",
                    "expectedAttempt": 2,
                    "receivedAttempt": 1,
                    "expectedAttemptId": "att_c41ebb8f97fc52406977fe2c",
                    "receivedAttemptId": "att_0d91c1f8b9f1f0a9d7d2c0de",
                    "requestId": "01JHMP8000000000000000000A",
                }
            ]
        }
    )

    error: str = Field(description="The code in lower case; `invalid_argument`, `task_not_found`, `invalid_token`.")
    state: str | None = Field(default=None, description="On conflicts: the task's state.")
    expectedAttempt: int | None = Field(default=None, description="On conflicts: the task's latest attempt.")
    receivedAttempt: int | None = Field(default=None, description="On conflicts: the attempt that called.")
    expectedAttemptId: str | None = Field(default=None, description="On conflicts: the id of the latest attempt.")
    receivedAttemptId: str | None = Field(default=None, description="On conflicts: the id of the attempt that called.")


CALLBACKS_PREFIX = "/api/v1/tasks/"
"""Paths that workers over HTTP call back, with tokens of attempts."""
_CALLBACK_WORDS = {
    Code.INVALID_REQUEST: "invalid_argument",
    Code.NOT_FOUND: "task_not_found",
    Code.MISSING_TOKEN: "invalid_token",
}


def is_callback(path: str) -> bool:
    """Say whether a path is one that workers over HTTP call back."""
    return path.startswith(CALLBACKS_PREFIX)


def refusal_response(
    refusal: Refusal, request_id: str, headers: Mapping[str, str] | None = None, *, path: str = ""
) -> Response:
    """Return the answer for `refusal`, with the headers that its status needs. `path`: that was asked for."""
    body: dict[str, Any] = {
        "code": refusal.code.value,
        "message": refusal.message,
        "field": refusal.field,
        "value": refusal.value,
        "remedy": refusal.remedy,
    }
    if refusal.latest_version is not None:
        body["latest_version"] = refusal.latest_version
    if refusal.commits_since is not None:
        body["commits_since"] = [since.model_dump() for since in refusal.commits_since]
    if is_callback(path):
        body["error"] = _CALLBACK_WORDS.get(refusal.code, refusal.code.value.lower())
    if refusal.attempt is not None:
        body |= refusal.attempt.model_dump()
    body["requestId"] = request_id
    extra = dict(headers or {})
    if refusal.status == 401:
        problem = "" if refusal.code is Code.MISSING_TOKEN else ' error="invalid_token"'
        extra["WWW-Authenticate"] = f'Bearer realm="springline"{"," if problem else ""}{problem}'
    if refusal.status == 503:
        extra["Retry-After"] = str(RETRY_AFTER_S)
    return Response(json.dumps(body), status_code=refusal.status, media_type="application/json", headers=extra)


def internal_refusal() -> Refusal:
    """Return the refusal for a fault of ours: it tells callers where to look, and no internals."""
    return Refusal(
        code=Code.INTERNAL,
        message="the request failed for a reason that is not its own",
        remedy="Send the same request again under the same key; if it fails again, look for requestId in the logs.",
    )


def validation_refusal(errors: Sequence[Mapping[str, Any]]) -> Refusal:
    """Return the refusal for the first of FastAPI's validation `errors`."""
    first = errors[0]
    # Without the part of the request.
    name = field_of(first["loc"][1:]) or str(first["loc"][0])
    if first["type"] == "json_invalid":
        return Refusal(
            code=Code.INVALID_REQUEST,
            message=f"the body is not JSON: {first.get('ctx', {}).get('error', 'it cannot be parsed')}",
            field="body",
            value=f"at character {first['loc'][-1]}",
            remedy="Send one JSON object with the header Content-Type: application/json.",
        )
    if name == "body":
        return Refusal(
            code=Code.INVALID_REQUEST,
            message="the body is not a JSON object",
            field=name,
            remedy="Send one JSON object with the header Content-Type: application/json.",
        )
    return misfit(first, name, "the API's description is at /docs")
